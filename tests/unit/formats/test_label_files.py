"""Readers of label files: TextGrids in every form against praatio's writer, the others against hand-written files."""

import math

import pytest

from asrkit.findings import Findings
from asrkit.formats.ctm import read_ctm
from asrkit.formats.lab import read_lab
from asrkit.formats.label import Label, check_labels
from asrkit.formats.phn import read_phn
from asrkit.formats.textgrid import read_textgrid, read_textgrid_labels

# Quotes, Praat's own syntax inside labels, combining marks, a symbol of two code points and a backslash.
INTERVALS = (
    (0.0, 0.1, ""),
    (0.1, 0.25, 'say "h"'),
    (0.25, 0.3, "a\u0303"),
    (0.3, 0.4, "\\ae"),
    (0.4, 0.5, "intervals [3]:"),
    (0.5, 0.6, "1.5"),
    (0.6, 0.7, "! ʃ"),
    (0.7, 0.75, "t͡s"),
    (0.75, 0.8, "<exists>"),
    (0.8, 1.0, ""),
)
LONG = """\
File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 1 ! a comment with 2 numbers and a "string"
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 1
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 1
            text = "say"
    item [2]:
        class = "TextTier"
        name = "bursts"
        xmin = 0
        xmax = 1
        points: size = 1
        points [1]:
            number = 0.5
            mark = "x"
    item [3]:
        class = "IntervalTier"
        name = "phones"
        xmin = 0
        xmax = 1
        intervals: size = 3
        intervals [1]:
            xmin = 0
            xmax = 0.25
            text = ""
        intervals [2]:
            xmin = 0.25
            xmax = 0.5
            text = "s"
        intervals [3]:
            xmin = 0.5
            xmax = 1
            text = "ej"
"""
SHORT = 'File type = "ooTextFile"\n"TextGrid"\n\n0\n1\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n1\n1\n0\n1\n"a"\n'


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


def faults_of(read, path, *arguments):
    """What is wrong with a file by itself: what its reader finds, and what is found in the labels of each recording."""
    findings = Findings()
    found = read(path, *arguments, findings)
    labels = found[0] if isinstance(found, tuple) else found
    for of_one in labels.values() if isinstance(labels, dict) else [labels]:
        check_labels([label for label in of_one if isinstance(label, Label)], path, findings)
    return findings.errors


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_textgrids_of_praatio_come_back(tmp_path, form, encoding):
    textgrid = pytest.importorskip("praatio.textgrid", reason="praatio, of the extra test, is not installed")
    written = textgrid.Textgrid()
    written.addTier(textgrid.IntervalTier("words", [(0.1, 0.8, "w")], 0, 1))
    written.addTier(textgrid.PointTier("points", [(0.5, 'p "q"')], 0, 1))
    written.addTier(textgrid.IntervalTier("phones", INTERVALS, 0, 1))
    path = tmp_path / "a.TextGrid"
    written.save(str(path), form, includeBlankSpaces=True)
    write(path, path.read_text(encoding="utf-8"), encoding)
    findings = Findings()
    tiers = read_textgrid(path, findings)
    assert findings == Findings()
    assert [tier.name for tier in tiers] == ["words", "phones"]
    assert [(label.start, label.end, label.phone) for label in tiers[1].labels] == list(INTERVALS)


def test_a_long_textgrid_with_its_lines(tmp_path):
    findings = Findings()
    tiers = read_textgrid(write(tmp_path / "a.TextGrid", LONG.replace("\n", "\r\n")), findings)
    assert findings == Findings()
    assert [(tier.name, tier.line) for tier in tiers] == [("words", 10), ("phones", 29)]
    assert tiers[1].labels == (
        Label("", 0.0, 0.25, 37),
        Label("s", 0.25, 0.5, 41),
        Label("ej", 0.5, 1.0, 45),
    )


def test_empty_intervals_are_left_out_or_become_the_silence_that_is_named(tmp_path):
    path = write(tmp_path / "a.TextGrid", LONG)
    for silence, phones in ((None, ["s", "ej"]), ("sil", ["sil", "s", "ej"])):
        findings = Findings()
        labels = read_textgrid_labels(path, None, silence, findings)
        assert (findings.errors, [label.phone for label in labels]) == ([], phones)


