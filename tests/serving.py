"""A server in this process, on a port of its own, and what asks it."""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Collection, Iterator
from typing import NamedTuple
from urllib.parse import urlencode

from asrkit.inference.onnx_model import OnnxModel
from asrkit.serve.guard import Access
from asrkit.serve.server import listen, make_server
from asrkit.serve.service import Limits, ServedModel, Service

HANGS = 600.0  # seconds after which a test that waits for the server fails; no load of the machine makes it so slow


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> object:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        assert self.headers["content-type"] == "application/json"
        (line,) = json.loads(self.body).values()
        return line


class Asked:
    """A server that runs; `ask` opens a connection for each request. `connections`: the server's, as it sees them."""

    def __init__(self, port: int, connections: Collection[object]) -> None:
        self.port, self.connections = port, connections
        self.host = f"127.0.0.1:{port}"

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=HANGS)

    def ask(self, method: str, path: str, body: bytes | None = None, *, headers=None, **query: object) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            return ask(connection, method, path, body, headers=headers, **query)

    def post(self, path: str, body: bytes, **query: object) -> Answer:
        return self.ask("POST", path, body, **query)


def ask(connection, method: str, path: str, body: bytes | None = None, *, headers=None, **query: object) -> Answer:
    target = f"{path}?{urlencode(query)}" if query else path
    connection.request(method, target, body, headers or {})
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@contextlib.contextmanager
def serving(
    models: dict[str, OnnxModel], limits: Limits | None = None, token: str | None = None, num_threads: int = 2
) -> Iterator[Asked]:
    service = Service([ServedModel(name, model) for name, model in models.items()], limits or Limits(), num_threads)
    with listen("127.0.0.1", 0) as listening:
        server = make_server(service, Access("127.0.0.1", token))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Asked(listening.getsockname()[1], server.server_state.connections)
        finally:
            server.should_exit = True
            thread.join(HANGS)
            assert not thread.is_alive()
