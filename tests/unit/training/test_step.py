"""Losses and gradients of a batch against sums written out, and noise on weights."""

import math
from itertools import product

import numpy as np
import pytest
import torch

from asrkit.models.acoustic import AcousticModel
from asrkit.models.batching import Batch
from asrkit.models.config import ModelConfig
from asrkit.models.decoder import DecoderTraining
from asrkit.models.decoder_config import DecoderConfig
from asrkit.training.step import (
    LossSum,
    compute_gradients,
    consistency_loss,
    ctc_losses,
    frame_loss,
    weight_drop,
    weight_noise,
)


def make_batch(with_labels=True):
    generator = torch.Generator().manual_seed(5)
    feats = torch.randn(3, 12, 4, generator=generator)
    labels = torch.randint(1, 4, (3, 12), generator=generator)
    labels[0, 3:6], labels[1, 9:], labels[2, 6:] = -1, -1, -1
    if not with_labels:
        labels[:] = -1
    tokens, token_lens = torch.tensor([[1, 2], [3, 0], [2, 2]]), torch.tensor([2, 1, 2])
    return Batch(("a", "b", "c"), feats, torch.tensor([12, 9, 6]), tokens, token_lens, labels)


def make_model(head, **settings):
    torch.manual_seed(1)
    sizes = {"num_layers": 1, "hidden_size": 6, "stack": 2, "skip": 1, "self_conditioning": False}
    config = ModelConfig(**{**sizes, **settings}, dropout=0.0, head=head)
    return AcousticModel(config, 4, 4)


def gradients(model):
    return {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}


def test_the_loss_of_ctc_is_the_sum_over_all_paths():
    torch.manual_seed(2)
    log_probs = torch.randn(1, 5, 3).log_softmax(2)
    batch = Batch(("a",), torch.zeros(1, 5, 1), torch.tensor([5]), torch.tensor([[1, 1]]), torch.tensor([2]))
    total = 0.0
    for path in product(range(3), repeat=5):
        joined = [token for token, before in zip(path, (None, *path), strict=False) if token != before and token]
        if joined == [1, 1]:
            total += math.exp(sum(log_probs[0, step, token].item() for step, token in enumerate(path)))
    assert ctc_losses(log_probs, torch.tensor([5]), batch).item() == pytest.approx(-math.log(total), rel=1e-5)


def test_the_loss_of_frames_is_a_sum_over_those_with_a_label():
    torch.manual_seed(2)
    log_probs = torch.randn(2, 4, 3).log_softmax(2)
    log_probs[1, 2:] = math.nan  # padding may hold anything
    labels = torch.tensor([[1, 3, -1, 2], [2, 2, -1, -1]])
    picked = [(0, 0, 0), (0, 1, 2), (0, 3, 1), (1, 0, 1), (1, 1, 1)]
    assert frame_loss(log_probs, labels).item() == pytest.approx(-sum(log_probs[where].item() for where in picked))


@pytest.mark.parametrize("frame_weight", [0.0, 0.3, 1.0])
def test_gradients_are_those_of_both_losses_weighted(frame_weight):
    model, batch = make_model("both"), make_batch()
    loss = compute_gradients(model, batch, None, frame_weight)
    found = gradients(model)

    model.zero_grad()
    output = model.outputs(batch.feats, batch.feat_lens)
    steps = model.frame_labels_to_steps(batch.frame_labels, batch.feat_lens)
    terms, num_labels = [], 0
    for row, length in enumerate([12, 9, 6]):
        for step in range(length):
            if (label := steps[row, step].item()) > 0:
                terms.append(-output.frame_log_probs[row, step, label - 1])
                num_labels += 1
    frames = torch.stack(terms).sum() / num_labels
    ctc = ctc_losses(output.ctc_log_probs, output.log_prob_lens, batch).sum() / 5
    expected = frame_weight * frames + (1 - frame_weight) * ctc
    assert loss.mean(frame_weight) == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    for name, gradient in gradients(model).items():
        if name in found:
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)
        else:  # the head whose loss has no weight
            assert not gradient.any()
    assert ("output.weight" in found) == (frame_weight < 1)
    assert ("frame_output.weight" in found) == (frame_weight > 0)


