"""`asrkit transcribe`: where inputs come from, what is written of them and where, on a corpus of tones."""

import contextlib
import io
import itertools
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import termios
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import soxr

from asrkit.audio import read_audio
from asrkit.audio.inputs import find_inputs
from asrkit.cli.main import main
from asrkit.decoding.config import DecodingConfig
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.recognizer import Recognizer, load_model
from asrkit.scoring.per import score

KEYS = [f"test{spk}-{number}" for spk in range(3) for number in range(7)]


@pytest.fixture
def transcribe(tones, capsys):
    """Lines of standard output and standard error of the verb in this process."""

    def run(*args, status=0):
        assert main(["transcribe", "--model", str(tones / "exp"), *map(str, args)]) == status
        done = capsys.readouterr()
        return done.out.splitlines(), done.err.splitlines()

    return run


@pytest.fixture(scope="module")
def truth(tones):
    """The phones of each recording by itself, which are nearly all right."""
    recognizer = Recognizer.load(tones / "exp")
    said = read_transcripts(tones / "data/test/text")
    found = {
        key: recognizer.transcribe(read_audio(tones / f"audio/{key}.wav"), with_times=False).phones for key in KEYS
    }
    assert score(said, found).per < 15
    return found


@pytest.fixture
def tree(tones, tmp_path):
    """A directory with sub-directories: nine recordings, two of the same name, and a file that is none."""
    names = ["b/x.wav", "b/y.WAV", "a/x.wav", "z.wav", "a/c/q.flac", "[1].wav", "n1.wav", "n2.wav", "n10.wav"]
    for name, key in zip(names, KEYS, strict=False):
        path = tmp_path / "tree" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(tones / f"audio/{key}.wav")
        soundfile.write(path, samples, rate)
    (tmp_path / "tree/a/notes.txt").write_text("no audio")
    return tmp_path / "tree", dict(zip(names, KEYS, strict=False))


def test_directories_patterns_and_lists_in_order(tree, tmp_path, transcribe, truth, monkeypatch):
    directory, keys = tree
    monkeypatch.chdir(directory)
    (tmp_path / "list").write_text("z.wav\n\na\n")
    lines, said = transcribe("n*.wav", "b", "[1].wav", "**/x.wav", "--list", tmp_path / "list", "--nj", 3)
    expected = ["n1.wav", "n10.wav", "n2.wav", "b/x.wav", "b/y.WAV", "[1].wav", "a/x.wav", "b/x.wav", "z.wav"]
    expected += ["a/x.wav", "a/c/q.flac"]
    assert lines == [" ".join((name, *truth[keys[name]])) for name in expected]
    assert said == ["b: 2 audio files", "a: 2 audio files"]


def test_a_directory_gives_a_tree_of_results(tree, tmp_path, transcribe, truth):
    directory, keys = tree
    out = tmp_path / "out"
    assert transcribe(directory, "--out", out, "--format", "json")[0] == []
    found = sorted(str(path.relative_to(out)) for path in out.rglob("*.json"))
    assert found == sorted(name.rsplit(".", 1)[0] + ".json" for name in keys)
    rows = {name: json.loads((out / name).with_suffix(".json").read_text()) for name in keys}
    assert [tuple(phone["phone"] for phone in rows[name]["phones"]) for name in keys] == [
        truth[k] for k in keys.values()
    ]
    lines, _ = transcribe(directory, "--format", "ctm")
    assert {line.split()[0] for line in lines} == {name.rsplit(".", 1)[0] for name in keys}
    samples, rate = soundfile.read(directory / "z.wav")
    soundfile.write(directory / "z.flac", samples, rate)
    _, said = transcribe(directory, "--out", tmp_path / "none", status=1)
    assert f"{tmp_path}/none/z.txt is {directory}/z.flac's, too" in said[-1]
    assert not (tmp_path / "none").exists()


def test_standard_input_is_audio(tones, transcribe, truth, monkeypatch):
    content = (tones / "audio/test0-1.wav").read_bytes()
    endless = content[:40] + b"\xff\xff\xff\xff" + content[44:]  # as from a program that streams
    flac = io.BytesIO()
    soundfile.write(flac, *soundfile.read(tones / "audio/test0-1.wav"), format="FLAC")
    for sent in (content, endless, flac.getvalue()):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(sent)))
        assert transcribe("-")[0] == [" ".join(("-", *truth["test0-1"]))]
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))
    lines, said = transcribe("-", tones / "audio/test0-2.wav", "-", "--format", "ctm", status=1)
    assert {line.split()[0] for line in lines} == {"stdin", "test0-2"}
    assert said[0] == "asrkit transcribe: error: -: standard input can be read only once"
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"")))
    _, said = transcribe("-", status=1)
    assert said[0] == "asrkit transcribe: error: standard input: empty (0 bytes); expected audio"


