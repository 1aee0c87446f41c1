"""Streams over a WebSocket: what comes is what StreamingRecognizer gives, and faults are told."""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice

import numpy as np
import pytest

from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.stream import StreamingRecognizer
from asrkit.serve.live import MAX_MESSAGE
from asrkit.serve.service import Limits
from tests.loud_model import RATE, loud_model, loud_speech
from tests.serving import HANGS, Asked, serving

pytest.importorskip("starlette")
wsproto = pytest.importorskip("wsproto")
LIMITS = Limits(audio_seconds=20.0, max_streams=5)
TOKEN = "a token of some length"


class Socket:
    """A client's end of a WebSocket."""

    def __init__(self, server: Asked, headers: tuple[tuple[str, str], ...] = ()) -> None:
        from wsproto.events import Request

        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=HANGS)
        self._ws = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        extra = [(name.encode(), value.encode()) for name, value in headers]
        self._socket.sendall(self._ws.send(Request(host=server.host, target="/stream", extra_headers=extra)))
        self._events = self._receive()
        self._begun = next(self._events)

    def send(self, message: str | bytes | dict[str, object]) -> None:
        from wsproto.events import Message

        data = json.dumps(message) if isinstance(message, dict) else message
        self._socket.sendall(self._ws.send(Message(data=data)))

    def _receive(self) -> Iterator[object]:
        while True:
            yield from self._ws.events()
            data = self._socket.recv(2**16)
            self._ws.receive_data(data or None)

    def answers(self) -> Iterator[dict[str, object]]:
        """What comes, parsed, until the connection is closed; its code is then in `code`."""
        from wsproto.events import AcceptConnection, CloseConnection, Ping, RejectConnection, TextMessage

        for event in chain([self._begun], self._events):
            if isinstance(event, TextMessage):
                yield json.loads(event.data)
            elif isinstance(event, CloseConnection):
                self.code = event.code
                return
            elif isinstance(event, RejectConnection):
                self.code = event.status_code
                return
            elif isinstance(event, Ping):  # of a server that has waited for long
                self._socket.sendall(self._ws.send(event.response()))
            else:
                assert isinstance(event, AcceptConnection)

    def close(self) -> None:
        self._socket.close()


def talk(seed: int, seconds: float) -> np.ndarray:
    """Speech of `loud_model` at random places, (num_samples,) int16."""
    rng = np.random.default_rng(seed)
    samples, begin = rng.normal(0, 3, int(seconds * RATE)), 0
    while (begin := begin + int(rng.uniform(0.1, 0.5) * RATE)) + RATE < len(samples):
        samples[begin:][: len(loud_speech())] += loud_speech()
        begin += len(loud_speech())
    return samples.astype("<i2")


