"""The page of a report in a browser, opened from the disk: it shows, sorts, finds and plays what it should."""

import re
import shutil

import pytest

import asrkit
from asrkit.stages import pages
from tests.browser import PATIENCE, Watched, chromium
from tests.decoded_tree import BAD, UTTS, make_attended, make_decoded

WIDTHS, SCHEMES = (1280, 390), ("light", "dark")


@pytest.fixture(scope="module")
def browser():
    with chromium(["--autoplay-policy=no-user-gesture-required"]) as started:
        yield started


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The report of an experiment."""
    return asrkit.report_experiment(*make_decoded(tmp_path_factory.mktemp("page")))


class Opened:
    """A page in a context of its own, without a network; afterwards nothing may have gone wrong on it."""

    def __init__(self, browser, file, width=1280, scheme="light") -> None:
        self._context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self._context.set_default_timeout(PATIENCE)
        self.page, self._file = self._context.new_page(), file
        self.watched = Watched(self.page, "file://")

    def __enter__(self):
        self.page.goto(f"file://{self._file}")
        self.page.wait_for_selector("body[data-ready]")
        return self.page

    def __exit__(self, kind, error, trace):
        self._context.close()
        if kind is None:
            assert self.watched.faults == []


def texts(page, selector: str) -> list[str]:
    return page.locator(selector).all_inner_texts()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_and_shows_the_figures(browser, made, width, scheme):
    with Opened(browser, made.page, width, scheme) as page:
        assert page.locator(".rates .value").first.inner_text() == "16.67 %"
        assert made.lines[-1] in page.locator("#summary").inner_text()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        red = int(page.evaluate("getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0]"))
        assert (red > 127) == (scheme == "light")
        unlabelled = "svg:not([aria-label]), canvas:not([aria-label]), audio:not([aria-label]), button:empty"
        item = page.locator("#found details.utt").first
        item.locator("summary").first.click()
        item.locator(".aligned").wait_for()
        assert page.locator(unlabelled).count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 720, "height": 1000})  # A4 between margins
        assert not page.locator("nav").is_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.slow
def test_tables_are_sorted_and_searched(browser, made):
    with Opened(browser, made.page) as page:
        phones = page.locator("#tables").get_by_role("region", name="By phone")
        rate = phones.get_by_role("columnheader", name="PER, %")
        rows = phones.locator("tbody tr")
        for direction, sign in (("descending", -1), ("ascending", 1)):
            rate.get_by_role("button").click()
            assert rate.get_attribute("aria-sort") == direction
            found = [float(row.locator("td").nth(2).inner_text()) for row in rows.all()]
            assert found == sorted(found, key=lambda value: sign * value)
            assert len(set(found)) > 1
        page.locator("#tables input[type=search]").first.fill("گوینده1")
        speakers = page.get_by_role("region", name="By speaker").locator("tbody tr")
        assert [row.locator("th").inner_text() for row in speakers.all()] == ["گوینده1"]


@pytest.mark.slow
def test_utterances_are_found_by_name_and_by_phones(browser, made):
    with Opened(browser, made.page) as page:
        find, found = page.locator("#utterances input[type=search]"), page.locator("#found details.utt")

        def number_of(query: str) -> int:
            find.fill(query)
            page.wait_for_function("query => document.querySelector('#found').dataset.query === query", arg=query)
            return found.count()

        assert number_of("گوینده2-09") == 1
        assert number_of("گوینده2") == 4
        assert number_of(f"b {BAD}") == 4  # as every third reference has it
        assert number_of("b b") == 0
        assert number_of("") == UTTS


@pytest.mark.slow
@pytest.mark.parametrize("by", ["click", "keys"])
def test_an_error_is_chosen_seen_and_heard(browser, made, by):
    with Opened(browser, made.page) as page:
        cell = page.get_by_role("gridcell", name="b found as a 2 times")
        assert cell.inner_text() == "2"
        if by == "click":
            cell.click()
        else:
            page.locator(".matrix td[tabindex='0']").focus()
            for _ in range(50):
                label = page.evaluate("document.activeElement.getAttribute('aria-label')")
                if label.startswith("b found as a"):
                    break
                row_end = page.evaluate("document.activeElement === document.activeElement.parentElement.cells[4]")
                for key in ("Home", "ArrowDown") if row_end else ("ArrowRight",):
                    page.keyboard.press(key)
            page.keyboard.press("Enter")
        items = page.locator("#occurrences details.utt")
        items.first.wait_for()
        assert items.count() == 2
        item = items.first
        item.locator("summary").first.click()
        item.locator(".aligned").wait_for()
        here = item.locator(".pair.here")
        assert here.get_attribute("aria-label") == "substitution: b found as a"
        assert item.locator(".tier.true .label").count() == item.locator(".tier.found .label").count() == 2
        page.wait_for_function(
            "document.querySelector('canvas.spectrogram').height === 192 && "
            "document.querySelector('canvas.spectrogram').width !== 300"
        )
        levels = item.locator("canvas.spectrogram").evaluate(
            "canvas => new Set(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data).size"
        )
        assert levels > 50
        item.locator("button.stretch").click()
        page.wait_for_function("document.body.dataset.played")
        utt, start, end = page.evaluate("document.body.dataset.played").split()
        assert item.locator("summary bdi").first.inner_text() == utt
        assert (float(start), float(end)) == pytest.approx((0.06, 0.24))  # from 0.1 to 0.2 s, and 40 ms on both sides
        player = item.locator("audio")
        player.evaluate("audio => audio.play()")
        page.wait_for_function("audio => audio.currentTime > 0.1", arg=player.element_handle())
        assert player.evaluate("audio => audio.duration") == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
def test_parts_beside_the_page_are_read_from_the_disk(browser, tmp_path, monkeypatch):
    monkeypatch.setattr(pages, "MOST_IN_PAGE", 5)
    for name in ("UTTS_A_PART", "DETAILS_A_PART"):
        monkeypatch.setattr(pages, name, 5)
        monkeypatch.setattr(f"asrkit.reporting.html.utterances.{name}", 5)
    made = asrkit.report_experiment(*make_decoded(tmp_path))
    with Opened(browser, made.page) as page:
        page.locator("#utterances select").first.select_option("all")
        page.wait_for_function(f"document.querySelectorAll('#found details.utt').length === {UTTS}")
        item = page.locator("#found details.utt").last
        item.locator("summary").first.click()
        item.locator(".aligned").wait_for()
        assert item.locator("canvas.posteriors").count() == 1


@pytest.mark.slow
def test_an_utterance_shows_where_an_attention_decoder_looked(browser, tmp_path):
    made = asrkit.report_experiment(*make_attended(tmp_path))
    with Opened(browser, made.page) as page:
        page.locator("#utterances select").first.select_option("all")
        page.wait_for_function(f"document.querySelectorAll('#found details.utt').length === {UTTS}")
        item = page.locator("#found details.utt").first  # all that it has found is a
        item.locator("summary").first.click()
        item.locator("canvas.attention").wait_for()
        label = item.locator("canvas.attention").get_attribute("aria-label")
        assert re.fullmatch(r"Attention weights over time, of (a, )*a and the end", label)
        assert "attention: where the decoder looked" in item.locator("figcaption").inner_text()
        is_drawn = (
            "canvas => canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"
        )
        assert item.locator("canvas.attention").evaluate(is_drawn)


@pytest.mark.slow
def test_two_systems_are_seen_side_by_side(browser, tmp_path):
    exp, data = make_decoded(tmp_path)
    shutil.copytree(exp, tmp_path / "other")
    (tmp_path / "other/decode_test/hyp").write_text((data / "text").read_text())
    asrkit.compare_experiments((exp, tmp_path / "other"), data, tmp_path / "both.html")
    with Opened(browser, tmp_path / "both.html", 390, "dark") as page:
        assert page.locator(".rates .value").first.inner_text() == "16.67"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        item = page.locator("#found details.utt").first
        item.locator("summary").first.click()
        item.locator(".aligned").nth(1).wait_for()
        assert [text.split(":")[0] for text in texts(page, "#found h4")] == ["A", "B"]
        assert item.locator(".aligned").first.locator(".pair.sub").count() == 1
        assert item.locator(".aligned").nth(1).locator(".pair.sub").count() == 0
        item.locator(".aligned").nth(1).locator(".pair").first.click()
        page.wait_for_function("document.body.dataset.played")
