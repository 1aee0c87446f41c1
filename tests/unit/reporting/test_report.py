import json

import pytest

from asrkit.cli.main import main
from asrkit.errors import DataError
from asrkit.reporting.text import build_report, render_text
from asrkit.scoring.per import score
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.scoring.tally import Tally

REFS = {
    "s1-u1": "sil sil a ɪ̈ sil",
    "s1-u2": "sil ʃ a sil",
    "s2-u1": "sil a b a sil",
    "s3-u1": "a b",
}
HYPS = {
    "s1-u1": "sil sil b ɪ̈ sil",
    "s1-u2": "sil ʃ a sil",
    "s2-u1": "sil a sil",
    "s3-u1": "b b a",
}
UTT2SPK = {utt: utt[:2] for utt in REFS}
TEXT = """\
%PER 31.25 [ 5 / 16, 1 ins, 2 del, 2 sub ]
95 % interval over 4 utterances: none (fewer than 8)
95 % interval over 3 speakers: none (fewer than 8)
protocol as-is: symbols as written; silence scored (sil); adjacent silences kept; 16 reference tokens

Worst phones
phone  errors  tokens    PER  ins  del  sub
a           4       5  80.00    1    1    2
b           1       2  50.00    0    1    0
sil         0       7   0.00    0    0    0
ɪ̈           0       1   0.00    0    0    0
ʃ           0       1   0.00    0    0    0

Top confusions
ref  hyp  count
a    b        2

What was scored
References: 16 tokens of 5 symbols, in 4 utterances of 3 speakers
Silence: sil, 7 in the references, 1 of them right after another
Hypotheses: 15 tokens, 93.8 % of the references; 2 deletions, 1 insertions
Without an error: 1 of 4 utterances

Worst utterances
s3-u1 (s3) %PER 100.00 [ 2 / 2, 1 ins, 0 del, 1 sub ]
  ref  a  b  ***
  hyp  b  b  a
s2-u1 (s2) %PER 40.00 [ 2 / 5, 0 ins, 2 del, 0 sub ]
  ref  sil  a  b    a    sil
  hyp  sil  a  ***  ***  sil
s1-u1 (s1) %PER 20.00 [ 1 / 5, 0 ins, 0 del, 1 sub ]
  ref  sil  sil  a  ɪ̈  sil
  hyp  sil  sil  b  ɪ̈  sil

By length
tokens in reference  utts  tokens    PER  ins  del  sub
0 to 4                  2       6  33.33    1    0    1
5 to 9                  2      10  30.00    0    2    1

By sex
sex      speakers  utts  tokens     PER  ins  del  sub
f               1     2       9   11.11    0    0    1
m               1     1       5   40.00    0    2    0
unknown         1     1       2  100.00    1    0    1

By speaker
speaker  sex      utts  tokens     PER  ins  del  sub
s3       unknown     1       2  100.00    1    0    1
s2       m           1       5   40.00    0    2    0
s1       f           2       9   11.11    0    0    1
"""
TEXT_OF_FILES = TEXT.replace(" 16 reference tokens\n", " 16 reference tokens\n{hyp} against {ref}\n")


def result_of(refs, hyps):
    return score({u: t.split() for u, t in refs.items()}, {u: t.split() for u, t in hyps.items()})


def test_text():
    report = build_report(Tally.of(result_of(REFS, HYPS), UTT2SPK), {"s1": "f", "s2": "m"})
    assert render_text(report) == TEXT


def test_text_without_silence_and_with_one_speaker():
    refs, hyps = {"u1": "a b", "u2": "a"}, {"u1": "a b", "u2": "a"}
    report = build_report(Tally.of(result_of(refs, hyps), {"u1": "s", "u2": "s"}), {})
    text = render_text(report)
    assert text.startswith("%PER 0.00 [ 0 / 3, 0 ins, 0 del, 0 sub ]\n95 % interval over 2 utterances:")
    assert (
        "\nprotocol as-is: symbols as written; silence scored (no such symbol); adjacent silences kept; "
        "3 reference tokens\n"
    ) in text
    assert "Silence: there is no silence symbol among the tokens\n" in text
    assert "\nTop confusions\nref  hyp  count\n\nWhat was scored\n" in text
    assert "By sex" not in text and "\nBy speaker\nspeaker  sex      utts" in text


