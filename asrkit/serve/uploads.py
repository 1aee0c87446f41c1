"""The body of a request as a temporary file, limited in size and time."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import IO

from starlette.requests import Request

from asrkit.audio.read import no_room
from asrkit.io.numbers import parse_whole
from asrkit.serve.answers import Refusal
from asrkit.serve.service import Limits

_IN_MEMORY = 2**20  # bytes


@asynccontextmanager
async def uploaded(request: Request, name: str, limits: Limits) -> AsyncIterator[IO[bytes]]:
    """Receive the whole body of a request; the file is at its beginning, and is deleted after the `with` block.

    Raises:
        Refusal: the body is too large, too slow or empty.
        AudioError: the disk is full.
    """
    too_large = Refusal(413, f"{name}: more than {limits.max_bytes} bytes, the most that is taken")
    declared = parse_whole(request.headers.get("content-length", "0"))
    if declared is None or declared > limits.max_bytes:
        raise too_large
    with tempfile.SpooledTemporaryFile(_IN_MEMORY) as file:
        num_bytes = 0
        try:
            async with asyncio.timeout(limits.upload_seconds):
                async for chunk in request.stream():
                    num_bytes += len(chunk)
                    if num_bytes > limits.max_bytes:
                        raise too_large
                    file.write(chunk)
        except TimeoutError:
            raise Refusal(
                408, f"{name}: not all of it came within {limits.upload_seconds:g} s ({num_bytes} bytes did)"
            ) from None
        except OSError as error:
            raise no_room(name, error) from None
        if not num_bytes:
            raise Refusal(400, f"{name}: empty (0 bytes); send the audio file as the body of the request")
        file.seek(0)
        yield file
