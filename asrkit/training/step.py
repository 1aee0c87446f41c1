"""One training step: the losses of a batch and their gradients.

Legend: N utterances, T frames, T' steps, V output classes with blank.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from asrkit.models.acoustic import AcousticModel
from asrkit.models.batching import Batch
from asrkit.models.decoder import NO_DECODER, DecoderTraining
from asrkit.models.dropout import Dropout

LOWER_SHARE = 1 / 3  # share of the lower layers in CTC's loss, with self-conditioning
CONSISTENCY_WEIGHT = 0.2  # weight of the consistency loss beside CTC's loss (Yao et al. 2024)


@dataclass
class LossSum:
    """Sums of losses over utterances, in nats, and the numbers by which they are divided.

    Attributes:
        ctc: CTC's loss, with the terms of self-conditioning and views; a number or a scalar tensor, like the other
            losses.
        num_tokens: tokens of the references.
        frames: loss of the frame head.
        num_labels: steps whose phone is known.
        decoder: loss of the decoder.
        num_targets: phones and ends of utterances.
    """

    ctc: float | Tensor = 0.0
    num_tokens: int = 0
    frames: float | Tensor = 0.0
    num_labels: int = 0
    decoder: float | Tensor = 0.0
    num_targets: int = 0

    def add(self, other: LossSum) -> None:
        """Add the sums and numbers of `other`."""
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))

    @classmethod
    def of(cls, values: Iterable[float]) -> LossSum:
        """The sums with these `values` of the fields, in order."""
        ctc, num_tokens, frames, num_labels, decoder, num_targets = values
        return cls(ctc, int(num_tokens), frames, int(num_labels), decoder, int(num_targets))

    def as_numbers(self) -> LossSum:
        """The same with numbers instead of tensors."""
        return LossSum(*(_number(getattr(self, field.name)) for field in fields(self)))

    def mean(self, frame_weight: float, decoder_weight: float = 0.0) -> float | Tensor:
        """The weighted mean of the losses: a number or a scalar tensor. Losses of weight 0 have no influence.

        CTC's loss is taken per reference token, the frame head's per labelled step, the decoder's per phone and end.

        Args:
            frame_weight: weight of the frame head's loss beside CTC's, from 0 to 1.
            decoder_weight: weight of the decoder's loss beside the other two, from 0 to 1.
        """
        if decoder_weight > 0:
            decoder = decoder_weight * self.decoder / max(self.num_targets, 1)
            return decoder if decoder_weight == 1 else decoder + (1 - decoder_weight) * self.mean(frame_weight)
        loss: float | Tensor = 0.0
        if frame_weight < 1:
            loss = loss + (1 - frame_weight) * self.ctc / max(self.num_tokens, 1)
        if frame_weight > 0:
            loss = loss + frame_weight * self.frames / max(self.num_labels, 1)
        return loss


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, Tensor) else value


def _exact(log_probs: Tensor) -> Tensor:
    """In float32, or in float64 if it was before."""
    return log_probs.to(torch.promote_types(log_probs.dtype, torch.float32))


def ctc_losses(log_probs: Tensor, log_prob_lens: Tensor, batch: Batch) -> Tensor:
    """-log p(tokens | features) of each utterance (N,), in nats.

    `log_probs` (N, T', V) are natural-log probabilities, `log_prob_lens` (N,) numbers of steps.
    """
    return nn.functional.ctc_loss(
        _exact(log_probs).transpose(0, 1), batch.tokens, log_prob_lens, batch.token_lens, reduction="none"
    )


def _ctc_loss(log_probs: Tensor, lens: Tensor, batch: Batch) -> Tensor:
    """CTC's loss of a layer, summed over the batch. With two views it contains their consistency loss."""
    loss = ctc_losses(log_probs, lens, batch).sum()
    if batch.num_views == 1:
        return loss
    return loss + CONSISTENCY_WEIGHT * consistency_loss(log_probs[::2], log_probs[1::2], lens[::2])


def consistency_loss(first: Tensor, second: Tensor, lens: Tensor) -> Tensor:
    """Kullback-Leibler divergence of two views of each utterance, in nats, summed over steps (CR-CTC, Yao et al. 2024).

    It is the sum of both directions. In each, gradients reach only one of the views.

    Args:
        first, second: (N, T', V) natural-log probabilities of the views.
        lens: (N,) numbers of steps.
    """
    valid = torch.arange(first.shape[1], device=lens.device) < lens[:, None]
    first, second = _exact(first[valid]), _exact(second[valid])
    return _divergence(first, second.detach()) + _divergence(second, first.detach())


def _divergence(led: Tensor, target: Tensor) -> Tensor:
    return nn.functional.kl_div(led, target, reduction="sum", log_target=True)


def frame_loss(log_probs: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy in nats, summed over the steps that have a label.

    Args:
        log_probs: (N, T', V - 1) natural-log probabilities; class p is token p + 1.
        labels: (N, T') token ids; -1 for no label.
    """
    classes = (labels - 1).clamp(min=-1)
    return nn.functional.nll_loss(_exact(log_probs).transpose(1, 2), classes, ignore_index=-1, reduction="sum")


def batch_losses(
    model: AcousticModel,
    batch: Batch,
    offsets: Tensor | None,
    frame_weight: float,
    decoder: DecoderTraining = NO_DECODER,
) -> LossSum:
    """The losses of the batch, as tensors. Losses of weight 0 are left out.

    Args:
        model: must have a head for each loss.
        batch: the utterances.
        offsets: (N,) see stack_frames.
        frame_weight: see LossSum.mean.
        decoder: settings of the decoder's training, with its weight.
    """
    output = model.outputs(batch.feats, batch.feat_lens, offsets)
    loss = LossSum()
    with torch.autocast(batch.feats.device.type, enabled=False):
        if decoder.weight > 0:
            assert output.steps is not None and model.decoder is not None
            steps = output.steps.to(model.decoder.output.weight.dtype)
            source = model.decoder.source(steps, output.log_prob_lens)
            loss.decoder = model.decoder.losses(source, batch.tokens, batch.token_lens, decoder).sum()
            loss.num_targets = num_targets(batch)
        if frame_weight < 1 and decoder.weight < 1:
            assert output.ctc_log_probs is not None
            loss.ctc = _ctc_loss(output.ctc_log_probs, output.log_prob_lens, batch)
            if output.lower_log_probs:
                lower = [_ctc_loss(log_probs, output.log_prob_lens, batch) for log_probs in output.lower_log_probs]
                loss.ctc = (1 - LOWER_SHARE) * loss.ctc + LOWER_SHARE * sum(lower[1:], lower[0]) / len(lower)
            loss.num_tokens = int(batch.token_lens.sum())
        if frame_weight > 0:
            assert output.frame_log_probs is not None and batch.frame_labels is not None
            labels = model.frame_labels_to_steps(batch.frame_labels, batch.feat_lens, offsets)
            loss.frames = frame_loss(output.frame_log_probs, labels)
            loss.num_labels = int((labels > 0).sum())
    return loss


def num_targets(batch: Batch) -> int:
    """The number of targets of a decoder: all phones, and an end per utterance."""
    return int(batch.token_lens.sum()) + len(batch.token_lens)


def compute_gradients(
    model: AcousticModel,
    batch: Batch,
    offsets: Tensor | None,
    frame_weight: float,
    bf16: bool = False,
    decoder: DecoderTraining = NO_DECODER,
) -> LossSum:
    """Set the parameters' `.grad` to the gradients of the batch's mean loss.

    Args:
        model, batch, frame_weight, decoder: see batch_losses.
        offsets: (N,) see batch_losses.
        bf16: whether the network computes in bfloat16.

    Returns:
        The losses as numbers.
    """
    model.zero_grad(set_to_none=True)
    with torch.autocast(batch.feats.device.type, torch.bfloat16, enabled=bf16):
        loss = batch_losses(model, batch, offsets, frame_weight, decoder)
    torch.as_tensor(loss.mean(frame_weight, decoder.weight)).backward()
    return loss.as_numbers()


@contextmanager
def weight_noise(model: nn.Module, std: float) -> Iterator[None]:
    """Add Gaussian noise to every weight within the block (Graves 2013). After the block the weights are as before.

    So gradients are computed at the noisy weights, but change the clean ones.
    """
    if not std:
        yield
        return
    weights = list(model.parameters())
    with _restored(weights):
        with torch.no_grad():
            for weight in weights:
                weight.add_(torch.randn_like(weight), alpha=std)
        yield


@contextmanager
def weight_drop(model: nn.Module, probability: float) -> Iterator[None]:
    """Within the block, set recurrent weights to 0 with `probability`, and scale up the others to compensate.

    This is DropConnect (Wan et al. 2013) on the hidden-to-hidden matrices, with one mask for all steps of an utterance
    (Merity et al. 2018). After the block the weights are as before. Gradients from within the block are those of the
    original weights; they are 0 for the weights that were left out.
    """
    if not probability:
        yield
        return
    weights = [weight for name, weight in model.named_parameters() if "weight_hh" in name]
    drop = Dropout(probability)
    masks = [drop(torch.ones_like(weight)) for weight in weights]
    with _restored(weights):
        with torch.no_grad():
            for weight, mask in zip(weights, masks, strict=True):
                weight.mul_(mask)
        yield
        for weight, mask in zip(weights, masks, strict=True):
            if weight.grad is not None:
                weight.grad.mul_(mask)


@contextmanager
def _restored(weights: list[nn.Parameter]) -> Iterator[None]:
    """Restore the weights after the block."""
    before = [weight.detach().clone() for weight in weights]
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before, strict=True):
                weight.copy_(value)
