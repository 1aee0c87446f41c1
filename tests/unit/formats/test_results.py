"""What the writers write comes back: through asrkit's readers of label files and through praatio."""

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkit.errors import DataError
from asrkit.findings import Findings
from asrkit.formats.ctm import read_ctm, write_ctm
from asrkit.formats.data_dir import parse_data_dir
from asrkit.formats.lab import read_lab
from asrkit.formats.phn import read_phn
from asrkit.formats.results import FORMATS, Result
from asrkit.formats.textgrid import format_textgrid, read_textgrid, read_textgrid_labels
from asrkit.types import Alternative, Hypothesis, PhoneTime

TIMES = (PhoneTime('"', 0.0, 0.25), PhoneTime("ʃ", 0.25, 0.4000004), PhoneTime("a", 0.7, 1 / 1.1))
RESULT = Result("dir/x.wav", "x", Hypothesis("x", ('"', "ʃ", "a"), -1.5, TIMES, (0.9, 0.25, 1.0), 0.7), 1.0, 44100)
SILENT = Result("y.wav", "y", Hypothesis("y", (), -0.5), 0.5, 16000)

# Symbols may hold anything but white space; times are spans of a millisecond or more, with and without gaps.
SYMBOLS = st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1, max_size=4).filter(
    lambda text: text.split() == [text] and text not in ("<blk>", "<s>", "</s>", "<unk>")
)
STEPS = st.tuples(st.sampled_from([0.0, 0.0004, 0.1]), st.floats(0.001, 0.7), SYMBOLS)


def write(tmp_path, result, name):
    path = tmp_path / f"{result.key}{FORMATS[name].suffix}"
    path.write_text(FORMATS[name].render(result), encoding="utf-8")
    return path


def made(steps):
    times, now = [], 0.0
    for gap, length, phone in steps:
        times.append(PhoneTime(phone, now + gap, now + gap + length))
        now += gap + length
    return tuple(times)


def assert_same(labels, times, tolerance):
    assert [label.phone for label in labels] == [time.phone for time in times]
    for label, time in zip(labels, times, strict=True):
        assert (label.start, label.end) == pytest.approx((time.start, time.end), abs=tolerance)


@settings(max_examples=60, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=6), st.sampled_from([8000, 16000, 44100]), st.sampled_from([0.0, 0.3]))
def test_times_come_back_through_our_readers(tmp_path_factory, steps, rate, rest):
    tmp_path, times, findings = tmp_path_factory.mktemp("labels"), made(steps), Findings()
    result = Result("a b.wav", "x", Hypothesis("x", (), 0.0, times), times[-1].end + rest, rate)
    assert_same(read_ctm(write(tmp_path, result, "ctm"), findings).get("x", []), times, 1.1e-6)
    assert_same(read_phn(write(tmp_path, result, "phn"), rate, findings), times, 0.51 / rate)
    labels, unit = read_lab(write(tmp_path, result, "lab"), findings)
    assert unit == "100 ns"
    assert_same(labels, times, 0.51e-7)
    assert_same(read_textgrid_labels(write(tmp_path, result, "textgrid"), "phones", None, findings), times, 0.51e-6)
    assert findings == Findings()


def test_praatio_reads_our_textgrids(tmp_path):
    praatio = pytest.importorskip("praatio.textgrid", reason="praatio, of the extra test, is not installed")
    words = (PhoneTime('say "so"', 0.1, 0.4), PhoneTime("two\nlines", 0.5, 1.0))
    path = tmp_path / "x.TextGrid"
    path.write_text(format_textgrid(1.0, {"words": words, "phones": TIMES, "none": ()}), encoding="utf-8")
    found = praatio.openTextgrid(str(path), includeEmptyIntervals=True)
    assert found.tierNames == ("words", "phones", "none")
    assert (found.minTimestamp, found.maxTimestamp) == (0, 1)
    phones = found.getTier("phones").entries
    assert [entry.label for entry in phones] == ['"', "ʃ", "", "a", ""]
    assert [entry.start for entry in phones] == [0.0, 0.25, 0.4, 0.7, 0.909091]
    assert [entry.end for entry in phones] == [0.25, 0.4, 0.7, 0.909091, 1.0]
    assert [entry.label for entry in found.getTier("words").entries] == ["", 'say "so"', "", "two\nlines"]
    assert [(entry.start, entry.end, entry.label) for entry in found.getTier("none").entries] == [(0, 1, "")]


@settings(max_examples=40, deadline=None)
@given(st.lists(STEPS, max_size=6), st.sampled_from([0.0, 0.2]))
def test_a_tier_has_no_holes(tmp_path_factory, steps, rest):
    times = made(steps)
    duration = (times[-1].end if times else 0.1) + rest
    path = tmp_path_factory.mktemp("grid") / "x.TextGrid"
    path.write_text(format_textgrid(duration, {"phones": times}), encoding="utf-8")
    (tier,) = read_textgrid(path, Findings())
    bounds = [0.0, *(label.end for label in tier.labels)]
    assert bounds[:-1] == [label.start for label in tier.labels]
    assert bounds[-1] == pytest.approx(duration, abs=1e-6)
    assert all(label.start < label.end for label in tier.labels)


