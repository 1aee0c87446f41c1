"""The attention decoder: against NumPy's own formulas, by numerical gradients, and in batches."""

import itertools

import numpy as np
import pytest
import torch

from asrkit.errors import ConfigError
from asrkit.models.attention import HardReading
from asrkit.models.decoder import END, NO_DECODER, DecoderTraining, draw_classes
from asrkit.models.decoder_config import (
    CONTEXTS,
    DECODER_CELLS,
    READINGS,
    SCORES,
    WINDOWS,
    DecoderConfig,
    attention_decoder,
)
from asrkit.models.dropout import dropout_from

SIZE, CLASSES = 6, 5  # of queries and steps alike, as score dot needs it
KINDS = [{"score": score} for score in SCORES] + [
    {"score": "location_aware", "num_heads": 2},
    {"score": "additive", "num_heads": 3},
    {"score": "dot", "num_heads": 2},
    {"score": "scaled_dot", "num_heads": 2},
    {"score": "general", "num_heads": 3},
    {"score": "cosine", "num_heads": 2},
    {"score": "location", "num_heads": 2},
    {"window": "local", "window_size": 2},
    {"window": "local", "window_size": 1, "score": "general", "num_heads": 2},
    {"cell": "gru", "score": "additive"},
    {"cell": "elman", "score": "general"},
    {"num_layers": 2, "input_feeding": False},
    {"num_layers": 2, "cell": "gru", "context": "fixed"},
    {"context": "fixed"},
    {"reading": "hard"},
]
TRANSFORMERS = [
    {"layers": "transformer", "num_heads": 2, "num_layers": 2},
    {"layers": "transformer", "hidden_size": 5},
]


def naming(settings):
    return " ".join(map(str, settings.values()))


def make_decoder(**settings):
    torch.manual_seed(7)
    if "layers" in settings:
        sizes = {"feed_forward_size": 7}
    else:
        sizes = {"embedding_size": 3, "attention_size": 6, "location_channels": 3, "location_width": 3}
        sizes["max_positions"] = 6
    config = DecoderConfig(**{"hidden_size": SIZE, "dropout": 0.0, **sizes, **settings})
    decoder = attention_decoder(config, SIZE, CLASSES, False).double().eval()
    with torch.no_grad():
        for weights in decoder.parameters():
            weights.copy_(torch.randn_like(weights) * 0.7)
    return decoder


def random_steps(*lens, extra=0):
    generator = torch.Generator().manual_seed(len(lens))
    steps = torch.randn(len(lens), max(lens) + extra, SIZE, generator=generator, dtype=torch.float64)
    for row, length in enumerate(lens):
        steps[row, length:] = float("nan")
    return steps, torch.tensor(lens)


# What the formulas say of one utterance, one phone after another.


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def affine(weights, name, inputs):
    bias = weights.get(f"{name}.bias", 0.0)
    return weights[f"{name}.weight"] @ inputs + bias


def share(vector, head, num_heads):
    size = len(vector) // num_heads
    return vector[head * size : (head + 1) * size]


def score_of(config, weights, query, steps, last, head):
    """Scores (T,) of one head; `last` (H, T) are the weights before."""
    num_heads, name = config.num_heads, "context.score"
    scores = []
    for j, step in enumerate(steps):
        if config.score in ("additive", "location_aware"):
            total = affine(weights, f"{name}.query", query) + affine(weights, f"{name}.key", step)
            if config.score == "location_aware":
                kernel, half = weights[f"{name}.filters.weight"], config.location_width // 2
                features = np.zeros(len(kernel))
                for channel, each in np.ndindex(*kernel.shape[:2]):
                    for offset in range(-half, half + 1):
                        if 0 <= j + offset < len(steps):
                            features[channel] += kernel[channel, each, offset + half] * last[each, j + offset]
                total = total + affine(weights, f"{name}.location", features)
            scores.append(weights[f"{name}.weight"][head, :, 0] @ np.tanh(share(total, head, num_heads)))
        elif config.score == "dot":
            scores.append(share(query, head, num_heads) @ share(step, head, num_heads))
        elif config.score == "scaled_dot":
            first = share(affine(weights, f"{name}.query", query), head, num_heads)
            second = share(affine(weights, f"{name}.key", step), head, num_heads)
            scores.append(first @ second / np.sqrt(len(first)))
        elif config.score == "general":
            key = affine(weights, f"{name}.key", step)
            scores.append(share(query, head, num_heads) @ share(key, head, num_heads))
        elif config.score == "cosine":
            first = share(affine(weights, f"{name}.query", query), head, num_heads)
            second = share(step, head, num_heads)
            strength = np.log1p(np.exp(affine(weights, f"{name}.strength", query)[head]))
            scores.append(strength * first @ second / np.linalg.norm(first) / np.linalg.norm(second))
        else:
            row = head * config.max_positions + j
            is_known = j < config.max_positions
            scores.append(weights[f"{name}.positions.weight"][row] @ query if is_known else -np.inf)
    return np.array(scores)