def test_text_where_each_utterance_is_its_own_speaker():
    text = render_text(build_report(Tally.of(result_of(REFS, HYPS), {utt: utt for utt in REFS}), {}))
    assert "By speaker" not in text and "By sex" not in text
    assert text.count("\nBy length\n") == 1


def test_text_has_all_phones_where_the_worst_are_not_all():
    report = build_report(Tally.of(result_of(REFS, HYPS), UTT2SPK), {})
    text = render_text(report, num_phones=2)
    worst, every = (text.partition(f"\n{title}\n")[2].partition("\n\n")[0] for title in ("Worst phones", "By phone"))
    assert len(worst.splitlines()) == 3 and len(every.splitlines()) == 6
    assert every.splitlines()[1].split()[:3] == ["a", "4", "5"] == worst.splitlines()[1].split()[:3]


def test_values():
    report = build_report(Tally.of(result_of(REFS, HYPS), UTT2SPK), {"s1": "f", "s2": "m"})
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    assert report["total"] == {
        "per": 31.25,
        "num_ref": 16,
        "num_hyp": 15,
        "num_errors": 5,
        "num_hits": 12,
        "num_ins": 1,
        "num_del": 2,
        "num_sub": 2,
        "num_free_ins": 0,
        "num_free_del": 0,
    }
    assert report["intervals"]["speakers"] == {
        "low": None,
        "high": None,
        "num_units": 3,
        "num_samples": 10000,
        "seed": 0,
    }
    assert report["scored"]["silences"] == ["sil"]
    assert report["scored"]["num_silence_neighbours"] == 1
    assert [row["spk"] for row in report["speakers"]] == ["s3", "s2", "s1"]
    assert report["confusions"] == [{"ref": "a", "hyp": "b", "count": 2}]
    assert report["worst_utts"][0]["pairs"] == [["a", "b"], ["b", "b"], [None, "a"]]
    for group in ("speakers", "sexes", "phones"):
        for count in ("num_ref", "num_ins", "num_del", "num_sub", "num_errors"):
            assert sum(row[count] for row in report[group]) == report["total"][count]


def test_phone_that_is_never_in_the_references_has_no_rate():
    report = build_report(Tally.of(result_of({"u": "a"}, {"u": "a c"}), {"u": "s"}), {})
    assert report["phones"][0] == {
        "phone": "c",
        "per": None,
        "num_ref": 0,
        "num_errors": 1,
        "num_hits": 0,
        "num_ins": 1,
        "num_del": 0,
        "num_sub": 0,
        "num_free_ins": 0,
        "num_free_del": 0,
    }
    assert "c           1       0     -    1    0    0\n" in render_text(report)


def test_intervals_over_utterances_and_over_speakers():
    # A speaker's utterances are alike here, so 16 utterances of 8 speakers say no more than 8 do.
    refs = {f"s{i}-{u}": "a b c d e" for i in range(8) for u in "xy"}
    hyps = {utt: "a b c d e"[: 9 - 2 * (int(utt[1]) % 4)] for utt in refs}
    report = build_report(Tally.of(result_of(refs, hyps), {utt: utt[:2] for utt in refs}), {})
    utts, spks = report["intervals"]["utterances"], report["intervals"]["speakers"]
    assert (utts["num_units"], spks["num_units"]) == (16, 8)
    assert 0 < spks["low"] < utts["low"] < report["total"]["per"] < utts["high"] < spks["high"]
    assert f"95 % interval over 8 speakers: {spks['low']:.2f} to {spks['high']:.2f} (bootstrap-t" in render_text(report)


