"""Computes the gradients of a batch with several threads. Each thread takes some of the utterances.

So all work of a step is shared. A recurrent layer alone works frame by frame and can hardly use several threads.
"""

from __future__ import annotations

import functools
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


def compute_gradients_in_threads(
    model: AcousticModel,
    batch: Batch,
    offsets: Tensor | None,
    frame_weight: float,
    num_threads: int,
    decoder: DecoderTraining = NO_DECODER,
) -> LossSum:
    """Like `step.compute_gradients`, with threads on the CPU. `offsets` (N,) are those of `stack_frames`.

    The random numbers of dropout depend on the state of torch's generator, and sums have a fixed order. So the same
    number of threads gives the same results, to the last bit.
    """
    whole = LossSum(num_tokens=int(batch.token_lens.sum()), num_targets=num_targets(batch))
    if frame_weight > 0:
        assert batch.frame_labels is not None
        labels = model.frame_labels_to_steps(batch.frame_labels, batch.feat_lens, offsets)
        whole.num_labels = int((labels > 0).sum())
    weights = [weights for weights in model.parameters() if weights.requires_grad]

    def run(shard: Shard, seed: int) -> tuple[LossSum, tuple[Tensor | None, ...]]:
        with dropout_from(torch.Generator().manual_seed(seed)):
            loss = batch_losses(model, *shard, frame_weight, decoder)
        counts = {"num_tokens": whole.num_tokens, "num_labels": whole.num_labels, "num_targets": whole.num_targets}
        share = replace(loss, **counts).mean(frame_weight, decoder.weight)
        return loss.as_numbers(), torch.autograd.grad(torch.as_tensor(share), weights, allow_unused=True)

    shards = split_batch(batch, offsets, num_threads)
    seeds = torch.randint(2**62, (len(shards),)).tolist()
    results = list(_threads(num_threads).map(run, shards, seeds))
    total = LossSum()
    for loss, _ in results:
        total.add(loss)
    for weight, *grads in zip(weights, *(grads for _, grads in results), strict=True):
        weight.grad = None
        for grad in grads:
            if grad is not None:  # the first is copied, because two biases may share a tensor
                weight.grad = grad.clone() if weight.grad is None else weight.grad.add_(grad)
    return total


def split_batch(batch: Batch, offsets: Tensor | None, number: int) -> list[Shard]:
    """Divide a batch into up to `number` parts with about the same number of frames, without needless padding.

    `offsets` (N,) are divided in the same way. The views of an utterance stay together.
    """
    views = torch.arange(batch.num_views)
    order = batch.feat_lens[:: batch.num_views].argsort(descending=True, stable=True) * batch.num_views
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
