"""The acoustic model: a front end, an encoder, and heads. A head is a linear layer with log-softmax, or a decoder.

Legend: N utterances, T frames, D size of a feature vector, T' steps, V output classes: blank (id 0) and phones; E size
of the encoder's outputs.
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
    """The outputs of the heads; None for a head that the model lacks. Padded steps hold unspecified values.

    Attributes:
        log_prob_lens: (N,) numbers of steps.
        ctc_log_probs: (N, T', V) natural-log probabilities of the CTC head.
        frame_log_probs: (N, T', V - 1) natural-log probabilities of the frame head; its class p is token p + 1.
        steps: (N, T', E) outputs of the encoder, to which a decoder attends.
        lower_log_probs: with self-conditioning, in training: CTC's outputs (N, T', V) after each of the lower layers.
    """

    log_prob_lens: Tensor
    ctc_log_probs: Tensor | None
    frame_log_probs: Tensor | None
    steps: Tensor | None = None
    lower_log_probs: Sequence[Tensor] = ()

    @property
    def log_probs(self) -> Tensor:
        """The input of decoding, (N, T', V): the output of CTC, or of the frame head with a blank of probability 0.

        With a decoder it is (N, T', E), or (N, T', V + E) where CTC's output stands before the steps.
        """
        if self.steps is not None:
            return self.steps if self.ctc_log_probs is None else torch.cat([self.ctc_log_probs, self.steps], dim=2)
        if self.ctc_log_probs is not None:
            return self.ctc_log_probs
        assert self.frame_log_probs is not None, "a model has one of the heads at least"
        return with_impossible_blank(self.frame_log_probs)


class Decoder(Protocol):
    """The interface of decoders, which write phones: attention decoders and transducer.Transducer.

    Attributes:
        step_size: E.
        num_classes: V.
        output: the output layer.
    """

    step_size: int  # E
    num_classes: int  # V
    output: nn.Linear

    def source(self, steps: Tensor, lens: Tensor) -> Any:
        """Prepare the encoder's outputs `steps` (N, T, E), with lengths `lens` (N,), for `losses`."""

    def losses(self, source: Any, tokens: Tensor, token_lens: Tensor, training: DecoderTraining) -> Tensor:
        """-log P(tokens | audio) of each utterance (N,), in nats.

        Args:
            source: result of the method `source`.
            tokens: (N, U) class ids; padding can hold anything.
            token_lens: (N,).
            training: settings.
        """

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As nn.Module.named_parameters."""

    def for_search(self) -> Any:
        """The decoder for searches, with the present weights."""


class AcousticModel(nn.Module):
    """Maps features (N, T, D) to log-probabilities (N, T', V) of blank (id 0) and phones.

    The heads:

    - "ctc": CTC (Graves et al. 2006).
    - "frames": one phone for every step (Graves and Schmidhuber 2005).
    - "both": CTC and the frame head on the same layers.
    - "attention": an attention decoder (decoder.py or transformer_decoder.py).
    - "transducer": a transducer (transducer.py).
    - "joint", "joint_transducer": such a decoder and CTC.

    With self-conditioning (Nozaki and Komatsu 2021), CTC's output layer also reads the lower layers. A linear map of
    the probabilities found there is added to the input of the next layer.

    Neither a result nor its gradients depend on the padding or on other utterances of the batch.
    """

    def __init__(self, config: ModelConfig, feat_dim: int, num_tokens: int, feat_channels: int = 1):
        """An untrained model.

        Args:
            config: settings.
            feat_dim: D.
            num_tokens: V, with blank.
            feat_channels: number of equal parts of a feature vector: static features and each order of deltas. Front
                end conv2d reads them as channels.
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
        """Compute the input of decoding.

        Args:
            feats: (N, T, D) features.
            feat_lens: (N,) numbers of frames.
            offsets: (N,) first frame of each utterance's first step; see stack_frames.

        Returns:
            Natural-log probabilities (N, T', V), or what `ModelOutput.log_probs` holds for a decoder; and numbers of
            steps (N,).
        """
        output = self.outputs(feats, feat_lens, offsets)
        return output.log_probs, output.log_prob_lens

    def outputs(self, feats: Tensor, feat_lens: Tensor, offsets: Tensor | None = None) -> ModelOutput:
        """Compute the outputs of all heads, for training. The arguments are those of `forward`.

        `feats` is (N, T, D), `feat_lens` and `offsets` are (N,).
        """
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
        """The label of each step: that of the frame in its middle; -1 in padding.

        Args:
            labels: (N, T) label of each frame.
            feat_lens: (N,) numbers of frames.
            offsets: (N,) as in `forward`.

        Returns:
            (N, T').
        """
        frames = step_frames(feat_lens, labels.shape[1], self.config.stack, self.config.skip, offsets)
        valid = torch.arange(frames.shape[1], device=labels.device) < num_steps(feat_lens, self.config.skip)[:, None]
        return torch.where(valid, labels.gather(1, frames), -1)


def with_impossible_blank(frame_log_probs: Tensor) -> Tensor:
    """Turn log-probabilities of phones, `frame_log_probs` (..., V - 1), into CTC's form (..., V).

    Blank has probability 0.
    """
    return nn.functional.pad(frame_log_probs, (1, 0), value=-torch.inf)


def _log_probs(head: nn.Linear, hidden: Tensor) -> Tensor:
    return torch.log_softmax(head(hidden), dim=2)


def _feed_back(output: nn.Linear, feedback: nn.Linear, hidden: Tensor) -> Tensor:
    return feedback(torch.softmax(output(hidden), dim=-1))
