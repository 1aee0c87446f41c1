"""Front ends against loops over frames, frequencies and weights."""

import numpy as np
import pytest
import torch

from asrkit.models.config import ModelConfig
from asrkit.models.frontends import FRONT_ENDS
from asrkit.models.frontends.conv2d import Conv2dFrontEnd
from asrkit.models.frontends.tdnn import TdnnFrontEnd
from asrkit.models.stacking import num_steps, stack_frames

NO_PADDING = torch.zeros(1, 8, dtype=torch.bool)


def convolve(maps, layer):
    """(channels, T, F) by 3 x 3 filters with zeros around the edges, every second frequency, then ReLU."""
    weights, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
    _, num_frames, num_bins = maps.shape
    out = np.zeros((len(weights), num_frames, (num_bins + 1) // 2))
    for channel, t, f in np.ndindex(out.shape):
        total = bias[channel]
        for source, dt, df in np.ndindex(weights.shape[1:]):
            frame, frequency = t + dt - 1, 2 * f + df - 1
            if 0 <= frame < num_frames and 0 <= frequency < num_bins:
                total += weights[channel, source, dt, df] * maps[source, frame, frequency]
        out[channel, t, f] = max(total, 0.0)
    return out


@pytest.mark.parametrize(("dim", "channels"), [(15, 3), (8, 1), (9, 1), (26, 2)])
def test_conv2d_equals_its_sums(dim, channels):
    torch.manual_seed(1)
    frontend = Conv2dFrontEnd(dim, channels, ModelConfig(conv_channels=4))
    feats = torch.randn(1, 8, dim)
    # A feature vector is static features, then deltas, ...: each of them is a channel.
    maps = feats[0].double().numpy().reshape(8, channels, dim // channels).transpose(1, 0, 2)
    maps = convolve(convolve(maps, frontend.first), frontend.second)
    expected = np.array([maps[:, t].reshape(-1) for t in range(8)])
    found = frontend(feats, NO_PADDING)[0].detach().numpy()
    assert found.shape == (8, frontend.output_size)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_tdnn_equals_its_sums():
    torch.manual_seed(2)
    frontend = TdnnFrontEnd(5, 1, ModelConfig(tdnn_size=6))
    feats = torch.randn(1, 8, 5)
    frames = feats[0].double().numpy()
    for layer, context in zip(frontend.layers, [(-2, -1, 0, 1, 2), (-1, 0, 1), (-3, 0, 3)], strict=True):
        weights, bias = layer.weight.detach().double().numpy(), layer.bias.detach().double().numpy()
        sums = np.zeros((8, 6))
        for t in range(8):
            sums[t] = bias
            for k, shift in enumerate(context):
                if 0 <= t + shift < 8:
                    dim = frames.shape[1]
                    sums[t] += weights[:, k * dim : (k + 1) * dim] @ frames[t + shift]
        active = np.maximum(sums, 0)
        centred = active - active.mean(1, keepdims=True)
        frames = centred / np.sqrt((centred**2).mean(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(frontend(feats, NO_PADDING)[0].detach().numpy(), frames, atol=1e-5)


@pytest.mark.parametrize("name", FRONT_ENDS)
def test_the_reach_is_how_far_a_frame_makes_a_difference(name):
    torch.manual_seed(3)
    layers = FRONT_ENDS[name].load()(6, 1, ModelConfig(conv_channels=4, tdnn_size=8))
    feats = torch.randn(1, 31, 6)
    other = feats.clone()
    other[0, 15] += 1.0
    padding = torch.zeros(1, 31, dtype=torch.bool)
    changed = (layers(feats, padding) != layers(other, padding))[0].any(dim=1).nonzero().flatten()
    assert (15 - int(changed[0]), int(changed[-1]) - 15) == (FRONT_ENDS[name].reach, FRONT_ENDS[name].reach)


def test_stacking_repeats_the_edges():
    feats = torch.arange(1.0, 8.0).reshape(1, 7, 1)
    stacked, lens = stack_frames(feats, torch.tensor([5]), stack=3, skip=2)
    assert lens.tolist() == [3]
    assert stacked[0, :3].tolist() == [[1, 2, 3], [3, 4, 5], [5, 5, 5]]
    delayed, _ = stack_frames(feats, torch.tensor([5]), stack=3, skip=2, offsets=torch.tensor([1]))
    assert delayed[0, :3].tolist() == [[1, 1, 2], [2, 3, 4], [4, 5, 5]]


def test_number_of_steps_is_rounded_up():
    assert [num_steps(n, 3) for n in (1, 2, 3, 4, 6, 7)] == [1, 1, 1, 2, 2, 3]
