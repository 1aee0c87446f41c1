"""The server: it listens, and closes connections that send nothing."""

from __future__ import annotations

import socket
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from asrkit.errors import ConfigError
from asrkit.serve.app import make_app
from asrkit.serve.guard import Access
from asrkit.serve.live import MAX_MESSAGE
from asrkit.serve.service import Service

_IDLE_SECONDS = 20  # until the first line and all headers of a request have arrived
_STALLED_SECONDS = 60  # a client that reads nothing of its answer for so long is cut off
_SECONDS_TO_END = 5


class _Connection(H11Protocol):
    """A connection that closes if a request's first line and headers do not arrive in time, however many bytes do."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        if self.conn.their_state is not h11.IDLE:  # an incomplete head must not extend the time
            super()._unset_keepalive_if_required()


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens on an address and port.

    Raises:
        ConfigError: the address or the port cannot be used.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ConfigError(
            f"{host}, port {port}: cannot listen there ({error.strerror or error}); give another --host or --port"
        ) from None
    # Connections inherit this option. The kernel closes those that read nothing, so unread answers do not pile up.
    if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:  # not on every system
        listening.setsockopt(socket.IPPROTO_TCP, option, 1000 * _STALLED_SECONDS)
    return listening


def make_server(service: Service, access: Access) -> uvicorn.Server:
    """Make the server. Its method `run(sockets=[listen(...)])` serves until it is stopped."""
    options: dict[str, Any] = {
        "http": _Connection,
        "ws": "wsproto",
        "ws_max_size": MAX_MESSAGE,
        "ws_per_message_deflate": False,  # a small compressed message could become a very large one
        "lifespan": "off",
        "log_config": None,
        "access_log": False,
        "proxy_headers": False,
        "server_header": False,
        "timeout_keep_alive": _IDLE_SECONDS,
        "timeout_graceful_shutdown": _SECONDS_TO_END,
    }
    return uvicorn.Server(uvicorn.Config(make_app(service, access), **options))