def weights_of(config, weights, query, scores, head):
    if config.window == "global":
        return softmax(scores)
    center = affine(weights, "context.window.center", np.tanh(affine(weights, "context.window.hidden", query)))[head]
    distances = np.arange(len(scores)) - (len(scores) - 1) * sigmoid(center)
    near = np.abs(distances) <= config.window_size
    found = np.zeros(len(scores))
    found[near] = softmax(scores[near])
    return found * np.exp(-(distances**2) / (2 * (config.window_size / 2) ** 2))


def cell_of(config, weights, layer, inputs, states):
    gates = affine({f"x.{k}": weights[f"cells.{layer}.{k}_ih"] for k in ("weight", "bias")}, "x", inputs)
    fed = affine({f"x.{k}": weights[f"cells.{layer}.{k}_hh"] for k in ("weight", "bias")}, "x", states[0])
    if config.cell == "lstm":
        enter, forget, cell, leave = np.split(gates + fed, 4)
        memory = sigmoid(forget) * states[1] + sigmoid(enter) * np.tanh(cell)
        return [sigmoid(leave) * np.tanh(memory), memory]
    if config.cell == "elman":
        return [np.tanh(gates + fed)]
    (reset, update, new), (fed_reset, fed_update, fed_new) = np.split(gates, 3), np.split(fed, 3)
    kept = sigmoid(update + fed_update)
    return [(1 - kept) * np.tanh(new + sigmoid(reset + fed_reset) * fed_new) + kept * states[0]]


def reference(decoder, steps, tokens):
    """Log-probabilities (U + 1, V) and attention weights (U + 1, H, T) of one utterance's steps (T, E)."""
    config = decoder.config
    weights = {name: values.numpy() for name, values in decoder.state_dict().items()}
    edges = np.concatenate([steps[-1], steps[0]])
    states = np.tanh(affine(weights, "bridge", edges)).reshape(config.num_layers, decoder.num_states, -1)
    fed, last = np.zeros(config.hidden_size), np.zeros((config.num_heads, len(steps)))
    log_probs, found = [], []
    for token in [END, *tokens]:
        inputs = weights["embedding.weight"][token]
        if config.input_feeding:
            inputs = np.concatenate([inputs, fed])
        states = states.copy()
        for layer in range(config.num_layers):
            states[layer] = cell_of(config, weights, layer, inputs, states[layer])
            inputs = states[layer][0]
        query, vectors = inputs, []
        if config.context == "fixed":
            last, vectors = np.full((1, len(steps)), 1 / len(steps)), [edges]
        else:
            each = range(config.num_heads)
            scores = [score_of(config, weights, query, steps, last, head) for head in each]
            last = np.array([weights_of(config, weights, query, scores[head], head) for head in each])
            values = steps @ weights["context.value.weight"].T if config.num_heads > 1 else steps
            for head in each:
                taken = last[head]
                if config.reading == "hard":
                    taken = np.eye(len(taken))[taken.argmax()]
                vectors.append(
                    sum(w * share(value, head, config.num_heads) for w, value in zip(taken, values, strict=True))
                )
        fed = np.tanh(affine(weights, "combine", np.concatenate([*vectors, query])))
        log_probs.append(np.log(softmax(affine(weights, "output", fed))))
        found.append(last)
    return np.array(log_probs), np.array(found)


