"""Score functions of attention: how well each step of the encoder fits a state of the decoder.

Each is made from the sizes of query and steps and DecoderConfig. `keys` computes once per utterance what does not
depend on the query; calling it gives the scores. They have no bounds; the window makes weights of them.

Formulas: q the query, the decoder's state; h_j the encoder's output at step j; s_j its score. With several heads each
has its share of the sizes, and its own scores.

Legend: N utterances, K queries of an utterance, H heads, T steps, Q size of queries, E size of steps, A attention size.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from asrkit.errors import ConfigError
from asrkit.models.decoder_config import DecoderConfig


class Source(NamedTuple):
    """The encoder's outputs, to which a decoder attends. Padding has no influence."""

    steps: Tensor  # (N, T, E)
    lens: Tensor  # (N,) int64
    valid: Tensor  # (N, T)
    values: Tensor  # (N, H, T, E / H) what is read
    keys: Tensor  # what the score makes of the steps; N comes first


class Score(nn.Module):
    """A score function."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__()
        self.num_heads = config.num_heads

    def keys(self, steps: Tensor) -> Tensor:
        """(N, T, E) -> what `forward` takes from the steps."""
        raise NotImplementedError

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        """Query (N, K, Q), weights of the step before (N, K, H, T) -> scores (N, H, K, T)."""
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
        return split_heads(self.key(steps), self.num_heads)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        return self._score(self._sums(query, source))

    def _sums(self, query: Tensor, source: Source) -> Tensor:
        """(N, H, K, T, A / H), before tanh."""
        return split_heads(self.query(query), self.num_heads)[:, :, :, None] + source.keys[:, :, None]

    def _score(self, sums: Tensor) -> Tensor:
        return (torch.tanh(sums) @ self.weight[:, None])[..., 0]


class LocationAwareScore(AdditiveScore):
    """s_j = v^T tanh(W q + V h_j + U f_j + b), f = F * (the last weights): a convolution (Chorowski et al. 2015)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        width, channels = config.location_width, config.location_channels
        self.filters = nn.Conv1d(config.num_heads, channels, width, padding=width // 2, bias=False)
        self.location = nn.Linear(channels, config.attention_size, bias=False)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        num_utts, num_queries, _, num_steps = previous.shape
        features = self.filters(previous.flatten(0, 1)).transpose(1, 2)  # (N K, T, channels)
        located = self.location(features).view(num_utts, num_queries, num_steps, self.num_heads, -1)
        return self._score(self._sums(query, source) + located.permute(0, 3, 1, 2, 4))


class DotScore(Score):
    """s_j = q^T h_j, of equal sizes (Luong et al. 2015)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        if query_size != step_size:
            raise ConfigError(
                f"model.decoder.hidden_size: score {config.score} needs the size of the encoder's outputs "
                f"({step_size}), found {query_size}; change it or take another score"
            )
        _share(step_size, config)

    def keys(self, steps: Tensor) -> Tensor:
        return split_heads(steps, self.num_heads)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        return split_heads(query, self.num_heads) @ source.keys.transpose(2, 3)


class ScaledDotScore(Score):
    """s_j = (W q)^T (V h_j) / sqrt(A / H) (Vaswani et al. 2017)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        self.query = nn.Linear(query_size, config.attention_size, bias=False)
        self.key = nn.Linear(step_size, config.attention_size, bias=False)
        self.scale = 1 / math.sqrt(_share(config.attention_size, config))

    def keys(self, steps: Tensor) -> Tensor:
        return split_heads(self.key(steps), self.num_heads).transpose(2, 3)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        return split_heads(self.query(query) * self.scale, self.num_heads) @ source.keys


class GeneralScore(Score):
    """s_j = q^T W h_j (Luong et al. 2015)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        _share(query_size, config)
        self.key = nn.Linear(step_size, query_size, bias=False)

    def keys(self, steps: Tensor) -> Tensor:
        return split_heads(self.key(steps), self.num_heads).transpose(2, 3)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        return split_heads(query, self.num_heads) @ source.keys


class CosineScore(Score):
    """s_j = softplus(w^T q + b) cos(W q, h_j): by content, as neural Turing machines (Graves et al. 2014)."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        _share(step_size, config)
        self.query = nn.Linear(query_size, step_size, bias=False)
        self.strength = nn.Linear(query_size, config.num_heads)

    def keys(self, steps: Tensor) -> Tensor:
        return nn.functional.normalize(split_heads(steps, self.num_heads), dim=3).transpose(2, 3)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        direction = nn.functional.normalize(split_heads(self.query(query), self.num_heads), dim=3)
        strength = nn.functional.softplus(self.strength(query)).transpose(1, 2)[:, :, :, None]
        return strength * (direction @ source.keys)


class LocationScore(Score):
    """s_j = w_j^T q: by the decoder's state alone (Luong et al. 2015). Steps beyond max_positions are not looked at."""

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__(query_size, step_size, config)
        self.positions = nn.Linear(query_size, config.num_heads * config.max_positions, bias=False)

    def keys(self, steps: Tensor) -> Tensor:
        return steps.new_empty(len(steps), 0)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Tensor:
        scores = self.positions(query).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        num_steps, known = source.steps.shape[1], scores.shape[3]
        return nn.functional.pad(scores, (0, max(num_steps - known, 0)), value=-math.inf)[:, :, :, :num_steps]


def split_heads(inputs: Tensor, num_heads: int) -> Tensor:
    """(N, L, S) -> (N, H, L, S / H)."""
    return inputs.unflatten(2, (num_heads, -1)).transpose(1, 2)


def _share(size: int, config: DecoderConfig) -> int:
    """A head's share of a size. Raises ConfigError if it is not a whole number."""
    if size % config.num_heads:
        raise ConfigError(
            f"model.decoder.num_heads must divide the size that heads share, found {config.num_heads} for {size}"
        )
    return size // config.num_heads
