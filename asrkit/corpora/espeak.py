"""Synthesises speech from phonemes with espeak-ng, through ctypes. Gives the sample at which each phone starts.

The library is in the wheel `espeakng-loader` (GPL-3, optional, loaded at run time). It is not thread-safe, and its
speech depends on what it said before. So each call of `synthesize` runs in a new process.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import asrkit
from asrkit.errors import AsrkitError, DataError
from asrkit.extras import named_when_missing
from asrkit.io.json_text import json_text

SAMPLE_RATE = 22050  # in Hz, for all voices

# Constants of espeak-ng's speak_lib.h.
_AUDIO_OUTPUT_SYNCHRONOUS = 2
_INITIALIZE_PHONEME_EVENTS = 0x0001
_INITIALIZE_DONT_EXIT = 0x8000
_CHARS_UTF8 = 1
_PHONEMES = 0x100  # the text may contain phonemes in [[...]]
_POS_CHARACTER = 1
_EVENT_LIST_TERMINATED = 0
_EVENT_PHONEME = 7
_RATE, _PITCH, _RANGE = 1, 3, 4


@dataclass(frozen=True, slots=True)
class Prompt:
    """What to say, and how.

    `phonemes` are espeak's mnemonics. `rate` is in words per minute. `pitch` and its `range` are from 0 to 99.
    """

    phonemes: str
    rate: int
    pitch: int
    range: int


@dataclass(frozen=True, slots=True)
class Speech:
    """Synthetic speech.

    `samples` are 16-bit PCM in the machine's byte order, at SAMPLE_RATE. `events` has the name of each phone and the
    sample at which it starts.
    """

    samples: bytes
    events: tuple[tuple[str, int], ...]


def library_version() -> str:
    """The version of the espeak-ng library, such as 1.52.0. Raises MissingPackageError if it is not installed."""
    info = _library().espeak_Info
    info.restype = ctypes.c_char_p
    return info(None).decode().split(" ")[0]


def variant_names() -> list[str]:
    """The voice variants of the library, sorted. Raises MissingPackageError if it is not installed."""
    return sorted(path.name for path in (_data_path() / "voices" / "!v").iterdir())


def synthesize(language: str, variant: str, prompts: Sequence[Prompt]) -> list[Speech]:
    """Speak `prompts` in order with the voice `language+variant`, in a new process.

    The result depends only on the arguments and the library. It is the same in every run, to the last bit.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        DataError: the variant does not exist, or the library failed.
    """
    # If a variant does not exist, the library silently uses the plain voice.
    if variant not in variant_names():
        raise DataError(f"espeak-ng: no voice variant {variant!r}; expected one of: {', '.join(variant_names())}")
    request = {"voice": f"{language}+{variant}", "prompts": [asdict(prompt) for prompt in prompts]}
    root = str(Path(asrkit.__file__).parents[1])
    search_path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "asrkit.corpora.espeak"],
        input=json_text(request).encode(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": search_path},
    )
    if done.returncode != 0:
        said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
        raise DataError(f"espeak-ng: voice {request['voice']}: status {done.returncode} ({said or 'no message'})")
    header, _, pcm = done.stdout.partition(b"\n")
    speeches, begin = [], 0
    for num_bytes, events in json.loads(header):
        samples = pcm[begin : begin + num_bytes]
        speeches.append(Speech(samples, tuple((name, sample) for name, sample in events)))
        begin += num_bytes
    if begin != len(pcm):
        raise DataError(f"espeak-ng: voice {request['voice']}: {len(pcm)} bytes of sound; expected {begin}")
    return speeches


def _loader() -> ModuleType:
    with named_when_missing():
        import espeakng_loader
    return espeakng_loader


def _data_path() -> Path:
    return Path(_loader().get_data_path())


def _library() -> ctypes.CDLL:
    path = _loader().get_library_path()
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be loaded ({error}); reinstall espeakng-loader for this machine") from None
    if not hasattr(library, "espeak_ng_SetRandSeed"):
        raise DataError(f"{path}: older than espeak-ng 1.52; upgrade it: pip install --upgrade espeakng-loader")
    return library


class _EventId(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _EventId),
    )


_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.POINTER(_Event))


def _say(voice: str, prompts: Sequence[Prompt]) -> list[Speech]:
    """Like `synthesize`, in this process. It must not have used the library before."""
    library = _library()
    data_path = str(_data_path())
    rate = library.espeak_Initialize(
        _AUDIO_OUTPUT_SYNCHRONOUS, 0, data_path.encode(), _INITIALIZE_PHONEME_EVENTS | _INITIALIZE_DONT_EXIT
    )
    if rate != SAMPLE_RATE:
        raise DataError(
            f"{data_path}: espeak-ng cannot be started with these data (rate {rate}; expected {SAMPLE_RATE})"
        )
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # otherwise the noise of breath depends on the time of day
    samples = bytearray()
    events: list[tuple[str, int]] = []

    @_SynthCallback
    def collect(pcm: int | None, num_samples: int, event: Any) -> int:  # ctypes' pointer to _Event
        if pcm and num_samples > 0:
            samples.extend(ctypes.string_at(pcm, 2 * num_samples))
        index = 0
        while event[index].type != _EVENT_LIST_TERMINATED:
            if event[index].type == _EVENT_PHONEME:
                events.append((event[index].id.string.decode("utf-8"), event[index].sample))
            index += 1
        return 0

    library.espeak_SetSynthCallback(collect)
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        raise DataError(f"espeak-ng: no voice {voice}")
    speeches = []
    for prompt in prompts:
        for parameter, value in ((_RATE, prompt.rate), (_PITCH, prompt.pitch), (_RANGE, prompt.range)):
            library.espeak_SetParameter(parameter, value, 0)
        text = f"[[{prompt.phonemes}]]".encode()
        samples.clear()
        events.clear()
        status = library.espeak_Synth(
            text, ctypes.c_size_t(len(text) + 1), 0, _POS_CHARACTER, 0, _CHARS_UTF8 | _PHONEMES, None, None
        )
        if status != 0 or library.espeak_Synchronize() != 0:
            raise DataError(f"espeak-ng: voice {voice}: status {status} for {text.decode()}")
        speeches.append(Speech(bytes(samples), tuple(events)))
    return speeches


def _serve() -> int:
    """Answer a request of `synthesize`: read JSON from stdin; write a line of JSON and the samples to stdout."""
    request = json.load(sys.stdin)
    try:
        speeches = _say(request["voice"], [Prompt(**prompt) for prompt in request["prompts"]])
    except AsrkitError as error:
        print(error, file=sys.stderr)
        return 1
    header = [(len(speech.samples), speech.events) for speech in speeches]
    sys.stdout.buffer.write(json_text(header).encode() + b"\n")
    for speech in speeches:
        sys.stdout.buffer.write(speech.samples)
    return 0


if __name__ == "__main__":
    sys.exit(_serve())
