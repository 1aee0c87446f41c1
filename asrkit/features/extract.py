"""Computes static features and CMVN statistics of a whole data directory, one archive per process at a time.

The division of utterances into archives depends only on their number, so the result does not depend on the number of
processes. Each finished archive is recorded in .feats.jobs/. After a killed extraction, the next one computes only the
missing archives.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.audio import AudioAccess, is_pipe
from asrkit.errors import AsrkitError, DataError, expected, raise_if_any
from asrkit.features.backends import backend_class
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import FEATS_STAMP
from asrkit.findings import Findings
from asrkit.formats.segments import parse_segment
from asrkit.io.ark import ArkWriter, name_new_place, names_its_place
from asrkit.io.atomic import recording
from asrkit.io.json_text import read_json, write_json
from asrkit.io.lock import is_there, lock_dir
from asrkit.io.notes import forget
from asrkit.io.numbers import parse_whole
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
_OUTPUTS = ("feats.scp", "feats.json", "cmvn.scp", "cmvn.ark", "utt2num_frames")
_JOBS = ".feats.jobs"


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
    """The utterances of one archive. `inputs` is the fingerprint of everything on which its content depends."""

    number: int
    sources: tuple[_Source, ...]
    inputs: str


class _Extract:
    """Makes the archive of a job, in a worker process. Returns the faults of its audio, one line each."""

    def __init__(self, data_dir: Path, config: FeatureConfig, access: AudioAccess) -> None:
        self.data_dir, self.config, self.access = data_dir, config, access

    @cached_property
    def extractor(self) -> FeatureExtractor:
        return FeatureExtractor(self.config)  # made in the worker process

    def __call__(self, job: _Job) -> list[str]:
        ark, scp = _archive(self.data_dir, job)
        faults: list[str] = []
        num_frames: dict[str, int] = {}
        spk_stats: dict[str, np.ndarray] = {}
        try:
            with recording() as written, ArkWriter(ark, scp) as writer:
                for source, feats in self._all_feats(job.sources):
                    if isinstance(feats, str):
                        faults.append(f"{self.data_dir}: utterance {source.utt_id}: {feats}")
                        continue
                    writer.write(source.utt_id, feats)
                    num_frames[source.utt_id] = len(feats)
                    stats = accumulate(feats)
                    spk_stats[source.spk_id] = spk_stats[source.spk_id] + stats if source.spk_id in spk_stats else stats
                raise_if_any(faults)
        except DataError:
            if not faults:
                raise
            return faults
        record = {"inputs": job.inputs, "num_frames": num_frames}
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
) -> bool:
    """Compute the features of all utterances of `data_dir` and store them there. Returns False if they are up to date.

    Features are up to date if the settings, the tables and the content of the audio are unchanged. The place of the
    audio does not matter. If the directory was moved, the paths in its tables are corrected.

    Reads wav.scp, utt2spk and (if it exists) segments. Reads the audio through `access` and resamples it if necessary.

    Writes feats.N.ark, feats.scp, feats.json (the settings), cmvn.ark, cmvn.scp (statistics by speaker) and
    utt2num_frames. Their bytes do not depend on `num_jobs`, the number of processes. feats.scp is written last, and
    only if no utterance failed. A later call then computes only the missing archives. With `force` everything is
    computed again. The memory needed does not depend on the amount of audio.

    Raises:
        DataError: the tables have faults, or the audio of utterances cannot be used; one line for each.
        ConfigError: the backend cannot be loaded, or lacks a setting.
        AsrkitError: a file cannot be written, or a worker process died.
    """
    data_dir = Path(data_dir)
    extractor = FeatureExtractor(config)
    sources = _read_sources(data_dir, access)
    root = None if access.root is None else os.path.abspath(access.root)
    audio = {"channel": access.channel, "audio_root": root}
    settings = {"backend": extractor.backend, **audio, **config.static_settings()}
    run_again = access.verify and any(is_pipe(source.audio) for source in sources)
    try:
        identities = _identities(data_dir, sources, access, num_jobs)
        jobs = _divide(sources, settings | {"audio_root": None}, identities)  # the place of the audio does not matter
        stamp = Stamp(data_dir / FEATS_STAMP, {"jobs": [job.inputs for job in jobs]})
        if not force and not run_again and stamp.is_current(while_changing=True):
            _settle(data_dir, settings)
            return False
        with lock_dir(data_dir, "extract"), stamp.making(of=_OUTPUTS) as making:
            for name in _OUTPUTS:
                (data_dir / name).unlink(missing_ok=True)
            todo = [job for job in jobs if force or run_again or not _is_done(data_dir, job)]
            _clear(data_dir, kept={job.number for job in jobs} - {job.number for job in todo})
            extract = _Extract(data_dir, replace(config, backend=extractor.backend), access)
            _make_archives(extract, todo, num_jobs, len(sources))
            _join(data_dir, jobs, settings, making)
            shutil.rmtree(data_dir / _JOBS)  # before the stamp is written: up-to-date features have no such directory
    except OSError as error:
        raise expected(error, data_dir) from None
    return True


def _settle(data_dir: Path, settings: dict[str, Any]) -> None:
    """Correct the recorded places of up-to-date features and of their audio, if they were moved.

    If the directory is not writable, the tables stay unchanged: only Kaldi's tools need the paths in them.
    """
    tables = ("feats.scp", "cmvn.scp") if os.access(data_dir, os.W_OK) else ()
    moved = [name for name in tables if not names_its_place(data_dir / name)]
    is_new_root = read_json(data_dir / "feats.json") != settings
    if not moved and not is_new_root and not is_being_changed(data_dir / FEATS_STAMP):
        return
    with lock_dir(data_dir, "extract"), changing(data_dir / FEATS_STAMP, ("feats.scp", "cmvn.scp", "feats.json")):
        for name in moved:
            name_new_place(data_dir / name)
        if is_new_root:
            write_json(data_dir / "feats.json", settings)


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
        kept = f"{len(faults)} of {num_utts} utterances failed; no feats.scp was written"
        faults.append(f"{data_dir}: {kept} (finished archives are kept for the next try)")
    raise_if_any(faults)


def _divide(sources: list[_Source], settings: dict[str, object], identities: Mapping[str, str | None]) -> list[_Job]:
    """Divide the utterances, in order, into jobs of about equal size. Depends only on the number of utterances."""
    num_jobs = min(_MAX_ARCHIVES, -(-len(sources) // _UTTS_PER_ARCHIVE))
    bounds = [len(sources) * number // num_jobs for number in range(num_jobs + 1)]
    jobs = []
    for number, (begin, end) in enumerate(pairwise(bounds), 1):
        digest = hashlib.sha256(fingerprint(settings).encode())
        for source in sources[begin:end]:
            what = astuple(replace(source, audio="")), identities[source.audio]
            digest.update(f"{what}\n".encode("utf-8", "surrogateescape"))
        jobs.append(_Job(number, tuple(sources[begin:end]), digest.hexdigest()))
    return jobs


def _archive(data_dir: Path, job: _Job) -> tuple[Path, Path]:
    """The paths of a job's archive and table."""
    return data_dir / f"feats.{job.number}.ark", data_dir / _JOBS / f"{job.number}.scp"


