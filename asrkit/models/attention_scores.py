"""Score functions of attention: how well each step of the encoder fits a state of the decoder.

A score is made from the sizes of queries and steps, and from DecoderConfig. Its method `keys` computes everything that
does not depend on the query, once per utterance. `forward` computes the scores. A score can be any number; the window
turns scores into weights.

In formulas, q is the query (the state of the decoder), h_j the encoder's output at step j, and s_j its score. Each of
several heads has its share of the sizes, and its own scores.

Legend: N utterances, K queries per utterance, H heads, T steps, Q size of queries, E size of steps, A attention size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asrkit.errors import ConfigError
from asrkit.models.decoder_config import DecoderConfig


class Source(NamedTuple):
    """The outputs of the encoder, to which a decoder attends. Padding has no influence.

    Attributes:
        steps: (N, T, E).
        lens: (N,) int64 numbers of steps.
        valid: (N, T) which steps are not padding.
        values: (N, H, T, E / H) what is read.
        keys: what the score computes from the steps; N is its first axis.
    """

    steps: Tensor
    lens: Tensor
    valid: Tensor
    values: Tensor
    keys: Tensor


class Score(nn.Module):
    """The interface of score functions."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__()
        self.num_heads = config.num_heads

    def keys(self, steps: Tensor) -> Tensor:
        """Compute from `steps` (N, T, E) what `forward` needs of them. The shape (N, ...) depends on the score.

        Raises NotImplementedError; subclasses replace it.
        """
        raise NotImplementedError

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Compute the scores (N, H, K, T).

        Args:
            query: (N, K, Q).
            source: the steps and their keys.
            previous: (N, K, H, T) weights of the previous phone.

        Raises:
            NotImplementedError: subclasses replace the method.
        """
        raise NotImplementedError


class AdditiveScore(Score):
    """s_j = v^T tanh(W q + V h_j + b) (Bahdanau et al. 2015)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        self.query = nn.Linear(query_size, config.attention_size, bias=False)
        self.key = nn.Linear(step_size, config.attention_size)
        self.weight = nn.Parameter(torch.empty(config.num_heads, _share(config.attention_size, config), 1))
        nn.init.uniform_(self.weight, -1 / math.sqrt(config.attention_size), 1 / math.sqrt(config.attention_size))

    def keys(self, steps: Tensor) -> Tensor:
        """V h_j + b of the `steps` (N, T, E), by head: (N, H, T, A / H)."""
        return split_heads(self.key(steps), self.num_heads)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Scores (N, H, K, T) from `query` (N, K, Q). `previous` (N, K, H, T) has no influence."""
        return self._score(self._sums(query, source))

    def _sums(self, query: Tensor, source: Source) -> Tensor:
        """(N, H, K, T, A / H), before tanh."""
        return split_heads(self.query(query), self.num_heads)[:, :, :, None] + source.keys[:, :, None]

    def _score(self, sums: Tensor) -> Tensor:
        return (torch.tanh(sums) @ self.weight[:, None])[..., 0]


class LocationAwareScore(AdditiveScore):
    """s_j = v^T tanh(W q + V h_j + U f_j + b), f = F * (the previous weights) (Chorowski et al. 2015).

    F * is a convolution over steps.
    """

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        width, channels = config.location_width, config.location_channels
        self.filters = nn.Conv1d(config.num_heads, channels, width, padding=width // 2, bias=False)
        self.location = nn.Linear(channels, config.attention_size, bias=False)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Scores (N, H, K, T) from `query` (N, K, Q) and the weights `previous` (N, K, H, T) of the previous phone."""
        num_utts, num_queries, _, num_steps = previous.shape
        features = self.filters(previous.flatten(0, 1)).transpose(1, 2)  # (N K, T, channels)
        located = self.location(features).view(num_utts, num_queries, num_steps, self.num_heads, -1)
        return self._score(self._sums(query, source) + located.permute(0, 3, 1, 2, 4))


