"""Reads audio files of many formats as mono waveforms on the int16 scale, as in Kaldi.

libsndfile (through soundfile) decodes WAV, FLAC, Ogg Vorbis, Opus, MP3 and more. wav.py reads plain WAV files, and
sphere.py reads NIST SPHERE. soxr changes the sampling rate. libsndfile does not notice when a file is truncated or when
two files are joined. So each format has a module that finds out how many samples a file must hold. Either all of them
are decoded, or the file is refused.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, BinaryIO, Literal, NamedTuple

import numpy as np

from asrkit.audio.au import checked_au
from asrkit.audio.chunks import check_within, checked_chunks, mpeg_place
from asrkit.audio.file_formats import (
    AIFF,
    AU,
    CAF,
    FLAC,
    HEAD_BYTES,
    MPEG,
    OGG,
    SPHERE,
    SVX,
    VOC,
    W64,
    WAV,
    identify,
    not_read,
)
from asrkit.audio.mp3 import mp3_source
from asrkit.audio.ogg import ogg_source
from asrkit.audio.pieces import Pieces
from asrkit.audio.resample import resample, resample_blocks
from asrkit.audio.sndfile import open_sndfile, sndfile_source
from asrkit.audio.source import Source, check_rate, no_samples
from asrkit.audio.sphere import sphere_source
from asrkit.audio.tags import tag_bytes
from asrkit.audio.voc import voc_as_wav
from asrkit.audio.wav import plain_wav
from asrkit.errors import AudioError, location, printable
from asrkit.io.files import NamedFile, open_file, writer
from asrkit.types import Waveform

Channel = int | Literal["error", "mix"]
Watch = Callable[[float], None]

# In seconds. Times in tables are rounded, often to 10 ms. An end at most this long after the audio means its end.
END_TOLERANCE = 0.01


class AudioInfo(NamedTuple):
    """The content of an audio file's header. `num_samples` is per channel, `sample_rate` in Hz."""

    num_samples: int
    sample_rate: int
    num_channels: int

    @property
    def duration(self) -> float:
        """Length in seconds."""
        return self.num_samples / self.sample_rate


class AudioStream:
    """Audio that is decoded in blocks; see `open_audio`.

    `sample_rate` (Hz) and `num_channels` are those of the file. `num_samples` is the number of samples per channel that
    were decoded so far.
    """

    def __init__(self, source: Source, name: str, channel: Channel, watch: Watch | None = None) -> None:
        check_channel(source.num_channels, channel, name)
        self.name, self.sample_rate, self.num_channels = name, source.sample_rate, source.num_channels
        self.num_samples = 0
        self._source, self._channel, self._watch = source, channel, watch

    @property
    def duration(self) -> float:
        """Length of the audio that was decoded so far, in seconds."""
        return self.num_samples / self.sample_rate

    def blocks(self, sample_rate: int | None = None) -> Iterator[np.ndarray]:
        """Decode the samples in blocks: each is (num_samples,) float32 on the int16 scale. Call it once.

        `sample_rate` is the wanted rate in Hz; None keeps the file's rate. The samples are exactly those of
        `read_audio`. Raises AudioError as `read_audio`.
        """
        if sample_rate is None or sample_rate == self.sample_rate:
            return self._mono()
        check_rate(self.sample_rate, self.name, sample_rate)
        return resample_blocks(self._mono(), self.sample_rate, sample_rate)

    def _mono(self) -> Iterator[np.ndarray]:
        for block in self._source.blocks():
            yield _one_channel(block, self._channel, self.name, self.num_samples, self.sample_rate)
            self.num_samples += len(block)
            if self._watch is not None:
                self._watch(self.duration)
        if self.num_samples == 0:
            raise no_samples(self.name)


@contextlib.contextmanager
def open_audio(
    source: str | Path | IO[bytes],
    *,
    channel: Channel = "error",
    name: str | None = None,
    watch: Watch | None = None,
) -> Iterator[AudioStream]:
    """Open audio and decode it in blocks. The memory needed does not depend on the length of the audio.

    Args:
        source: a path, or a binary stream such as `sys.stdin.buffer`. A stream is first copied to a temporary file,
            because some headers can be understood only if the size of the file is known.
        channel: as in `read_audio`.
        name: the name of a stream in messages.
        watch: a function that is called after each block with the length decoded so far, in seconds. If it raises an
            error, decoding ends.

    Raises AudioError as `read_audio`. A fault in the middle of the audio is raised when decoding reaches it.
    """
    if isinstance(source, (str, Path)):
        with open_audio_file(source) as stream, open_source(stream, printable(source), whole=False) as opened:
            yield AudioStream(opened, printable(source), channel, watch)
        return
    if name is None:
        name = "standard input" if source is sys.stdin.buffer else str(getattr(source, "name", "stream"))
    name = printable(name)
    with spooled(source, name) as stream:
        if os.fstat(stream.fileno()).st_size == 0:
            raise AudioError(f"{name}: empty (0 bytes); expected audio")
        with open_source(stream, name, whole=False) as opened:
            yield AudioStream(opened, name, channel, watch)