def _read_record(data_dir: Path, job: _Job) -> Any:
    return read_json(data_dir / _JOBS / f"{job.number}.json")


def _is_done(data_dir: Path, job: _Job) -> bool:
    try:
        record: dict[str, Any] = _read_record(data_dir, job)
        written = {path: Output.parse(record["outputs"][path.name]) for path in _archive(data_dir, job)}
        return record["inputs"] == job.inputs and all(output.is_at(path) for path, output in written.items())
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _clear(data_dir: Path, kept: set[int]) -> None:
    """Remove asrkit's archives and their records, except those with the numbers `kept`."""
    (data_dir / _JOBS).mkdir(exist_ok=True)
    for path in [*data_dir.glob("feats.*.ark"), *(data_dir / _JOBS).iterdir()]:
        number = path.name.removeprefix("feats.").partition(".")[0]
        if path.name.startswith(".") or ((ours := parse_whole(number)) is not None and ours not in kept):
            path.unlink()


def _join(data_dir: Path, jobs: list[_Job], settings: dict[str, object], making: Making) -> None:
    """Write the tables of all archives, from the records of the jobs."""
    feats: dict[str, str] = {}
    num_frames: dict[str, str] = {}
    spk_stats: dict[str, np.ndarray] = {}
    for job in jobs:
        record, (ark, scp) = _read_record(data_dir, job), _archive(data_dir, job)
        making.add({ark: Output.parse(record["outputs"][ark.name])}, scp.with_suffix(".json"))
        for utt_id, place in read_table(scp).items():
            _, _, offset = place.rpartition(":")
            feats[utt_id] = f"{os.path.abspath(ark)}:{offset}"  # the archive may have been made in another place
        num_frames |= {utt_id: str(number) for utt_id, number in record["num_frames"].items()}
        for spk_id, values in record["stats"].items():
            stats = np.array(values)
            spk_stats[spk_id] = spk_stats[spk_id] + stats if spk_id in spk_stats else stats
    write_table(data_dir / "utt2num_frames", num_frames)
    with ArkWriter(data_dir / "cmvn.ark", data_dir / "cmvn.scp") as writer:
        for spk_id in sorted(spk_stats):
            writer.write(spk_id, spk_stats[spk_id])
    write_json(data_dir / "feats.json", settings)
    write_table(data_dir / "feats.scp", feats)


def _read_sources(data_dir: Path, access: AudioAccess) -> list[_Source]:
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
            findings.error(f"{recording} is a pipe; give --allow-pipes if you trust this data", wav_scp)
        else:
            start, end = (None, None) if segment is None else (segment.start, segment.end)
            sources.append(_Source(utt, utt2spk.get(utt, ""), wav[recording], start, end))
    findings.raise_errors()
    if not sources:
        raise DataError(f"{data_dir / 'wav.scp'}: no utterances; made by stage 0 (asrkit prepare)")
    return sources
