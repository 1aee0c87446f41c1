"""A trained network as lessons on speech look at it: what its heads say of the features of a test set, and when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from asrkit.experiment import load_experiment
from asrkit.features.pipeline import FeatureLoader
from asrkit.inference.frame_clock import frame_clock
from asrkit.models.acoustic import ModelOutput


class TrainedModel:
    """A trained network with the features of a test set.

    Legend: N utterances, T frames, D features, T' steps of the network.
    """

    def __init__(self, directory: Path, data: Path):
        """Raises ModelError or DataError for what is not there, or is not as it was left."""
        self.experiment = load_experiment(directory)
        self.features, self.config = self.experiment.config.features, self.experiment.config.model
        self.feats = FeatureLoader(data, self.features, self.experiment.global_cmvn)
        self.clock = frame_clock(self.features, self.config)

    def outputs(self, feats: Tensor) -> ModelOutput:
        """What the network's heads say of utterances of equal length (N, T, D)."""
        return self.experiment.model.outputs(feats, torch.full((len(feats),), feats.shape[1]))

    def frame_times(self, num_frames: int) -> np.ndarray:
        """(T,) the seconds at which frames are, their middles."""
        return self.clock.start + self.clock.shift * (np.arange(num_frames) + 0.5)

    def step_times(self, num_steps: int) -> np.ndarray:
        """(T',) the seconds at which steps are, their middles."""
        return self.clock.start + self.clock.shift * (self.clock.middle + self.clock.skip * np.arange(num_steps) + 0.5)

    def middles(self, steps: Sequence[int], num_frames: int) -> list[int]:
        """The frames in the middles of steps."""
        return [min(int(self.clock.middle) + self.clock.skip * step, num_frames - 1) for step in steps]
