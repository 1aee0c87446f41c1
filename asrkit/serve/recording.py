"""POST /transcribe and POST /align: recognise or align one recording."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from threading import Event
from typing import IO, Any

import numpy as np
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from asrkit.audio import open_audio
from asrkit.audio.read import Watch
from asrkit.errors import AsrkitError, AudioError, expected
from asrkit.formats.results import FORMATS, Result
from asrkit.inference.alignment import AlignmentJob, AlignOptions, align_all
from asrkit.inference.transcription import TranscribeOptions, in_other_symbols, transcribe_one
from asrkit.serve.answers import Refusal
from asrkit.serve.queries import ALIGN, TRANSCRIBE, VIEW, Parameter, read_query, recording
from asrkit.serve.service import ServedModel, Service
from asrkit.serve.uploads import uploaded
from asrkit.serve.view import format_view
from asrkit.types import Waveform

Recognize = Callable[[ServedModel, IO[bytes], Mapping[str, Any], Watch], Result]
_JSON = (VIEW, "json")


def transcribe(model: ServedModel, file: IO[bytes], query: Mapping[str, Any], watch: Watch) -> Result:
    """Recognise the recording in `file`. Raises AudioError, ConfigError, and the errors of `watch`."""
    each = recording(query["name"])
    options = TranscribeOptions(query["channel"], True, query["nbest"], model.ipa if query["ipa"] else {})
    with open_audio(file, channel=query["channel"], name=each.name, watch=watch) as audio:
        return transcribe_one(model.recognizer, audio, each, options)


def align(model: ServedModel, file: IO[bytes], query: Mapping[str, Any], watch: Watch) -> Result:
    """Align known phones with the recording in `file`.

    Raises:
        AudioError, ConfigError: as `transcribe`.
        DataError: as Recognizer.align.
    """
    each = recording(query["name"])

    def load() -> Waveform:
        with open_audio(file, channel=query["channel"], name=each.name, watch=watch) as audio:
            return Waveform(np.concatenate(list(audio.blocks())), audio.sample_rate)

    job = AlignmentJob(each.name, each.key, query["phones"], load)
    (result,) = align_all(model.recognizer, [job], AlignOptions("phones", query["optional_silence"]))
    if isinstance(result, AsrkitError):
        raise result
    hypothesis = in_other_symbols(result.hypothesis, model.ipa if query["ipa"] else {})
    return replace(result, hypothesis=hypothesis)


@dataclass(frozen=True)
class _Bounds:
    """Stops the decoding of a recording that is too long, or whose client has left (`gone` is set)."""

    name: str
    max_seconds: float
    gone: Event

    def __call__(self, seconds: float) -> None:
        if self.gone.is_set():
            raise Refusal(400, f"{self.name}: the client has left")  # nobody reads this answer
        if seconds > self.max_seconds:
            raise AudioError(f"{self.name}: longer than the limit of {self.max_seconds:g} s; cut it")


async def _unless_left(request: Request, job: Future[str], gone: Event) -> str:
    """Wait for the result of a job, or until the client leaves. The job uses the upload, so this waits for its end.

    If the client leaves, a waiting job never starts. A running job notices `gone` and stops.

    Raises:
        ClientDisconnect: the client has left.
    """
    result = asyncio.wrap_future(job)
    left = asyncio.ensure_future(_left(request))
    either: tuple[asyncio.Future[Any], ...] = result, left
    try:
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
    finally:
        gone.set()
        left.cancel()
    if not job.cancel():
        await asyncio.wait({result})
        result.exception()  # retrieved, so that asyncio does not report it
    raise ClientDisconnect


async def _left(request: Request) -> None:
    """Return when the client has left. The whole request must have arrived before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


# path -> parameters and function
OPERATIONS: dict[str, tuple[tuple[Parameter, ...], Recognize]] = {
    "/transcribe": (TRANSCRIBE, transcribe),
    "/align": (ALIGN, align),
}


def endpoint(service: Service, parameters: tuple[Parameter, ...], recognize: Recognize) -> Callable[[Request], Any]:
    """Make the handler for POST requests with a recording."""

    def work(model: ServedModel, file: IO[bytes], query: Mapping[str, Any], gone: Event) -> str:
        watch = _Bounds(recording(query["name"]).name, service.limits.audio_seconds, gone)
        try:
            result = recognize(model, file, query, watch)
            if query["format"] == VIEW:
                watch(result.duration)
                return format_view(model, result, file, query["channel"])
            return FORMATS[query["format"]].render(result)
        except Exception as error:
            raise expected(error, query["name"]) from None

    async def answer(request: Request) -> Response:
        query = read_query(request.query_params.multi_items(), parameters)
        model = service.model(query["model"])
        with service.place(service.recordings):
            async with uploaded(request, recording(query["name"]).name, service.limits) as file:
                gone = Event()
                job = service.recordings.submit(work, model, file, query, gone)
                text = await _unless_left(request, job, gone)
        is_json = query["format"] in _JSON
        return Response(text, media_type="application/json" if is_json else "text/plain")

    return answer