@pytest.mark.parametrize(
    "times",
    [
        [PhoneTime("a", 0.1, 0.3), PhoneTime("b", 0.2, 0.4)],
        [PhoneTime("a", 0.5, 0.7), PhoneTime("b", 0.1, 0.4)],
        [PhoneTime("a", 0.2, 0.2)],
        [PhoneTime("a", 0.2, 1.1)],
        [PhoneTime("a", -0.1, 0.1)],
    ],
)
def test_intervals_that_make_no_tier_are_refused(times):
    with pytest.raises(DataError, match=r"tier phones: [ab] from .* expected intervals in order"):
        format_textgrid(1.0, {"phones": times})


def test_text_and_json():
    assert FORMATS["text"].render(RESULT) == 'dir/x.wav " ʃ a\n'
    assert FORMATS["text"].render(SILENT) == "y.wav\n"
    found = json.loads(FORMATS["json"].render(RESULT))
    assert found["file"] == "dir/x.wav"
    assert (found["log_prob"], found["confidence"]) == (-1.5, 0.7)
    assert found["phones"][1] == {"phone": "ʃ", "start": 0.25, "end": 0.4, "confidence": 0.25}
    nobody = {"file": "y.wav", "log_prob": -0.5, "note": "no speech found", "phones": []}
    assert json.loads(FORMATS["json"].render(SILENT)) == nobody
    pause = replace(RESULT, hypothesis=Hypothesis("x", ("sil",), -1.5), silences=frozenset({"sil"}))
    assert json.loads(FORMATS["json"].render(pause))["note"] == "no speech found"
    assert "note" not in found


def test_ctm_has_confidences_and_is_read_as_a_data_directorys(tmp_path):
    assert FORMATS["ctm"].render(RESULT).splitlines()[2] == "x 1 0.700 0.209091 a 1.0000"
    (tmp_path / "utt2spk").write_text("x s\n")
    write_ctm(tmp_path / "phones.ctm", [RESULT.hypothesis, SILENT.hypothesis])
    parsed = parse_data_dir(tmp_path)
    assert not [error for error in parsed.findings.errors if "phones.ctm" in error]
    assert [time.phone for time in parsed.data.phone_times["x"]] == list(RESULT.hypothesis.phones)
    assert list(parsed.data.phone_times) == ["x"]


def test_nothing_recognised_is_an_empty_interval_or_file(tmp_path):
    (tier,) = read_textgrid(write(tmp_path, SILENT, "textgrid"), Findings())
    assert [(label.phone, label.start, label.end) for label in tier.labels] == [("", 0.0, 0.5)]
    assert {FORMATS[name].render(SILENT) for name in ("ctm", "phn", "lab", "srt")} == {""}


def test_alternatives_in_text_and_json():
    others = (Alternative(("a", "ʃ"), -1.25, -2.0), Alternative((), -7.0, -6.5))
    result = replace(RESULT, hypothesis=replace(RESULT.hypothesis, alternatives=others))
    assert FORMATS["text"].render(result) == "dir/x.wav 1 -1.2500 a ʃ\ndir/x.wav 2 -7.0000\n"
    plain, found = json.loads(FORMATS["json"].render(RESULT)), json.loads(FORMATS["json"].render(result))
    assert found.pop("nbest") == [
        {"score": -1.25, "log_prob": -2.0, "phones": ["a", "ʃ"]},
        {"score": -7.0, "log_prob": -6.5, "phones": []},
    ]
    assert found == plain


def test_subtitles_are_split_at_pauses_and_before_they_grow_too_long():
    def times(phones, start, step):
        bounds = [start + step * number for number in range(len(phones) + 1)]
        return [PhoneTime(*row) for row in zip(phones, bounds[:-1], bounds[1:], strict=True)]

    spoken = [
        *times(["sil", "a", "b"], 0.0, 0.2),
        *times(["sil"], 0.6, 0.25),  # too short a pause
        *times(["c"], 0.85, 0.1),
        *times(["sil"], 0.95, 0.5),
        *times(["d"] * 50, 1.45, 0.25),  # no pause for 12.5 s
        *times(["e" * 30] * 4, 3600.0, 0.1),  # four times 30 characters
    ]
    result = replace(RESULT, hypothesis=Hypothesis("x", (), 0.0, tuple(spoken)), silences=frozenset({"sil"}))
    found = [block.split("\n") for block in FORMATS["srt"].render(result).split("\n\n")[:-1]]
    assert found[0] == ["1", "00:00:00,200 --> 00:00:00,950", "a b c"]
    assert [number for number, _, _ in found] == ["1", "2", "3", "4", "5", "6"]
    assert [text.split() for _, _, text in found[1:4]] == [["d"] * 24, ["d"] * 24, ["d"] * 2]
    assert found[1][1] == "00:00:01,450 --> 00:00:07,450"
    assert found[4][1:] == ["01:00:00,000 --> 01:00:00,200", " ".join(["e" * 30] * 2)]
    assert found[5][1] == "01:00:00,200 --> 01:00:00,400"
