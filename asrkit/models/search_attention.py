"""Attention in NumPy, for searches. It computes the same as attention.py and attention_scores.py, without torch.

Legend: N utterances, K hypotheses per utterance, H heads, T steps, Q size of queries, E size of steps, A attention
size, S size of the decoder's linear map of a context vector.
"""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np

from asrkit._native import kernel
from asrkit.models.decoder_config import SEARCH_READINGS, SEARCH_SCORES, SEARCH_WINDOWS, DecoderConfig
from asrkit.models.search_weights import Weights, sigmoid, split_heads


class Source(NamedTuple):
    """The outputs of the encoder, prepared for a decoder. N is the first axis of every array.

    Attributes:
        lens: (N,) numbers of steps.
        edges: (N, 2 E) the last step and the first.
        mask: (N, T) 0, and -inf in padding.
        values: (N, H T, S) the decoder's linear map of the values, of one head after another.
        keys: what the score computes from the steps; its shape depends on the score.
    """

    lens: np.ndarray
    edges: np.ndarray
    mask: np.ndarray
    values: np.ndarray
    keys: np.ndarray

    def keep(self, utts: np.ndarray) -> Source:
        """The source of the utterances at the indices `utts`, (n,)."""
        return Source(*(part[utts] for part in self))


class Context(Protocol):
    """The interface of contexts: what a decoder sees of the audio."""

    @staticmethod
    def size_of(step_size: int) -> int:
        """The size of a context vector."""

    def source(self, steps: np.ndarray, lens: np.ndarray) -> Source:
        """Prepare `steps` (N, T, E), 0 in padding, with lengths `lens` (N,)."""

    def first_state(self, source: Source) -> tuple[np.ndarray, ...]:
        """The state before the first phone: arrays (N, 1, ...)."""

    def __call__(
        self, query: np.ndarray, state: tuple[np.ndarray, ...], source: Source
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """Compute what each `query` (N, K, Q) sees.

        Returns:
            The decoder's linear map of the context vectors (N, K, S), attention weights (N, K, H, T), and the next
            state.
        """


class SearchAttention:
    """As attention.Attention, followed by the decoder's linear map of the context vector, `outer` (E, S)."""

    def __init__(
        self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int, outer: np.ndarray
    ) -> None:
        self.num_heads, self._outer = config.num_heads, split_heads(outer.T[None], config.num_heads)[0]  # (H, S, E / H)
        self._value = weights.linear("value", step_size, step_size, bias=False) if config.num_heads > 1 else None
        self._score: Score = SEARCH_SCORES[config.score].load()(config, weights.under("score"), query_size, step_size)
        self._window: Window = SEARCH_WINDOWS[config.window].load()(config, weights.under("window"), query_size)
        self._read: Reading = SEARCH_READINGS[config.reading].load()

    @staticmethod
    def size_of(step_size: int) -> int:
        """The size of a context vector."""
        return step_size

    def source(self, steps: np.ndarray, lens: np.ndarray) -> Source:
        """Prepare `steps` (N, T, E), 0 in padding, with lengths `lens` (N,)."""
        values = split_heads(steps if self._value is None else self._value(steps), self.num_heads)
        values = values @ self._outer.transpose(0, 2, 1)  # (N, H, T, S)
        values = values.reshape(len(steps), -1, values.shape[3])
        mask = np.where(np.arange(steps.shape[1]) < lens[:, None], 0.0, -np.inf).astype(steps.dtype)
        return Source(lens, edge_steps(steps, lens), mask, values, self._score.keys(steps))

    def first_state(self, source: Source) -> tuple[np.ndarray, ...]:
        """The state before the first phone: weights of 0, (N, 1, H, T), if the score looks back."""
        if not self._score.looks_back:
            return ()
        num_utts, num_steps = source.mask.shape
        return (np.zeros((num_utts, 1, self.num_heads, num_steps), source.mask.dtype),)

    def __call__(
        self, query: np.ndarray, state: tuple[np.ndarray, ...], source: Source
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """As Context.__call__; `query` is (N, K, Q).

        `state` holds the last weights (N, K, H, T), if the score looks back.
        """
        weights = self._window(query, self._score(query, source, state), source)
        seen = self._read(weights).reshape(*query.shape[:2], -1) @ source.values
        return seen, weights, (weights,) if self._score.looks_back else ()


class SearchFixedContext:
    """As attention.FixedContext, followed by the decoder's linear map of the context vector, `outer` (2 E, S)."""

    def __init__(
        self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int, outer: np.ndarray
    ) -> None:
        self._outer = outer

    @staticmethod
    def size_of(step_size: int) -> int:
        """The size of a context vector."""
        return 2 * step_size

    def source(self, steps: np.ndarray, lens: np.ndarray) -> Source:
        """Prepare `steps` (N, T, E), 0 in padding, with lengths `lens` (N,).

        The mask holds the equal weights of the steps.
        """
        edges = edge_steps(steps, lens)
        equal = ((np.arange(steps.shape[1]) < lens[:, None]) / lens[:, None]).astype(steps.dtype)
        return Source(lens, edges, equal, (edges @ self._outer)[:, None], steps[:, :, :0])

    def first_state(self, source: Source) -> tuple[np.ndarray, ...]:
        """The state before the first phone: no array of any shape."""
        return ()

    def __call__(
        self, query: np.ndarray, state: tuple[np.ndarray, ...], source: Source
    ) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
        """As Context.__call__; `query` is (N, K, Q), `state` is empty."""
        num_utts, num_steps = source.mask.shape
        return source.values, np.broadcast_to(source.mask[:, None, None], (num_utts, query.shape[1], 1, num_steps)), ()


class Score(Protocol):
    """The interface of score functions.

    Attributes:
        looks_back: whether the score depends on the weights of the previous phone, the state (N, K, H, T).
    """

    looks_back: bool

    def keys(self, steps: np.ndarray) -> np.ndarray:
        """Compute from `steps` (N, T, E) everything that does not depend on the query, once per utterance."""

    def __call__(self, query: np.ndarray, source: Source, state: tuple[np.ndarray, ...]) -> np.ndarray:
        """Scores (N, K, H, T) of each `query` (N, K, Q), in a new array.

        `state` holds the last weights if the score looks back.
        """


class SearchAdditive:
    """As AdditiveScore. Calling it turns a `query` (N, K, Q) into scores (N, K, H, T). It ignores the `state`."""

    looks_back = False

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int) -> None:
        size, self._num_heads = config.attention_size, config.num_heads
        self._query = weights.linear("query", query_size, size, bias=False)
        self._key = weights.linear("key", step_size, size)
        self._weight = weights.take("weight", self._num_heads, size // self._num_heads, 1)[:, :, 0]
        self._weight = np.ascontiguousarray(self._weight)
        self._filters = np.zeros((0, self._num_heads, 1), self._weight.dtype)
        self._location = np.zeros((0, size), self._weight.dtype)

    def keys(self, steps: np.ndarray) -> np.ndarray:
        """The linear map (N, T, A) of the `steps` (N, T, E)."""
        return self._key(steps)

    def __call__(self, query: np.ndarray, source: Source, state: tuple[np.ndarray, ...]) -> np.ndarray:
        previous = state[0] if self.looks_back else None
        return additive_scores(
            AdditiveWeights(self._weight, self._filters, self._location), source.keys, self._query(query), previous
        )


class SearchLocationAware(SearchAdditive):
    """As LocationAwareScore."""

    looks_back = True

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int) -> None:
        super().__init__(config, weights, query_size, step_size)
        channels, width = config.location_channels, config.location_width
        self._filters = weights.take("filters.weight", channels, self._num_heads, width)
        self._location = weights.linear("location", channels, config.attention_size, bias=False).weight


class AdditiveWeights(NamedTuple):
    """The weights of the scores s_j = v^T tanh(q + h_j + U f_j), with f = F * (the last weights).

    Attributes:
        weight: v, (H, A / H).
        filters: F, (channels, H, width).
        location: U^T, (channels, A).
    """

    weight: np.ndarray
    filters: np.ndarray
    location: np.ndarray


def additive_scores(
    weights: AdditiveWeights, keys: np.ndarray, query: np.ndarray, previous: np.ndarray | None
) -> np.ndarray:
    """Additive scores (N, K, H, T). The compiled kernel computes them for float32.

    Args:
        weights: of the score.
        keys: (N, T, A).
        query: (N, K, A).
        previous: (N, K, H, T) the last weights; None for a score that does not look back.
    """
    num_heads, share = weights.weight.shape
    module = kernel("_attention") if keys.dtype == np.float32 else None
    if module is not None:
        found = np.empty((*query.shape[:2], num_heads, keys.shape[1]), np.float32)
        contiguous = None if previous is None else np.ascontiguousarray(previous)
        module.additive_scores(*weights, keys, query, contiguous, found)
        return found
    sums = query[:, :, None] + keys[:, None]  # (N, K, T, A)
    if previous is not None:
        sums += located(weights, previous)
    terms = np.tanh(sums).reshape(*sums.shape[:3], num_heads, share)
    scores: np.ndarray = np.einsum("nkths,hs->nkht", terms, weights.weight)
    return scores


def located(weights: AdditiveWeights, previous: np.ndarray) -> np.ndarray:
    """U f for the last weights `previous` (N, K, H, T): (N, K, T, A)."""
    width = weights.filters.shape[2]
    padded = np.pad(previous, [(0, 0)] * 3 + [(width // 2, width // 2)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, width, axis=3)  # (N, K, H, T, width)
    features = np.tensordot(windows, weights.filters, axes=([2, 4], [1, 2]))  # (N, K, T, channels)
    found: np.ndarray = features @ weights.location
    return found


class _Products:
    """Scores that are products of a vector of the query and a vector of each step. The heads share both."""

    looks_back = False
    num_heads: int

    def keys(self, steps: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(split_heads(self.of_steps(steps), self.num_heads).transpose(0, 1, 3, 2))

    def __call__(self, query: np.ndarray, source: Source, state: tuple[np.ndarray, ...]) -> np.ndarray:
        scores: np.ndarray = split_heads(self.of_query(query), self.num_heads) @ source.keys
        return scores.transpose(0, 2, 1, 3)

    def of_steps(self, steps: np.ndarray) -> np.ndarray:
        """The vectors (N, T, size) of the `steps` (N, T, E)."""
        return steps

    def of_query(self, query: np.ndarray) -> np.ndarray:
        """The vector (N, K, size) of each `query` (N, K, Q)."""
        return query


class SearchDot(_Products):
    """As DotScore. Calling it turns a `query` (N, K, Q) into scores (N, K, H, T)."""

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int) -> None:
        self.num_heads = config.num_heads


class SearchScaledDot(_Products):
    """As ScaledDotScore. Calling it turns a `query` (N, K, Q) into scores (N, K, H, T)."""

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int) -> None:
        size, self.num_heads = config.attention_size, config.num_heads
        self._query = weights.linear("query", query_size, size, bias=False)
        self._scale = 1 / math.sqrt(size // self.num_heads)
        self._key = weights.linear("key", step_size, size, bias=False)

    def of_steps(self, steps: np.ndarray) -> np.ndarray:
        return self._key(steps)

    def of_query(self, query: np.ndarray) -> np.ndarray:
        return self._query(query) * self._scale


class SearchGeneral(_Products):
    """As GeneralScore. Calling it turns a `query` (N, K, Q) into scores (N, K, H, T)."""

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int) -> None:
        self.num_heads = config.num_heads
        self._key = weights.linear("key", step_size, query_size, bias=False)

    def of_steps(self, steps: np.ndarray) -> np.ndarray:
        return self._key(steps)


class SearchCosine(_Products):
    """As CosineScore. Calling it turns a `query` (N, K, Q) into scores (N, K, H, T). It ignores the `state`."""

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int) -> None:
        self.num_heads = config.num_heads
        self._query = weights.linear("query", query_size, step_size, bias=False)
        self._strength = weights.linear("strength", query_size, config.num_heads)

    def of_steps(self, steps: np.ndarray) -> np.ndarray:
        return self._directions(steps)

    def of_query(self, query: np.ndarray) -> np.ndarray:
        return self._directions(self._query(query))

    def __call__(self, query: np.ndarray, source: Source, state: tuple[np.ndarray, ...]) -> np.ndarray:
        strength = np.logaddexp(0, self._strength(query))[:, :, :, None]
        return strength * super().__call__(query, source, state)

    def _directions(self, values: np.ndarray) -> np.ndarray:
        """Scale `values` (N, L, size) so that each head's share has length 1."""
        shares = values.reshape(*values.shape[:2], self.num_heads, -1)
        lengths = np.sqrt((shares * shares).sum(axis=3, keepdims=True))
        return (shares / np.maximum(lengths, 1e-12)).reshape(values.shape)


class SearchLocation:
    """As LocationScore. Calling it turns a `query` (N, K, Q) into scores (N, K, H, T). It ignores the `state`."""

    looks_back = False

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int, step_size: int) -> None:
        self._num_heads = config.num_heads
        self._positions = weights.linear("positions", query_size, config.num_heads * config.max_positions, bias=False)

    def keys(self, steps: np.ndarray) -> np.ndarray:
        """Nothing, (N, T, 0): the scores do not depend on `steps` (N, T, E)."""
        return steps[:, :, :0]

    def __call__(self, query: np.ndarray, source: Source, state: tuple[np.ndarray, ...]) -> np.ndarray:
        known = self._positions(query).reshape(*query.shape[:2], self._num_heads, -1)
        num_steps = source.mask.shape[1]
        scores = np.full((*known.shape[:3], num_steps), -np.inf, known.dtype)
        scores[..., : known.shape[3]] = known[..., :num_steps]
        return scores


class Window(Protocol):
    """The interface of windows.

    Calling a window turns `scores` (N, K, H, T) into weights. It can overwrite the scores. `query` is (N, K, Q).
    """

    def __call__(self, query: np.ndarray, scores: np.ndarray, source: Source) -> np.ndarray: ...


class SearchGlobalWindow:
    """As GlobalWindow. Calling it turns `scores` (N, K, H, T) into weights. `query` (N, K, Q) has no influence."""

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int) -> None:
        pass

    def __call__(self, query: np.ndarray, scores: np.ndarray, source: Source) -> np.ndarray:
        scores += source.mask[:, None, None]
        return softmax(scores)


