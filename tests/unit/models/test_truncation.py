"""Truncated back-propagation through time: outputs are those of the whole, gradients end where a piece begins."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.models import recurrent
from asrkit.models.acoustic import AcousticModel
from asrkit.models.recurrent import RecurrentStack
from asrkit.training.step import compute_gradients
from tests.unit.models.test_cells import CELLS, config_of
from tests.unit.training.test_gradients import probe
from tests.unit.training.test_loop import TOKENS
from tests.unit.training.test_parallel_step import compute_gradients_in_threads


def make_stack(name, bptt_steps, **settings):
    torch.manual_seed(1)
    config = config_of(name, **{"bidirectional": False, "num_layers": 2, "hidden_size": 4, "dropout": 0.0, **settings})
    stack = RecurrentStack(3, config).double()
    stack.bptt_steps = bptt_steps
    return stack


def gradients(stack, inputs, lens, wanted):
    """Outputs that are valid, and the gradients of the sum of `wanted` times them, in inputs and weights."""
    stack.zero_grad()
    inputs = inputs.clone().requires_grad_()
    (outputs,) = stack(inputs, lens)
    valid = torch.arange(inputs.shape[1]) < lens[:, None]
    (outputs * wanted)[valid].sum().backward()
    return [outputs[valid].detach(), inputs.grad, *(weights.grad for weights in stack.parameters())]


@pytest.mark.parametrize("name", CELLS)
def test_outputs_are_those_of_the_whole_and_gradients_are_not(name):
    lens, inputs = torch.tensor([11, 7]), torch.randn(2, 11, 3, dtype=torch.float64)
    wanted = torch.randn(2, 11, make_stack(name, None).output_size, dtype=torch.float64)
    whole, cut = (gradients(make_stack(name, steps), inputs, lens, wanted) for steps in (None, 3))
    torch.testing.assert_close(cut[0], whole[0], atol=1e-12, rtol=0)
    assert max(float((a - b).norm() / b.norm()) for a, b in zip(cut[1:], whole[1:], strict=True)) > 1e-3
    for steps in (11, 12):  # as long as the longest: all of it, to the last bit
        same = gradients(make_stack(name, steps), inputs, lens, wanted)
        assert all(map(torch.equal, same, whole))
    stack = make_stack(name, 3).eval()
    assert torch.equal(stack(inputs, lens)[0], make_stack(name, None).eval()(inputs, lens)[0])


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_gradients_against_numpy(steps):
    """Two Elman layers: dL/dh goes back from step to step, except from the first of a piece to the one before."""
    stack = make_stack("elman", steps, layer_norm=False)
    lens, inputs = torch.tensor([11, 7]), torch.randn(2, 11, 3, dtype=torch.float64)
    wanted = torch.randn(2, 11, 4, dtype=torch.float64)
    _, of_inputs, *found = gradients(stack, inputs, lens, wanted)
    names = [name for name, _ in stack.named_parameters()]
    weights = [{name: value.detach().numpy() for name, value in layer.rnn.named_parameters()} for layer in stack.layers]
    expected = dict.fromkeys(names, 0.0)
    for row, length in enumerate(lens.tolist()):
        states = [inputs[row, :length].numpy()]  # of the layers, (length, units)
        for w in weights:
            h, hs = np.zeros(4), []
            for x in states[-1]:
                h = np.tanh(w["weight_ih_l0"] @ x + w["bias_ih_l0"] + w["weight_hh_l0"] @ h + w["bias_hh_l0"])
                hs.append(h)
            states.append(np.array(hs))
        into = wanted[row, :length].numpy()  # dL/dh(t) from above
        for number in (1, 0):
            w, below, own = weights[number], states[number], states[number + 1]
            down, later = np.zeros_like(below), np.zeros(4)
            for t in range(length - 1, -1, -1):
                of_sum = (into[t] + later) * (1 - own[t] ** 2)
                before = own[t - 1] if t else np.zeros(4)
                parts = {"ih": np.outer(of_sum, below[t]), "hh": np.outer(of_sum, before)}
                for kind, part in parts.items():
                    expected[f"layers.{number}.rnn.weight_{kind}_l0"] += part
                    expected[f"layers.{number}.rnn.bias_{kind}_l0"] += of_sum
                down[t] = w["weight_ih_l0"].T @ of_sum
                later = w["weight_hh_l0"].T @ of_sum if t % steps else np.zeros(4)
            into = down
        np.testing.assert_allclose(of_inputs[row, :length], into, rtol=1e-10, atol=1e-14)
    for name, grad in zip(names, found, strict=True):
        np.testing.assert_allclose(grad, expected[name], rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("name", ["lstm", "jordan"])
def test_padding_and_neighbours_change_nothing(name):
    lens, inputs = torch.tensor([11, 7, 2]), torch.randn(3, 11, 3, dtype=torch.float64)
    stack = make_stack(name, 3, residual=True)
    wanted = torch.randn(3, 11, 4, dtype=torch.float64)
    _, of_inputs, *together = gradients(stack, inputs, lens, wanted)
    assert not of_inputs[1, 7:].any()
    alone = [
        gradients(stack, inputs[row : row + 1, :length], lens[row : row + 1], wanted[row : row + 1, :length])[2:]
        for row, length in enumerate(lens.tolist())
    ]
    for grad, parts in zip(together, zip(*alone, strict=True), strict=True):
        torch.testing.assert_close(grad, sum(parts), atol=1e-12, rtol=1e-10)


@pytest.mark.parametrize("threads", [None, 2])
def test_what_is_computed_again_is_the_same(monkeypatch, threads):
    """With dropout, self-conditioning and residual connections: as without checkpoints, to the last bit."""
    torch.manual_seed(1)
    config = config_of("lstm", bidirectional=False, num_layers=3, hidden_size=8, dropout=0.4, stack=2, skip=2)
    model, batch = AcousticModel(replace(config, residual=True), feat_dim=4, num_tokens=len(TOKENS)), probe()
    model.stack.bptt_steps = 4

    def step():
        torch.manual_seed(3)
        if threads:
            loss = compute_gradients_in_threads(model, batch, None, 0.0, threads)
        else:
            loss = compute_gradients(model, batch, None, 0.0)
        return loss, [weights.grad.clone() for weights in model.parameters()]

    loss, found = step()
    monkeypatch.setattr(recurrent, "checkpoint", lambda run, *args, **options: run(*args))
    kept_loss, kept = step()
    assert loss == kept_loss
    assert all(map(torch.equal, found, kept))
    assert float(model.feedback.weight.grad.norm()) > 0
    model.stack.bptt_steps = None
    assert not torch.allclose(step()[1][0], kept[0], rtol=1e-3)


def test_a_pyramid_is_cut_in_steps_of_each_layer():
    torch.manual_seed(1)
    config = config_of("gru", encoder="pyramid", head="attention", bidirectional=False, num_layers=2, dropout=0.0)
    model, batch = AcousticModel(config, feat_dim=4, num_tokens=len(TOKENS)), probe()
    whole = model(batch.feats, batch.feat_lens)
    for each in model.stack.layers:
        each.bptt_steps = 2
    cut = model(batch.feats, batch.feat_lens)
    valid = torch.arange(cut[0].shape[1]) < cut[1][:, None]
    torch.testing.assert_close(cut[0][valid], whole[0][valid], atol=1e-6, rtol=0)
