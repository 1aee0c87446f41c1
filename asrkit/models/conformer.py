"""The encoder of the Conformer (Gulati et al. 2020): attention, and convolution over near steps.

Legend: N utterances, T' steps, H units of a layer.
"""

from __future__ import annotations

from torch import Tensor, nn

from asrkit.models.config import ModelConfig
from asrkit.models.dropout import Dropout
from asrkit.models.transformer import FeedForward, SelfAttention, TransformerEncoder


class ConformerEncoder(TransformerEncoder):
    """The encoder of the Transformer with layers of the Conformer.

    Each of these layers ends with layer normalisation.
    """

    def __init__(self, input_size: int, config: ModelConfig):
        super().__init__(input_size, config)
        self.norm = nn.Identity()

    def make_layer(self, config: ModelConfig) -> nn.Module:
        """An untrained Conformer layer."""
        return ConformerLayer(config)


class ConformerLayer(nn.Module):
    """x = x + F(x) / 2, x = x + attention(norm(x)), x = x + C(x), x = norm(x + F'(x) / 2).

    F and F' are feed-forward layers with swish, x sigmoid(x). C is the Convolution. Dropout follows each part.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.first = FeedForward(config, nn.SiLU())
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = SelfAttention(config)
        self.convolution = Convolution(config)
        self.second = FeedForward(config, nn.SiLU())
        self.norm = nn.LayerNorm(config.hidden_size)
        self.dropout = Dropout(config.dropout)

    def forward(self, steps: Tensor, padding: Tensor) -> Tensor:
        """Compute the layer: `steps` (N, T', H) to steps of the same shape. `padding` (N, T') is true in padding."""
        steps = steps + self.dropout(self.first(steps)) / 2
        steps = steps + self.dropout(self.attention(self.attention_norm(steps), padding))
        steps = steps + self.dropout(self.convolution(steps, padding))
        return self.norm(steps + self.dropout(self.second(steps)) / 2)


class Convolution(nn.Module):
    """W_2 swish(norm(depthwise(glu(W_1 norm(x))))): each unit over `conv_kernel` steps; glu(a, b) = a sigmoid(b).

    Gulati et al. have batch normalisation in place of the inner layer normalisation. With it, an utterance's outputs
    would depend on the other utterances of the batch and on padding.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        size = config.hidden_size
        self.norm = nn.LayerNorm(size)
        self.gated = nn.Linear(size, 2 * size)
        self.depthwise = nn.Conv1d(size, size, config.conv_kernel, padding=config.conv_kernel // 2, groups=size)
        self.inner_norm = nn.LayerNorm(size)
        self.output = nn.Linear(size, size)

    def forward(self, steps: Tensor, padding: Tensor) -> Tensor:
        """Compute the layer: `steps` (N, T', H) to steps of the same shape.

        `padding` (N, T') is true in padding, which counts as 0.
        """
        gated = nn.functional.glu(self.gated(self.norm(steps)), dim=2).masked_fill(padding[:, :, None], 0.0)
        # For every new shape oneDNN's convolutions keep some memory. Rounded lengths give fewer shapes.
        num_steps, extra = steps.shape[1], -steps.shape[1] % 32
        columns = nn.functional.pad(gated.transpose(1, 2), (0, extra))
        joined = self.depthwise(columns)[:, :, :num_steps].transpose(1, 2)
        return self.output(nn.functional.silu(self.inner_norm(joined)))
