"""Alignment of known phones and the formats of results, through the command line, on a corpus of tones."""

import itertools
import json
import shutil

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.errors import DataError
from asrkit.findings import Findings
from asrkit.formats.ctm import read_ctm
from asrkit.formats.lab import read_lab
from asrkit.formats.phn import read_phn
from asrkit.formats.textgrid import read_textgrid_labels
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.recognizer import Recognizer
from asrkit.scoring.boundaries import compare_times
from asrkit.types import PhoneTime, Waveform

from .conftest import run_asrkit, train_args

FILES = ["test0-0", "test0-1", "test1-0"]


@pytest.fixture(scope="session")
def recognizer(tones):
    return Recognizer.load(tones / "exp")


def asrkit(capsys, *args, status=0):
    """Lines of standard output and standard error of a verb that runs in this process."""
    assert main([str(arg) for arg in args]) == status
    done = capsys.readouterr()
    return done.out.splitlines(), done.err.splitlines()


def truth(tones, keys=None):
    labels = read_ctm(tones / "data/test/phones.ctm", [])
    return {
        utt: [PhoneTime(label.phone, label.start, label.end) for label in rows]
        for utt, rows in labels.items()
        if keys is None or utt in keys
    }


def as_times(labels):
    return [PhoneTime(label.phone, label.start, label.end) for label in labels]


def test_spans_cover_the_tones(tones, capsys):
    """Tones of 100 to 200 ms with 50 ms of silence between them, which belong to either: true times plus half of it."""
    lines, _ = asrkit(capsys, "align", "--model", tones / "exp", "--data", tones / "data/test", "--format", "ctm")
    (tones / "hyp.ctm").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = {utt: as_times(rows) for utt, rows in read_ctm(tones / "hyp.ctm", []).items()}
    refs = truth(tones)
    assert {utt: [time.phone for time in rows] for utt, rows in found.items()} == {
        utt: [time.phone for time in rows] for utt, rows in refs.items()
    }
    result = compare_times(refs, found)
    assert result.boundaries.share_within(50) > 95
    assert abs(result.boundaries.bias_ms) < 26  # the change is at the end or at the start of a silence
    covered = [
        max(min(a.end, b.end) - max(a.start, b.start), 0) / (a.end - a.start)
        for utt, rows in refs.items()
        for a, b in zip(rows, found[utt], strict=True)
    ]
    assert np.mean(covered) > 0.9


def test_decoded_phones_have_the_times_that_transcribing_gives(tones, tmp_path, capsys):
    """The times differ where the normalisation does: per speaker in one, per file in the other."""
    base = ["decode", "--model", tones / "exp", "--data", tones / "data/test", "--out", tmp_path, "--nj", 1]
    asrkit(capsys, *base, "--ctm", "--cmvn", "utterance")
    found = {utt: as_times(rows) for utt, rows in read_ctm(tmp_path / "phones.ctm", []).items()}
    recognizer = Recognizer.load(tones / "exp")
    for key in FILES:
        times = recognizer.transcribe(tones / f"audio/{key}.wav").times
        assert [time.phone for time in found[key]] == [time.phone for time in times]
        np.testing.assert_allclose([t.start for t in found[key]], [t.start for t in times], atol=1e-5)
        np.testing.assert_allclose([t.end for t in found[key]][:-1], [t.end for t in times][:-1], atol=1e-5)
    assert compare_times(truth(tones), found).boundaries.share_within(50) > 90
    hyps = read_transcripts(tmp_path / "hyp")
    assert {utt: tuple(time.phone for time in rows) for utt, rows in found.items()} == hyps
    asrkit(capsys, *base)
    assert not (tmp_path / "phones.ctm").exists()


def test_all_ways_to_give_phones_say_the_same(tones, tmp_path, capsys):
    transcripts = read_transcripts(tones / "data/test/text")
    files = [tones / f"audio/{key}.wav" for key in FILES]
    base = ["align", "--model", tones / "exp", "--format", "json"]
    by_text, _ = asrkit(capsys, *base, "--text", tones / "data/test/text", *files)
    found = [json.loads(line) for line in by_text]
    assert [row["file"] for row in found] == [str(file) for file in files]
    for key, row in zip(FILES, found, strict=True):
        assert tuple(phone["phone"] for phone in row["phones"]) == transcripts[key]
        assert all(0 < phone["confidence"] <= 1 for phone in row["phones"])
    by_phones, _ = asrkit(capsys, *base, "--phones", " ".join(transcripts[FILES[0]]), files[0])
    assert by_phones == by_text[:1]
    by_data, _ = asrkit(capsys, *base, "--data", tones / "data/test")
    rows = {row["file"]: row["phones"] for row in map(json.loads, by_data)}
    assert len(rows) == len(transcripts)
    assert [rows[key] for key in FILES] == [row["phones"] for row in found]