def read(decoder, steps, lens, tokens):
    with torch.no_grad():
        found = decoder.read(decoder.source(steps, lens), tokens)
        vectors = torch.cat([step.vector for step in found], dim=1)
        return decoder.log_probs(vectors).numpy(), torch.cat([step.context.weights for step in found], dim=1).numpy()


@pytest.mark.parametrize("settings", KINDS, ids=naming)
def test_the_decoder_is_what_its_formulas_say(settings):
    decoder, (steps, lens) = make_decoder(**settings), random_steps(9, 5, 7, extra=2)
    tokens = torch.tensor([[1, 4, 2], [3, 3, 1], [2, 1, 4]])
    log_probs, weights = read(decoder, steps, lens, tokens)
    for row, num_steps in enumerate(lens.tolist()):
        expected, looked = reference(decoder, steps[row, :num_steps].numpy(), tokens[row].tolist())
        np.testing.assert_allclose(log_probs[row], expected, rtol=0, atol=1e-10)
        np.testing.assert_allclose(weights[row, :, :, :num_steps], looked, rtol=0, atol=1e-10)
        assert not weights[row, :, :, num_steps:].any()


def test_every_choice_is_tried():
    assert {decoder.get("score", "location_aware") for decoder in KINDS} == set(SCORES)
    assert {decoder.get("window", "global") for decoder in KINDS} == set(WINDOWS)
    assert {decoder.get("context", "attention") for decoder in KINDS} == set(CONTEXTS)
    assert {decoder.get("cell", "lstm") for decoder in KINDS} == set(DECODER_CELLS)
    assert {decoder.get("reading", "soft") for decoder in KINDS} == set(READINGS)


@pytest.mark.parametrize("settings", KINDS + TRANSFORMERS, ids=naming)
def test_losses_and_gradients_do_not_depend_on_the_batch(settings):
    """In float64 to 1e-10: an utterance alone, and with others and padding that holds anything."""
    decoder, (steps, lens) = make_decoder(**settings), random_steps(8, 4, 6, extra=3)
    tokens, token_lens = torch.tensor([[1, 4, 2, 2], [3, 2, 4, 0], [2, 1, 0, 3]]), torch.tensor([4, 1, 2])
    steps.requires_grad_()
    losses = decoder.losses(decoder.source(steps, lens), tokens, token_lens, DecoderTraining(1.0, 0.1))
    (grads,) = torch.autograd.grad(losses.sum(), [steps])
    for row in range(3):
        alone = steps[row : row + 1, : lens[row]].detach().requires_grad_()
        source = decoder.source(alone, lens[row : row + 1])
        loss = decoder.losses(source, tokens[row : row + 1], token_lens[row : row + 1], DecoderTraining(1.0, 0.1))
        assert loss.item() == pytest.approx(losses[row].item(), abs=1e-10)
        (expected,) = torch.autograd.grad(loss.sum(), [alone])
        torch.testing.assert_close(grads[row, : lens[row]], expected[0], rtol=0, atol=1e-10)
        assert not grads[row, lens[row] :].any()


@pytest.mark.parametrize("settings", [kind for kind in KINDS + TRANSFORMERS if "reading" not in kind], ids=naming)
def test_gradients_are_numerical_ones(settings):
    decoder, (steps, lens) = make_decoder(**settings), random_steps(4, 4)
    tokens, token_lens = torch.tensor([[1, 2], [3, 0]]), torch.tensor([2, 1])

    def losses(steps, *weights):
        named = dict(zip([name for name, _ in decoder.named_parameters()], weights, strict=True))
        return torch.func.functional_call(_Losses(decoder), {f"decoder.{k}": v for k, v in named.items()}, (steps,))

    class _Losses(torch.nn.Module):
        def __init__(self, decoder):
            super().__init__()
            self.decoder = decoder

        def forward(self, steps):
            return self.decoder.losses(self.decoder.source(steps, lens), tokens, token_lens, NO_DECODER)

    inputs = [steps.requires_grad_(), *(weights.detach().requires_grad_() for weights in decoder.parameters())]
    assert torch.autograd.gradcheck(losses, inputs, fast_mode=True)


