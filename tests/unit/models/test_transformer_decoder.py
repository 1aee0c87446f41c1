"""The Transformer decoder against sums over phones and steps in NumPy; place by place with what is kept; positions.

What holds for all decoders (batches, gradients, sampling) is in test_decoder.py.
"""

import math

import numpy as np
import pytest
import torch

from asrkit.models.decoder import END, DecoderTraining
from asrkit.models.positions import sinusoids
from tests.unit.models.test_decoder import TRANSFORMERS, make_decoder, naming, random_steps, read_in_numpy

TOKENS = torch.tensor([[1, 4, 2, 2, 3], [3, 3, 1, 4, 4], [2, 1, 4, 1, 0]])


class Reference:
    """The decoder on one utterance by its formulas: phone by phone, head by head, step by step."""

    def __init__(self, decoder):
        self.weights = {name: values.detach().numpy() for name, values in decoder.named_parameters()}
        self.config = decoder.config

    def linear(self, name, x):
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - sum(x) / len(x)
        deviation = math.sqrt(sum(centred**2) / len(x) + 1e-5)
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def position(self, place, size):
        found = []
        for number in range(size):
            angle = place / 10000 ** ((number - number % 2) / size)
            found.append(math.cos(angle) if number % 2 else math.sin(angle))
        return np.array(found)

    def attention(self, name, x, seen):
        """What x gets of those that it sees, and the weights of each head."""
        query, pairs = self.linear(f"{name}.query", x), [self.linear(f"{name}.key_value", y) for y in seen]
        size = len(query) // self.config.num_heads
        joined, looked = [], []
        for head in range(self.config.num_heads):
            rows = slice(head * size, (head + 1) * size)
            scores = [math.exp(query[rows] @ pair[: len(query)][rows] / math.sqrt(size)) for pair in pairs]
            weights = [score / sum(scores) for score in scores]
            joined.append(sum(w * pair[len(query) :][rows] for w, pair in zip(weights, pairs, strict=True)))
            looked.append(weights)
        return self.linear(f"{name}.output", np.concatenate(joined)), looked

    def run(self, steps, tokens):
        """Log-probabilities (U + 1, V), and the last layer's weights (U + 1, H, T)."""
        memory = [step + self.position(place, len(step)) for place, step in enumerate(steps)]
        embeddings = self.weights["embedding.weight"][[END, *tokens]]
        states = [x + self.position(place, len(x)) for place, x in enumerate(embeddings)]
        for number in range(self.config.num_layers):
            name, looked = f"layers.{number}", []
            normed = [self.norm(f"{name}.before_norm", x) for x in states]
            for place, x in enumerate(list(states)):
                x = x + self.attention(f"{name}.before", normed[place], normed[: place + 1])[0]
                heard, weights = self.attention(f"{name}.audio", self.norm(f"{name}.audio_norm", x), memory)
                looked.append(weights)
                x = x + heard
                inner = self.linear(f"{name}.feed_forward.inner", self.norm(f"{name}.feed_forward.norm", x))
                states[place] = x + self.linear(f"{name}.feed_forward.outer", np.maximum(inner, 0))
        logits = [self.linear("output", self.norm("norm", x)) for x in states]
        return np.array([each - np.log(np.exp(each).sum()) for each in logits]), np.array(looked)


