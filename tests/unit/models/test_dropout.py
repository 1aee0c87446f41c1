"""Dropout with cheap random bits: its statistics, gradients, and where its random numbers come from."""

import threading

import pytest
import torch

from asrkit.models.dropout import Dropout, dropout_from


@pytest.mark.parametrize("p", [0.1, 0.3, 0.75])
def test_the_share_dropped_is_p_and_the_mean_is_kept(p):
    torch.manual_seed(0)
    inputs = torch.ones(1001, 999)
    outputs = Dropout(p)(inputs)
    values = outputs.unique()
    assert len(values) == 2
    assert values[0] == 0
    assert values[1] == pytest.approx(1 / (1 - p), rel=1e-4)
    assert (outputs == 0).float().mean() == pytest.approx(p, abs=0.003)
    columns = (outputs == 0).float().mean(dim=0)
    assert columns.std() == pytest.approx((p * (1 - p) / 1001) ** 0.5, rel=0.15)  # independent along both dimensions
    lagged = ((outputs[:, 1:] == 0) & (outputs[:, :-1] == 0)).float().mean()
    assert lagged == pytest.approx(p * p, abs=0.003)


def test_the_gradient_is_the_mask_and_another_call_draws_anew():
    torch.manual_seed(0)
    layer, inputs = Dropout(0.5), torch.randn(7, 3, 5, requires_grad=True)
    outputs = layer(inputs)
    outputs.sum().backward()
    torch.testing.assert_close(outputs, inputs * inputs.grad)
    assert not torch.equal(layer(inputs) == 0, outputs == 0)


def test_nothing_is_dropped_in_evaluation_or_at_p_0_and_all_at_p_1():
    inputs = torch.randn(5, 6)
    assert Dropout(0.5).eval()(inputs) is inputs
    assert torch.equal(Dropout(0.0)(inputs), inputs)
    assert torch.equal(Dropout(1.0)(inputs), torch.zeros(5, 6))


def test_a_thread_draws_from_the_generator_it_names_and_from_torchs_otherwise():
    layer, inputs = Dropout(0.5), torch.ones(64)
    torch.manual_seed(3)
    default = layer(inputs)
    found = {}

    def run(seed):
        with dropout_from(torch.Generator().manual_seed(seed)):
            found[seed] = layer(inputs)

    threads = [threading.Thread(target=run, args=(seed,)) for seed in (1, 2, 3)]
    state = torch.get_rng_state()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert torch.equal(found[3], default)
    assert not torch.equal(found[1], found[2])
    assert torch.equal(torch.get_rng_state(), state)
    with dropout_from(torch.Generator().manual_seed(1)):
        assert torch.equal(layer(inputs), found[1])
    torch.manual_seed(3)
    assert torch.equal(layer(inputs), default)
