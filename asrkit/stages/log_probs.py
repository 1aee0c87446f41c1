"""Log-probabilities of a data directory, as decoding leaves them on disk for tuning and analysis.

DIR/log_probs.ark and .scp hold them; a stamp beside them says what weights and features they were computed from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrkit.errors import DataError, location, raise_if_any
from asrkit.features.cmvn import NORMALIZATIONS, CmvnMode
from asrkit.features.pipeline import FeatureLoader, feats_input
from asrkit.io.ark import ArkReader, ArkWriter
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Stamp

if TYPE_CHECKING:
    from asrkit.experiment import Experiment

LOG_PROBS_STAMP = ".log_probs.stamp"


@dataclass(frozen=True)
class LogProbStore:
    """The directory of the log-probabilities that a trained experiment gives for a data directory."""

    directory: Path
    experiment: Experiment
    data_dir: Path

    @property
    def scp(self) -> Path:
        return self.directory / "log_probs.scp"

    def stamp(self, cmvn: CmvnMode) -> Stamp:
        """What they are made from, with this mode of CMVN, and whether they are there and right."""
        return Stamp(self.directory / LOG_PROBS_STAMP, self._inputs(cmvn))

    def write(self, stamp: Stamp, feats: FeatureLoader, batch_size: int, num_threads: int) -> None:
        """Compute and write them; `feats` are the data directory's, opened after `stamp` was made.

        The batch size changes speed alone.
        """
        # PyTorch takes seconds to load.
        import torch

        from asrkit.inference.torch_model import TorchModel
        from asrkit.models.batching import bucket

        with lock_dir(self.directory, "decode"), stamp.making():
            torch.set_num_threads(num_threads)
            model = TorchModel(self.experiment)
            batches = bucket({utt_id: feats.num_frames(utt_id) for utt_id in feats}, batch_size)
            with ArkWriter(self.directory / "log_probs.ark", self.scp) as writer:
                for utt_ids in batches:
                    for utt_id, log_probs in zip(utt_ids, model.batch([feats[u] for u in utt_ids]), strict=True):
                        writer.write(utt_id, log_probs)

    def open(self) -> ArkReader:
        """What is stored, (T, V) by utterance."""
        return ArkReader(self.scp, is_beside=True)

    def read(self, utt_ids: Iterable[str]) -> dict[str, np.ndarray]:
        """The log-probabilities (T, V) of these utterances, which the data directory's text has.

        Raises DataError when they are missing, or were made from other features or weights.
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
        """All that the log-probabilities depend on."""
        from asrkit.experiment import acoustic_digest  # loads PyTorch

        return {
            "model": acoustic_digest(self.experiment),
            "feats": feats_input(self.data_dir),
            "utt2spk": File(self.data_dir / "utt2spk"),
            "cmvn": cmvn,
        }
