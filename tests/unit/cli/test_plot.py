"""`asrkit plot attention`: the pictures and their numbers, seen again in the files."""

import io
import json

import matplotlib.image
import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.inference.export import export_model
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.recognizer import Recognizer
from asrkit.reporting.attention import attention_png
from asrkit.types import AttentionWeights
from tests.loud_model import loud_model
from tests.unit.inference.test_decoder_export import experiment_of
from tests.unit.inference.test_export import speech


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(export_model(experiment_of("joint")))
    return path


def write_speech(path, seconds):
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, speech(seconds).samples / 32768, 16000)
    return path


def test_each_recording_gets_a_picture_and_its_numbers(tmp_path, capsys, model):
    short, long = write_speech(tmp_path / "a/x.wav", 1.0), write_speech(tmp_path / "a/y.wav", 20.0)
    soundfile.write(tmp_path / "silence.wav", np.zeros(16000), 16000)
    out = tmp_path / "out"
    files = [short.parent, tmp_path / "silence.wav", tmp_path / "none.wav"]
    assert main(["plot", "attention", "--model", str(model), "--out", str(out), *map(str, files)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{short.parent}: 2 audio files",
        f"asrkit plot: error: {tmp_path}/silence.wav: nobody speaks in it, so there is no attention to draw",
        f"asrkit plot: error: {tmp_path}/none.wav: no such audio file",
        f"{out}: 5 files written",
        "asrkit plot: 2 of 4 files failed",
    ]
    names = {path.name for path in out.iterdir() if path.name[0] != "."}
    assert names == {"x.png", "x.json", "y.1.png", "y.2.png", "y.json"}
    for name in names:
        if name.endswith(".png"):
            assert matplotlib.image.imread(out / name).shape[1] >= 800
    recognizer = Recognizer(OnnxModel(model))
    for path, num_pieces in ((short, 1), (long, 2)):
        figures = json.loads((out / f"{path.stem}.json").read_text())
        assert figures["audio"] == str(path) and len(figures["pieces"]) == num_pieces
        for found, expected in zip(figures["pieces"], recognizer.attention(path), strict=True):
            assert found["phones"] == list(expected.phones)
            assert (found["start"], found["end"]) == (pytest.approx(expected.start), pytest.approx(expected.end))
            np.testing.assert_allclose(found["times"], expected.times, atol=1e-6)
            np.testing.assert_allclose(found["weights"], expected.weights, atol=1e-5)


def test_a_model_without_attention_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(loud_model())
    files = [str(write_speech(tmp_path / f"a/{name}.wav", 0.5)) for name in "xy"]
    assert main(["plot", "attention", "--model", str(tmp_path / "model.onnx"), "--out", str(tmp_path / "out"), *files])
    *_, line = capsys.readouterr().err.splitlines()
    assert line == (
        "asrkit plot: error: model.head ctc: such a model has no attention decoder; train one that has (docs/models.md)"
    )


@pytest.mark.parametrize("num_heads", [1, 3])
def test_a_picture_shows_each_weight_at_its_phone_and_time(num_heads):
    """Of weights along a diagonal: each phone's is the darkest blue of its row, further right than that above."""
    audio, num_steps = speech(1.0), 20
    weights = np.tile(np.eye(num_steps, dtype=np.float32), (num_heads, 1, 1))
    piece = AttentionWeights(("a",) * (num_steps - 1), weights, 0.025 + 0.05 * np.arange(num_steps), 0.05, 0.0, 1.0)
    picture = matplotlib.image.imread(io.BytesIO(attention_png(audio, piece, "diagonal")))[:, :, :3]
    is_dark = np.abs(picture - np.array([8, 48, 107]) / 255).max(axis=2) < 0.02  # the end of matplotlib's Blues
    is_dark[:, round(0.9 * is_dark.shape[1]) :] = False  # the colour bar
    half = is_dark.shape[1] * 9 // 20
    panels = {1: [is_dark], 3: [is_dark[:, :half], is_dark[:, half:]]}[num_heads]
    total = 0
    for panel in panels:
        rows, columns = panel.nonzero()
        runs = np.split(np.arange(len(rows)), (np.diff(rows) > 1).nonzero()[0] + 1)  # where a line is between two rows
        tops = [rows[run[0]] for run in runs]
        middles = np.array([np.median(columns[run]) for run in runs])
        assert np.diff(tops).min() > 5
        steps = np.diff(middles)
        assert ((steps > 0) | (steps < -50)).all()  # back to the left where the next head begins
        total += len(runs)
    assert total == num_heads * num_steps
