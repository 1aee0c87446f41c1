"""Audio in chunks for a StreamingRecognizer: from a file, from a pipe with raw samples, or from a microphone."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from io import BufferedIOBase

import numpy as np

from asrkit.audio import AudioStream
from asrkit.audio.file_formats import HEAD_BYTES, identify
from asrkit.audio.inputs import RAW_HEAD_BYTES, file_format
from asrkit.errors import AudioError, ConfigError
from asrkit.extras import named_when_missing


def in_chunks(audio: AudioStream, size: int) -> Iterator[np.ndarray]:
    """Yield the samples of a file at its own sampling rate: (n,) each, with n up to `size`."""
    for block in audio.blocks():
        for begin in range(0, len(block), size):
            yield block[begin : begin + size]


def paced(chunks: Iterable[np.ndarray], rate: int) -> Iterator[np.ndarray]:
    """Yield each of the chunks, (n,) samples, at the moment at which its last sample would have been recorded.

    `rate` is the sampling rate in Hz.
    """
    began, num_samples = time.monotonic(), 0
    for samples in chunks:
        num_samples += len(samples)
        time.sleep(max(0.0, began + num_samples / rate - time.monotonic()))
        yield samples


def raw_samples(source: BufferedIOBase, size: int) -> Iterator[np.ndarray]:
    """Yield 16-bit little-endian samples as they arrive: (n,) int16, with n up to `size`.

    Raises:
        AudioError: the data are an audio file, not raw samples.
    """
    held, is_first = b"", True
    while data := source.read1(2 * size):
        held += data
        if is_first and len(held) < _bytes_to_tell(held):
            continue
        if is_first:
            _refuse_file(held)
        is_first = False
        end = len(held) // 2 * 2
        yield np.frombuffer(held[:end], "<i2")
        held = held[end:]
    if is_first and len(held) >= 2:
        _refuse_file(held)
        yield np.frombuffer(held[: len(held) // 2 * 2], "<i2")


def _bytes_to_tell(head: bytes) -> int:
    """How many bytes are needed to recognise an audio file: those of two frames if the first bytes may mark a frame."""
    kind = identify(head)
    return HEAD_BYTES if kind is None or kind.is_certain else RAW_HEAD_BYTES


def _refuse_file(head: bytes) -> None:
    kind = file_format(head)
    if kind is not None:
        raise AudioError(
            f"standard input: a file with a header ({kind.name}); expected raw samples, 16-bit, little-endian, one "
            "channel; give the file's name instead, or use asrkit transcribe -"
        )


def microphone(rate: int, size: int) -> Iterator[np.ndarray]:
    """Yield samples of the default input device without end: (size,) int16 each.

    Raises:
        MissingPackageError: sounddevice is not installed.
        ConfigError: PortAudio is not installed.
        AudioError: the device cannot be used.
    """
    try:
        with named_when_missing():
            import sounddevice
    except OSError as error:
        raise ConfigError(
            f"--microphone: sounddevice cannot be loaded ({error}); install PortAudio: apt install libportaudio2"
        ) from None
    try:
        with sounddevice.RawInputStream(samplerate=rate, channels=1, dtype="int16", blocksize=size) as device:
            print("listening; Ctrl-C ends", file=sys.stderr, flush=True)
            while True:
                data, _ = device.read(size)
                yield np.frombuffer(bytes(data), np.int16)
    except sounddevice.PortAudioError as error:
        raise AudioError(f"microphone: cannot be used at {rate} Hz ({error}); choose another --rate, or -") from None
