"""The acoustic model: front end, encoder, and for each head a linear output with log-softmax, or a decoder.

Legend: N utterances, T frames, D feature dim, T' steps, V output classes: blank (id 0) and phones; E outputs of the
stack.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from asrkit.models.config import ModelConfig
from asrkit.models.decoder import DecoderTraining
from asrkit.models.decoder_config import DECODERS
from asrkit.models.encoder import Encoder
from asrkit.models.encoders import ENCODERS
from asrkit.models.frontends import FRONT_ENDS
from asrkit.models.frontends.front_end import FrontEnd
from asrkit.models.inits import INITS
from asrkit.models.stacking import num_steps, stack_frames, step_frames


class ModelOutput(NamedTuple):
    """The outputs of the heads; None for a head that the model lacks. Padded steps hold unspecified values."""

    log_prob_lens: Tensor  # (N,) steps
    ctc_log_probs: Tensor | None  # (N, T', V)
    frame_log_probs: Tensor | None  # (N, T', V - 1): class p is token p + 1
    steps: Tensor | None = None  # (N, T', E) what a decoder attends to
    lower_log_probs: Sequence[Tensor] = ()  # with self-conditioning, in training: CTC's (N, T', V) on the layers below

    @property
    def log_probs(self) -> Tensor:
        """The input of decoding, (N, T', V): CTC's, or those of the frames with a blank of probability 0.

        For a decoder: (N, T', E), or (N, T', V + E) behind CTC's.
        """
        if self.steps is not None:
            return self.steps if self.ctc_log_probs is None else torch.cat([self.ctc_log_probs, self.steps], dim=2)
        if self.ctc_log_probs is not None:
            return self.ctc_log_probs
        assert self.frame_log_probs is not None, "a model has one of the heads at least"
        return with_impossible_blank(self.frame_log_probs)


class Decoder(Protocol):
    """What writes phones from the encoder's outputs: an attention decoder or transducer.Transducer."""

    step_size: int  # E
    num_classes: int  # V
    output: nn.Linear

    def source(self, steps: Tensor, lens: Tensor) -> Any:
        """The encoder's outputs (N, T, E) of `lens` (N,) steps, as `losses` takes them."""

    def losses(self, source: Any, tokens: Tensor, token_lens: Tensor, training: DecoderTraining) -> Tensor:
        """-log P(tokens | audio) of each utterance (N,), in nats. `tokens` (N, U), whatever their padding holds."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """nn.Module's."""

    def for_search(self) -> Any:
        """The decoder as searches take it, with the weights as they are now."""


class AcousticModel(nn.Module):
    """Features (N, T, D) to log-probabilities (N, T', V) over blank (id 0) and phones.

    Head "ctc": Graves et al. 2006; "frames": a phone for every step (Graves and Schmidhuber 2005); "both": one of each
    on the same layers; "attention": a decoder (decoder.py or transformer_decoder.py); "transducer": transducer.py's;
    "joint" and "joint_transducer": such a decoder and CTC. With self-conditioning (Nozaki and Komatsu 2021) CTC's
    output layer reads the lower layers too, and the probabilities found there are added, through a linear layer, to
    what the next layer sees. A result does not depend on the padding or on the other utterances of the batch, and
    neither do its gradients.
    """

    def __init__(self, config: ModelConfig, feat_dim: int, num_tokens: int, feat_channels: int = 1):
        """`num_tokens`: output classes V, blank included. `feat_channels`: equal parts of a feature vector, static
        features and each order of deltas, which front end conv2d takes for channels.
        """
        super().__init__()
        self.config = config
        self.frontend: FrontEnd = FRONT_ENDS[config.frontend].load()(feat_dim, feat_channels, config)
        self.stack: Encoder = ENCODERS[config.encoder].load()(self.frontend.output_size * config.stack, config)
        size, heads = self.stack.output_size, config.heads
        self.output = nn.Linear(size, num_tokens) if heads.has_ctc else None
        self.frame_output = nn.Linear(size, num_tokens - 1) if heads.has_frames else None
        self.decoder: Decoder | None = None
        if heads.decoder is not None:
            self.decoder = DECODERS[heads.decoder].load()(config.decoder, size, num_tokens, heads.has_ctc)
        self.feedback = nn.Linear(num_tokens, size) if config.self_conditioning else None
        INITS[config.init].load()(self, config)

    def forward(self, feats: Tensor, feat_lens: Tensor, offsets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`feats` (N, T, D), `feat_lens` (N,) -> `log_probs` (N, T', V), `log_prob_lens` (N,), for decoding.

        `offsets` is stack_frames'.
        """
        output = self.outputs(feats, feat_lens, offsets)
        return output.log_probs, output.log_prob_lens

    def outputs(self, feats: Tensor, feat_lens: Tensor, offsets: Tensor | None = None) -> ModelOutput:
        """Like forward() for what training needs: the log-probabilities of each head."""
        frames = torch.arange(feats.shape[1], device=feats.device)
        feats = self.frontend(feats, frames >= feat_lens[:, None])
        steps, step_lens = stack_frames(feats, feat_lens, self.config.stack, self.config.skip, offsets)
        feed_back = None
        if self.output is not None and self.feedback is not None:
            feed_back = partial(_feed_back, self.output, self.feedback)
        *lower, hidden = self.stack(steps, step_lens, feed_back)
        step_lens = num_steps(step_lens, self.stack.joined)
        ctc = None if self.output is None else _log_probs(self.output, hidden)
        by_frame = None if self.frame_output is None else _log_probs(self.frame_output, hidden)
        attended = None if self.decoder is None else hidden
        if self.output is None or not self.training:
            return ModelOutput(step_lens, ctc, by_frame, attended)
        return ModelOutput(step_lens, ctc, by_frame, attended, [_log_probs(self.output, layer) for layer in lower])

    def num_steps(self, num_frames: int) -> int:
        """T' for an utterance of `num_frames` frames."""
        return num_steps(num_frames, self.config.skip * self.stack.joined)

    def frame_labels_to_steps(self, labels: Tensor, feat_lens: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Labels of frames (N, T) to those of steps (N, T'): that of the frame in a step's middle; -1 in padding."""
        frames = step_frames(feat_lens, labels.shape[1], self.config.stack, self.config.skip, offsets)
        valid = torch.arange(frames.shape[1], device=labels.device) < num_steps(feat_lens, self.config.skip)[:, None]
        return torch.where(valid, labels.gather(1, frames), -1)


def with_impossible_blank(frame_log_probs: Tensor) -> Tensor:
    """Log-probabilities of phones alone (..., V - 1) as those of CTC (..., V), whose blank has a probability of 0."""
    return nn.functional.pad(frame_log_probs, (1, 0), value=-torch.inf)


def _log_probs(head: nn.Linear, hidden: Tensor) -> Tensor:
    return torch.log_softmax(head(hidden), dim=2)


def _feed_back(output: nn.Linear, feedback: nn.Linear, hidden: Tensor) -> Tensor:
    return feedback(torch.softmax(output(hidden), dim=-1))
