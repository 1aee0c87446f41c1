"""The formats in which recognized or aligned phones are written: one registry, by the name that a user gives.

Times are rounded to microseconds, which give a sample's index back at any rate in use. The modules of the formats read
all of those that have times but JSON and SRT.
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
    """The phones of one recording, and what the formats say of it besides.

    `name` is the audio file or utterance as the user knows it; `key` names it in CTM, where it holds no blank, and
    the file for it. `duration` in seconds, `sample_rate` in Hz: the recording's own. `silences`: phones that are none.
    """

    name: str
    key: str
    hypothesis: Hypothesis
    duration: float
    sample_rate: int
    silences: frozenset[str] = frozenset()


class Renderer(Protocol):
    """The interface of a format: a result as the text of a whole file."""

    def __call__(self, result: Result, /) -> str: ...


@dataclass(frozen=True, slots=True)
class Format:
    """A format and what it can hold.

    Attributes:
        suffix: of the files' names.
        render: gives a whole file's text.
        has_times: the phones' times are written.
        is_stream: the files of several recordings, joined, are one such file.
        has_alternatives: all of a hypothesis's alternatives are written.
        has_keys: recordings are named by their keys, which must be unique and hold no blank.
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