class DotScore(Score):
    """s_j = q^T h_j, with q and h_j of the same size (Luong et al. 2015)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        """An untrained score. Raises ConfigError if the sizes differ, or the heads cannot share them."""
        super().__init__(query_size, step_size, config)
        if query_size != step_size:
            raise ConfigError(
                f"model.decoder.hidden_size: score {config.score} needs the size of the encoder's outputs "
                f"({step_size}), found {query_size}; change it or take another score"
            )
        _share(step_size, config)

    def keys(self, steps: Tensor) -> Tensor:
        """The `steps` (N, T, E) by head: (N, H, T, E / H)."""
        return split_heads(steps, self.num_heads)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Scores (N, H, K, T) from `query` (N, K, Q). `previous` (N, K, H, T) has no influence."""
        return split_heads(query, self.num_heads) @ source.keys.transpose(2, 3)


class ScaledDotScore(Score):
    """s_j = (W q)^T (V h_j) / sqrt(A / H) (Vaswani et al. 2017)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        self.query = nn.Linear(query_size, config.attention_size, bias=False)
        self.key = nn.Linear(step_size, config.attention_size, bias=False)
        self.scale = 1 / math.sqrt(_share(config.attention_size, config))

    def keys(self, steps: Tensor) -> Tensor:
        """V h_j of the `steps` (N, T, E), by head and transposed: (N, H, A / H, T)."""
        return split_heads(self.key(steps), self.num_heads).transpose(2, 3)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Scores (N, H, K, T) from `query` (N, K, Q). `previous` (N, K, H, T) has no influence."""
        return split_heads(self.query(query) * self.scale, self.num_heads) @ source.keys


class GeneralScore(Score):
    """s_j = q^T W h_j (Luong et al. 2015)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        _share(query_size, config)
        self.key = nn.Linear(step_size, query_size, bias=False)

    def keys(self, steps: Tensor) -> Tensor:
        """W h_j of the `steps` (N, T, E), by head and transposed: (N, H, Q / H, T)."""
        return split_heads(self.key(steps), self.num_heads).transpose(2, 3)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Scores (N, H, K, T) from `query` (N, K, Q). `previous` (N, K, H, T) has no influence."""
        return split_heads(query, self.num_heads) @ source.keys


class CosineScore(Score):
    """s_j = softplus(w^T q + b) cos(W q, h_j): by content, as in neural Turing machines (Graves et al. 2014)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        _share(step_size, config)
        self.query = nn.Linear(query_size, step_size, bias=False)
        self.strength = nn.Linear(query_size, config.num_heads)

    def keys(self, steps: Tensor) -> Tensor:
        """The `steps` (N, T, E) by head, scaled to length 1 and transposed: (N, H, E / H, T)."""
        return nn.functional.normalize(split_heads(steps, self.num_heads), dim=3).transpose(2, 3)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Scores (N, H, K, T) from `query` (N, K, Q). `previous` (N, K, H, T) has no influence."""
        direction = nn.functional.normalize(split_heads(self.query(query), self.num_heads), dim=3)
        strength = nn.functional.softplus(self.strength(query)).transpose(1, 2)[:, :, :, None]
        return strength * (direction @ source.keys)


class LocationScore(Score):
    """s_j = w_j^T q: only the state of the decoder counts (Luong et al. 2015).

    Steps beyond max_positions are never seen.
    """

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        self.positions = nn.Linear(query_size, config.num_heads * config.max_positions, bias=False)

    def keys(self, steps: Tensor) -> Tensor:
        """Nothing of the `steps` (N, T, E): (N, 0)."""
        return steps.new_empty(len(steps), 0)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Scores (N, H, K, T) from `query` (N, K, Q). `previous` (N, K, H, T) has no influence."""
        scores = self.positions(query).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        num_steps, known = source.steps.shape[1], scores.shape[3]
        return nn.functional.pad(scores, (0, max(num_steps - known, 0)), value=-math.inf)[:, :, :, :num_steps]


def split_heads(inputs: Tensor, num_heads: int) -> Tensor:
    """Share the last axis of `inputs` (N, L, S) among heads: (N, H, L, S / H)."""
    return inputs.unflatten(2, (num_heads, -1)).transpose(1, 2)


def _share(size: int, config: DecoderConfig) -> int:
    """The share of each head in a size. Raises ConfigError if it is not a whole number."""
    if size % config.num_heads:
        raise ConfigError(
            f"model.decoder.num_heads must divide the size that heads share, found {config.num_heads} for {size}"
        )
    return size // config.num_heads