@pytest.mark.parametrize(
    ("names", "tier", "chosen"),
    [
        (["x"], None, 0),
        (["words", "Phones"], None, 1),
        (["ORT", "KAN", "MAU"], None, 2),
        (["anna - words", "anna - phones"], None, 1),
        (["words", "narrow"], "narrow", 1),
        (["phones", "narrow"], "narrow", 1),
    ],
)
def test_the_tier_of_phones(tmp_path, names, tier, chosen):
    tiers = "".join(f'"IntervalTier"\n"{name}"\n0\n1\n1\n0\n1\n"p{index}"\n' for index, name in enumerate(names))
    path = write(
        tmp_path / "a.TextGrid", f'File type = "ooTextFile"\n"TextGrid"\n0\n1\n<exists>\n{len(names)}\n{tiers}'
    )
    findings = Findings()
    assert [label.phone for label in read_textgrid_labels(path, tier, None, findings)] == [f"p{chosen}"]
    assert findings == Findings()


@pytest.mark.parametrize(
    ("text", "tier", "fault"),
    [
        (
            LONG.replace('"phones"', '"narrow"'),
            None,
            ": no interval tier with the usual name of a tier of phones; choose",
        ),
        (LONG.replace('"words"', '"phone"'), None, ": 2 interval tiers; choose one with --tier; found: phone, phones"),
        (LONG, "Phones", ": no interval tier 'Phones'; choose one with --tier; found: words, phones"),
        (LONG, "bursts", ": no interval tier 'bursts'"),
        (LONG.rpartition("intervals [3]")[0], None, ":41: expected an interval's start in tier phones, found the end"),
        (
            LONG.replace("size = 3\n        intervals [1]", "size = 2\n        intervals [1]"),
            None,
            ":43: 0.5 after the",
        ),
        (LONG.replace("xmin = 0.25", "xmin = x"), None, ":41: expected an interval's end, found 's'"),
        (LONG.replace('"TextTier"', '"Tier"'), None, ':20: expected "IntervalTier" or "TextTier", found \'Tier\''),
        (LONG.replace('"s"', '"s'), None, ":"),
        (LONG.replace('"TextGrid"', '"Pitch 1"'), None, ":2: expected a TextGrid, found 'Pitch 1'"),
        ("0 1 a\n", None, ":1: expected `ooTextFile` and `TextGrid`"),
        ("", None, ":1: expected `ooTextFile`"),
        ("ooBinaryFile\x08TextGrid", None, ": a binary TextGrid; save it as a text file"),
        ('"Praat chronological TextGrid text file"\n', None, ": a chronological TextGrid"),
        (LONG.replace('"s"', '"s t"'), None, ":41: the symbol 's t' holds white space (U+0020)"),
        (LONG.replace("xmax = 0.5", "xmax = 0.25"), None, ":41: s starts at 0.250 s and ends at 0.250 s"),
        (LONG.replace("xmax = 0.5", "xmax = 0.7"), None, ":45: ej starts at 0.500 s, before 0.700 s where the"),
    ],
)
def test_faults_of_textgrids(tmp_path, text, tier, fault):
    path = write(tmp_path / "a.TextGrid", text)
    faults = faults_of(read_textgrid_labels, path, tier, None)
    assert len(faults) == 1 and faults[0].startswith(f"{path}{fault}"), faults


def test_short_and_old_headers(tmp_path):
    for text in (SHORT, SHORT.replace("ooTextFile", "ooTextFile short")):
        findings = Findings()
        tiers = read_textgrid(write(tmp_path / "a.TextGrid", text), findings)
        assert (findings.errors, tiers[0].labels) == ([], (Label("a", 0.0, 1.0, 15),))


def test_other_encodings_are_refused_with_the_line(tmp_path):
    path = write(tmp_path / "a.TextGrid", SHORT.replace('"a"', '"\xe4"'), "latin-1")
    assert faults_of(read_textgrid, path) == [
        f"{path}:15: neither UTF-8 nor UTF-16 (byte 0xe4); save it as UTF-8, since any other encoding would give "
        "other characters"
    ]


