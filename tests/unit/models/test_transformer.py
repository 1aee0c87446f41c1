"""The Transformer's and the Conformer's encoder against sums over steps in NumPy, and their gradients."""

import math

import numpy as np
import pytest
import torch
from torch.func import functional_call

from asrkit.errors import ConfigError
from asrkit.models.config import ModelConfig
from asrkit.models.encoders import ENCODERS

LENS = (9, 1, 4)


def make_encoder(name, input_size=5, **settings):
    """An untrained encoder whose weights, those of norms too, are large enough for each of them to count."""
    torch.manual_seed(1)
    sizes = {"num_layers": 2, "hidden_size": 6, "num_heads": 2, "attention_reach": 3, "feed_forward_size": 7}
    sizes |= {"conv_kernel": 5} if "conv_kernel" in ENCODERS[name].settings else {}
    config = ModelConfig(encoder=name, **{**sizes, **settings})
    encoder = ENCODERS[name].load()(input_size, config).double().eval()
    for weights in encoder.parameters():
        torch.nn.init.uniform_(weights, -0.8, 0.8)
    return encoder


class Reference:
    """The encoder on one utterance (T', D), by its formulas: step by step, head by head."""

    def __init__(self, encoder, feedback=None):
        self.weights = {name: values.detach().numpy() for name, values in encoder.named_parameters()}
        self.num_layers, self.num_heads, self.feedback = 2, 2, feedback

    def linear(self, name, x):
        return self.weights[f"{name}.weight"] @ x + self.weights[f"{name}.bias"]

    def norm(self, name, x):
        centred = x - sum(x) / len(x)
        deviation = math.sqrt(sum(centred**2) / len(x) + 1e-5)
        return centred / deviation * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]

    def attention(self, name, steps):
        size = len(steps[0]) // self.num_heads
        projected = [self.linear(f"{name}.query_key_value", x) for x in steps]
        biases = self.weights[f"{name}.bias_of_distance"]
        reach = biases.shape[1] // 2
        outputs = []
        for i in range(len(steps)):
            joined = []
            for head in range(self.num_heads):
                q, *_ = np.split(projected[i], 3)
                rows = slice(head * size, (head + 1) * size)
                scores, values = [], []
                for j in range(max(i - reach, 0), min(i + reach + 1, len(steps))):
                    _, k, v = np.split(projected[j], 3)
                    scores.append(math.exp(q[rows] @ k[rows] / math.sqrt(size) + biases[head, reach + j - i]))
                    values.append(v[rows])
                joined.append(sum(s * v for s, v in zip(scores, values, strict=True)) / sum(scores))
            outputs.append(self.linear(f"{name}.output", np.concatenate(joined)))
        return outputs

    def feed_forward(self, name, x, f):
        return self.linear(f"{name}.outer", f(self.linear(f"{name}.inner", self.norm(f"{name}.norm", x))))

    def attended(self, name, steps):
        normed = [self.norm(f"{name}.attention_norm", x) for x in steps]
        return [x + y for x, y in zip(steps, self.attention(f"{name}.attention", normed), strict=True)]

    def transformer(self, name, steps):
        steps = self.attended(name, steps)
        return [x + self.feed_forward(f"{name}.feed_forward", x, lambda y: np.maximum(y, 0)) for x in steps]

    def conformer(self, name, steps):
        steps = [x + 0.5 * self.feed_forward(f"{name}.first", x, swish) for x in steps]
        steps = self.attended(name, steps)
        steps = [x + y for x, y in zip(steps, self.convolution(f"{name}.convolution", steps), strict=True)]
        steps = [x + 0.5 * self.feed_forward(f"{name}.second", x, swish) for x in steps]
        return [self.norm(f"{name}.norm", x) for x in steps]

    def convolution(self, name, steps):
        gated = []
        for x in steps:
            a, b = np.split(self.linear(f"{name}.gated", self.norm(f"{name}.norm", x)), 2)
            gated.append(a / (1 + np.exp(-b)))
        kernel, bias = self.weights[f"{name}.depthwise.weight"], self.weights[f"{name}.depthwise.bias"]
        side, outputs = kernel.shape[2] // 2, []
        for t in range(len(steps)):
            total = bias.copy()
            for unit, shift in np.ndindex(len(bias), kernel.shape[2]):
                if 0 <= t + shift - side < len(steps):
                    total[unit] += kernel[unit, 0, shift] * gated[t + shift - side][unit]
            outputs.append(self.linear(f"{name}.output", swish(self.norm(f"{name}.inner_norm", total))))
        return outputs

    def run(self, kind, inputs):
        steps, kept = [self.linear("input", x) for x in inputs], []
        for number in range(self.num_layers):
            if self.feedback is not None and kept:
                steps = [x + self.feedback(y) for x, y in zip(steps, kept[-1], strict=True)]
            steps = getattr(self, kind)(f"layers.{number}", steps)
            kept.append([self.norm("norm", x) for x in steps] if kind == "transformer" else steps)
        return [np.array(outputs) for outputs in kept]


