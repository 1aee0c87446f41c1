"""Whose requests are carried out: not those of other sites' pages, nor without the token where one is needed."""

import re
from pathlib import Path

import pytest

from asrkit.inference.onnx_model import OnnxModel
from asrkit.serve.guard import Access, is_loopback
from tests.loud_model import loud_model
from tests.serving import Asked, serving

pytest.importorskip("starlette")
TOKEN = "a token of some length"


@pytest.fixture(scope="module")
def model() -> OnnxModel:
    return OnnxModel(loud_model())


@pytest.fixture(scope="module")
def server(model: OnnxModel):
    with serving({"loud": model}) as asked:
        yield asked


@pytest.fixture(scope="module")
def guarded(model: OnnxModel):
    with serving({"loud": model}, token=TOKEN) as asked:
        yield asked


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:{port}"}, 200),
        ({"Host": "LOCALHOST:1"}, 200),
        ({"Host": "[::1]:{port}"}, 200),
        ({"Host": "evil.example:{port}"}, 403),  # a name of theirs that leads here
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"Host": "localhost@evil.example"}, 403),
        ({"Host": ""}, 403),
        ({"Origin": "http://{host}"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),  # another server on this machine
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": ""}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, 200),  # someone follows a link
    ],
)
def test_requests_of_other_sites_are_refused(server: Asked, headers: dict[str, str], status: int):
    headers = {name: value.format(host=server.host, port=server.port) for name, value in headers.items()}
    answer = server.ask("GET", "/models", headers=headers)
    assert answer.status == status
    if status != 200:
        assert "\n" not in answer.error


def test_a_link_cannot_post(server: Asked):
    headers = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert server.ask("POST", "/transcribe", b"x", headers=headers).status == 403


@pytest.mark.parametrize("path", ["/", "/models", "/nothing", "/transcribe"])
def test_every_answer_has_the_policy(server: Asked, path: str):
    for headers in ({}, {"Origin": "http://evil.example"}):
        found = server.ask("GET", path, headers=headers).headers
        policy = dict(part.split(" ", 1) for part in found["content-security-policy"].split("; "))
        assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in found["content-security-policy"]
        assert policy["script-src"] == policy["style-src"] == "'self'"
        assert found["x-content-type-options"] == "nosniff"
        assert found["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in found


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        (f"Bearer {TOKEN}", 200),
        (f"bearer {TOKEN}", 200),
        (None, 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        (f"Bearer {TOKEN}x", 401),
        (f"Basic {TOKEN}", 401),
        ("Bearer \xe9", 401),
    ],
)
def test_the_token_is_needed(guarded: Asked, authorization: str | None, status: int):
    headers = {} if authorization is None else {"Authorization": authorization}
    for method, path in (("GET", "/models"), ("GET", "/openapi.json"), ("POST", "/transcribe")):
        answer = guarded.ask(method, path, b"x" if method == "POST" else None, headers=headers)
        assert answer.status == (status if method == "GET" or status == 401 else 422)
    assert guarded.ask("GET", "/", headers=headers).status == 200  # the page, which holds nothing but itself


def test_with_a_token_any_name_of_the_machine_will_do(guarded: Asked):
    headers = {"Host": "lab.example", "Authorization": f"Bearer {TOKEN}"}
    assert guarded.ask("GET", "/models", headers=headers).status == 200
    headers["Origin"] = "http://evil.example"
    assert guarded.ask("GET", "/models", headers=headers).status == 403


def test_which_hosts_are_this_machine_alone():
    assert all(map(is_loopback, ["127.0.0.1", "127.1.2.3", "::1", "localhost"]))
    assert not any(map(is_loopback, ["0.0.0.0", "::", "192.168.1.2", "lab.example", "localhost.example", ""]))
    assert Access("lab").knows("lab:80")
    assert not Access("lab").knows("lab2:80")


def test_pages_hold_no_script_or_style_of_their_own():
    """The policy would keep it from running."""
    import asrkit.serve

    for path in (Path(asrkit.serve.__file__).parent / "page").glob("*.html"):
        text = path.read_text()
        assert "<style" not in text and " style=" not in text and "javascript:" not in text
        assert not re.search(r"\son[a-z]+=|<script(?![^>]*\ssrc=)", text)
