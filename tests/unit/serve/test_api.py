"""The HTTP API: what it answers is what `asrkit transcribe` and `asrkit align` write, whatever else is asked of it."""

import contextlib
import io
import json
import queue
import re
import socket
import threading
import time
from base64 import b64decode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.corpora import mini
from asrkit.experiment import Experiment, make_model
from asrkit.formats.results import FORMATS
from asrkit.inference.export import export_model
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.recognizer import Recognizer
from asrkit.inference.transcription import transcribe_one
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.serve.recording import OPERATIONS
from asrkit.serve.service import Limits
from tests.loud_model import RATE, loud_model, loud_speech
from tests.serving import HANGS, Asked, ask, serving

pytest.importorskip("starlette")
LIMITS = Limits(max_bytes=2_000_000, audio_seconds=20.0)


def loud(seed: int, seconds: float = 1.0) -> np.ndarray:
    """Speech of `loud_model` at random places, (num_samples,) within -1 and 1."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 3, int(seconds * RATE))
    speech = loud_speech()
    begin = 0
    while (begin := begin + int(rng.uniform(0.1, 0.5) * RATE)) + len(speech) < len(samples):
        samples[begin : begin + len(speech)] += speech
        begin += len(speech)
    return samples / 2**15


def wav(samples: np.ndarray, rate: int = RATE, **options: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **{"format": "WAV", **options})
    return file.getvalue()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "loud.onnx"
    path.write_bytes(loud_model("sil"))
    return path


@pytest.fixture(scope="module")
def server(model: Path):
    with serving({"loud": OnnxModel(model), "other": OnnxModel(loud_model())}, LIMITS) as asked:
        yield asked


def command(*args: str | Path) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(arg) for arg in args]) == 0
    return out.getvalue()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_what_the_commands_write(server: Asked, model: Path, tmp_path: Path, monkeypatch, name: str):
    monkeypatch.chdir(tmp_path)
    body = wav(loud(1, 3.0), subtype="PCM_16")
    Path("a talk.wav").write_bytes(body)
    Path("talk.wav").write_bytes(body)
    told = command("transcribe", "--model", model, "--format", name, "talk.wav")
    answer = server.post("/transcribe", body, format=name, name="talk.wav")
    assert (answer.status, answer.text) == (200, told)
    assert answer.headers["content-type"].startswith("application/json" if name == "json" else "text/plain")
    phones = "sil a sil a"
    told = command("align", "--model", model, "--format", name, "--phones", phones, "talk.wav")
    assert server.post("/align", body, format=name, name="talk.wav", phones=phones).text == told
    if FORMATS[name].has_keys:  # names with blanks, too
        assert server.post("/transcribe", body, format=name, name="a talk.wav").text.startswith("a_talk ")


def test_options_are_those_of_the_command(server: Asked, model: Path, tmp_path: Path):
    path = tmp_path / "two.flac"
    soundfile.write(path, np.stack([loud(1), loud(2)], axis=1), RATE)
    body = path.read_bytes()
    for channel in ("0", "1", "mix"):
        told = command("transcribe", "--model", model, "--channel", channel, "--format", "json", "--ipa", path)
        assert server.post("/transcribe", body, channel=channel, ipa="true", name=str(path)).text == told
    told = command("transcribe", "--model", model, "--channel", "0", "--format", "json", "--nbest", "3", path)
    assert server.post("/transcribe", body, channel=0, nbest=3, name=str(path)).text == told
    args = ["--phones", "a a", "--optional-silence", "sil", "--channel", "0", "--format", "json"]
    told = command("align", "--model", model, *args, path)
    asked = server.post("/align", body, phones="a  a", optional_silence="sil", channel=0, name=str(path))
    assert asked.text == told


def test_fifty_files_at_once_over_eight_connections(server: Asked, model: Path):
    """Two models, of recordings that all differ, so that a mix-up would show."""
    recognizers = {"loud": Recognizer(OnnxModel(model)), "other": Recognizer(OnnxModel(loud_model()))}
    bodies = [wav(loud(seed, 1.0 + 0.1 * seed), subtype="PCM_16") for seed in range(50)]
    names = ["other" if number % 3 == 0 else "loud" for number in range(50)]

    def ask_some(first: int) -> list[tuple[int, str]]:
        with contextlib.closing(server.connect()) as connection:
            return [
                (number, ask(connection, "POST", "/transcribe", bodies[number], model=names[number], name="x").text)
                for number in range(first, 50, 8)
            ]

    with ThreadPoolExecutor(8) as threads:
        found = dict(pair for pairs in threads.map(ask_some, range(8)) for pair in pairs)
    for number, body in enumerate(bodies):
        samples, _ = soundfile.read(io.BytesIO(body), dtype="int16")
        hypothesis = recognizers[names[number]].transcribe(samples, "x", sample_rate=RATE)
        expected = FORMATS["json"].render(_result(hypothesis, len(samples) / RATE))
        assert found[number] == expected
    assert len(set(found.values())) == 50


def _result(hypothesis, duration):
    from asrkit.formats.results import Result

    return Result("x", "x", hypothesis, duration, RATE)


def test_the_view_holds_what_is_drawn(server: Asked, model: Path):
    samples = (2**15 * loud(5)).astype(np.int16)
    body = wav(samples, subtype="PCM_16")
    view = server.post("/transcribe", body, format="view", name="my talk.wav").json
    recognizer = Recognizer(OnnxModel(model))
    hypothesis = recognizer.transcribe(samples, sample_rate=RATE)
    assert [phone["phone"] for phone in view["phones"]] == [*hypothesis.phones]
    assert view["audio"]["rate"] == RATE
    assert b64decode(view["audio"]["samples"]) == samples.tobytes()
    levels = np.frombuffer(b64decode(view["posteriors"]["levels"]), np.uint8).reshape(-1, 4)
    assert view["posteriors"]["classes"] == ["blank", "sil", "a", "e"]
    assert np.abs(levels / 255 - recognizer.posteriors(samples, sample_rate=RATE)).max() <= 0.501 / 255
    steps = view["posteriors"]["start"] + view["posteriors"]["step"] * np.arange(len(levels))
    assert view["posteriors"]["step"] == pytest.approx(0.01)
    assert 0 <= steps[0] < steps[-1] < view["duration"] == 1.0
    for name, each in FORMATS.items():
        text = server.post("/transcribe", body, format=name, name="my talk.wav").text
        assert view["files"][name] == {"name": f"my_talk{each.suffix}", "text": text}


def test_where_nobody_speaks_there_is_nothing_to_draw():
    """With the default CMVN, which is over speech."""
    tokens, stats = TokenTable(["a", "b"]), np.vstack([np.append(np.zeros(13), 9.0), np.append(np.full(13, 9.0), 0.0)])
    config = ExperimentConfig(model=ModelConfig(num_layers=1, hidden_size=4))
    content = export_model(Experiment(config, tokens, make_model(config, tokens).eval(), stats, None))
    with serving({"model": OnnxModel(content)}) as server:
        answer = server.post("/transcribe", wav(np.zeros(RATE)), format="view")
        assert (answer.status, answer.json["phones"]) == (200, [])


def test_a_recording_that_is_too_long_to_draw_is_listed(server: Asked, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asrkit.serve.view.SHOWN_SECONDS", 0.9)
    view = server.post("/transcribe", wav(loud(5)), format="view").json
    assert view["phones"]
    assert "audio" not in view
    assert "posteriors" not in view
    assert view["note"].startswith("It is longer than 0.015 minutes, so nothing is drawn.")


@pytest.mark.parametrize(
    ("path", "query", "status", "said"),
    [
        ("/transcribe", {"format": "xml"}, 400, "format: expected one of text, json, .*, found 'xml'"),
        ("/transcribe", {"fromat": "json"}, 400, "fromat: no such parameter; expected model, name, format, "),
        ("/transcribe", {"ipa": "yes"}, 400, "ipa: expected true or false, found 'yes'"),
        ("/transcribe", {"nbest": "-1"}, 400, "nbest: expected a whole number up to 100, found '-1'"),
        ("/transcribe", {"channel": "left"}, 400, "channel: expected mix, or a number from 0 to 255, found 'left'"),
        ("/transcribe", {"channel": 3}, 422, "audio: no channel 3; the file has 1, counted from 0"),
        ("/transcribe", {"name": "x" * 256}, 400, r"name: expected 1 to 255 characters, found 'x{60}\.\.\.'"),
        ("/transcribe", {"model": "best"}, 404, "best: no such model; expected one of loud, other"),
        ("/align", {}, 400, "phones: missing; expected phones with blanks between them"),
        ("/align", {"phones": " "}, 400, "phones: expected phones with blanks between them, found ' '"),
        ("/align", {"phones": "a b"}, 422, "audio: phones that the model does not have: b; it has sil a e"),
        ("/align", {"phones": "a", "optional_silence": "pau"}, 400, "--optional-silence pau: the model does not have"),
        ("/align", {"phones": "a e " * 200}, 422, "audio: alignment: 400 tokens need at least 400 frames"),
    ],
)
def test_a_wrong_question_is_told(server: Asked, path: str, query, status: int, said: str):
    answer = server.post(path, wav(loud(1)), **query)
    assert answer.status == status
    assert "\n" not in answer.error
    assert re.match(said, answer.error), answer.error


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "a.wav: empty (0 bytes); send the audio file as the body of the request"),
        (b"no audio at all", 422, "a.wav: "),
        (wav(loud(1))[:5000], 422, "a.wav: "),
        (wav(loud(1, 25.0), 8000), 422, "a.wav: longer than the limit of 20 s; cut it"),
        (bytes(2_000_001), 413, "a.wav: more than 2000000 bytes, the most that is taken"),
        (wav(np.stack([loud(1), loud(2)], axis=1)), 422, "a.wav: 2 channels; expected 1"),
        (wav(np.zeros(10)), 422, "a.wav: "),
    ],
    ids=["empty", "text", "cut", "long", "large", "stereo", "short"],
)
def test_an_upload_that_cannot_be_used_is_told(server: Asked, body: bytes, status: int, said: str):
    answer = server.post("/transcribe", body, name="a.wav")
    assert (answer.status, answer.error[: len(said)]) == (status, said)


def test_a_large_upload_is_refused_before_it_comes(server: Asked):
    """By its length, or, where that is not told, by what has come."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=HANGS) as connection:
        head = f"POST /transcribe HTTP/1.1\r\nHost: {server.host}\r\n"
        connection.sendall(f"{head}Content-Length: 999999999999\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
    chunks = (bytes(100_000) for _ in range(30))
    with contextlib.closing(server.connect()) as connection:
        connection.putrequest("POST", "/transcribe")
        connection.putheader("Transfer-Encoding", "chunked")
        connection.endheaders()
        with contextlib.suppress(OSError):  # the server stops listening
            for chunk in chunks:
                connection.send(b"%x\r\n%s\r\n" % (len(chunk), chunk))
        with contextlib.suppress(OSError):
            assert connection.getresponse().status == 413


def head_of(server: Asked, body: bytes, *more: str, path: str = "/transcribe") -> bytes:
    """The first line and the headers of a request with this body."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {server.host}", f"Content-Length: {len(body)}", *more]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def test_slow_and_broken_uploads_harm_no_one_else(server: Asked):
    body = wav(loud(3))
    expected = server.post("/transcribe", body).text
    head = head_of(server, body)
    with contextlib.ExitStack() as opened:
        slow, broken, silent = (
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=HANGS)) for _ in range(3)
        )
        slow.sendall(head + body[:1000])
        broken.sendall(head + body[:1000])
        broken.close()
        silent.sendall(b"POST /transcr")
        assert server.post("/transcribe", body).text == expected
        slow.sendall(body[1000:])
        assert answer_of(slow).endswith(f"\r\n\r\n{expected}".encode())


def test_an_upload_that_is_too_slow_is_told(model: Path):
    body = wav(loud(3))
    with (
        serving({"loud": OnnxModel(model)}, replace(LIMITS, upload_seconds=0.5)) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=HANGS) as slow,
    ):
        slow.sendall(head_of(server, body, "Connection: close") + body[:1000])
        told = answer_of(slow)
        assert told.startswith(b"HTTP/1.1 408 ")
        assert re.search(rb'"error": "audio: not all of it came within 0.5 s \(\d+ bytes did\)"', told)


def answer_of(connection: socket.socket) -> bytes:
    """All that comes up to the end of the answer's JSON."""
    told = b""
    while not told.rstrip().endswith(b"}"):
        piece = connection.recv(2**16)
        assert piece, told
        told += piece
    return told


def test_nothing_is_computed_for_a_client_that_has_left(model: Path, monkeypatch: pytest.MonkeyPatch):
    """One recording holds the only thread; the next is given up while it waits, and a third takes its place."""
    heard, go_on = [], threading.Event()

    def transcribe(recognizer, audio, each, options):
        heard.append(each.name)
        assert go_on.wait(HANGS)
        return transcribe_one(recognizer, audio, each, options)

    monkeypatch.setattr("asrkit.serve.recording.transcribe_one", transcribe)
    body = wav(loud(3))
    limits = replace(LIMITS, max_requests=2, upload_seconds=HANGS)
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(serving({"loud": OnnxModel(model)}, limits, num_threads=1))

        def connect() -> socket.socket:
            return opened.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=HANGS))

        opened.callback(go_on.set)  # the server ends after its threads
        first, second = connect(), connect()
        first.sendall(head_of(server, body, path="/transcribe?name=first") + body)
        while not heard:
            time.sleep(0.01)
        head = head_of(server, body, "Expect: 100-continue", path="/transcribe?name=second")
        second.sendall(head)
        assert second.recv(1000).startswith(b"HTTP/1.1 100 ")
        second.sendall(body)
        assert server.post("/transcribe", body).status == 503
        second.close()
        head = head_of(server, body, "Expect: 100-continue", path="/transcribe?name=third")
        while True:
            third = connect()
            third.sendall(head)
            if third.recv(1000).startswith(b"HTTP/1.1 100 "):  # there is room: the second is gone
                break
        go_on.set()
        third.sendall(body)
        assert answer_of(third).startswith(b"HTTP/1.1 200 ")
        assert answer_of(first).startswith(b"HTTP/1.1 200 ")
    assert heard == ["first", "third"]


