"""asrkit train-nlm, perplexity and sample-lm."""

import math

import pytest

from asrkit.cli.main import main
from asrkit.decoding.language_models import parse_lm, read_lm, read_lm_text
from asrkit.errors import ConfigError, DataError
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram, write_arpa
from asrkit.models.language_file import read_neural_lm
from asrkit.stages.lm_use import perplexities

SMALL = ["--set", "model.hidden_size=8", "--set", "model.embedding_size=4", "--set", "training.num_epochs=2"]
PHONES = ("a", "b")


@pytest.fixture
def data(tmp_path):
    for name, number in (("train", 20), ("dev", 4)):
        (tmp_path / name).mkdir()
        rows = [f"u{i:02} {' '.join('ab' * (1 + i % 3))}\n" for i in range(number)]
        (tmp_path / name / "text").write_text("".join(rows))
    TokenTable(PHONES).write(tmp_path / "tokens.txt")
    return tmp_path


@pytest.fixture
def command(data):
    sets = ["--train", data / "train", "--dev", data / "dev", "--tokens", data / "tokens.txt"]
    return [*map(str, ["train-nlm", *sets, "--out", data / "nlm"]), *SMALL]


def test_trains_once_and_shows_the_ngram_beside(command, data, capsys):
    assert main(command) == 0
    found = capsys.readouterr()
    dev = [line.split()[1:] for line in (data / "dev" / "text").read_text().splitlines()]
    train = [line.split()[1:] for line in (data / "train" / "text").read_text().splitlines()]
    lm = read_neural_lm(data / "nlm" / "lm.npz")
    ngram = train_ngram(train, 5, PHONES).perplexity(dev)
    assert f"dev perplexity {lm.perplexity(dev):.2f} " in found.out
    assert found.out.endswith(f"a 5-gram of the same text has {ngram:.2f}\n")
    assert "a sample: " in found.err
    assert main(command) == 0
    assert capsys.readouterr().out.endswith("up to date\n")
    assert main([*command, "--set", "training.seed=2"]) == 1
    assert "give --resume to go on or --force" in capsys.readouterr().err
    assert main([*command, "--set", "training.seed=2", "--force"]) == 0


def test_characters_of_a_text(tmp_path, capsys):
    (tmp_path / "book.txt").write_text("the cat\nsat on\n\nthe mat\n" * 10)
    command = ["train-nlm", "--plain-text", str(tmp_path / "book.txt"), "--out", str(tmp_path / "nlm"), *SMALL]
    assert main(command) == 0
    assert read_neural_lm(tmp_path / "nlm" / "lm.npz").phones == tuple(" acehmnost")
    capsys.readouterr()
    lm = str(tmp_path / "nlm" / "lm.npz")
    assert main(["sample-lm", "--lm", lm, "--number", "3", "--seed", "5"]) == 0
    first = capsys.readouterr().out
    assert len(first.splitlines()) == 3
    assert main(["sample-lm", "--lm", lm, "--number", "3", "--seed", "5"]) == 0
    assert capsys.readouterr().out == first
    assert main(["perplexity", "--lm", lm, "--plain-text", str(tmp_path / "book.txt")]) == 0
    assert "30 sentences, 230 tokens" in capsys.readouterr().out
    (tmp_path / "book.txt").write_text("x\n")
    assert main([*command, "--force"]) == 1
    assert "1 lines; expected 5 or more" in capsys.readouterr().err


def test_perplexities_of_both_kinds_and_mixed(command, data, capsys):
    assert main(command) == 0
    arpa, network = data / "lm.arpa", data / "nlm" / "lm.npz"
    write_arpa(train_ngram([["a", "b", "a"], ["b"]], 2, PHONES), arpa)
    capsys.readouterr()
    assert main(["perplexity", "--lm", str(arpa), "--lm", str(network), "--data", str(data / "dev")]) == 0
    _, first, second, mixed = capsys.readouterr().out.splitlines()
    dev = [line.split()[1:] for line in (data / "dev" / "text").read_text().splitlines()]
    own = [read_lm(path).perplexity(dev) for path in (arpa, network)]
    assert [first, second] == [f"{p}: perplexity {x:.2f}" for p, x in zip((arpa, network), own, strict=True)]
    weight = float(mixed.split()[0])
    logs = [
        math.log(weight * math.exp(a) + (1 - weight) * math.exp(b))
        for pair in zip(*(read_lm(path).token_log_probs(dev) for path in (arpa, network)), strict=True)
        for a, b in zip(*pair, strict=True)
    ]
    assert float(mixed.split("perplexity ")[1].split()[0]) == pytest.approx(math.exp(-sum(logs) / len(logs)), abs=0.02)


def test_faults(command, data, capsys):
    for wrong in (["--train", str(data / "train")], [], [*command[1:], "--plain-text", str(data / "tokens.txt")]):
        assert main(["train-nlm", *wrong, "--out", str(data / "x")]) == 1
        assert "give either --train, --dev and --tokens, or --plain-text" in capsys.readouterr().err
    (data / "dev" / "text").write_text("u1 a c\n")
    assert main(command) == 1
    assert "u1: phones not in" in capsys.readouterr().err
    assert main(["perplexity", "--lm", str(data / "none.npz"), "--data", str(data / "dev")]) == 1
    assert "none.npz: not found" in capsys.readouterr().err
    for texts in ({}, {"data": data / "dev", "plain_text": data / "tokens.txt"}):
        with pytest.raises(ConfigError, match="give either data or plain_text"):
            perplexities(["lm.npz"], **texts)
    assert main(["sample-lm", "--lm", str(data / "tokens.txt"), "--temperature", "0"]) == 1
    assert "--temperature 0: expected a number above 0" in capsys.readouterr().err


def test_the_text_of_a_network_is_the_network(command, data):
    assert main(command) == 0
    path = data / "nlm" / "lm.npz"
    text = read_lm_text(path)
    assert parse_lm(text, PHONES, "x").score(["a", "b"]) == read_neural_lm(path).score(["a", "b"])
    with pytest.raises(DataError, match="its phones are not those of the token table"):
        parse_lm(text, ("b", "a"), "x")
    with pytest.raises(DataError, match="not the text of a neural"):
        parse_lm(text + "!", PHONES, "x")


def test_a_plain_text_that_is_not_there_is_no_stages_work(tmp_path, capsys):
    text = tmp_path / "book.txt"
    assert main(["train-nlm", "--plain-text", str(text), "--out", str(tmp_path / "nlm")]) == 1
    assert capsys.readouterr().err == f"asrkit train-nlm: error: {text}: cannot be read (No such file or directory)\n"