@contextlib.contextmanager
def spooled(source: IO[bytes], name: str) -> Iterator[BinaryIO]:
    """A temporary file with the whole content of a stream. Raises AudioError if the disk has no room for it."""
    with contextlib.ExitStack() as opened:
        try:
            copy = opened.enter_context(tempfile.TemporaryFile(buffering=0))
            # A buffered file writes everything. An unbuffered one may write less, and only its result says so.
            with writer(NamedFile(copy.fileno(), "wb"), "wb") as sink:
                for block in _read_blocks(source, name):
                    sink.write(block)
        except OSError as error:
            raise no_room(name, error) from None
        copy.seek(0)
        yield opened.enter_context(open_file(copy.fileno(), name))


def _read_blocks(source: IO[bytes], name: str) -> Iterator[bytes]:
    try:
        while block := source.read(2**20):
            yield block
    except OSError as error:
        raise AudioError(f"{name}: cannot be read ({error.strerror or error})") from None


def no_room(name: str, error: OSError) -> AudioError:
    """The AudioError that no temporary file can be written for the recording `name`, because of `error`."""
    return AudioError(
        f"{name}: no temporary file can be written for it in {tempfile.gettempdir()} ({error.strerror or error}); make "
        "room there, or set TMPDIR"
    )


def read_audio(path: str | Path, *, sample_rate: int | None = None, channel: Channel = "error") -> Waveform:
    """Decode an audio file to samples (num_samples,), float32 on the int16 scale.

    Args:
        path: a file in a format that libsndfile reads, or NIST SPHERE (PCM, mu-law or A-law). The first bytes of the
            file decide its format; its name does not matter.
        sample_rate: the wanted rate in Hz. soxr resamples the audio (quality HQ). None keeps the file's rate.
        channel: "error" accepts mono files only, "mix" averages the channels, and a number selects a channel, counted
            from 0.

    Raises AudioError if the file is missing, empty, not audio, without samples, or shorter than its header says. Also
    if it has several channels and none is chosen, or holds values that are NaN or infinite.
    """
    with open_audio_file(path) as stream:
        return decode(stream, printable(path), sample_rate, channel)


def audio_duration(path: str | Path) -> float:
    """The length of an audio file in seconds, from its header if that gives it. Raises AudioError as `read_audio`."""
    return audio_info(path).duration


def audio_info(path: str | Path) -> AudioInfo:
    """The length, sampling rate and number of channels of an audio file. Raises AudioError as `read_audio`."""
    with open_audio_file(path) as stream:
        return stream_info(stream, printable(path))


def check_channel(num_channels: int, channel: Channel, name: str) -> None:
    """Raise AudioError if the audio `name` lacks the chosen `channel`, or has several channels and none is chosen."""
    if channel == "error" and num_channels > 1:
        raise AudioError(
            f"{name}: {num_channels} channels; expected 1: choose one by number from 0 (--channel 0), or mix them "
            "(--channel mix)"
        )
    if isinstance(channel, int) and not 0 <= channel < num_channels:
        raise AudioError(f"{name}: no channel {channel}; the file has {num_channels}, counted from 0")