def swish(x):
    return x / (1 + np.exp(-x))


@pytest.mark.parametrize("kind", ["transformer", "conformer"])
@pytest.mark.parametrize("has_feedback", [False, True])
def test_an_encoder_equals_its_formulas_step_by_step(kind, has_feedback):
    encoder = make_encoder(kind)
    matrix = torch.randn(6, 6, dtype=torch.float64)
    inputs = torch.randn(len(LENS), max(LENS), 5, dtype=torch.float64)
    feedback = (lambda x: x @ matrix.T) if has_feedback else None
    reference = Reference(encoder, (lambda x: matrix.numpy() @ x) if has_feedback else None)
    found = encoder(inputs, torch.tensor(LENS), feedback)
    assert len(found) == (2 if has_feedback else 1)
    for row, length in enumerate(LENS):
        expected = reference.run(kind, inputs[row, :length].numpy())
        for ours, theirs in zip(found, expected[-len(found) :], strict=True):
            assert ours.shape == (len(LENS), max(LENS), encoder.output_size)
            np.testing.assert_allclose(ours[row, :length].detach().numpy(), theirs, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", ["transformer", "conformer"])
def test_encoders_pass_gradcheck(kind):
    settings = {"num_layers": 1, "hidden_size": 4, "attention_reach": 2, "feed_forward_size": 3}
    encoder = make_encoder(kind, input_size=2, **settings)
    names, values = zip(*((name, weights.detach()) for name, weights in encoder.named_parameters()), strict=True)
    lens = torch.tensor([4, 2])
    valid = torch.arange(4) < lens[:, None]

    def run(inputs, *weights):
        outputs = functional_call(encoder, dict(zip(names, weights, strict=True)), (inputs, lens))[-1]
        return outputs[valid]

    arguments = (torch.randn(2, 4, 2, dtype=torch.float64), *values)
    assert torch.autograd.gradcheck(run, [each.requires_grad_() for each in arguments])


@pytest.mark.parametrize("num_steps", [1, 2, 3, 4, 5, 9])
def test_biases_are_those_of_the_distances_within_reach(num_steps):
    attention = make_encoder("transformer").layers[0].attention
    found = attention.biases(num_steps)
    assert found.shape == (2, num_steps, num_steps)
    for head, i, j in np.ndindex(*found.shape):
        expected = attention.bias_of_distance[head, 3 + j - i] if abs(j - i) <= 3 else -math.inf
        assert found[head, i, j] == expected


def test_the_first_heads_begin_with_what_is_near():
    """Slopes of Press et al. 2022 for eight heads: 1/2, 1/4, ... 1/256."""
    config = ModelConfig(encoder="transformer", hidden_size=16, num_heads=8, attention_reach=3, num_layers=1)
    biases = ENCODERS["transformer"].load()(4, config).layers[0].attention.bias_of_distance
    slopes = [2.0**-power for power in range(1, 9)]
    expected = [[-slope * abs(distance) for distance in range(-3, 4)] for slope in slopes]
    torch.testing.assert_close(biases.detach(), torch.tensor(expected))


@pytest.mark.parametrize(("kind", "reach"), [("transformer", 2 * 3), ("conformer", 2 * (3 + 2))])
def test_a_step_sees_so_many_layers_reaches_far(kind, reach):
    """That is what makes windows of a recording give what the whole gives."""
    encoder = make_encoder(kind)
    inputs, lens = torch.randn(1, 41, 5, dtype=torch.float64), torch.tensor([41])
    other = inputs.clone()
    other[0, 20] += 1
    changed = (encoder(inputs, lens)[-1] != encoder(other, lens)[-1])[0].any(dim=1).nonzero().flatten()
    assert (20 - int(changed[0]), int(changed[-1]) - 20) == (reach, reach)


def test_heads_must_share_the_units():
    with pytest.raises(ConfigError, match=r"model.num_heads \(4\) must divide hidden_size \(90\)"):
        ModelConfig(encoder="transformer", hidden_size=90)
