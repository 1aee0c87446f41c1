"""`asrkit export` on an experiment that the command line has trained, and the export that training leaves."""

import shutil

import numpy as np
import onnx
import pytest

from asrkit.audio import read_audio
from asrkit.cli.main import main
from asrkit.corpora import mini
from asrkit.experiment import load_experiment
from asrkit.features.mfcc import FeatureExtractor
from asrkit.formats.corpus_info import write_corpus_info
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.onnx_model import OnnxModel, read_model_metadata
from asrkit.inference.recognizer import load_recognizer
from asrkit.inference.torch_model import TorchModel
from asrkit.io.seal import read_digest
from asrkit.io.stamp import TRAIN_STAMP, wrong_outputs
from asrkit.scoring.per import score
from asrkit.types import TestScore

from .conftest import run_asrkit, train_args


def export(capsys, *args, status=0):
    """Lines of standard output and standard error."""
    assert main(["export", "--model", *map(str, args)]) == status
    done = capsys.readouterr()
    return done.out.splitlines(), done.err.splitlines()


def test_training_leaves_an_export(tones):
    exported = OnnxModel(tones / "exp/final.onnx")
    assert exported.made_from == read_digest(tones / "exp/final.pt")
    expected = TorchModel(load_experiment(tones / "exp"))
    static = FeatureExtractor(exported.features)(read_audio(tones / "audio/test0-0.wav"), "x")
    np.testing.assert_allclose(exported.log_probs(static), expected.log_probs(static), rtol=0, atol=1e-4)
    assert exported.lm.num_classes == len(exported.tokens)


