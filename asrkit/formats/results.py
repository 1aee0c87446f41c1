"""The formats in which recognised or aligned phones are written: a table, by the names that a user gives.

Times are rounded to microseconds. This is exact enough to recover the index of a sample at any usual sampling rate.
asrkit can read all formats with times, except JSON and SRT.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from asrkit.formats.ctm import format_hypothesis
from asrkit.formats.jsonl import format_json_line
from asrkit.formats.lab import format_lab
from asrkit.formats.phn import format_phn
from asrkit.formats.srt import format_srt
from asrkit.formats.textgrid import format_textgrid
from asrkit.formats.transcripts import format_transcript
from asrkit.types import Hypothesis


@dataclass(frozen=True, slots=True)
class Result:
    """The phones of one recording, and what the formats need to know about the recording.

    Attributes:
        name: the audio file or utterance, as the user knows it.
        key: its name in CTM files, without blanks, and in the name of its result file.
        hypothesis: the phones.
        duration: the length of the recording, in seconds.
        sample_rate: the sampling rate of the recording, in Hz.
        silences: the symbols that mean silence.
    """

    name: str
    key: str
    hypothesis: Hypothesis
    duration: float
    sample_rate: int
    silences: frozenset[str] = frozenset()


class Renderer(Protocol):
    """The interface of a format: it converts a result to the text of a whole file."""

    def __call__(self, result: Result, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Format:
    """A format and its abilities.

    Attributes:
        suffix: the ending of file names.
        render: converts a result to the text of a whole file.
        has_times: the format has the times of phones.
        is_stream: the concatenated files of several recordings are one valid file.
        has_alternatives: the format has all alternatives of a hypothesis.
        has_keys: recordings are named by their keys, which must be unique and without blanks.
    """

    suffix: str
    render: Renderer
    has_times: bool = True
    is_stream: bool = False
    has_alternatives: bool = False
    has_keys: bool = False


FORMATS = {
    "text": Format(
        ".txt",
        lambda result: format_transcript(result.name, result.hypothesis),
        has_times=False,
        is_stream=True,
        has_alternatives=True,
    ),
    "json": Format(
        ".json",
        lambda result: format_json_line(result.name, result.hypothesis, result.silences),
        is_stream=True,
        has_alternatives=True,
    ),
    "ctm": Format(
        ".ctm", lambda result: format_hypothesis(result.key, result.hypothesis), is_stream=True, has_keys=True
    ),
    "textgrid": Format(
        ".TextGrid", lambda result: format_textgrid(result.duration, {"phones": result.hypothesis.times})
    ),
    "phn": Format(".phn", lambda result: format_phn(result.hypothesis.times, result.sample_rate)),
    "lab": Format(".lab", lambda result: format_lab(result.hypothesis.times)),
    "srt": Format(".srt", lambda result: format_srt(result.hypothesis.times, result.silences)),
}
