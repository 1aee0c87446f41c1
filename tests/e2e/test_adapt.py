"""`asrkit adapt` on the corpus of tones: other speakers, other phones, and what it refuses."""

import json
import shutil
from dataclasses import replace

import pytest
import torch

import asrkit
from asrkit.corpora import mini, timit
from asrkit.experiment import load_experiment, save_experiment
from asrkit.formats.corpus_info import write_corpus_info
from asrkit.formats.data_dir import load_data_dir
from asrkit.io.lock import lock_dir
from asrkit.stages.adaptation import AdaptationData, adapt
from asrkit.training import loop
from asrkit.training.held_out import hold_out
from asrkit.types import Supplement
from tests.e2e import conftest

RATE = "training.max_lr=0.005"  # the small network was trained at four times that
HIGHER = {phone: 1.4 * hz for phone, hz in conftest.TONES_HZ.items()}


@pytest.fixture(scope="module")
def own(tones, tmp_path_factory):
    """Speakers with higher voices than the model of tones was trained on."""
    root = tmp_path_factory.mktemp("own")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(conftest, "TONES_HZ", HIGHER)
        conftest.make_set(data := root / "data", root / "audio", "own", 3, 8, seed=5)
    asrkit.extract(data, asrkit.load_config(tones / "config.yaml").features)
    return data


@pytest.fixture(scope="module")
def adapted(tones, own, tmp_path_factory):
    """The model adapted to them by the command, and what that printed."""
    directory = tmp_path_factory.mktemp("adapted") / "new"
    done = conftest.run_asrkit("adapt", "--model", tones / "exp", "--data", own, "--out", directory, "--set", RATE)
    return directory, done.stdout.splitlines()


def weights_of(directory):
    return load_experiment(directory).model.state_dict()


def are_equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_higher_voices_are_recognised_better(tones, own, adapted, tmp_path):
    directory, lines = adapted
    figures = json.loads((directory / "adapt.json").read_text())
    assert (directory / "held_out").read_text().split() == sorted(hold_out(load_data_dir(own).utt2spk, seed=1))
    assert len((directory / "held_out").read_text().split()) == 8
    assert figures["kept"] == "adapted"
    assert figures["adapted"]["left_out"]["num_errors"] < figures["before"]["total"]["num_errors"] / 2
    assert figures["lines"][1:-1] == lines[1:-1]
    assert str(own) not in str(figures) and str(directory) not in str(figures)
    assert lines[0] == f"{own}: 24 utterances; held out: 8 of 1 of the 3 speakers"
    assert lines[3].startswith("adapted minus before: -")
    assert "95 % interval over 8 utterances" in lines[4]
    assert lines[-1] == f"{directory}: holds the adapted model"
    assert {path.name for path in directory.iterdir() if path.suffix == ".pt"} == {"final.pt"}

    for name, exp in (("old", tones / "exp"), ("new", directory)):
        asrkit.decode(exp, own, tmp_path / name)
    old, new = (asrkit.score(own / "text", tmp_path / name / "hyp").per for name in ("old", "new"))
    assert new < old / 2
    hypothesis = asrkit.load_recognizer(directory).transcribe(own.parent / "audio/own0-0.wav")
    assert set(hypothesis.phones) <= HIGHER.keys()
    assert asrkit.export(directory, ref=own).comparison.difference < 1e-4


def test_a_second_run_does_nothing(tones, own, adapted):
    directory, lines = adapted
    before = {path: path.stat().st_mtime_ns for path in directory.rglob("*")}
    done = conftest.run_asrkit("adapt", "--model", tones / "exp", "--data", own, "--out", directory, "--set", RATE)
    assert done.stdout.splitlines() == [f"{directory}: adaptation is up to date", *lines]
    assert {path: path.stat().st_mtime_ns for path in directory.rglob("*")} == before


class Killed(Exception):
    """In place of a kill."""


