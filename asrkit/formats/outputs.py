"""Writers of recognised or aligned phones: text, JSON, CTM, Praat TextGrids, .phn, .lab and SRT subtitles.

Times are rounded to microseconds, which give a sample's index back at any rate in use. corpora/labels.py reads all of
them that have times but JSON and SRT.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrkit.errors import DataError
from asrkit.io.atomic import atomic_write
from asrkit.types import Hypothesis, PhoneTime

_HTK_UNITS = 10_000_000  # a second

# A subtitle ends at a pause of so many seconds, and before it lasts or holds more than is read at ease.
_SUBTITLE_PAUSE, _SUBTITLE_LENGTH, _SUBTITLE_CHARACTERS = 0.3, 6.0, 84


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


@dataclass(frozen=True, slots=True)
class Format:
    """`render` gives a whole file's text. `is_stream`: the files of several recordings, joined, are one such file.

    `has_alternatives`: all of a hypothesis's are written.
    """

    suffix: str
    render: Callable[[Result], str]
    has_times: bool = True
    is_stream: bool = False
    has_alternatives: bool = False


def text_lines(result: Result) -> str:
    """`name phone phone ...`, or `name rank score phone ...` for each of the alternatives where there are any."""
    hypothesis = result.hypothesis
    if not hypothesis.alternatives:
        return " ".join((result.name, *hypothesis.phones)) + "\n"
    ranked = enumerate(hypothesis.alternatives, 1)
    return "".join(" ".join((result.name, f"{n} {found.score:.4f}", *found.phones)) + "\n" for n, found in ranked)


def json_line(result: Result) -> str:
    """One object; the confidence of the whole and the alternatives are there when the hypothesis has them."""
    hypothesis = result.hypothesis
    content: dict[str, object] = {"file": result.name, "log_prob": round(hypothesis.log_prob, 4)}
    if hypothesis.confidence is not None:
        content["confidence"] = round(hypothesis.confidence, 4)
    if hypothesis.alternatives:
        content["nbest"] = [
            {"score": round(found.score, 4), "log_prob": round(found.log_prob, 4), "phones": found.phones}
            for found in hypothesis.alternatives
        ]
    # One by one: those of a long recording take far less memory as text than as objects.
    phones = ", ".join(
        _json(
            {
                "phone": time.phone,
                "start": round(time.start, 4),
                "end": round(time.end, 4),
                "confidence": round(confidence, 4),
            }
        )
        for time, confidence in zip(hypothesis.times, hypothesis.confidences, strict=True)
    )
    return f'{_json(content)[:-1]}, "phones": [{phones}]}}\n'


def _json(content: dict[str, object]) -> str:
    return json.dumps(content, ensure_ascii=False)


def ctm_lines(key: str, hypothesis: Hypothesis) -> str:
    """`key 1 start duration phone [confidence]` a line, in seconds (NIST's CTM, with phones for words)."""
    confidences = hypothesis.confidences or (None,) * len(hypothesis.times)
    lines = []
    for time, confidence in zip(hypothesis.times, confidences, strict=True):
        start, end = _micros(time.start), _micros(time.end)
        fields = [key, "1", _seconds(start), _seconds(end - start), time.phone]
        fields += [] if confidence is None else [f"{confidence:.4f}"]
        lines.append(" ".join(fields) + "\n")
    return "".join(lines)


def write_ctm(path: str | Path, hypotheses: Iterable[Hypothesis]) -> None:
    """A CTM file of all hypotheses, which need times, under their utterance ids."""
    with atomic_write(path) as stream:
        for hypothesis in hypotheses:
            stream.write(ctm_lines(hypothesis.utt_id, hypothesis))


def textgrid(duration: float, tiers: Mapping[str, Sequence[PhoneTime]]) -> str:
    """A TextGrid in Praat's long form: an interval tier for each of `tiers`, from 0 to `duration` without a hole.

    What lies between intervals becomes an interval without a label, as Praat wants it. Labels may hold any characters.

    Raises:
        DataError: intervals that are empty, overlap or leave 0 to `duration`.
    """
    end = _micros(duration)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {_seconds(end)}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, times) in enumerate(tiers.items(), 1):
        intervals = list(_without_holes(name, times, end))
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {_seconds(end)}", f"        intervals: size = {len(intervals)}"]
        for index, (start, stop, label) in enumerate(intervals, 1):
            lines += [f"        intervals [{index}]:", f"            xmin = {_seconds(start)}"]
            lines += [f"            xmax = {_seconds(stop)}", f"            text = {_quoted(label)}"]
    return "\n".join(lines) + "\n"


def _without_holes(name: str, times: Sequence[PhoneTime], end: int) -> Iterator[tuple[int, int, str]]:
    now = 0
    for time in times:
        start, stop = _micros(time.start), _micros(time.end)
        if not now <= start < stop <= end:
            raise DataError(
                f"tier {name}: {time.phone} from {time.start:.6f} to {time.end:.6f} s; expected intervals in order, "
                f"without overlap, up to {end / 1e6:.6f} s"
            )
        if now < start:
            yield now, start, ""
        yield start, stop, time.phone
        now = stop
    if now < end:
        yield now, end, ""


def phn_lines(result: Result) -> str:
    """`start end phone` a line in samples of the recording's own rate, as TIMIT has it."""
    return _label_lines(result.hypothesis.times, result.sample_rate)


def lab_lines(result: Result) -> str:
    """`start end phone` a line in units of 100 ns, as HTK has it."""
    return _label_lines(result.hypothesis.times, _HTK_UNITS)


def _label_lines(times: Sequence[PhoneTime], rate: int) -> str:
    return "".join(f"{round(time.start * rate)} {round(time.end * rate)} {time.phone}\n" for time in times)


def srt(result: Result) -> str:
    """SubRip subtitles of the phones between pauses; silence is left out."""
    subtitles: list[list[PhoneTime]] = []
    length = 0  # of the last one, in characters
    for time in result.hypothesis.times:
        if time.phone in result.silences:
            continue
        last = subtitles[-1] if subtitles else []
        length += 1 + len(time.phone)
        if (
            not last
            or time.start - last[-1].end >= _SUBTITLE_PAUSE
            or time.end - last[0].start > _SUBTITLE_LENGTH
            or length > _SUBTITLE_CHARACTERS
        ):
            subtitles.append([])
            length = len(time.phone)
        subtitles[-1].append(time)
    return "".join(
        f"{number}\n{_clock(times[0].start)} --> {_clock(times[-1].end)}\n{' '.join(time.phone for time in times)}\n\n"
        for number, times in enumerate(subtitles, 1)
    )


def _clock(seconds: float) -> str:
    """HH:MM:SS,mmm."""
    minutes, millis = divmod(round(seconds * 1000), 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{millis // 1000:02},{millis % 1000:03}"


FORMATS = {
    "text": Format(".txt", text_lines, has_times=False, is_stream=True, has_alternatives=True),
    "json": Format(".json", json_line, is_stream=True, has_alternatives=True),
    "ctm": Format(".ctm", lambda result: ctm_lines(result.key, result.hypothesis), is_stream=True),
    "textgrid": Format(".TextGrid", lambda result: textgrid(result.duration, {"phones": result.hypothesis.times})),
    "phn": Format(".phn", phn_lines),
    "lab": Format(".lab", lab_lines),
    "srt": Format(".srt", srt),
}


def _micros(seconds: float) -> int:
    return round(seconds * 1e6)


def _seconds(micros: int) -> str:
    """Milliseconds where they suffice."""
    text = f"{micros / 1e6:.6f}"
    return text[:-3] if text.endswith("000") else text


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
