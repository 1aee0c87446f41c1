"""POST /transcribe and POST /align: one recording and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import IO, Any

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

from asrkit.audio import open_audio
from asrkit.errors import AsrkitError, expected
from asrkit.formats.results import FORMATS, Result
from asrkit.inference.alignment import AlignmentJob, align_all
from asrkit.inference.transcription import TranscribeOptions, in_other_symbols, transcribe_one
from asrkit.serve.queries import ALIGN, TRANSCRIBE, VIEW, Parameter, read_query, recording
from asrkit.serve.service import ServedModel, Service
from asrkit.serve.uploads import uploaded
from asrkit.serve.view import format_view
from asrkit.types import Waveform

Recognize = Callable[[ServedModel, IO[bytes], Mapping[str, Any], float], Result]
_JSON = (VIEW, "json")


def transcribe(model: ServedModel, file: IO[bytes], query: Mapping[str, Any], max_seconds: float) -> Result:
    """The result of the recording in the file, of `max_seconds` at most. Raises AudioError, ConfigError."""
    each = recording(query["name"])
    options = TranscribeOptions(query["channel"], True, query["nbest"], model.ipa if query["ipa"] else {})
    with open_audio(file, channel=query["channel"], name=each.name, max_seconds=max_seconds) as audio:
        return transcribe_one(model.recognizer, audio, each, options)


def align(model: ServedModel, file: IO[bytes], query: Mapping[str, Any], max_seconds: float) -> Result:
    """The same for known phones. Raises DataError, too, as Recognizer.align."""
    each = recording(query["name"])

    def load() -> Waveform:
        with open_audio(file, channel=query["channel"], name=each.name, max_seconds=max_seconds) as audio:
            return Waveform(np.concatenate(list(audio.blocks())), audio.sample_rate)

    job = AlignmentJob(each.name, each.key, query["phones"], load)
    (result,) = align_all(model.recognizer, [job], "phones", query["optional_silence"])
    if isinstance(result, AsrkitError):
        raise result
    hypothesis = in_other_symbols(result.hypothesis, model.ipa if query["ipa"] else {})
    return replace(result, hypothesis=hypothesis)


# By path: what may be asked, and what answers.
OPERATIONS: dict[str, tuple[tuple[Parameter, ...], Recognize]] = {
    "/transcribe": (TRANSCRIBE, transcribe),
    "/align": (ALIGN, align),
}


def endpoint(service: Service, parameters: tuple[Parameter, ...], recognize: Recognize) -> Callable[[Request], Any]:
    """What answers a POST of a recording."""

    def work(model: ServedModel, file: IO[bytes], query: Mapping[str, Any]) -> str:
        try:
            result = recognize(model, file, query, service.limits.audio_seconds)
            if query["format"] == VIEW:
                return format_view(model, result, file, query["channel"])
            return FORMATS[query["format"]].render(result)
        except Exception as error:
            raise expected(error, query["name"]) from None

    async def answer(request: Request) -> Response:
        query = read_query(request.query_params.multi_items(), parameters)
        model = service.model(query["model"])
        with service.place(service.recordings):
            async with uploaded(request, recording(query["name"]).name, service.limits) as file:
                text = await service.compute(service.recordings, lambda: work(model, file, query))
        is_json = query["format"] in _JSON
        return Response(text, media_type="application/json" if is_json else "text/plain")

    return answer
