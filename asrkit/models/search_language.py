"""A neural language model in NumPy. It computes the same as language.py without torch, one token at a time.

Legend: B beginnings of sentences, L tokens of each so far, V classes (class 0 begins and ends a sentence), E embedding
size, H units, S numbers that a network keeps for a token.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol

import numpy as np

from asrkit.errors import DataError
from asrkit.lang.symbols import name_symbols
from asrkit.models.decoder_config import SEARCH_CELLS, DecoderCellName
from asrkit.models.language_config import END, SEARCH_NETWORKS, LanguageConfig
from asrkit.models.search_decoder import Cell, log_softmax
from asrkit.models.search_weights import Weights

_AT_ONCE = 256  # sentences whose perplexity is computed at once


class SearchNetwork(Protocol):
    """The interface of networks.

    Attributes:
        num_kept: S.
        sees_all: whether the network looks at what was kept for all tokens so far, or only for the last one.
    """

    num_kept: int
    sees_all: ClassVar[bool]

    def step(self, inputs: np.ndarray, kept: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take one token per sentence.

        Args:
            inputs: (B, E) embeddings of the tokens.
            kept: (B, L, S) what was kept for the tokens before. If the network does not see all, L is 1, and `kept` is
                0 before the first token.
            lens: (B,) numbers of tokens before; the rest of L is padding.

        Returns:
            The outputs (B, H), and what to keep for the tokens (B, S).
        """