def test_what_is_not_there_is_a_line_each_and_the_rest_is_done(tones, tmp_path, transcribe, truth):
    (tmp_path / "empty").mkdir()
    good = tones / "audio/test0-0.wav"
    lines, said = transcribe(tmp_path / "*.mp3", good, tmp_path / "empty", tmp_path / "absent.wav", status=1)
    assert lines == [" ".join((str(good), *truth["test0-0"]))]
    start = f"asrkit transcribe: error: {tmp_path}"
    assert said[0] == f"{start}/*.mp3: no file matches"
    assert said[1].startswith(f"{start}/empty: a directory without audio; expected files that end in .8svx .afc .aif ")
    assert said[2] == f"{start}/absent.wav: no such audio file"
    assert said[3] == "asrkit transcribe: 3 of 4 files failed"
    assert len(said) == 4


def test_wrong_use_is_told_at_once(tones, tmp_path, transcribe):
    file = tones / "audio/test0-0.wav"
    for args, message in [
        ([], "no audio; name files or directories, or give - for standard input"),
        (["--list", tmp_path / "none"], f"{tmp_path}/none: cannot be read (No such file or directory)"),
        ([file, "--nbest", 2, "--format", "ctm"], "--nbest: ctm has no place for several results; choose --format"),
        ([tones / "audio", "--format", "srt"], "give --out DIR to get a file for each"),
        ([file, "--ipa"], "no table to IPA for these phones: # ʃ; "),
    ]:
        _, said = transcribe(*args, status=1)
        assert said[-1].startswith("asrkit transcribe: error: ")
        assert message in said[-1]


