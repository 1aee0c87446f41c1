"""What stands between the recurrent layers."""

import pytest
import torch

from asrkit.models.config import ModelConfig
from asrkit.models.recurrent import RecurrentStack


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_dropout_comes_after_layer_normalization(cell):
    """So what is left of a layer's outputs is what they are without dropout, scaled up, and the rest is 0."""
    torch.manual_seed(0)
    config = ModelConfig(num_layers=1, hidden_size=32, cell=cell, layer_norm=True, dropout=0.5, self_conditioning=False)
    stack, inputs, lens = RecurrentStack(6, config), torch.randn(3, 20, 6), torch.tensor([20, 20, 20])
    with torch.no_grad():
        (expected,) = stack.eval()(inputs, lens)
        (found,) = stack.train()(inputs, lens)
    kept = found != 0
    torch.testing.assert_close(found[kept], 2 * expected[kept])
    assert kept.float().mean() == pytest.approx(0.5, abs=0.03)
