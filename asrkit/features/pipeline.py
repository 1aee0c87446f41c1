"""Converts static features to the input of a model when an utterance is read: CMVN, then deltas.

Static features are stored in archives, or computed from the audio (computed.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.errors import ConfigError, DataError, raise_if_any
from asrkit.features.audio_table import AudioTable, open_audio
from asrkit.features.cmvn import NoNormalization, Normalization, check_stats, sum_of
from asrkit.features.computed import NOT_STORED, ComputedFeats
from asrkit.features.config import FeatureConfig
from asrkit.features.full import full_features
from asrkit.findings import Findings
from asrkit.formats.data_dir import SPEECH, feats_table
from asrkit.io.ark import ArkReader, is_own_table
from asrkit.io.columns import Columns
from asrkit.io.json_text import read_json
from asrkit.io.lock import is_there
from asrkit.io.numbers import parse_whole
from asrkit.io.scp import scan_table
from asrkit.io.stamp import Input, Product, digest_notes, expect_right
from asrkit.io.tables import Keys, Numbers

_STEP = "stage 1 (asrkit extract)"
_MADE_BY = f"made by {_STEP}"
FEATS_STAMP = ".feats.stamp"
_NO_LINE = -2  # in place of a speaker


def pooled_stats(data_dir: str | Path, config: FeatureConfig) -> np.ndarray:
    """The CMVN statistics (2, D + 1) over all speakers of a data directory: the global statistics of a training set.

    If the mode of CMVN counts only speech, they are those of its utterances. Otherwise they are read from cmvn.scp.

    Raises DataError if cmvn.scp has statistics of different dimensions or none, and as `check_stats` and
    `FeatureLoader`.
    """
    mode = config.normalization
    if mode.counts_speech:
        feats = FeatureLoader(data_dir, config.with_normalization(NoNormalization()))
        return _checked(sum_of(feats.statistics(utt_id, mode) for utt_id in feats), config.num_static, feats.table)
    path = Path(data_dir) / "cmvn.scp"
    _expect_files([path])
    speakers = _open(path)
    shapes = {speakers.shape(speaker) for speaker in speakers}
    match list(shapes):
        case [(2, width)] if width > 1:
            return _checked(sum_of(np.asarray(stats, np.float64) for stats in speakers.values()), width - 1, path)
        case _:
            found = ", ".join(map(str, sorted(shapes))) or "none"
            raise DataError(f"{path}: statistics of shapes {found}; expected one, (2, dimension + 1); {_MADE_BY}")


def _checked(stats: np.ndarray, dim: int, path: Path) -> np.ndarray:
    """Statistics that come from a file, which is named if they are wrong."""
    try:
        return check_stats(stats, dim)
    except DataError as error:
        raise DataError(f"{path}: {error}; {_MADE_BY}") from None


def feats_input(data_dir: Path) -> Input:
    """The features of a data directory, as an input of another step (see io/stamp.py).

    Features count as the same whether they are stored or computed when they are read.
    """
    stamp = data_dir / FEATS_STAMP
    if not stamp.exists():
        return _ForeignFeats(data_dir)
    return _ComputedFeats(data_dir) if feats_table(data_dir).name == SPEECH else Product(stamp)


@dataclass(frozen=True)
class _ComputedFeats:
    """Features that are computed when they are read. The content of the archives counts that would hold them."""

    data_dir: Path

    def identity(self) -> dict[str, str] | None:
        made = Product(self.data_dir / FEATS_STAMP).identity()
        if made is None:
            return None
        own = {name: digest for name, digest in made.items() if not name.startswith("speech.")}
        return own | dict(read_json(self.data_dir / "feats.json")[NOT_STORED])


@dataclass(frozen=True)
class _ForeignFeats:
    """Features that another tool made. The content of the archives counts, and the places of the arrays in them."""

    data_dir: Path

    def identity(self) -> list[tuple[list[str | None], str]]:
        tables = [path for path in (feats_table(self.data_dir), self.data_dir / "cmvn.scp") if path.exists()]
        readers, notes = [ArkReader(path) for path in tables], digest_notes(self.data_dir, "feats")
        found = [([notes.of(archive) for archive in reader.archives], _digest(reader)) for reader in readers]
        notes.save()
        return found


def _digest(reader: ArkReader) -> str:
    digest = hashlib.sha256()
    for place in reader.places():
        digest.update(f"{place}\n".encode())
    return digest.hexdigest()


def _open(scp: Path, columns: Columns | None = None) -> ArkReader:
    """Open a table of features or statistics. If `asrkit extract` made it, its archives are in its directory."""
    return ArkReader(scp, is_beside=is_own_table(scp, scp.with_name(FEATS_STAMP)), columns=columns)


class FeatureLoader(Mapping[str, np.ndarray]):
    """The full features of a data directory by utterance id: (T, dim) float32, made on demand.

    Static features are read from archives, or computed from the audio if there are none (`are_computed`). `table` lists
    the utterances: feats.scp or speech.scp.

    `global_stats` (2, D + 1) are the `pooled_stats` of the training set, even if this is another set. Some modes of
    CMVN need them. The memory needed does not depend on the amount of audio. The object can be sent to another process.

    `speakers` (n,) int32: with CMVN per speaker, the speaker of each utterance as a number, in the order of `utt_ids`.

    `columns` are the `columns()` of a loader of this directory with these settings, whose tables then are not read.

    Raises:
        DataError: a file is missing, empty or damaged; asrkit made the features with other settings; an utterance has
            no speaker, or a speaker has no statistics. (Features of other tools do not say their settings.)
        ConfigError: the mode of CMVN needs `global_stats`, and they are None.
    """

    def __init__(
        self,
        data_dir: str | Path,
        config: FeatureConfig,
        global_stats: np.ndarray | None = None,
        columns: Columns | None = None,
    ) -> None:
        self.data_dir = Path(data_dir)
        self.config = config
        self.global_stats = global_stats
        mode = config.normalization
        if mode.takes_global_stats and global_stats is None:
            raise ConfigError(
                f"features.cmvn: {config.cmvn!r} without statistics; expected the training set's pooled_stats"
            )
        self.table = feats_table(self.data_dir)
        self.are_computed = self.table.name == SPEECH
        names = [self.table.name] + (["cmvn.scp"] if mode.per_speaker and not mode.counts_speech else [])
        if columns is None:
            _expect_files([self.data_dir / name for name in names])
            expect_right(self.data_dir / FEATS_STAMP, _STEP)
        stored = _open(self.table, columns)
        if not stored:
            raise DataError(f"{self.table}: no utterances; {_MADE_BY}")
        self.made_with = _read_settings(self.data_dir / "feats.json", config)
        self._feats: ArkReader | ComputedFeats = stored
        self._num_frames = None if columns is None else columns["num_frames"]
        if self.are_computed:
            self._feats = ComputedFeats(stored, config, self.made_with or {}, columns)
            self._num_frames = self._feats.num_frames
        self._cmvn: ArkReader | None = None
        self._speech: dict[int, np.ndarray] = {}  # speaker -> statistics of the speech, computed on demand
        if "cmvn.scp" in names:
            self._cmvn = _open(self.data_dir / "cmvn.scp")
        if mode.per_speaker and columns is not None:
            self.speakers = columns["speaker"]
        elif mode.per_speaker:
            self._read_speakers(None if self._cmvn is None else self._cmvn.keys_by_row)

    def columns(self) -> dict[str, np.ndarray]:
        """What was read of the tables: arrays, most of shape (n,) for n utterances."""
        columns = {**self._feats.columns(), "num_frames": self.all_num_frames().values_by_row}
        return {**columns, "speaker": self.speakers} if self.config.normalization.per_speaker else columns

    def _read_speakers(self, with_stats: Keys | None) -> None:
        """Fill `speakers`: with the speaker's row in cmvn.scp, which has the keys `with_stats`; None: with any number.

        Raises DataError if an utterance has no speaker, or a speaker lacks the statistics that are needed.
        """
        self.speakers = np.full(len(self), _NO_LINE, np.int32)
        findings = Findings()
        numbers: dict[str, int] = {}
        missing: set[str] = set()
        for _, utt_id, spk_id in scan_table(self.data_dir / "utt2spk", findings):
            row = self.utt_ids.find(utt_id)
            if row >= 0:
                speaker = numbers.setdefault(spk_id, len(numbers)) if with_stats is None else with_stats.find(spk_id)
                self.speakers[row] = speaker
                if speaker < 0:
                    missing.add(spk_id)
        again = "repeat stage 1 (asrkit extract)"
        for row in np.flatnonzero(self.speakers == _NO_LINE).tolist():
            findings.error(
                f"no line for {self.utt_ids[row]}, which {self.table.name} has; {again}", self.data_dir / "utt2spk"
            )
        for spk in sorted(missing):
            findings.error(f"no line for speaker {spk}; {again}", self.data_dir / "cmvn.scp")
        findings.raise_errors()

    @property
    def utt_ids(self) -> Keys:
        """The utterance ids, in the order of `table`."""
        return self._feats.keys_by_row

    def __getitem__(self, utt_id: str) -> np.ndarray:
        return full_features(self.static(utt_id), self.stats(utt_id), self.config)

    def static(self, utt_id: str) -> np.ndarray:
        """The static features (T, num_static) of an utterance.

        Raises KeyError if it is missing, and DataError if the archive is damaged or the dimension differs from the
        settings; where they are computed, as `ComputedFeats`.
        """
        static = self._feats[utt_id]
        if static.ndim != 2 or static.shape[1] != self.config.num_static:
            raise DataError(
                f"{self.table}: {utt_id} has shape {static.shape}; expected {self.config.num_static} "
                f"columns as the feature settings say; repeat stage 1 (asrkit extract)"
            )
        return static

    def statistics(self, utt_id: str, mode: Normalization) -> np.ndarray:
        """The statistics (2, D + 1) of the frames of an utterance that count in `mode`.

        Those of speech are stored where features are not. Raises DataError if these are faulty, and as `static`.
        """
        if not (mode.counts_speech and isinstance(self._feats, ComputedFeats)):
            return mode.statistics(self.static(utt_id))
        stats, expected = self._feats.speech[utt_id], (2, self.config.num_static + 1)
        if stats.shape != expected:
            raise DataError(f"{self.table}: {utt_id} has shape {stats.shape}; expected {expected}; {_MADE_BY}")
        return stats

    def open_audio(self) -> AudioTable:
        """The audio of the utterances, as asrkit extract read it. Raises DataError as `open_audio`."""
        if isinstance(self._feats, ComputedFeats):
            return self._feats.audio
        return open_audio(self.data_dir, self.config.sample_rate, self.made_with or {}, self.utt_ids)

    def stats(self, utt_id: str) -> np.ndarray | None:
        """The CMVN statistics (2, D + 1) for an utterance: of its speaker or global; None if none are needed.

        Raises DataError as `check_stats`.
        """
        mode = self.config.normalization
        if not mode.per_speaker:
            return self.global_stats if mode.takes_global_stats else None
        speaker = int(self.speakers[self.utt_ids.row(utt_id)])
        if self._cmvn is not None:
            stats = self._cmvn[self._cmvn.keys_by_row[speaker]]
            return _checked(stats, self.config.num_static, self._cmvn.scp_path)
        if speaker not in self._speech:
            utt_ids = [self.utt_ids[row] for row in np.flatnonzero(self.speakers == speaker).tolist()]
            self._speech[speaker] = self.filled(sum_of(self.statistics(each, mode) for each in utt_ids))
        return self._speech[speaker]

    def filled(self, stats: np.ndarray) -> np.ndarray:
        """The statistics `stats` (2, D + 1) of a speaker, completed if they have few frames: (2, D + 1).

        See `Normalization.filled`.
        """
        return stats if self.global_stats is None else self.config.normalization.filled(stats, self.global_stats)

    def __len__(self) -> int:
        return len(self._feats)

    def __iter__(self) -> Iterator[str]:
        return iter(self._feats)

    def __contains__(self, utt_id: object) -> bool:
        return utt_id in self._feats

    def num_frames(self, utt_id: str) -> int:
        """The number of frames of an utterance, without reading its features. Raises KeyError if it is missing."""
        return self._feats.num_rows(utt_id)

    def all_num_frames(self) -> Numbers:
        """The number of frames of each utterance: from utt2num_frames, or else from the headers in the archives."""
        if self._num_frames is not None:
            return Numbers(self.utt_ids, self._num_frames)
        counts = np.full(len(self), -1, np.int32)
        noted = self.data_dir / "utt2num_frames"
        if self.made_with is not None and noted.is_file():
            for _, utt_id, value in scan_table(noted, Findings()):
                row = self.utt_ids.find(utt_id)
                number = parse_whole(value, high=np.iinfo(np.int32).max)
                if row >= 0 and number is not None:
                    counts[row] = number
        for row in np.flatnonzero(counts < 0).tolist():
            counts[row] = self.num_frames(self.utt_ids[row])
        return Numbers(self.utt_ids, counts)


def differing_settings(made_with: Mapping[str, Any], config: FeatureConfig) -> dict[str, Any]:
    """The settings of static features in `config` that differ from `made_with`, the content of feats.json."""
    return {name: value for name, value in config.static_settings().items() if made_with.get(name) != value}


def _expect_files(paths: list[Path]) -> None:
    raise_if_any([f"{path}: not found; {_MADE_BY}" for path in paths if not is_there(path)])


def _read_settings(path: Path, config: FeatureConfig) -> dict[str, Any] | None:
    """The settings in feats.json (None without the file). Raises DataError if they differ from `config`."""
    try:
        made_with = dict(read_json(path))
    except FileNotFoundError:
        return None  # another tool made the features
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: cannot be read ({error}); repeat stage 1 (asrkit extract)") from None
    raise_if_any(
        [
            f"{path}: features were made with {name} {made_with.get(name)!r}; expected {value!r} as the feature "
            f"settings say; repeat stage 1 (asrkit extract) with them"
            for name, value in differing_settings(made_with, config).items()
        ]
    )
    return made_with