def test_search_and_symbols_can_be_chosen(tones, transcribe, monkeypatch):
    file = tones / "audio/test0-0.wav"
    lines, _ = transcribe(file, "--nbest", 3)
    assert [line.split()[1] for line in lines] == ["1", "2", "3"]
    scores = [float(line.split()[2]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    assert len({tuple(line.split()[3:]) for line in lines}) == 3
    assert transcribe(file)[0] == [" ".join((str(file), *lines[0].split()[3:]))]
    (row,) = map(json.loads, transcribe(file, "--json", "--nbest", 3)[0])
    assert [other["phones"] for other in row["nbest"]] == [line.split()[3:] for line in lines]
    (plain,) = map(json.loads, transcribe(file, "--json", "--nbest", 3, "--no-lm")[0])
    assert plain["nbest"][0]["score"] == pytest.approx(plain["nbest"][0]["log_prob"])  # there is no bonus either
    assert row["nbest"][0]["score"] < row["nbest"][0]["log_prob"]
    _, said = transcribe(file, "--nbest", 3, "--beam", 2, status=1)
    assert said == ["asrkit transcribe: error: --nbest 3: the beam search keeps fewer; give --beam 3"]
    monkeypatch.setattr("asrkit.inference.hypothesis.ipa_table", lambda phones: {"a": "ɑ", "#": "h"})
    (row,) = map(json.loads, transcribe(file, "--json", "--ipa", "--nbest", 2)[0])
    written = {"a": "ɑ", "#": "h", "ʃ": "ʃ"}
    assert [phone["phone"] for phone in row["phones"]] == [written[phone] for phone in lines[0].split()[3:]]
    assert row["nbest"][0]["phones"] == [phone["phone"] for phone in row["phones"]]


def test_a_width_asks_for_beam_search_of_a_model_that_is_set_to_greedy(tones, transcribe, monkeypatch):
    model = load_model(tones / "exp")
    model.decoding = DecodingConfig(method="greedy")
    monkeypatch.setattr("asrkit.inference.recognizer.load_model", lambda name, *rest: model)
    file = tones / "audio/test0-0.wav"
    _, said = transcribe(file, "--nbest", 2, status=1)
    assert "the greedy search keeps fewer" in said[-1]
    assert len(transcribe(file, "--nbest", 2, "--beam", 8)[0]) == 2


def test_names_and_phones_in_any_locale(tones, tmp_path):
    name = os.fsencode(tmp_path) + b"/\xff \xc3\xa4.wav"  # no UTF-8
    shutil.copy(tones / "audio/test0-0.wav", name)
    command = [sys.executable, "-m", "asrkit", "transcribe", "--model", tones / "exp", name]
    env = {**os.environ, "PYTHONIOENCODING": "ascii:strict"}
    written = subprocess.run(command, env=env, capture_output=True, check=True).stdout
    shown = os.fsencode(tmp_path) + b"/\\xff \xc3\xa4.wav"
    assert written.startswith(shown + b" ")
    assert len(written[len(shown) :].split()) > 3
    subprocess.run([*command, "--out", tmp_path / "out"], env=env, check=True)
    assert (tmp_path / "out" / os.fsdecode(b"\xff \xc3\xa4.txt")).read_bytes() == written


RATES = [8000, 11025, 22050, 44100, 48000]
SUBTYPES = ["PCM_U8", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"]


def test_any_rate_and_coding_gives_the_same_phones(tones, tmp_path, transcribe, truth):
    """The tones reach 2875 Hz, so no rate loses them; lossy codings leave them recognisable."""
    samples, rate = soundfile.read(tones / "audio/test0-0.wav")
    versions = {}
    for other in RATES:
        versions[f"{other}.wav"] = (soxr.resample(samples, rate, other), other, "WAV", "PCM_16")
    for subtype in SUBTYPES:
        versions[f"{subtype}.wav"] = (samples, rate, "WAV", subtype)
    versions["x.flac"] = (samples, rate, "FLAC", "PCM_16")
    versions["x.sph"] = (samples, rate, "NIST", "PCM_16")
    versions["x.ogg"] = (samples, rate, "OGG", "VORBIS")
    versions["x.opus"] = (samples, rate, "OGG", "OPUS")
    versions["x.mp3"] = (samples, rate, "MP3", "MPEG_LAYER_III")
    for name, (data, own_rate, container, subtype) in versions.items():
        soundfile.write(tmp_path / name, data, own_rate, format=container, subtype=subtype)
    lines, _ = transcribe(tmp_path, "--nj", 2)
    assert {line.split()[0]: tuple(line.split()[1:]) for line in lines} == {
        str(tmp_path / name): truth["test0-0"] for name in versions
    }
    silence = np.zeros_like(samples)
    soundfile.write(tmp_path / "stereo.wav", np.stack([silence, samples], 1), rate)
    for channel in ("1", "mix"):
        (line,), _ = transcribe(tmp_path / "stereo.wav", "--channel", channel)
        assert tuple(line.split()[1:]) == truth["test0-0"]


def test_a_long_file_has_the_phones_of_its_parts(tones, tmp_path, transcribe):
    """Two windows, and from a rate that is resampled along the way."""
    said = read_transcripts(tones / "data/test/text")
    parts = [soundfile.read(tones / f"audio/{key}.wav")[0] for key in KEYS] * 9
    samples = np.concatenate(parts)
    assert len(samples) > 16000 * 150
    soundfile.write(tmp_path / "long.wav", samples, 16000)
    soundfile.write(tmp_path / "fast.flac", soxr.resample(samples, 16000, 24000), 24000)
    rows = [json.loads(line) for line in transcribe(tmp_path / "long.wav", tmp_path / "fast.flac", "--json")[0]]
    expected = list(itertools.chain.from_iterable(said[key] for key in KEYS)) * 9
    for row in rows:
        found = [phone["phone"] for phone in row["phones"]]
        assert found == expected
        bounds = [bound for phone in row["phones"] for bound in (phone["start"], phone["end"])]
        assert bounds == sorted(bounds)
        assert bounds[-1] == pytest.approx(len(samples) / 16000, abs=0.1)
    # Each phone lies in the part that it was said in.
    ends = np.cumsum([len(part) for part in parts]) / 16000
    part_of = np.repeat(np.arange(len(parts)), [len(said[key]) for key in KEYS] * 9)
    middles = np.array([(phone["start"] + phone["end"]) / 2 for phone in rows[0]["phones"]])
    np.testing.assert_array_equal(np.searchsorted(ends, middles), part_of)


def test_ctrl_c_ends_it_at_once(tones, tmp_path):
    """With threads that are at work, and a reader that has the first results already."""
    paths = [str(tones / f"audio/{key}.wav") for key in KEYS]
    (tmp_path / "list").write_text("\n".join(paths * 400))
    command = [sys.executable, "-m", "asrkit", "transcribe", "--model", str(tones / "exp")]
    command += ["--list", str(tmp_path / "list"), "--nj", "2", "--json"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )
    assert json.loads(process.stdout.readline())["file"] == paths[0]
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "asrkit transcribe: interrupted\n"
    assert all(json.loads(line) for line in out.splitlines()[:-1])


def test_a_bar_on_a_terminal_counts_the_files(tones, tmp_path):
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, (24, 80))
    command = [sys.executable, "-m", "asrkit", "transcribe", "--model", tones / "exp", tones / "audio/test0-0.wav"]
    command += [tones / "audio/test0-1.wav", "--out", tmp_path / "out"]
    done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, stderr=end, text=True)
    os.close(end)
    said = b""
    with contextlib.suppress(OSError), open(terminal, "rb", buffering=0) as stream:
        while piece := stream.read(1000):
            said += piece
    assert (done.returncode, done.stdout) == (0, "")
    assert b"transcribing: 100%" in said
    assert b"2/2" in said


def test_names_of_what_is_found(tmp_path):
    (tmp_path / "a b").mkdir()
    soundfile.write(tmp_path / "a b/c.d.wav", np.zeros(9), 16000)
    assert [(each.name, each.key) for each in find_inputs([str(tmp_path), "no/such.file.wav"])] == [
        (f"{tmp_path}/a b/c.d.wav", "a b/c.d"),
        ("no/such.file.wav", "such.file"),
    ]