@pytest.mark.parametrize("settings", TRANSFORMERS, ids=naming)
def test_the_decoder_is_what_its_formulas_say(settings):
    """In PyTorch all places at once, and in NumPy place by place; in float64 to 1e-10."""
    decoder, (steps, lens) = make_decoder(**settings), random_steps(9, 5, 7, extra=2)
    with torch.no_grad():
        at_once = decoder(decoder.source(steps, lens), TOKENS).numpy()
    one_by_one, weights = read_in_numpy(
        decoder.for_search(), steps.nan_to_num(0.0).numpy(), lens.numpy(), TOKENS.numpy()
    )
    for row, num_steps in enumerate(lens.tolist()):
        expected, looked = Reference(decoder).run(steps[row, :num_steps].numpy(), TOKENS[row].tolist())
        np.testing.assert_allclose(at_once[row], expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(one_by_one[row], expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(weights[row, :, :, :num_steps], looked, rtol=0, atol=1e-10)
        assert not weights[row, :, :, num_steps:].any()


def test_place_by_place_in_single_precision():
    """A decoder of a usual size over a long utterance: what is kept of the phones before is what they had."""
    decoder, rng = (
        make_decoder(layers="transformer", hidden_size=64, num_heads=4, num_layers=3).float(),
        (np.random.default_rng(2)),
    )
    with torch.no_grad():
        for weights in decoder.parameters():
            weights.mul_(0.3)
    steps, tokens = rng.standard_normal((2, 120, 6), np.float32), rng.integers(1, 5, (2, 70))
    lens = torch.tensor([120, 90])
    steps[1, 90:] = 0.0
    with torch.no_grad():
        expected = decoder(decoder.source(torch.from_numpy(steps), lens), torch.from_numpy(tokens)).numpy()
    search = decoder.for_search()
    found, weights = read_in_numpy(search, steps, lens.numpy(), tokens)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(weights.sum(axis=3), 1.0, rtol=0, atol=1e-5)
    assert search.dtype == weights.dtype == np.float32


def test_hypotheses_keep_what_they_wrote():
    """A search goes on from any hypotheses in any order: each has its own phones before."""
    decoder, (steps, lens) = make_decoder(**TRANSFORMERS[0]), random_steps(6, 6)
    search, labelings = decoder.for_search(), np.array([[1, 2, 3], [1, 4, 3], [2, 2, 1]])
    source = search.source(steps.numpy(), lens.numpy())
    state, before = search.start(source), np.full((2, 1), END)
    for place in range(3):
        step = search.step(before, state, source)
        parents = np.array([0, 0, 0] if place == 0 else [0, 1, 2])
        state, before = tuple(part[:, parents] for part in step.state), np.tile(labelings[:, place], (2, 1))
    order = np.array([2, 0])
    found = search.step(before[:, order], tuple(part[:, order] for part in state), source).log_probs
    with torch.no_grad():
        for row, hyp in np.ndindex(found.shape[:2]):
            memory = decoder.source(steps[row : row + 1], lens[row : row + 1])
            expected = decoder(memory, torch.from_numpy(labelings[order[hyp]][None]))[0, -1]
            np.testing.assert_allclose(found[row, hyp], expected, rtol=0, atol=1e-10)


def test_no_phone_is_seen_before_it_is_written():
    decoder, (steps, lens) = make_decoder(**TRANSFORMERS[0]), random_steps(6)
    other = torch.tensor([[1, 4, 3, 1, 4]])
    with torch.no_grad():
        source = decoder.source(steps, lens)
        found, changed = decoder(source, TOKENS[:1])[0], decoder(source, other)[0]
    np.testing.assert_allclose(found[:3], changed[:3], rtol=0, atol=1e-12)
    assert (found[3:] - changed[3:]).abs().amax(dim=1).min() > 1e-6


def test_phones_of_its_own_are_drawn_at_their_places(monkeypatch):
    """With all phones its own, the second pass sees what the first gave one place before, behind END."""
    decoder, (steps, lens) = make_decoder(**TRANSFORMERS[0]), random_steps(6)
    seen, real = [], decoder.logits
    monkeypatch.setattr(decoder, "logits", lambda source, before: seen.append(before) or real(source, before))
    monkeypatch.setattr("asrkit.models.transformer_decoder.draw_classes", lambda log_probs: log_probs.argmax(dim=2))
    decoder.losses(decoder.source(steps, lens), TOKENS[:1], torch.tensor([5]), DecoderTraining(1.0, 0.0, 0.999999))
    first, second = seen
    assert first.tolist() == [[END, *TOKENS[0].tolist()]]
    assert second.tolist() == [[END, *real(decoder.source(steps, lens), first).argmax(dim=2)[0, :-1].tolist()]]


def test_positions_turn_by_the_same_angle_from_place_to_place():
    found = sinusoids(0, 40, 6)
    np.testing.assert_allclose(found[0], [0, 1, 0, 1, 0, 1], atol=0)
    np.testing.assert_array_equal(sinusoids(7, 3, 6), found[7:10])
    products = found @ found.T
    for distance in range(20):
        np.testing.assert_allclose(np.diagonal(products, distance), products[0, distance], rtol=0, atol=1e-12)
    assert np.linalg.matrix_rank(sinusoids(0, 9, 5)) == 5
