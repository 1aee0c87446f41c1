import json
import subprocess
import sys

import pytest

from asrkit.cli.main import main

OUT = """\
protocol as-is: symbols as written; silence scored (no such symbol); adjacent silences kept; 5 reference tokens
95 % interval over 3 utterances: none (fewer than 8)
%PER 60.00 [ 3 / 5, 1 ins, 1 del, 1 sub ]
"""


@pytest.fixture
def files(tmp_path):
    ref, hyp = tmp_path / "ref", tmp_path / "hyp"
    ref.write_text("u1 a b ʃ\nu2 b\nu3 a\n", encoding="utf-8")
    hyp.write_text("u3 a a\nu1 a c ʃ\nu2\n", encoding="utf-8")
    return ref, hyp


def test_prints_the_protocol_and_last_the_rate(files, capsys):
    assert main(["score", *map(str, files)]) == 0
    assert capsys.readouterr() == (OUT, "")


def test_json(files, tmp_path, capsys):
    assert main(["score", *map(str, files), "--json-file", str(tmp_path / "new" / "per.json")]) == 0
    assert capsys.readouterr().out == OUT
    written = json.loads((tmp_path / "new" / "per.json").read_text(encoding="utf-8"))
    assert list(written.pop("utts").items())[1] == (
        "u2",
        {
            "per": 100.0,
            "num_ref": 1,
            "num_hyp": 0,
            "num_errors": 1,
            "num_hits": 0,
            "num_ins": 0,
            "num_del": 1,
            "num_sub": 0,
            "num_free_ins": 0,
            "num_free_del": 0,
        },
    )
    assert written == {
        "per": 60.0,
        "num_ref": 5,
        "num_hyp": 5,
        "num_errors": 3,
        "num_hits": 3,
        "num_ins": 1,
        "num_del": 1,
        "num_sub": 1,
        "num_free_ins": 0,
        "num_free_del": 0,
        "num_utts": 3,
        "protocol": "as-is",
        "description": OUT.split("\n")[0],
        "intervals": {"utterances": {"low": None, "high": None, "num_units": 3, "num_samples": 10000, "seed": 0}},
    }


