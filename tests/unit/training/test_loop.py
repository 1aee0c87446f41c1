"""The loop learns, names what it cannot use, and resumes to the same weights."""

import itertools

import numpy as np
import pytest
import torch

from asrkit.errors import ModelError
from asrkit.lang.tokens import TokenTable
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.training import loop
from asrkit.training.config import TrainingConfig
from asrkit.training.dataset import TrainingSet, min_steps, split_infeasible
from asrkit.training.loop import evaluate, train

TOKENS = TokenTable(["a", "b", "c"])
CONFIG = TrainingConfig(num_epochs=3, batch_size=4, max_lr=0.02, input_noise=0.1)


def make_data(num_utts, seed):
    """Utterances in which each phone is a stretch of frames of its own colour."""
    rng = np.random.default_rng(seed)
    feats, tokens = {}, {}
    for index in range(num_utts):
        ids = rng.integers(1, 4, rng.integers(2, 6)).tolist()
        frames = [np.eye(4)[0]] * 3
        for token in ids:
            frames += [np.eye(4)[token]] * int(rng.integers(4, 9)) + [np.eye(4)[0]] * 3
        noise = rng.normal(0, 0.1, (len(frames), 4))
        feats[f"utt{index:02d}"] = (np.array(frames) + noise).astype(np.float32)
        tokens[f"utt{index:02d}"] = ids
    return TrainingSet(feats, {utt_id: len(matrix) for utt_id, matrix in feats.items()}, tokens)


def make_model(seed=1):
    torch.manual_seed(seed)
    return AcousticModel(ModelConfig(num_layers=1, hidden_size=16, dropout=0.1), feat_dim=4, num_tokens=len(TOKENS))


def test_it_learns_an_easy_task(tmp_path):
    config = TrainingConfig(num_epochs=12, batch_size=4, max_lr=0.02, input_noise=0.1)
    model = make_model()
    history = train(model, config, make_data(48, 1), make_data(16, 2), TOKENS, tmp_path, "run")
    assert history[0].dev_per > 50
    assert min(record.dev_per for record in history) < 5
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 13


def test_the_weights_of_the_best_epoch_are_kept(tmp_path, monkeypatch):
    pers, weights = iter([50.0, 10.0, 30.0]), []

    def evaluate_as_told(model, *args):
        weights.append({name: values.clone() for name, values in model.state_dict().items()})
        return 1.0, next(pers)

    monkeypatch.setattr(loop, "evaluate", evaluate_as_told)
    model, data = make_model(), make_data(8, 1)
    train(model, CONFIG, data, data, TOKENS, tmp_path, "run")
    for name, values in model.state_dict().items():
        assert torch.equal(values, weights[1][name]), name
        assert not torch.equal(values, weights[2][name]), name


@pytest.mark.parametrize("clip_norm", [0.01, 1e6])
def test_gradients_are_clipped_before_each_update(tmp_path, monkeypatch, clip_norm):
    norms, make_optimizer = [], loop.make_optimizer

    def note_norm(optimizer, *_):
        gradients = [p.grad.ravel() for group in optimizer.param_groups for p in group["params"]]
        norms.append(torch.cat(gradients).norm().item())

    def make_noting(*args):
        optimizer, schedule = make_optimizer(*args)
        optimizer.register_step_pre_hook(note_norm)
        return optimizer, schedule

    monkeypatch.setattr(loop, "make_optimizer", make_noting)
    config, data = TrainingConfig(num_epochs=2, batch_size=4, clip_norm=clip_norm), make_data(8, 1)
    train(make_model(), config, data, data, TOKENS, tmp_path, "run")
    assert len(norms) == 4
    if clip_norm == 0.01:
        assert norms == pytest.approx([0.01] * 4, rel=1e-3)
    else:
        assert min(norms) > 0.1


@pytest.mark.parametrize("input_noise", [0.0, 0.5])
def test_noise_is_added_to_the_features_in_training_alone(tmp_path, input_noise):
    fed = {True: [], False: []}
    model, data = make_model(), make_data(1, 1)
    feats = torch.from_numpy(data.feats["utt00"])
    model.register_forward_pre_hook(lambda module, args: fed[module.training].append(args[0][0] - feats))
    config = TrainingConfig(num_epochs=6, input_noise=input_noise)
    train(model, config, data, data, TOKENS, tmp_path, "run")
    assert [len(added) for added in fed.values()] == [6, 6]
    assert not torch.stack(fed[False]).any()
    noise = torch.stack(fed[True])  # (6, T, 4): another one in each epoch
    assert noise.std().item() == pytest.approx(input_noise, rel=0.1)
    assert abs(noise.mean().item()) < 0.05
    assert noise.std(0).mean().item() == pytest.approx(input_noise, rel=0.15)


class Killed(Exception):
    pass


@pytest.mark.parametrize("num_batches", [1, 6, 12, 17])
def test_killed_and_resumed_ends_with_the_same_weights(tmp_path, monkeypatch, num_batches):
    """24 utterances in batches of 4: killed within the first epoch, at a boundary, and later."""
    train_set, dev_set = make_data(24, 1), make_data(6, 2)
    whole = make_model()
    history = train(whole, CONFIG, train_set, dev_set, TOKENS, tmp_path / "whole", "run")

    real, calls = loop.ctc_loss, itertools.count()

    def dying(*args):
        if torch.is_grad_enabled() and next(calls) == num_batches:
            raise Killed
        return real(*args)

    monkeypatch.setattr(loop, "ctc_loss", dying)
    with pytest.raises(Killed):
        train(make_model(), CONFIG, train_set, dev_set, TOKENS, tmp_path / "killed", "run")
    monkeypatch.setattr(loop, "ctc_loss", real)
    resumed = make_model(seed=1 if num_batches < 6 else 99)  # the weights come from the checkpoint, if there is one
    again = train(resumed, CONFIG, train_set, dev_set, TOKENS, tmp_path / "killed", "run")

    for name, weights in whole.state_dict().items():
        assert torch.equal(weights, resumed.state_dict()[name]), name
    losses = [(record.train_loss, record.dev_loss, record.dev_per) for record in history]
    assert losses == [(record.train_loss, record.dev_loss, record.dev_per) for record in again]


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    data = make_data(8, 1)
    train(make_model(), CONFIG, data, data, TOKENS, tmp_path, "one")
    with pytest.raises(ModelError, match="other settings or data"):
        train(make_model(), CONFIG, data, data, TOKENS, tmp_path, "another")


def test_a_loss_that_is_not_finite_names_the_utterances(tmp_path):
    data = make_data(8, 1)
    data.feats["utt03"][5, 2] = np.nan
    with pytest.raises(ModelError, match=r"epoch 1: loss is nan.*utt03"):
        train(make_model(), CONFIG, data, data, TOKENS, tmp_path, "run")


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
    loss, _ = evaluate(model, data, TOKENS)
    data.feats["odd"], data.num_frames["odd"], data.tokens["odd"] = np.zeros((3, 4), np.float32), 3, [1, 2, 3]
    assert evaluate(model, data, TOKENS)[0] == pytest.approx(loss)
