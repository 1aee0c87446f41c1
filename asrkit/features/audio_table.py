"""The audio of the utterances of a data directory, from wav.scp and segments, which are read line by line."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.audio import AudioAccess, audio_info, is_pipe
from asrkit.errors import DataError, location, printable
from asrkit.findings import Findings
from asrkit.formats.segments import parse_segment
from asrkit.io.ark import ArkReader, ArkWriter
from asrkit.io.files import open_file
from asrkit.io.lock import lock_file
from asrkit.io.stamp import AUDIO, File, Stamp, digest_notes
from asrkit.io.tables import LazyTable
from asrkit.parallel import map_ordered
from asrkit.types import Waveform


def open_audio(data_dir: Path, sample_rate: int, made_with: Mapping[str, Any], utt_ids: Iterable[str]) -> AudioTable:
    """The audio from which features were extracted, at `sample_rate` (Hz).

    `made_with` is the content of feats.json. Raises DataError as `AudioTable.check`, or if `made_with` is faulty.
    """
    root, channel = made_with.get("audio_root"), made_with.get("channel", "error")
    if not isinstance(root, str | None) or not (channel in ("error", "mix") or isinstance(channel, int)):
        raise DataError(
            f"{location(data_dir / 'feats.json')}audio_root {root!r}, channel {channel!r}; expected a directory or "
            "null, and mix, error or a number; repeat stage 1 (asrkit extract)"
        )
    audio = AudioTable(data_dir, sample_rate, AudioAccess(Path(root) if root else None, channel=channel))
    audio.check(utt_ids)
    return audio


class AudioTable:
    """Waveforms of utterances by id. It keeps a few tens of bytes per utterance, and can be pickled."""

    def __init__(self, data_dir: str | Path, sample_rate: int, audio: AudioAccess = AudioAccess()) -> None:
        """Open the tables of a data directory. `sample_rate` of the waveforms is in Hz.

        Raises:
            DataError: a table is missing or faulty.
        """
        self.data_dir = Path(data_dir)
        self._sample_rate, self._audio = sample_rate, audio
        self._wav = LazyTable(self.data_dir / "wav.scp")
        segments = self.data_dir / "segments"
        self._segments = LazyTable(segments) if segments.is_file() else None
        self._decoded: ArkReader | None = None

    def check(self, utt_ids: Iterable[str]) -> None:
        """Check that all of `utt_ids` have their lines, and that all audio is in files. No audio is decoded.

        Raises:
            DataError: it is not so; one line for each fault.
        """
        wav_scp, segments = self.data_dir / "wav.scp", self.data_dir / "segments"
        listed, path = (self._wav, wav_scp) if self._segments is None else (self._segments, segments)
        findings = Findings()
        for utt_id in utt_ids:
            if utt_id not in listed:
                findings.error(f"no line for {utt_id}", path)
        for utt_id, row in self._segments.rows() if self._segments is not None else ():
            segment = parse_segment(row)
            if segment is None:
                findings.error(f"{utt_id} {row}; expected `recording start end` in seconds", segments)
            elif segment.recording not in self._wav:
                findings.error(f"no line for recording {segment.recording} of {utt_id}", wav_scp)
        for recording, entry in self._wav.rows():
            if is_pipe(entry):
                findings.error(f"{recording} is a pipe; to compute with it, write its audio to a file", wav_scp)
            elif not os.path.isfile(self._audio.path(entry)):
                findings.error(f"{recording}: {entry}: no such file; bring it back, or correct its path", wav_scp)
        findings.raise_errors()

    def decode_once(self, utt_ids: Sequence[str]) -> None:
        """Decode audio that takes long to decode only once, and store it in `.audio.ark` of the data directory.

        Later reads come from there. WAV and SPHERE files at the right sampling rate are not stored. The archive takes 4
        bytes per sample. An up-to-date archive is used again.
        """
        first = next(entry for _, entry in self._wav.rows())
        if _is_quick(self._audio.path(first), self._sample_rate):
            return
        ark, scp = (self.data_dir / f".audio.{ending}" for ending in ("ark", "scp"))
        notes = digest_notes(self.data_dir, AUDIO)
        inputs = {
            "options": {"sample_rate": self._sample_rate, "channel": self._audio.channel},
            "segments": File(self.data_dir / "segments"),
            "audio": [(recording, notes.of(self._audio.path(entry))) for recording, entry in self._wav.rows()],
        }
        notes.save()
        stamp = Stamp(self.data_dir / ".audio.stamp", inputs)
        if not stamp.is_current():
            with lock_file(ark, "train", wait=True):  # only one of several trainings on the same data decodes it
                if not stamp.is_current():
                    with stamp.making():
                        self._decode(utt_ids, ark, scp)
        self._decoded = ArkReader(scp, is_beside=True)

    def _decode(self, utt_ids: Sequence[str], ark: Path, scp: Path) -> None:
        num_jobs = len(os.sched_getaffinity(0))
        decoded = map_ordered(self._samples, utt_ids, num_jobs, description=f"decode audio of {self.data_dir}")
        with ArkWriter(ark, scp) as writer:
            for utt_id, samples in zip(utt_ids, decoded, strict=True):
                writer.write(utt_id, samples)

    def _samples(self, utt_id: str) -> np.ndarray:
        return self[utt_id].samples

    def __getitem__(self, utt_id: str) -> Waveform:
        """Decode an utterance.

        Raises:
            KeyError: there is no such utterance.
            AudioError: as `AudioAccess.load`.
            DataError: its segment is faulty.
        """
        if self._decoded is not None:
            return Waveform(np.require(self._decoded[utt_id], np.float32, ("C", "A")), self._sample_rate)
        recording, start, end = self._place(utt_id)
        return self._audio.load(self._wav[recording], sample_rate=self._sample_rate, start=start, end=end)

    def name(self, utt_id: str) -> str:
        """The file that has the audio of an utterance, for messages. Raises KeyError and DataError as `[utt_id]`."""
        return printable(self._audio.path(self._wav[self._place(utt_id)[0]]))

    def _place(self, utt_id: str) -> tuple[str, float | None, float | None]:
        """The recording that holds an utterance, and its start and end there in seconds (None: all of it)."""
        if self._segments is None:
            return utt_id, None, None
        segment = parse_segment(self._segments[utt_id])
        if segment is None:
            raise DataError(f"{location(self._segments.path)}{utt_id}: expected `recording start end` in seconds")
        return segment


def _is_quick(path: str, sample_rate: int) -> bool:
    """Whether an audio file can be read about as quickly as an archive."""
    with open_file(path) as stream:
        head = stream.read(4)
    return head in (b"RIFF", b"NIST") and audio_info(path)[1] == sample_rate
