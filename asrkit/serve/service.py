"""What the server works with: models, threads that recognise, and limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from asrkit.device import CPU
from asrkit.errors import ConfigError, DataError, printable
from asrkit.inference.hypothesis import ipa_symbols
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.recognizer import Recognizer, load_model
from asrkit.inference.stream import StreamingRecognizer
from asrkit.serve.answers import Refusal

Made = TypeVar("Made")


@dataclass(frozen=True)
class Limits:
    """Limits of one request, and of simultaneous requests.

    Attributes:
        max_bytes: the size of an upload.
        upload_seconds: the time for an upload, or between two messages of a stream.
        audio_seconds: the duration of a recording or a stream.
        max_requests: simultaneous uploads and recordings, including those that wait for a thread.
        max_streams: simultaneous streams.
    """

    max_bytes: int = 200 * 10**6
    upload_seconds: float = 60.0
    audio_seconds: float = 3600.0
    max_requests: int = 64
    max_streams: int = 16


class ServedModel:
    """A model under the `name` that the user gave. Any number of threads can use it at the same time."""

    def __init__(self, name: str, model: OnnxModel) -> None:
        self.name, self.model, self.recognizer = name, model, Recognizer(model)

    @cached_property
    def ipa(self) -> Mapping[str, str]:
        """Model symbol -> IPA, for symbols that are not IPA already. Raises DataError as ipa_table."""
        return ipa_symbols(self.recognizer.tokens)

    @cached_property
    def stream_fault(self) -> str | None:
        """Why the model cannot recognise streams; None if it can."""
        try:
            StreamingRecognizer(self.model)
        except ConfigError as error:
            return str(error)
        return None

    def describe(self) -> dict[str, object]:
        """The model's entry in the list of `GET /models`."""
        with contextlib.suppress(DataError):  # no IPA is known for its symbols
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
    """The models by name (the first is the default), and the threads that recognise.

    Streams have their own threads, so they need not wait for recordings. Call all other methods only from the thread of
    the event loop.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, num_threads: int | None = None) -> None:
        self.models = {model.name: model for model in models}
        self.limits = limits
        num_threads = num_threads or os.cpu_count() or 1
        self.recordings = ThreadPoolExecutor(num_threads, "recording")
        self.streams = ThreadPoolExecutor(num_threads, "stream")
        self._num_busy = {self.recordings: 0, self.streams: 0}

    def model(self, name: str | None) -> ServedModel:
        """The model with that name; the first one for None. Raises Refusal if there is none."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise Refusal(404, f"{printable(name)}: no such model; expected one of {', '.join(self.models)}")
        return self.models[name]

    @contextlib.contextmanager
    def place(self, pool: ThreadPoolExecutor) -> Iterator[None]:
        """Reserve one of the places for requests of a kind during a `with` block. Raises Refusal if all are taken."""
        most = self.limits.max_streams if pool is self.streams else self.limits.max_requests
        if self._num_busy[pool] >= most:
            raise Refusal(503, f"busy: {most} requests are under way; try again in some seconds")
        self._num_busy[pool] += 1
        try:
            yield
        finally:
            self._num_busy[pool] -= 1

    async def compute(self, pool: ThreadPoolExecutor, function: Callable[[], Made]) -> Made:
        """Call a function in a thread of the pool, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(pool, function)


def load_models(names: Sequence[str], device: str = CPU) -> list[ServedModel]:
    """Load the models that `--model` names, onto a device.

    Raises:
        ModelError: as load_model.
        ConfigError: a model is named twice, or onnxruntime cannot use the device.
    """
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"--model {printable(twice[0])}: given twice; leave one out")
    return [ServedModel(printable(name), load_model(name, device)) for name in names]
