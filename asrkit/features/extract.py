"""Computes static features and CMVN statistics of a whole data directory, one archive per process at a time.

The division of utterances into archives depends only on their number, so the result does not depend on the number of
processes. Each finished archive is recorded in .feats.jobs/. After a killed extraction, the next one computes only the
missing archives.

Features need not be stored (computed.py). Then archives hold the statistics of each utterance's speech in their place,
and all else is the same.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.audio import AudioAccess, is_pipe
from asrkit.errors import AsrkitError, ConfigError, DataError, expected, raise_if_any
from asrkit.features.backends import backend_class, names_of_backends
from asrkit.features.cmvn import Normalization, SpeechUtterance, accumulate
from asrkit.features.computed import CHECKSUMS, NOT_STORED, NUM_FRAMES, checksum
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import FEATS_STAMP
from asrkit.findings import Findings
from asrkit.formats.data_dir import FEATS, SPEECH
from asrkit.formats.segments import parse_segment
from asrkit.io.ark import ArkDigest, ArkWriter, name_new_place, names_its_place
from asrkit.io.atomic import recording
from asrkit.io.json_text import read_json, write_json
from asrkit.io.lock import is_there, lock_dir
from asrkit.io.notes import forget
from asrkit.io.scp import read_table, write_table
from asrkit.io.stamp import (
    AUDIO,
    Making,
    Output,
    Stamp,
    changing,
    digest_notes,
    fingerprint,
    is_being_changed,
    name_of,
)
from asrkit.parallel import map_in_threads, map_ordered
from asrkit.types import Waveform

_UTTS_PER_ARCHIVE = 50  # at most, up to _MAX_ARCHIVES archives; larger sets have more per archive
_MAX_ARCHIVES = 64
_OUTPUTS = (FEATS, SPEECH, "feats.json", "cmvn.scp", "cmvn.ark", NUM_FRAMES, CHECKSUMS)
_JOBS = ".feats.jobs"
_ARCHIVE = re.compile(r"(feats|speech)\.[0-9]+\.ark")


@dataclass(frozen=True, slots=True)
class _Source:
    """The audio of an utterance: an entry of wav.scp, and start and end in it, in seconds (None: all of it)."""

    utt_id: str
    spk_id: str
    audio: str
    start: float | None
    end: float | None


@dataclass(frozen=True, slots=True)
class _Job:
    """The utterances of one archive.

    Attributes:
        number: the number of the archive, from 1.
        sources: the utterances.
        inputs: the fingerprint of everything on which the content of the archive depends.
        table: the name of the table that will list its utterances: FEATS, or SPEECH if features are not stored.
    """

    number: int
    sources: tuple[_Source, ...]
    inputs: str
    table: str

    @property
    def stores(self) -> bool:
        """Whether the archive holds features."""
        return self.table == FEATS


class _Extract:
    """Makes the archive of a job, in a worker process. Returns the faults of its audio, one line each."""

    def __init__(self, data_dir: Path, config: FeatureConfig, access: AudioAccess) -> None:
        self.data_dir, self.config, self.access = data_dir, config, access

    @cached_property
    def extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self.config)  # made in the worker process

    @cached_property
    def speech(self) -> Normalization:
        """A mode of CMVN that counts the speech of an utterance."""
        return SpeechUtterance(level=self.config.normalization.level)

    def __call__(self, job: _Job) -> list[str]:
        ark, scp = _archive(self.data_dir, job)
        faults: list[str] = []
        num_frames: dict[str, int] = {}
        checksums: dict[str, int] = {}
        spk_stats: dict[str, np.ndarray] = {}
        not_stored = ArkDigest()
        try:
            with recording() as written, ArkWriter(ark, scp) as writer:
                for source, feats in self._all_feats(job.sources):
                    if isinstance(feats, str):
                        faults.append(f"{self.data_dir}: utterance {source.utt_id}: {feats}")
                        continue
                    if job.stores:
                        writer.write(source.utt_id, feats)
                    else:
                        writer.write(source.utt_id, self.speech.statistics(feats))
                        not_stored.write(source.utt_id, feats)
                        checksums[source.utt_id] = checksum(feats)
                    num_frames[source.utt_id] = len(feats)
                    stats = accumulate(feats)
                    spk_stats[source.spk_id] = spk_stats[source.spk_id] + stats if source.spk_id in spk_stats else stats
                raise_if_any(faults)
        except DataError:
            if not faults:
                raise
            return faults
        record = {"inputs": job.inputs, "num_frames": num_frames}
        if not job.stores:
            record |= {"checksums": checksums, "not_stored": {f"feats.{job.number}.ark": not_stored.sha256()}}
        record["stats"] = {spk_id: stats.tolist() for spk_id, stats in spk_stats.items()}  # repr of a float is exact
        record["outputs"] = {path.name: Output.of(path, each).to_json() for path, each in written.items()}
        write_json(scp.with_suffix(".json"), record)
        return faults

    def _all_feats(self, sources: tuple[_Source, ...]) -> Iterator[tuple[_Source, np.ndarray | str]]:
        size = self.extractor.batch_size
        for begin in range(0, len(sources), size):
            batch = sources[begin : begin + size]
            waveforms = [self._load(source) for source in batch]
            yield from zip(batch, self._compute(batch, waveforms), strict=True)

    def _load(self, source: _Source) -> Waveform | str:
        try:
            return self.access.load(
                source.audio, sample_rate=self.config.sample_rate, start=source.start, end=source.end
            )
        except Exception as error:
            return _one_line(expected(error), source)

    def _compute(self, batch: tuple[_Source, ...], waveforms: list[Waveform | str]) -> list[np.ndarray | str]:
        """For each utterance its features (T, D), or its fault. A text in `waveforms` is the fault of loading."""
        loaded = [
            (source, waveform)
            for source, waveform in zip(batch, waveforms, strict=True)
            if isinstance(waveform, Waveform)
        ]
        results = iter(self._compute_loaded(loaded))
        return [waveform if isinstance(waveform, str) else next(results) for waveform in waveforms]

    def _compute_loaded(self, loaded: list[tuple[_Source, Waveform]]) -> list[np.ndarray | str]:
        try:
            return [
                *self.extractor.batch([waveform for _, waveform in loaded], [source.utt_id for source, _ in loaded])
            ]
        except Exception as error:
            expected(error)  # compute one by one, to find the faulty utterance
            return [self._compute_one(source, waveform) for source, waveform in loaded]

    def _compute_one(self, source: _Source, waveform: Waveform) -> np.ndarray | str:
        try:
            return self.extractor(waveform, source.utt_id)
        except Exception as error:
            return _one_line(expected(error), source)


def _one_line(error: AsrkitError, source: _Source) -> str:
    return str(error).removeprefix(f"{source.utt_id}: ").replace("\n", "; ")


def extract_data_dir(
    data_dir: str | Path,
    config: FeatureConfig,
    *,
    num_jobs: int,
    access: AudioAccess = AudioAccess(),
    force: bool = False,
    archives: bool = True,
) -> bool:
    """Compute the features of all utterances of `data_dir` and store them there. Returns False if they are up to date.

    Features are up to date if the settings, the tables and the content of the audio are unchanged. The place of the
    audio does not matter. If the directory was moved, the paths in its tables are corrected.

    Reads wav.scp, utt2spk and (if it exists) segments. Reads the audio through `access` and resamples it if necessary.

    Writes feats.N.ark, feats.scp, feats.json (the settings), cmvn.ark, cmvn.scp (statistics by speaker) and
    utt2num_frames. Their bytes do not depend on `num_jobs`, the number of processes. feats.scp is written last, and
    only if no utterance failed. A later call then computes only the missing archives. With `force` everything is
    computed again. The memory needed does not depend on the amount of audio.

    Without `archives`, features are not stored but computed whenever they are read, to the same bits. Then speech.N.ark
    and speech.scp (the statistics of each utterance's speech) take the place of feats.N.ark and feats.scp, utt2crc has
    checksums of the features, and feats.json the digests of the archives that are not there.

    Raises:
        DataError: the tables have faults, or the audio of utterances cannot be used; one line for each. Without
            `archives`, a command in wav.scp is a fault.
        ConfigError: the backend cannot be loaded, or lacks a setting, or needs `archives`.
        AsrkitError: a file cannot be written, or a worker process died.
    """
    data_dir = Path(data_dir)
    extractor = FeatureExtractor(config)
    if not archives and backend_class(config.backend).varies_with_threads:
        expected_ones = names_of_backends(lambda backend: not backend.varies_with_threads)
        raise ConfigError(
            f"features.backend: the last digits of {extractor.backend} vary with the number of threads, so its "
            f"features have to be stored; leave --no-archives out, or choose {expected_ones}"
        )
    sources = _read_sources(data_dir, access if archives else replace(access, allow_pipes=False), archives)
    root = None if access.root is None else os.path.abspath(access.root)
    audio = {"channel": access.channel, "audio_root": root}
    settings = {"backend": extractor.backend, **audio, **config.static_settings()}
    run_again = access.verify and any(is_pipe(source.audio) for source in sources)
    try:
        identities = _identities(data_dir, sources, access, num_jobs)
        # The place of the audio does not matter.
        jobs = _divide(sources, settings | {"audio_root": None}, identities, FEATS if archives else SPEECH)
        stored = {} if archives else {"stored": False}
        stamp = Stamp(data_dir / FEATS_STAMP, {"jobs": [job.inputs for job in jobs], **stored})
        if not force and not run_again and stamp.is_current(while_changing=True):
            _settle(data_dir, jobs[0].table, settings)
            return False
        with lock_dir(data_dir, "extract"), stamp.making(of=_OUTPUTS) as making:
            for name in _OUTPUTS:
                (data_dir / name).unlink(missing_ok=True)
            todo = [job for job in jobs if force or run_again or not _is_done(data_dir, job)]
            _clear(data_dir, kept=[job for job in jobs if job not in todo])
            extract = _Extract(data_dir, replace(config, backend=extractor.backend), access)
            _make_archives(extract, todo, num_jobs, len(sources))
            _join(data_dir, jobs, settings, making)
            shutil.rmtree(data_dir / _JOBS)  # before the stamp is written: up-to-date features have no such directory
    except OSError as error:
        raise expected(error, data_dir) from None
    return True


def _settle(data_dir: Path, table: str, settings: dict[str, Any]) -> None:
    """Correct the recorded places of up-to-date features and of their audio, if they were moved.

    `table` is the name of the table that lists the utterances.
    If the directory is not writable, the tables stay unchanged: only Kaldi's tools need the paths in them.
    """
    tables = (table, "cmvn.scp") if os.access(data_dir, os.W_OK) else ()
    moved = [name for name in tables if not names_its_place(data_dir / name)]
    recorded = dict(read_json(data_dir / "feats.json"))
    is_new_root = recorded != recorded | settings
    if not moved and not is_new_root and not is_being_changed(data_dir / FEATS_STAMP):
        return
    with lock_dir(data_dir, "extract"), changing(data_dir / FEATS_STAMP, (table, "cmvn.scp", "feats.json")):
        for name in moved:
            name_new_place(data_dir / name)
        if is_new_root:
            write_json(data_dir / "feats.json", recorded | settings)


def _identities(data_dir: Path, sources: list[_Source], access: AudioAccess, num_jobs: int) -> dict[str, str | None]:
    """The identity of each entry of wav.scp: the digest of a file (None if missing), or the text of a command."""
    entries = dict.fromkeys(source.audio for source in sources)
    files = {entry: access.path(entry) for entry in entries if not is_pipe(entry)}
    if access.verify:
        forget(data_dir, AUDIO, name_of(data_dir / FEATS_STAMP))
    notes = digest_notes(data_dir, AUDIO)
    notes.find_all(files.values(), lambda find, new: map_in_threads(find, new, num_jobs))
    notes.save()
    return {entry: notes.of(files[entry]) if entry in files else entry for entry in entries}


def _make_archives(extract: _Extract, jobs: list[_Job], num_jobs: int, num_utts: int) -> None:
    """Make the archives of `jobs`. Raises DataError with all faults of their audio.

    `num_utts` is the number of utterances in all archives.
    """
    data_dir, isolate = extract.data_dir, backend_class(extract.config.backend).varies_with_threads
    description = f"extract {data_dir}, archives"
    results = map_ordered(extract, jobs, num_jobs, description=description, chunk_size=1, isolate=isolate)
    faults = [fault for job_faults in results for fault in job_faults]
    if faults:
        kept = f"{len(faults)} of {num_utts} utterances failed; no {jobs[0].table} was written"
        faults.append(f"{data_dir}: {kept} (finished archives are kept for the next try)")
    raise_if_any(faults)


def _divide(
    sources: list[_Source], settings: dict[str, object], identities: Mapping[str, str | None], table: str
) -> list[_Job]:
    """Divide the utterances, in order, into jobs of about equal size. Depends only on the number of utterances."""
    num_jobs = min(_MAX_ARCHIVES, -(-len(sources) // _UTTS_PER_ARCHIVE))
    bounds = [len(sources) * number // num_jobs for number in range(num_jobs + 1)]
    jobs = []
    for number, (begin, end) in enumerate(pairwise(bounds), 1):
        digest = hashlib.sha256(fingerprint(settings).encode())
        for source in sources[begin:end]:
            what = astuple(replace(source, audio="")), identities[source.audio]
            digest.update(f"{what}\n".encode("utf-8", "surrogateescape"))
        jobs.append(_Job(number, tuple(sources[begin:end]), digest.hexdigest(), table))
    return jobs


def _archive(data_dir: Path, job: _Job) -> tuple[Path, Path]:
    """The paths of a job's archive and table."""
    stem = job.table.removesuffix(".scp")
    return data_dir / f"{stem}.{job.number}.ark", data_dir / _JOBS / f"{job.number}.scp"


def _read_record(data_dir: Path, job: _Job) -> Any:
    return read_json(data_dir / _JOBS / f"{job.number}.json")


def _is_done(data_dir: Path, job: _Job) -> bool:
    try:
        record: dict[str, Any] = _read_record(data_dir, job)
        written = {path: Output.parse(record["outputs"][path.name]) for path in _archive(data_dir, job)}
        return record["inputs"] == job.inputs and all(output.is_at(path) for path, output in written.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _clear(data_dir: Path, kept: list[_Job]) -> None:
    """Remove asrkit's archives and their records, except those of the jobs `kept`."""
    (data_dir / _JOBS).mkdir(exist_ok=True)
    keep = {path for job in kept for archive, scp in [_archive(data_dir, job)] for path in (archive, scp)}
    keep |= {path.with_suffix(".json") for path in keep if path.suffix == ".scp"}
    archives = [path for path in data_dir.glob("*.ark") if _ARCHIVE.fullmatch(path.name)]
    for path in [*archives, *(data_dir / _JOBS).iterdir()]:
        if path not in keep:
            path.unlink()


def _join(data_dir: Path, jobs: list[_Job], settings: dict[str, object], making: Making) -> None:
    """Write the tables of all archives, from the records of the jobs."""
    places: dict[str, str] = {}
    num_frames: dict[str, str] = {}
    checksums: dict[str, str] = {}
    not_stored: dict[str, str] = {}
    spk_stats: dict[str, np.ndarray] = {}
    for job in jobs:
        record, (ark, scp) = _read_record(data_dir, job), _archive(data_dir, job)
        making.add({ark: Output.parse(record["outputs"][ark.name])}, scp.with_suffix(".json"))
        for utt_id, place in read_table(scp).items():
            _, _, offset = place.rpartition(":")
            places[utt_id] = f"{os.path.abspath(ark)}:{offset}"  # the archive may have been made in another place
        num_frames |= {utt_id: str(number) for utt_id, number in record["num_frames"].items()}
        if not job.stores:
            checksums |= {utt_id: str(number) for utt_id, number in record["checksums"].items()}
            not_stored |= record["not_stored"]
        for spk_id, values in record["stats"].items():
            stats = np.array(values)
            spk_stats[spk_id] = spk_stats[spk_id] + stats if spk_id in spk_stats else stats
    write_table(data_dir / NUM_FRAMES, num_frames)
    if checksums:
        write_table(data_dir / CHECKSUMS, checksums)
    with ArkWriter(data_dir / "cmvn.ark", data_dir / "cmvn.scp") as writer:
        for spk_id in sorted(spk_stats):
            writer.write(spk_id, spk_stats[spk_id])
    write_json(data_dir / "feats.json", settings | ({NOT_STORED: not_stored} if not_stored else {}))
    write_table(data_dir / jobs[0].table, places)


def _read_sources(data_dir: Path, access: AudioAccess, archives: bool) -> list[_Source]:
    """The utterances of a data directory, sorted. Raises DataError with all faults of wav.scp, utt2spk and segments."""
    findings = Findings()
    wav_scp, utt2spk_table, segments = (data_dir / name for name in ("wav.scp", "utt2spk", "segments"))
    for table in (wav_scp, utt2spk_table):
        if not is_there(table):
            findings.error("not found; made by stage 0 (asrkit prepare)", table)
    findings.raise_errors()
    wav, utt2spk = read_table(wav_scp), read_table(utt2spk_table)
    cuts = read_table(segments) if segments.is_file() else None
    listed, path = (wav, wav_scp) if cuts is None else (cuts, segments)
    for utt in utt2spk:
        if utt not in listed:
            findings.error(f"no line for {utt}, which utt2spk has", path)
    for utt in listed:
        if utt not in utt2spk:
            findings.error(f"no line for {utt}, which {path.name} has", utt2spk_table)
    sources = []
    for utt in sorted(listed):
        segment = None if cuts is None else parse_segment(cuts[utt])
        recording = utt if segment is None else segment.recording
        if cuts is not None and segment is None:
            findings.error(f"{utt} {cuts[utt]}; expected `recording start end` in seconds", segments)
        elif recording not in wav:
            findings.error(f"no line for recording {recording} of {utt}", wav_scp)
        elif not access.may_read(wav[recording]):
            remedy = "give --allow-pipes if you trust this data"
            if not archives:
                remedy = "write its audio to a file, or leave --no-archives out"
            findings.error(f"{recording} is a pipe; {remedy}", wav_scp)
        else:
            start, end = (None, None) if segment is None else (segment.start, segment.end)
            sources.append(_Source(utt, utt2spk.get(utt, ""), wav[recording], start, end))
    findings.raise_errors()
    if not sources:
        raise DataError(f"{data_dir / 'wav.scp'}: no utterances; made by stage 0 (asrkit prepare)")
    return sources
