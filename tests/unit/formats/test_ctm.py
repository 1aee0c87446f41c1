import pickle
from pathlib import Path

import numpy as np
import pytest

from asrkit.errors import DataError
from asrkit.findings import Findings
from asrkit.formats.ctm import PhoneTimes, TimeColumns, read_phone_times
from asrkit.formats.data_dir import parse_data_dir, write_data_dir
from asrkit.types import PhoneTime, Utterance


def test_times_are_those_that_were_written(tmp_path: Path) -> None:
    utts = []
    for number in range(20):
        names = ["a", "b", "ʃ"][: 1 + number % 3]
        times = tuple(PhoneTime(name, 0.1 * i + 0.001 * number, 0.1 * i + 0.08) for i, name in enumerate(names))
        times = () if number == 7 else times
        utts.append(Utterance(f"utt{number}", "spk", f"/{number}.wav", tuple(names), phone_times=times))
    write_data_dir(tmp_path / "data", utts, {utt.utt_id: 1.0 for utt in utts})
    times = pickle.loads(pickle.dumps(PhoneTimes(tmp_path / "data" / "phones.ctm")))
    expected = parse_data_dir(tmp_path / "data").data.phone_times
    assert len(expected) == 19
    assert dict(times) == expected
    assert "utt7" not in times


def test_tabs_scores_and_lines_ends_of_windows(tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"b\t1\t0.5\t0.25\tx\t0.9\r\nb 1 1 0 y\r\na 1 0 1 z")
    assert dict(PhoneTimes(tmp_path / "c")) == {
        "b": (PhoneTime("x", 0.5, 0.75), PhoneTime("y", 1.0, 1.0)),
        "a": (PhoneTime("z", 0.0, 1.0),),
    }


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; frame labels need the times of phones"):
        PhoneTimes(tmp_path / "phones.ctm")


def test_an_utterance_in_two_places(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("b 1 0 1 x\nbb 1 0 1 x\nb 1 1 1 x\n")
    with pytest.raises(DataError, match="lines of b in two places"):
        PhoneTimes(tmp_path / "c")


@pytest.mark.parametrize("line", ["a 1 0.5 x", "a 1 x 1 y", "a 1 -1 1 y", "a 1 nan 1 y", "a 1 0 -1 y", "a 1 0.1 1 y"])
def test_faulty_lines(tmp_path: Path, line: str) -> None:
    (tmp_path / "c").write_text(f"a 1 0.2 0.1 x\n{line}\nb 1 0 1 x\n")
    times = PhoneTimes(tmp_path / "c")
    assert times["b"] == (PhoneTime("x", 0.0, 1.0),)
    with pytest.raises(DataError, match="c: a: expected `utt channel start duration phone`, sorted by start, found"):
        times["a"]


def test_the_index_of_a_large_file_takes_the_lines_that_validation_takes(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("\ufeff b 1 0 1 x\n\tb\t1 1 0.5 y\nb 1 2 1 z\u2028\n\x0bc 1 0 1 x\n", encoding="utf-8")
    findings = Findings()
    times, _ = read_phone_times(tmp_path / "c", findings)
    assert findings.errors == []
    assert dict(PhoneTimes(tmp_path / "c")) == times
    assert [*times] == ["b", "\x0bc"]


def test_a_start_before_the_utterance_is_named_and_is_no_missing_phone(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("b 1 -0.001 1 x\nb 1 0.9 1 y\n")
    findings = Findings()
    times, _ = read_phone_times(tmp_path / "c", findings)
    assert findings.errors == [f"{tmp_path}/c:1: b: start -0.001 is before the utterance's beginning, which is 0"]
    assert [time.phone for time in times["b"]] == ["x", "y"]


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "c\t1 0 1 x\n",
        "c 1 0  1 x\n",
        "c 1 0 1 x\n\n",
        "c 1 0 1 x \n",
        " c 1 0 1 x\n",
        "c 1 0 1 x\u2028\n",
        "c 1 0 1 x 0.5\n",
    ],
)
@pytest.mark.parametrize("confidence", ["", " 0.5"])
def test_columns_are_the_lines_of_each_utterance(tmp_path: Path, odd: str, confidence: str) -> None:
    lines = ["a 1 0.1 0.2 x", "a 1 0.3 0.15 y", "b 1 0 0.5 x", "d 1 0 0.25 z"]
    (tmp_path / "c").write_text("".join(f"{line}{confidence}\n" for line in lines) + odd)
    times = PhoneTimes(tmp_path / "c")
    for utts in (["a", "b", "d"], ["d", "none", "a"], [*times], []):
        found, expected = times.columns(utts), TimeColumns.of([times.get(utt, ()) for utt in utts])
        assert (found.bounds, found.phones) == (expected.bounds, expected.phones)
        assert found.starts.tolist() == expected.starts.tolist()
        assert found.ends.tolist() == expected.ends.tolist()
        of_c = [0.5 if odd.endswith("0.5\n") else None] if "c" in utts else []
        known = [0.5 if confidence else None] * (len(found.phones) - len(of_c)) + of_c
        assert [None if np.isnan(value) else value for value in found.confidences] == known


@pytest.mark.parametrize(
    "line", ["a 1 0.05 0.2 y", "a 1 0.3 -1 y", "a 1 0.3 1_0 y", "a 1 0.3 0.1 y 1.5", "a 1 0.3 0.1"]
)
def test_faulty_lines_make_no_columns(tmp_path: Path, line: str) -> None:
    end = " 0.5" if line.endswith("1.5") else ""
    (tmp_path / "c").write_text(f"a 1 0.1 0.2 x{end}\n{line}\n")
    with pytest.raises(DataError, match="c: a: expected"):
        PhoneTimes(tmp_path / "c").columns(["a"])
