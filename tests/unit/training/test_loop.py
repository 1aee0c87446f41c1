"""The loop learns, names what it cannot use, ends when it should, and resumes to the same weights."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config
from asrkit.errors import ConfigError, ModelError
from asrkit.lang.tokens import TokenTable
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.models.decoder_config import DecoderConfig
from asrkit.training import checkpoint, loop
from asrkit.training.config import TrainingConfig
from asrkit.training.dataset import TrainingSet, min_steps, split_infeasible
from asrkit.training.loop import Evaluation, TrainingSets, evaluate, train
from asrkit.training.optim import AdamW
from asrkit.training.state import read_history
from tests.presets import PRESETS, each_kind

TOKENS = TokenTable(["a", "b", "c"])
CONFIG = TrainingConfig(num_epochs=3, batch_size=4, max_lr=0.02, warmup=0.12, weight_decay=0.01, input_noise=0.1)


def make_data(num_utts, seed):
    """Utterances in which each phone is a stretch of frames of its own colour."""
    rng = np.random.default_rng(seed)
    feats, tokens, labels = {}, {}, {}
    for index in range(num_utts):
        ids = rng.integers(1, 4, rng.integers(2, 6)).tolist()
        colours = [0] * 3
        for token in ids:
            colours += [token] * int(rng.integers(4, 9)) + [0] * 3
        utt_id = f"utt{index:02d}"
        feats[utt_id] = (np.eye(4)[colours] + rng.normal(0, 0.1, (len(colours), 4))).astype(np.float32)
        tokens[utt_id] = ids
        labels[utt_id] = np.where(np.array(colours) > 0, colours, -1)
    return TrainingSet(feats, {utt_id: len(matrix) for utt_id, matrix in feats.items()}, tokens, labels)


DECODER = DecoderConfig(hidden_size=16, embedding_size=8, attention_size=16, dropout=0.1)
TRANSFORMER = DecoderConfig(layers="transformer", hidden_size=16, num_heads=2, feed_forward_size=32, dropout=0.1)
TRANSDUCER = DecoderConfig(hidden_size=16, embedding_size=8, dropout=0.1)


def make_model(seed=1, **settings):
    torch.manual_seed(seed)
    sizes = {"num_layers": 1, "hidden_size": 16, "dropout": 0.1, "stack": 3, "skip": 3, "self_conditioning": False}
    config = ModelConfig(**{**sizes, "decoder": DECODER, **settings})
    return AcousticModel(config, feat_dim=4, num_tokens=len(TOKENS))


def copy_of(model):
    return {name: weights.clone() for name, weights in model.state_dict().items()}


def assert_equal(weights, others):
    assert weights.keys() == others.keys()
    assert [name for name in weights if not torch.equal(weights[name], others[name])] == []


def pers_are(monkeypatch, pers, losses=None, blank=()):
    """Have evaluate() give these dev PERs and losses, in the blank phase in the epochs `blank`.

    Returns: the weights that it saw, and whether it was asked for frames.
    """
    found = iter(
        zip(pers, losses or itertools.repeat(1.0), (epoch in blank for epoch in itertools.count(1)), strict=False)
    )
    weights, on_frames = [], []

    def evaluate_as_told(model, data, tokens, on_frames_=False, **options):
        weights.append(copy_of(model))
        on_frames.append(options.get("on_frames", on_frames_))
        per, loss, is_blank = next(found)
        return Evaluation(loss, per, is_blank)

    monkeypatch.setattr(loop, "evaluate", evaluate_as_told)
    return weights, on_frames


def test_it_learns_an_easy_task(tmp_path):
    config = TrainingConfig(num_epochs=12, batch_size=4, max_lr=0.02, warmup=0.12, weight_decay=0.01, input_noise=0.1)
    model, dev_set = make_model(), make_data(16, 2)
    result = train(model, config, TrainingSets(make_data(48, 1), dev_set, TOKENS), tmp_path, "run")
    assert result.history[0].dev_per > 50
    assert result.dev_per == min(record.dev_per for record in result.history) < 5
    assert evaluate(model, dev_set, TOKENS)[1] == result.dev_per


def test_it_learns_from_frames_alone(tmp_path):
    config = TrainingConfig(num_epochs=8, batch_size=4, max_lr=0.02, warmup=0.12, weight_decay=0.01, input_noise=0.1)
    model, dev_set = make_model(head="frames"), make_data(16, 2)
    first = evaluate(model, dev_set, TOKENS)[0]
    assert first == pytest.approx(np.log(3), abs=0.3)  # nats a labelled step
    result = train(model, config, TrainingSets(make_data(48, 1), dev_set, TOKENS), tmp_path, "run")
    assert result.history[-1].dev_loss < 0.1
    assert result.history[-1].train_loss < 0.2
    # A step without a phone has to be taken for one, and two equal neighbours for one: not all is found.
    assert result.dev_per < 40


@pytest.mark.slow
def test_a_transducer_learns_an_easy_task(tmp_path):
    model, dev_set = make_model(head="transducer", decoder=TRANSDUCER), make_data(16, 2)
    result = train(
        model, replace(CONFIG, num_epochs=20), TrainingSets(make_data(64, 1), dev_set, TOKENS), tmp_path, "run"
    )
    assert result.history[-1].dev_loss < 0.5 * result.history[0].dev_loss
    assert result.dev_per < 40
    assert evaluate(model, dev_set, TOKENS)[1] == result.dev_per


@pytest.mark.slow
@pytest.mark.parametrize(("reading", "most_loss", "most_per"), [("soft", 0.7, 30), ("hard", 0.9, 80)])
def test_a_decoder_learns_an_easy_task(tmp_path, reading, most_loss, most_per):
    """Each phone is a stretch of its own colour: to spell them, the decoder has to look at one after another."""
    config = replace(CONFIG, num_epochs=20, sampling=0.1)
    model, dev_set = make_model(head="attention", decoder=replace(DECODER, reading=reading)), make_data(16, 2)
    result = train(model, config, TrainingSets(make_data(64, 1), dev_set, TOKENS), tmp_path, "run")
    assert result.history[-1].train_loss < result.history[0].train_loss
    assert result.history[-1].dev_loss < most_loss * result.history[0].dev_loss
    assert result.dev_per < most_per
    assert evaluate(model, dev_set, TOKENS)[1] == result.dev_per


@pytest.mark.parametrize("schedule", ["plateau", "newbob", "noam", "constant"])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_optimizer_and_schedule_lowers_the_loss(tmp_path, optimizer, schedule):
    rate = {"adamw": 0.02, "sgd": 0.3}[optimizer]
    config = TrainingConfig(
        num_epochs=4, batch_size=4, max_lr=rate, warmup=0.12, weight_decay=0.01, optimizer=optimizer, schedule=schedule
    )
    data = make_data(24, 1)
    history = train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run").history
    assert history[-1].train_loss < 0.75 * history[0].train_loss
    assert history[-1].learning_rate == rate if schedule == "constant" else 0 < history[-1].learning_rate <= rate


def test_the_weights_of_the_best_epoch_are_kept(tmp_path, monkeypatch):
    weights, _ = pers_are(monkeypatch, [50.0, 10.0, 30.0])
    model, data = make_model(), make_data(8, 1)
    result = train(model, CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert_equal(copy_of(model), weights[1])
    assert not torch.equal(weights[1]["output.weight"], weights[2]["output.weight"])
    assert result.dev_per == 10.0
    assert [path.name for path in tmp_path.glob("best.*")] == ["best.2.pt"]


def test_the_mean_of_the_best_epochs_is_kept(tmp_path, monkeypatch):
    weights, _ = pers_are(monkeypatch, [50.0, 10.0, 30.0, 7.0])
    model, data = make_model(), make_data(8, 1)
    config = replace(CONFIG, select="average", keep_best=2)
    result = train(model, config, TrainingSets(data, data, TOKENS), tmp_path, "run")
    for name, values in model.state_dict().items():
        torch.testing.assert_close(values, (weights[1][name] + weights[2][name]) / 2)
    assert_equal(copy_of(model), weights[3])  # evaluated last
    assert result.dev_per == 7.0


def test_averaged_weights_are_evaluated_and_kept(tmp_path, monkeypatch):
    own, (weights, _) = [], pers_are(monkeypatch, [50.0, 10.0, 30.0])
    clip_gradients = loop.clip_gradients

    def note_weights(model, config):
        own.append(copy_of(model))
        return clip_gradients(model, config)

    monkeypatch.setattr(loop, "clip_gradients", note_weights)
    model, data = make_model(), make_data(8, 1)
    train(model, replace(CONFIG, select="ema", ema_decay=0.6), TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert_equal(copy_of(model), weights[1])
    expected = own[0]["output.weight"]
    for number, values in enumerate(own[1:5], start=1):  # after updates 1 to 4: the end of the second epoch
        factor = min(0.6, (1 + number) / (10 + number))
        expected = factor * expected + (1 - factor) * values["output.weight"]
    torch.testing.assert_close(weights[1]["output.weight"], expected)


@pytest.mark.parametrize(
    ("pers", "num_epochs"),
    [([50, 40, 45, 40, 30], 4), ([50, 40, 45, 30, 35, 35], 6), ([70, 80, 80, 80, 99, 100, 101], 7), ([9] * 8, 3)],
)
def test_early_stopping(tmp_path, monkeypatch, pers, num_epochs):
    """Two epochs without a lower PER, counted from the end of the blank phase."""
    pers_are(monkeypatch, pers, blank=(1, 2, 3, 4) if pers[0] == 70 else ())
    data = make_data(4, 1)
    config = replace(CONFIG, num_epochs=len(pers), early_stopping=2)
    assert len(train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run").history) == num_epochs


def test_weights_are_chosen_by_loss_in_the_blank_phase_and_by_per_after_it(tmp_path, monkeypatch):
    """Epoch 2 has the lowest PER of all, an accident; of the epochs that listen epoch 6 has the lowest."""
    pers, losses = [95, 70, 96, 80, 90, 75, 78], [9, 5, 4, 8, 7, 6, 3]
    for last, blank, best in [(3, (1, 2, 3), 3), (4, (1, 2, 3), 4), (5, (1, 2, 3), 4), (7, (1, 2, 3, 5), 6)]:
        weights, _ = pers_are(monkeypatch, pers[:last], losses, blank)
        model, data = make_model(), make_data(4, 1)
        config = replace(CONFIG, num_epochs=last, keep_best=2)
        result = train(model, config, TrainingSets(data, data, TOKENS), tmp_path / f"{last}", "run")
        assert_equal(copy_of(model), weights[best - 1])
        assert result.dev_per == pers[best - 1]
        kept = [int(path.name.split(".")[1]) for path in (tmp_path / f"{last}").glob("best.*")]
        assert sorted(kept) == {3: [2, 3], 4: [4], 5: [4, 5], 7: [6, 7]}[last]


def test_the_schedule_follows_per_from_the_end_of_the_blank_phase(tmp_path, monkeypatch):
    pers_are(monkeypatch, [70, 80, 80, 80, 90, 90, 90], blank=(1, 2, 3))
    data = make_data(4, 1)
    config = replace(CONFIG, num_epochs=7, schedule="plateau", schedule_metric="per", lr_patience=0, max_lr=0.08)
    history = train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run").history
    assert [record.learning_rate for record in history] == [0.08, 0.08, 0.08, 0.08, 0.08, 0.04, 0.02]


@pytest.mark.parametrize(
    ("num_epochs", "blank", "told_after"),
    [(16, range(1, 17), [4, 16]), (16, range(1, 4), []), (16, range(1, 9), [4]), (4, range(1, 5), [3, 4]),
     (3, range(1, 4), [3]), (16, range(2, 17), [])],
)  # fmt: skip
def test_a_long_blank_phase_is_warned_of_once_and_at_the_end(
    tmp_path, monkeypatch, capsys, num_epochs, blank, told_after
):
    pers_are(monkeypatch, [90.0] * num_epochs, blank=blank)
    data = make_data(4, 1)
    train(make_model(), replace(CONFIG, num_epochs=num_epochs), TrainingSets(data, data, TOKENS), tmp_path, "run")
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    start = "warning: after {} epochs the output on dev has little to do with the audio (the blank phase); check that"
    assert [line[: line.index(" transcripts")] for line in lines] == [start.format(epoch) for epoch in told_after]


def test_a_network_that_cannot_listen_stays_in_the_blank_phase(tmp_path, capsys):
    """With a frame of noise for each frame of colour there is nothing to learn but what phones are frequent."""
    data, dev_set = make_data(24, 1), make_data(12, 2)
    for feats in itertools.chain(data.feats.values(), dev_set.feats.values()):
        feats[:] = np.random.default_rng(1).normal(size=feats.shape)
    config = replace(CONFIG, num_epochs=4, schedule="constant")
    history = train(make_model(), config, TrainingSets(data, dev_set, TOKENS), tmp_path, "run").history
    assert [record.blank_phase for record in history] == [True] * 4
    assert "warning: after 4 epochs" in capsys.readouterr().err


def test_the_schedule_can_end_training(tmp_path, monkeypatch):
    pers_are(monkeypatch, [50] * 9)  # with a loss of 1 each
    data = make_data(4, 1)
    config = replace(CONFIG, num_epochs=9, schedule="plateau", lr_patience=1, max_lr=0.08, min_lr=0.02)
    history = train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run").history
    assert [record.learning_rate for record in history] == [0.08, 0.08, 0.08, 0.04, 0.04, 0.02, 0.02]


def test_weight_noise_comes_in_the_second_phase_from_the_best_weights(tmp_path, monkeypatch):
    weights, _ = pers_are(monkeypatch, [50, 20, 30, 30, 25, 10, 28, 29])
    noises, starts, noise, end_epoch = [], {}, loop.weight_noise, loop.TrainingState.end_epoch

    def note_noise(model, std):
        noises.append(std)
        return noise(model, std)

    def note_start(state, record):
        end_epoch(state, record)
        starts[state.epoch] = copy_of(state.model), state.optimizer.state_dict()["state"]

    monkeypatch.setattr(loop, "weight_noise", note_noise)
    monkeypatch.setattr(loop.TrainingState, "end_epoch", note_start)
    model, data = make_model(), make_data(4, 1)
    config = replace(CONFIG, num_epochs=6, early_stopping=2, weight_noise=0.05, two_phase=True, schedule="constant")
    history = train(model, config, TrainingSets(data, data, TOKENS), tmp_path, "run").history
    assert [record.phase for record in history] == [1, 1, 1, 1, 2, 2, 2, 2]
    assert noises == [0.0] * 4 + [0.05] * 4
    assert_equal(starts[5][0], weights[1])
    assert starts[5][1] == {}
    assert starts[4][1] != {}
    assert_equal(copy_of(model), weights[5])


@pytest.mark.parametrize("average", [{}, {"select": "ema", "ema_decay": 0.5}])
def test_after_pretraining_ctc_begins_with_the_frames_output(tmp_path, monkeypatch, average):
    weights, end_epoch, after = [], loop.TrainingState.end_epoch, []

    def note_end(state, record):
        weights.append(copy_of(state.model))
        end_epoch(state, record)
        after.append(copy_of(state.model))
        with state.evaluated_weights():
            after.append(copy_of(state.model))

    monkeypatch.setattr(loop.TrainingState, "end_epoch", note_end)
    data, config = make_data(4, 1), replace(CONFIG, pretrain_epochs=2, **average)
    train(make_model(head="both"), config, TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert_equal({**after[0], "output.weight": weights[0]["output.weight"]}, weights[0])
    for found in after[2:4]:
        for name in ("weight", "bias"):
            assert torch.equal(found[f"output.{name}"][1:], found[f"frame_output.{name}"])
            assert torch.equal(found[f"output.{name}"][:1], weights[0][f"output.{name}"][:1])
        assert not torch.equal(found["frame_output.weight"], weights[0]["frame_output.weight"])
    assert torch.equal(after[2]["frame_output.weight"], after[3]["frame_output.weight"]) == (not average)


def test_pretraining_is_on_frames_and_counts_for_nothing(tmp_path, monkeypatch):
    weights, on_frames = pers_are(monkeypatch, [1, 2, 3, 50, 40, 45, 45, 45])
    frame_weights, real = [], loop.compute_gradients

    def note_weight(model, batch, offsets, frame_weight, *rest):
        frame_weights.append(frame_weight)
        return real(model, batch, offsets, frame_weight, *rest)

    monkeypatch.setattr(loop, "compute_gradients", note_weight)
    data, model = make_data(4, 1), make_model(head="both")
    config = replace(CONFIG, num_epochs=8, pretrain_epochs=3, early_stopping=2, frame_weight=0.2)
    result = train(model, config, TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert [record.phase for record in result.history] == [0, 0, 0, 1, 1, 1, 1]
    assert on_frames == [True] * 3 + [False] * 4
    assert frame_weights == [1.0] * 3 + [0.2] * 4
    assert result.dev_per == 40
    assert_equal(copy_of(model), weights[4])


@pytest.mark.parametrize("clip_norm", [0.01, 1e6])
def test_gradients_are_clipped_before_each_update(tmp_path, monkeypatch, clip_norm):
    norms, step = [], AdamW.step

    def note_norm(optimizer, *args):
        gradients = [p.grad.ravel() for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())
        return step(optimizer, *args)

    monkeypatch.setattr(AdamW, "step", note_norm)
    config, data = TrainingConfig(num_epochs=2, batch_size=4, clip_norm=clip_norm), make_data(8, 1)
    history = train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run").history
    assert len(norms) == 4
    if clip_norm == 0.01:
        assert norms == pytest.approx([0.01] * 4, rel=1e-3)
    else:
        assert min(norms) > 0.1
        assert [record.gradient_norm for record in history] == pytest.approx(
            [(norms[0] + norms[1]) / 2, (norms[2] + norms[3]) / 2]
        )


@pytest.mark.parametrize("input_noise", [0.0, 0.5])
def test_noise_is_added_to_the_features_in_training_alone(tmp_path, monkeypatch, input_noise):
    fed = {True: [], False: []}
    model, data = make_model(), make_data(1, 1)
    feats, outputs = torch.from_numpy(data.feats["utt00"]), AcousticModel.outputs

    def note_input(self, batch_feats, *args):
        fed[self.training].append(batch_feats[0] - feats)
        return outputs(self, batch_feats, *args)

    monkeypatch.setattr(AcousticModel, "outputs", note_input)
    config = TrainingConfig(num_epochs=6, input_noise=input_noise)
    train(model, config, TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert [len(added) for added in fed.values()] == [6, 6]
    assert not torch.stack(fed[False]).any()
    noise = torch.stack(fed[True])  # (6, T, 4): another one in each epoch
    assert noise.std().item() == pytest.approx(input_noise, rel=0.1)
    assert abs(noise.mean().item()) < 0.05
    assert noise.std(0).mean().item() == pytest.approx(input_noise, rel=0.15)


@pytest.mark.parametrize(("num_epochs", "expected"), [(1, [0.0]), (5, [0.0, 0.1, 0.2, 0.3, 0.4])])
def test_teacher_forcing_is_lowered_from_epoch_to_epoch(tmp_path, monkeypatch, num_epochs, expected):
    """The decoder sees more and more phones of its own, up to `sampling` in the last epoch."""
    found, real = [], loop.compute_gradients

    def note(model, batch, offsets, frame_weight, bf16, decoder):
        found.append(decoder)
        return real(model, batch, offsets, frame_weight, bf16, decoder)

    monkeypatch.setattr(loop, "compute_gradients", note)
    config, data = replace(CONFIG, num_epochs=num_epochs, sampling=0.4, label_smoothing=0.2), make_data(4, 1)
    train(make_model(head="joint"), config, TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert [each.sampling for each in found] == pytest.approx(expected)
    assert {(each.weight, each.label_smoothing) for each in found} == {(0.7, 0.2)}


class Killed(Exception):
    pass


def without_cpu_seconds(history):
    return [replace(record, cpu_seconds=0) for record in history]


EVERY_BATCH = 1e-9  # checkpoint_minutes
RUNS = {
    "default": ({}, CONFIG),
    "transformer": ({"encoder": "transformer", "feed_forward_size": 32}, replace(CONFIG, num_epochs=2)),
    "conformer": ({"encoder": "conformer", "feed_forward_size": 32}, replace(CONFIG, num_epochs=2)),
    "recurrent weights dropped": ({}, replace(CONFIG, weight_drop=0.3)),
    "truncated": ({"bidirectional": False}, replace(CONFIG, num_epochs=2, bptt_steps=4)),
    "joint": ({"head": "joint"}, replace(CONFIG, num_epochs=2, sampling=0.3)),
    "hard attention": (
        {"head": "attention", "decoder": replace(DECODER, reading="hard")},
        replace(CONFIG, num_epochs=2, sampling=0.3, label_smoothing=0.0),
    ),
    "transformer decoder": ({"head": "joint", "decoder": TRANSFORMER}, replace(CONFIG, num_epochs=2, sampling=0.3)),
    "transducer": ({"head": "joint_transducer", "decoder": TRANSDUCER}, replace(CONFIG, num_epochs=2)),
    "averaged": ({}, replace(CONFIG, select="average", keep_best=2, weight_noise=0.02, optimizer="sgd")),
    "two phases": (
        {"head": "both"},
        replace(
            CONFIG,
            pretrain_epochs=1,
            early_stopping=1,
            two_phase=True,
            weight_noise=0.02,
            select="ema",
            ema_decay=0.9,
            schedule="plateau",
            lr_patience=0,
            clip_value=0.1,
        ),
    ),
}
SELDOM = ("default", "two phases")  # are quickly tried with few checkpoints, too


@pytest.mark.parametrize(
    ("minutes", "run"),
    [
        *((EVERY_BATCH, run) for run in RUNS),
        *((2.0, run) for run in SELDOM),
        *(pytest.param(2.0, run, marks=pytest.mark.slow) for run in RUNS if run not in SELDOM),
    ],
)
def test_killed_and_resumed_ends_with_the_same_weights(tmp_path, monkeypatch, run, minutes):
    """Killed again and again: within epochs, and before and after any file of weights or checkpoint is written."""
    settings, config = RUNS[run]
    train_set, dev_set = make_data(24, 1), make_data(6, 2)
    whole = make_model(**settings)
    expected = train(whole, config, TrainingSets(train_set, dev_set, TOKENS), tmp_path / "whole", "run")

    assert {record.phase for record in expected.history} == ({0, 1, 2} if run == "two phases" else {1})
    if not (whole.config.has_attention or whole.config.heads.has_decoder or config.bptt_steps):
        assert [record.blank_phase for record in expected.history][:2] == [run != "two phases", False]

    config, real_step, real_save = replace(config, checkpoint_minutes=minutes), loop.compute_gradients, checkpoint.save
    rng, lives = np.random.default_rng(3), 0
    calls = itertools.count(1)
    death = 4

    def step(*args):
        if next(calls) == death:
            raise Killed
        return real_step(*args)

    def save(*args):
        if next(calls) == death:
            raise Killed
        real_save(*args)
        if next(calls) == death:
            raise Killed

    monkeypatch.setattr(loop, "compute_gradients", step)
    monkeypatch.setattr(checkpoint, "save", save)
    while True:
        lives += 1
        resumed = make_model(seed=lives, **settings)  # the weights come from the checkpoint, if there is one
        if not (tmp_path / "killed/checkpoint.pt").exists():
            resumed = make_model(**settings)
        try:
            found = train(resumed, config, TrainingSets(train_set, dev_set, TOKENS), tmp_path / "killed", "run")
            break
        except Killed:
            death = next(calls) + int(rng.integers(4, 8) if minutes == EVERY_BATCH else rng.integers(8, 20))
    assert lives > (5 if minutes == EVERY_BATCH else 2)
    assert_equal(copy_of(whole), copy_of(resumed))
    assert without_cpu_seconds(found.history) == without_cpu_seconds(expected.history)
    assert found.dev_per == expected.dev_per
    names = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == names


@each_kind(PRESETS)
def test_a_preset_that_is_killed_and_resumed_ends_with_the_same_weights(tmp_path, monkeypatch, path):
    """Its network with small layers, by its training; killed in its last batch, after the checkpoint before that."""
    preset = load_config(path, ExperimentConfig)
    width = 16 * (1 + preset.model.bidirectional)  # of the encoder's outputs, as score dot needs it
    sizes = {"hidden_size": 16, "num_layers": 2, "conv_channels": 2, "tdnn_size": 8}
    sizes |= {"feed_forward_size": 16} if preset.model.has_attention else {}
    model_config = replace(preset.model, **sizes, decoder=replace(preset.model.decoder, hidden_size=width))
    config = replace(
        preset.training,
        num_epochs=1 + bool(preset.training.pretrain_epochs),
        pretrain_epochs=min(preset.training.pretrain_epochs, 1),
        batch_size=3,
        num_threads=1,
        checkpoint_minutes=EVERY_BATCH,
    )
    sets, steps = TrainingSets(make_data(6, 1), make_data(2, 2), TOKENS), []
    real = loop.compute_gradients

    def step(*args):
        steps.append(args)
        if len(steps) == dies_at:
            raise Killed
        return real(*args)

    def run(name):
        torch.manual_seed(1)
        model = AcousticModel(model_config, feat_dim=4, num_tokens=len(TOKENS))
        return model, train(model, config, sets, tmp_path / name, "run")

    monkeypatch.setattr(loop, "compute_gradients", step)
    dies_at = 0
    whole, expected = run("whole")
    dies_at = 2 * len(steps)
    with pytest.raises(Killed):
        run("killed")
    resumed, found = run("killed")
    assert len(steps) == dies_at + 1  # the batch in which it was killed, and no other, is trained on again
    assert_equal(copy_of(whole), copy_of(resumed))
    assert without_cpu_seconds(found.history) == without_cpu_seconds(expected.history)


def test_a_batch_is_trained_on_once(tmp_path, monkeypatch):
    """Killed after two batches of three, each with a checkpoint: only the third is left of that epoch."""
    seen, real = [], loop.compute_gradients

    def step(model, batch, *args):
        seen.append(batch.utt_ids)
        if len(seen) == 3:
            raise Killed
        return real(model, batch, *args)

    monkeypatch.setattr(loop, "compute_gradients", step)
    data, config = make_data(12, 1), replace(CONFIG, num_epochs=1, checkpoint_minutes=EVERY_BATCH)
    with pytest.raises(Killed):
        train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run")
    history = train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run").history
    assert len(seen) == 4
    assert seen[3] == seen[2]
    assert sorted(itertools.chain(*seen[:3])) == sorted(data.num_frames)
    assert len(history) == 1


def test_other_threads_are_warned_of(tmp_path, capsys):
    data = make_data(8, 1)
    train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert "weights may differ" not in capsys.readouterr().err
    try:
        train(make_model(), replace(CONFIG, num_threads=2), TrainingSets(data, data, TOKENS), tmp_path, "run")
    finally:
        torch.set_num_threads(1)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "warning: num_threads 2, was 1: weights may differ from an uninterrupted run's"


@pytest.mark.parametrize(("minutes", "expected"), [(1000.0, 2), (EVERY_BATCH, 6)])
def test_checkpoints_are_made_after_epochs_and_when_it_is_time(tmp_path, monkeypatch, minutes, expected):
    saved, save = [], checkpoint.save

    def note(path, content):
        saved.append(path.name)
        save(path, content)

    monkeypatch.setattr(checkpoint, "save", note)
    config, data = replace(CONFIG, num_epochs=2, batch_size=4, checkpoint_minutes=minutes), make_data(12, 1)
    train(make_model(), config, TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert saved.count("checkpoint.pt") == expected


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    data = make_data(8, 1)
    train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "one")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ModelError, match="other settings or data"):
        train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "another")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    data = make_data(8, 1)
    train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")
    content = checkpoint.load(tmp_path / "checkpoint.pt")
    del content["history"][0]["blank_phase"]
    checkpoint.save(tmp_path / "checkpoint.pt", content)
    with pytest.raises(ModelError, match=r"checkpoint.pt: made by another version of asrkit; .* --force"):
        train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")


@pytest.mark.parametrize(
    "changes",
    [{"sums": {"num_batches": number, "num_skipped": 0, "gradient_norm": 0.0, "learning_rate": 0.0}}
     for number in (-1, 2, 2.5, float("nan"))]
    + [{"phase_start": -1}, {"phase_start": 4}, {"phase_start": 10**400}, {"finished": False}, {"ranking": []},
       {"ranking": [(1.0, 0)]}, {"ranking": [(1.0, 4)]}, {"history": []}, {"second_phase": 1, "phase_start": 2}],
)  # fmt: skip
def test_a_checkpoint_of_what_cannot_be_is_refused(tmp_path, changes):
    """Two batches an epoch, three epochs, finished."""
    data = make_data(8, 1)
    train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")
    content = checkpoint.load(tmp_path / "checkpoint.pt")
    assert {*content["sums"]} == {"num_batches", "num_skipped", "gradient_norm", "learning_rate"}
    checkpoint.save(tmp_path / "checkpoint.pt", {**content, **changes})
    with pytest.raises(ModelError, match=r"checkpoint.pt: made by another version of asrkit; .* --force"):
        train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")


@pytest.mark.parametrize("value", ["text", None, [], 10**400, torch.ones(())])
def test_a_history_of_anything_but_numbers_is_refused(tmp_path, value):
    data = make_data(8, 1)
    train(make_model(), replace(CONFIG, num_epochs=1), TrainingSets(data, data, TOKENS), tmp_path, "run")
    assert [record.epoch for record in read_history(tmp_path, "run")] == [1]
    content = checkpoint.load(tmp_path / "checkpoint.pt")
    content["history"][0]["dev_per"] = value
    checkpoint.save(tmp_path / "checkpoint.pt", content)
    with pytest.raises(ModelError, match=r"checkpoint.pt: made by another version of asrkit; start anew with --force"):
        read_history(tmp_path, "run")


def test_a_loss_that_is_not_finite_names_the_utterances(tmp_path):
    data = make_data(8, 1)
    data.feats["utt03"][5, 2] = np.nan
    with pytest.raises(ModelError, match=r"epoch 1, batch [12]: loss is nan.*utt03"):
        train(make_model(), CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")


def test_a_gradient_that_is_not_finite_names_the_utterances(tmp_path):
    data, model = make_data(8, 1), make_model()
    model.output.weight.register_hook(lambda gradient: gradient / 0)
    with pytest.raises(ModelError, match=r"batch 1: loss is \d.*norm of the gradient is (nan|inf);.*utt0"):
        train(model, CONFIG, TrainingSets(data, data, TOKENS), tmp_path, "run")


def test_batches_that_are_not_finite_can_be_left_out(tmp_path, capsys):
    data, dev_set = make_data(12, 1), make_data(4, 2)
    data.feats["utt03"][5, 2] = np.nan
    config, model = replace(CONFIG, on_nonfinite="skip"), make_model()
    history = train(model, config, TrainingSets(data, dev_set, TOKENS), tmp_path, "run").history
    assert [record.skipped_batches for record in history] == [1, 1, 1]
    assert all(np.isfinite([record.train_loss, record.gradient_norm]).all() for record in history)
    assert all(weights.isfinite().all() for weights in model.state_dict().values())
    assert capsys.readouterr().err.count("skipped batches: 1,") == 3
    for feats in data.feats.values():
        feats[0, 0] = np.inf
    with pytest.raises(ModelError, match="epoch 1: no batch has a finite loss and gradient"):
        train(make_model(), config, TrainingSets(data, dev_set, TOKENS), tmp_path / "all", "run")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_refused(tmp_path):
    data = make_data(4, 1)
    with pytest.raises(ConfigError, match=r"device cuda: PyTorch .* finds no GPU; .*, or give cpu"):
        train(make_model(), replace(CONFIG, device="cuda"), TrainingSets(data, data, TOKENS), tmp_path, "run")


def test_batches_are_loaded_one_ahead():
    made = []

    def make():
        for number in range(4):
            if number == 3:
                raise KeyError("no fourth")
            made.append(number)
            yield number

    taken = []
    with pytest.raises(KeyError, match="no fourth"):
        for number in loop._one_ahead(make()):
            taken.append(number)
    assert taken == made == [0, 1, 2]


def test_steps_that_ctc_needs():
    assert [min_steps(ids) for ids in ([], [1], [1, 2], [1, 1], [1, 1, 1, 2])] == [0, 1, 2, 3, 6]


def test_utterances_that_ctc_cannot_align_are_parted_by_name():
    feats = {"short": np.zeros((6, 4)), "repeat": np.zeros((9, 4)), "fits": np.zeros((10, 4)), "long": np.zeros((9, 4))}
    tokens = {"short": [1, 2, 3], "repeat": [1, 1, 2], "fits": [1, 1, 2], "long": [1, 2, 3]}
    data = TrainingSet(feats, {utt_id: len(matrix) for utt_id, matrix in feats.items()}, tokens)
    kept, excluded = split_infeasible(data, make_model())
    assert list(kept.num_frames) == ["fits", "long"]
    assert excluded == {"short": (2, 3), "repeat": (3, 4)}
    for utt_id in feats:  # torch agrees about which of them have no path
        steps = torch.zeros(-(-len(feats[utt_id]) // 3), 1, 4).log_softmax(2)
        lens = torch.tensor([len(steps)]), torch.tensor([len(tokens[utt_id])])
        loss = torch.nn.functional.ctc_loss(steps, torch.tensor([tokens[utt_id]]), *lens)
        assert bool(torch.isinf(loss)) == (utt_id in excluded)


def test_dev_loss_leaves_out_what_cannot_be_aligned():
    data = make_data(4, 1)
    model = make_model()
    loss = evaluate(model, data, TOKENS).loss
    data.feats["odd"], data.num_frames["odd"], data.tokens["odd"] = np.zeros((3, 4), np.float32), 3, [1, 2, 3]
    data.frame_labels["odd"] = np.ones(3)
    assert evaluate(model, data, TOKENS)[0] == pytest.approx(loss)


def test_dev_loss_does_not_hide_a_broken_model():
    model = make_model()
    torch.nn.init.constant_(model.output.bias, torch.nan)
    assert np.isnan(evaluate(model, make_data(4, 1), TOKENS)[0])


@pytest.mark.parametrize("head", ["frames", "both"])
def test_phone_times_that_label_nothing_stop_training(tmp_path, head):
    data = make_data(4, 1)
    for labels in data.frame_labels.values():
        labels[:] = -1
    with pytest.raises(ModelError, match="epoch 1: no step has a phone"):
        train(make_model(head=head), CONFIG, TrainingSets(data, make_data(4, 2), TOKENS), tmp_path, "run")
