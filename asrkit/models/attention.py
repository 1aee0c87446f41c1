"""Attention: what a decoder sees of the encoder's outputs when it writes a phone.

A score (attention_scores.py) says how well each step fits, a window makes weights of the scores, a reading takes from
the steps by weight.

Legend: N utterances, K queries of an utterance, H heads, T steps, Q size of queries, E size of steps.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from asrkit.errors import ConfigError
from asrkit.models.attention_scores import Source, split_heads
from asrkit.models.decoder_config import READINGS, SCORES, WINDOWS, DecoderConfig
from asrkit.models.dropout import uniform_like


class Draw(NamedTuple):
    """Of steps that were drawn by weight, heads together, (N, K) each."""

    log_prob: Tensor
    entropy: Tensor  # of the weights


class Context(NamedTuple):
    """The result of attending with a query."""

    vector: Tensor  # (N, K, context_size)
    weights: Tensor  # (N, K, H, T), 0 in padding
    draw: Draw | None = None


class Attention(nn.Module):
    """A context vector for each query: sum_j w_j h_j, w the weights.

    With several heads each reads its share of a linear map of the steps (Vaswani et al. 2017).
    """

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__()
        if step_size % config.num_heads:
            raise ConfigError(
                f"model.decoder.num_heads must divide the size of the encoder's outputs ({step_size}), "
                f"found {config.num_heads}"
            )
        self.num_heads, self.context_size = config.num_heads, step_size
        self.score = SCORES[config.score].load()(query_size, step_size, config)
        self.window = WINDOWS[config.window].load()(query_size, config)
        self.read = READINGS[config.reading].load()()
        self.draws: bool = self.read.draws
        self.value = nn.Linear(step_size, step_size, bias=False) if config.num_heads > 1 else nn.Identity()

    def source(self, steps: Tensor, lens: Tensor) -> Source:
        """The steps (N, T, E) of utterances of `lens` (N,), as `forward` takes them."""
        values = split_heads(self.value(steps), self.num_heads)
        return Source(steps, lens, valid_steps(steps, lens), values, self.score.keys(steps))

    def first_weights(self, source: Source, num_queries: int) -> Tensor:
        """(N, K, H, T) the weights before the first phone: 0."""
        return source.steps.new_zeros(len(source.steps), num_queries, self.num_heads, source.steps.shape[1])

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Context:
        """Queries (N, K, Q), the weights of the step before (N, K, H, T)."""
        weights = self.window(query, self.score(query, source, previous), source)
        taken, draw = self.read(weights)
        vectors = (taken @ source.values).transpose(1, 2).flatten(2)
        return Context(vectors, weights.transpose(1, 2), draw)


class FixedContext(nn.Module):
    """One vector for the whole utterance, however long it is: the encoder's outputs at its last and its first step.

    These are the last of each direction of a recurrent encoder (Sutskever et al. 2014), to be seen at each phone (Cho
    et al. 2014). Weights are equal ones.
    """

    draws = False

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__()
        self.context_size = 2 * step_size

    def source(self, steps: Tensor, lens: Tensor) -> Source:
        """As Attention's; its values are the one vector, (N, 1, 1, 2 E)."""
        return Source(steps, lens, valid_steps(steps, lens), edge_steps(steps, lens)[:, None, None], steps[:, :, :0])

    def first_weights(self, source: Source, num_queries: int) -> Tensor:
        """As Attention's."""
        weights = source.valid / source.lens[:, None].to(source.steps.dtype)
        return weights[:, None, None].expand(-1, num_queries, -1, -1)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Context:
        """As Attention's."""
        return Context(source.values[:, 0].expand(-1, query.shape[1], -1), previous)


class GlobalWindow(nn.Module):
    """w = softmax(s) over all steps."""

    def __init__(self, query_size: int, config: DecoderConfig):
        super().__init__()

    def forward(self, query: Tensor, scores: Tensor, source: Source) -> Tensor:
        """Scores (N, H, K, T) to weights, 0 in padding."""
        return scores.masked_fill(~source.valid[:, None, None], -torch.inf).softmax(dim=3)


class LocalWindow(nn.Module):
    """w_j = softmax(s)_j exp(-(j - p)^2 / (2 (D / 2)^2)), the softmax over steps of |j - p| <= D (Luong et al. 2015).

    Of an utterance of T steps, numbered from 0, the centre is p = (T - 1) sigmoid(v^T tanh(W q)). D: window_size.
    """

    def __init__(self, query_size: int, config: DecoderConfig):
        super().__init__()
        self.size = config.window_size
        self.hidden = nn.Linear(query_size, query_size, bias=False)
        self.center = nn.Linear(query_size, config.num_heads, bias=False)

    def forward(self, query: Tensor, scores: Tensor, source: Source) -> Tensor:
        """As GlobalWindow's."""
        last = (source.lens - 1)[:, None, None].to(query.dtype)
        centers = (last * torch.sigmoid(self.center(torch.tanh(self.hidden(query))))).transpose(1, 2)  # (N, H, K)
        distances = torch.arange(scores.shape[3], device=scores.device) - centers[:, :, :, None]
        near = (distances.abs() <= self.size) & source.valid[:, None, None]
        # A window may have no step that has a score (LocationScore): then nothing is seen.
        weights = scores.masked_fill(~near, torch.finfo(scores.dtype).min).softmax(dim=3)
        return weights * near * torch.exp(-(distances**2) / (2 * (self.size / 2) ** 2))


class SoftReading(nn.Module):
    """Every step counts by its weight."""

    draws = False

    def forward(self, weights: Tensor) -> tuple[Tensor, Draw | None]:
        """Weights (N, H, K, T) as they are."""
        return weights, None


class HardReading(nn.Module):
    """One step is read: in training it is drawn by weight, else it is the one of largest weight (Xu et al. 2015)."""

    draws = True

    def forward(self, weights: Tensor) -> tuple[Tensor, Draw | None]:
        """Weights (N, H, K, T) to 1 for the step that is read, 0 for others; what was drawn."""
        if not self.training:
            return nn.functional.one_hot(weights.argmax(dim=3), weights.shape[3]).to(weights.dtype), None
        tiny = torch.finfo(weights.dtype).tiny
        shares = weights / weights.sum(dim=3, keepdim=True).clamp(min=tiny)
        ranks = shares.detach().cumsum(dim=3)
        drawn = uniform_like(ranks[:, :, :, :1]) * ranks[:, :, :, -1:]
        chosen = (ranks <= drawn).sum(dim=3, keepdim=True).clamp(max=weights.shape[3] - 1)
        taken = torch.zeros_like(weights).scatter_(3, chosen, 1.0)
        logs = shares.clamp(min=tiny).log()
        return taken, Draw(logs.gather(3, chosen).sum(dim=(1, 3)), -(shares * logs).sum(dim=(1, 3)))


def valid_steps(steps: Tensor, lens: Tensor) -> Tensor:
    """(N, T) which steps are not padding."""
    return torch.arange(steps.shape[1], device=steps.device) < lens[:, None]


def edge_steps(steps: Tensor, lens: Tensor) -> Tensor:
    """(N, 2 E) the last step of each utterance, and its first."""
    rows = torch.arange(len(steps), device=steps.device)
    return torch.cat([steps[rows, lens - 1], steps[:, 0]], dim=1)
