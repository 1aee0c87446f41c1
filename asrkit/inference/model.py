"""The interface of models for recognition. onnx_model.OnnxModel and torch_model.TorchModel have it.

Legend: T frames, D static features, T' steps of the network, V output classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.language_models import StoredLm
from asrkit.decoding.methods import SearchableDecoder
from asrkit.features.config import FeatureConfig
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.types import CorpusInfo


@dataclass(frozen=True, slots=True)
class Outputs:
    """The outputs of the heads, for some steps of the network or for some frames.

    Attributes:
        log_probs: (T', V) float32 natural log-probabilities, one row per step; or (T, V), one row per frame, if
            `by_frame`. A model without CTC gives those of its frame-wise head, with a blank of probability 0.
        frame_log_probs: (T', V - 1) float32, class p is token p + 1; None without a frame-wise head. For phone times it
            has one row per frame (T, V - 1), even if log_probs has one row per step.
        by_frame: whether log_probs has one row per frame. The row of a frame comes from the step that has the frame in
            its middle.
    """

    log_probs: np.ndarray
    frame_log_probs: np.ndarray | None = None
    by_frame: bool = False


class Model(Protocol):
    """A trained network with everything that recognition needs.

    Attributes:
        features, config, decoding: settings of the features, the network and the search.
        tokens: its phones and their ids.
        lm: the language model, or None.
        calibration: the calibration of confidences; None before tuning.
        global_cmvn: (2, D + 1) CMVN statistics of the training set.
        corpus: the corpus of its training, or None.
    """

    features: FeatureConfig
    config: ModelConfig
    decoding: DecodingConfig
    tokens: TokenTable
    lm: StoredLm | None
    calibration: Calibration | None
    global_cmvn: np.ndarray
    corpus: CorpusInfo | None

    @property
    def decoder(self) -> SearchableDecoder | None:
        """The attention decoder or transducer, or None."""

    def log_probs(self, static: np.ndarray, stats: np.ndarray | None = None) -> np.ndarray:
        """Compute the input of the search: log-probabilities (T', V) float32.

        A model with a decoder gives CTC's log-probabilities, if it has CTC, followed by the values to which the decoder
        attends.

        Args:
            static: (T, D) static features of an utterance. With running CMVN they must be normalised (see
                cmvn.Normalization.input_normalizer).
            stats: (2, D + 1) CMVN statistics of the speaker or of a longer recording. Without them, a model with global
                CMVN uses those of the training set, and other models use those of the utterance. Ignored with running
                CMVN.
        """

    def outputs_by_frame(self, static: np.ndarray, stats: np.ndarray | None = None) -> Outputs:
        """Compute the outputs of the heads for every frame: T rows.

        A frame's row comes from the step with it in the middle.

        The network runs once for each phase of frame skipping, so this takes `skip` times as long as log_probs. The
        values to which a decoder attends are left out.

        Args:
            static, stats: (T, D) and (2, D + 1), as for log_probs.
        """


def join_phases(phases: Sequence[Outputs], num_frames: int, stack: int) -> Outputs:
    """Join the outputs of all phases of frame skipping (T' rows each) to outputs for every frame (T rows)."""
    phase_of, step_of = steps_of_frames(np.arange(num_frames), len(phases), stack)
    step_of = step_of.clip(0, len(phases[0].log_probs) - 1)
    log_probs = np.stack([outputs.log_probs for outputs in phases])[phase_of, step_of]
    frame_heads = [outputs.frame_log_probs for outputs in phases if outputs.frame_log_probs is not None]
    frame_log_probs = np.stack(frame_heads)[phase_of, step_of] if frame_heads else None
    return Outputs(log_probs, frame_log_probs, by_frame=True)


def steps_of_frames(frames: np.ndarray, skip: int, stack: int) -> tuple[np.ndarray, np.ndarray]:
    """Find the steps that have the given frames in their middle.

    Phase p of frame skipping begins p frames early. The middle of its step k is frame (stack - 1) // 2 + k * skip - p.

    Args:
        frames: (n,) frame numbers.
        skip, stack: settings of the network.

    Returns:
        The phase for each frame, and the number of its step, (n,) each.
    """
    from_middle = frames - (stack - 1) // 2
    return (-from_middle) % skip, (from_middle + skip - 1) // skip