@pytest.mark.parametrize("head", ["joint", "joint_transducer"])
def test_gradients_of_a_decoder_with_ctc_are_those_of_both_losses_weighted(head):
    """The decoder's loss is a mean over phones and ends, of a transducer too; CTC's is one over phones."""
    decoder = DecoderConfig(hidden_size=6, embedding_size=3, dropout=0.0)
    model, batch = make_model(head, decoder=decoder), make_batch()
    settings = DecoderTraining(weight=0.7, label_smoothing=0.2)
    loss = compute_gradients(model, batch, None, 0.0, False, settings)
    found = gradients(model)

    model.zero_grad()
    output = model.outputs(batch.feats, batch.feat_lens)
    source = model.decoder.source(output.steps, output.log_prob_lens)
    of_decoder = model.decoder.losses(source, batch.tokens, batch.token_lens, settings).sum() / (5 + 3)
    ctc = ctc_losses(output.ctc_log_probs, output.log_prob_lens, batch).sum() / 5
    expected = 0.7 * of_decoder + 0.3 * ctc
    assert loss.mean(0.0, 0.7) == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    assert {name.split(".")[0] for name in found} == {"stack", "output", "decoder"}
    torch.testing.assert_close(found, gradients(model), rtol=1e-4, atol=1e-6)


def test_with_self_conditioning_a_third_of_ctc_is_of_the_lower_layers():
    model, batch = make_model("ctc", self_conditioning=True, num_layers=3), make_batch()
    loss = compute_gradients(model, batch, None, 0.0)
    found = gradients(model)
    model.zero_grad()
    output = model.outputs(batch.feats, batch.feat_lens)
    first, second, last = (
        ctc_losses(log_probs, output.log_prob_lens, batch).sum() / 5
        for log_probs in (*output.lower_log_probs, output.ctc_log_probs)
    )
    expected = (4 * last + first + second) / 6
    assert loss.mean(0.0) == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    torch.testing.assert_close(found, gradients(model), rtol=1e-4, atol=1e-6)


def test_the_difference_of_two_views():
    """Kullback-Leibler divergences over the valid steps; a view is led to the other as that stands."""
    torch.manual_seed(4)
    first, second = torch.randn(2, 2, 3, 4).log_softmax(3)
    first[1, 2], second[1, 2] = math.nan, math.nan  # padding may hold anything
    expected = 0.0
    for row, step in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]:
        p, q = first[row, step].tolist(), second[row, step].tolist()
        expected += sum((math.exp(a) - math.exp(b)) * (a - b) for a, b in zip(p, q, strict=True))
    leaf = first.clone().requires_grad_()
    loss = consistency_loss(leaf, second, torch.tensor([3, 2]))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert torch.equal(leaf.grad[0], -second[0].exp())  # of the divergence from the second view to this one alone
    assert not leaf.grad[1, 2].any()


def test_the_difference_of_two_views_is_added_to_the_loss_of_ctc():
    model, batch = make_model("ctc", self_conditioning=True, num_layers=2), make_batch()
    rows = torch.tensor([0, 0, 1, 1, 2, 2])
    tensors = (batch.feats[rows], batch.feat_lens[rows], batch.tokens[rows], batch.token_lens[rows])
    views = Batch(tuple("aabbcc"), *tensors, num_views=2)
    alike = compute_gradients(model, views, None, 0.0).mean(0.0)
    assert alike == pytest.approx(compute_gradients(model, batch, None, 0.0).mean(0.0), rel=1e-5)
    views.feats[1::2] += 1.0
    output = model.outputs(views.feats, views.feat_lens)
    lower, last = (
        ctc_losses(x, output.log_prob_lens, views).sum() + 0.2 * consistency_loss(x[::2], x[1::2], batch.feat_lens)
        for x in (output.lower_log_probs[0], output.ctc_log_probs)
    )
    expected = (2 * last + lower) / 30
    assert compute_gradients(model, views, None, 0.0).mean(0.0) == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("head", ["frames", "both"])
def test_a_batch_without_labels_has_finite_gradients(head):
    model = make_model(head)
    loss = compute_gradients(model, make_batch(with_labels=False), None, 1.0 if head == "frames" else 0.5)
    assert (loss.frames, loss.num_labels) == (0.0, 0)
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())
    assert any(gradient.any() for gradient in gradients(model).values()) == (head == "both")


