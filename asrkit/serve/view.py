"""All that the page shows of a recording, as one JSON object."""

from __future__ import annotations

from base64 import b64encode
from typing import IO

import numpy as np

from asrkit.audio import Channel, open_audio
from asrkit.formats.results import FORMATS, Result
from asrkit.io.json_text import json_text
from asrkit.serve.service import ServedModel
from asrkit.types import Waveform

SHOWN_SECONDS = 300.0  # longer recordings are not drawn; only their phones are listed


def format_view(model: ServedModel, result: Result, file: IO[bytes], channel: Channel) -> str:
    """The phones of a recording, the result in every format, and, for a short recording, audio and posteriors.

    `audio` holds samples (16-bit, little-endian, at the model's sampling rate). `posteriors` holds one byte per step
    and class; 255 stands for 1. Both are base64. Class 0 is the blank. If they are missing, `note` says why.
    """
    hypothesis, clock = result.hypothesis, model.recognizer.timer.clock
    phones = [
        {
            "phone": span.phone,
            "start": round(span.start, 4),
            "end": round(span.end, 4),
            "confidence": round(confidence, 4),
        }
        for span, confidence in zip(hypothesis.times, hypothesis.confidences, strict=True)
    ]
    content: dict[str, object] = {
        "name": result.name,
        "model": model.name,
        "duration": round(result.duration, 4),
        "confidence": hypothesis.confidence,
        "phones": phones,
        "note": None,
        "files": {
            name: {"name": f"{result.key}{each.suffix}", "text": each.render(result)} for name, each in FORMATS.items()
        },
    }
    if result.duration <= SHOWN_SECONDS:
        waveform = _read(file, channel, model.recognizer.features.sample_rate)
        samples = np.clip(np.rint(waveform.samples), -(2**15), 2**15 - 1).astype("<i2")
        levels = np.rint(255 * model.recognizer.posteriors(waveform)).astype(np.uint8)
        content["audio"] = {"rate": waveform.sample_rate, "samples": b64encode(samples.tobytes()).decode()}
        content["posteriors"] = {
            "start": round(clock.start + clock.shift * clock.middle, 6),
            "step": round(clock.step, 6),
            "classes": ["blank", *model.recognizer.tokens.phones],
            "levels": b64encode(levels.tobytes()).decode(),
        }
    else:
        content["note"] = (
            f"It is longer than {SHOWN_SECONDS / 60:g} minutes, so nothing is drawn. To see its spectrogram, cut it."
        )
    return json_text(content)


def _read(file: IO[bytes], channel: Channel, rate: int) -> Waveform:
    file.seek(0)
    with open_audio(file, channel=channel, name="audio") as audio:
        return Waveform(np.concatenate(list(audio.blocks(rate))), rate)