def chunks(samples: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (samples[begin : begin + size] for begin in range(0, len(samples), size))


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return OnnxModel(loud_model("sil"))


@pytest.fixture(scope="module")
def server(model: OnnxModel):
    with serving({"loud": model}, LIMITS) as asked:
        yield asked


def test_streams_at_once_get_what_a_stream_gives(server: Asked, model: OnnxModel):
    def expected(samples: np.ndarray, rate: int) -> list[dict[str, object]]:
        stream = StreamingRecognizer(model, sample_rate=rate)
        results = [result for piece in chunks(samples, 700) for result in stream.accept(piece)] + stream.finish()
        return [json.loads(result.json_line()) for result in results]

    def found(samples: np.ndarray, rate: int) -> list[dict[str, object]]:
        with contextlib.closing(Socket(server)) as client:
            client.send({"rate": rate, "model": "loud"})
            for piece in chunks(samples, 700):
                client.send(piece.tobytes())
            client.send("end")
            answers = list(client.answers())
            assert client.code == 1000
            return answers

    asked = [(talk(seed, 3.0 + seed), (RATE, 8000)[seed % 2]) for seed in range(5)]
    with ThreadPoolExecutor(5) as threads:
        answers = list(threads.map(lambda each: found(*each), asked))
    assert answers == [expected(*each) for each in asked]
    assert len({json.dumps(each) for each in answers}) == 5
    assert all(len(each) > 5 and "final" in each[-1] for each in answers)


def test_a_phone_is_told_while_the_word_goes_on(server: Asked):
    """Half a second after it begins nothing more is sent until the phone has come."""
    samples = np.concatenate([np.zeros(RATE), np.tile(loud_speech(), 4)]).astype("<i2")
    with contextlib.closing(Socket(server)) as client:
        client.send({"rate": RATE})
        for piece in chunks(samples[: 3 * RATE // 2], 640):
            client.send(piece.tobytes())
        answers = client.answers()
        first = next(answer for answer in answers if "a" in answer["partial"])
        assert 1.0 < first["time"] < 1.2
        client.send(samples[3 * RATE // 2 :].tobytes())
        client.send("end")
        (last,) = islice((answer for answer in answers if "final" in answer), 1)
        assert [phone["phone"] for phone in last["final"]] == ["sil", "a"]


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        (["rate 16000"], "stream: expected .* first, with a rate of 1000 to 1000000 Hz"),
        ([b"ab"], "stream: expected .* first"),
        ([{"rate": 16000.5}], "stream: expected .* first"),
        ([{"rate": 10}], "stream: expected .* first"),
        ([{"rate": True}], "stream: expected .* first"),
        ([{"rate": RATE, "model": 1}], "stream: expected .* first"),
        ([{"rate": RATE, "other": 1}], "stream: expected .* first"),
        ([{"rate": RATE, "model": "best"}], "best: no such model; expected one of loud"),
        ([{"rate": RATE}, b"abc"], "stream: expected samples of 16 bits in binary messages, or the text `end`"),
        ([{"rate": RATE}, "stop"], "stream: expected samples of 16 bits in binary messages, or the text `end`"),
        ([{"rate": RATE}, "end"], "stream: .*shorter|stream: .*samples"),
        ([{"rate": RATE}, *[bytes(320_002)] * 2], "stream: longer than 20 s; begin another one"),
        (["[" * 100_000], "stream: expected .* first"),
    ],
)
def test_a_fault_is_told_and_ends_the_stream(server: Asked, messages, said: str):
    with contextlib.closing(Socket(server)) as client:
        for message in messages:
            client.send(message)
        *_, last = client.answers()
        assert re.match(said, last["error"]), last
        assert client.code == 1008
    assert server.ask("GET", "/models").status == 200


@pytest.mark.parametrize("messages", [[], [{"rate": RATE}]])
def test_a_stream_in_which_nothing_comes_is_ended(model: OnnxModel, messages):
    limits = Limits(upload_seconds=0.5)
    with serving({"loud": model}, limits) as server, contextlib.closing(Socket(server)) as client:
        with contextlib.suppress(OSError):  # a machine with much else to do may take as long for it
            for message in messages:
                client.send(message)
        (answer,) = client.answers()
        assert answer["error"] == "stream: nothing came for 0.5 s"
        assert client.code == 1008


def test_a_message_that_is_too_long_ends_the_stream(server: Asked):
    with contextlib.closing(Socket(server)) as client:
        client.send({"rate": RATE})
        client.send(bytes(MAX_MESSAGE + 2))
        assert list(client.answers()) == []
        assert client.code == 1009


def test_a_client_that_goes_away_frees_its_place(server: Asked):
    for _ in range(3 * LIMITS.max_streams):
        answer = {"error": "busy"}
        while answer.get("error", "").startswith("busy"):  # one that left may not have been noticed yet
            with contextlib.closing(Socket(server)) as client:
                client.send({"rate": RATE})
                client.send(np.tile(loud_speech(), 2).astype("<i2").tobytes())
                answer = next(client.answers())
        assert answer["partial"]


def test_more_streams_than_there_is_room_for_are_refused(model: OnnxModel):
    with serving({"loud": model}, Limits(max_streams=1)) as server, contextlib.closing(Socket(server)) as first:
        first.send({"rate": RATE})
        first.send(np.tile(loud_speech(), 2).astype("<i2").tobytes())
        answers = first.answers()
        assert "partial" in next(answers)
        with contextlib.closing(Socket(server)) as second:
            second.send({"rate": RATE})
            (answer,) = second.answers()
            assert answer["error"] == "busy: 1 requests are under way; try again in some seconds"
        first.send("end")
        assert "final" in next(answers)


def test_the_pages_of_other_sites_get_no_stream(server: Asked):
    with contextlib.closing(Socket(server, (("Origin", "http://evil.example"),))) as client:
        assert list(client.answers()) == []
        assert client.code == 403
    with contextlib.closing(Socket(server, (("Origin", f"http://{server.host}"),))) as client:
        client.send({"rate": RATE})
        client.send(talk(1, 2.0).tobytes())
        client.send("end")
        assert "partial" in next(client.answers())


def test_the_token_is_in_the_first_message(model: OnnxModel):
    with serving({"loud": model}, Limits(max_streams=1), token=TOKEN) as server, contextlib.ExitStack() as opened:
        for _ in range(3):  # strangers take no place
            opened.enter_context(contextlib.closing(Socket(server)))
        for token in ({}, {"token": f"{TOKEN}x"}):
            with contextlib.closing(Socket(server)) as client:
                client.send({"rate": RATE, **token})
                (answer,) = client.answers()
                assert answer["error"].startswith("no token, or a wrong one; send it as `token` in the first message")
        with contextlib.closing(Socket(server)) as client:
            client.send({"rate": RATE, "token": TOKEN})
            client.send(talk(1, 2.0).tobytes())
            client.send("end")
            assert "partial" in next(client.answers())