def test_sums_of_losses():
    whole = LossSum()
    whole.add(LossSum(6.0, 3, 2.0, 4))
    whole.add(LossSum(4.0, 2, 3.0, 1))
    assert [whole.mean(weight) for weight in (0.0, 0.25, 1.0)] == [2.0, 1.75, 1.0]
    assert LossSum(math.inf, 1, 3.0, 2).mean(1.0) == 1.5  # what has no weight has no say


def test_noise_on_weights_is_gone_after_the_block():
    model = make_model("ctc")
    clean = {name: weight.clone() for name, weight in model.state_dict().items()}
    batch, differences = make_batch(), []
    for _ in range(200):
        with pytest.raises(ZeroDivisionError), weight_noise(model, 0.075):
            differences += [(weight - clean[name]).ravel() for name, weight in model.state_dict().items()]
            1 / 0  # noqa: B018
    assert all(torch.equal(weight, clean[name]) for name, weight in model.state_dict().items())
    noise = torch.cat(differences)
    assert noise.std().item() == pytest.approx(0.075, rel=0.01)
    assert abs(noise.mean().item()) < 0.001
    assert np.abs(np.corrcoef(torch.stack(differences[:: len(clean)]).numpy()[:2]))[0, 1] < 0.3  # drawn anew

    torch.manual_seed(7)
    with weight_noise(model, 0.5):
        noisy = {name: weight.clone() for name, weight in model.state_dict().items()}
        compute_gradients(model, batch, None, 0.0)
    found = gradients(model)
    model.load_state_dict(noisy)
    compute_gradients(model, batch, None, 0.0)
    assert all(torch.equal(found[name], gradient) for name, gradient in gradients(model).items())


@pytest.mark.parametrize("cell", ["lstm", "gru", "jordan", "peephole_lstm"])
def test_gradients_go_through_dropped_weights_to_whole_ones(cell):
    model, batch = make_model("ctc", cell=cell, num_layers=2), make_batch()
    whole = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    with weight_drop(model, 0.25):
        dropped = {name: weight.detach().clone() for name, weight in model.named_parameters()}
        loss = compute_gradients(model, batch, None, 0.0).mean(0.0)
    assert all(torch.equal(weight, whole[name]) for name, weight in model.named_parameters())
    scales = {name: (weight != 0) / 0.75 if "weight_hh" in name else 1.0 for name, weight in dropped.items()}
    free = {name: weight.requires_grad_() for name, weight in whole.items()}
    expected = {name: weight * scales[name] for name, weight in free.items()}
    for name, weight in dropped.items():
        torch.testing.assert_close(weight, expected[name].detach())
    output = torch.func.functional_call(model, expected, (batch.feats, batch.feat_lens))
    expected_loss = ctc_losses(*output, batch).sum() / batch.token_lens.sum()
    assert loss == pytest.approx(expected_loss.item(), rel=1e-5)
    expected_gradients = torch.autograd.grad(expected_loss, list(free.values()))
    for name, gradient in zip(free, expected_gradients, strict=True):
        torch.testing.assert_close(gradients(model)[name], gradient)


def test_weights_are_dropped_anew_and_come_back_after_an_error():
    model = make_model("ctc", hidden_size=64)
    whole = {name: weight.clone() for name, weight in model.state_dict().items()}
    shares = []
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), weight_drop(model, 0.3):
            shares += [weight == 0 for name, weight in model.named_parameters() if "weight_hh" in name]
            1 / 0  # noqa: B018
    assert all(torch.equal(weight, whole[name]) for name, weight in model.state_dict().items())
    assert torch.stack(shares).float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert (shares[0] & shares[-1]).float().mean().item() == pytest.approx(0.09, abs=0.02)


def test_no_noise_changes_and_draws_nothing():
    model = make_model("ctc")
    torch.manual_seed(3)
    expected = torch.randn(1)
    torch.manual_seed(3)
    with weight_noise(model, 0.0), weight_drop(model, 0.0):
        pass
    assert torch.equal(torch.randn(1), expected)
