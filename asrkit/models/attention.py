"""Attention: what a decoder sees of the encoder's outputs when it writes a phone.

A score says how well each step fits (attention_scores.py). A window turns the scores into weights. A reading combines
the steps according to their weights.

Legend: N utterances, K queries per utterance, H heads, T steps, Q size of queries, E size of steps.
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
    """Steps that were drawn at random, according to their weights.

    Attributes:
        log_prob: (N, K) natural log of the probability of the draw, all heads together.
        entropy: (N, K) entropy of the weights, in nats.
    """

    log_prob: Tensor
    entropy: Tensor


class Context(NamedTuple):
    """What a query sees.

    Attributes:
        vector: (N, K, context_size) the context vector.
        weights: (N, K, H, T) attention weights; 0 in padding.
        draw: the steps that were drawn, with hard attention.
    """

    vector: Tensor
    weights: Tensor
    draw: Draw | None = None


class Attention(nn.Module):
    """Gives each query its context vector: sum_j w_j h_j, with weights w and steps h.

    With several heads, each head reads its own share of a linear map of the steps (Vaswani et al. 2017).
    """

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        """An untrained layer. Raises ConfigError if the heads cannot share the size of the steps."""
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
        """The source for `forward`: `steps` (N, T, E) of utterances with lengths `lens` (N,)."""
        values = split_heads(self.value(steps), self.num_heads)
        return Source(steps, lens, valid_steps(steps, lens), values, self.score.keys(steps))

    def first_weights(self, source: Source, num_queries: int) -> Tensor:
        """The weights before the first phone, (N, K, H, T): zeros."""
        return source.steps.new_zeros(len(source.steps), num_queries, self.num_heads, source.steps.shape[1])

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Context:
        """Compute the context vectors.

        Args:
            query: (N, K, Q).
            source: from the method `source`.
            previous: (N, K, H, T) weights of the previous phone.
        """
        weights = self.window(query, self.score(query, source, previous), source)
        taken, draw = self.read(weights)
        vectors = (taken @ source.values).transpose(1, 2).flatten(2)
        return Context(vectors, weights.transpose(1, 2), draw)


class FixedContext(nn.Module):
    """Shows the whole utterance as one vector: the outputs of the encoder at its last and its first step.

    In a recurrent encoder these are the last outputs of the two directions (Sutskever et al. 2014). The decoder sees
    the vector at every phone (Cho et al. 2014). All steps have the same weight.
    """

    draws = False

    def __init__(self, query_size: int, step_size: int, config: DecoderConfig):
        super().__init__()
        self.context_size = 2 * step_size

    def source(self, steps: Tensor, lens: Tensor) -> Source:
        """The source for `forward`: `steps` (N, T, E) of utterances with lengths `lens` (N,).

        Its values are the vectors, (N, 1, 1, 2 E).
        """
        return Source(steps, lens, valid_steps(steps, lens), edge_steps(steps, lens)[:, None, None], steps[:, :, :0])

    def first_weights(self, source: Source, num_queries: int) -> Tensor:
        """The weights before the first phone, (N, K, 1, T): equal for all steps."""
        weights = source.valid / source.lens[:, None].to(source.steps.dtype)
        return weights[:, None, None].expand(-1, num_queries, -1, -1)

    def forward(self, query: Tensor, source: Source, previous: Tensor) -> Context:
        """The vector of each utterance, for each query (N, K, Q).

        The weights stay as they were in `previous` (N, K, 1, T).
        """
        return Context(source.values[:, 0].expand(-1, query.shape[1], -1), previous)


class GlobalWindow(nn.Module):
    """w = softmax(s) over all steps."""

    def __init__(self, query_size: int, config: DecoderConfig):
        super().__init__()

    def forward(self, query: Tensor, scores: Tensor, source: Source) -> Tensor:
        """Turn `scores` (N, H, K, T) into weights; 0 in padding. `query` (N, K, Q) has no influence."""
        return scores.masked_fill(~source.valid[:, None, None], -torch.inf).softmax(dim=3)


class LocalWindow(nn.Module):
    """w_j = softmax(s)_j exp(-(j - p)^2 / (2 (D / 2)^2)), the softmax over steps of |j - p| <= D (Luong et al. 2015).

    The centre of the window is p = (T - 1) sigmoid(v^T tanh(W q)), for an utterance of T steps numbered from 0. D is
    window_size.
    """

    def __init__(self, query_size: int, config: DecoderConfig):
        super().__init__()
        self.size = config.window_size
        self.hidden = nn.Linear(query_size, query_size, bias=False)
        self.center = nn.Linear(query_size, config.num_heads, bias=False)

    def forward(self, query: Tensor, scores: Tensor, source: Source) -> Tensor:
        """Turn `scores` (N, H, K, T) into weights; 0 in padding. `query` (N, K, Q) gives the centres of the windows."""
        last = (source.lens - 1)[:, None, None].to(query.dtype)
        centers = (last * torch.sigmoid(self.center(torch.tanh(self.hidden(query))))).transpose(1, 2)  # (N, H, K)
        distances = torch.arange(scores.shape[3], device=scores.device) - centers[:, :, :, None]
        near = (distances.abs() <= self.size) & source.valid[:, None, None]
        # With LocationScore a window can have no step with a finite score. Then all weights are 0.
        weights = scores.masked_fill(~near, torch.finfo(scores.dtype).min).softmax(dim=3)
        return weights * near * torch.exp(-(distances**2) / (2 * (self.size / 2) ** 2))


class SoftReading(nn.Module):
    """Reads every step, according to its weight."""

    draws = False

    def forward(self, weights: Tensor) -> tuple[Tensor, Draw | None]:
        """Return the `weights` (N, H, K, T) unchanged."""
        return weights, None


class HardReading(nn.Module):
    """Reads one step.

    In training it is drawn according to the weights, otherwise it has the largest weight (Xu et al. 2015).
    """

    draws = True

    def forward(self, weights: Tensor) -> tuple[Tensor, Draw | None]:
        """Turn `weights` (N, H, K, T) into 1 for the step that is read and 0 for all others.

        In training, return also the draw.
        """
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
    """Which steps are not padding: (N, T). `steps` is (N, T, E), `lens` (N,)."""
    return torch.arange(steps.shape[1], device=steps.device) < lens[:, None]


def edge_steps(steps: Tensor, lens: Tensor) -> Tensor:
    """The last step of each utterance, followed by its first: (N, 2 E). `steps` is (N, T, E), `lens` (N,)."""
    rows = torch.arange(len(steps), device=steps.device)
    return torch.cat([steps[rows, lens - 1], steps[:, 0]], dim=1)
