"""Access control. Every request is checked here first.

A browser on this machine reaches the server, so pages of other sites could try to use it. Three checks prevent that.
Origin and Sec-Fetch-Site reject requests from other sites. Host rejects foreign names that lead to this machine ("DNS
rebinding"). Content-Security-Policy prevents other sites from showing the page in a frame. If a token is required, it
must come in a header that other sites cannot set.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from asrkit.serve.answers import Refusal, fault_text

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Only the server's own scripts and styles; nothing from other sites. `blob:` is audio that the page itself makes.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; media-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_OWN_SITES = frozenset({"same-origin", "none"})  # "none": the user typed the address
_HEADERS = {
    "content-security-policy": _POLICY,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "microphone=(self), camera=(), geolocation=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


@dataclass(frozen=True)
class Access:
    """Who can use the server.

    Attributes:
        host: the address on which the server listens.
        token: the token that requests must have; None if they need none.
    """

    host: str
    token: str | None = None

    def admits(self, token: str) -> bool:
        """Whether the token is right, or no token is required."""
        return self.token is None or secrets.compare_digest(token.encode(), self.token.encode())

    def knows(self, host: str) -> bool:
        """Whether the Host of a request means this machine.

        Numeric addresses always do; only a name can be made to lead here by others. If a token is required, every name
        is accepted, since a name alone gives no access.
        """
        name = _name(host)
        return self.token is not None or name in ("localhost", self.host) or is_address(name)


def is_address(name: str) -> bool:
    """Whether a host is a numeric IP address."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server that listens on this address."""
    return host == "localhost" or (is_address(host) and ipaddress.ip_address(host).is_loopback)


def _name(host: str) -> str:
    """The host of `host:port`; "" if the text is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _site(origin: str) -> str | None:
    """The `host:port` of an Origin; None if the text is malformed."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


class Guard:
    """Wraps the ASGI application `app` and checks every request. Paths in `public` need no token."""

    def __init__(self, app: App, access: Access, public: Collection[str]) -> None:
        self._app, self._access, self._public = app, access, public

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            self._check(scope)
        except Refusal as refusal:
            await (_refuse if scope["type"] == "http" else _refuse_socket)(send, refusal)
            return

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_encoded(_HEADERS)]
            await send(message)

        await self._app(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> None:
        """Raise Refusal if the request is not allowed."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1"), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        host = hosts[0] if len(hosts) == 1 else ""
        if not self._access.knows(host):
            raise Refusal(403, f"host {host!r}: not a name of this server; use http://{self._access.host}")
        sites = headers.get("sec-fetch-site", [])
        is_navigation = headers.get("sec-fetch-mode") == ["navigate"] and scope.get("method") == "GET"
        is_own = is_navigation or _OWN_SITES.issuperset(sites)
        if not is_own or any(_site(origin) != host for origin in headers.get("origin", ())):
            raise Refusal(403, "a request from another site's page; open this server's own page")
        # Browsers cannot set this header for a WebSocket. There the first message contains the token.
        if scope["type"] == "http" and scope["path"] not in self._public:
            scheme, _, token = headers.get("authorization", [""])[0].partition(" ")
            if not self._access.admits(token if scheme.lower() == "bearer" else ""):
                raise Refusal(401, "no token, or a wrong one; send the header `Authorization: Bearer TOKEN`")


async def _refuse(send: Send, refusal: Refusal) -> None:
    headers = {**_HEADERS, "content-type": "application/json", "connection": "close"}
    if refusal.status == 401:
        headers["www-authenticate"] = "Bearer"
    await send({"type": "http.response.start", "status": refusal.status, "headers": _encoded(headers)})
    await send({"type": "http.response.body", "body": fault_text(refusal).encode()})


async def _refuse_socket(send: Send, refusal: Refusal) -> None:
    await send({"type": "websocket.close", "reason": str(refusal)})  # before the connection is accepted: status 403


def _encoded(headers: MutableMapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