class SearchLocalWindow:
    """As LocalWindow.

    Calling it turns `scores` (N, K, H, T) into weights, in a window around a centre found from the `query` (N, K, Q).
    """

    def __init__(self, config: DecoderConfig, weights: Weights, query_size: int) -> None:
        self._size = config.window_size
        self._hidden = weights.linear("hidden", query_size, query_size, bias=False)
        self._center = weights.linear("center", query_size, config.num_heads, bias=False)

    def __call__(self, query: np.ndarray, scores: np.ndarray, source: Source) -> np.ndarray:
        last = (source.lens - 1)[:, None, None].astype(scores.dtype)
        centers = last * sigmoid(self._center(np.tanh(self._hidden(query))))  # (N, K, H)
        distances = np.arange(scores.shape[3], dtype=scores.dtype) - centers[:, :, :, None]
        near = (np.abs(distances) <= self._size) & (source.mask[:, None, None] == 0)
        weights = softmax(np.where(near, scores, np.finfo(scores.dtype).min))
        found: np.ndarray = weights * near * np.exp(-(distances**2) / (2 * (self._size / 2) ** 2))
        return found


class Reading(Protocol):
    """The interface of readings: a function that turns `weights` into the share of each step in what is read.

    Both are (N, K, H, T).
    """

    def __call__(self, weights: np.ndarray) -> np.ndarray: ...


def read_softly(weights: np.ndarray) -> np.ndarray:
    """As SoftReading: returns the `weights` (N, K, H, T)."""
    return weights


def read_one(weights: np.ndarray) -> np.ndarray:
    """As HardReading after training: 1 for the step of largest weight. `weights` and result are (N, K, H, T)."""
    taken = np.zeros_like(weights)
    np.put_along_axis(taken, weights.argmax(axis=3)[..., None], 1.0, axis=3)
    return taken


def edge_steps(steps: np.ndarray, lens: np.ndarray) -> np.ndarray:
    """The last and the first step of each utterance, (N, 2 E). `steps` is (N, T, E), `lens` (N,)."""
    return np.concatenate([steps[np.arange(len(steps)), lens - 1], steps[:, 0]], axis=1)


def softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax of `scores` over the last axis. It overwrites the scores; their shape is arbitrary."""
    scores -= scores.max(axis=-1, keepdims=True)
    np.exp(scores, out=scores)
    scores /= scores.sum(axis=-1, keepdims=True)
    return scores