@pytest.mark.parametrize("num_heads", [1, 2])
def test_hard_attention_follows_the_gradient_of_the_expected_loss(num_heads):
    """REINFORCE's mean over all steps that can be drawn, by their weights, is the gradient of the expected loss.

    Each head draws a step for the phone and one for the end. So the draw of the phone counts for both losses.
    """
    decoder, (steps, lens) = make_decoder(reading="hard", score="general", num_heads=num_heads), random_steps(3)
    decoder.train()
    tokens, token_lens = torch.tensor([[2]]), torch.tensor([1])
    names, weights = zip(*((n, w) for n, w in decoder.named_parameters() if "baseline" not in n), strict=True)

    class Drawn(HardReading):
        def forward(self, weights):
            _, draw = super().forward(weights)
            chosen = torch.tensor(next(self.draws_left))[None, :, None, None]  # a step of each head
            log_prob = weights.gather(3, chosen).log().sum(dim=(1, 3))
            taken = torch.zeros_like(weights).scatter_(3, chosen, 1.0)
            return taken, draw._replace(log_prob=log_prob, entropy=draw.entropy.detach())

    decoder.context.read = Drawn()
    expected, mean, whole = 0.0, [torch.zeros_like(weight) for weight in weights], 0.0
    heads = list(itertools.product(range(3), repeat=num_heads))
    for draws in itertools.product(heads, repeat=2):
        decoder.context.read.draws_left = iter([*draws, *draws])
        source = decoder.source(steps, lens)
        (loss,) = decoder.losses(source, tokens, token_lens, NO_DECODER)
        found = decoder.read(source, tokens)
        nll = -sum(decoder.log_probs(step.vector)[0, 0, token] for step, token in zip(found, (2, END), strict=True))
        assert loss.item() == pytest.approx(nll.item())
        share = torch.stack([step.context.draw.log_prob for step in found]).sum().exp()
        grads = torch.autograd.grad(loss, weights, retain_graph=True)
        mean = [so_far + share.detach() * grad for so_far, grad in zip(mean, grads, strict=True)]
        expected, whole = expected + share * nll, whole + share.item()
    assert whole == pytest.approx(1.0)
    for name, found, right in zip(names, mean, torch.autograd.grad(expected, weights), strict=True):
        torch.testing.assert_close(found, right, rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("settings", [{}, TRANSFORMERS[0]], ids=["recurrent", "transformer"])
def test_label_smoothing_spreads_a_share_of_the_target_over_all_classes(settings):
    decoder, (steps, lens) = make_decoder(**settings), random_steps(6, 4)
    tokens, token_lens = torch.tensor([[1, 4, 2], [3, 0, 0]]), torch.tensor([3, 1])
    source = decoder.source(steps, lens)
    losses = decoder.losses(source, tokens, token_lens, DecoderTraining(1.0, 0.3))
    log_probs = decoder(source, tokens).detach().numpy()
    for row, phones in enumerate(([1, 4, 2, END], [3, END])):
        right = sum(log_probs[row, place, phone] for place, phone in enumerate(phones))
        everything = log_probs[row, : len(phones)].sum() / CLASSES
        assert losses[row].item() == pytest.approx(-0.7 * right - 0.3 * everything, abs=1e-10)


def test_hard_attention_draws_steps_by_their_weights():
    weights = torch.tensor([0.2, 0.0, 0.5, 0.3]).repeat(4000, 1, 1, 1)
    reading = HardReading().train()
    with dropout_from(torch.Generator().manual_seed(1)):
        taken, draw = reading(weights)
    assert (taken.sum(dim=3) == 1).all()
    np.testing.assert_allclose(taken.mean(dim=(0, 1, 2)), weights[0, 0, 0], atol=0.03)
    torch.testing.assert_close(draw.log_prob[:, 0].exp(), (taken * weights).sum(dim=(1, 2, 3)))


@pytest.mark.parametrize("settings", [{}, TRANSFORMERS[0]], ids=["recurrent", "transformer"])
def test_scheduled_sampling_shows_the_decoder_its_own_phones(settings):
    decoder, (steps, lens) = make_decoder(**settings), random_steps(6, 6)
    decoder.train()
    source, tokens = decoder.source(steps, lens), torch.tensor([[1, 2, 3, 4], [4, 3, 2, 1]])
    token_lens = torch.tensor([4, 4])

    def losses(sampling, seed=1):
        with dropout_from(torch.Generator().manual_seed(seed)):
            return decoder.losses(source, tokens, token_lens, DecoderTraining(1.0, 0.0, sampling))

    assert torch.equal(losses(0.0), losses(0.0, seed=2))
    assert torch.equal(losses(0.9), losses(0.9))
    assert not torch.equal(losses(0.9), losses(0.0))
    assert not torch.equal(losses(0.9), losses(0.9, seed=2))


def test_phones_are_drawn_from_the_decoders_output():
    decoder, vectors = make_decoder(), torch.randn(1, 1, SIZE, dtype=torch.float64).expand(4000, 1, SIZE)
    with dropout_from(torch.Generator().manual_seed(3)):
        drawn = draw_classes(decoder.log_probs(vectors))
    shares = torch.bincount(drawn.flatten(), minlength=CLASSES) / 4000
    np.testing.assert_allclose(shares, decoder.log_probs(vectors[0, 0]).exp().detach(), atol=0.03)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"score": "dot", "hidden_size": 4}, r"hidden_size: score dot needs the size of the encoder's outputs \(6\)"),
        ({"num_heads": 4}, "num_heads must divide the size of the encoder's outputs"),
        ({"num_heads": 3, "attention_size": 4, "score": "additive"}, "num_heads must divide .* found 3 for 4"),
        ({"location_width": 4}, "location_width must be odd"),
        ({"layers": "transformer", "num_heads": 4}, r"num_heads must divide hidden_size \(6\), found 4"),
        ({"layers": "transformer", "cell": "gru"}, "decoder.cell is for layers recurrent, found layers transformer"),
        ({"layers": "transformer", "score": "dot"}, "decoder.score is for layers recurrent, found layers transformer"),
        ({"feed_forward_size": 7}, "feed_forward_size is for layers transformer, found layers recurrent; leave it out"),
    ],
)
def test_sizes_that_do_not_fit_are_told(settings, fault):
    with pytest.raises(ConfigError, match=fault):
        make_decoder(**settings)