def test_the_work_for_a_client_that_leaves_ends_with_a_block(model: Path, monkeypatch: pytest.MonkeyPatch):
    events, begun, ends = [], threading.Event(), queue.Queue()

    def event():
        events.append(threading.Event())
        return events[-1]

    def transcribe(recognizer, audio, each, options):
        blocks = audio.blocks()
        try:
            next(blocks)
            begun.set()
            assert events[0].wait(HANGS)  # set when the client has left
            next(blocks)
        except Exception as error:
            ends.put(error)
            raise
        ends.put(None)

    monkeypatch.setattr("asrkit.serve.recording.Event", event)
    monkeypatch.setattr("asrkit.serve.recording.transcribe_one", transcribe)
    body = wav(loud(3, 15.0))
    with serving({"loud": OnnxModel(model)}, LIMITS, num_threads=1) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=HANGS) as client:
            client.sendall(head_of(server, body) + body)
            assert begun.wait(HANGS)
        assert str(ends.get(timeout=HANGS)) == "audio: the client has left"
        monkeypatch.undo()
        assert server.post("/transcribe", body).status == 200


def test_a_head_that_does_not_come_ends_the_connection(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asrkit.serve.server._IDLE_SECONDS", 0.5)
    with (
        serving({"loud": OnnxModel(model)}) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=HANGS) as slow,
    ):
        with contextlib.suppress(OSError):
            for byte in b"GET /models HTTP/1.1\r\nHost: " + b"x" * 1000:
                slow.sendall(bytes([byte]))
                time.sleep(0.05)
        with contextlib.suppress(ConnectionResetError):
            assert slow.recv(1000) == b""


