"""The acoustic model: front end, recurrent stack, and a linear output with log-softmax for each head.

Legend: N utterances, T frames, D feature dim, T' steps, V output classes: blank (id 0) and phones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asrkit.models.config import ModelConfig
from asrkit.models.convolution import Conv2dFrontend
from asrkit.models.frontend import num_steps, stack_frames, step_frames
from asrkit.models.recurrent import RecurrentStack, initialise
from asrkit.models.tdnn import TdnnFrontend


class ModelOutput(NamedTuple):
    """What the heads give; None for a head that the model lacks. Padded steps hold unspecified values."""

    log_prob_lens: Tensor  # (N,) steps
    ctc_log_probs: Tensor | None  # (N, T', V)
    frame_log_probs: Tensor | None  # (N, T', V - 1): class p is token p + 1
    lower_log_probs: Sequence[Tensor] = ()  # with self-conditioning, in training: CTC's (N, T', V) on the layers below


class AcousticModel(nn.Module):
    """Features (N, T, D) to log-probabilities (N, T', V) over blank (id 0) and phones.

    Head "ctc": Graves et al. 2006; "frames": a phone for every step (Graves and Schmidhuber 2005); "both": one of
    each on the same layers. With self-conditioning (Nozaki and Komatsu 2021) CTC's output layer reads the lower
    layers too, and the probabilities found there are added, through a linear layer, to what the next layer sees. A
    result does not depend on the padding or on the other utterances of the batch, and neither do its gradients.
    """

    def __init__(self, config: ModelConfig, feat_dim: int, num_tokens: int, feat_channels: int = 1):
        """`num_tokens`: output classes V, blank included. `feat_channels`: equal parts of a feature vector, static
        features and each order of deltas, which front end conv2d takes for channels.
        """
        super().__init__()
        self.config = config
        self.frontend = None
        if config.frontend == "conv2d":
            self.frontend = Conv2dFrontend(feat_dim, feat_channels, config.conv_channels)
        elif config.frontend == "tdnn":
            self.frontend = TdnnFrontend(feat_dim, config.tdnn_size)
        frame_size = self.frontend.output_size if self.frontend else feat_dim
        self.stack = RecurrentStack(frame_size * config.stack, config)
        size = self.stack.output_size
        self.output = nn.Linear(size, num_tokens) if config.head != "frames" else None
        self.frame_output = nn.Linear(size, num_tokens - 1) if config.head != "ctc" else None
        self.feedback = nn.Linear(num_tokens, size) if config.self_conditioning else None
        initialise(self, config.init, config.init_range)

    def forward(self, feats: Tensor, feat_lens: Tensor, offsets: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """`feats` (N, T, D), `feat_lens` (N,) -> `log_probs` (N, T', V), `log_prob_lens` (N,), for decoding.

        Those of CTC; of a model without that head those of the frames, with a blank of probability 0. `offsets` is
        stack_frames'.
        """
        lens, ctc, frames, _ = self.outputs(feats, feat_lens, offsets)
        return (nn.functional.pad(frames, (1, 0), value=-torch.inf) if ctc is None else ctc), lens

    def outputs(self, feats: Tensor, feat_lens: Tensor, offsets: Tensor | None = None) -> ModelOutput:
        """Like forward() for what training needs: the log-probabilities of each head."""
        if self.frontend is not None:
            frames = torch.arange(feats.shape[1], device=feats.device)
            feats = self.frontend(feats, frames >= feat_lens[:, None])
        steps, step_lens = stack_frames(feats, feat_lens, self.config.stack, self.config.skip, offsets)
        *lower, hidden = self.stack(steps, step_lens, self.feedback and self._feed_back)
        heads = (self.output, self.frame_output)
        log_probs = [head and torch.log_softmax(head(hidden), dim=2) for head in heads]
        if not self.training:
            lower = []
        return ModelOutput(step_lens, *log_probs, [torch.log_softmax(self.output(layer), dim=2) for layer in lower])

    def _feed_back(self, hidden: Tensor) -> Tensor:
        return self.feedback(torch.softmax(self.output(hidden), dim=-1))

    def num_steps(self, num_frames: int) -> int:
        """T' for an utterance of `num_frames` frames."""
        return num_steps(num_frames, self.config.skip)

    def frame_labels_to_steps(self, labels: Tensor, feat_lens: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Labels of frames (N, T) to those of steps (N, T'): that of the frame in a step's middle; -1 in padding."""
        frames = step_frames(feat_lens, labels.shape[1], self.config.stack, self.config.skip, offsets)
        valid = torch.arange(frames.shape[1], device=labels.device) < num_steps(feat_lens, self.config.skip)[:, None]
        return torch.where(valid, labels.gather(1, frames), -1)