@pytest.mark.parametrize("verb", ["align", "transcribe"])
def test_every_format_has_the_same_times(tones, tmp_path, capsys, verb):
    files = [tones / f"audio/{key}.wav" for key in FILES]
    samples, rate = soundfile.read(files[0])
    upsampled = np.interp(np.arange(len(samples) * 3) / 3, np.arange(len(samples)), samples)
    soundfile.write(tmp_path / "fast.flac", upsampled, 3 * rate)
    files.append(tmp_path / "fast.flac")
    text = tmp_path / "text"
    text.write_text((tones / "data/test/text").read_text() + "fast a\n")
    base = [verb, "--model", tones / "exp", *(["--text", text] if verb == "align" else []), *files]
    expected = {}
    for line in asrkit(capsys, *base, "--format", "json")[0]:
        row = json.loads(line)
        expected[row["file"]] = row["phones"]
    for name in ("text", "json", "ctm", "textgrid", "phn", "lab"):
        told = [f"{tmp_path / 'out'}: {len(files)} files written"]
        assert asrkit(capsys, *base, "--format", name, "--out", tmp_path / "out") == ([], told)
    findings = Findings()
    for file in files:
        stem, out = file.stem, tmp_path / "out"
        phones = expected[str(file)]
        duration, own_rate = soundfile.info(file).duration, soundfile.info(file).samplerate
        assert (out / f"{stem}.txt").read_text().split() == [str(file), *(phone["phone"] for phone in phones)]
        assert json.loads((out / f"{stem}.json").read_text())["phones"] == phones
        found = {
            "ctm": read_ctm(out / f"{stem}.ctm", findings)[stem],
            "textgrid": read_textgrid_labels(out / f"{stem}.TextGrid", "phones", None, findings),
            "phn": read_phn(out / f"{stem}.phn", own_rate, findings),
            "lab": read_lab(out / f"{stem}.lab", findings)[0],
        }
        for labels in found.values():
            assert [label.phone for label in labels] == [phone["phone"] for phone in phones]
            np.testing.assert_allclose([label.start for label in labels], [p["start"] for p in phones], atol=1e-4)
            np.testing.assert_allclose([label.end for label in labels], [p["end"] for p in phones], atol=1e-4)
            assert labels[-1].end <= duration + 1e-6
    assert findings == Findings()
    streamed, _ = asrkit(capsys, *base, "--format", "ctm")
    assert "\n".join(streamed) + "\n" == "".join((tmp_path / f"out/{f.stem}.ctm").read_text() for f in files)


def test_what_would_go_to_one_file_is_found_before_anything_is_written(tones, tmp_path, capsys):
    shutil.copy(tones / "audio/test0-0.wav", tmp_path / "test0-0.wav")
    shutil.copy(tones / "audio/test0-0.wav", tmp_path / "two words.wav")
    files = [tones / "audio/test0-0.wav", tones / "audio/test0-1.wav", tmp_path / "test0-0.wav"]
    base = ["transcribe", "--model", tones / "exp"]
    out = tmp_path / "out"
    _, errors = asrkit(capsys, *base, *files, "--format", "lab", "--out", out, status=1)
    assert f"{files[2]}: {out}/test0-0.lab is {files[0]}'s, too" in errors[0]
    _, errors = asrkit(capsys, *base, *files, "--format", "ctm", status=1)
    assert f"{files[2]}: in CTM it is test0-0, as {files[0]} is" in errors[0]
    _, errors = asrkit(capsys, *base, *files, "--format", "phn", status=1)
    assert "3 recordings; give --out DIR" in errors[0]
    _, errors = asrkit(capsys, *base, tmp_path / "two words.wav", "--format", "ctm", status=1)
    assert "holds a blank" in errors[0]
    assert not out.exists()
    assert len(asrkit(capsys, *base, *files)[0]) == 3  # text names whole paths