def test_more_than_there_is_room_for_is_told_to_come_again(model: Path):
    limits = replace(LIMITS, max_requests=1)
    body = wav(loud(3))
    with (
        serving({"loud": OnnxModel(model)}, limits) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=HANGS) as first,
    ):
        first.sendall(head_of(server, body, "Expect: 100-continue"))
        assert first.recv(1000).startswith(b"HTTP/1.1 100 ")  # so its body is waited for
        answer = server.post("/transcribe", body)
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert answer.error == "busy: 1 requests are under way; try again in some seconds"
        first.sendall(body)
        assert first.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert server.post("/transcribe", body).status == 200


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has no such option")
def test_a_client_that_takes_nothing_is_cut_off(model: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("asrkit.serve.server._STALLED_SECONDS", 1)
    monkeypatch.setattr("asrkit.serve.server._IDLE_SECONDS", 10 * HANGS)
    body = wav(loud(3, 19.0), subtype="PCM_16")
    with serving({"loud": OnnxModel(model)}, LIMITS) as server, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(HANGS)
        client.connect(("127.0.0.1", server.port))
        client.sendall(head_of(server, body, path="/transcribe?format=view") + body)
        assert client.recv(1) == b"H"
        end = time.monotonic() + HANGS
        while server.connections:
            assert time.monotonic() < end
            time.sleep(0.05)


def test_no_file_is_kept(server: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("asrkit.serve.uploads._IN_MEMORY", 1000)
    assert server.post("/transcribe", wav(loud(3))).status == 200
    assert server.post("/transcribe", b"broken" * 1000).status == 422
    assert list(tmp_path.iterdir()) == []


def test_models_and_the_description_of_the_api(server: Asked):
    models = server.ask("GET", "/models").json
    assert [(model["name"], model["streams"], model["why"]) for model in models] == [
        ("loud", True, None),
        ("other", True, None),
    ]
    assert models[0]["phones"][:2] == [
        {"phone": "sil", "ipa": "sil", "is_silence": True},
        {"phone": "a", "ipa": "a", "is_silence": False},
    ]
    assert [model["note"] for model in models] == [None, None]
    document = server.ask("GET", "/openapi.json").json
    assert document["openapi"] == "3.1.0"
    assert set(document["paths"]) == {*OPERATIONS, "/models"}
    for path, (parameters, _) in OPERATIONS.items():
        post = document["paths"][path]["post"]
        assert [each["name"] for each in post["parameters"]] == [each.name for each in parameters]
        for parameter, described in zip(parameters, post["parameters"], strict=True):
            for value in described["schema"].get("enum", []):
                assert parameter.parse(value) == value
        assert {"400", "413", "422", "503"} <= post["responses"].keys()
    assert json.dumps(document)  # no values that JSON has not


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/transcribe", 405), ("GET", "/other", 404)])
def test_what_is_not_there_is_told(server: Asked, method: str, path: str, status: int):
    answer = server.ask(method, path)
    assert answer.status == status
    assert answer.error.startswith(f"{method} {path}: ")


def test_a_fault_of_the_program_is_no_traceback(server: Asked, monkeypatch: pytest.MonkeyPatch, caplog):
    monkeypatch.setattr("asrkit.serve.recording.format_view", lambda *_: 1 // 0)
    answer = server.post("/transcribe", wav(loud(1)), format="view")
    assert (answer.status, answer.error) == (500, "a fault of the server; its terminal tells more")
    while "ZeroDivisionError" not in caplog.text:  # written after the answer
        time.sleep(0.01)
    assert server.post("/transcribe", wav(loud(1))).status == 200


def test_a_model_that_learned_from_a_program_says_so():
    with serving({"made": OnnxModel(loud_model(corpus=mini.INFO))}) as server:
        (described,) = server.ask("GET", "/models").json
    assert described["note"].startswith("trained on the synthetic speech of mini; ")
