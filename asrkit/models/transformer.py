"""The Transformer's encoder (Vaswani et al. 2017), with relative positions. Each part of a layer normalises its inputs.

Legend: N utterances, T' steps, D input size, H units of a layer, K heads, R reach.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from asrkit.models.config import ModelConfig
from asrkit.models.decoder_config import DecoderConfig
from asrkit.models.dropout import Dropout
from asrkit.models.encoder import Encoder, Feedback


class TransformerEncoder(Encoder):
    """A linear layer to H units, layers of attention, and layer normalisation: (N, T', D) -> (N, T', H).

    Frame stacking and the linear layer together are a convolution over time: `stack` frames wide, every `skip` frames.
    With front end conv2d before them, they are the convolutional subsampling of Dong et al. 2018.
    """

    def __init__(self, input_size: int, config: ModelConfig):
        super().__init__()
        self.output_size, self.reach = config.hidden_size, config.attention_reach
        self.input = nn.Linear(input_size, config.hidden_size)
        self.layers = nn.ModuleList(self.make_layer(config) for _ in range(config.num_layers))
        self.norm: nn.Module = nn.LayerNorm(config.hidden_size)
        self.dropout = Dropout(config.dropout)

    def make_layer(self, config: ModelConfig) -> nn.Module:
        """An untrained layer. Called with steps (N, T', H) and `padding` (N, T'), it returns steps (N, T', H)."""
        return TransformerLayer(config)

    def forward(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        padding = torch.arange(inputs.shape[1], device=inputs.device) >= lens[:, None]
        steps = self.dropout(self.input(inputs.masked_fill(padding[:, :, None], 0.0)))
        kept: list[Tensor] = []
        for layer in self.layers:
            if feedback is not None and kept:
                steps = steps + feedback(kept[-1])
            steps = layer(steps, padding)
            if feedback is not None:
                kept.append(self.norm(steps))
        return kept if feedback is not None else [self.norm(steps)]


class TransformerLayer(nn.Module):
    """x = x + attention(norm(x)), then x = x + W_2 relu(W_1 norm(x)), with dropout after each part.

    The parts normalise their inputs instead of the sums. Such layers learn without a long warm-up (Xiong et al. 2020).
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.hidden_size)
        self.attention = SelfAttention(config)
        self.feed_forward = FeedForward(config, nn.ReLU())
        self.dropout = Dropout(config.dropout)

    def forward(self, steps: Tensor, padding: Tensor) -> Tensor:
        """Compute the output (N, T', H) from `steps` (N, T', H). `padding` (N, T') is True in padding."""
        steps = steps + self.dropout(self.attention(self.attention_norm(steps), padding))
        return steps + self.dropout(self.feed_forward(steps))


class FeedForward(nn.Module):
    """W_2 f(W_1 norm(x) + b_1) + b_2 for each step separately, with dropout after f."""

    def __init__(self, config: ModelConfig | DecoderConfig, activation: nn.Module):
        super().__init__()
        self.norm = nn.LayerNorm(config.hidden_size)
        self.inner = nn.Linear(config.hidden_size, config.feed_forward_size)
        self.activation = activation
        self.outer = nn.Linear(config.feed_forward_size, config.hidden_size)
        self.dropout = Dropout(config.dropout)

    def forward(self, steps: Tensor) -> Tensor:
        """Compute the output (N, T', H) from `steps` (N, T', H)."""
        return self.outer(self.dropout(self.activation(self.inner(self.norm(steps)))))


class SelfAttention(nn.Module):
    """Attention of K heads: y_i = W sum_j a_ij v_j, a_ij = softmax over j of (q_i . k_j / sqrt(H / K) + b_{j-i}).

    Each head learns its own b: one number for each distance from -R to R (Raffel et al. 2020, who use coarser
    distances). Beyond R a step sees nothing. So what is learnt on short utterances holds for long ones. And if a
    recording is cut into overlapping windows, each step sees the same as in the whole recording. At first b is -s |j -
    i|, with s from 2^(-8/K) to 2^-8 by head (Press et al. 2022): the first heads see near steps, the last ones also far
    steps.

    There is no dropout of attention weights: torch's kernel would draw from one generator for all threads.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        size, self.num_heads, self.reach = config.hidden_size, config.num_heads, config.attention_reach
        self.query_key_value = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        slopes = 2.0 ** (-8.0 / self.num_heads * torch.arange(1, self.num_heads + 1))
        distances = torch.arange(-self.reach, self.reach + 1).abs()
        self.bias_of_distance = nn.Parameter(-slopes[:, None] * distances)  # (K, 2R + 1)

    def forward(self, steps: Tensor, padding: Tensor) -> Tensor:
        """Compute the output (N, T', H) from `steps` (N, T', H). `padding` (N, T') is True in padding."""
        heads = self.query_key_value(steps).unflatten(2, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind()  # (N, K, T', H / K) each
        itself = torch.eye(steps.shape[1], dtype=torch.bool, device=steps.device)
        hidden = padding[:, None, None, :] & ~itself  # a padded step sees itself; else the result would be NaN
        bias = self.biases(steps.shape[1]).masked_fill(hidden, -torch.inf)
        attended = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        return self.output(attended.transpose(1, 2).flatten(2))

    def biases(self, num_steps: int) -> Tensor:
        """b_{j-i} for each step i and each step j that it sees; -inf beyond the reach: (K, T', T')."""
        extra = num_steps - 1 - self.reach  # distances without a number; if negative, numbers that are not needed
        by_distance = nn.functional.pad(self.bias_of_distance, (extra, extra), value=-torch.inf)
        return by_distance.unfold(1, num_steps, 1).flip(1)
