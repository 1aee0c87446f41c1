"""The network of a trained experiment in PyTorch, for GPUs and for many utterances at once."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch

from asrkit.device import CPU, choose_device
from asrkit.errors import ModelError
from asrkit.experiment import Experiment
from asrkit.features.full import full_features
from asrkit.inference.model import Outputs, join_phases
from asrkit.models.batching import collate


class TorchModel:
    """The network of a trained experiment in PyTorch, as a model.Model."""

    def __init__(self, experiment: Experiment, device: str = CPU) -> None:
        """Use the network of an experiment, or a copy of it on a device: cpu, cuda, cuda:N, or auto.

        Raises:
            ConfigError: there is no such device.
            ModelError: PyTorch cannot use the device.
        """
        self._source, config, place = (experiment, device), experiment.config, choose_device(device)
        self.features, self.config, self.decoding = config.features, config.model, config.decoding
        self.tokens, self.lm, self.calibration = experiment.tokens, experiment.lm_automaton, experiment.calibration
        self.decoder = experiment.search_models.decoder
        self.global_cmvn, self.corpus = experiment.global_cmvn, experiment.corpus
        try:
            self.network = experiment.model if place.type == CPU else copy.deepcopy(experiment.model).to(place)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise ModelError(f"device {device}: PyTorch cannot use it ({reason}); give cpu") from None

    def __reduce__(self) -> tuple[object, ...]:
        return TorchModel, self._source  # so that another process opens its own device

    @torch.inference_mode()
    def batch(self, feats: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Compute log-probabilities, (T', V) float32 per utterance. They do not depend on the size of the batch.

        Args:
            feats: (T, D) full features per utterance.
        """
        names = [str(i) for i in range(len(feats))]
        batch = collate(names, dict(zip(names, feats, strict=True)))
        log_probs, lens = self.network(batch.feats.to(self._device), batch.feat_lens.to(self._device))
        return [utt[:length].cpu().numpy() for utt, length in zip(log_probs, lens.tolist(), strict=True)]

    def log_probs(self, static: np.ndarray, stats: np.ndarray | None = None) -> np.ndarray:
        """Compute the input of the search, as Model.log_probs.

        Args:
            static: (T, D) static features.
            stats: (2, D + 1) CMVN statistics, or None.

        Returns:
            (T', V) float32.
        """
        return self.batch([self._full_features(static, stats)])[0]

    @torch.inference_mode()
    def outputs_by_frame(self, static: np.ndarray, stats: np.ndarray | None = None) -> Outputs:
        """Compute the outputs of the heads for every frame, as Model.outputs_by_frame.

        Args:
            static, stats: (T, D) and (2, D + 1), as for log_probs.
        """
        feats = torch.from_numpy(self._full_features(static, stats)).to(self._device)
        phases = torch.arange(self.config.frames_a_step, device=self._device)
        lens = torch.full_like(phases, len(feats))
        output = self.network.outputs(feats.expand(len(phases), -1, -1), lens, phases)
        log_probs = output.log_probs[:, :, : len(self.tokens)].cpu().numpy()
        frames = [None] * len(phases) if output.frame_log_probs is None else output.frame_log_probs.cpu().numpy()
        outputs = [Outputs(*heads) for heads in zip(log_probs, frames, strict=True)]
        return join_phases(outputs, len(feats), self.config.frames_in_step)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _full_features(self, static: np.ndarray, stats: np.ndarray | None) -> np.ndarray:
        mode = self.features.normalization
        if stats is None and mode.is_fixed:
            stats, mode = self.global_cmvn, mode.without_speaker
        else:
            mode = mode.with_given_stats
        return full_features(static, stats, self.features.with_normalization(mode))
