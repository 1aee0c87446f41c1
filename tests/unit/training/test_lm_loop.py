"""The training of neural language models."""

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from asrkit.config.yaml_config import load_config
from asrkit.errors import ModelError
from asrkit.models.language import LanguageModel
from asrkit.models.language_config import LanguageConfig
from asrkit.training import lm_loop
from asrkit.training.lm_config import LmTrainingConfig, NeuralLmConfig
from asrkit.training.lm_loop import LmText, LmTraining, evaluate, pieces, plan_batches

TEXT = LmText([[1, 2, 3] * (1 + number % 4) for number in range(30)], [[1, 2, 3], [1, 2, 3, 1, 2, 3], [1, 2, 3] * 3])
SHAPE = LanguageConfig("lstm", hidden_size=8, embedding_size=4, dropout=0.2)
SETTINGS = LmTrainingConfig(num_epochs=4, batch_size=4, bptt_steps=5, max_lr=0.05)


PRESETS = sorted((Path(__file__).parents[3] / "conf" / "lm").glob("*.yaml"))


def make(shape=SHAPE):
    torch.manual_seed(1)
    return LanguageModel(shape, 4)


def run(model, directory, settings=SETTINGS, text=TEXT):
    directory.mkdir(exist_ok=True)
    training = LmTraining(model, settings, text, directory, "identity")
    return training.run(lambda model: "-"), training.history


def test_it_learns_and_keeps_the_best(tmp_path):
    model = make()
    before = evaluate(model, TEXT.dev)
    best, history = run(model, tmp_path)
    assert [record.epoch for record in history] == [1, 2, 3, 4]
    assert best.dev_loss == min(record.dev_loss for record in history) < before / 2
    assert evaluate(model, TEXT.dev) == pytest.approx(best.dev_loss)
    assert best.dev_perplexity == pytest.approx(np.exp(best.dev_loss))
    header, *rows = (tmp_path / "history.csv").read_text().splitlines()
    assert header.split(",")[:3] == ["epoch", "train_loss", "dev_loss"]
    assert len(rows) == 4


@pytest.mark.parametrize("num_batches", [1, 8, 13])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, num_batches):
    """`num_batches` of 8 an epoch are done: within an epoch, at its end, and within the second."""
    settings = dataclasses.replace(SETTINGS, checkpoint_minutes=1e-9)
    whole = make()
    _, history = run(whole, tmp_path / "whole", settings)
    left, real = [num_batches], LmTraining._train_batch

    def train_batch(self, sentences):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, sentences)

    monkeypatch.setattr(LmTraining, "_train_batch", train_batch)
    with pytest.raises(KeyboardInterrupt):
        run(make(), tmp_path / "killed", settings)
    monkeypatch.undo()
    again = make()
    with torch.no_grad():
        again.output.weight.fill_(9.0)  # what it begins with is of no account
    _, resumed = run(again, tmp_path / "killed", settings)
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name
    without_time = [dataclasses.replace(record, cpu_seconds=0.0) for record in resumed]
    assert without_time == [dataclasses.replace(record, cpu_seconds=0.0) for record in history]


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_that_is_killed_goes_on_to_the_same_bits(tmp_path, monkeypatch, path):
    """Its network with small layers, by its training; killed in its last batch, after the checkpoint before that."""
    preset = load_config(path, NeuralLmConfig)
    shape = dataclasses.replace(preset.model, hidden_size=8, embedding_size=4)
    settings = dataclasses.replace(
        preset.training, num_epochs=2, batch_size=8, bptt_steps=5, num_threads=1, checkpoint_minutes=1e-9
    )
    whole, again, left = make(shape), make(shape), [7]  # of 4 batches an epoch
    _, history = run(whole, tmp_path / "whole", settings)
    real = LmTraining._train_batch

    def train_batch(self, sentences):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        real(self, sentences)

    monkeypatch.setattr(LmTraining, "_train_batch", train_batch)
    with pytest.raises(KeyboardInterrupt):
        run(make(shape), tmp_path / "killed", settings)
    left[0] = 1  # no other batch is trained on again
    _, resumed = run(again, tmp_path / "killed", settings)
    assert left == [0]
    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, again.state_dict()[name]), name
    assert [record.dev_loss for record in resumed] == [record.dev_loss for record in history]


def test_a_finished_run_is_not_trained_again(tmp_path):
    best, _ = run(make(), tmp_path)
    model = make()
    again, _ = run(model, tmp_path)
    assert again == best
    assert evaluate(model, TEXT.dev) == pytest.approx(best.dev_loss)
    with pytest.raises(ModelError, match="other settings or data"):
        LmTraining(make(), SETTINGS, TEXT, tmp_path, "another")


def test_early_stopping(tmp_path):
    settings = dataclasses.replace(SETTINGS, num_epochs=50, early_stopping=2)
    best, history = run(make(), tmp_path, settings, LmText(TEXT.train, [[3, 3, 3, 3], [2, 2, 2]]))
    assert len(history) == best.epoch + 2 < 50


def test_long_pieces_are_one_pass(tmp_path):
    """Where no sentence is longer than a piece, the length of pieces does not matter; where some are, it does."""
    models = {}
    for steps in (13, 1000, 5):
        models[steps] = make(dataclasses.replace(SHAPE, dropout=0.0))
        run(models[steps], tmp_path / str(steps), dataclasses.replace(SETTINGS, bptt_steps=steps, num_epochs=1))
    weights = {steps: model.output.weight for steps, model in models.items()}
    assert torch.equal(weights[13], weights[1000])
    assert not torch.equal(weights[13], weights[5])


def test_pieces_hold_every_token_once():
    sentences = [[1, 2, 3, 1], [], [2]]
    found = [
        (row, int(token))
        for _, targets, is_there in pieces(sentences, 2)
        for row, (own, mask) in enumerate(zip(targets, is_there, strict=True))
        for token in own[mask]
    ]
    assert sorted(found) == sorted((row, token) for row, each in enumerate(sentences) for token in [*each, 0])
    inputs = torch.cat([inputs for inputs, _, _ in pieces(sentences, 2)], dim=1)
    assert inputs[0].tolist() == [0, 1, 2, 3, 1]


def test_batches_hold_every_sentence_once():
    lens = np.random.default_rng(0).integers(1, 90, 101).tolist()
    plan = plan_batches(lens, 4, np.random.default_rng(1))
    assert Counter(np.concatenate(plan).tolist()) == Counter(range(101))
    assert sorted(map(len, plan)) == [1, *[4] * 25]
    padding = [max(lens[i] for i in each) - min(lens[i] for i in each) for each in plan]
    assert np.mean(padding) < 15


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path):
    model = make()
    with torch.no_grad():
        model.output.bias[0] = float("nan")
    with pytest.raises(ModelError, match=r"epoch 1, batch 1: loss is nan"):
        run(model, tmp_path)


def test_dev_loss_does_not_depend_on_the_batches(monkeypatch):
    model = make()
    together = evaluate(model, TEXT.dev)
    monkeypatch.setattr(lm_loop, "_AT_ONCE", 1)
    assert evaluate(model, TEXT.dev) == pytest.approx(together, rel=1e-6)


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_presets(path):
    config = load_config(path, NeuralLmConfig)
    assert config.model.network == path.stem
    log_probs, _ = LanguageModel(config.model, 5)(torch.zeros((2, 3), dtype=torch.long), make_states(config.model))
    assert log_probs.shape == (2, 3, 5)


def make_states(shape):
    return LanguageModel(shape, 5).first_states(2)
