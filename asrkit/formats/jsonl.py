"""JSON lines: one object for each recording, with its phones, times and confidences."""

from __future__ import annotations

from collections.abc import Collection

from asrkit.io.json_text import json_text
from asrkit.types import Hypothesis


def format_json_line(name: str, hypothesis: Hypothesis, silences: Collection[str] = ()) -> str:
    """The line for the recording `name`. It has the total confidence and the alternatives if the hypothesis has them.

    If all phones are `silences`, the object has a note that no speech was found.
    """
    content: dict[str, object] = {"file": name, "log_prob": round(hypothesis.log_prob, 4)}
    if hypothesis.confidence is not None:
        content["confidence"] = round(hypothesis.confidence, 4)
    if hypothesis.alternatives:
        content["nbest"] = [
            {"score": round(other.score, 4), "log_prob": round(other.log_prob, 4), "phones": other.phones}
            for other in hypothesis.alternatives
        ]
    if all(phone in silences for phone in hypothesis.phones):
        content["note"] = "no speech found"
    # Each phone is converted separately: the texts of a long recording need far less memory than its objects.
    phones = ", ".join(
        json_text(
            {
                "phone": time.phone,
                "start": round(time.start, 4),
                "end": round(time.end, 4),
                "confidence": round(confidence, 4),
            }
        )
        for time, confidence in zip(hypothesis.times, hypothesis.confidences, strict=True)
    )
    return f'{json_text(content)[:-1]}, "phones": [{phones}]}}\n'
