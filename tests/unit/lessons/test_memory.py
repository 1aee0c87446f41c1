"""The sensitivity of lesson 4, against differences of the outputs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from asrkit.lessons.memory import REACH, measure, sensitivity
from asrkit.lessons.speech import phones_at
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.types import PhoneTime

NUM_FRAMES, DIM = 14, 4


def make_network(bidirectional: bool, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(3)
    config = ModelConfig(
        head="frames",
        bidirectional=bidirectional,
        num_layers=2,
        hidden_size=5,
        stack=3,
        skip=3,
        self_conditioning=False,
    )
    model = AcousticModel(config, DIM, num_tokens=4).to(dtype).eval()

    def network(feats: Tensor) -> Tensor:
        output = model.outputs(feats, torch.full((len(feats),), feats.shape[1]))
        assert output.frame_log_probs is not None
        return output.frame_log_probs

    return network


def by_differences(network: Callable[[Tensor], Tensor], feats: np.ndarray, step: int) -> np.ndarray:
    """The norm of each frame's part of the Jacobian of y(step), column by column."""
    norms = np.zeros(NUM_FRAMES)
    for frame, feature in np.ndindex(NUM_FRAMES, DIM):
        ends = []
        for change in (1e-5, -1e-5):
            changed = feats.copy()
            changed[frame, feature] += change
            with torch.no_grad():
                ends.append(network(torch.from_numpy(changed)[None])[0, step].numpy())
        norms[frame] += (((ends[0] - ends[1]) / 2e-5) ** 2).sum()
    return np.sqrt(norms)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_sensitivity_is_that_of_differences(bidirectional: bool) -> None:
    feats = np.random.default_rng(0).normal(size=(NUM_FRAMES, DIM))
    network = make_network(bidirectional, torch.float64)
    found = sensitivity(network, feats, range(5))
    for step in range(5):
        np.testing.assert_allclose(found[step], by_differences(network, feats, step), rtol=1e-6, atol=1e-10)
    after = found[1, 6:]  # step 1 is of frames 3 to 5
    assert (after > 0).all() if bidirectional else (after == 0).all()
    assert (found[1, :6] > 0).all()
    single = sensitivity(make_network(bidirectional, torch.float32), feats.astype(np.float32), range(5))
    np.testing.assert_allclose(single, found, rtol=1e-3, atol=1e-6)


def test_reach_of_a_known_mean() -> None:
    offsets = np.arange(-REACH, REACH + 1)
    reach = measure(np.where(offsets <= 1, 0.5 ** abs(offsets), 0), own=(-1, 1), shift=0.01)
    total = 2.5  # 1/2 before the own frames, 1/2 + 1 + 1/2 in them
    assert (reach.before, reach.own, reach.after) == pytest.approx((0.5 / total, 2 / total, 0))
    assert (reach.half_ms, reach.past_ms, reach.future_ms) == pytest.approx((10, 60, 10))  # 2^-6 is the last above 1 %


def test_phones_at_seconds() -> None:
    times = (PhoneTime("a", 0.0, 0.1), PhoneTime("b", 0.1, 0.3))
    assert phones_at(np.array([0.0, 0.09, 0.11, 0.29, 0.5]), times) == ["a", "a", "b", "b", "b"]
