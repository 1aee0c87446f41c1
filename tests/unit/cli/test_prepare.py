"""`asrkit prepare` from end to end on small corpora."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.corpora import mini, speechocean762
from asrkit.errors import DataError
from asrkit.formats.corpus_info import read_corpus_info
from asrkit.lang.phone_map import TIMIT_48, TIMIT_61
from asrkit.lang.tokens import TokenTable
from asrkit.stages import preparation
from asrkit.stages.validation import validate
from tests.timit_tree import LAYOUTS, NLTK, files_of, make_tree


@pytest.fixture
def corpus(tmp_path):
    """speechocean762's layout: 12 train speakers and one test speaker of one utterance each, all of one word."""
    root = tmp_path / "corpus"
    labels = []
    for part, speakers in (("train", range(1, 13)), ("test", [50])):
        rows = dict.fromkeys(("wav.scp", "text", "utt2spk", "spk2gender"), "")
        for number in speakers:
            spk, utt = f"{number:04d}", f"0{number:04d}0001"
            audio = f"WAVE/SPEAKER{spk}/{utt}.WAV"
            (root / audio).parent.mkdir(parents=True)
            soundfile.write(root / audio, np.ones(800 * number, np.int16), 16000)
            rows["wav.scp"] += f"{utt}\t{audio}\n"
            rows["text"] += f"{utt}\tGOOD\n"
            rows["utt2spk"] += f"{utt}\t{spk}\n"
            rows["spk2gender"] += f"{spk}\tf\n"
            labels.append(f"{utt}.0\tG_B UH0_I D_E\n")
        (root / part).mkdir()
        for name, text in rows.items():
            (root / part / name).write_text(text)
    (root / "resource").mkdir()
    (root / "resource" / "text-phone").write_text("".join(labels))
    return root


def prepare(name, corpus, data, *options):
    return main(["prepare", name, "--corpus", str(corpus), "--out", str(data), *options])


def test_speechocean762_to_data_directories(corpus, tmp_path, capsys):
    data = tmp_path / "data"
    assert prepare("speechocean762", corpus, data) == 0
    out, err = capsys.readouterr()
    assert [line.split() for line in out.splitlines()] == [
        ["set", "speakers", "utterances", "hours", "phones"],
        ["train", "10", "10", "0.00", "30"],
        ["dev", "2", "2", "0.00", "6"],
        ["test", "1", "1", "0.00", "3"],
    ]
    assert "the public corpus has 125 and 2500" in err
    tokens = TokenTable.read(data / "tokens.txt")
    assert tokens.phones == speechocean762.PHONES
    for name in ("train", "dev", "test"):
        assert validate(data / name, tokens=tokens).findings.errors == []
    assert (data / "train" / "utt2dur").read_text().split("\n")[0] == "000020001 0.100"
    assert (data / "dev" / "wav.scp").read_text().split("\n")[1].endswith("/corpus/WAVE/SPEAKER0011/000110001.WAV")


def test_what_corpus_it_is_stands_beside_the_tokens(corpus, tmp_path, capsys):
    """Also beside data directories of before it was told, which stay as they are."""
    data = tmp_path / "data"
    prepare("speechocean762", corpus, data)
    assert read_corpus_info(data) == speechocean762.INFO
    assert (speechocean762.INFO.license, speechocean762.INFO.is_synthetic) == ("CC BY 4.0", False)
    assert mini.INFO.is_synthetic
    before = {path: path.stat().st_mtime_ns for path in data.rglob("*") if path.name[0] != "." and path.is_file()}
    (data / "corpus.json").unlink()
    stamp = data / ".prepare.stamp"
    listed = json.loads(stamp.read_text())
    del listed["outputs"]["corpus.json"]
    stamp.write_text(json.dumps(listed))
    capsys.readouterr()
    assert prepare("speechocean762", corpus, data) == 0
    assert capsys.readouterr().out == f"{data}: up to date\n"
    assert read_corpus_info(data) == speechocean762.INFO
    assert [path.name for path, time in before.items() if path.stat().st_mtime_ns != time] == ["corpus.json"]

    (data / "corpus.json").write_text('{"name": 5}')
    with pytest.raises(DataError, match=r"corpus.json: corpus.language: missing; make it again with stage 0"):
        read_corpus_info(data)


