"""Writes phones as SubRip subtitles (.srt)."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from asrkit.types import PhoneTime

# A subtitle ends at a pause of this length (seconds). It also ends before it lasts longer (seconds) or has more
# characters than can be read easily.
_PAUSE, _LENGTH, _CHARACTERS = 0.3, 6.0, 84


def format_srt(times: Iterable[PhoneTime], silences: Collection[str] = ()) -> str:
    """The text of an .srt file. A subtitle has the phones between two pauses, without the phones in `silences`."""
    subtitles: list[list[PhoneTime]] = []
    length = 0  # of the last subtitle, in characters
    for time in times:
        if time.phone in silences:
            continue
        last = subtitles[-1] if subtitles else []
        length += 1 + len(time.phone)
        if (
            not last
            or time.start - last[-1].end >= _PAUSE
            or time.end - last[0].start > _LENGTH
            or length > _CHARACTERS
        ):
            subtitles.append([])
            length = len(time.phone)
        subtitles[-1].append(time)
    return "".join(
        f"{number}\n{_clock(shown[0].start)} --> {_clock(shown[-1].end)}\n{' '.join(time.phone for time in shown)}\n\n"
        for number, shown in enumerate(subtitles, 1)
    )


def _clock(seconds: float) -> str:
    """A time in the format HH:MM:SS,mmm."""
    minutes, millis = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{millis // 1000:02},{millis % 1000:03}"
