"""The gradients of a batch, computed in parts: one after another, which saves memory, or in threads.

Threads divide all the work of a step. The work within a recurrent layer, frame after frame, could hardly be divided. If
several processes share a batch, the parts are those of one process.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import torch
from torch import Tensor

from asrkit.models.acoustic import AcousticModel
from asrkit.models.batching import Batch
from asrkit.models.decoder import NO_DECODER, DecoderTraining
from asrkit.models.dropout import dropout_from
from asrkit.training.step import LossSum, batch_losses, num_targets

Shard = tuple[Batch, Tensor | None]  # a part of a batch, and its offsets


def count(model: AcousticModel, shard: Shard, frame_weight: float) -> LossSum:
    """The numbers by which the losses of a shard are divided. The losses themselves are 0."""
    batch, offsets = shard
    whole = LossSum(num_tokens=int(batch.token_lens.sum()), num_targets=num_targets(batch))
    if frame_weight > 0:
        assert batch.frame_labels is not None
        labels = model.frame_labels_to_steps(batch.frame_labels, batch.feat_lens, offsets)
        whole.num_labels = int((labels > 0).sum())
    return whole


def compute_gradients_of_parts(
    model: AcousticModel,
    parts: Sequence[Shard],
    whole: LossSum,
    frame_weight: float,
    num_threads: int,
    decoder: DecoderTraining = NO_DECODER,
) -> LossSum:
    """Compute gradients as step.compute_gradients, for parts of a batch.

    If all parts of the batch are there, the sum of the gradients is that of the mean loss of the whole batch. Random
    numbers of dropout follow from the state of torch's generator, and sums are made in a fixed order. So the same parts
    give the same bits.

    Args:
        model: the network.
        parts: the parts.
        whole: numbers of the whole batch, from `count`.
        frame_weight, decoder: see batch_losses.
        num_threads: more than one only on the CPU.

    Returns:
        The losses of the parts, as numbers.
    """
    weights = [weights for weights in model.parameters() if weights.requires_grad]
    counts = {"num_tokens": whole.num_tokens, "num_labels": whole.num_labels, "num_targets": whole.num_targets}

    def run(shard: Shard, seed: int) -> tuple[LossSum, tuple[Tensor | None, ...]]:
        with dropout_from(torch.Generator().manual_seed(seed)):
            loss = batch_losses(model, *shard, frame_weight, decoder)
        share = replace(loss, **counts).mean(frame_weight, decoder.weight)
        return loss.as_numbers(), torch.autograd.grad(torch.as_tensor(share), weights, allow_unused=True)

    model.zero_grad(set_to_none=True)
    seeds = torch.randint(2**62, (len(parts),)).tolist()
    total = LossSum()
    # In this thread if one is enough, because settings such as autocast are a thread's own.
    results = map(run, parts, seeds) if num_threads == 1 else _threads(num_threads).map(run, parts, seeds)
    for loss, grads in results:
        total.add(loss)
        for weight, grad in zip(weights, grads, strict=True):
            if grad is not None:  # the first is copied, because two biases may share a tensor
                weight.grad = grad.clone() if weight.grad is None else weight.grad.add_(grad)
    return total


def split_batch(batch: Batch, offsets: Tensor | None, number: int) -> list[Shard]:
    """Split a batch into up to `number` parts with about the same number of frames, without needless padding.

    The views of an utterance stay together. `offsets` (N,) are those of the batch; see stack_frames.
    """
    views = torch.arange(batch.num_views)
    lens = batch.feat_lens[:: batch.num_views].cpu()  # indices on the CPU fit tensors of all devices
    order = lens.argsort(descending=True, stable=True) * batch.num_views
    shares = [order[start::number] for start in range(min(number, len(order)))]
    return [_choose(batch, offsets, (share[:, None] + views).flatten()) for share in shares]


def _choose(batch: Batch, offsets: Tensor | None, rows: Tensor) -> Shard:
    feat_lens, labels = batch.feat_lens[rows], batch.frame_labels
    num_frames = int(feat_lens.max())
    chosen = Batch(
        tuple(batch.utt_ids[row] for row in rows.tolist()),
        batch.feats[rows][:, :num_frames],
        feat_lens,
        batch.tokens[rows],
        batch.token_lens[rows],
        None if labels is None else labels[rows][:, :num_frames],
        batch.num_views,
    )
    return chosen, None if offsets is None else offsets[rows]


@functools.cache
def _threads(number: int) -> ThreadPoolExecutor:
    """A pool of threads that use one core each."""
    return ThreadPoolExecutor(number, "gradients", torch.set_num_threads, (1,))
