"""The steps that measure and report, called from Python: what they return says what the command prints."""

import json
from pathlib import Path

import pytest

import asrkit
from asrkit.cli.main import main
from asrkit.errors import ConfigError, DataError
from asrkit.stages import analysis, reporting, tuning


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory of three utterances of two speakers, with hypotheses and a token table beside it."""
    data = tmp_path / "data"
    data.mkdir()
    utts = {"u1": "a b", "u2": "b", "u3": "a a"}
    for name, rows in {
        "wav.scp": [f"{utt} {utt}.wav" for utt in utts],
        "text": [f"{utt} {phones}" for utt, phones in utts.items()],
        "utt2spk": ["u1 s1", "u2 s1", "u3 s2"],
        "phones.ctm": ["u1 1 0.0 0.5 a", "u1 1 0.5 0.5 b"],
    }.items():
        (data / name).write_text("".join(f"{row}\n" for row in rows))
    (tmp_path / "hyp").write_text("u1 a b\nu2 a\nu3 a\n")
    (tmp_path / "better").write_text("u1 a b\nu2 b\nu3 a\n")
    (tmp_path / "tokens.txt").write_text("<blk> 0\na 1\nb 2\n")
    (tmp_path / "hyp.ctm").write_text("u1 1 0.0 0.47 a\nu1 1 0.47 0.5 b\n")
    return data


def test_a_score_has_its_rate_and_what_belongs_to_it(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text, hyp, utt2spk = data / "text", data.parent / "hyp", data / "utt2spk"
    score = asrkit.score(text, str(hyp), utt2spk=utt2spk)
    assert score.per == 40.0
    assert [interval.num_units for interval in score.intervals.values()] == [3, 2]
    assert main(["score", str(text), str(hyp), "--utt2spk", str(utt2spk)]) == 0
    assert capsys.readouterr().out.splitlines() == score.lines()
    with pytest.raises(DataError, match=r"not among TIMIT.s 61, 48 or 39 phones"):
        asrkit.score(text, hyp, protocol=asrkit.PROTOCOLS["kaldi"])


def test_a_comparison_has_both_systems(data: Path) -> None:
    systems = asrkit.compare(data / "text", data.parent / "hyp", data.parent / "better")
    assert (systems.a.num_errors, systems.b.num_errors) == (2, 1)
    assert systems.by_unit.keys() == {"utterances"}
    assert systems.by_unit["utterances"].difference == pytest.approx(20.0)


def test_a_report_says_whether_it_is_new(data: Path) -> None:
    hyp, out = data.parent / "hyp", data.parent / "out"
    first, second = (asrkit.report(data, hyp, out) for _ in range(2))
    assert (first.is_new, second.is_new) == (True, False)
    assert first.lines == second.lines
    assert json.loads(first.json_file.read_text())["line"] == first.lines[-1]
    assert first.lines[-1] in first.text_file.read_text().splitlines()


def test_boundaries_are_those_of_a_data_directory(data: Path) -> None:
    result = asrkit.compare_boundaries(data, data.parent / "hyp.ctm")
    assert result.num_boundaries == 1
    assert result.boundaries.bias_ms == pytest.approx(-30.0)


def test_a_language_model_has_its_figures_when_it_is_new(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens, lm = data.parent / "tokens.txt", data.parent / "lm.arpa"
    config = asrkit.LmConfig(order=2)
    training = asrkit.train_lm(data, tokens, lm, config, dev=data)
    assert training.num_ngrams[0] == 5  # a, b and the three that every model has
    assert training.dev is not None
    assert (training.dev.num_phones, training.dev.num_unknown) == (5, 0)
    assert training.dev.perplexity == training.perplexity
    again = asrkit.train_lm(data, tokens, lm, config, dev=data)
    assert again == asrkit.LmTraining(lm)
    command = [
        "train-lm",
        "--train",
        str(data),
        "--tokens",
        str(tokens),
        "--order",
        "2",
        "--dev",
        str(data),
        "--out-file",
        str(lm),
    ]
    for args, expected in ((command, again), ([*command, "--force"], training)):
        assert main(args) == 0
        assert capsys.readouterr().out.splitlines() == expected.lines()


def test_epsilons_belong_to_laplace_smoothing() -> None:
    with pytest.raises(ConfigError, match="no meaning for --smoothing kneser_ney"):
        asrkit.LmConfig(epsilons=(1.0,))
    assert asrkit.LmConfig(smoothing="laplace", epsilons=(1.0,)).epsilons == (1.0,)


# No JSON; JSON of another shape.
DAMAGED = [
    b"",
    b"{",
    b"\xff",
    b"[" * 100_000,
    b"[]",
    b"null",
    b'{"warnings": 1}',
    b'{"lines": 1, "intro": 1, "line": ""}',
]


@pytest.mark.parametrize("content", DAMAGED)
@pytest.mark.parametrize("stage", [analysis, reporting, tuning])
def test_what_is_no_result_is_not_taken_for_one_that_was_made_before(tmp_path: Path, stage, content: bytes) -> None:
    (tmp_path / "analysis.json").write_bytes(content)
    (tmp_path / "text").write_bytes(b"text" if content != b"[]" else b"\xff")
    if stage is analysis:
        made_before = analysis._read_analysis(tmp_path, tmp_path / "text")
        if content.startswith(b'{"lines"'):  # has no warnings, which is right
            assert made_before is not None and made_before.text == "text"
            return
    else:
        made_before = stage._read_lines(tmp_path / "analysis.json")
    assert made_before is None
