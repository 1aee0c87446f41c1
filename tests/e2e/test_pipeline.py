"""From data directory to phones through the command line, on a corpus of tones."""

import contextlib
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asrkit.audio import read_audio
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from asrkit.experiment import load_experiment
from asrkit.features.pipeline import FeatureLoader
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.recognizer import Recognizer
from asrkit.io.ark import ArkReader
from asrkit.scoring.per import score
from asrkit.stages.training import TrainingData, train
from asrkit.types import Waveform

from .conftest import run_asrkit, run_process, train_args


def text(recognizer, audio, **options):
    return " ".join(recognizer.transcribe(audio, **options).phones)


def test_it_recognises_the_test_set(tones):
    refs, hyps = read_transcripts(tones / "data/test/text"), read_transcripts(tones / "exp/decode_test/hyp")
    assert score(refs, hyps).per < 10
    report = run_process(
        "report", "--data", tones / "data/test", "--hyp", tones / "exp/decode_test/hyp", "--out", tones / "exp/report"
    )
    assert report.stdout.splitlines()[-1] == score(refs, hyps).line()
    scored = run_process("score", tones / "data/test/text", tones / "exp/decode_test/hyp")
    assert scored.stdout.splitlines()[-1] == score(refs, hyps).line()


@pytest.mark.parametrize("options", [("--batch-size", 1), ("--batch-size", 32, "--nj", 2), ("--method", "greedy")])
def test_batch_size_and_jobs_change_nothing(tones, tmp_path, options):
    run_asrkit("decode", "--model", tones / "exp", "--data", tones / "data/test", "--out", tmp_path, *options)
    whole, other = ArkReader(tones / "exp/decode_test/log_probs.scp"), ArkReader(tmp_path / "log_probs.scp")
    assert list(whole) == list(other)
    for utt_id in whole:
        np.testing.assert_allclose(whole[utt_id], other[utt_id], atol=1e-5)
    if "greedy" not in options:
        assert (tmp_path / "hyp").read_bytes() == (tones / "exp/decode_test/hyp").read_bytes()


