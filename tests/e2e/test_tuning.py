"""Tuning, decoding with stored log-probabilities and the analysis of errors, through the command line."""

import csv
import json
import shutil

import pytest

import asrkit
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config, to_dict
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.experiment import load_experiment, update_decoding
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.recognizer import Recognizer
from asrkit.scoring.per import score
from asrkit.training import checkpoint

from .conftest import run_asrkit, train_args


@pytest.fixture(scope="module")
def tuned(tones, tmp_path_factory):
    """A copy of the experiment, decoded, tuned and decoded again on dev; and what tuning printed."""
    exp = tmp_path_factory.mktemp("tuned") / "exp"
    shutil.copytree(tones / "exp", exp)
    decode = ("decode", "--model", exp, "--data", tones / "data/dev", "--out", exp / "decode_dev", "--nj", 1)
    run_asrkit(*decode)
    done = run_asrkit(*tune_args(tones, exp), "--nj", 1)
    run_asrkit(*decode)
    return exp, done.stdout


def tune_args(tones, exp):
    return "tune", "--model", exp, "--data", tones / "data/dev", "--decode-dir", exp / "decode_dev"


def test_tuning_chooses_settings_that_decoding_then_uses(tones, tuned):
    exp, printed = tuned
    found = json.loads((exp / "tune/tune.json").read_text())
    recognizer = Recognizer.load(exp)
    config = recognizer.decoding
    assert to_dict(config) == found["winner"]
    assert load_config(exp / "config.yaml", ExperimentConfig).decoding == config
    assert load_config(exp / "decode_dev/decoding.yaml", DecodingConfig) == config
    assert load_experiment(exp).lm is not None
    assert recognizer.model.calibration not in (None, Calibration())
    (warning,) = found["warnings"]  # ten utterances
    number = sum(found["calibration"][name]["number"] for name in ("after", "elsewhere"))
    assert warning.startswith(f"{tones}/data/dev: of {number} phones found ")
    refs, hyps = read_transcripts(tones / "data/dev/text"), read_transcripts(exp / "decode_dev/hyp")
    assert score(refs, hyps).per == pytest.approx(found["total"]["per"])
    with open(exp / "tune/surface.csv", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert min(float(row["per"]) for row in rows) == pytest.approx(found["total"]["per"], abs=1e-3)
    assert (exp / "tune/surface.png").read_bytes().startswith(b"\x89PNG")
    assert printed.splitlines()[1:] == found["lines"]
    assert "% (optimistic: they were chosen on dev)" in printed
    assert (found["left_out"]["unit"], found["left_out"]["num_folds"]) == ("speakers", 2)
    assert found["left_out"]["total"]["num_ref"] == found["total"]["num_ref"]
    assert f"speakers left out of the choice: dev PER {found['left_out']['total']['per']:.2f} %" in printed
    assert "greedy search: dev PER" in printed
    with_penalty = f"greedy search, blank_penalty {config.blank_penalty:g}: dev PER"
    assert (with_penalty in printed) == (config.blank_penalty > 0)
    weights = load_experiment(tones / "exp").model.state_dict()
    assert all(value.equal(weights[name]) for name, value in load_experiment(exp).model.state_dict().items())


@pytest.mark.slow
def test_tuning_again_changes_nothing_and_training_does_not_undo_it(tones, tuned):
    exp, printed = tuned
    before = {path: path.stat().st_mtime_ns for path in exp.rglob("*")}
    again = run_asrkit(*tune_args(tones, exp))
    assert again.stdout.splitlines()[0].endswith("tuning is up to date")
    assert again.stdout.splitlines()[1:] == printed.splitlines()[1:]
    run_asrkit(*train_args(tones, exp))
    run_asrkit("decode", "--model", exp, "--data", tones / "data/dev", "--out", exp / "decode_dev")
    assert {path: path.stat().st_mtime_ns for path in exp.rglob("*")} == before
    final = (exp / "final.pt").read_bytes()
    run_asrkit(*tune_args(tones, exp), "--force", "--nj", 2)
    assert (exp / "final.pt").read_bytes() == final


@pytest.mark.slow
def test_another_decoding_section_undoes_tuning_and_tuning_sees_it(tones, tuned, tmp_path):
    exp, config = tmp_path / "exp", tmp_path / "config.yaml"
    shutil.copytree(tuned[0], exp)
    config.write_text((tones / "config.yaml").read_text().replace("beam: 8", "beam: 3"))
    arguments = [config if argument == tones / "config.yaml" else argument for argument in train_args(tones, exp)]
    run_asrkit(*arguments)
    assert Recognizer.load(exp).decoding.beam == 3
    assert Recognizer.load(exp).model.calibration is None
    assert "up to date" not in run_asrkit(*tune_args(tones, exp)).stdout
    assert Recognizer.load(exp).decoding == Recognizer.load(tuned[0]).decoding


@pytest.mark.slow
def test_log_probabilities_are_kept_while_weights_and_features_are(tones, tuned, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(tuned[0], exp)
    log_probs = exp / "decode_dev/log_probs.ark"
    before = log_probs.stat().st_mtime_ns
    decode = ("decode", "--model", exp, "--data", tones / "data/dev")
    run_asrkit(*decode, "--out", exp / "decode_dev", "--beam", 2, "--lm-weight", 0.5, "--insertion-bonus", -1)
    settings = load_config(exp / "decode_dev/decoding.yaml", DecodingConfig)
    assert (settings.beam, settings.lm_weight, settings.insertion_bonus) == (2, 0.5, -1.0)
    greedy = ("--method", "greedy", "--out", tmp_path / "greedy", "--log-probs", exp / "decode_dev")
    run_asrkit(*decode, *greedy)
    assert "up to date" in run_asrkit(*decode, *greedy).stderr
    assert log_probs.stat().st_mtime_ns == before
    assert sorted(path.name for path in (tmp_path / "greedy").iterdir()) == [".decode.stamp", "decoding.yaml", "hyp"]
    assert len(read_transcripts(tmp_path / "greedy/hyp")) == 10
    run_asrkit(*decode, "--out", exp / "decode_dev", "--cmvn", "utterance")
    assert log_probs.stat().st_mtime_ns > before
    shutil.copytree(tones / "data/dev", tmp_path / "data")
    rows = (tmp_path / "data/utt2spk").read_text().replace("dev0-0 dev0", "dev0-0 dev1")
    (tmp_path / "data/utt2spk").write_text(rows)
    stale = ("tune", "--model", exp, "--data", tmp_path / "data", "--decode-dir", exp / "decode_dev")
    refused = run_asrkit(*stale, check=False)
    assert refused.returncode == 1
    assert "not of this experiment and data as they are now; made by stage 4 (asrkit decode" in refused.stderr


@pytest.mark.slow
def test_python_decodes_and_tunes_as_the_command_does(tones, tuned, tmp_path):
    exp, dev = tuned[0], tones / "data/dev"
    decoding = asrkit.decode(exp, dev, tmp_path, asrkit.DecodeOptions(log_probs=exp / "decode_dev"))
    assert decoding.is_new
    assert (tmp_path / "hyp").read_bytes() == (exp / "decode_dev/hyp").read_bytes()
    tuning = asrkit.tune(exp, asrkit.DecodedSet(dev, exp / "decode_dev"))
    assert (list(tuning.lines), tuning.is_new) == (tuned[1].splitlines()[1:], False)


@pytest.mark.slow
def test_n_best_lists_begin_with_the_hypotheses(tones, tuned, tmp_path):
    exp = tuned[0]
    decode = ("decode", "--model", exp, "--data", tones / "data/dev", "--out", tmp_path)
    run_asrkit(*decode, "--nbest", 4, "--log-probs", exp / "decode_dev")
    rows = [json.loads(line) for line in (tmp_path / "nbest.jsonl").read_text(encoding="utf-8").splitlines()]
    hyps = read_transcripts(tmp_path / "hyp")
    assert hyps == read_transcripts(exp / "decode_dev/hyp")
    assert {row["utt"]: tuple(row["phones"]) for row in rows if row["rank"] == 1} == hyps
    assert [row["rank"] for row in rows] == [1, 2, 3, 4] * len(hyps)
    recognizer = Recognizer.load(exp)
    config, lm = recognizer.decoding, load_experiment(exp).lm
    for row in rows:
        assert row["lm_log_prob"] == pytest.approx(lm.score(row["phones"]) if config.lm_weight else 0.0, abs=1e-5)
        parts = row["ctc_log_prob"] + config.lm_weight * row["lm_log_prob"]
        assert row["score"] == pytest.approx(parts + config.insertion_bonus * len(row["phones"]), abs=1e-5)
    refused = run_asrkit(*decode, "--nbest", 4, "--beam", 3, check=False)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert "--nbest 4" in refused.stderr
    refused = run_asrkit(*decode, "--method", "greedy", "--beam", 3, "--lm-weight", 1, check=False)
    assert "--beam --lm-weight: greedy search has no such setting" in refused.stderr
    refused = run_asrkit(*decode, "--method", "beam", "--blank-penalty", 1, check=False)
    assert "--blank-penalty: beam search has no such setting; leave it out or give --method greedy" in refused.stderr
    assert read_transcripts(tmp_path / "hyp") == hyps  # what is refused leaves earlier results
    assert (tmp_path / "nbest.jsonl").exists()


@pytest.mark.slow
def test_without_a_language_model_its_weight_is_refused(tones, tmp_path):
    exp = tmp_path / "exp"
    shutil.copytree(tones / "exp", exp)
    update_decoding(exp, load_experiment(exp).config.decoding)
    (exp / ".train.stamp").unlink()  # the test did this, not asrkit train
    decode = ("decode", "--model", exp, "--data", tones / "data/dev", "--out", tmp_path / "out")
    refused = run_asrkit(*decode, "--lm-weight", 0.5, check=False)
    assert (refused.returncode, len(refused.stderr.splitlines())) == (1, 1)
    assert f"--lm-weight 0.5: {exp} has no language model" in refused.stderr
    run_asrkit(*decode, "--lm-weight", 0)


@pytest.mark.slow
def test_tuning_takes_one_speaker_and_a_network_that_finds_no_phones(tones, tmp_path):
    exp, data = tmp_path / "exp", tmp_path / "data"
    shutil.copytree(tones / "exp", exp)
    shutil.copytree(tones / "data/dev", data)
    utts = [*read_transcripts(data / "text")]
    (data / "utt2spk").write_text("".join(f"{utt} {utts[0]}\n" for utt in utts))
    saved = checkpoint.load(exp / "final.pt")
    saved["model"]["output.bias"][0] += 100.0  # the blank
    saved["config"] = saved["config"].replace("cmvn: speaker", "cmvn: utterance")
    checkpoint.save(exp / "final.pt", saved)
    (exp / ".train.stamp").unlink()  # the test did this, not asrkit train
    run_asrkit("decode", "--model", exp, "--data", data, "--out", exp / "decode_dev")
    done = run_asrkit("tune", "--model", exp, "--data", data, "--decode-dir", exp / "decode_dev")
    assert "utterances (there is one speaker) left out of the choice: dev PER 100.00 %" in done.stdout
    assert done.stdout.splitlines()[-1] == "confidences: no phones were found to calibrate them on"
    assert "dev PER 100.00 %" in done.stdout


def test_the_analysis_is_of_what_was_decoded(tones, tuned):
    exp = tuned[0]
    run_asrkit("decode", "--model", exp, "--data", tones / "data/test", "--out", exp / "decode_test")
    analyze = ("analyze", "--model", exp, "--data", tones / "data/test", "--decode-dir", exp / "decode_test")
    done = run_asrkit(*analyze)
    found = json.loads((exp / "decode_test/analysis.json").read_text())
    result = score(read_transcripts(tones / "data/test/text"), read_transcripts(exp / "decode_test/hyp"))
    assert found["line"] == result.line()
    assert sum(row["num_errors"] for row in found["classes"]) == result.num_errors
    assert found["num_wrong"] == sum(counts.num_errors > 0 for counts in result.per_utt.values())
    assert found["confidence"]["calibrated"]
    assert found["confidence"]["phones"]["number"] == result.num_hyp
    assert (exp / "decode_test/reliability.png").read_bytes().startswith(b"\x89PNG")
    again = run_asrkit(*analyze)
    assert again.stdout.splitlines()[0].endswith("analysis.txt: up to date")
    assert again.stdout.splitlines()[1:] == done.stdout.splitlines()[1:]
    analysis = asrkit.analyze(exp, asrkit.DecodedSet(tones / "data/test", exp / "decode_test"))
    assert (analysis.text.splitlines(), analysis.is_new) == (done.stdout.splitlines()[1:], False)
    greedy = ("--method", "greedy", "--out", exp / "greedy", "--log-probs", exp / "decode_test")
    run_asrkit("decode", "--model", exp, "--data", tones / "data/test", *greedy)
    refused = run_asrkit("analyse", *analyze[1:-1], exp / "greedy", check=False)
    assert "expected beam search" in refused.stderr


def test_symbols_that_look_like_the_models_are_named_and_references_without_phones_have_no_rate(tones, tuned, tmp_path):
    exp, data = tmp_path / "exp", tmp_path / "data"
    shutil.copytree(tuned[0], exp)
    shutil.copytree(tones / "data/dev", data)
    run_asrkit("decode", "--model", exp, "--data", data, "--out", exp / "decode_dev")
    text = (data / "text").read_text(encoding="utf-8")
    cyrillic = "\u0430"
    (data / "text").write_text(text.replace(" a", f" {cyrillic}"), encoding="utf-8")
    tune = ("tune", "--model", exp, "--data", data, "--decode-dir", exp / "decode_dev")
    analyze = ("analyze", *tune[1:])
    for verb in (tune, tune, analyze, analyze):  # the second time it is up to date
        told = run_asrkit(*verb).stderr
        assert (
            f"asrkit {verb[0]}: warning: phones that look alike but are of different characters (a): U+0061 in" in told
        )
        assert "U+0430 in" in told
    refused = run_asrkit("align", "--model", exp, "--data", data, check=False)
    assert (
        f"phones that the model does not have: {cyrillic} (U+0430, which looks like a, U+0061); it has"
        in refused.stderr
    )
    (data / "text").write_text("".join(f"{row.split()[0]} sil\n" for row in text.splitlines()), encoding="utf-8")
    for verb in (tune, analyze):
        refused = run_asrkit(*verb, "--protocol", "no-silence", check=False)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"{data}/text: no phone to score is left by protocol no-silence; it holds sil" in refused.stderr