def test_optional_silence_is_no_error_anywhere():
    refs = {"u1": "sil aa tcl t sil", "u2": "h#"}
    hyps = {"u1": "aa ao t z sil sil", "u2": "sil"}
    refs, hyps = ({utt: text.split() for utt, text in texts.items()} for texts in (refs, hyps))
    protocol = PROTOCOLS["optional-silence"]
    report = build_report(Tally.of(protocol.score(refs, hyps), {"u1": "s", "u2": "s"}), {}, protocol)
    # u1 folds to "sil aa sil t sil" and "aa aa t z sil sil": aa and z are put in, two silences are free to go, one
    # is free to come; u2 has no error.
    assert report["line"] == "%PER 33.33 [ 2 / 6, 2 ins, 0 del, 0 sub ]"
    assert (report["total"]["num_free_del"], report["total"]["num_free_ins"], report["total"]["num_hyp"]) == (2, 1, 7)
    phones = {row["phone"]: row for row in report["phones"]}
    assert (phones["sil"]["num_ref"], phones["sil"]["num_errors"], phones["sil"]["num_hits"]) == (4, 0, 2)
    assert "At no cost: 2 deletions, 1 insertions of silence\n" in render_text(report)


def test_a_reference_of_silence_alone_may_be_emptied_by_the_protocol():
    protocol = PROTOCOLS["no-silence"]
    refs = {"u1": ["h#"], "u2": ["h#", "aa"], "u3": ["pau"]}
    for hyps, line in (
        ({"u1": ["aa"], "u2": ["sil", "aa"], "u3": []}, "%PER 100.00 [ 1 / 1, 1 ins, 0 del, 0 sub ]"),
        ({"u1": [], "u2": ["ih"], "u3": ["sil"]}, "%PER 100.00 [ 1 / 1, 0 ins, 0 del, 1 sub ]"),
    ):
        report = build_report(Tally.of(protocol.score(refs, hyps), {utt: utt for utt in refs}), {}, protocol)
        assert render_text(report).startswith(line)
        assert report["speakers"][0]["spk"] == ("u1" if hyps["u1"] else "u2")
    with pytest.raises(DataError, match="no phone to score is left by protocol no-silence; it holds h#"):
        protocol.score({"u": ["h#"]}, {"u": []})


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data" / "test"
    path.mkdir(parents=True)
    (path / "wav.scp").write_text("".join(f"{utt} cat {utt}.wav |\n" for utt in REFS))
    (path / "text").write_text("".join(f"{utt} {text}\n" for utt, text in REFS.items()), encoding="utf-8")
    (path / "utt2spk").write_text("".join(f"{utt} {spk}\n" for utt, spk in UTT2SPK.items()))
    (path / "spk2gender").write_text("s1 f\ns2 m\n")
    (tmp_path / "hyp").write_text("".join(f"{utt} {text}\n" for utt, text in HYPS.items()), encoding="utf-8")
    return path


def test_verb_writes_both_files_and_ends_with_the_rate(data, tmp_path, capsys):
    out, hyp = tmp_path / "exp" / "report", tmp_path / "hyp"
    command = ["report", "--data", str(data), "--hyp", str(hyp), "--out", str(out)]
    files = f"{out / 'report.txt'}, {out / 'report.json'}"
    line, *intervals, protocol = TEXT.split("\n")[:4]
    intro = "\n".join([protocol, *intervals])
    assert main(command) == 0
    assert capsys.readouterr() == (f"{files}\n{intro}\n{line}\n", "")
    assert (out / "report.txt").read_text(encoding="utf-8") == TEXT_OF_FILES.format(hyp=hyp, ref=data)
    written = json.loads((out / "report.json").read_text(encoding="utf-8"))
    expected = build_report(Tally.of(result_of(REFS, HYPS), UTT2SPK), {"s1": "f", "s2": "m"})
    assert written == {"ref": str(data), "hyp": str(hyp), **expected}

    assert main(command) == 0
    assert capsys.readouterr() == (f"{files}: up to date\n{intro}\n{line}\n", "")
    assert main([*command, "--force"]) == 0
    assert capsys.readouterr().out == f"{files}\n{intro}\n{line}\n"
    hyp.write_text("".join(f"{utt} {text}\n" for utt, text in REFS.items()), encoding="utf-8")
    assert main(command) == 0
    assert capsys.readouterr().out == f"{files}\n{intro}\n%PER 0.00 [ 0 / 16, 0 ins, 0 del, 0 sub ]\n"
    assert sorted(path.name for path in out.iterdir()) == [".report.stamp", "report.json", "report.txt"]


