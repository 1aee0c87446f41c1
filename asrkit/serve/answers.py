"""The server's answers to requests that it refuses."""

from __future__ import annotations

from asrkit.errors import AsrkitError, AudioError, ConfigError, DataError
from asrkit.io.json_text import json_text

_STATUS = {ConfigError: 400, AudioError: 422, DataError: 422}


class Refusal(AsrkitError):
    """A request that is not carried out, with the `status` of HTTP that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def status_of(error: AsrkitError) -> int:
    """The HTTP status of an error: 500 if the client is not at fault."""
    return error.status if isinstance(error, Refusal) else _STATUS.get(type(error), 500)


def fault_text(error: AsrkitError) -> str:
    """The body of an answer: {"error": what is wrong}."""
    return json_text({"error": str(error)})
