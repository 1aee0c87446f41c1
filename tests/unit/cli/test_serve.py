"""`asrkit serve` as a process: what it prints, who may use it, and how it ends."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.loud_model import loud_model

pytest.importorskip("starlette")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "loud.onnx"
    path.write_bytes(loud_model("sil"))
    return path


def command(*args: str | Path) -> list[str]:
    return [sys.executable, "-m", "asrkit", "serve", *map(str, args)]


@pytest.mark.parametrize(
    ("args", "variable", "token"),
    [
        ((), None, None),
        (("--host", "0.0.0.0"), None, r"[-\w]{43}"),
        (("--host", "::1"), "a token of mine, long", "a token of mine, long"),
    ],
)
def test_it_prints_its_address_and_serves_until_ctrl_c(model: Path, args, variable: str | None, token: str | None):
    if "::1" in args and not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    environment = {name: value for name, value in os.environ.items() if name != "ASRKIT_TOKEN"}
    if variable is not None:
        environment["ASRKIT_TOKEN"] = variable
    line = command("--model", model, "--port", "0", *args)
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            printed = process.stdout.readline()
            found = re.fullmatch(r"http://(\S+|\[::1\]):(\d+)/(?:#token=(.*))?\n", printed)
            assert found, printed
            assert (found[3] is None) == (token is None)
            printed_token = None if found[3] is None else unquote(found[3])
            host, port = found[1].strip("[]").replace("0.0.0.0", "127.0.0.1"), int(found[2])
            for given in (None, printed_token):
                connection = http.client.HTTPConnection(host, port, timeout=60)
                headers = {"Authorization": f"Bearer {given}"} if given else {}
                connection.request("GET", "/models", headers=headers)
                assert connection.getresponse().status == (200 if token is None or given else 401)
                connection.close()
            assert token is None or re.fullmatch(token, printed_token)
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 130
            assert process.stdout.read() == "Ctrl-C ends\n"
            assert process.stderr.read() == "asrkit serve: interrupted\n"
        finally:
            process.kill()


def test_what_cannot_be_served_is_told(model: Path):
    def said(*args: str | Path, **environment: str) -> str:
        done = subprocess.run(
            command(*args), env={**os.environ, **environment}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 1
        return done.stderr

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = said("--model", model, "--port", str(port))
        assert line.startswith(f"asrkit serve: error: 127.0.0.1, port {port}: cannot listen there (")
        assert line.endswith("); give another --host or --port\n")
    assert "given twice; leave one out" in said("--model", model, "--model", model, "--port", "0")
    assert "$ASRKIT_TOKEN: 5 characters; expected 16 or more" in said("--model", model, ASRKIT_TOKEN="short")
    assert "no such model" in said("--model", "/nowhere/model.onnx", "--port", "0")
