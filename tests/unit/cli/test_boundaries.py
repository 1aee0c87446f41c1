"""`asrkit boundaries`: CTM files and data directories against each other, without loading PyTorch."""

import json
import subprocess
import sys

from asrkit.cli.main import main

REF = "u1 1 0.000 0.100 a\nu1 1 0.100 0.100 b\nu1 1 0.200 0.100 a\nu2 1 0.000 0.100 a\nu2 1 0.100 0.100 c\n"
HYP = "u1 1 0.000 0.115 a 0.9\nu1 1 0.115 0.145 b 0.8\nu1 1 0.260 0.040 a 1.0\n"


def test_figures_are_printed_and_written(tmp_path, capsys):
    (tmp_path / "phones.ctm").write_text(REF)
    (tmp_path / "hyp.ctm").write_text(HYP)
    options = ["--hyp", str(tmp_path / "hyp.ctm"), "--by-phone", "--json-file", str(tmp_path / "out.json")]
    assert main(["boundaries", "--ref", str(tmp_path), *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[1:4]] == [
        ["a", "1", "0.0", "0.0", "0.0", "60.0", "60.0", "60.0"],
        ["b", "1", "0.0", "100.0", "100.0", "15.0", "15.0", "15.0"],
        ["all", "2", "0.0", "50.0", "50.0", "37.5", "37.5", "37.5"],
    ]
    assert lines[4] == f"utterances without phones in {tmp_path / 'hyp.ctm'}: 1"
    assert lines[5] == "phones right: 3 of 5; their spans overlap by 60.0 %"
    assert lines[6].endswith("50.0 % within 20 ms, 50.0 % within 50 ms; mean 37.5 ms, median 37.5 ms [ 2 of 3 ]")
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["boundaries"]["within_20_ms"] == 50
    assert found["starts"]["b"]["mean_abs_ms"] == 15


def test_nothing_right_is_no_number(tmp_path, capsys):
    (tmp_path / "ref.ctm").write_text("u 1 0 1 a\nu 1 1 1 b\n")
    (tmp_path / "hyp.ctm").write_text("u 1 0 1 x\n")
    assert main(["boundaries", "--ref", str(tmp_path / "ref.ctm"), "--hyp", str(tmp_path / "hyp.ctm")]) == 0
    lines = ["phones right: 0 of 2", "boundaries: no two neighbours are right [ 0 of 1 ]"]
    assert capsys.readouterr().out.splitlines() == lines


def test_faults_are_named(tmp_path, capsys):
    (tmp_path / "ref.ctm").write_text(REF)
    (tmp_path / "hyp.ctm").write_text("u1 1 0.5 a\n")
    assert main(["boundaries", "--ref", str(tmp_path / "ref.ctm"), "--hyp", str(tmp_path / "hyp.ctm")]) == 1
    assert "hyp.ctm:1: expected `recording channel start duration phone`" in capsys.readouterr().err
    assert main(["boundaries", "--ref", str(tmp_path / "no.ctm"), "--hyp", str(tmp_path / "hyp.ctm")]) == 1
    assert "no.ctm: cannot be read" in capsys.readouterr().err


def test_it_is_light(tmp_path):
    (tmp_path / "ref.ctm").write_text(REF)
    code = "import sys; from asrkit.cli.main import main; s = main(sys.argv[1:]); sys.exit(s or 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, "boundaries", "--ref", tmp_path / "ref.ctm", "--hyp", tmp_path / "ref.ctm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "100.0 % within 10 ms" in done.stdout