@pytest.mark.slow
@pytest.mark.parametrize("new_phones", [False, True])
def test_a_killed_run_goes_on_to_the_same_bytes(tones, own, tmp_path, monkeypatch, new_phones):
    data = AdaptationData(tones / "exp", own, new_phones=new_phones)
    whole = adapt(data, tmp_path / "whole", [RATE, "training.num_epochs=3"])
    evaluate, calls = loop.evaluate, []

    def kill_at_some(*args, **kwargs):
        calls.append(args)
        if len(calls) in (2, 6):
            raise Killed
        return evaluate(*args, **kwargs)

    monkeypatch.setattr(loop, "evaluate", kill_at_some)
    killed = tmp_path / "killed"
    with pytest.raises(Killed):
        adapt(data, killed, [RATE, "training.num_epochs=3"])
    assert not (killed / "final.pt").exists()
    with pytest.raises(asrkit.AsrkitError, match=r"checkpoint\.pt: left by an earlier run; give --resume to go on or"):
        adapt(data, killed, [RATE, "training.num_epochs=3"])
    if new_phones:  # the second time in the training from scratch
        with pytest.raises(Killed):
            adapt(data, killed, [RATE, "training.num_epochs=3"], resume=True)
    adapt(data, killed, [RATE, "training.num_epochs=3"], resume=True)
    names = ["final.pt", "final.onnx", "held_out", "tokens.txt", "config.yaml", "adapt.json"]
    assert [(killed / name).read_bytes() for name in names] == [(whole.directory / name).read_bytes() for name in names]


def test_where_it_does_not_help_the_model_stays_as_it_was(tones, own, tmp_path):
    """The transcripts to train on are of other recordings; those that are held out are right."""
    data = tmp_path / "data"
    shutil.copytree(own, data)
    transcripts = load_data_dir(data).text
    held_out = hold_out(load_data_dir(data).utt2spk, seed=1)
    wrong = {utt_id: phones if utt_id in held_out else ("#",) * 3 for utt_id, phones in transcripts.items()}
    (data / "text").write_text("".join(f"{utt_id} {' '.join(phones)}\n" for utt_id, phones in wrong.items()))
    done = adapt(AdaptationData(tones / "exp", data), tmp_path / "new", [RATE])
    assert done.kept == "before"
    assert done.lines[-1] == f"{tmp_path / 'new'}: adaptation does not help; holds the model as it was before"
    assert are_equal(weights_of(tmp_path / "new"), weights_of(tones / "exp"))
    assert load_experiment(tmp_path / "new").lm == load_experiment(tones / "exp").lm


@pytest.fixture(scope="module")
def renamed(own, tmp_path_factory):
    """The same recordings in other symbols, and a file that says which phones they are."""
    data = tmp_path_factory.mktemp("renamed") / "data"
    shutil.copytree(own, data)
    names = {"a": "o", "ʃ": "s", "#": "t"}
    rows = {utt_id: " ".join(map(names.get, phones)) for utt_id, phones in load_data_dir(own).text.items()}
    (data / "text").write_text("".join(f"{utt_id} x {row}\n" for utt_id, row in rows.items()))
    (data / "phones.ctm").unlink(missing_ok=True)
    phone_map = data.parent / "map"
    phone_map.write_text("x\n" + "".join(f"{new} {old}\n" for old, new in names.items()))
    return data, phone_map


def test_phones_it_does_not_know_are_named_with_the_remedy(tones, renamed, tmp_path):
    data, _ = renamed
    with pytest.raises(asrkit.AsrkitError) as raised:
        adapt(AdaptationData(tones / "exp", data), tmp_path / "new")
    assert str(raised.value) == (
        f"{data / 'text'}: phones that {tones / 'exp'} does not know: o s t x; give --phone-map FILE, which says which "
        "of its phones they are (# a ʃ), or --new-phones for an output layer of their own"
    )
    assert not (tmp_path / "new/final.pt").exists()


def test_mapped_phones_are_trained_as_those_of_the_model(tones, own, renamed, adapted, tmp_path):
    """The same weights come of transcripts in the model's own phones."""
    data, phone_map = renamed
    adapt(AdaptationData(tones / "exp", data, phone_map), tmp_path / "new", [RATE])
    assert are_equal(weights_of(tmp_path / "new"), weights_of(adapted[0]))