@pytest.mark.slow
def test_tuning_refreshes_the_export(tones, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(tones / "exp", exp)
    before = OnnxModel(exp / "final.onnx")
    run_asrkit("decode", "--model", exp, "--data", tones / "data/dev", "--out", exp / "decode_dev")
    run_asrkit("tune", "--model", exp, "--data", tones / "data/dev", "--decode-dir", exp / "decode_dev")
    after, trained = OnnxModel(exp / "final.onnx"), load_experiment(exp)
    assert after.made_from == read_digest(exp / "final.pt") != before.made_from
    assert (after.decoding, after.calibration) == (trained.config.decoding, trained.calibration)
    assert before.calibration is None is not after.calibration


def test_an_export_is_compared_on_real_audio(tones, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    lines, errors = export(capsys, tones / "exp", "--dev", tones / "data/dev", "--out-file", out)
    num_utts = len(read_transcripts(tones / "data/dev/text"))
    start, end = (
        "log-probabilities differ from PyTorch's by ",
        f" at most, on {num_utts} utterances of {tones}/data/dev",
    )
    assert [lines[0].startswith(start), lines[0].endswith(end), len(lines)] == [True, True, 1]
    assert 0 < float(lines[0].removeprefix(start).removesuffix(end)) < 1e-4
    assert errors[-1].startswith(f"{out}: 0.")
    onnx.checker.check_model(out, full_check=True)
    assert out.read_bytes() == (tones / "exp/final.onnx").read_bytes()
    lines, _ = export(capsys, tones / "exp", "--out-file", out)
    assert lines[0].endswith("on made-up features; give --dev DATA to compare on real audio")


def test_the_cost_of_8_bit_weights_is_measured(tones, tmp_path, capsys):
    """What it prints is what decoding with either file gives."""
    out, data = tmp_path / "small.onnx", tones / "data/dev"
    lines, _ = export(capsys, tones / "exp", "--dev", data, "--out-file", out, "--int8")
    refs = read_transcripts(data / "text")
    decoded = tmp_path / "decoded"
    run_asrkit("decode", "--model", tones / "exp", "--data", data, "--out", decoded)
    assert lines[2] == "float32: " + score(refs, read_transcripts(decoded / "hyp")).line()
    assert lines[1].startswith("int8: %PER ")
    assert 0 < float(lines[0].split(" by ")[1].split()[0]) < 1e-4
    small, full = out.stat().st_size, (tones / "exp/final.onnx").stat().st_size
    assert small < full
    assert lines[3].endswith(f"the file has {small / 1e6:.1f} MB in place of {full / 1e6:.1f} MB")
    errors = {line.split()[0]: float(line.split()[2]) for line in lines[1:3]}
    assert lines[3].startswith(f"8-bit weights cost {errors['int8:'] - errors['float32:']:+.2f} % PER")
    static = np.zeros((40, 13), np.float32) + np.arange(40, dtype=np.float32)[:, None] % 7
    assert not np.array_equal(OnnxModel(out).log_probs(static), OnnxModel(tones / "exp/final.onnx").log_probs(static))


def test_the_score_of_a_test_set_goes_into_the_file(tones, tmp_path, capsys):
    """It is what transcription of its files gives."""
    out, data = tmp_path / "model.onnx", tones / "data/test"
    lines, _ = export(capsys, tones / "exp", "--test", data, "--out-file", out)
    refs, recognizer = read_transcripts(data / "text"), load_recognizer(tones / "exp")
    found = {utt_id: recognizer.transcribe(tones / f"audio/{utt_id}.wav").phones for utt_id in refs}
    result = score(refs, found)
    assert result.num_errors > 0
    expected = TestScore("test", len(refs), result.num_ref, result.num_errors)
    assert read_model_metadata(out).test == expected
    assert lines[1:] == [f"PER {expected}"]
    assert np.array_equal(*(OnnxModel(path).log_probs(np.ones((9, 13))) for path in (out, tones / "exp/final.onnx")))


def test_what_corpus_it_is_comes_into_a_trained_model(tones, tmp_path):
    """Without training again."""
    root = tmp_path / "tones"
    shutil.copytree(tones, root)
    write_corpus_info(root / "data", mini.INFO)
    before = load_experiment(root / "exp")
    run_asrkit(*train_args(root, root / "exp"))
    after = load_experiment(root / "exp")
    assert (before.corpus, after.corpus) == (None, mini.INFO)
    assert read_model_metadata(root / "exp/final.onnx").corpus == mini.INFO
    for name, weights in after.model.state_dict().items():
        assert np.array_equal(weights, before.model.state_dict()[name])


def test_an_export_elsewhere_leaves_the_experiment_alone(tones, tmp_path, capsys):
    """The experiment may lie where nothing can be written, or be in use."""
    exp = tmp_path / "exp"
    shutil.copytree(tones / "exp", exp)
    before = exp.stat().st_mtime_ns  # of the last file that came or went
    export(capsys, exp, "--out-file", tmp_path / "model.onnx")
    assert exp.stat().st_mtime_ns == before
    # A file in it is its own, by whatever name.
    (tmp_path / "link").symlink_to(exp)
    export(capsys, exp, "--int8", "--dev", tones / "data/dev", "--out-file", tmp_path / "link/final.onnx")
    assert (exp / "final.onnx").read_bytes() != (tmp_path / "model.onnx").read_bytes()
    assert wrong_outputs(exp / TRAIN_STAMP) == []


def test_a_wrong_export_is_not_written(tones, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("asrkit.inference.export.max_difference", lambda *_: 2e-4)
    lines, errors = export(capsys, tones / "exp", "--out-file", tmp_path / "model.onnx", status=1)
    assert lines == []
    assert "the export's log-probabilities differ by 2.0e-04" in errors[-1]
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.slow
def test_nothing_else_writes_a_wrong_export(tones, tmp_path, capsys, monkeypatch):
    """Neither tuning, nor other settings of the search, nor training, nor transcription with a model without one."""
    exp, dev = tmp_path / "exp", tones / "data/dev"
    shutil.copytree(tones / "exp", exp)
    run_asrkit("decode", "--model", exp, "--data", dev, "--out", exp / "decode_dev")
    before = (exp / "final.onnx").read_bytes()
    monkeypatch.setattr("asrkit.inference.export.max_difference", lambda *_: 2e-4)
    training = train_args(tones, exp)
    for args in (
        (*training, "--set", "decoding.beam=5"),
        ("tune", "--model", exp, "--data", dev, "--decode-dir", exp / "decode_dev"),
        ("transcribe", "--model", exp, tones / "audio/test0-0.wav"),
        (*training, "--set", "training.num_epochs=1", "--force"),
    ):
        assert main([*map(str, args)]) == 1
        assert "the export's log-probabilities differ by 2.0e-04" in capsys.readouterr().err.splitlines()[-1]
        assert (exp / "final.onnx").read_bytes() == before


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["EXP", "--int8"], "--int8 changes what is recognised; give --dev DATA"),
        (["no/such"], "no/such: no such model or experiment directory; made by stage 3 (asrkit train)"),
        (["EXP/final.onnx"], "an exported file; expected the experiment directory"),
    ],
)
def test_wrong_use_is_one_line(tones, capsys, args, message):
    _, errors = export(capsys, *(arg.replace("EXP", str(tones / "exp")) for arg in args), status=1)
    assert len(errors) == 1
    assert message in errors[0]
