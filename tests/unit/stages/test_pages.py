"""The page of a report: what is in the file, read as a browser would."""

import base64
import io
import json
import re
import shutil
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asrkit
from asrkit.cli.main import main
from asrkit.decoding.methods import make_search
from asrkit.formats.ctm import PhoneTimes
from asrkit.inference.onnx_model import OnnxModel
from asrkit.io.ark import ArkReader
from asrkit.scoring.per import score
from asrkit.stages import pages
from tests.decoded_tree import BAD, UTTS, log_probs, make_attended, make_decoded


class Scripts(HTMLParser):
    """The texts of a page's script elements by id, and all other elements' names."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: dict[str, str] = {}
        self.tags: set[str] = set()
        self._name: str | None = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self._name = dict(attrs).get("id", "program") if tag == "script" else None

    def handle_data(self, data):
        if self._name is not None:
            self.texts[self._name] = self.texts.get(self._name, "") + data

    def handle_endtag(self, tag):
        self._name = None


def part(content: str):
    return json.loads(zlib.decompress(base64.b64decode(content)))


class Read:
    """A page: its figures, and its utterances with their phones."""

    def __init__(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        self.scripts = Scripts(text)
        self.figures = json.loads(self.scripts.texts["figures"])
        self.symbols = [row["symbol"] for row in self.figures["symbols"]]

    def part(self, name: str):
        return part(self.scripts.texts[name])

    def phones(self, text: str) -> list[str | None]:
        return [None if char == " " else self.symbols[ord(char) - self.figures["first_char"]] for char in text]

    def pairs(self, system: int = 0) -> dict[str, list]:
        out = {}
        for number in range(-(-self.figures["num_utts"] // self.figures["utts_a_part"])):
            rows = self.part(f"t{number}")
            for utt, ref, hyp in zip(rows["utt"], rows["ref"][system], rows["hyp"][system], strict=True):
                out[utt] = list(zip(self.phones(ref), self.phones(hyp), strict=True))
        return out

    def details(self) -> list[dict]:
        numbers = range(-(-self.figures["num_utts"] // self.figures["details_a_part"]))
        rows = [row for number in numbers for row in self.part(f"d0_{number}")]
        return [
            {key: self.unpacked(value) if key in ("ref", "hyp", "conf") else value for key, value in row.items()}
            for row in rows
        ]

    def unpacked(self, packed: str | list[int]) -> list[int]:
        return packed if isinstance(packed, list) else [ord(char) - self.figures["first_char"] for char in packed]


@pytest.fixture
def experiment(tmp_path: Path) -> tuple[Path, Path]:
    return make_decoded(tmp_path)


def test_the_page_has_the_figures_of_the_report_and_every_alignment(experiment):
    made = asrkit.report_experiment(*experiment)
    assert made.page == experiment[0] / "decode_test/report.html"
    page = Read(made.page)
    assert page.figures["report"] == json.loads(made.json_file.read_text())
    assert page.figures["report"]["line"] == made.lines[-1] == "%PER 16.67 [ 4 / 24, 0 ins, 0 del, 4 sub ]"
    refs, hyps = (
        {line.split()[0]: line.split()[1:] for line in path.read_text().splitlines()}
        for path in (experiment[1] / "text", experiment[0] / "decode_test/hyp")
    )
    assert page.pairs() == {utt: list(pairs) for utt, pairs in score(refs, hyps).pairs.items()}
    assert page.figures["history"] == {
        "epoch": [1, 2],
        "train_loss": [2.5, 1.5],
        "dev_loss": [2, 1],
        "dev_per": [None, 30.5],
    }
    assert page.figures["boundaries"]["num_phones"] == 24
    assert page.figures["analysis"] is None
    assert page.figures["command"].startswith("asrkit report ")
    assert not page.figures["missing"]


def test_what_comes_from_outside_makes_no_elements(experiment):
    page = Read(asrkit.report_experiment(*experiment).page)
    assert BAD in page.symbols
    assert "b" not in page.scripts.tags
    text = (experiment[0] / "decode_test/report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", text)


def test_details_show_where_an_attention_decoder_looked(tmp_path, capsys):
    """For phones that the model has, as the decoder says it; without the model itself a line says so."""
    exp, data = make_attended(tmp_path)
    page, model = Read(asrkit.report_experiment(exp, data).page), OnnxModel(exp / "final.onnx")
    search = make_search(model.decoding, model.lm, model.decoder)
    stored, first = ArkReader(exp / "decode_test/log_probs.scp"), page.figures["first_char"]
    num_shown = 0
    for (utt, pairs), row in zip(page.pairs().items(), page.details(), strict=True):
        hyp = [phone for _, phone in pairs if phone is not None]
        assert ("look" in row) == (set(hyp) <= {"a"}) and "post" in row
        if "look" not in row:
            continue
        chars, numbers, steps, values = row["look"]
        assert page.phones(chars) == hyp and row["steps"] == 12
        found = np.zeros((len(hyp) + 1, 12))
        phones = np.repeat(np.arange(len(hyp) + 1), [ord(char) - first for char in numbers])
        found[phones, [ord(char) - first for char in steps]] = [ord(char) - first for char in values]
        expected = search.read(stored[utt], [model.tokens.encode(hyp)])[1][0].mean(axis=1)
        np.testing.assert_array_equal(found, np.rint(63 * np.where(expected > 0.03, expected, 0.0)))
        num_shown += 1
    assert 0 < num_shown < UTTS
    (exp / "final.onnx").unlink()
    page = Read(asrkit.report_experiment(exp, data, force=True).page)
    assert all("post" in row and "look" not in row for row in page.details())
    assert f"{exp}/decode_test/report.html: without attention: {exp}" in capsys.readouterr().err


def test_details_are_times_confidences_and_posteriors(experiment):
    page = Read(asrkit.report_experiment(*experiment).page)
    times = PhoneTimes(experiment[1] / "phones.ctm")
    stored = dict(zip(page.pairs(), page.details(), strict=True))
    rng = np.random.default_rng(0)
    for _ in stored:
        rng.normal(0, 0.1, 8000)
    first, levels = page.figures["first_char"], page.figures["levels"]
    for utt, row in stored.items():
        starts = [round(1000 * time.start) for time in times[utt]]
        spans = []
        for before, start, time in zip([0, *starts], starts, times[utt], strict=False):
            spans += [start - before, round(1000 * time.end) - start]
        assert row["ref"] == row["hyp"] == spans
        assert row["conf"] == [75] * (len(spans) // 2)
        numbers, tokens, values = ([ord(char) - first for char in text] for text in row["post"])
        posteriors = np.exp(log_probs(rng, 12))
        assert (row["steps"], len(numbers), sum(numbers)) == (12, 12, len(tokens))
        steps = np.repeat(np.arange(12), numbers)
        assert np.abs(posteriors[steps, tokens] - np.array(values) / levels).max() <= 0.5 / levels + 1e-6
        left = posteriors.copy()
        left[steps, tokens] = 0
        assert left[:, 1:].max() <= 0.03


def test_audio_is_opus_of_the_worst_and_of_a_sample(experiment):
    page = Read(asrkit.report_experiment(*experiment, asrkit.PageOptions(audio=4)).page)
    assert len(page.figures["audio"]) == 4
    worst = page.figures["worst"]
    assert set(worst[:2]) < set(page.figures["audio"])
    assert not set(worst) & set(page.figures["sample"])
    for number in page.figures["audio"]:
        content = base64.b64decode(page.scripts.texts[f"a{number}"])
        samples, rate = soundfile.read(io.BytesIO(content))
        assert (soundfile.info(io.BytesIO(content)).subtype, rate, len(samples)) == ("OPUS", 16000, 8000)
    assert len(Read(asrkit.report_experiment(*experiment).page).figures["audio"]) == UTTS
    assert not Read(asrkit.report_experiment(*experiment, asrkit.PageOptions(audio=0)).page).figures["audio"]


def test_audio_that_cannot_be_read_is_told(experiment, capsys):
    exp, data = experiment
    (utt,) = [line.split()[0] for line in (data / "text").read_text().splitlines()][:1]
    (data.parent / f"{utt}.wav").unlink()
    assert main(["report", "--model", str(exp), "--data", str(data)]) == 0
    captured = capsys.readouterr()
    page = exp / "decode_test/report.html"
    assert f"asrkit report: warning: no audio of 1 utterances in {page}, such as: " in captured.err
    assert f"{utt}.wav" in captured.err
    assert str(page) in captured.out.splitlines()[0]
    assert list(Read(page).figures["missing"]) == [utt]


def test_a_page_is_made_anew_when_something_it_shows_changes(experiment):
    exp, data = experiment
    options = asrkit.PageOptions(audio=2)
    assert asrkit.report_experiment(exp, data, options).is_new
    again = asrkit.report_experiment(exp, data, options)
    assert not again.is_new
    assert again.page == exp / "decode_test/report.html"
    (exp / "history.csv").write_text("epoch,train_loss,dev_loss,dev_per\n1,2.5,2.0,\n")
    assert asrkit.report_experiment(exp, data, options).is_new
    assert not asrkit.report_experiment(exp, data, options).is_new
    assert asrkit.report_experiment(exp, data, asrkit.PageOptions(audio=3)).is_new
    (exp / "decode_test/report.html").unlink()
    assert asrkit.report_experiment(exp, data, asrkit.PageOptions(audio=3)).is_new


def test_of_many_utterances_the_parts_lie_beside_the_page(experiment, monkeypatch):
    exp, data = experiment
    monkeypatch.setattr(pages, "MOST_IN_PAGE", 5)
    monkeypatch.setattr("asrkit.reporting.html.utterances.UTTS_A_PART", 5)
    monkeypatch.setattr("asrkit.reporting.html.utterances.DETAILS_A_PART", 5)
    made = asrkit.report_experiment(exp, data)
    page, beside = Read(made.page), exp / "decode_test/report_data"
    assert page.figures["beside"] == "report_data"
    assert sorted(path.name for path in beside.iterdir()) == [
        "d0_0.js",
        "d0_1.js",
        "d0_2.js",
        "t0.js",
        "t1.js",
        "t2.js",
    ]
    assert not [name for name in page.scripts.texts if re.fullmatch("[dt][0-9_]+", name)]
    texts = {path.stem: path.read_text() for path in beside.iterdir()}
    calls = {name: re.fullmatch(r'asrkitPart\("(\w+)","([^"]*)"\)\n', text) for name, text in texts.items()}
    assert all(call is not None and call[1] == name for name, call in calls.items())
    assert [len(part(calls[name][2])["utt"]) for name in ("t0", "t1", "t2")] == [5, 5, 2]
    assert not asrkit.report_experiment(exp, data).is_new
    (beside / "t1.js").unlink()
    assert asrkit.report_experiment(exp, data).is_new
    monkeypatch.setattr(pages, "MOST_IN_PAGE", 100)
    assert asrkit.report_experiment(exp, data, force=True).is_new
    assert not beside.exists()


def test_phones_that_the_protocol_folds_keep_their_times(experiment):
    exp, data = experiment
    (data / "text").write_text("u1 h# q tcl t aa h#\n")
    (data / "utt2spk").write_text("u1 s1\n")
    (data / "phones.ctm").write_text(
        "".join(f"u1 1 {0.1 * i:.1f} 0.1 {p}\n" for i, p in enumerate(["h#", "q", "tcl", "t", "aa", "h#"]))
    )
    (exp / "decode_test/hyp").write_text("u1 sil t aa sil\n")
    (exp / "decode_test/phones.ctm").write_text(
        "".join(f"u1 1 {0.1 * i:.1f} 0.1 {p} 0.5\n" for i, p in enumerate(["sil", "t", "aa", "sil"]))
    )
    page = Read(asrkit.report_experiment(exp, data, protocol=asrkit.PROTOCOLS["no-silence"]).page)
    assert page.pairs() == {"u1": [("t", "t"), ("aa", "aa")]}
    (row,) = page.details()
    assert (row["ref"], row["hyp"], row["conf"]) == ([300, 100, 100, 100], [100] * 4, [50, 50])


def test_times_of_any_length_are_kept(experiment):
    exp, data = experiment
    lines = (data / "phones.ctm").read_text().splitlines()
    utt = lines[-1].split()[0]
    (data / "phones.ctm").write_text("".join(f"{line}\n" for line in lines[:-1]) + f"{utt} 1 100.5 86400.25 {BAD}\n")
    page = Read(asrkit.report_experiment(exp, data).page)
    assert page.details()[-1]["ref"][-2:] == [100_400, 86_400_250]
    assert max(page.details()[-1]["hyp"]) == 100


def test_a_comparison_shows_both_systems_and_the_lines_of_the_command(experiment, capsys):
    exp, data = experiment
    other, page = exp.parent / "other", exp.parent / "both.html"
    shutil.copytree(exp, other)
    (other / "decode_test/hyp").write_text((data / "text").read_text())  # all is right
    assert main(["compare", str(exp), str(other), "--data", str(data), "--html", str(page)]) == 0
    said = capsys.readouterr().out.splitlines()
    read = Read(page)
    lines = read.figures["comparison"]["lines"]
    assert said == [str(page), lines[0], f"{lines[1]} {exp}", f"{lines[2]} {other}", *lines[3:]]
    utt2spk, hyps = data / "utt2spk", [str(each / "decode_test/hyp") for each in (exp, other)]
    assert main(["compare", str(data / "text"), *hyps, "--utt2spk", str(utt2spk)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        lines[0],
        f"{lines[1]} {hyps[0]}",
        f"{lines[2]} {hyps[1]}",
        *lines[3:],
    ]
    assert lines[3] == "A - B: 16.67"
    right = read.pairs(1)
    assert all(ref == hyp for pairs in right.values() for ref, hyp in pairs)
    wrong = {utt for utt, pairs in read.pairs(0).items() if pairs != right[utt]}
    assert {list(right)[number] for number in read.figures["differing"]} == wrong
    assert not set(read.figures["differing"]) & set(read.figures["sample"])
    rows = {row["phone"]: row for row in read.figures["comparison"]["phones"]}
    assert [rows[phone]["b"] for phone in rows] == [0, 0, 0]
    assert sum(row["a"] for row in rows.values()) == 4
    assert sum(row["num_ref"] for row in rows.values()) == 24


@pytest.mark.parametrize("args", [["A", "B"], ["A", "B", "C", "--html", "x"], ["A", "B", "C", "--data", "D"], ["A"]])
def test_a_comparison_is_of_experiments_or_of_files(args, capsys):
    with pytest.raises(SystemExit) as raised:
        main(["compare", *args])
    assert raised.value.code == 2
    assert "give REF, HYP_A and HYP_B, or --data and two experiments" in capsys.readouterr().err


@pytest.mark.parametrize(
    "args",
    [
        ["--data", "DATA"],
        ["--model", "EXP", "--data", "DATA", "--hyp", "HYP"],
        ["--data", "DATA", "--hyp", "HYP"],
    ],
)
def test_a_report_is_of_an_experiment_or_of_files(args, capsys):
    with pytest.raises(SystemExit) as raised:
        main(["report", *args])
    assert raised.value.code == 2
    assert "give --model and --data, or --data, --hyp and --out" in capsys.readouterr().err
