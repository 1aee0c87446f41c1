"""The transducer's loss and gradients: against all alignments one by one, by numerical gradients, and in batches."""

import itertools

import numpy as np
import pytest
import torch

from asrkit._native import kernel
from asrkit.errors import ModelError
from asrkit.models import transducer_lattice
from asrkit.models.transducer_lattice import Lattice, Targets, reference_losses, transducer_losses
from asrkit.models.transducer_loss import transducer_loss

SHAPES = [(1, 0), (1, 1), (1, 4), (3, 0), (2, 1), (3, 2), (4, 3), (2, 5), (6, 2)]  # steps and tokens


@pytest.fixture(params=["kernel", "reference"])
def implementation(request, monkeypatch):
    if request.param == "reference":
        monkeypatch.setattr(transducer_lattice, "kernel", lambda name: None)
    elif kernel("_transducer") is None:
        pytest.skip("_transducer is not built, or ASRKIT_NO_NATIVE is 1")
    return request.param


def make_batch(shapes, num_classes=5, seed=0, scale=2.0):
    """Logits (R, V), numbers of steps, padded tokens and their numbers."""
    generator = torch.Generator().manual_seed(seed)
    num_steps, num_tokens = (torch.tensor(part) for part in zip(*shapes, strict=True))
    num_nodes = int((num_steps * (num_tokens + 1)).sum())
    logits = scale * torch.randn(num_nodes, num_classes, generator=generator, dtype=torch.float64)
    tokens = torch.randint(1, num_classes, (len(shapes), int(num_tokens.max()) + 2), generator=generator)
    return logits, num_steps, tokens, num_tokens


def all_alignments(num_steps, num_tokens):
    """Every path as its nodes, and whether it emits a token at each: it waits `num_steps` times, at last at the end."""
    for emissions in itertools.combinations(range(num_steps + num_tokens - 1), num_tokens):
        t = u = 0
        nodes, emits = [], []
        for place in range(num_steps + num_tokens):
            nodes.append((t, u))
            emits.append(place in emissions)
            t, u = (t, u + 1) if emits[-1] else (t + 1, u)
        yield nodes, emits


def loss_by_alignments(logits, num_steps, tokens):
    """-log of the sum over all paths, for logits of one utterance as torch has them, so that they have gradients."""
    log_probs = torch.log_softmax(logits.view(num_steps, len(tokens) + 1, -1), dim=2)
    sums = [
        sum(log_probs[t, u, tokens[u] if emits else 0] for (t, u), emits in zip(nodes, emissions, strict=True))
        for nodes, emissions in all_alignments(num_steps, len(tokens))
    ]
    return -torch.logsumexp(torch.stack(sums), dim=0)


@pytest.mark.parametrize(("num_steps", "num_tokens"), SHAPES)
def test_loss_and_gradients_are_those_of_all_alignments(implementation, num_steps, num_tokens):
    logits, *batch = make_batch([(num_steps, num_tokens)], seed=num_steps)
    logits.requires_grad_()
    (loss,) = transducer_loss(logits, *batch)
    (grads,) = torch.autograd.grad(loss, logits)
    expected = loss_by_alignments(logits, num_steps, batch[1][0, :num_tokens].tolist())
    (expected_grads,) = torch.autograd.grad(expected, logits)
    assert loss.item() == pytest.approx(expected.item(), rel=0, abs=1e-10)
    torch.testing.assert_close(grads, expected_grads, rtol=0, atol=1e-10)


def test_a_batch_is_its_utterances(implementation):
    """To the last bit, and with gradients for a loss of any weights."""
    logits, num_steps, tokens, num_tokens = make_batch(SHAPES, seed=1)
    weights = torch.linspace(-1.0, 2.0, len(SHAPES), dtype=torch.float64)
    logits.requires_grad_()
    losses = transducer_loss(logits, num_steps, tokens, num_tokens)
    (grads,) = torch.autograd.grad(losses @ weights, logits)
    sizes = (num_steps * (num_tokens + 1)).tolist()
    for n, (some, found) in enumerate(zip(logits.detach().split(sizes), grads.split(sizes), strict=True)):
        some.requires_grad_()
        (alone,) = transducer_loss(some, num_steps[n : n + 1], tokens[n : n + 1], num_tokens[n : n + 1])
        assert alone == losses[n]
        assert torch.equal(torch.autograd.grad(alone * weights[n], some)[0], found)
        with torch.no_grad():
            assert transducer_loss(some, num_steps[n : n + 1], tokens[n : n + 1], num_tokens[n : n + 1]) == alone