@pytest.mark.parametrize(
    "damaged",
    ["", "{", "[]", "3", "{}", '{"intro": 3, "line": "x"}', '{"intro": [], "line": null}', "\xff", "[" * 99999],
)
def test_a_damaged_report_is_made_again(data, tmp_path, capsys, damaged):
    out = tmp_path / "out"
    command = ["report", "--data", str(data), "--hyp", str(tmp_path / "hyp"), "--out", str(out)]
    assert main(command) == 0
    said, whole = capsys.readouterr().out, (out / "report.json").read_bytes()
    (out / "report.json").write_text(damaged, encoding="latin-1")
    assert main(command) == 0
    assert capsys.readouterr() == (said, "")
    assert (out / "report.json").read_bytes() == whole


def test_verb_fails_whole(data, tmp_path, capsys):
    hyp, out = tmp_path / "hyp", tmp_path / "out"
    command = ["report", "--data", str(data), "--hyp", str(hyp), "--out", str(out)]
    hyp.write_text("s1-u1 a\n")
    assert main(command) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("utterance ")[1].split()[0] for line in lines] == ["s1-u2", "s2-u1", "s3-u1"]
    hyp.unlink()
    assert main(command) == 1
    assert capsys.readouterr().err == (f"asrkit report: error: {hyp}: not found; made by stage 4 (asrkit decode)\n")
    hyp.write_text("".join(f"{utt}\n" for utt in REFS))
    (data / "text").write_text("".join(f"{utt}\n" for utt in REFS))
    assert main(command) == 1
    assert capsys.readouterr().err.count("empty transcript") == 4
    assert not out.exists()


def test_verb_scores_under_the_protocol_and_anew_when_it_changes(data, tmp_path, capsys):
    (data / "text").write_text("s1-u1 h# tcl t aa h#\ns1-u2 h# q aa h#\ns2-u1 h# aa h#\ns3-u1 aa epi\n")
    hyp = tmp_path / "hyp"
    hyp.write_text("s1-u1 sil t aa sil\ns1-u2 sil aa sil\ns2-u1 sil aa sil\ns3-u1 aa\n")
    command = ["report", "--data", str(data), "--hyp", str(hyp), "--out", str(tmp_path / "out")]
    lines = []
    for protocol in ("kaldi", "merged", "merged", "optional-silence"):
        assert main([*command, "--protocol", protocol]) == 0
        out = capsys.readouterr().out.splitlines()
        lines.append((out[0].endswith("up to date"), out[1].split(":")[0], out[-1]))
    assert lines == [
        (False, "protocol kaldi", "%PER 15.38 [ 2 / 13, 0 ins, 2 del, 0 sub ]"),
        (False, "protocol merged", "%PER 8.33 [ 1 / 12, 0 ins, 1 del, 0 sub ]"),
        (True, "protocol merged", "%PER 8.33 [ 1 / 12, 0 ins, 1 del, 0 sub ]"),
        (False, "protocol optional-silence", "%PER 0.00 [ 0 / 13, 0 ins, 0 del, 0 sub ]"),
    ]
    hyp.write_text("s1-u1 xx\ns1-u2 aa\ns2-u1 aa\ns3-u1 yy xx\n")
    assert main([*command, "--protocol", "kaldi"]) == 1
    assert capsys.readouterr().err == (
        f"asrkit report: error: {hyp}: not among TIMIT's 61, 48 or 39 phones, which protocol kaldi folds: xx yy; score "
        "other symbols with protocol as-is\n"
    )