def test_what_fails_is_named_and_the_rest_is_done(tones, tmp_path, capsys):
    text = tmp_path / "text"
    soundfile.write(tmp_path / "short.wav", np.zeros(900), 16000)
    text.write_text("test0-0 a x ʃ y\ntest0-1 a ʃ #\nshort a # a # a\nabsent a\n")
    names = ["test0-0", "test0-1", "test1-0"]
    files = [*(tones / f"audio/{name}.wav" for name in names), tmp_path / "short.wav", tmp_path / "absent.wav"]
    lines, errors = asrkit(capsys, "align", "--model", tones / "exp", "--text", text, *files, status=1)
    assert lines == [f"{files[1]} a ʃ #"]
    start = "asrkit align: error: "
    assert errors[0] == f"{start}{files[0]}: phones that the model does not have: x y; it has # a ʃ"
    assert errors[1] == f"{start}{files[2]}: no phones for it in {text}"
    assert errors[2] == f"{start}{files[3]}: alignment: 5 tokens need at least 5 frames; there are 4"
    assert errors[3].startswith(f"{start}{files[4]}: ")
    assert errors[4] == "asrkit align: 4 of 5 recordings failed"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--phones", "a", "x.wav", "y.wav"], "--phones is for one recording, found 2"),
        (["--phones", "a"], "no audio files"),
        (["--data", "DATA", "x.wav"], "x.wav: with --data the audio is that of the data directory"),
        (["--phones", "a", "x.wav", "--optional-silence", "sil"], "--optional-silence sil: the model does not have it"),
    ],
)
def test_wrong_use_is_one_line(tones, capsys, args, message):
    _, errors = asrkit(capsys, "align", "--model", tones / "exp", *args, status=1)
    assert len(errors) == 1
    assert message in errors[0]


def test_optional_phones_are_there_where_they_are_heard(tones, recognizer):
    transcripts = read_transcripts(tones / "data/test/text")
    for key, phones in list(transcripts.items())[:8]:
        kept = [phone for phone in phones if phone != "#"]
        found = recognizer.align(tones / f"audio/{key}.wav", kept, optional_silence="#")
        expected = [phone for i, phone in enumerate(phones) if phone != "#" or phones[i - 1 : i] != ("#",)]
        assert found.phones == tuple(time.phone for time in found.times) == tuple(expected), key
        again = recognizer.align(tones / f"audio/{key}.wav", phones, optional_silence="#")
        assert again.times == found.times


def test_a_model_sees_every_frame(tones, recognizer):
    """Where a frame is the middle of a step of the usual phase, it has the log-probabilities of that step."""
    samples, rate = soundfile.read(tones / "audio/test0-0.wav", dtype="float32")
    for length in (1000, 8000, 8160, 8320):
        static = recognizer.extractor(Waveform(32768 * samples[:length], rate), "x")
        steps, outputs = recognizer.model.log_probs(static), recognizer.model.outputs_by_frame(static)
        assert outputs.by_frame and outputs.frame_log_probs is None
        frames = outputs.log_probs
        assert frames.shape == (len(static), steps.shape[1])
        middles = np.arange(1, len(static), 3)
        np.testing.assert_allclose(frames[middles], steps[: len(middles)], atol=1e-5)


def test_too_much_audio_is_an_error_and_less_is_aligned_step_by_step(tones, recognizer, monkeypatch):
    phones = read_transcripts(tones / "data/test/text")["test0-0"]
    fine = recognizer.align(tones / "audio/test0-0.wav", phones)
    monkeypatch.setattr("asrkit.inference.recognizer._MAX_FINE_CELLS", 1)
    coarse = recognizer.align(tones / "audio/test0-0.wav", phones)
    assert [time.phone for time in coarse.times] == list(phones)
    bounds = [[time.end for time in found.times] for found in (fine, coarse)]
    np.testing.assert_allclose(*bounds, atol=0.1)  # the silence between tones is either's
    monkeypatch.setattr("asrkit.decoding.forced_align._MAX_CELLS", 10)
    with pytest.raises(DataError, match="align shorter pieces"):
        recognizer.align(tones / "audio/test0-0.wav", phones)


@pytest.mark.slow
@pytest.mark.parametrize("head", ["both", "frames"])
def test_a_frame_wise_head_places_boundaries(tones, tmp_path, capsys, head):
    config = tmp_path / "config.yaml"
    config.write_text((tones / "config.yaml").read_text().replace("model: {", f"model: {{head: {head}, "))
    arguments = train_args(tones, tmp_path / "exp")
    run_asrkit(*(config if argument == tones / "config.yaml" else argument for argument in arguments))
    lines, errors = asrkit(
        capsys, "align", "--model", tmp_path / "exp", "--data", tones / "data/test", "--format", "ctm"
    )
    assert errors == []
    (tmp_path / "hyp.ctm").write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = {utt: as_times(rows) for utt, rows in read_ctm(tmp_path / "hyp.ctm", []).items()}
    refs = truth(tones)
    assert any(a.phone == b.phone for rows in refs.values() for a, b in itertools.pairwise(rows))
    result = compare_times(refs, found)
    assert result.num_right == result.num_phones
    if head == "both":  # frames alone do not tell two tones of one pitch apart
        assert result.boundaries.share_within(50) > 95
    transcribed = Recognizer.load(tmp_path / "exp").transcribe(tones / "audio/test0-0.wav")
    assert len(transcribed.times) == len(transcribed.phones) > 0
