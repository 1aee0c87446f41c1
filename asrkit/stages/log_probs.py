"""Log-probabilities of a data directory on disk. Decoding writes them for tuning and analysis.

They are in DIR/log_probs.ark and .scp. A stamp beside them identifies the weights and features that they come from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrkit.device import CPU
from asrkit.errors import DataError, location, raise_if_any
from asrkit.features.cmvn import NORMALIZATIONS, CmvnMode
from asrkit.features.pipeline import FeatureLoader, feats_input
from asrkit.io.ark import ArkReader, ArkWriter
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Stamp
from asrkit.parallel import map_in_threads

if TYPE_CHECKING:
    from asrkit.experiment import Experiment
    from asrkit.inference.torch_model import TorchModel

LOG_PROBS_STAMP = ".log_probs.stamp"


@dataclass(frozen=True)
class _Forward:
    """A network and its features. Workers of a cluster can compute the batches, each on a device of its own."""

    experiment: Experiment
    feats: FeatureLoader
    device: str

    @cached_property
    def model(self) -> TorchModel:
        from asrkit.inference.torch_model import TorchModel

        return TorchModel(self.experiment, self.device)  # made in the process that uses it

    def __call__(self, utt_ids: Sequence[str]) -> list[np.ndarray]:
        """The log-probabilities (T, V) of each utterance of a batch."""
        return self.model.batch([self.feats[utt_id] for utt_id in utt_ids])


@dataclass(frozen=True)
class LogProbStore:
    """The log-probabilities of a trained experiment for a data directory, stored in `directory`."""

    directory: Path
    experiment: Experiment
    data_dir: Path

    @property
    def scp(self) -> Path:
        """The index of the stored log-probabilities."""
        return self.directory / "log_probs.scp"

    def stamp(self, cmvn: CmvnMode) -> Stamp:
        """The stamp for this mode of CMVN. It knows the inputs, and whether the files exist and are up to date."""
        return Stamp(self.directory / LOG_PROBS_STAMP, self._inputs(cmvn))

    def write(self, stamp: Stamp, feats: FeatureLoader, batch_size: int, num_threads: int, device: str = CPU) -> None:
        """Compute the log-probabilities on a device, and write them. `feats` must be opened after `stamp` was made.

        The batch size changes only the speed. Raises ConfigError and ModelError as TorchModel.
        """
        import torch  # takes seconds to load

        from asrkit.models.batching import bucket

        with lock_dir(self.directory, "decode"), stamp.making():
            torch.set_num_threads(num_threads)
            forward = _Forward(self.experiment, feats, device)
            batches = bucket({utt_id: feats.num_frames(utt_id) for utt_id in feats}, batch_size)
            with ArkWriter(self.directory / "log_probs.ark", self.scp) as writer:
                # PyTorch has a thread per core here; on a cluster, its workers compute the batches.
                for utt_ids, results in zip(batches, map_in_threads(forward, batches, 1, chunk_size=1), strict=True):
                    for utt_id, log_probs in zip(utt_ids, results, strict=True):
                        writer.write(utt_id, log_probs)

    def open(self) -> ArkReader:
        """The stored log-probabilities: utterance id -> (T, V)."""
        return ArkReader(self.scp, is_beside=True)

    def read(self, utt_ids: Iterable[str]) -> dict[str, np.ndarray]:
        """The log-probabilities (T, V) of these utterances, which must be in the text of the data directory.

        Raises:
            DataError: they are missing, or come from other features or weights.
        """
        if not any(self.stamp(cmvn).is_current() for cmvn in NORMALIZATIONS):
            fault = "not of this experiment and data as they are now" if self.scp.exists() else "not found"
            raise DataError(
                f"{location(self.scp)}{fault}; made by stage 4 (asrkit decode --data {self.data_dir} "
                f"--out {self.directory})"
            )
        stored = self.open()
        raise_if_any(
            [
                f"{location(self.scp)}no utterance {utt_id}, which {self.data_dir}/text has"
                for utt_id in utt_ids
                if utt_id not in stored
            ]
        )
        return {utt_id: stored[utt_id] for utt_id in utt_ids}

    def _inputs(self, cmvn: CmvnMode) -> dict[str, Any]:
        """Everything on which the log-probabilities depend."""
        from asrkit.experiment import acoustic_digest  # loads PyTorch

        return {
            "model": acoustic_digest(self.experiment),
            "feats": feats_input(self.data_dir),
            "utt2spk": File(self.data_dir / "utt2spk"),
            "cmvn": cmvn,
        }