def test_a_second_run_is_up_to_date_and_a_changed_input_is_not(tones, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(tones / "exp", exp)
    weights = (exp / "final.pt").read_bytes()
    assert "up to date" in run_asrkit(*train_args(tones, exp)).stderr
    decode = ("decode", "--model", exp, "--data", tones / "data/test", "--out", exp / "decode_test")
    assert "up to date" in run_asrkit(*decode).stderr
    assert (exp / "final.pt").read_bytes() == weights
    (exp / "decode_test/hyp").unlink()
    assert "up to date" not in run_asrkit(*decode).stderr
    config = tmp_path / "config.yaml"
    config.write_text((tones / "config.yaml").read_text().replace("0.02", "0.01"))
    other = [config if argument == tones / "config.yaml" else argument for argument in train_args(tones, exp)]
    refused = run_asrkit(*other, check=False)
    assert refused.returncode == 1
    assert "give --resume to go on or --force" in refused.stderr


def test_new_decoding_settings_and_language_models_reach_a_trained_experiment(tones, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(tones / "exp", exp)
    weights = load_experiment(exp).model.state_dict()
    config = tmp_path / "config.yaml"
    config.write_text((tones / "config.yaml").read_text().replace("beam: 8", "beam: 3"))
    arguments = [config if argument == tones / "config.yaml" else argument for argument in train_args(tones, exp)]
    assert Recognizer.load(exp).search.scorer.lm is not None
    run_asrkit(*arguments)
    assert Recognizer.load(exp).decoding.beam == 3
    assert Recognizer.load(exp).search.scorer.lm is not None
    at_lm = arguments.index("--lm")
    run_asrkit(*arguments[:at_lm], *arguments[at_lm + 2 :])
    assert Recognizer.load(exp).search.scorer.lm is None
    assert all(value.equal(weights[name]) for name, value in load_experiment(exp).model.state_dict().items())


@pytest.mark.slow
def test_killed_and_resumed_training_gives_the_same_model(tones, tmp_path):
    """Killed three times, at different moments of epochs, with a checkpoint after every batch."""
    exp, config = tmp_path / "exp", tmp_path / "config.yaml"
    config.write_text(
        (tones / "config.yaml").read_text().replace("training: {", "training: {checkpoint_minutes: 1e-9, ")
    )
    arguments = [config if argument == tones / "config.yaml" else argument for argument in train_args(tones, exp)]
    command, messages = [sys.executable, "-m", "asrkit", *map(str, arguments), "--resume"], []
    for num_checkpoints in (1, 17, 31):
        process, seen = subprocess.Popen(command, stderr=subprocess.PIPE, text=True), set()
        while len(seen) <= num_checkpoints and process.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                seen.add((exp / "checkpoint.pt").stat().st_mtime_ns)
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        messages.append(process.communicate()[1])
        assert process.returncode == -signal.SIGKILL
    assert not (exp / "final.pt").exists()
    assert "training has not finished" in run_asrkit("transcribe", "--model", exp, "x.wav", check=False).stderr
    messages.append(run_asrkit(*arguments, "--resume").stderr)
    resumed = [re.search(r"^resuming after epoch (\d+)( and (\d+) batches)? of 14$", text, re.M) for text in messages]
    assert [match is not None for match in resumed] == [False, True, True, True]
    assert any(match[3] for match in resumed[1:])  # within an epoch

    whole, resumed = load_experiment(tones / "exp").model, load_experiment(exp).model
    for name, weights in whole.state_dict().items():
        assert weights.equal(resumed.state_dict()[name]), name
    histories = [(directory / "history.csv").read_text().splitlines() for directory in (tones / "exp", exp)]
    assert [line.rsplit(",", 1)[0] for line in histories[0]] == [line.rsplit(",", 1)[0] for line in histories[1]]
    assert histories[0][0].endswith(",cpu_seconds")
    assert len(histories[0]) == 15


def test_training_is_up_to_date_whatever_its_threads(tones, tmp_path):
    exp, config = tmp_path / "exp", tmp_path / "config.yaml"
    shutil.copytree(tones / "exp", exp)
    config.write_text((tones / "config.yaml").read_text().replace("training: {", "training: {num_threads: 2, "))
    arguments = [config if argument == tones / "config.yaml" else argument for argument in train_args(tones, exp)]
    assert "up to date" in run_asrkit(*arguments).stderr


@pytest.mark.slow
def test_training_from_python_is_what_the_command_does(tones, tmp_path):
    config = load_config(tones / "config.yaml", ExperimentConfig)
    data, lines = TrainingData.under(tones / "data"), []
    trained = train(data, tmp_path / "exp", config, report=lines.append)
    assert (tmp_path / "exp/final.pt").read_bytes() == (tones / "exp/final.pt").read_bytes()
    assert trained.directory == tmp_path / "exp"
    assert trained.result.dev_per == min(record.dev_per for record in trained.result.history)
    assert trained.export.path.is_file() and trained.excluded == {}
    assert re.fullmatch(r"\d+ parameters, 48 training utterances", lines[0])
    assert train(data, tmp_path / "exp", config).result is None  # up to date


@pytest.mark.slow
def test_frames_need_phone_times(tones, tmp_path):
    data, config = tmp_path / "dev", tmp_path / "config.yaml"
    config.write_text(
        "features: {cmvn: speaker}\nmodel: {num_layers: 1, hidden_size: 8, head: both}\n"
        "training: {num_epochs: 2, pretrain_epochs: 1, max_lr: 0.02, augment: {speeds: [], vtlp: 0, time_masks: 0}}\n"
    )
    shutil.copytree(tones / "data/dev", data)
    swap = {tones / "config.yaml": config, tones / "data/dev": data}
    arguments = [swap.get(argument, argument) for argument in train_args(tones, tmp_path / "exp")]
    trained = run_asrkit(*arguments).stderr
    assert re.search(r"^epoch 1/2: pre-training on frames, .*\nepoch 2/2: loss ", trained, re.M)
    (data / "phones.ctm").unlink()
    done = run_asrkit(*arguments, "--force", check=False)
    assert done.stderr == (
        f"asrkit train: error: {data}/phones.ctm: not found; model.head both learns from phone times; give data that "
        "has them, or take head ctc\n"
    )


@pytest.mark.slow
def test_a_refused_run_changes_nothing_and_a_new_one_takes_the_old_model_away(tones, tmp_path):
    exp, config = tmp_path / "exp", tmp_path / "config.yaml"
    shutil.copytree(tones / "exp", exp)
    before = {path.name: path.read_bytes() for path in exp.iterdir() if path.is_file()}
    config.write_text((tones / "config.yaml").read_text().replace("num_epochs: 14", "num_epochs: 10000"))
    arguments = [config if argument == tones / "config.yaml" else argument for argument in train_args(tones, exp)]
    assert "other settings or data" in run_asrkit(*arguments, "--resume", check=False).stderr
    assert {path.name: path.read_bytes() for path in exp.iterdir() if path.is_file()} == before
    (exp / "checkpoint.pt").unlink()
    process = subprocess.Popen([sys.executable, "-m", "asrkit", *map(str, arguments)], stderr=subprocess.DEVNULL)
    while not (exp / "checkpoint.pt").exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    process.wait()
    decode = run_asrkit("decode", "--model", exp, "--data", tones / "data/test", "--out", tmp_path / "out", check=False)
    assert "made by stage 3 (asrkit train)" in decode.stderr


def test_what_training_cannot_use_is_found_before_it_starts(tones, tmp_path):
    text, lm = tones / "data/train/text", tmp_path / "lm.arpa"
    data = tmp_path / "data"
    shutil.copytree(tones / "data/train", data)
    rows = text.read_text().splitlines()
    (data / "text").write_text("\n".join([rows[0].split()[0], *rows[2:], "zzz a\n"]))
    arguments = [
        data if argument == tones / "data/train" else argument for argument in train_args(tones, tmp_path / "e")
    ]
    done = run_asrkit(*arguments, check=False)
    assert [line.removeprefix(f"asrkit train: error: {data}/text: ") for line in done.stderr.splitlines()] == [
        f"{rows[0].split()[0]}: empty transcript; give its phones or remove it",
        f"no transcript for {rows[1].split()[0]}, which feats.scp has; repeat stage 1 (asrkit extract)",
        "no features for zzz; repeat stage 1 (asrkit extract)",
    ]
    lm.write_text((tones / "data/lm.arpa").read_text().replace("#", "+"))
    arguments = [
        lm if argument == tones / "data/lm.arpa" else argument for argument in train_args(tones, tmp_path / "e")
    ]
    assert "no unigrams for #" in run_asrkit(*arguments, check=False).stderr
    config = tmp_path / "config.yaml"
    config.write_text("model: {hidden_size: 4, stack: 100, skip: 100}\n")
    arguments = [
        config if argument == tones / "config.yaml" else argument for argument in train_args(tones, tmp_path / "e")
    ]
    done = run_asrkit(*arguments, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(f"no utterance is left to train on; see {tmp_path}/e/excluded.txt")
    assert "Traceback" not in done.stderr


def test_decoding_that_fails_leaves_no_older_hypotheses(tones, tmp_path):
    exp, data = tmp_path / "exp", tmp_path / "data"
    shutil.copytree(tones / "exp", exp)
    shutil.copytree(tones / "data/test", data)
    rows = (data / "feats.scp").read_text().splitlines()
    (data / "feats.scp").write_text("\n".join([*rows[:-1], f"{rows[-1]}99999", ""]))
    done = run_asrkit("decode", "--model", exp, "--data", data, "--out", exp / "decode_test", check=False)
    assert done.returncode == 1
    assert not (exp / "decode_test/hyp").exists()


def test_transcribe_needs_only_the_experiment(tones, tmp_path):
    exp = tmp_path / "elsewhere"
    exp.mkdir()
    shutil.copy(tones / "exp/final.pt", exp)
    files = sorted((tones / "audio").glob("test*.wav"))[:5]
    done = run_asrkit("transcribe", "--model", exp, *files)
    refs = read_transcripts(tones / "data/test/text")
    hyps = {line.split(" ")[0]: tuple(line.split(" ")[1:]) for line in done.stdout.splitlines()}
    assert list(hyps) == [str(file) for file in files]
    assert score({file.stem: refs[file.stem] for file in files}, {f.stem: hyps[str(f)] for f in files}).per < 15


def test_json_has_times_and_confidences(tones):
    file = tones / "audio/test0-0.wav"
    (line,) = run_asrkit("transcribe", "--json", "--model", tones / "exp", file).stdout.splitlines()
    found = json.loads(line)
    phones = found["phones"]
    assert found["file"] == str(file)
    assert " ".join(phone["phone"] for phone in phones) == text(Recognizer.load(tones / "exp"), file)
    assert all(0 < phone["confidence"] <= 1 for phone in phones)
    bounds = [bound for phone in phones for bound in (phone["start"], phone["end"])]
    assert bounds == sorted(bounds)
    assert 0 <= bounds[0] < bounds[-1] <= soundfile.info(file).duration
    # Each phone is emitted while its tone sounds, give or take a step and what the deltas see ahead.
    ctm = [row.split() for row in (tones / "data/test/phones.ctm").read_text().splitlines()]
    truth = [(float(start), float(start) + float(dur)) for utt_id, _, start, dur, _ in ctm if utt_id == "test0-0"]
    assert len(truth) == len(phones)
    for phone, (start, end) in zip(phones, truth, strict=True):
        assert start - 0.1 <= phone["start"]
        assert phone["end"] <= end + 0.15


def test_a_file_is_normalized_by_itself(tones):
    recognizer = Recognizer.load(tones / "exp")
    feats = FeatureLoader(tones / "data/test", replace(recognizer.features, cmvn="utterance"))["test0-0"]
    found = recognizer.extractor.full(read_audio(tones / "audio/test0-0.wav"), "test0-0")
    assert (recognizer.model.features.cmvn, recognizer.features.cmvn) == ("speaker", "utterance")
    np.testing.assert_array_equal(found, feats)


def test_times_stay_within_the_audio(tones):
    recognizer = Recognizer.load(tones / "exp")
    samples, rate = soundfile.read(tones / "audio/test0-0.wav", dtype="float32")
    num_phones = 0
    for length in range(2500, 8000, 79):  # cut off within phones as well as between them
        waveform = Waveform(samples[:length] * 32768, rate)
        times = recognizer.transcribe(waveform).times
        assert all(0 <= time.start < time.end <= waveform.duration for time in times)
        num_phones += len(times)
        assert recognizer.transcribe(waveform, with_times=False).times == ()
    assert num_phones > 50


def test_bad_files_get_a_line_each_and_the_others_are_transcribed(tones, tmp_path):
    good = tones / "audio/test0-0.wav"
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("these are words\n" * 50)
    (tmp_path / "folder.wav").mkdir()
    soundfile.write(tmp_path / "short.wav", np.zeros(160), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(16000, np.nan), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "stereo.wav", np.zeros((16000, 2)), 16000)
    bad = ["empty.wav", "text.wav", "folder.wav", "short.wav", "nan.wav", "stereo.wav", "absent.wav"]
    done = run_asrkit("transcribe", "--model", tones / "exp", *(tmp_path / name for name in bad), good, check=False)
    assert done.returncode == 1
    assert [line.split(" ")[0] for line in done.stdout.splitlines()] == [str(good)]
    # Without a C compiler there is a notice that has no part in this.
    errors = [line for line in done.stderr.splitlines() if "NumPy fallback" not in line]
    assert len(errors) == len(bad) + 1
    for name, line in zip(bad, errors, strict=False):
        assert line.startswith("asrkit transcribe: error: ")
        assert name in line
    assert errors[-1] == "asrkit transcribe: 7 of 8 files failed"


def test_any_rate_channel_and_coding_gives_the_same_phones(tones, tmp_path):
    samples, rate = soundfile.read(tones / "audio/test0-0.wav")
    soundfile.write(tmp_path / "x.flac", samples, rate)
    soundfile.write(tmp_path / "x.ogg", samples, rate)
    soundfile.write(tmp_path / "stereo.wav", np.stack([samples, samples], 1), rate, subtype="FLOAT")
    recognizer = Recognizer.load(tones / "exp")
    expected = text(recognizer, tones / "audio/test0-0.wav")
    assert text(recognizer, Waveform((samples * 32768).astype(np.float32), rate)) == expected
    assert text(recognizer, tmp_path / "x.flac") == text(recognizer, tmp_path / "x.ogg") == expected
    assert text(recognizer, tmp_path / "stereo.wav", channel="mix") == expected
    upsampled = np.interp(np.arange(len(samples) * 3) / 3, np.arange(len(samples)), samples)
    assert text(recognizer, Waveform((upsampled * 32768).astype(np.float32), 3 * rate)) == expected


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("train", "--train", "no/train", "--dev", "no/dev", "--tokens", "no/t", "--out", "e"), "made by stage 0"),
        (("decode", "--model", "no", "--data", "no", "--out", "o"), "made by stage 3 (asrkit train)"),
        (("transcribe", "--model", "no", "x.wav"), "no: no such model; train one (recipes/no/run.sh)"),
    ],
)
def test_a_missing_input_names_the_stage_that_makes_it(args, message):
    done = run_asrkit(*args, check=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_damaged_experiments_are_one_line(tones, tmp_path):
    (tmp_path / "final.pt").write_bytes((tones / "exp/final.pt").read_bytes()[:1000])
    done = run_asrkit("transcribe", "--model", tmp_path, "x.wav", check=False)
    assert done.returncode == 1
    told, error = done.stderr.splitlines()
    assert told.endswith("final.onnx: exporting the model, which takes some seconds and is done once")
    assert "final.pt: no digest at its end: cut short" in error