def test_a_second_run_does_nothing_and_a_change_or_force_redoes(corpus, tmp_path, capsys):
    data = tmp_path / "data"
    prepare("speechocean762", corpus, data)
    written = (data / "train" / "text").stat().st_mtime_ns
    capsys.readouterr()
    assert prepare("speechocean762", corpus, data) == 0
    assert capsys.readouterr().out == f"{data}: up to date\n"
    assert (data / "train" / "text").stat().st_mtime_ns == written
    assert prepare("speechocean762", corpus, data, "--force") == 0
    assert "up to date" not in capsys.readouterr().out
    (corpus / "resource" / "text-phone").write_text(
        (corpus / "resource" / "text-phone").read_text().replace("UH0_I", "UW0_I", 3)
    )
    assert prepare("speechocean762", corpus, data) == 0
    assert "up to date" not in capsys.readouterr().out
    assert (data / "train" / "text").read_text().startswith("000020001 G UW D\n")
    (data / "dev" / "text").unlink()
    assert prepare("speechocean762", corpus, data) == 0
    assert (data / "dev" / "text").exists()


def test_faults_are_listed_and_nothing_is_written(corpus, tmp_path, capsys):
    (corpus / "WAVE/SPEAKER0003/000030001.WAV").unlink()
    (corpus / "WAVE/SPEAKER0050/000500001.WAV").unlink()
    assert prepare("speechocean762", corpus, tmp_path / "data") == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "train/wav.scp:3" in lines[0] and "test/wav.scp:1" in lines[1]
    assert not (tmp_path / "data").exists()


def test_audio_that_cannot_be_read_is_listed_and_nothing_is_written(corpus, tmp_path, capsys):
    (corpus / "WAVE/SPEAKER0003/000030001.WAV").write_bytes(b"")
    (corpus / "WAVE/SPEAKER0004/000040001.WAV").write_text("not audio")
    assert prepare("speechocean762", corpus, tmp_path / "data") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 2 and "000030001.WAV" in lines[0] and "000040001.WAV" in lines[1]
    assert not (tmp_path / "data").exists()


def test_what_it_did_not_make_is_not_replaced(corpus, tmp_path, capsys):
    before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    assert prepare("speechocean762", corpus, corpus, "--force") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert [line.split(": ")[2] for line in lines] == [str(corpus / "train"), str(corpus / "test")]
    assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == before


def test_what_a_link_leads_to_is_not_replaced(corpus, tmp_path, capsys):
    data, precious = tmp_path / "data", tmp_path / "precious"
    prepare("speechocean762", corpus, data)
    (data / "train").rename(precious)
    (data / "train").symlink_to(precious)
    assert prepare("speechocean762", corpus, data) == 0  # up to date
    (precious / "thesis.tex").write_text("years of work")
    capsys.readouterr()
    assert prepare("speechocean762", corpus, data, "--force") == 1
    assert f"error: {data}/train: a symbolic link, and prepare would replace" in capsys.readouterr().err
    assert (precious / "thesis.tex").exists()
    assert (data / "tokens.txt").exists()
    linked = tmp_path / "linked"
    (data / "train").unlink()
    linked.symlink_to(data)
    assert prepare("speechocean762", corpus, linked, "--force") == 0
    assert linked.is_symlink() and (data / "train/text").exists()


def test_a_foreign_data_directory_is_refused_before_a_corpus_is_made(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(mini, "make_corpus", lambda *args, **kwargs: pytest.fail("a corpus was made"))
    data = tmp_path / "data"
    data.mkdir()
    (data / "tokens.txt").write_text("mine\n")
    for options in ([], ["--force"]):
        assert prepare("mini", tmp_path / "corpus", data, *options) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"asrkit prepare: error: {data}/tokens.txt: asrkit prepare did not make this")
    assert not (tmp_path / "corpus").exists()
    assert (data / "tokens.txt").read_text() == "mine\n"


