"""The interface of a model for recognition, of onnx_model.OnnxModel and torch_model.TorchModel.

Legend: T frames, D static features, T' steps of the network, V output classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import SearchableDecoder
from asrkit.features.config import FeatureConfig
from asrkit.lang.tokens import TokenTable
from asrkit.lm.automaton import LmAutomaton
from asrkit.models.config import ModelConfig


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of the heads for some steps of the network, or for some frames.

    Attributes:
        log_probs: (T', V) float32, a row for each step; a row for each frame (T, V) where `by_frame`. A model without
            CTC gives those of its frame-wise head, with a blank of probability 0.
        frame_log_probs: (T', V - 1) float32, class p is token p + 1; None for a model without a frame-wise head. For
            phone times it has a row for each frame (T, V - 1), also beside log_probs of steps.
        by_frame: whether log_probs are of frames: those of the step whose middle the frame is.
    """

    log_probs: np.ndarray
    frame_log_probs: np.ndarray | None = None
    by_frame: bool = False


class Model(Protocol):
    """A trained network with all that recognition needs.

    `features`, `config`, `decoding`: settings of the features, the network and the search. `tokens`, `lm` (None without
    one), `calibration` (None before tuning), `decoder` (None without one): what decoding needs. `global_cmvn`
    (2, D + 1): statistics of the training set.
    """

    features: FeatureConfig
    config: ModelConfig
    decoding: DecodingConfig
    tokens: TokenTable
    lm: LmAutomaton | None
    calibration: Calibration | None
    global_cmvn: np.ndarray

    @property
    def decoder(self) -> SearchableDecoder | None: ...

    def log_probs(self, static: np.ndarray, stats: np.ndarray | None = None) -> np.ndarray:
        """Static features (T, D) of an utterance to log-probabilities (T', V) float32: what the search takes.

        A model with an attention decoder gives CTC's, if it has CTC, and behind them what the decoder attends to.

        With running CMVN the features come normalized (cmvn.Normalization.input_normalizer). `stats` (2, D + 1): CMVN
        statistics of the speaker or of a longer recording. Without them a model with global CMVN takes the training
        set's, any other the utterance's own. With running CMVN they are not looked at.
        """

    def outputs_by_frame(self, static: np.ndarray, stats: np.ndarray | None = None) -> Outputs:
        """The outputs of the heads for every frame, T in place of T': those of the step whose middle is the frame.

        The network runs in each phase of its frame skipping: `skip` times as much to do as for log_probs. What a
        decoder attends to is not among it.
        """


def join_phases(phases: Sequence[Outputs], num_frames: int, stack: int) -> Outputs:
    """The outputs of each phase of frame skipping, T' steps each, to those of every frame, T in place of T'."""
    phase_of, step_of = steps_of_frames(np.arange(num_frames), len(phases), stack)
    step_of = step_of.clip(0, len(phases[0].log_probs) - 1)
    log_probs = np.stack([outputs.log_probs for outputs in phases])[phase_of, step_of]
    frame_heads = [outputs.frame_log_probs for outputs in phases if outputs.frame_log_probs is not None]
    frame_log_probs = np.stack(frame_heads)[phase_of, step_of] if frame_heads else None
    return Outputs(log_probs, frame_log_probs, by_frame=True)


def steps_of_frames(frames: np.ndarray, skip: int, stack: int) -> tuple[np.ndarray, np.ndarray]:
    """The phase of frame skipping that has a step whose middle is the frame, and the number of that step.

    In phase p, which begins p frames early, step k has its middle in frame (stack - 1) // 2 + k * skip - p.
    """
    from_middle = frames - (stack - 1) // 2
    return (-from_middle) % skip, (from_middle + skip - 1) // skip
