"""Kaldi's table segments. A line: `utterance recording start end`, in seconds."""

from __future__ import annotations

from typing import NamedTuple

from asrkit.formats.seconds import format_seconds, parse_time
from asrkit.io.scp import split_fields


class Segment(NamedTuple):
    """The part of a recording that forms an utterance. Times are in seconds."""

    recording: str
    start: float
    end: float


def parse_segment(row: str) -> Segment | None:
    """The segment in a row, without the utterance id at its beginning; None if it is not `recording start end`."""
    fields = split_fields(row)
    if len(fields) != 3:
        return None
    start, end = parse_time(fields[1]), parse_time(fields[2])
    return None if start is None or end is None else Segment(fields[0], start, end)


def format_segment(segment: Segment) -> str:
    """The row of a segment, without the utterance id at its beginning."""
    return f"{segment.recording} {format_seconds(segment.start)} {format_seconds(segment.end)}"
