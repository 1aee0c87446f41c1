"""What each update of a training is made from: which batch, at which rate and momentum, with which frames skipped."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.lang.tokens import TokenTable
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.training.config import TrainingConfig
from asrkit.training.dataset import TrainingSet
from asrkit.training.loop import TrainingSets, train
from asrkit.training.optim import AdamW

TOKENS = TokenTable(["a", "b"])
CONFIG = TrainingConfig(num_epochs=3, batch_size=2, max_lr=0.003, warmup=0.25)
SKIP = 3


@pytest.fixture
def seen(monkeypatch, tmp_path):
    """Trains on 24 utterances by these settings, and gives what the model is fed and what the optimizer is set to."""
    seen = {"feats": [], "offsets": [], "seeds": [], "rates": [], "momenta": [], "batches": []}
    outputs, step, load = AcousticModel.outputs, AdamW.step, TrainingSet.load

    def note_offsets(self, feats, lens, offsets=None):
        if self.training:
            seen["offsets"].append(None if offsets is None else offsets.tolist())
            seen["seeds"].append(torch.initial_seed())
            seen["feats"].append(feats.detach().numpy())
        return outputs(self, feats, lens, offsets)

    def note_settings(optimizer, *args):
        (group,) = optimizer.param_groups
        seen["rates"].append(group["lr"])
        seen["momenta"].append(group["betas"][0])
        return step(optimizer, *args)

    def note_batch(self, utt_ids, rng=None, **options):
        if rng is not None:
            seen["batches"].append(tuple(utt_ids))
        return load(self, utt_ids, rng, **options)

    monkeypatch.setattr(AcousticModel, "outputs", note_offsets)
    monkeypatch.setattr(AdamW, "step", note_settings)
    monkeypatch.setattr(TrainingSet, "load", note_batch)

    def run(**settings):
        rng = np.random.default_rng(0)
        feats = {f"utt{i:02d}": rng.normal(0, 1, (20 + i, 4)).astype(np.float32) for i in range(24)}
        data = TrainingSet(feats, {utt: len(matrix) for utt, matrix in feats.items()}, {utt: [1, 2] for utt in feats})
        torch.manual_seed(0)
        config = ModelConfig(num_layers=1, hidden_size=2, stack=SKIP, skip=SKIP, self_conditioning=False)
        model = AcousticModel(config, feat_dim=4, num_tokens=len(TOKENS))
        for noted in seen.values():
            noted.clear()
        directory = tmp_path / str(len(list(tmp_path.iterdir())))
        train(model, replace(CONFIG, **settings), TrainingSets(data, data, TOKENS), directory, "run")
        return {name: list(noted) for name, noted in seen.items()}

    return run


def test_each_update_has_the_rate_and_the_momentum_of_its_number(seen):
    """As PyTorch's OneCycleLR, which is asked before each step."""
    found = seen()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    settings = {"pct_start": 0.25, "div_factor": 25, "final_div_factor": 1000}
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=36, **settings)
    rates, momenta = [], []
    for update in range(36):
        (group,) = optimizer.param_groups
        rates.append(group["lr"])
        momenta.append(group["betas"][0])
        optimizer.step()
        if update < 35:
            schedule.step()
    assert found["rates"] == pytest.approx(rates)
    assert found["momenta"] == pytest.approx(momenta)


def test_each_epoch_has_every_utterance_in_an_order_of_its_own(seen):
    batches = seen()["batches"]
    epochs = [batches[begin : begin + 12] for begin in (0, 12, 24)]
    for epoch in epochs:
        assert sorted(utt for batch in epoch for utt in batch) == [f"utt{i:02d}" for i in range(24)]
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert seen()["batches"] == batches
    assert seen(seed=7)["batches"] != batches


def test_each_update_has_random_numbers_of_its_own(seen):
    seeds = seen()["seeds"]
    assert len(set(seeds)) == len(seeds) == 36
    assert seen()["seeds"] == seeds
    assert not {*seen(seed=7)["seeds"]} & {*seeds}


def test_the_noise_on_features_is_as_strong_as_asked(seen):
    plain = seen(num_epochs=1, input_noise=0.0)["feats"]
    noisy = seen(num_epochs=1, input_noise=0.5)["feats"]
    noise = np.concatenate([(a - b).ravel() for a, b in zip(noisy, plain, strict=True)])
    assert len(noise) > 2000
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    assert np.abs(noise).mean() == pytest.approx(0.5 * (2 / np.pi) ** 0.5, rel=0.05)  # as of a normal distribution


def test_on_a_cpu_no_operator_shares_its_work(seen, monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    seen(num_epochs=1, num_threads=2)
    assert set(asked) == {1}


def test_every_phase_of_frame_skipping_is_trained_on(seen):
    offsets = [offset for batch in seen()["offsets"] for offset in batch]
    assert len(offsets) == 72
    assert all(offsets.count(phase) > 12 for phase in range(SKIP))
    assert set(offsets) == set(range(SKIP))
    assert set(seen(random_offset=False)["offsets"]) == {None}


def test_the_views_of_an_utterance_skip_the_same_frames(seen):
    offsets = seen(num_views=2)["offsets"]
    assert {len(batch) for batch in offsets} == {4}
    assert all(first == second for batch in offsets for first, second in zip(batch[::2], batch[1::2], strict=True))
    assert len({tuple(batch) for batch in offsets}) > 4
