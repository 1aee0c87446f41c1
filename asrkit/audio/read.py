"""Audio files to mono waveforms on the int16 scale, which is Kaldi's.

libsndfile (through soundfile) decodes WAV, FLAC, Ogg Vorbis and Opus, MP3 and the rest of what it knows; NIST
SPHERE is read here, after NIST's description of the format. soxr changes the rate.
"""

from __future__ import annotations

import contextlib
import io
import math
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr

from asrkit.errors import AudioError, location
from asrkit.types import Waveform

Channel = int | Literal["error", "mix"]

# Times in tables are rounded, often to 10 ms: an end that lies this little past the audio means its end.
END_TOLERANCE = 0.01  # seconds

# Data sizes that programs put into a WAV header when they cannot come back to it: ffmpeg, sox, arecord.
_STREAMING_SIZES = (0xFFFFFFFF, 0x7FFFF000, 0x7FFFFFFF, 0x80000000)

# WAV codings of several samples a block: Microsoft and IMA ADPCM, GSM 06.10.
_BLOCK_CODINGS = (0x0002, 0x0011, 0x0031)

# Endings by which a directory's audio files are told.
AUDIO_SUFFIXES = frozenset(
    (".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".sph", ".nist", ".aif", ".aiff", ".au", ".w64", ".caf")
)

_BLOCK_FRAMES = 2**16
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's count for a FLAC stream whose header gives no length


@dataclass(frozen=True, slots=True)
class _Source:
    """An open audio file: what its header says, and how to get frames `start` to `stop` as (frames, channels)."""

    num_frames: int
    sample_rate: int
    num_channels: int
    read: Callable[[int, int], np.ndarray]  # float32 on the int16 scale
    decode: Callable[[], Iterable[np.ndarray]] | None = None  # all frames in blocks, where read cannot be called often

    def blocks(self) -> Iterable[np.ndarray]:
        """All frames in order, in blocks (frames, channels)."""
        if self.decode is not None:
            return self.decode()
        starts = range(0, self.num_frames, _BLOCK_FRAMES)
        return (self.read(start, min(start + _BLOCK_FRAMES, self.num_frames)) for start in starts)


class AudioStream:
    """Audio that is decoded a block at a time, however long it is; see open_audio.

    `sample_rate` (Hz) and `num_channels` are the file's own. `num_samples`: how many samples a channel were decoded.
    """

    def __init__(self, source: _Source, name: str, channel: Channel) -> None:
        check_channel(source.num_channels, channel, name)
        self.name, self.sample_rate, self.num_channels = name, source.sample_rate, source.num_channels
        self.num_samples = 0
        self._source, self._channel = source, channel

    @property
    def duration(self) -> float:
        """Seconds decoded so far."""
        return self.num_samples / self.sample_rate

    def blocks(self, sample_rate: int | None = None) -> Iterator[np.ndarray]:
        """The samples (num_samples,) float32 on the int16 scale, block after block; once.

        `sample_rate` (Hz) is as for read_audio, whose samples these are, to the bit. Raises AudioError as read_audio.
        """
        if sample_rate in (None, self.sample_rate):
            yield from self._mono()
            return
        resampler = soxr.ResampleStream(self.sample_rate, sample_rate, 1, dtype="float32", quality="HQ")
        for samples in self._mono():
            yield resampler.resample_chunk(samples)
        yield resampler.resample_chunk(np.empty(0, np.float32), last=True)

    def _mono(self) -> Iterator[np.ndarray]:
        for block in self._source.blocks():
            yield _one_channel(block, self._channel, self.name, self.num_samples, self.sample_rate)
            self.num_samples += len(block)
        if self.num_samples == 0:
            raise _no_samples(self.name)


@contextlib.contextmanager
def open_audio(source: str | Path | BinaryIO, *, channel: Channel = "error") -> Iterator[AudioStream]:
    """Open audio to decode it in blocks, in memory that does not depend on its length.

    `source`: a path, or a binary stream such as sys.stdin.buffer, which is copied to a temporary file first: audio
    formats have headers that can be understood only together with the size. `channel` is as for read_audio.

    Raises AudioError as read_audio; for damage in its middle when decoding gets there.
    """
    if isinstance(source, (str, Path)):
        with _open_file(source) as stream, _open_source(stream, str(source), whole=False) as opened:
            yield AudioStream(opened, str(source), channel)
        return
    name = "standard input" if source is sys.stdin.buffer else str(getattr(source, "name", "stream"))
    with tempfile.TemporaryFile(buffering=0) as copy:
        shutil.copyfileobj(source, copy, 2**20)
        if copy.tell() == 0:
            raise AudioError(f"{name}: nothing in it (0 bytes); expected audio")
        copy.seek(0)
        with (
            open(copy.fileno(), "rb", closefd=False) as stream,
            _open_source(stream, name, whole=False) as opened,
        ):
            yield AudioStream(opened, name, channel)


def read_audio(path: str | Path, *, sample_rate: int | None = None, channel: Channel = "error") -> Waveform:
    """Decode an audio file.

    Args:
        path: a file that libsndfile reads, or NIST SPHERE (PCM, mu-law or A-law). Its first bytes tell the
            format, not its name.
        sample_rate: the rate wanted, in Hz (soxr's HQ quality); None keeps the file's.
        channel: "error" admits mono files only, "mix" averages the channels, a number takes that channel
            (from 0).

    Raises:
        AudioError: the file is missing, empty, not audio, without samples or shorter than its header says, has
            several channels and none was chosen, or holds values that are NaN or infinite.
    """
    with _open_file(path) as stream:
        return _decode(stream, str(path), sample_rate, channel, None, None)


def audio_duration(path: str | Path) -> float:
    """Length in seconds, from the header where the format has it there. Raises AudioError as `read_audio`."""
    with _open_file(path) as stream, _open_source(stream, str(path)) as source:
        return source.num_frames / source.sample_rate


def audio_info(path: str | Path) -> tuple[int, int, int]:
    """Samples a channel, sampling rate in Hz and number of channels. Raises AudioError as `read_audio`."""
    with _open_file(path) as stream, _open_source(stream, str(path)) as source:
        return source.num_frames, source.sample_rate, source.num_channels


def load_entry(
    entry: str,
    *,
    root: str | Path | None = None,
    allow_pipes: bool = False,
    sample_rate: int | None = None,
    channel: Channel = "error",
    start: float | None = None,
    end: float | None = None,
) -> Waveform:
    """Decode what a line of wav.scp names: a path, or a Kaldi pipe (`command |`).

    `root` is where relative paths start and where commands run (default: the current directory). `start` and
    `end`, in seconds, cut a part out before the rate is changed. An `end` up to END_TOLERANCE past the
    recording is taken as its end.

    Raises:
        AudioError: as `read_audio`; a pipe without `allow_pipes`; a command that fails; a part that is empty or
            lies outside the recording.
    """
    entry = entry.strip()
    if is_pipe(entry):
        with _run_pipe(entry, root, allow_pipes) as stream:
            return _decode(stream, entry, sample_rate, channel, start, end)
    path = os.path.join(root or "", entry)
    with _open_file(path) as stream:
        return _decode(stream, path, sample_rate, channel, start, end)


def resample(waveform: Waveform, sample_rate: int) -> Waveform:
    """The waveform at another rate (soxr's HQ quality), or itself when it has that rate."""
    if waveform.sample_rate == sample_rate:
        return waveform
    samples = soxr.resample(waveform.samples, waveform.sample_rate, sample_rate, quality="HQ")
    return Waveform(np.ascontiguousarray(samples, np.float32), sample_rate)


def is_pipe(entry: str) -> bool:
    """Whether an entry of wav.scp is a command whose output is the audio, or would be taken for one by Kaldi."""
    return entry.rstrip().endswith("|") or entry.lstrip().startswith("|")


def entry_duration(entry: str, *, root: str | Path | None = None, allow_pipes: bool = False) -> float:
    """Length in seconds of what a line of wav.scp names. Raises AudioError as `load_entry`."""
    num_samples, sample_rate, _ = entry_info(entry, root=root, allow_pipes=allow_pipes)
    return num_samples / sample_rate


def entry_info(entry: str, *, root: str | Path | None = None, allow_pipes: bool = False) -> tuple[int, int, int]:
    """As `audio_info`, of what a line of wav.scp names. Raises AudioError as `load_entry`."""
    if is_pipe(entry):
        with _run_pipe(entry, root, allow_pipes) as stream, _open_source(stream, entry) as source:
            return source.num_frames, source.sample_rate, source.num_channels
    return audio_info(os.path.join(root or "", entry))


def check_channel(num_channels: int, channel: Channel, name: str) -> None:
    """Raise AudioError if the audio `name`, of so many channels, has none of that number or needs a choice."""
    if channel == "error" and num_channels > 1:
        raise AudioError(
            f"{name}: {num_channels} channels; expected 1: choose one by number from 0 (--channel 0), or mix them "
            "(--channel mix)"
        )
    if isinstance(channel, int) and not 0 <= channel < num_channels:
        raise AudioError(f"{name}: no channel {channel}; the file has {num_channels}, counted from 0")


@contextlib.contextmanager
def _run_pipe(entry: str, root: str | Path | None, allow_pipes: bool) -> Iterator[BinaryIO]:
    """Run a command and give its output as a file."""
    if not allow_pipes:
        raise AudioError(f"{entry}: a pipe, which is run only with --allow-pipes; give it if you trust this data")
    if not entry.endswith("|"):
        raise AudioError(f"{entry}: an output pipe; expected a path or `command |`")
    with tempfile.TemporaryFile(buffering=0) as output:
        done = subprocess.run(
            entry[:-1], shell=True, cwd=root, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE
        )
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise AudioError(f"{entry}: the command failed with status {done.returncode}{said and f' ({said})'}")
        if os.fstat(output.fileno()).st_size == 0:
            raise AudioError(f"{entry}: the command printed nothing; expected audio")
        output.seek(0)
        with open(output.fileno(), "rb", closefd=False) as stream:
            yield stream


@contextlib.contextmanager
def _open_file(path: str | Path) -> Iterator[BinaryIO]:
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise AudioError(f"{location(path)}a directory; expected an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioError(f"{location(path)}not a regular file; expected an audio file")
        if status.st_size == 0:
            raise AudioError(f"{location(path)}empty file (0 bytes); expected audio")
        stream = open(path, "rb")  # noqa: SIM115 (closed below)
    except FileNotFoundError:
        raise AudioError(f"{location(path)}no such audio file") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        raise AudioError(f"{location(path)}cannot be read ({getattr(error, 'strerror', None) or error})") from None
    with stream:
        yield stream


def _decode(
    stream: BinaryIO, name: str, sample_rate: int | None, channel: Channel, start: float | None, end: float | None
) -> Waveform:
    with _open_source(stream, name) as source:
        first, last = _cut(source, name, start, end)
        check_channel(source.num_channels, channel, name)
        samples = _one_channel(source.read(first, last), channel, name, first, source.sample_rate)
    waveform = Waveform(samples, source.sample_rate)
    return waveform if sample_rate is None else resample(waveform, sample_rate)


def _one_channel(frames: np.ndarray, channel: Channel, name: str, first: int, sample_rate: int) -> np.ndarray:
    """Frames (num_frames, channels) from number `first` on to (num_frames,) samples; AudioError if not finite."""
    if isinstance(channel, int) or frames.shape[1] == 1:
        samples = frames[:, channel if isinstance(channel, int) else 0]
    else:
        samples = frames.mean(axis=1, dtype=np.float32)
    finite = np.isfinite(samples)
    if not finite.all():
        bad = np.flatnonzero(~finite)
        where = (first + bad[0]) / sample_rate
        raise AudioError(
            f"{name}: {len(bad)} of {len(samples)} samples are NaN or infinite, the first at {where:.3f} s; repair it"
        )
    return np.ascontiguousarray(samples, np.float32)


def _cut(source: _Source, name: str, start: float | None, end: float | None) -> tuple[int, int]:
    """First and last (exclusive) frame of the part `start` to `end`."""
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
def _open_source(stream: BinaryIO, name: str, whole: bool = True) -> Iterator[_Source]:
    """Open a file of audio by its first bytes. `whole` is False when it is enough that `blocks` works, once."""
    head = stream.read(16)
    size = os.fstat(stream.fileno()).st_size
    stream.seek(0)
    if head.startswith(b"NIST_1A"):
        yield _checked(_sphere_source(stream, name, size), name)
        return
    plain = _plain_wav(stream, name, size)
    if plain is not None:
        yield plain
        return
    with contextlib.ExitStack() as opened:
        stream.seek(0)
        if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
            stream = opened.enter_context(_checked_wav(stream, name, size))
        try:
            # By descriptor: soundfile would believe the ending of a name (.raw), and libsndfile's own reading
            # stays quiet about damage where soundfile's callbacks print tracebacks.
            os.lseek(stream.fileno(), 0, os.SEEK_SET)
            file = opened.enter_context(_SoundFile(stream.fileno(), closefd=False))
        except soundfile.LibsndfileError as error:
            reason = error.error_string.strip().rstrip(".")
            found = f"not audio that can be read ({reason}; it begins {head!r})"
            raise AudioError(f"{name}: {found}; expected WAV, FLAC, Ogg, MP3 or SPHERE") from None
        yield _checked(_sndfile_source(file, name, whole), name)


def _plain_wav(stream: BinaryIO, name: str, size: int) -> _Source | None:
    """The quick way for what most files are: 16-bit PCM behind the shortest WAV header, whole; None for all else."""
    head = stream.read(44)
    if len(head) < 44 or head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or head[36:40] != b"data":
        return None
    fmt_size, coding, num_channels, sample_rate, _, block_bytes, bits = struct.unpack_from("<IHHIIHH", head, 16)
    data_size = struct.unpack_from("<I", head, 40)[0]
    if fmt_size != 16 or coding != 1 or bits != 16 or not num_channels or block_bytes != 2 * num_channels:
        return None
    num_frames = data_size // block_bytes
    if not (sample_rate and num_frames and data_size == num_frames * block_bytes and 44 + data_size <= size):
        return None

    def read(start: int, stop: int) -> np.ndarray:
        stream.seek(44 + start * block_bytes)
        raw = stream.read((stop - start) * block_bytes)
        if len(raw) < (stop - start) * block_bytes:
            raise _too_short(name, num_frames, start + len(raw) // block_bytes)
        return np.frombuffer(raw, "<i2").reshape(-1, num_channels).astype(np.float32)

    return _Source(num_frames, sample_rate, num_channels, read)


def _checked(source: _Source, name: str) -> _Source:
    if source.num_frames <= 0:
        raise _no_samples(name)
    return source


def _no_samples(name: str) -> AudioError:
    return AudioError(f"{name}: no samples in it; expected audio")


class _SoundFile(soundfile.SoundFile):
    """Reads on without seeking to where it is after each read, which disturbs MP3 and fails on streamed FLAC."""

    def seekable(self) -> bool:
        return False


def _sndfile_source(file: _SoundFile, name: str, whole: bool) -> _Source:
    if file.frames == _UNKNOWN_FRAMES and whole:
        samples = np.concatenate(list(_blocks(file, name, _UNKNOWN_FRAMES)))
        return _Source(len(samples), file.samplerate, file.channels, lambda start, stop: samples[start:stop])
    # Lossy decoders carry state: what they give after a seek differs a little from decoding from the beginning.
    exact_seek = file.subtype.startswith(("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW"))

    def read(start: int, stop: int) -> np.ndarray:
        begin, end = (start, stop) if exact_seek else (0, file.frames)
        blocks = list(_blocks(file, name, end, begin))
        return np.concatenate(blocks)[start - begin : stop - begin]

    return _Source(file.frames, file.samplerate, file.channels, read, lambda: _blocks(file, name, file.frames))


def _blocks(file: _SoundFile, name: str, end: int, position: int = 0) -> Iterator[np.ndarray]:
    """Decode frames `position` to `end` in blocks, so that a header that promises terabytes takes no memory."""
    try:
        if position:
            file.seek(position)
        while position < end:
            block = file.read(min(end - position, _BLOCK_FRAMES), dtype="float32", always_2d=True)
            if len(block) == 0 and end != _UNKNOWN_FRAMES:
                raise _too_short(name, file.frames, position)
            with np.errstate(over="ignore"):  # an infinite sample is reported with its time later
                block *= np.float32(32768)
            yield block
            position += len(block)
            if len(block) == 0:
                return
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".") or "decoder error"
        raise AudioError(
            f"{name}: broken off or damaged ({reason}); the header promises {file.frames} samples, "
            f"{position} could be decoded; get the whole file"
        ) from None


def _too_short(name: str, promised: int, found: int) -> AudioError:
    return AudioError(f"{name}: the header promises {promised} samples, the file holds {found}; get the whole file")


@contextlib.contextmanager
def _checked_wav(stream: BinaryIO, name: str, size: int) -> Iterator[BinaryIO]:
    """Compare a WAV header with the file's size, which libsndfile does not.

    Gives the stream back, or a temporary copy with the true sizes when the header was written by a program
    that streamed: it holds a place-holder for the size of the data, or none at all, and data follow.
    """
    order = ">" if stream.read(4) == b"RIFX" else "<"
    riff_size = struct.unpack(f"{order}I", stream.read(4))[0]
    stream.seek(12)
    block_bytes, block_samples, data_size_64 = 0, 1, None
    while True:
        chunk = stream.read(8)
        if len(chunk) < 8:
            raise AudioError(f"{name}: a WAV header without samples ({size} bytes in all); expected a `data` chunk")
        kind, chunk_size = chunk[:4], struct.unpack(f"{order}I", chunk[4:])[0]
        if kind == b"data":
            break
        body = stream.read(min(chunk_size, 64))
        if kind == b"fmt " and len(body) >= 16:
            coding, block_bytes = struct.unpack_from(f"{order}H10xH", body)
            if coding in _BLOCK_CODINGS and len(body) >= 20:
                block_samples = struct.unpack_from(f"{order}H", body, 18)[0]
        elif kind == b"ds64" and len(body) >= 16:
            data_size_64 = struct.unpack_from("<Q", body, 8)[0]
        stream.seek(chunk_size - len(body) + chunk_size % 2, io.SEEK_CUR)
    begin = stream.tell()
    held = size - begin
    if data_size_64 is not None and chunk_size == 0xFFFFFFFF:
        chunk_size = data_size_64
    never_filled_in = chunk_size == 0 and riff_size + 8 <= begin
    stream.seek(0)
    placeholder = chunk_size in _STREAMING_SIZES and chunk_size > held
    if held > 0 and (placeholder or never_filled_in):
        if size - 8 > 0xFFFFFFFF:
            raise AudioError(f"{name}: {size} bytes after a WAV header without sizes; expected less than 4 GiB")
        with tempfile.TemporaryFile() as copy:
            shutil.copyfileobj(stream, copy)
            for position, true_size in ((4, size - 8), (begin - 4, held)):
                copy.seek(position)
                copy.write(struct.pack(f"{order}I", true_size))
            copy.flush()
            yield copy
        return
    if chunk_size > held and block_bytes:
        raise _too_short(name, chunk_size // block_bytes * block_samples, held // block_bytes * block_samples)
    yield stream


def _sphere_source(stream: BinaryIO, name: str, size: int) -> _Source:
    """Open NIST SPHERE: a text header of `name -type value` lines, then the samples, channels interleaved."""
    try:
        lines = stream.read(16).split(b"\n")
        header_bytes = int(lines[1])
        stream.seek(0)
        text = stream.read(header_bytes).decode("latin-1")
    except (ValueError, IndexError):
        raise AudioError(f"{name}: a SPHERE header without its size in the second line") from None
    body, end, _ = text.partition("end_head")
    if not end:
        raise AudioError(f"{name}: the SPHERE header has no `end_head` within its {header_bytes} bytes")
    fields = {}
    for line in body.split("\n")[2:]:
        parts = line.split(None, 2)
        if len(parts) == 3 and not line.startswith(";"):
            fields[parts[0]] = parts[2].strip()

    def number(key: str, default: int | None = None) -> int:
        try:
            value = int(fields[key]) if key in fields or default is None else default
        except (KeyError, ValueError):
            raise AudioError(
                f"{name}: SPHERE header: {key} is {fields.get(key, 'missing')}; expected a number"
            ) from None
        if value < 1 and key != "sample_count":
            raise AudioError(f"{name}: SPHERE header: {key} is {value}; expected a positive number")
        return value

    coding = fields.get("sample_coding", "pcm").lower()
    for packer in ("shorten", "wavpack", "shortpack"):
        if packer in coding:
            raise AudioError(f"{name}: SPHERE compressed with {packer}, which is not read; expand it first (sph2pipe)")
    if coding not in ("pcm", "ulaw", "mu-law", "alaw"):
        raise AudioError(f"{name}: SPHERE sample_coding {coding}; expected pcm, ulaw or alaw")
    rate, num_channels = number("sample_rate"), number("channel_count", 1)
    width = number("sample_n_bytes", 1 if coding != "pcm" else None)
    byte_order = fields.get("sample_byte_format", "")
    if width > 4 or (coding != "pcm" and width != 1):
        raise AudioError(f"{name}: SPHERE samples of {width} bytes ({coding}); expected 1 to 4, or 1 for ulaw and alaw")
    little = "0123"[:width]
    big = little[::-1]
    # The two-byte marks stand for the order of wider samples too (libsndfile writes them so).
    if width > 1 and byte_order not in (little, big, "01", "10"):
        raise AudioError(f"{name}: SPHERE sample_byte_format {byte_order or 'missing'}; expected {little} or {big}")
    held = max(size - header_bytes, 0) // (width * num_channels)
    count = number("sample_count", held)
    if count > held:
        raise _too_short(name, count, held)

    def read(start: int, stop: int) -> np.ndarray:
        stream.seek(header_bytes + start * width * num_channels)
        raw = np.frombuffer(stream.read((stop - start) * width * num_channels), np.uint8).reshape(-1, width)
        if coding == "alaw":
            values = _A_LAW[raw[:, 0]]
        elif coding != "pcm":
            values = _MU_LAW[raw[:, 0]]
        else:
            # Into the upper bytes of an int32, so that one scale serves every width.
            wide = np.zeros((len(raw), 4), np.uint8)
            wide[:, 4 - width :] = raw if byte_order.startswith("0") else raw[:, ::-1]
            values = wide.view("<i4")[:, 0].astype(np.float32) / np.float32(65536)
        return values.reshape(-1, num_channels)

    return _Source(count, rate, num_channels, read)


def _mu_law_table() -> np.ndarray:
    """(256,) float32: the 14-bit values of ITU-T G.711 mu-law, on the 16-bit scale."""
    codes = ~np.arange(256, dtype=np.int32) & 255
    magnitudes = (((codes & 15) << 3) + 132 << (codes >> 4 & 7)) - 132
    return np.where(codes & 128, -magnitudes, magnitudes).astype(np.float32)


def _a_law_table() -> np.ndarray:
    """(256,) float32: the 13-bit values of ITU-T G.711 A-law, on the 16-bit scale."""
    codes = np.arange(256, dtype=np.int32) ^ 0x55
    exponents = codes >> 4 & 7
    steps = ((codes & 15) << 4) + 8
    magnitudes = np.where(exponents > 0, steps + 256 << np.maximum(exponents - 1, 0), steps)
    return np.where(codes & 128, magnitudes, -magnitudes).astype(np.float32)


_MU_LAW, _A_LAW = _mu_law_table(), _a_law_table()