def test_missing_and_extra_hypotheses_fail_and_are_named(files, tmp_path, capsys):
    ref, hyp = files
    hyp.write_text("u1 a b ʃ\nu4 a\n", encoding="utf-8")
    assert main(["score", str(ref), str(hyp), "--json-file", str(tmp_path / "per.json")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"asrkit score: error: {hyp}: utterance u2 of {ref} is missing; decode it",
        f"asrkit score: error: {hyp}: utterance u3 of {ref} is missing; decode it",
        f"asrkit score: error: {ref}: utterance u4 of {hyp} is missing",
    ]
    assert not (tmp_path / "per.json").exists()


def test_unusable_files_fail(files, capsys):
    ref, hyp = files
    ref.write_text("")
    hyp.write_text("")
    assert main(["score", str(ref), str(hyp)]) == 1
    wanted = f"asrkit score: error: {ref}: no phones in it; expected `utt_id phone phone ...` lines\n"
    assert capsys.readouterr().err == wanted
    ref.write_text("utt1\n")
    hyp.write_text("utt1 a\n")
    assert main(["score", str(ref), str(hyp)]) == 1
    assert capsys.readouterr().err == wanted
    ref.unlink()
    assert main(["score", str(ref), str(hyp)]) == 1
    assert str(ref) in capsys.readouterr().err


# Folded to 39 phones, u1 in 61, u2 in 39 and u3 in a mixture:
#     ref u1  sil sil d ih sil t aa sil sil     hyp u1  sil d ih sil t aa sil             (q is dropped)
#     ref u2  sil d ih sil t ah sil             hyp u2  sil d ih sil sil t ah z sil
#     ref u3  sil k ae sil m sil                hyp u3  sil k ae n m
# kaldi: 9 + 7 + 6 = 22 tokens. u1: 2 silences deleted. u2: a silence and z inserted. u3: sil for n, last sil deleted.
#     2 ins, 3 del, 1 sub = 6; 6 / 22 = 27.27 %.
# merged: u1 loses two tokens and all its errors; u2 keeps the insertion of z; u3 is unchanged.
#     7 + 7 + 6 = 20 tokens; 1 ins, 1 del, 1 sub = 3; 15.00 %.
# optional-silence: tokens as for kaldi; z in u2 and n in u3 inserted, silence costs nothing. 2 / 22 = 9.09 %.
# no-silence: d ih t aa, d ih t ah, k ae m = 11 tokens; the same two insertions. 2 / 11 = 18.18 %.
# as-is: ref u1 has 10 tokens, of which d, t and aa are hit; 4 others are substituted by the 4 others of hyp u1, 3
#     deleted. ref u2 has 7, of which d, ih, t are hit, the 4 others substituted; the 2 left of hyp u2 are inserted.
#     ref u3 has 6: epi for n, h# deleted. 23 tokens; 2 ins, 4 del, 9 sub = 15; 65.22 %.
TIMIT_REF = """\
u1 h# dcl d ix tcl t q aa pau h#
u2 sil d ih sil t ah sil
u3 sil k ae epi m h#
"""
TIMIT_HYP = """\
u1 sil d ih sil t aa sil
u2 h# d ih cl cl t ax z h#
u3 sil k ae n m
"""
ALL = """\
protocol          symbols     silence   adjacent silences  tokens    PER  errors  ins  del  sub  95 % over 3 utterances
as-is             as written  scored    kept                   23  65.22      15    2    4    9  none (fewer than 8)
kaldi             39 phones   scored    kept                   22  27.27       6    2    3    1  none (fewer than 8)
merged            39 phones   scored    merged                 20  15.00       3    1    1    1  none (fewer than 8)
optional-silence  39 phones   optional  kept                   22   9.09       2    2    0    0  none (fewer than 8)
no-silence        39 phones   removed   -                      11  18.18       2    2    0    0  none (fewer than 8)
intervals: bootstrap-t, 10000 samples, seed 0; protocols: docs/scoring.md
"""


@pytest.fixture
def timit(tmp_path):
    ref, hyp = tmp_path / "timit-ref", tmp_path / "timit-hyp"
    ref.write_text(TIMIT_REF)
    hyp.write_text(TIMIT_HYP)
    return str(ref), str(hyp)


def test_all_protocols_side_by_side_are_as_counted_by_hand(timit, tmp_path, capsys):
    assert main(["score", "--protocol", "all", *timit, "--json-file", str(tmp_path / "all.json")]) == 0
    assert capsys.readouterr() == (ALL, f"{tmp_path / 'all.json'}: written\n")
    written = json.loads((tmp_path / "all.json").read_text())
    assert {name: (row["num_ref"], row["num_errors"]) for name, row in written.items()} == {
        "as-is": (23, 15),
        "kaldi": (22, 6),
        "merged": (20, 3),
        "optional-silence": (22, 2),
        "no-silence": (11, 2),
    }


@pytest.mark.parametrize(
    ("protocol", "described", "line"),
    [
        (
            "kaldi",
            "folded to 39 phones; silence scored; adjacent silences kept; 22 reference tokens",
            "%PER 27.27 [ 6 / 22, 2 ins, 3 del, 1 sub ]",
        ),
        (
            "merged",
            "folded to 39 phones; silence scored; adjacent silences merged; 20 reference tokens",
            "%PER 15.00 [ 3 / 20, 1 ins, 1 del, 1 sub ]",
        ),
        (
            "optional-silence",
            "folded to 39 phones; silence optional (free to insert and to delete); adjacent silences kept; "
            "22 reference tokens",
            "%PER 9.09 [ 2 / 22, 2 ins, 0 del, 0 sub ]",
        ),
        (
            "no-silence",
            "folded to 39 phones; silence removed, not scored; 11 reference tokens",
            "%PER 18.18 [ 2 / 11, 2 ins, 0 del, 0 sub ]",
        ),
    ],
)
def test_one_protocol_ends_with_the_rate(timit, capsys, protocol, described, line):
    assert main(["score", *timit, "--protocol", protocol]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == (f"protocol {protocol}: {described}", line)


def test_symbols_that_cannot_be_folded_are_named_for_both_files(timit, capsys):
    ref, hyp = timit
    for path in timit:
        with open(path, "a") as stream:
            stream.write(f"u4 aa {path[-3:]} a\n")
    assert main(["score", ref, hyp, "--protocol", "all"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[2] + line.split(": ")[4].split(";")[0] for line in err.splitlines()] == [
        f"{ref}a ref",
        f"{hyp}a hyp",
    ]


def test_interval_over_speakers(tmp_path, capsys):
    ref, hyp, utt2spk = tmp_path / "ref", tmp_path / "hyp", tmp_path / "utt2spk"
    utts = [f"s{i}-{u}" for i in range(9) for u in (1, 2)]
    ref.write_text("".join(f"{utt} aa b d\n" for utt in utts))
    hyp.write_text("".join(f"{utt} aa {'b d' if int(utt[1]) % 2 else 'd b'}\n" for utt in utts))
    utt2spk.write_text("".join(f"{utt} {utt[:2]}\n" for utt in utts))
    command = ["score", str(ref), str(hyp), "--utt2spk", str(utt2spk)]
    assert main([*command, "--json-file", str(tmp_path / "json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    found = json.loads((tmp_path / "json").read_text())["intervals"]
    assert lines[1:3] == [
        f"95 % interval over {count} {unit}: {found[unit]['low']:.2f} to {found[unit]['high']:.2f} "
        "(bootstrap-t, 10000 samples, seed 0)"
        for count, unit in ((18, "utterances"), (9, "speakers"))
    ]
    assert main([*command, "--protocol", "all"]) == 0
    header = capsys.readouterr().out.splitlines()[0]
    assert header.endswith("95 % over 18 utterances  95 % over 9 speakers")
    utt2spk.write_text("".join(f"{utt} {utt[:2]}\n" for utt in utts[2:]))
    assert main(command) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"asrkit score: error: {utt2spk}: utterance {utt} of {ref} has no speaker" for utt in utts[:2]
    ]


def test_loads_neither_torch_nor_other_slow_modules(files):
    code = (
        "import sys; from asrkit.cli.main import main; import asrkit.cli.report;"
        f"main(['score', {str(files[0])!r}, {str(files[1])!r}]);"
        "sys.exit(sum(name in sys.modules for name in ('torch', 'torchaudio', 'librosa', 'numba', 'scipy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
