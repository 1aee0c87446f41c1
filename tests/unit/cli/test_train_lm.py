import pytest

from asrkit.cli.main import main
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import read_arpa, train_ngram


@pytest.fixture
def command(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "text").write_text("u1 a ʃ a\nu2 ʃ\n", encoding="utf-8")
    TokenTable(["ʃ", "a", "b"]).write(tmp_path / "tokens.txt")
    out = tmp_path / "lm" / "lm.arpa"
    return [
        "train-lm",
        "--train",
        str(tmp_path / "train"),
        "--tokens",
        str(tmp_path / "tokens.txt"),
        "--out-file",
        str(out),
    ]


def test_trains_once_and_again_when_something_changed(command, tmp_path, capsys):
    arpa = tmp_path / "lm" / "lm.arpa"
    sentences, phones = [["a", "ʃ", "a"], ["ʃ"]], ["ʃ", "a", "b"]
    lm = train_ngram(sentences, 3, phones, "kneser_ney")
    first = f"{arpa}: 6 1-grams, 6 2-grams, 4 3-grams; perplexity of its own text {lm.perplexity(sentences):.2f}\n"
    assert main(command) == 0
    assert capsys.readouterr().out == first
    assert read_arpa(arpa, phones) == lm
    assert main(command) == 0
    assert capsys.readouterr().out == f"{arpa}: up to date\n"
    assert main([*command, "--force"]) == 0
    assert capsys.readouterr().out == first
    assert main([*command, "--order", "2"]) == 0
    assert read_arpa(arpa, phones) == train_ngram(sentences, 2, phones)
    (tmp_path / "train" / "text").write_text("u1 b b\n")
    assert main([*command, "--order", "2"]) == 0
    assert read_arpa(arpa, phones) == train_ngram([["b", "b"]], 2, phones)


def test_smoothing_and_epsilons(command, tmp_path, capsys):
    arpa, sentences, phones = tmp_path / "lm" / "lm.arpa", [["a", "ʃ", "a"], ["ʃ"]], ["ʃ", "a", "b"]
    for options, expected in (
        (["--smoothing", "witten_bell"], train_ngram(sentences, 3, phones, "witten_bell")),
        (["--smoothing", "laplace"], train_ngram(sentences, 3, phones, "laplace")),
        (["--smoothing", "laplace", "--epsilon", "0.5,2"], train_ngram(sentences, 3, phones, "laplace", (0.5, 2.0))),
    ):
        assert main([*command, *options]) == 0
        assert read_arpa(arpa, phones) == expected
    capsys.readouterr()
    assert main([*command, "--epsilon", "1"]) == 1
    assert "--epsilon has no meaning for --smoothing kneser_ney" in capsys.readouterr().err
    for value in ("1,0", "", "x", "1,inf"):
        with pytest.raises(SystemExit) as exit_:
            main([*command, "--smoothing", "laplace", "--epsilon", value])
        assert exit_.value.code == 2
        assert "expected positive numbers with commas between" in capsys.readouterr().err


def test_perplexity_of_held_out_text(command, tmp_path, capsys):
    text, held_out = tmp_path / "dev" / "text", [["ʃ", "a", "x"], ["b"]]
    assert main([*command, "--dev", str(text.parent)]) == 1
    assert capsys.readouterr().err == f"asrkit train-lm: error: {text}: not found; made by stage 0 (asrkit prepare)\n"
    text.parent.mkdir()
    text.write_text("v1 ʃ a x\nv2 b\n", encoding="utf-8")
    perplexity = train_ngram([["a", "ʃ", "a"], ["ʃ"]], 3, ["ʃ", "a", "b"]).perplexity(held_out)
    line = f"{text}: perplexity {perplexity:.2f}; 1 of 4 phones outside the vocabulary"
    assert main([*command, "--dev", str(text.parent)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == line
    assert main([*command, "--dev", str(text.parent)]) == 0
    assert "up to date" in capsys.readouterr().out
    text.write_text("v1 ʃ a\n", encoding="utf-8")
    assert main([*command, "--dev", str(text.parent)]) == 0
    assert "0 of 2 phones" in capsys.readouterr().out


def test_faults_are_all_named_and_nothing_is_written(command, tmp_path, capsys):
    text = tmp_path / "train" / "text"
    text.write_text("u1 a x\nu2\nu3 y a\n")
    assert main(command) == 1
    tokens = tmp_path / "tokens.txt"
    assert capsys.readouterr().err.splitlines() == [
        f"asrkit train-lm: error: {text}: u1: phones not in {tokens}: x",
        f"asrkit train-lm: error: {text}: u2: empty transcript; give its phones or remove it",
        f"asrkit train-lm: error: {text}: u3: phones not in {tokens}: y",
    ]
    text.unlink()
    assert main(command) == 1
    assert capsys.readouterr().err == (f"asrkit train-lm: error: {text}: not found; made by stage 0 (asrkit prepare)\n")
    assert not (tmp_path / "lm").exists()
