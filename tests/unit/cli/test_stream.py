"""`asrkit stream` with a network made by hand: what it writes for files, pipes and microphones, and what it refuses."""

import io
import json
import signal
import subprocess
import sys
import types

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.errors import AudioError
from asrkit.inference.live_audio import paced, raw_samples
from asrkit.inference.onnx_model import OnnxModel, OutputStream
from asrkit.inference.stream import StreamingRecognizer
from tests.loud_model import RATE, loud_model, loud_speech

PAUSE = np.zeros(RATE // 2, np.float32)
SAMPLES = np.concatenate([PAUSE, loud_speech(), PAUSE, PAUSE, loud_speech(), PAUSE])


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "loud.onnx"
    path.write_bytes(loud_model())
    return path


@pytest.fixture(scope="module")
def wav(tmp_path_factory):
    path = tmp_path_factory.mktemp("audio") / "loud.wav"
    soundfile.write(path, SAMPLES.astype(np.int16), RATE)
    return path


def run(capsys, *args):
    """Status, the lines of standard output and of standard error."""
    status = main(["stream", *map(str, args)])
    captured = capsys.readouterr()
    return status, [strict_json(line) for line in captured.out.splitlines()], captured.err.splitlines()


def strict_json(line):
    """As the standard has it: without NaN and Infinity."""

    def refuse(constant):
        raise ValueError(f"{constant} in {line}")

    return json.loads(line, parse_constant=refuse)


def test_a_file(capsys, model, wav):
    status, lines, errors = run(capsys, "--model", model, wav)
    assert status == 0
    assert [line["partial"] for line in lines[:-1]] == [["a"], ["a", "a"]]
    assert 0.5 < lines[0]["time"] < 0.55
    assert 1.8 < lines[1]["time"] < 1.85
    (first, second) = lines[-1]["final"]
    assert [first["phone"], second["phone"]] == ["a", "a"]
    assert [first["start"], second["start"]] == pytest.approx([0.5, 1.8], abs=0.03)
    assert 0.5 < first["confidence"] <= 1
    assert lines[-1]["time"] == pytest.approx(second["end"], abs=1e-3)
    assert errors[0] == "algorithmic latency 12.5 ms (window 12.5), a step every 10 ms"
    assert errors[1].startswith("computing time a step: median ")
    assert errors[2].startswith("first phone written 0.0")
    assert errors[2].endswith(f" s after speech began at {first['start']:.2f} s")


def test_pauses_end_utterances(capsys, model, wav):
    status, lines, _ = run(capsys, "--model", model, "--endpoint", 0.4, wav)
    assert status == 0
    assert [[*line] for line in lines] == [["partial", "time"], ["final", "time"]] * 2
    assert [line["final"][0]["phone"] for line in lines if "final" in line] == ["a", "a"]


def test_silence_ends_where_it_ends_the_utterance(capsys, tmp_path, wav):
    """Nothing is waited for after a frame, so the last frame that there is yet is the silence's own."""
    model = tmp_path / "model.onnx"
    model.write_bytes(loud_model(quiet="sil"))
    status, lines, _ = run(capsys, "--model", model, "--endpoint", 0.4, wav)
    assert status == 0
    first, second = (line["final"] for line in lines if "final" in line)
    assert [[phone["phone"] for phone in phones] for phones in (first, second)] == [["sil", "a", "sil"]] * 2
    # Frames start every 10 ms and last 25 ms: the first quiet one starts when the tone has ended.
    assert first[-1]["end"] == pytest.approx(0.5 + 0.3 + 0.4 + 0.0075, abs=1e-3)
    assert second[0]["start"] == pytest.approx(first[-1]["end"] + 0.4, abs=1e-3)  # the silence between is no utterance
    assert second[-1]["end"] == pytest.approx(1.8 + 0.3 + 0.4 + 0.0075, abs=1e-3)


def test_a_pipe_without_pytorch(model):
    """In a process of its own; the samples come in odd pieces of bytes."""
    code = (
        "import sys; from asrkit.cli.main import main\n"
        "status = main(sys.argv[1:])\n"
        "assert not {'torch', 'onnx', 'librosa'} & set(sys.modules)\n"
        "sys.exit(status)"
    )
    samples = SAMPLES[::2].astype("<i2").tobytes() + b"."
    command = [sys.executable, "-c", code, "stream", "--model", str(model), "--rate", str(RATE // 2), "-"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False) as process:
        for begin in range(0, len(samples), 999):
            process.stdin.write(samples[begin : begin + 999])
            process.stdin.flush()
        process.stdin.close()
        lines = [json.loads(line) for line in process.stdout]
    assert process.returncode == 0
    assert [phone["phone"] for phone in lines[-1]["final"]] == ["a", "a"]
    assert [phone["start"] for phone in lines[-1]["final"]] == pytest.approx([0.5, 1.8], abs=0.03)


class Trickle(io.BytesIO):
    """Gives a few bytes at a time, as a slow pipe does."""

    def read1(self, size=-1):
        return super().read1(min(3, size))


def test_bytes_become_samples():
    given = np.array([1, -2, 300, -32768, 32767], "<i2")
    for source in (io.BytesIO, Trickle):
        found = np.concatenate([*raw_samples(source(given.tobytes() + b"x"), 4)])
        assert found.tolist() == given.tolist()
    assert np.concatenate([*raw_samples(io.BytesIO(b"\x01\x00"), 4)]).tolist() == [1]
    assert [*raw_samples(io.BytesIO(b""), 4)] == []
    for source in (io.BytesIO, Trickle):
        with pytest.raises(AudioError, match=r"a file with a header \(RIFF\)"):
            list(raw_samples(source(b"RIFF" + bytes(100)), 480))


def test_pacing_waits_for_the_last_sample(monkeypatch):
    now, slept = [100.0], []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    monkeypatch.setattr(
        "asrkit.inference.live_audio.time", types.SimpleNamespace(monotonic=lambda: now[0], sleep=sleep)
    )
    for samples, work in zip(paced(np.split(np.zeros(280), [80, 160, 240]), 8000), (3, 11, 1, 0), strict=True):
        assert len(samples) == (80 if work else 40)
        now[0] += work / 1000
    assert slept == pytest.approx([0.010, 0.007, 0.0, 0.003], abs=1e-9)


class Microphone:
    """sounddevice's RawInputStream, as far as it is used; Ctrl-C is pressed when the audio is over."""

    opened = None

    def __init__(self, samplerate, channels, dtype, blocksize):
        Microphone.opened = samplerate, channels, dtype, blocksize
        if samplerate == 1100:
            raise PortAudioError("Invalid sample rate")
        self.left = SAMPLES.astype(np.int16).tobytes()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def read(self, frames):
        if not self.left:
            raise KeyboardInterrupt
        data, self.left = self.left[: 2 * frames], self.left[2 * frames :]
        return memoryview(data), False


def test_ctrl_c_within_a_step_waits_for_its_end(capsys, model, wav, monkeypatch):
    accept, num_calls = OutputStream.accept, iter(range(1000))

    def pressed(self, static):
        if next(num_calls) == 65:  # in the first loud part
            signal.raise_signal(signal.SIGINT)
        return accept(self, static)

    finish, finished_after = StreamingRecognizer.finish, []

    def finished(self):
        finished_after.append(self.num_steps)
        return finish(self)

    monkeypatch.setattr(OutputStream, "accept", pressed)
    monkeypatch.setattr(StreamingRecognizer, "finish", finished)
    status, lines, errors = run(capsys, "--model", model, wav)
    assert (status, errors[0]) == (0, "")
    assert [phone["phone"] for phone in lines[-1]["final"]] == ["a"]
    whole = StreamingRecognizer(OnnxModel(model))
    whole.accept(SAMPLES[: 66 * RATE // 100])
    assert finished_after == [whole.num_steps]  # with those of the chunk in which it was pressed


class PortAudioError(Exception):
    pass


def test_a_microphone(capsys, model, monkeypatch):
    fake = types.SimpleNamespace(RawInputStream=Microphone, PortAudioError=PortAudioError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    status, lines, errors = run(capsys, "--model", model, "--microphone")
    assert status == 0
    assert Microphone.opened == (RATE, 1, "int16", RATE // 100)
    assert [phone["phone"] for phone in lines[-1]["final"]] == ["a", "a"]
    assert errors[0] == "listening; Ctrl-C ends"
    assert any(line.startswith("algorithmic latency") for line in errors)
    status, lines, errors = run(capsys, "--model", model, "--microphone", "--rate", 1100)
    assert (status, lines) == (1, [])
    assert "microphone: cannot be used at 1100 Hz (Invalid sample rate); choose another --rate" in errors[-1]


def test_a_microphone_without_sounddevice(capsys, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    status, _, errors = run(capsys, "--model", model, "--microphone")
    assert status == 1
    assert errors[-1].startswith("asrkit stream: error: needs sounddevice, which is not installed; install with: ")
    assert errors[-1].endswith("pip install 'asrkit-phones[microphone]'")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "expected either an audio file"),
        (["--microphone", "-"], "expected either an audio file"),
        (["--rate", "8000", "a.wav"], "--rate 8000: a.wav tells its own"),
        (["--realtime", "-"], "--realtime: is for files"),
        (["--endpoint", "-1", "WAV"], "endpoint -1.0 s"),
        (["no.wav"], "no.wav: no such audio file"),
    ],
)
def test_what_it_refuses(capsys, model, wav, args, message):
    args = [str(wav) if arg == "WAV" else arg for arg in args]
    status, lines, errors = run(capsys, "--model", model, *args)
    assert (status, lines) == (1, [])
    assert message in errors[-1]


def test_audio_without_a_frame(capsys, model, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.zeros(100, np.int16), RATE)
    status, lines, errors = run(capsys, "--model", model, tmp_path / "short.wav")
    assert (status, lines) == (1, [])
    assert "short.wav: 100 samples" in errors[-1]