def test_new_phones_are_better_than_from_scratch(tones, renamed, tmp_path):
    data, phone_map = renamed
    phone_map = tmp_path / "map"
    phone_map.write_text("o a\ns ʃ\nt #\n")
    done = adapt(AdaptationData(tones / "exp", data, phone_map, new_phones=True), tmp_path / "new")
    figures = json.loads((tmp_path / "new/adapt.json").read_text())
    assert done.kept == "adapted"
    assert figures["scratch"]["num_epochs"] == figures["adapted"]["num_epochs"]
    new = load_experiment(tmp_path / "new")
    assert new.tokens.phones == ("o", "s", "t", "x")
    assert new.lm is not None and new.lm.phones == new.tokens.phones and new.lm.order == 2
    asrkit.decode(tmp_path / "new", data, tmp_path / "decoded")
    assert asrkit.score(data / "text", tmp_path / "decoded/hyp").per < 20


def test_an_exported_model_is_adapted_as_its_experiment(tones, own, adapted, tmp_path):
    """The 32-bit export has the weights of the experiment, so that all that follows is the same, too."""
    expected, _ = adapted
    conftest.run_asrkit("export", "--model", tones / "exp", "--out-file", exported := tmp_path / "tones.onnx")
    conftest.run_asrkit("extract", data := shutil.copytree(own, tmp_path / "own"), "--model", exported)
    command = "adapt", "--model", exported, "--data", data, "--out", tmp_path / "new", "--set", RATE
    conftest.run_asrkit(*command)
    assert are_equal(weights_of(tmp_path / "new"), weights_of(expected))
    for name in ("config.yaml", "history.csv"):
        new, old = (
            [line.split(",")[:4] for line in (directory / name).read_text().splitlines()]
            for directory in (tmp_path / "new", expected)
        )
        assert new == old
    ours, theirs = (json.loads((each / "adapt.json").read_text()) for each in (tmp_path / "new", expected))
    assert ours["adapted"] == theirs["adapted"]
    done = conftest.run_asrkit(*command)
    assert "adaptation is up to date" in done.stdout


def test_an_adapted_model_tells_what_it_was_trained_on(tones, own, tmp_path):
    experiment = load_experiment(tones / "exp")
    known = timit.INFO
    save_experiment(
        shutil.copytree(tones / "exp", tmp_path / "exp"),
        *(experiment.config, experiment.tokens, experiment.model, experiment.global_cmvn),
        Supplement(None, known),
    )
    (tmp_path / "exp/.train.stamp").unlink(missing_ok=True)
    adapt(AdaptationData(tmp_path / "exp", own), tmp_path / "new", [RATE, "training.num_epochs=1"])
    assert load_experiment(tmp_path / "new").corpus == replace(known, name="TIMIT, then own recordings")
    data = shutil.copytree(own, tmp_path / "data/own")
    experiment.tokens.write(tmp_path / "data/tokens.txt")
    write_corpus_info(tmp_path / "data", mini.INFO)
    adapt(AdaptationData(tmp_path / "exp", data), tmp_path / "both", [RATE, "training.num_epochs=1"])
    assert load_experiment(tmp_path / "both").corpus == replace(
        known, name="TIMIT, then mini", language="Persian", is_synthetic=False
    )


def test_what_cannot_be_adapted_is_refused(tones, own, adapted, tmp_path):
    exp = tones / "exp"

    def fault(*args, **kwargs):
        with pytest.raises(asrkit.AsrkitError) as raised:
            adapt(*args, **kwargs)
        return str(raised.value)

    assert fault(AdaptationData(exp, own), exp) == (
        f"{exp}: there is a model that asrkit adapt did not make; give another --out"
    )
    assert fault(AdaptationData(adapted[0], own), adapted[0]) == (
        f"{adapted[0]}: is the model to adapt; give another --out"
    )
    assert fault(AdaptationData(exp, own), tmp_path / "new", ["model.skip=1"]) == (
        "--set model.skip=1: expected training.SETTING=VALUE; the others are the model's"
    )
    other = tmp_path / "other"
    shutil.copytree(own, other)
    asrkit.extract(other, replace(load_experiment(exp).config.features, num_ceps=12))
    assert fault(AdaptationData(exp, other), tmp_path / "new") == (
        f"{other / 'feats.json'}: features were made with other settings than the model's: num_ceps 12 for 13; make "
        f"them with its settings: asrkit extract {other} --model {exp}"
    )
    with lock_dir(adapted[0], "another"):
        done = conftest.run_process("adapt", "--model", exp, "--data", own, "--out", adapted[0], "--force", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"asrkit adapt: error: {adapted[0]}: in use by process ")
    assert load_experiment(adapted[0]).tokens.phones == load_experiment(exp).tokens.phones
