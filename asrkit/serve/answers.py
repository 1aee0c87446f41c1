"""Answers of the server to requests that it refuses."""

from __future__ import annotations

from asrkit.errors import AsrkitError, AudioError, ConfigError, DataError
from asrkit.io.json_text import json_text

_STATUS = {ConfigError: 400, AudioError: 422, DataError: 422}


class Refusal(AsrkitError):
    """A request that is refused, with the HTTP `status` of the answer."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def status_of(error: AsrkitError) -> int:
    """The HTTP status of an error: 500 unless the client made the mistake."""
    return error.status if isinstance(error, Refusal) else _STATUS.get(type(error), 500)


def fault_text(error: AsrkitError) -> str:
    """The JSON body of an answer: {"error": MESSAGE}."""
    return json_text({"error": str(error)})