def test_phn_counts_in_samples_of_the_audio(tmp_path):
    path = write(tmp_path / "a.phn", "0 8000 h#\n8000 12000 #\r\n12000 16000 '\n")
    findings = Findings()
    assert read_phn(path, 16000, findings) == [
        Label("h#", 0.0, 0.5, 1),
        Label("#", 0.5, 0.75, 2),
        Label("'", 0.75, 1.0, 3),
    ]
    assert read_phn(path, 8000, findings)[-1] == Label("'", 1.5, 2.0, 3)
    assert findings == Findings()


@pytest.mark.parametrize(
    ("text", "unit", "expected"),
    [
        ("0 2500000 a\n2500000 10000000 b\n", "100 ns", [("a", 0.0, 0.25), ("b", 0.25, 1.0)]),
        ("0 2500000 a -12.5 word\n2500000 10000000 b -3\n", "100 ns", [("a", 0.0, 0.25), ("b", 0.25, 1.0)]),
        ("0.0 0.25 a\n0.25 1.0 b\n", "s", [("a", 0.0, 0.25), ("b", 0.25, 1.0)]),
        ("0 1 a\n1 2 b\n", "s", [("a", 0.0, 1.0), ("b", 1.0, 2.0)]),
        ("0 10000 a\n", "100 ns", [("a", 0.0, 0.001)]),
        ("0 9999 a\n", "s", [("a", 0.0, 9999.0)]),
        ("10000.5 10001 a\n", "s", [("a", 10000.5, 10001.0)]),
        ("a\nb\n", "none", [("a", None, None), ("b", None, None)]),
    ],
)
def test_lab_in_htk_units_in_seconds_and_without_times(tmp_path, text, unit, expected):
    findings = Findings()
    labels, found = read_lab(write(tmp_path / "a.lab", text), findings)
    assert (findings.errors, found) == ([], unit)
    for label, (phone, start, end) in zip(labels, expected, strict=True):
        assert label.phone == phone
        assert (label.start, label.end) == (start, end) if start is None else math.isclose(label.end, end)
        assert start is None or math.isclose(label.start, start)


def test_ctm_by_recording(tmp_path):
    text = ";; made by hand\nu1 1 0.1 0.2 a\nu2 A 0 0.5 ' 0.93\nu1 1 0.3 0.1 ;;\n"
    findings = Findings()
    recordings = read_ctm(write(tmp_path / "all.ctm", text), findings)
    assert findings == Findings()
    assert recordings == {
        "u1": [Label("a", 0.1, 0.1 + 0.2, 2), Label(";;", 0.3, 0.4, 4)],
        "u2": [Label("'", 0.0, 0.5, 3)],
    }


def test_faults_of_line_by_line_files_come_together(tmp_path):
    path = write(tmp_path / "a.phn", "0 100 a\n100 b\n100 x c\n50 200 d\n200 200 e\n200 300 <blk>\n-1 5 f\n")
    faults = faults_of(read_phn, path, 16000)
    assert [fault.removeprefix(f"{path}:").split(" ")[0] for fault in faults] == ["2:", "3:", "7:", "4:", "5:", "6:"]
    path = write(tmp_path / "a.lab", "0 100 a\n1 b\n1 2\n100 200 c d\n200 300 d 1.5 e\n")
    assert [fault.split(" ")[0] for fault in faults_of(read_lab, path)] == [f"{path}:{line}:" for line in (2, 3, 4)]
    path = write(
        tmp_path / "a.ctm", "u 1 0 0.1 a\nu 1 0.1 nan b\nu 2 0.1 0.1 b\nu 1 0.05 0.1 c\nu 1 0.2\nu 1 0.3 -1 d\n"
    )
    assert [fault.removeprefix(f"{path}:").split(" ")[0] for fault in faults_of(read_ctm, path)] == [
        *("2:", "3:", "5:", "4:", "6:")
    ]


@pytest.mark.parametrize("reader", [lambda path, findings: read_phn(path, 16000, findings), read_lab, read_ctm])
def test_an_empty_or_missing_file_is_a_fault(tmp_path, reader):
    assert faults_of(reader, write(tmp_path / "a", " \n"))[0].endswith("empty; expected a line for each phone")
    assert faults_of(reader, tmp_path / "b") == [f"{tmp_path / 'b'}: cannot be read (No such file or directory)"]
