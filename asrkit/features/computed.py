"""Static features that are computed from the audio each time they are read.

`asrkit extract --no-archives` prepares a data directory for this. In place of features it stores what is needed before
they are read: the number of frames of each utterance (utt2num_frames), the CMVN statistics of its speech (speech.scp),
and a checksum of its features (utt2crc). So computed features are those that were extracted, to the last bit.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from asrkit.errors import AudioError, DataError, location
from asrkit.features.audio_table import AudioTable, open_audio
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.findings import Findings
from asrkit.io.ark import ArkReader
from asrkit.io.columns import Columns
from asrkit.io.numbers import parse_whole
from asrkit.io.scp import scan_table

CHECKSUMS, NUM_FRAMES = "utt2crc", "utt2num_frames"
NOT_STORED = "not_stored"  # in feats.json: the archives that would hold the features, with the SHA-256 of each
_AGAIN = "repeat stage 1 (asrkit extract --no-archives)"


def checksum(static: np.ndarray) -> int:
    """The CRC-32 of the features `static` (T, D) float32, as an archive would hold them."""
    return zlib.crc32(np.ascontiguousarray(static, "<f4").data)


class ComputedFeats(Mapping[str, np.ndarray]):
    """Static features (T, D) float32 by utterance id, like an `ArkReader` of an archive of them.

    `speech` has the statistics (2, D + 1) of each utterance's speech, `keys_by_row` the ids in the order of speech.scp,
    and `num_frames` (n,) their numbers of frames.
    The memory needed does not depend on the amount of audio. The object can be pickled.
    """

    def __init__(
        self, speech: ArkReader, config: FeatureConfig, made_with: Mapping[str, Any], columns: Columns | None = None
    ) -> None:
        """Open the features of a data directory.

        Args:
            speech: its speech.scp.
            config: the settings.
            made_with: the content of its feats.json.
            columns: the `columns()` of such an object, whose tables then are not read.

        Raises:
            DataError: a table is missing, faulty or lacks an utterance.
        """
        self.data_dir = speech.scp_path.parent
        self.speech = speech
        self.keys_by_row = speech.keys_by_row
        self._config, self._made_with = config, made_with
        if columns is None:
            self.num_frames = self._read(NUM_FRAMES, np.int32)
            self._checksums = self._read(CHECKSUMS, np.uint32)
        else:
            self.num_frames, self._checksums = columns["num_frames"], columns["checksum"]

    def columns(self) -> dict[str, np.ndarray]:
        """What was read of the tables: arrays, most of shape (n,) for n utterances."""
        return {**self.speech.columns(), "num_frames": self.num_frames, "checksum": self._checksums}

    def _read(self, name: str, dtype: type[np.int32 | np.uint32]) -> np.ndarray:
        """The whole number of each utterance in a table, (n,)."""
        path, findings = self.data_dir / name, Findings()
        numbers, found = np.zeros(len(self), dtype), np.zeros(len(self), bool)
        for line, utt_id, value in scan_table(path, findings):
            row, number = self.keys_by_row.find(utt_id), parse_whole(value, high=np.iinfo(dtype).max)
            if number is None:
                findings.error(f"{utt_id} {value}; expected a whole number; {_AGAIN}", path, line)
            elif row >= 0:
                numbers[row], found[row] = number, True
        for row in np.flatnonzero(~found).tolist():
            findings.error(f"no line for {self.keys_by_row[row]}, which {self.speech.scp_path.name} has", path)
        findings.raise_errors()
        return numbers

    @cached_property
    def audio(self) -> AudioTable:
        """The audio of the utterances; see `open_audio`, also for its errors."""
        return open_audio(self.data_dir, self._config.sample_rate, self._made_with, self.keys_by_row)

    @cached_property
    def _extractor(self) -> FeatureExtractor:
        return FeatureExtractor(replace(self._config, backend=self._made_with.get("backend", "auto")))

    def num_rows(self, utt_id: str) -> int:
        """The number of frames of an utterance. Raises KeyError if it is missing."""
        return int(self.num_frames[self.keys_by_row.row(utt_id)])

    def __getitem__(self, utt_id: str) -> np.ndarray:
        """Compute the features (T, D) of an utterance.

        Raises:
            KeyError: it is missing.
            DataError: its audio cannot be used or has changed, or another build of asrkit gives other features.
            ConfigError: the backend that extraction used cannot be loaded.
        """
        row = self.keys_by_row.row(utt_id)
        try:
            static = self._extractor(self.audio[utt_id], utt_id)
        except AudioError as error:
            fault = str(error).removeprefix(f"{utt_id}: ")
            raise DataError(f"{self._where}{utt_id}: {fault}; repair the audio, or {_AGAIN}") from None
        if checksum(static) != self._checksums[row]:
            raise DataError(
                f"{self._where}{utt_id}: features of {self.audio.name(utt_id)} are not those that were extracted; its "
                f"audio has changed, or asrkit was built anew; {_AGAIN}"
            )
        return static

    @property
    def _where(self) -> str:
        return location(self.data_dir / "wav.scp")

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_row)

    def __len__(self) -> int:
        return len(self.keys_by_row)

    def __contains__(self, utt_id: object) -> bool:
        return utt_id in self.keys_by_row
