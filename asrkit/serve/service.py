"""What the server works with: models, threads that compute, and limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from asrkit.errors import ConfigError, DataError, printable
from asrkit.inference.hypothesis import ipa_symbols
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.recognizer import Recognizer, load_model
from asrkit.inference.stream import StreamingRecognizer
from asrkit.serve.answers import Refusal

Made = TypeVar("Made")


@dataclass(frozen=True)
class Limits:
    """What one request may take, and how many may be under way.

    Attributes:
        max_bytes: of an upload.
        upload_seconds: in which an upload has come, or the next samples of a stream.
        audio_seconds: how long a recording or a stream may be.
        max_requests: uploads and recordings at one time, those that wait for a thread included.
        max_streams: streams at one time.
    """

    max_bytes: int = 200 * 10**6
    upload_seconds: float = 60.0
    audio_seconds: float = 3600.0
    max_requests: int = 64
    max_streams: int = 16


class ServedModel:
    """A model under the `name` that the user gave. Any number of threads can use one."""

    def __init__(self, name: str, model: OnnxModel) -> None:
        self.name, self.model, self.recognizer = name, model, Recognizer(model)

    @cached_property
    def ipa(self) -> Mapping[str, str]:
        """From the model's symbols to IPA, for those that are not written so already. Raises DataError as ipa_table."""
        return ipa_symbols(self.recognizer.tokens)

    @cached_property
    def stream_fault(self) -> str | None:
        """Why the model takes no streams; None when it does."""
        try:
            StreamingRecognizer(self.model)
        except ConfigError as error:
            return str(error)
        return None

    def describe(self) -> dict[str, object]:
        """As `GET /models` lists it."""
        with contextlib.suppress(DataError):  # there is no IPA for its symbols
            table: Mapping[str, str] = {}
            table = self.ipa
        silent = self.recognizer.timer.silent_phones
        phones = [
            {"phone": phone, "ipa": table.get(phone, phone), "is_silence": phone in silent}
            for phone in self.recognizer.tokens.phones
        ]
        streams, corpus = self.stream_fault is None, self.model.corpus
        note = None if corpus is None else corpus.doubt
        return {"name": self.name, "phones": phones, "streams": streams, "why": self.stream_fault, "note": note}


class Service:
    """The models by name, the first being the default, and the threads that recognise.

    Streams have threads of their own, so that they need not wait for recordings. All other methods belong to the one
    thread of the event loop.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, num_threads: int | None = None) -> None:
        self.models = {model.name: model for model in models}
        self.limits = limits
        num_threads = num_threads or os.cpu_count() or 1
        self.recordings = ThreadPoolExecutor(num_threads, "recording")
        self.streams = ThreadPoolExecutor(num_threads, "stream")
        self._num_busy = {self.recordings: 0, self.streams: 0}

    def model(self, name: str | None) -> ServedModel:
        """The model of that name. Raises Refusal when there is none."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refusal(404, f"{printable(name)}: no such model; expected one of {', '.join(self.models)}")
        return self.models[name]

    @contextlib.contextmanager
    def place(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        """One of the places for requests of a kind, while the block lasts. Raises Refusal when all are taken."""
        most = self.limits.max_streams if pool is self.streams else self.limits.max_requests
        if self._num_busy[pool] >= most:
            raise Refusal(503, f"busy: {most} requests are under way; try again in some seconds")
        self._num_busy[pool] += 1
        try:
            yield
        finally:
            self._num_busy[pool] -= 1

    async def compute(self, pool: ThreadPoolExecutor, function: Callable[[], Made]) -> Made:
        """What the function returns, from a thread of the pool."""
        return await asyncio.get_running_loop().run_in_executor(pool, function)


def load_models(names: Sequence[str]) -> list[ServedModel]:
    """The models that `--model` names. Raises ModelError as load_model, ConfigError for one that is named twice."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--model {printable(twice[0])}: given twice; leave one out")
    return [ServedModel(printable(name), load_model(name)) for name in names]