@contextlib.contextmanager
def open_audio_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a regular, non-empty file for reading. Raises AudioError for anything else, and if it cannot be read."""
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{location(path)}a directory; expected an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{location(path)}not a regular file; expected an audio file")
        if status.st_size == 0:
            raise AudioError(f"{location(path)}empty file (0 bytes); expected audio")
        stream = open_file(path)
    except FileNotFoundError:
        raise AudioError(f"{location(path)}no such audio file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise AudioError(f"{location(path)}cannot be read ({getattr(error, 'strerror', None) or error})") from None
    try:
        with stream:
            yield stream
    except OSError as error:
        if error.filename in (None, str(path)):  # errors of a library name no file
            raise AudioError(f"{location(path)}cannot be read ({error.strerror or error})") from None
        raise


def stream_info(stream: BinaryIO, name: str) -> AudioInfo:
    """Like `audio_info`, for an open file. `name` is its name in messages. Raises AudioError as `read_audio`."""
    with open_source(stream, name) as source:
        return AudioInfo(source.num_frames, source.sample_rate, source.num_channels)


def decode(
    stream: BinaryIO,
    name: str,
    sample_rate: int | None = None,
    channel: Channel = "error",
    start: float | None = None,
    end: float | None = None,
) -> Waveform:
    """Like `read_audio`, for an open file. `name` is its name in messages.

    `start` and `end` (seconds) select a part, which is cut out before resampling. Raises AudioError as `read_audio`,
    and if the part is empty or lies outside the audio.
    """
    with open_source(stream, name) as source:
        first, last = _cut(source, name, start, end)
        check_channel(source.num_channels, channel, name)
        samples = _one_channel(source.read(first, last), channel, name, first, source.sample_rate)
    waveform = Waveform(samples, source.sample_rate)
    return waveform if sample_rate is None else resample(waveform, sample_rate, name)


def _one_channel(frames: np.ndarray, channel: Channel, name: str, first: int, sample_rate: int) -> np.ndarray:
    """The samples (num_frames,) of `frames` (num_frames, channels); AudioError if they are not finite.

    `first` is the number of the first frame, for the time in the message.
    """
    if isinstance(channel, int) or frames.shape[1] == 1:
        samples = frames[:, channel if isinstance(channel, int) else 0]
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            samples = frames.mean(axis=1, dtype=np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        where = (first + bad[0]) / sample_rate
        raise AudioError(
            f"{name}: {len(bad)} of {len(samples)} samples are NaN or infinite, the first at {where:.3f} s; repair it"
        )
    return np.ascontiguousarray(samples, np.float32)


def _cut(source: Source, name: str, start: float | None, end: float | None) -> tuple[int, int]:
    """The first frame of the part `start` to `end` (seconds), and the frame after its last one."""
    duration = source.num_frames / source.sample_rate
    begin, stop = 0.0 if start is None else start, duration if end is None else end
    if not (0 <= begin < stop < math.inf):
        raise AudioError(
            f"{name}: segment {begin:g} to {stop:g} s; expected 0 <= start < end (the audio has {duration:.3f} s)"
        )
    if stop > duration + END_TOLERANCE or begin >= duration:
        raise AudioError(f"{name}: segment {begin:g} to {stop:g} s ends past the audio, which has {duration:.3f} s")
    first = round(begin * source.sample_rate)
    last = min(round(stop * source.sample_rate), source.num_frames)
    if first >= last:
        raise AudioError(f"{name}: segment {begin:g} to {stop:g} s holds no sample at {source.sample_rate} Hz")
    return first, last


@contextlib.contextmanager
def open_source(stream: BinaryIO, name: str, whole: bool = True) -> Iterator[Source]:
    """Open an audio file in the format that its first bytes show.

    `whole` is False if the caller will only call `blocks`, once. Raises AudioError if asrkit does not read the format,
    or the file is damaged or has no samples.
    """
    size = os.fstat(stream.fileno()).st_size
    plain = plain_wav(stream, name, size)
    if plain is not None:
        yield _checked(plain, name)
        return
    begin, head = _skip_tags(stream)
    kind = identify(head) or (MPEG if begin else None)
    if kind is not None and not kind.is_read:
        raise AudioError(not_read(name, kind))
    if begin and kind not in (MPEG, FLAC):
        raise AudioError(f"{name}: a tag before the audio; remove it")
    if kind is SPHERE:
        yield _checked(sphere_source(stream, name, size), name)
    elif kind is MPEG:
        yield _checked(mp3_source(stream, name), name)
    elif kind is WAV and (place := mpeg_place(stream, name, size)):
        yield _checked(mp3_source(stream, name, place), name)
    elif kind is OGG:
        yield _checked(ogg_source(stream, name), name)
    else:
        opened: BinaryIO | Pieces = stream
        if kind in (WAV, W64, AIFF, SVX, CAF):
            opened = checked_chunks(stream, name, size)
        elif kind is AU:
            opened = checked_au(stream, name, size)
        elif kind is VOC:
            opened = voc_as_wav(stream, name, size)
        elif kind is FLAC:
            check_within(stream, name, begin + 4, begin)  # FLAC's header does not say where the stream ends
        with open_sndfile(opened, name) as file:
            yield _checked(sndfile_source(file, name, whole), name)


def _skip_tags(stream: BinaryIO) -> tuple[int, bytes]:
    """The position at which the audio begins (after tags), and the first bytes of the audio."""
    position = 0
    stream.seek(0)
    head = stream.read(HEAD_BYTES)
    while tag := tag_bytes(head):
        position += tag
        stream.seek(position)
        head = stream.read(HEAD_BYTES)
    stream.seek(0)
    return position, head


def _checked(source: Source, name: str) -> Source:
    if source.num_frames <= 0:
        raise no_samples(name)
    check_rate(source.sample_rate, name)
    return source
