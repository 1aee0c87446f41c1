"""Each verb that writes files names them, or the directory that they are in."""

import shutil
from pathlib import Path

import pytest

from asrkit.cli.main import VERBS, main

WRITE_NOTHING = {"validate", "perplexity", "sample-lm", "table", "stream", "serve", "models", "info"}
NOT_RUN = {"plot"}  # it needs an attention decoder, and tells by the ResultWriter of transcribe


def commands(work: Path) -> dict[str, tuple[object, ...]]:
    """A command for each verb, in an order in which each finds what it needs."""
    exp, data, config = work / "exp", work / "data", ("--config", work / "config.yaml")
    sets = ("--train", data / "train", "--dev", data / "dev", "--tokens", data / "tokens.txt")
    short = ("--set", "training.num_epochs=1")
    decoded, speech = exp / "decode_test", work / "audio/test0-0.wav"
    return {
        "prepare": ("prepare", "own", "--corpus", work / "corpus", "--out", work / "prepared"),
        "extract": ("extract", data / "train", data / "dev", data / "test", *config, "--nj", 1, "--force"),
        "split": ("split", data / "train", "--shards", 2),
        "train-lm": ("train-lm", *sets, "--out-file", work / "lm.arpa"),
        "train": ("train", *config, *short, *sets, "--out", work / "new"),
        "adapt": ("adapt", "--model", exp, "--data", data / "dev", *short, "--out", work / "adapted"),
        "decode": ("decode", "--model", exp, "--data", data / "dev", "--nj", 1, "--ctm", "--nbest", 3),
        "rescore": ("rescore", "--decode-dir", exp / "decode_dev", "--lm", work / "lm.arpa", "--out", work / "ranked"),
        "train-nlm": ("train-nlm", *short, *sets, "--out", work / "nlm"),
        "tune": ("tune", "--model", exp, "--data", data / "dev", "--nj", 1),
        "analyze": ("analyze", "--model", exp, "--data", data / "test", "--nj", 1),
        "report": ("report", "--model", exp, "--data", data / "test"),
        "score": ("score", data / "test/text", decoded / "hyp", "--json-file", work / "score.json"),
        "boundaries": ("boundaries", "--ref", data / "dev", "--hyp", exp / "decode_dev/phones.ctm", "--json-file",
                       work / "boundaries.json"),
        "compare": ("compare", "--data", data / "test", "--html", work / "two.html", exp, exp),
        "export": ("export", "--model", exp, "--out-file", work / "model.onnx"),
        "transcribe": ("transcribe", "--model", exp, "--out", work / "found", speech),
        "align": ("align", "--model", exp, "--phones", "a", "--out", work / "aligned", speech),
        "lesson": ("lesson", "hopfield", "--quick", "--out", work / "lesson"),
    }  # fmt: skip


def times(work: Path) -> dict[Path, int]:
    """Of all files but hidden ones, which are stamps and locks."""
    return {path: path.stat().st_mtime_ns for path in work.rglob("[!.]*") if path.is_file()}


@pytest.mark.slow
def test_each_verb_that_writes_says_where(tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    work = tmp_path / "work"
    shutil.copytree(tones, work)
    (work / "corpus").mkdir()
    rows = []
    for number, path in enumerate(sorted((work / "audio").glob("dev*.wav"))):
        shutil.copy(path, work / "corpus")
        rows.append(f"{path.name},a,s{number}")
    (work / "corpus/corpus.csv").write_text("\n".join(["audio,phones,speaker", *rows]))
    untold = []
    for verb, command in commands(work).items():
        before = times(work)
        capsys.readouterr()
        assert main([str(argument) for argument in command]) == 0, capsys.readouterr().err
        told = "".join(capsys.readouterr()).replace(",", " ").replace(": ", " ").split()
        written = [path for path, time in times(work).items() if before.get(path) != time]
        assert written, verb
        untold += [(verb, path) for path in written if not {str(each) for each in (path, *path.parents)} & {*told}]
    assert untold == []
    assert {*commands(work)} | WRITE_NOTHING | NOT_RUN == {*VERBS}
