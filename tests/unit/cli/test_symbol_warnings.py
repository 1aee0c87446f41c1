"""Every verb that compares symbols of two files says so where two look alike; none changes them.

`tune`, `analyze` and `align`, which need a model, are in tests/e2e/test_tuning.py.
"""

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.formats.data_dir import write_data_dir
from asrkit.lang.tokens import TokenTable
from asrkit.types import Utterance

COMPOSED, DECOMPOSED = "ã", "a\u0303"
PAIR = "phones that look alike but are composed differently"


@pytest.fixture
def root(tmp_path):
    """A data directory that writes its vowel decomposed, and a table that has it composed."""
    soundfile.write(tmp_path / "a.wav", np.zeros(8000, np.int16), 16000)
    utts = [Utterance(f"u{n}", "s", str(tmp_path / "a.wav"), (DECOMPOSED, "s")) for n in range(2)]
    write_data_dir(tmp_path / "data", utts, {"u0": 0.5, "u1": 0.5})
    (tmp_path / "hyp").write_text(f"u0 {COMPOSED} s\nu1 {DECOMPOSED} s\n", encoding="utf-8")
    (tmp_path / "same").write_text(f"u0 {DECOMPOSED} s\nu1 {DECOMPOSED}\n", encoding="utf-8")
    TokenTable([COMPOSED, "s"]).write(tmp_path / "tokens.txt")
    return tmp_path


def run(capsys, *args, status=0):
    assert main([*map(str, args)]) == status
    return capsys.readouterr()


def test_score_compare_and_report(root, capsys):
    ref, hyp, same = root / "data/text", root / "hyp", root / "same"
    told = f"{PAIR} ({DECOMPOSED}): U+0061 U+0303 in {ref} and {hyp}, U+00E3 in {hyp}; use one of them everywhere\n"
    out, err = run(capsys, "score", ref, hyp)
    assert (err, out.splitlines()[-1]) == (
        f"asrkit score: warning: {told}",
        "%PER 25.00 [ 1 / 4, 0 ins, 0 del, 1 sub ]",
    )
    assert run(capsys, "score", ref, same).err == ""
    assert PAIR in run(capsys, "compare", ref, hyp, same).err
    assert PAIR in run(capsys, "compare", ref, same, hyp).err
    assert run(capsys, "compare", ref, same, same).err == ""
    report = ("report", "--data", root / "data", "--hyp", hyp, "--out", root / "out")
    assert run(capsys, *report).err == f"asrkit report: warning: {told}"
    again = run(capsys, *report)
    assert "up to date" in again.out and again.err == f"asrkit report: warning: {told}"


def test_validate_and_train_lm_name_the_pair_where_a_phone_is_not_known(root, capsys):
    named = f"{DECOMPOSED} (U+0061 U+0303, which looks like {COMPOSED}, U+00E3)"
    out, err = run(capsys, "validate", root / "data", "--tokens", root / "tokens.txt", status=1)
    assert f"{root}/data/text:1: u0: not in the token list: {named}" in out
    assert err.startswith(f"asrkit validate: warning: {PAIR}")
    train_lm = ("train-lm", "--train", root / "data", "--tokens", root / "tokens.txt", "--out-file", root / "lm.arpa")
    assert f"phones not in {root}/tokens.txt: {named}" in run(capsys, *train_lm, status=1).err
    TokenTable([COMPOSED, DECOMPOSED, "s"]).write(root / "tokens.txt")
    assert run(capsys, *train_lm, "--order", 2).err.startswith(f"asrkit train-lm: warning: {PAIR}")
    TokenTable([DECOMPOSED, "s"]).write(root / "tokens.txt")
    assert run(capsys, "validate", root / "data", "--tokens", root / "tokens.txt").err == ""
    assert run(capsys, *train_lm, "--order", 2).err == ""


def test_boundaries(root, capsys):
    for name, phone in (("ref", COMPOSED), ("hyp", DECOMPOSED)):
        (root / f"{name}.ctm").write_text(f"u0 1 0 0.1 {phone}\nu0 1 0.1 0.1 s\n", encoding="utf-8")
    ctms = ("boundaries", "--ref", root / "ref.ctm", "--hyp")
    out, err = run(capsys, *ctms, root / "hyp.ctm")
    assert out.startswith("phones right: 1 of 2") and err.startswith(f"asrkit boundaries: warning: {PAIR}")
    assert run(capsys, *ctms, root / "ref.ctm").err == ""


def test_what_cannot_be_seen_is_named_by_its_code_point(root, capsys):
    (root / "hyp").write_text("u0 a\u0303\u200b s\nu1 a\u0303 s\u00a0\n", encoding="utf-8")
    lines = run(capsys, "score", root / "data/text", root / "hyp").err.splitlines()
    assert [line for line in lines if "U+200B (ZERO WIDTH SPACE), which cannot be seen" in line]
    assert [line for line in lines if "U+00A0 (NO-BREAK SPACE), which cannot be seen" in line]


@pytest.mark.parametrize("silences", ["sil", "h# q", "q", "pau sil epi"])
def test_references_of_which_a_protocol_leaves_nothing_have_no_rate(root, capsys, silences):
    ref, hyp = root / "data/text", root / "hyp"
    ref.write_text(f"u0 {silences}\nu1 {silences}\n", encoding="utf-8")
    hyp.write_text("u0 sil\nu1 aa\n", encoding="utf-8")
    removed = ["all", "no-silence"] if silences != "q" else ["all", "kaldi", "merged", "no-silence", "optional-silence"]
    for protocol in removed:
        for args in (
            ("score", ref, hyp),
            ("compare", ref, hyp, hyp),
            ("report", "--data", root / "data", "--hyp", hyp, "--out", root / "out"),
        ):
            if protocol == "all" and args[0] != "score":
                continue
            out, err = run(capsys, *args, "--protocol", protocol, status=1)
            assert out == "" and f"{ref}: no phone to score is left by protocol " in err
            assert err.endswith(f"; it holds {' '.join(sorted(set(silences.split())))}\n")
    hyp.write_text("u0 sil\nu1 sil\n", encoding="utf-8")
    ref.write_text(f"u0 {silences}\nu1 aa\n", encoding="utf-8")  # one utterance with a phone is enough
    assert "%PER 100.00 [ 1 / 1" in run(capsys, "score", ref, hyp, "--protocol", "no-silence").out
    report = ("report", "--data", root / "data", "--hyp", hyp, "--out", root / "out", "--protocol", "no-silence")
    run(capsys, *report)
    assert "nan" not in (root / "out/report.txt").read_text(encoding="utf-8")