def test_an_interrupted_run_leaves_no_token_table_and_is_repeated(corpus, tmp_path, monkeypatch):
    data = tmp_path / "data"
    prepare("speechocean762", corpus, data)

    def interrupted(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("asrkit.stages.preparation.write_data_dir", interrupted)
        assert prepare("speechocean762", corpus, data, "--force") == 130
    assert not (data / "tokens.txt").exists()
    assert prepare("speechocean762", corpus, data) == 0
    assert (data / "tokens.txt").exists()


def test_a_seed_for_a_corpus_that_has_none_is_refused(corpus, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_of:
        prepare("speechocean762", corpus, tmp_path / "data", "--seed", "2")
    assert exit_of.value.code == 2
    assert "--seed" in capsys.readouterr().err


def test_mini_is_made_where_there_is_none(tmp_path, capsys, monkeypatch):
    pytest.importorskip("espeakng_loader", reason="the mini corpus's library is an optional extra")
    plan = {"train": mini.SetPlan(("m1",), 1, 2, 2), "dev": mini.SetPlan(("ed",), 1, 1, 1)}
    monkeypatch.setattr(mini, "PLAN", {**plan, "test": mini.SetPlan(("f1",), 1, 1, 1)})
    data = tmp_path / "data"
    assert prepare("mini", tmp_path / "corpus", data, "--nj", "1") == 0
    out, err = capsys.readouterr()
    assert "nothing about FarsDat" in err
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["train", "1", "2"],
        ["dev", "1", "1"],
        ["test", "1", "1"],
    ]
    tokens = TokenTable.read(data / "tokens.txt")
    assert len(tokens) == 31
    for name in ("train", "dev", "test"):
        assert validate(data / name, tokens=tokens).findings.errors == []
        assert (data / name / "phones.ctm").exists()
    assert prepare("mini", tmp_path / "corpus", data, "--nj", "1") == 0
    assert capsys.readouterr().out == f"{data}: up to date\n"
    with monkeypatch.context() as patch:  # it can also be read where nothing can be written
        patch.setattr(os, "access", lambda path, mode: path != tmp_path / "corpus")
        before = (tmp_path / "corpus").stat().st_mtime_ns  # of the last file that came or went
        assert prepare("mini", tmp_path / "corpus", tmp_path / "other", "--nj", "1") == 0
        assert (tmp_path / "corpus").stat().st_mtime_ns == before
    capsys.readouterr()
    assert prepare("mini", tmp_path / "corpus", data, "--nj", "1", "--seed", "9") == 0
    assert "up to date" not in capsys.readouterr().out


@pytest.mark.parametrize("name", LAYOUTS)
def test_timit_to_data_directories(name, tmp_path, capsys):
    layout, root, data = LAYOUTS[name], tmp_path / "corpus", tmp_path / "data"
    make_tree(root, layout)
    before = {path: (path.stat().st_mtime_ns, path.is_dir() or digest(path)) for path in root.rglob("*")}
    assert prepare("timit", root, data) == 0
    assert before == {path: (path.stat().st_mtime_ns, path.is_dir() or digest(path)) for path in root.rglob("*")}
    out, err = capsys.readouterr()
    assert [line.split()[:3] for line in out.splitlines()[1:]] == [
        ["train", "2", "16"],
        ["dev", "1", "8"],
        ["test", "1", "8"],
    ]
    assert f"asrkit prepare: warning: {root}: train: 2 of 462 speakers, 16 of 3696 utterances\n" in err
    tokens = TokenTable.read(data / "tokens.txt")
    assert tokens.phones == TIMIT_48
    for set_name in ("train", "dev", "test"):
        assert validate(data / set_name, tokens=tokens).findings.errors == []
    assert (data / "train" / "spk2gender").read_text() == "fcjf0 f\nmdac0 m\n"
    labels = files_of(layout, root, "train", "fcjf0", "si1027")["phn"].read_text().split()
    utt, channel, start, duration, phone = (data / "train" / "phones.ctm").read_text().split("\n")[1].split()
    assert (utt, channel, phone) == ("fcjf0-si1027", "1", labels[5])
    assert round(float(start) * 16000) == int(labels[3])
    assert round((float(start) + float(duration)) * 16000) == int(labels[4])
    assert prepare("timit", root, data) == 0
    assert capsys.readouterr().out == f"{data}: up to date\n"
    assert prepare("timit", root, data, "--num-phones", "61") == 0
    assert TokenTable.read(data / "tokens.txt").phones == TIMIT_61
    assert prepare("timit", root, data, "--test-set", "full") == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[:3] == ["test", "2", "20"]


def test_a_corpus_that_was_moved_leaves_all_but_the_places_of_its_audio(tmp_path, capsys, monkeypatch):
    here, there, data = tmp_path / "here", tmp_path / "there", tmp_path / "data"
    make_tree(here, LAYOUTS["upper"])
    assert prepare("timit", here, data) == 0
    (data / "train" / "feats.scp").write_text("of a later step\n")
    before = {path: path.read_text() for path in data.rglob("*") if path.is_file()}
    for path in here.rglob("*"):
        os.utime(path, (0, 0))
    shutil.copytree(here, there, copy_function=shutil.copy)
    shutil.rmtree(here)
    capsys.readouterr()

    def cut(*_):
        raise DataError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "write_table", cut)
        assert prepare("timit", there, data) == 1
    for _ in range(2):
        assert prepare("timit", there, data) == 0
        assert capsys.readouterr().out == f"{data}: up to date\n"
    after = {path: path.read_text() for path in data.rglob("*") if path.is_file()}
    changed = {path.relative_to(data).as_posix() for path in before if before[path] != after[path]}
    assert changed == {".prepare.stamp", "train/wav.scp", "dev/wav.scp", "test/wav.scp"}
    assert before.keys() == after.keys()
    for name in ("train", "dev", "test"):
        table = data / name / "wav.scp"
        assert after[table] == before[table].replace(str(here), str(there))
    assert prepare("timit", there, data, "--force") == 0
    assert all(path.read_text() == text for path, text in after.items() if path.name != "feats.scp")


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_timit_sample_of_nltk_gives_train_alone_and_mixes_with_no_other_copy(tmp_path, capsys):
    make_tree(tmp_path / "sample", NLTK)
    make_tree(tmp_path / "corpus", LAYOUTS["upper"])
    data = tmp_path / "data"
    assert prepare("timit", tmp_path / "sample", data) == 0
    out, err = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["set", "train"]
    assert "no dev is made" in err and "no test is made" in err
    assert {path.name for path in data.iterdir()} == {"train", "tokens.txt", "corpus.json", ".prepare.stamp"}
    assert prepare("timit", tmp_path / "corpus", data) == 0
    written = (data / "train" / "text").read_text()
    capsys.readouterr()
    assert prepare("timit", tmp_path / "sample", data, "--num-phones", "39") == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert [line.split(": ")[2] for line in errors] == [str(data / "dev"), str(data / "test")]
    assert (data / "train" / "text").read_text() == written