def test_numerical_gradients_agree(implementation):
    logits, *batch = make_batch([(3, 2), (2, 3), (1, 0)], num_classes=4)
    logits.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: transducer_loss(x, *batch), (logits,), atol=1e-7)


@pytest.mark.skipif(kernel("_transducer") is None, reason="_transducer is not built, or ASRKIT_NO_NATIVE is 1")
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-11), (np.float32, 3e-6)])
@pytest.mark.parametrize("scale", [0.1, 3.0, 60.0])
def test_the_kernel_agrees_with_the_reference(dtype, tolerance, scale):
    """Also where nearly all alignments are next to impossible; float32 has sums in float64."""
    shapes = [(37, 21), (5, 40), (60, 3), (1, 9), (23, 0), (64, 31)]
    logits, num_steps, tokens, num_tokens = make_batch(shapes, num_classes=43, scale=scale)
    rows = [row[:length] for row, length in zip(tokens, num_tokens, strict=True)]
    targets = Targets(num_steps.numpy(), torch.cat(rows).numpy(), num_tokens.numpy())
    array = logits.numpy().astype(dtype)
    found, expected = np.empty_like(array), np.empty_like(array)
    losses, expected_losses = transducer_losses(array, targets, found), np.empty(len(shapes))
    reference_losses(array, *targets, expected_losses, expected)
    np.testing.assert_allclose(losses, expected_losses, rtol=1e-12, atol=0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(found.sum(axis=1), 0.0, rtol=0, atol=10 * tolerance)  # of a softmax


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_cannot_be_has_an_infinite_loss_and_what_is_no_number_none(implementation, dtype):
    logits, *batch = make_batch([(2, 1), (2, 1), (2, 1), (2, 1), (2, 1)])
    logits = logits.to(dtype)
    logits[4:8, batch[1][1, 0]] = -torch.inf  # its token nowhere
    logits[9] = torch.nan
    logits[15, 2] = torch.inf
    other = 1 + batch[1][4, 0] % 4
    logits[16:, other] = -torch.inf  # a class that is not needed
    logits.requires_grad_()
    losses = transducer_loss(logits, *batch)
    (grads,) = torch.autograd.grad(losses.sum(), logits)
    assert losses.dtype == dtype
    assert losses[1] == torch.inf and losses[2:4].isnan().all() and losses[[0, 4]].isfinite().all()
    assert grads[4:16].isnan().all() and grads[:4].isfinite().all() and grads[16:].isfinite().all()
    assert (grads[16:, other] == 0).all()


def test_a_lattice_tells_where_tokens_are_emitted():
    """What is passed is what is left, and tokens that may be emitted in some steps alone are."""
    logits, *_ = make_batch([(6, 3)])
    log_probs = torch.log_softmax(logits, dim=1).view(6, 4, 5).numpy()
    tokens = np.array([2, 2, 4])
    lattice = Lattice.of(log_probs, tokens)
    np.testing.assert_allclose(lattice.token.sum(axis=0), 1.0, atol=1e-12)
    np.testing.assert_allclose(lattice.blank.sum(axis=1), 1.0, atol=1e-12)
    allowed = np.arange(6)[:, None] >= np.array([0, 2, 5])
    later = Lattice.of(log_probs, tokens, allowed)
    assert (later.token[~allowed] == 0).all() and later.log_prob < lattice.log_prob
    np.testing.assert_allclose(later.token.sum(axis=0), 1.0, atol=1e-12)
    kept = [
        sum(log_probs[t, u, tokens[u] if emits else 0] for (t, u), emits in zip(nodes, emissions, strict=True))
        for nodes, emissions in all_alignments(6, 3)
        if all(not emits or allowed[t, u] for (t, u), emits in zip(nodes, emissions, strict=True))
    ]
    assert later.log_prob == pytest.approx(np.logaddexp.reduce(kept), abs=1e-10)


def test_arrays_that_do_not_fit_are_refused(implementation):
    logits, num_steps, tokens, num_tokens = make_batch([(3, 2)])
    with pytest.raises(ModelError, match="a transducer's output has 8 nodes; expected 9"):
        transducer_loss(logits[:-1], num_steps, tokens, num_tokens)
