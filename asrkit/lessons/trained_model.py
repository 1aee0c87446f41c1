"""A trained network for lessons on speech: its outputs for the features of a test set, and their times."""

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
        """Load a network and open the features of a test set.

        Raises ModelError or DataError if one is missing or damaged.
        """
        self.experiment = load_experiment(directory)
        self.features, self.config = self.experiment.config.features, self.experiment.config.model
        self.feats = FeatureLoader(data, self.features, self.experiment.global_cmvn)
        self.clock = frame_clock(self.features, self.config)

    def outputs(self, feats: Tensor) -> ModelOutput:
        """The outputs of the network for utterances of equal length, `feats` (N, T, D)."""
        return self.experiment.model.outputs(feats, torch.full((len(feats),), feats.shape[1]))

    def frame_times(self, num_frames: int) -> np.ndarray:
        """The middles of the frames in seconds, (T,)."""
        return self.clock.start + self.clock.shift * (np.arange(num_frames) + 0.5)

    def step_times(self, num_steps: int) -> np.ndarray:
        """The middles of the steps in seconds, (T',)."""
        return self.clock.start + self.clock.shift * (self.clock.middle + self.clock.skip * np.arange(num_steps) + 0.5)

    def middles(self, steps: Sequence[int], num_frames: int) -> list[int]:
        """The frames in the middle of the given steps."""
        return [min(int(self.clock.middle) + self.clock.skip * step, num_frames - 1) for step in steps]