def test_timit_damage_is_listed_and_nothing_is_written(tmp_path, capsys):
    layout, root = LAYOUTS["data-upper"], tmp_path / "corpus"
    make_tree(root, layout)
    files_of(layout, root, "train", "fcjf0", "sx37")["phn"].unlink()
    audio = files_of(layout, root, "train", "mdac0", "sx37")["wav"]
    audio.write_bytes(audio.read_bytes()[:-2])
    labels = files_of(layout, root, "test", "faks0", "sx37")["phn"]
    labels.write_text(labels.read_text().replace("h#", "hash", 1))
    assert prepare("timit", root, tmp_path / "data") == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(lines) == 3
    assert "data/TRAIN/DR1/FCJF0/SX37.WAV: no sx37.phn" in lines[1]
    assert "data/TRAIN/DR1/MDAC0/SX37.WAV: the header promises" in lines[2]
    assert "data/TEST/DR1/FAKS0/SX37.PHN:1: unknown symbol hash" in lines[0]
    assert not (tmp_path / "data").exists()


def test_an_option_of_another_corpus_is_wrong_usage(tmp_path, capsys):
    for options in (["--seed", "1"], ["--num-phones", "40"], ["--test-set", "half"]):
        with pytest.raises(SystemExit) as exit_of:
            prepare("timit", tmp_path, tmp_path / "data", *options)
        assert exit_of.value.code == 2