class SearchRecurrentNetwork:
    """Recurrent layers. They keep the states of all layers."""

    sees_all: ClassVar[bool] = False
    cell: ClassVar[DecoderCellName]

    def __init__(self, config: LanguageConfig, weights: Weights) -> None:
        cell_type: type[Cell] = SEARCH_CELLS[self.cell].load()
        size, layers = config.hidden_size, range(config.num_layers)
        sizes = [config.embedding_size, *[size] * (config.num_layers - 1)]
        names = [f"layers.{layer}.rnn" for layer in layers]
        sums = cell_type.num_gates * size
        self._inputs = [weights.linear(*each, sums, suffix="_ih_l0") for each in zip(names, sizes, strict=True)]
        self._cells = [cell_type(weights.linear(name, size, sums, suffix="_hh_l0")) for name in names]
        self._shape = config.num_layers, cell_type.num_states, size
        self.num_kept = math.prod(self._shape)

    def step(self, inputs: np.ndarray, kept: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As SearchNetwork.step: `inputs` (B, E), `kept` (B, 1, S), `lens` (B,)."""
        states = kept.reshape(-1, *self._shape)
        found = np.empty_like(states)
        for layer, (sums, cell) in enumerate(zip(self._inputs, self._cells, strict=True)):
            found[:, layer] = cell(sums(inputs), states[:, layer])
            inputs = found[:, layer, 0]
        return inputs, found.reshape(len(found), -1)


class SearchElmanNetwork(SearchRecurrentNetwork):
    """language.ElmanNetwork without torch."""

    cell = "elman"


class SearchGruNetwork(SearchRecurrentNetwork):
    """language.GruNetwork without torch."""

    cell = "gru"


class SearchLstmNetwork(SearchRecurrentNetwork):
    """language.LstmNetwork without torch."""

    cell = "lstm"


class SearchTransformerNetwork:
    """Causal layers of attention. They keep the keys and values of all layers."""

    sees_all: ClassVar[bool] = True

    def __init__(self, config: LanguageConfig, weights: Weights) -> None:
        size = config.hidden_size
        self._input = weights.linear("input", config.embedding_size, size)
        layers = (weights.under(f"layers.{layer}") for layer in range(config.num_layers))
        self._layers = [_CausalLayer(config, each) for each in layers]
        self._norm = _Norm(weights, "norm", size)
        self.num_kept = 2 * size * config.num_layers

    def step(self, inputs: np.ndarray, kept: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As SearchNetwork.step: `inputs` (B, E), `kept` (B, L, S), `lens` (B,)."""
        steps, new = self._input(inputs), []
        for layer, own in zip(self._layers, np.split(kept, len(self._layers), axis=2), strict=True):
            steps, left = layer(steps, own, lens)
            new.append(left)
        return self._norm(steps), np.concatenate(new, axis=1)


class _CausalLayer:
    def __init__(self, config: LanguageConfig, weights: Weights) -> None:
        size, self._heads = config.hidden_size, config.num_heads
        self._attention_norm, self._last_norm = (_Norm(weights, name, size) for name in ("attention_norm", "norm"))
        self._query_key_value = weights.linear("query_key_value", size, 3 * size)
        self._attended = weights.linear("attended", size, size)
        self._inner = weights.linear("inner", size, config.feed_forward_size)
        self._outer = weights.linear("outer", config.feed_forward_size, size)
        self._slopes = 2.0 ** (-8.0 / self._heads * np.arange(1, self._heads + 1))

    def __call__(self, steps: np.ndarray, kept: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute the output (B, H) from `steps` (B, H), after tokens with keys and values `kept` (B, L, 2 H)."""
        size = steps.shape[1]
        parts = self._query_key_value(self._attention_norm(steps))
        query, new = parts[:, :size].reshape(len(steps), self._heads, -1), parts[:, size:]
        # The new token comes first: its age is 0, however many tokens precede it.
        all_kept = np.concatenate([new[:, None], kept], axis=1).reshape(
            *kept.shape[:1], -1, 2, self._heads, query.shape[2]
        )
        place = np.arange(kept.shape[1])
        ages = np.concatenate([np.zeros((len(steps), 1), np.int64), lens[:, None] - place], axis=1)  # (B, 1 + L)
        scores = np.einsum("bkd,blkd->bkl", query, all_kept[:, :, 0]) / math.sqrt(query.shape[2])
        scores = np.where(ages[:, None] >= 0, scores - self._slopes[:, None] * ages[:, None], -np.inf)
        scores[:, :, 1:][np.broadcast_to((place >= lens[:, None])[:, None], scores[:, :, 1:].shape)] = -np.inf
        shares = np.exp(scores - scores.max(axis=2, keepdims=True))
        shares /= shares.sum(axis=2, keepdims=True)
        found = np.einsum("bkl,blkd->bkd", shares.astype(steps.dtype), all_kept[:, :, 1])
        steps = steps + self._attended(found.reshape(len(steps), -1))
        return steps + self._outer(np.maximum(self._inner(self._last_norm(steps)), 0.0)), new


class _Norm:
    """Layer normalisation as torch's nn.LayerNorm."""

    def __init__(self, weights: Weights, name: str, size: int) -> None:
        self._scale, self._shift = (weights.take(f"{name}.{part}", size) for part in ("weight", "bias"))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = values - values.mean(axis=1, keepdims=True)
        variances = (values**2).mean(axis=1, keepdims=True)
        found: np.ndarray = values / np.sqrt(variances + 1e-5) * self._scale + self._shift
        return found


class NeuralLm:
    """A trained neural language model of `phones`, in the order of the token table: phone i has class i + 1.

    `table` is None, because the contexts cannot be listed.
    """

    table: ClassVar[None] = None

    def __init__(self, config: LanguageConfig, phones: Sequence[str], weights: dict[str, np.ndarray]) -> None:
        """Take the weights of a model, in PyTorch's shapes, such as (V, E) for "embedding.weight".

        Args:
            config: settings of the model.
            phones: symbols of the classes from 1 on.
            weights: PyTorch's name -> array.

        Raises:
            ModelError: a weight is missing, unexpected, or of another shape.
        """
        self.config, self.phones, self.weights = config, tuple(phones), weights
        self.num_classes = len(self.phones) + 1
        named = Weights(weights)
        self.embeddings = named.take("embedding.weight", self.num_classes, config.embedding_size)
        self.network: SearchNetwork = SEARCH_NETWORKS[config.network].load()(config, named.under("network"))
        self._output = named.linear("output", config.hidden_size, self.num_classes)
        named.expect_all_taken()
        self.dtype = self.embeddings.dtype

    @property
    def automaton(self) -> NeuralLm:
        """The model in the form for searches: the model itself."""
        return self

    def begin(self) -> NeuralContexts:
        """The contexts for a new search."""
        return NeuralContexts(self)

    def step(self, tokens: np.ndarray, kept: np.ndarray, lens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Take one token per sentence.

        Args:
            tokens: (B,) classes.
            kept: (B, L, S) what was kept for the tokens before; see SearchNetwork.
            lens: (B,) numbers of tokens before.

        Returns:
            (B, V) float64 natural-log probabilities of the next class, and what to keep for the tokens (B, S).
        """
        outputs, new = self.network.step(self.embeddings[tokens], kept, lens)
        return log_softmax(self._output(outputs).astype(np.float64)), new

    def encode(self, sentences: Iterable[Sequence[str]]) -> list[list[int]]:
        """Turn sentences into classes. Raises DataError for symbols that the model does not know."""
        ids, sentences = {phone: place for place, phone in enumerate(self.phones, 1)}, list(sentences)
        if unknown := sorted({symbol for sentence in sentences for symbol in sentence} - ids.keys()):
            names = name_symbols(unknown, self.phones)
            raise DataError(f"neural language model: symbols that it does not know: {names}; train it on such text")
        return [[ids[symbol] for symbol in sentence] for sentence in sentences]

    def token_log_probs(self, sentences: Sequence[Sequence[str]]) -> list[np.ndarray]:
        """For each sentence of U symbols, natural-log probabilities (U + 1,) of its symbols and of its end."""
        encoded = self.encode(sentences)
        order = sorted(range(len(encoded)), key=lambda index: len(encoded[index]))
        found: list[np.ndarray] = [np.zeros(0)] * len(encoded)
        for start in range(0, len(order), _AT_ONCE):
            members = order[start : start + _AT_ONCE]
            rows = self._score_batch([encoded[index] for index in members])
            for index, row in zip(members, rows, strict=True):
                found[index] = row[: len(encoded[index]) + 1]
        return found

    def _score_batch(self, encoded: Sequence[Sequence[int]]) -> np.ndarray:
        """(n, U + 1), with U of the longest sentence. After the end of a sentence the numbers have no meaning."""
        padded = np.full((len(encoded), max(map(len, encoded)) + 2), END)
        for row, tokens in zip(padded, encoded, strict=True):
            row[1 : len(tokens) + 1] = tokens
        length, rows = padded.shape[1] - 1, np.arange(len(padded))
        sees_all, lens = self.network.sees_all, np.zeros(len(padded), np.int64)
        kept = np.zeros((len(padded), length + 1 if sees_all else 1, self.network.num_kept), self.dtype)
        found = np.zeros((len(padded), length))
        for place in range(length):
            before = kept[:, :place] if sees_all else kept
            log_probs, new = self.step(padded[:, place], before, lens + place)
            kept[:, place if sees_all else 0] = new
            found[:, place] = log_probs[rows, padded[:, place + 1]]
        return found

    def score(self, sentence: Sequence[str]) -> float:
        """Natural-log probability of the sentence and its end."""
        return float(self.token_log_probs([sentence])[0].sum())

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Perplexity per symbol; the end of each sentence counts as a symbol. Raises DataError without sentences."""
        found = self.token_log_probs(list(sentences))
        if not found:
            raise DataError("perplexity: there are no sentences")
        return math.exp(-sum(float(each.sum()) for each in found) / sum(map(len, found)))


class NeuralContexts:
    """The contexts of one search, numbered: beginnings of sentences, each one token longer than its parent.

    What the network keeps for a token is stored once, for all contexts that continue from it. Every search has its own
    contexts, so their numbers mean nothing in another search.
    """

    start = 0

    def __init__(self, lm: NeuralLm) -> None:
        self._lm = lm
        self._children: dict[tuple[int, int], int] = {}
        self._parents, self._tokens, self._lens = [-1], [END], [0]
        self._is_known = np.zeros(64, bool)
        self._rows = np.zeros((64, lm.num_classes))
        self._kept = np.zeros((64, lm.network.num_kept), lm.dtype)

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """Natural-log probabilities (..., V) of the next class in `contexts` (...,); class 0 is the end."""
        if not self._is_known[contexts].all():
            self._compute(np.unique(contexts[~self._is_known[contexts]]))
        found: np.ndarray = self._rows[contexts]
        return found

    def ends(self, contexts: np.ndarray) -> np.ndarray:
        """Natural-log P(end) in each of `contexts`, an array of any shape."""
        return self.rows(contexts)[..., END]

    def after(self, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The contexts after `contexts` (...,) followed by `tokens` (...,)."""
        self.rows(contexts)  # computes what is kept for them
        pairs = zip(contexts.ravel().tolist(), tokens.ravel().tolist(), strict=True)
        return np.array([self._child(*pair) for pair in pairs], np.int64).reshape(contexts.shape)

    def step(self, context: int, token: int) -> tuple[int, float]:
        """The context after `token`, and natural-log P(token | context)."""
        row = self.rows(np.array([context]))[0]
        return self._child(context, token), float(row[token])

    def _child(self, context: int, token: int) -> int:
        number = self._children.setdefault((context, token), len(self._parents))
        if number == len(self._parents):
            self._parents.append(context)
            self._tokens.append(token)
            self._lens.append(self._lens[context] + 1)
            if number == len(self._is_known):
                for name in ("_is_known", "_rows", "_kept"):
                    old = getattr(self, name)
                    setattr(self, name, np.concatenate([old, np.zeros_like(old)]))
        return number

    def _compute(self, contexts: np.ndarray) -> None:
        """Run the network on the last tokens of `contexts` (B,), whose parents are known."""
        numbers = contexts.tolist()
        lens = np.array([self._lens[number] for number in numbers])
        kept = self._all_before(numbers, lens) if self._lm.network.sees_all else self._last_before(numbers)
        tokens = np.array([self._tokens[number] for number in numbers])
        self._rows[contexts], self._kept[contexts] = self._lm.step(tokens, kept, lens)
        self._is_known[contexts] = True

    def _last_before(self, numbers: Sequence[int]) -> np.ndarray:
        """(B, 1, S) what was kept for the parents; 0 for the first context."""
        parents = np.array([self._parents[number] for number in numbers])
        return np.where((parents >= 0)[:, None], self._kept[parents], 0.0)[:, None].astype(self._lm.dtype)

    def _all_before(self, numbers: Sequence[int], lens: np.ndarray) -> np.ndarray:
        """(B, L, S) what was kept for all beginnings of the contexts, the shortest first; then padding."""
        paths = np.zeros((len(numbers), lens.max()), np.int64)
        for path, number, length in zip(paths, numbers, lens.tolist(), strict=True):
            for place in range(length - 1, -1, -1):
                number = self._parents[number]
                path[place] = number
        return self._kept[paths]
