"""A decoder by attention, with and without CTC, and a transducer through all steps."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import asrkit
from asrkit.decoding import tuning
from asrkit.experiment import load_experiment
from asrkit.findings import Findings
from asrkit.formats.ctm import read_ctm
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.stream import StreamingRecognizer
from asrkit.models.language_file import read_neural_lm
from asrkit.scoring.per import score
from asrkit.stages.inputs import DecodedSet
from asrkit.stages.training import TrainingData
from tests.e2e import conftest

NO_TORCH = "import sys; sys.modules['torch'] = None; from asrkit.cli.main import main; sys.exit(main(sys.argv[1:]))"
SIZES = ("hidden_size=24", "embedding_size=8", "dropout=0.1")
ATTENTION = (*SIZES, "attention_size=16")
TRANSFORMER = ("layers=transformer", "hidden_size=24", "num_heads=4", "feed_forward_size=48", "dropout=0.1")
HEADS = {
    "joint": ("joint", ATTENTION),
    "attention": ("attention", ATTENTION),
    "transformer": ("joint", TRANSFORMER),
    "transducer": ("transducer", SIZES),
}
# What quick tests and those of networks as language models try in tuning; the whole search has tests of its own.
SMALL_GRID = {"WEIGHTS": range(2, 5, 2), "BONUSES": range(0, 5, 4), "COARSE": 0, "BEAMS": (4, 8)}
FOR_STREAMS = ["model.bidirectional=false", "features.cmvn=global"]


QUICK = ("joint", "transducer")  # the others have parts of the first, or are like it to all who use them


@pytest.fixture(
    scope="module",
    params=[head if head in QUICK else pytest.param(head, marks=pytest.mark.slow) for head in HEADS],
)
def trained(request, tones, tmp_path_factory):
    """The head, and its experiment."""
    exp = tmp_path_factory.mktemp("decoder") / "exp"
    head, sizes = HEADS[request.param]
    overrides = [f"model.head={head}", *(f"model.decoder.{size}" for size in sizes)]
    overrides += ["training.num_epochs=24", "decoding.beam=4", "decoding.insertion_bonus=1.0"]
    overrides += FOR_STREAMS if request.param == "transducer" else []
    config = asrkit.load_config(tones / "config.yaml", overrides)
    lines = []
    training = asrkit.train(TrainingData.under(tones / "data"), exp, config, report=lines.append)
    assert training.export.comparison.difference < 1e-4 and any("differ from PyTorch's" in line for line in lines)
    assert asrkit.train(TrainingData.under(tones / "data"), exp, config).result is None
    return head, exp


def decode(tones, exp, **options):
    out = exp / "decode_dev"
    asrkit.decode(exp, tones / "data/dev", out, asrkit.DecodeOptions(ctm=True, nbest=3, **options))
    return out


def test_a_decoder_is_decoded_tuned_and_analysed(tones, trained, monkeypatch):
    head, exp = trained
    for name, units in SMALL_GRID.items() if head in QUICK else ():
        monkeypatch.setattr(tuning, name, units)
    out, refs = decode(tones, exp), read_transcripts(tones / "data/dev/text")
    assert score(refs, read_transcripts(out / "hyp")).per < (40 if head == "joint" else 60)
    rows = [json.loads(line) for line in (out / "nbest.jsonl").read_text().splitlines()]
    assert {row["rank"] for row in rows} == {1, 2, 3}
    for row in rows:
        expected = row["ctc_log_prob"] + 0.3 * row["lm_log_prob"] + len(row["phones"])
        assert row["score"] == pytest.approx(expected, abs=1e-4)
    hyps = read_transcripts(out / "hyp")
    assert {utt: len(times) for utt, times in read_ctm(out / "phones.ctm", Findings()).items()} == {
        utt: len(phones) for utt, phones in hyps.items() if phones
    }
    tuned = asrkit.tune(exp, DecodedSet(tones / "data/dev", out))
    assert tuned.is_new and any(line.startswith("search errors:") for line in tuned.lines)
    assert load_experiment(exp).calibration is not None
    out = decode(tones, exp)
    assert score(refs, read_transcripts(out / "hyp")).per == pytest.approx(
        json.loads((exp / "tune/tune.json").read_text())["total"]["per"]
    )
    analysis = asrkit.analyze(exp, DecodedSet(tones / "data/dev", out))
    assert "model errors" in analysis.text
    page = asrkit.report_experiment(exp, tones / "data/dev")
    assert (out / "report.html").is_file() and page.is_new


def test_an_export_recognises_what_the_experiment_does(tones, trained, tmp_path):
    """Without PyTorch, in a process of its own; --int8 too."""
    head, exp = trained
    out, dev = decode(tones, exp, cmvn=None if head == "transducer" else "utterance"), tones / "data/dev"
    audio = dict(line.split() for line in (dev / "wav.scp").read_text().splitlines())
    command = [sys.executable, "-c", NO_TORCH, "transcribe", "--model", exp, "--format", "json", *audio.values()]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    phones = {
        Path(row["file"]).stem: tuple(each["phone"] for each in row["phones"])
        for row in map(json.loads, found.splitlines())
    }
    hyps = read_transcripts(out / "hyp")
    assert {utt: phones[Path(path).stem] for utt, path in audio.items()} == hyps
    exported = asrkit.export(exp, out=tmp_path / "small.onnx", ref=dev, int8=True)
    assert exported.int8 is not None and exported.comparison.difference < 1e-4
    assert exported.size < (exp / "final.onnx").stat().st_size


def test_a_transducer_takes_streams(tones, trained, tmp_path):
    """What it finds is what transcribe finds in the whole, also in a recording in which phones become final."""
    head, exp = trained
    audio = dict(line.split() for line in (tones / "data/test/wav.scp").read_text().splitlines())
    samples = [soundfile.read(path, dtype="float32")[0] for path in audio.values()]
    command = [sys.executable, "-c", NO_TORCH, "stream", "--model", exp, tmp_path / "all.wav"]
    soundfile.write(tmp_path / "all.wav", np.concatenate(samples), 16000)
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if head != "transducer":
        assert done.returncode == 1 and "its decoder is given the whole utterance" in done.stderr
        return
    recognizer = asrkit.load_recognizer(exp)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    finals = [result["final"] for result in results if "final" in result]
    whole = recognizer.transcribe(tmp_path / "all.wav")
    assert tuple(each["phone"] for phones in finals for each in phones) == whole.phones
    assert len(finals) > 1 and len(results) > 50 and len(whole.phones) > 60
    for each, time in zip((each for phones in finals for each in phones), whole.times, strict=True):
        assert each["start"] == pytest.approx(time.start, abs=0.05)
    rng = np.random.default_rng(0)
    for utterance in samples:
        expected, stream = recognizer.transcribe(utterance, sample_rate=16000), StreamingRecognizer(recognizer.model)
        scaled = 32768 * utterance
        pieces = np.split(scaled, np.sort(rng.integers(0, len(scaled), 20)))
        found = [result for piece in pieces for result in stream.accept(piece)] + stream.finish()
        assert sum((result.phones for result in found if result.is_final), ()) == expected.phones
        assert sum((result.times for result in found if result.is_final), ()) == expected.times


@pytest.mark.slow
def test_a_neural_language_model_goes_through_all_steps(tones, trained, tmp_path, monkeypatch):
    """Put into a trained experiment: tuned, decoded, analysed, and in the export, which runs without PyTorch."""
    for name, units in SMALL_GRID.items():
        monkeypatch.setattr(tuning, name, units)
    head, made = trained
    data, exp = TrainingData.under(tones / "data"), tmp_path / "exp"
    shutil.copytree(made, exp)
    small = ["model.hidden_size=12", "model.embedding_size=6", "training.num_epochs=3"]
    config = asrkit.load_lm_config(overrides=small)
    lm = asrkit.train_neural_lm(asrkit.LmSource(data.train, data.dev, data.tokens), tmp_path / "nlm", config).path
    settings = asrkit.load_config(exp / "config.yaml")
    assert asrkit.train(replace(data, lm=lm), exp, settings).result is None
    assert asrkit.tune(exp, DecodedSet(tones / "data/dev", decode(tones, exp))).is_new
    tuned = asrkit.load_config(exp / "config.yaml").decoding
    assert tuned.lm_weight in (0.2, 0.4)
    out = decode(tones, exp, insertion_bonus=6.0)  # too many phones, so that there is something to analyse
    analysis = asrkit.analyze(exp, DecodedSet(tones / "data/dev", out))
    rows = [json.loads(line) for line in (out / "nbest.jsonl").read_text().splitlines()]
    known, best = read_neural_lm(lm), {row["utt"]: row for row in rows if row["rank"] == 1}
    for row in rows:
        assert row["lm_log_prob"] == pytest.approx(known.score(row["phones"]), abs=1e-4)
    with (out / "analysis.csv").open() as stream:
        wrong = list(csv.DictReader(stream))
    assert len(wrong) > 0 and f"{len(wrong)} of 10 utterances are wrong" in analysis.text
    for row in wrong:
        exact, in_beam = float(row["hyp_score"]), best[row["utt"]]["score"]
        assert exact > in_beam - 1e-4
        assert head == "transducer" or exact < in_beam + 1e-4  # a beam leaves out paths of a transducer
        assert (row["class"] == "search errors") == (float(row["ref_score"]) > exact + 1e-6)
    assert asrkit.export(exp).comparison.difference < 1e-4
    (audio, *_) = sorted((tones / "audio").glob("dev*.wav"))
    command = [sys.executable, "-c", NO_TORCH, "transcribe", "--model", exp, audio]
    found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.split()[1:]
    assert tuple(found) == asrkit.load_recognizer(exp).transcribe(audio).phones != ()


@pytest.mark.slow
def test_a_decoder_is_adapted_to_higher_voices(tones, trained, tmp_path, monkeypatch):
    """All its parts, from its export; it errs less in voices that it was adapted to."""
    _, exp = trained
    monkeypatch.setattr(conftest, "TONES_HZ", {phone: 1.4 * hz for phone, hz in conftest.TONES_HZ.items()})
    conftest.make_set(own := tmp_path / "data", tmp_path / "audio", "own", 3, 8, seed=5)
    asrkit.extract(own, asrkit.load_config(tones / "config.yaml").features)
    data = asrkit.AdaptationData(exp / "final.onnx", own)
    asrkit.adapt(data, tmp_path / "out", overrides=["training.max_lr=0.005"])
    figures = json.loads((tmp_path / "out/adapt.json").read_text())
    errors = {name: figures[name]["total"]["num_errors"] for name in ("before", "adapted")}
    assert errors["adapted"] < errors["before"]
    before, after = (load_experiment(each).model.state_dict() for each in (exp, tmp_path / "out"))
    moved = {name for name, weights in after.items() if not before[name].equal(weights)}
    assert moved == (after.keys() if figures["kept"] == "adapted" else set())
    (audio, *_) = sorted((tmp_path / "audio").rglob("*.wav"))
    assert asrkit.load_recognizer(tmp_path / "out").transcribe(audio).phones
