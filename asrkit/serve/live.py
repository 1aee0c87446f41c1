"""The WebSocket /stream: the client sends samples and receives phones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect

from asrkit.audio.source import MAX_RATE, MIN_RATE
from asrkit.errors import ConfigError, expected
from asrkit.inference.stream import StreamingRecognizer, StreamResult
from asrkit.io.json_text import json_text, parse_json
from asrkit.serve.answers import Refusal, fault_text
from asrkit.serve.guard import Access
from asrkit.serve.service import Service

MAX_MESSAGE = 2**20  # bytes
_POLICY_VIOLATION, _NORMAL = 1008, 1000  # codes of RFC 6455


@dataclass(frozen=True)
class Live:
    """Recognises streams, one per connection.

    The client first sends a JSON object, {"model": NAME, "rate": HZ, "token": TOKEN}; model and token are optional.
    Then it sends binary messages with samples (16-bit, little-endian, one channel). At the end it sends the text `end`.
    The answers are the lines that `asrkit stream` prints. After an error the server sends {"error": LINE} and closes
    the connection.
    """

    service: Service
    access: Access

    async def answer(self, websocket: WebSocket) -> None:
        """Serve one connection until it ends. The client learns of all errors; none is raised."""
        await websocket.accept()
        try:
            options = self._admitted(await self._receive(websocket))  # only then reserve a place
            with self.service.place(self.service.streams):
                await self._serve(websocket, options)
            await websocket.close(_NORMAL)
        except WebSocketDisconnect:
            pass
        except Exception as error:
            fault = expected(error, "stream")
            with contextlib.suppress(WebSocketDisconnect):
                await websocket.send_text(fault_text(fault))
                await websocket.close(_POLICY_VIOLATION)

    def _admitted(self, message: str | bytes) -> dict[str, Any]:
        """The options in the first message. Raises Refusal if its token is wrong."""
        options = _options(message)
        if not self.access.admits(options.get("token", "")):
            raise Refusal(401, "no token, or a wrong one; send it as `token` in the first message")
        return options

    async def _serve(self, websocket: WebSocket, options: Mapping[str, Any]) -> None:
        rate = options["rate"]
        make = partial(StreamingRecognizer, self.service.model(options.get("model")).model, sample_rate=rate)
        stream = await self.service.compute(self.service.streams, make)
        num_left = round(self.service.limits.audio_seconds * rate)  # samples
        while (message := await self._receive(websocket)) != "end":
            if isinstance(message, str) or len(message) % 2:
                raise ConfigError("stream: expected samples of 16 bits in binary messages, or the text `end`")
            num_left -= len(message) // 2
            if num_left < 0:
                raise Refusal(413, f"stream: longer than {self.service.limits.audio_seconds:g} s; begin another one")
            await self._send(websocket, partial(stream.accept, np.frombuffer(message, "<i2")))
        await self._send(websocket, stream.finish)

    async def _receive(self, websocket: WebSocket) -> str | bytes:
        seconds = self.service.limits.upload_seconds
        try:
            async with asyncio.timeout(seconds):
                message = await websocket.receive()
        except TimeoutError:
            raise Refusal(408, f"stream: nothing came for {seconds:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", _NORMAL))
        text: str | None = message.get("text")
        content: bytes = message.get("bytes") or b""
        return content if text is None else text

    async def _send(self, websocket: WebSocket, recognize: Callable[[], Sequence[StreamResult]]) -> None:
        for result in await self.service.compute(self.service.streams, recognize):
            await websocket.send_text(result.json_line())


def _options(message: str | bytes) -> dict[str, Any]:
    """The first message. Raises ConfigError for one that is not as Live says."""
    wanted = ConfigError(
        f"stream: expected {json_text({'model': 'NAME', 'rate': 16000})} first, with a rate of {MIN_RATE} to "
        f"{MAX_RATE} Hz"
    )
    try:
        options = parse_json(message) if isinstance(message, str) else None
    except ValueError:
        raise wanted from None
    if not isinstance(options, dict) or options.keys() - {"model", "rate", "token"}:
        raise wanted
    rate = options.get("rate")
    names = [options[key] for key in ("model", "token") if key in options]
    if type(rate) is not int or not MIN_RATE <= rate <= MAX_RATE or not all(isinstance(name, str) for name in names):
        raise wanted
    return options
