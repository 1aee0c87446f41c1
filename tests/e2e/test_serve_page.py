"""The page of `asrkit serve` in Chromium: files are dropped, a microphone is heard, and what is shown is right."""

import contextlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.corpora import mini
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.recognizer import Recognizer
from tests.browser import PATIENCE, Watched, chromium
from tests.loud_model import RATE, loud_model, loud_speech

pytest.importorskip("starlette")
pytestmark = pytest.mark.slow
TOKEN = "a token of some length"
# What the page plays, and how loud it is.
LISTEN = """
window.played = [];
const start = AudioBufferSourceNode.prototype.start;
AudioBufferSourceNode.prototype.start = function (...args) {
  const samples = this.buffer.getChannelData(0);
  const loudness = samples.reduce((sum, sample) => sum + Math.abs(sample), 0) / samples.length;
  played.push([samples.length / this.buffer.sampleRate, loudness]);
  start.apply(this, args);
};
"""
DROP = """async ([names, contents]) => {
  const transfer = new DataTransfer();
  names.forEach((name, i) => transfer.items.add(new File([new Uint8Array(contents[i])], name)));
  const options = { bubbles: true, cancelable: true, dataTransfer: transfer };
  document.querySelector("#drop").dispatchEvent(new DragEvent("drop", options));
}"""
HIDDEN = ("audio", ".drawing", ".phones", ".downloads")
COLOURS = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return new Set(new Uint32Array(data.buffer)).size;
}"""


def talk(*pauses: float) -> np.ndarray:
    """A loud tone of 0.3 s after each pause but the last one, (num_samples,) int16."""
    pieces = [np.zeros(int(pauses[0] * RATE))]
    for pause in pauses[1:]:
        pieces += [loud_speech(), np.zeros(int(pause * RATE))]
    return np.concatenate(pieces).astype(np.int16)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("recordings")
    paths = {name: directory / name for name in ("سلام.wav", "two.sph", "spoken.wav")}
    soundfile.write(paths["سلام.wav"], talk(0.2, 0.4, 0.3), RATE)
    soundfile.write(paths["two.sph"], talk(0.3, 0.3), RATE, format="NIST")
    soundfile.write(paths["spoken.wav"], talk(0.5, 0.5, 0.5, 0.5), RATE)
    return paths


@pytest.fixture(scope="module")
def browser(recordings: dict[str, Path]):
    microphone = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    with chromium([*microphone, f"--use-file-for-fake-audio-capture={recordings['spoken.wav']}"]) as started:
        yield started


@pytest.fixture(scope="module", params=[None, TOKEN], ids=["open", "token"])
def server(request, browser):
    from tests.serving import serving

    models = {"loud": OnnxModel(loud_model("sil")), "other": OnnxModel(loud_model())}
    with serving(models, token=request.param) as asked:
        yield f"http://{asked.host}/", request.param


def phones_of(article) -> list[str]:
    article.locator(".again:enabled").wait_for()
    return article.locator(".phones .phone").all_inner_texts()


@contextlib.contextmanager
def opened(browser, site: str, token: str | None = None, **options):
    """The page, when it has its models."""
    context = browser.new_context(**options)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.add_init_script(LISTEN)
    page.watched = Watched(page, site)
    page.goto(f"{site}#token={token}" if token else site)
    page.wait_for_selector("#model option", state="attached")
    yield page
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page(browser, server, recordings: dict[str, Path], width: int, scheme: str):
    site, token = server
    if token is not None and (width, scheme) != (1280, "light"):
        pytest.skip("once is enough with a token")
    window = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    with opened(browser, site, token, **window) as page:
        use(page, recordings)
        assert page.watched.faults == []


def use(page, recordings: dict[str, Path]) -> None:
    """Everything that the page is for."""
    recognizer = Recognizer(OnnxModel(loud_model("sil")))
    watched = page.watched

    # Files are dropped and recognised; the newest stands first.
    names = ["سلام.wav", "two.sph"]
    page.evaluate(DROP, [names, [list(recordings[name].read_bytes()) for name in names]])
    articles = page.locator("article")
    page.wait_for_selector("article:nth-of-type(2)")
    second, first = articles.nth(0), articles.nth(1)
    assert first.locator("h2").inner_text() == names[0]
    hypothesis = recognizer.transcribe(recordings[names[0]])
    assert phones_of(first) == [*hypothesis.phones] == ["sil", "a", "sil", "a", "sil"]
    assert phones_of(second) == ["sil", "a", "sil"]

    # Figures show, phones stand at their times, and the page is not wider than the window.
    first.scroll_into_view_if_needed()
    first.locator(".lane .phone").first.wait_for()
    for canvas, least in ((".spectrogram", 20), (".posteriors", 2)):
        assert first.locator(canvas).evaluate(COLOURS) >= least
        assert first.locator(canvas).get_attribute("aria-label")
    sheet = first.locator(".sheet").bounding_box()
    spans = [each.bounding_box() for each in first.locator(".lane .phone").all()]
    found = [[(box["x"] - sheet["x"]) / sheet["width"], box["width"] / sheet["width"]] for box in spans]
    expected = [[time.start / 1.5, (time.end - time.start) / 1.5] for time in hypothesis.times]
    assert np.allclose(found, expected, atol=2 / sheet["width"])
    assert first.locator(".labels span").all_inner_texts() == ["8 kHz", "0", "sil", "a"]
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    for _ in range(4):
        first.get_by_label("Show less time").click()
    wide = first.locator(".sheet").bounding_box()["width"]
    assert wide == pytest.approx(sheet["width"] * 1.6**4, rel=0.01) or wide == 1.5 * 4000
    first.locator(".scroll").evaluate("(scroll) => (scroll.scrollLeft = 0)")
    for _ in range(4):
        first.get_by_label("Show more time").click()

    # A click plays a phone; the player plays all.
    first.locator(".phones .phone").nth(1).click()
    first.locator(".lane .phone").nth(2).click()
    (loud, loudest), (quiet, quietest) = page.evaluate("played")
    lengths = [time.end - time.start for time in hypothesis.times[1:3]]
    assert np.allclose([loud, quiet], lengths, atol=2 / RATE)
    assert loudest > 0.03 > quietest
    for article, seconds in ((first, 1.5), (second, 0.9)):
        audio = article.locator("audio")
        audio.evaluate("(audio) => { audio.play(); return new Promise((done) => (audio.ontimeupdate = done)); }")
        assert audio.evaluate("(audio) => [audio.duration, audio.error]") == [pytest.approx(seconds), None]

    # Downloads are those of the command.
    with page.expect_download() as download:
        first.get_by_text("TextGrid").click()
    assert download.value.suggested_filename == "سلام.TextGrid"
    grid = Path(download.value.path()).read_text(encoding="utf-8")
    assert grid.count('text = "a"') == 2
    with page.expect_download() as download:
        first.get_by_text("JSON").click()
    line = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert [each["phone"] for each in line["phones"]] == [*hypothesis.phones]

    # Phones that are typed are aligned; another model recognises.
    page.fill("#phones", "sil a a sil")
    page.set_input_files("#files", recordings[names[0]])
    page.wait_for_selector("article:nth-of-type(3)")
    assert phones_of(articles.first) == ["sil", "a", "a", "sil"]
    assert "aligned by loud" in articles.first.locator(".summary").inner_text()
    articles.nth(1).get_by_role("button", name="Again").click()
    assert phones_of(articles.nth(1)) == ["sil", "a", "a", "sil"]
    page.fill("#phones", "")
    articles.nth(1).get_by_role("button", name="Again").click()
    assert phones_of(articles.nth(1)) == ["sil", "a", "sil"]
    articles.nth(1).get_by_role("button", name="Correct").click()
    assert page.locator("#phones").input_value() == "sil a sil"
    page.fill("#phones", "")
    page.select_option("#model", "other")
    page.set_input_files("#files", recordings[names[0]])
    page.wait_for_selector("article:nth-of-type(4)")
    assert phones_of(articles.first) == ["a", "a"]
    page.select_option("#model", "loud")

    # What cannot be recognised is told, beside what can.
    page.evaluate(DROP, [["notes.txt"], [list(b"no audio")]])
    fault = articles.first.locator(".summary.fault")
    fault.wait_for()
    assert fault.inner_text().startswith("notes.txt: ")
    assert [each for each in HIDDEN if articles.first.locator(each).is_visible()] == []
    watched.faults = [each for each in watched.faults if "422" not in each]  # the browser's own line on it

    # A microphone is heard, and phones come while it is.
    page.click("#speak")
    page.get_by_role("button", name="Stop").wait_for()
    page.locator("#live").filter(has_text=re.compile("a.*a", re.DOTALL)).wait_for()
    page.click("#speak")
    page.wait_for_selector("article:nth-of-type(6)")
    assert articles.first.locator("h2").inner_text() == "recording 1.wav"
    assert phones_of(articles.first).count("a") >= 2
    assert page.locator("#fault").inner_text() == ""


def test_a_page_without_the_token_says_so(browser, server):
    site, token = server
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(site)
    if token is None:
        page.wait_for_selector("#model option", state="attached")
    else:
        page.wait_for_selector("#fault:has-text('A token is needed')")
    page.close()


@pytest.fixture(scope="module")
def site(browser):
    from tests.serving import serving

    models = {"loud": OnnxModel(loud_model("sil")), "made": OnnxModel(loud_model(corpus=mini.INFO))}
    with serving(models) as asked:
        yield f"http://{asked.host}/"


def test_what_goes_wrong_is_told_and_can_be_done_again(browser, site: str, recordings: dict[str, Path], monkeypatch):
    with opened(browser, site) as page:
        page.route("**/transcribe*", lambda route: route.abort())
        page.set_input_files("#files", recordings["سلام.wav"])
        article = page.locator("article").first
        article.locator(".summary:has-text('The server does not answer')").wait_for()
        assert [each for each in HIDDEN if article.locator(each).is_visible()] == []
        page.unroute("**/transcribe*")
        article.get_by_role("button", name="Again").click()
        assert len(phones_of(article)) == 5

        # A long recording is listed and played, and the page says why no more.
        monkeypatch.setattr("asrkit.serve.view.SHOWN_SECONDS", 1.0)
        article.get_by_role("button", name="Again").click()
        article.locator(".why:has-text('so nothing is drawn')").wait_for()
        assert not article.locator(".drawing").is_visible()
        assert article.locator(".phones").is_visible()

        page.select_option("#model", "made")
        assert "synthetic speech of mini" in page.locator("#doubt").inner_text()
        page.select_option("#model", "loud")
        assert page.locator("#doubt").inner_text() == ""

        # What is said is not lost with the server.
        page.route("**/transcribe*", lambda route: route.abort())
        page.click("#speak")
        page.wait_for_selector("#live:has-text('a')")
        page.click("#speak")
        page.wait_for_selector("article:nth-of-type(2)")
        article.locator(".summary.fault").wait_for()
        assert article.locator("audio").is_visible()
        assert article.locator(".downloads a").all_inner_texts() == ["WAV"]


def test_a_microphone_that_is_refused_is_told(browser, site: str):
    with opened(browser, site) as page:
        page.evaluate(
            "() => { navigator.mediaDevices.getUserMedia = async () => {"
            " throw new DOMException('Permission denied', 'NotAllowedError'); }; }"
        )
        page.click("#speak")
        page.wait_for_selector("#fault:has-text('Permission denied. Allow it in the browser')")
        assert page.get_by_role("button", name="Speak").is_enabled()


def test_keys_alone_are_enough(browser, site: str, recordings: dict[str, Path]):
    """One Tab leads to the phones and one away from them; the arrow keys go from one to the next."""
    with opened(browser, site) as page:
        page.set_input_files("#files", recordings["سلام.wav"])
        article = page.locator("article")
        assert len(phones_of(article)) == 5
        article.locator(".lane .phone").first.wait_for()
        article.locator("audio").focus()
        reached = []
        while "SRT" not in reached:
            page.keyboard.press("Tab")
            reached.append(page.evaluate("document.activeElement.className || document.activeElement.textContent"))
            assert len(reached) < 40
            if reached[-1].startswith("phone"):
                for key in ("Enter", "ArrowRight", "Enter", "End", "Enter", "ArrowRight"):
                    page.keyboard.press(key)
        assert [sum(each.startswith("phone") for each in reached), reached.count("scroll")] == [1, 1]
        assert {"in", "out", "TextGrid"} <= {*reached}
        lengths = [end - start for start, end in [(0.0, 0.2), (0.2, 0.5), (1.2, 1.5)]]
        assert np.allclose([length for length, _ in page.evaluate("played")], lengths, atol=0.1)