def read_in_numpy(decoder, steps, lens, tokens):
    """As read, by the decoder of searches."""
    source = decoder.source(steps, lens)
    state, log_probs, weights = decoder.start(source), [], []
    for before in np.pad(tokens, [(0, 0), (1, 0)], constant_values=END).T:
        step = decoder.step(before[:, None], state, source)
        state = step.state
        log_probs.append(step.log_probs)
        weights.append(step.weights)
    return np.concatenate(log_probs, axis=1), np.concatenate(weights, axis=1)


@pytest.mark.parametrize("settings", KINDS, ids=naming)
def test_searches_have_the_same_decoder(settings):
    """In NumPy: in float64 as it is, and in float32 to rounding."""
    module, (steps, lens) = make_decoder(**settings), random_steps(9, 5, 7, extra=2)
    tokens, steps = torch.tensor([[1, 4, 2], [3, 3, 1], [2, 1, 4]]), steps.nan_to_num(0.0)
    log_probs, weights = read(module, steps, lens, tokens)
    found, looked = read_in_numpy(module.for_search(), steps.numpy(), lens.numpy(), tokens.numpy())
    np.testing.assert_allclose(found, log_probs, rtol=0, atol=1e-10)
    np.testing.assert_allclose(looked, weights, rtol=0, atol=1e-10)
    single = module.float().for_search()
    found, looked = read_in_numpy(single, steps.float().numpy(), lens.numpy(), tokens.numpy())
    np.testing.assert_allclose(found, log_probs, rtol=0, atol=1e-4)
    np.testing.assert_allclose(looked, weights, rtol=0, atol=1e-5)
    assert single.dtype == looked.dtype == np.float32
