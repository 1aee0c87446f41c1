"""A phone n-gram language model as arrays, for decoding."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from asrkit.errors import DataError
from asrkit.formats.arpa import BOS, EOS, Ngram

LN10 = math.log(10.0)
MAX_TABLE = 2**22  # entries of a dense table: 84 MB with what a decoder adds
MAX_DEPTH = 1000  # back-off steps from a context to the empty one: far above any useful order
_MAX_MAGNITUDE = 1e9  # of natural logs, so that their sums and products stay finite

Levels = Sequence[Mapping[Ngram, tuple[float, float]]]  # unigrams, bigrams...: log10 probability, log10 back-off


@dataclass(frozen=True)
class LmTable:
    """A language model as dense arrays, for decoders.

    C is the number of contexts, V = 1 + the number of phones. Column 0 stands for CTC's blank and has no meaning.

    Attributes:
        log_probs: (C, V) float64 natural log P(token | context).
        next_context: (C, V) int32 the context after the token.
        end: (C,) float64 natural log P(</s> | context).
        start: the context of an empty sentence.
        _factors: the last result of `factors`, (C, V), by its arguments.
    """

    log_probs: np.ndarray
    next_context: np.ndarray
    end: np.ndarray
    start: int
    _factors: dict[tuple[float, float], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def factors(self, weight: float, bonus: float) -> np.ndarray:
        """exp(weight * log_probs + bonus), (C, V) float64. The last result is kept."""
        key = weight, bonus
        factors = self._factors.get(key)
        if factors is None:
            with np.errstate(over="ignore"):
                factors = np.exp(weight * self.log_probs + bonus)
            self._factors.clear()
            self._factors[key] = factors
        return factors


@dataclass(frozen=True)
class LmAutomaton:
    """A language model of any size as sparse arrays, for decoders.

    It lists its contexts, and for each of them the n-grams of the model. There are C contexts: first the empty one, and
    shorter contexts before longer ones. There are A arcs, one for each listed n-gram that ends in a phone. V is as in
    LmTable. The empty context lists every token. If another context does not list a token, the decoder adds the
    context's `backoff` and continues in its `shorter` context.

    Attributes:
        first_arc: (C + 1,) int64. The arcs of context c are first_arc[c] to first_arc[c + 1] - 1, in the order of
            tokens.
        tokens: (A,) int32 the token of each arc.
        log_probs: (A,) float64 natural log probability of each arc.
        next_context: (A,) int32 the context after each arc.
        shorter: (C,) int32 the longest known proper suffix of each context.
        backoff: (C,) float64 natural log of the back-off weights.
        end: (C,) float64 natural log P(</s> | context).
        start: the context of an empty sentence.
        num_classes: V.

    Raises:
        DataError: the arrays are inconsistent. So every LmAutomaton can be followed without further checks.
    """

    first_arc: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    next_context: np.ndarray
    shorter: np.ndarray
    backoff: np.ndarray
    end: np.ndarray
    start: int
    num_classes: int

    def __post_init__(self) -> None:
        for fault in self._faults():  # only the first one: later checks rely on earlier ones
            raise DataError(f"language model: {fault}")

    def _faults(self) -> Iterator[str]:
        """The faults of the arrays. Each check relies on the checks before it."""
        dtypes = {"first_arc": "int64", "tokens": "int32", "next_context": "int32", "shorter": "int32"}
        dtypes |= {"log_probs": "float64", "backoff": "float64", "end": "float64"}
        arrays: dict[str, np.ndarray] = {name: getattr(self, name) for name in dtypes}
        for name, array in arrays.items():
            if array.dtype != dtypes[name] or array.ndim != 1:
                yield f"{name} is {array.dtype} of shape {array.shape}; expected {dtypes[name]} of one dimension"
        num_contexts, num_arcs = len(self.end), len(self.tokens)
        lengths = {"first_arc": num_contexts + 1, "shorter": num_contexts, "backoff": num_contexts}
        lengths |= {"log_probs": num_arcs, "next_context": num_arcs}
        for name, length in lengths.items():
            if len(arrays[name]) != length:
                yield (
                    f"{name} has {len(arrays[name])} entries; expected {length} for {num_contexts} contexts and "
                    f"{num_arcs} n-grams"
                )
        num_tokens = self.num_classes - 1
        if num_contexts == 0 or not 0 <= self.start < num_contexts:
            yield f"start {self.start}; expected one of {num_contexts} contexts"
        for name in ("log_probs", "backoff", "end"):
            if not (np.abs(arrays[name]) <= _MAX_MAGNITUDE).all():
                yield f"{name} holds numbers that no probability has"
        for name, low, high in (("tokens", 1, num_tokens), ("next_context", 0, num_contexts - 1)):
            if num_arcs and not (low <= arrays[name].min() and arrays[name].max() <= high):
                yield f"{name} from {arrays[name].min()} to {arrays[name].max()}; expected {low} to {high}"
        if self.shorter[0] != 0 or (self.shorter < 0).any() or (self.shorter[1:] >= np.arange(1, num_contexts)).any():
            yield "shorter: a context whose shorter one does not come before it"
        if (depth := self._depth().max()) > MAX_DEPTH:
            yield f"contexts of {depth} phones; expected {MAX_DEPTH} at most"
        first_arc = self.first_arc
        if first_arc[0] != 0 or first_arc[-1] != num_arcs or (first_arc[1:] < first_arc[:-1]).any():
            yield f"first_arc does not rise from 0 to {num_arcs}"
        falls = np.flatnonzero(np.diff(self.tokens) <= 0) + 1  # allowed only at a context's first arc
        if first_arc[1] != num_tokens or not np.isin(falls, first_arc).all():
            yield f"tokens: expected each of {num_tokens} in the empty context, and in each context in rising order"

    def begin(self) -> ListedContexts:
        """The contexts for a new search."""
        return ListedContexts(self)

    def step(self, context: int, token: int) -> tuple[int, float]:
        """The context after `token`, and natural log P(token | context).

        Raises:
            ValueError: the model has no such token.
        """
        if not 0 < token < self.num_classes:
            raise ValueError(f"token {token}; expected one from 1 to {self.num_classes - 1}")
        log_prob = 0.0
        while True:
            first, last = self.first_arc[context : context + 2]
            arc = first + np.searchsorted(self.tokens[first:last], token)
            if arc < last and self.tokens[arc] == token:
                return int(self.next_context[arc]), float(self.log_probs[arc]) + log_prob
            log_prob += float(self.backoff[context])
            context = int(self.shorter[context])

    def row(self, context: int) -> np.ndarray:
        """(V,) natural log P(token | context); entry 0 has no meaning."""
        chain = [context]
        while chain[-1]:
            chain.append(int(self.shorter[chain[-1]]))
        row = np.zeros(self.num_classes)
        for context in reversed(chain):
            arcs = slice(self.first_arc[context], self.first_arc[context + 1])
            row += self.backoff[context] if context else 0.0
            row[self.tokens[arcs]] = self.log_probs[arcs]
        return row

    @cached_property
    def bounds(self) -> tuple[float, np.ndarray]:
        """A lower bound of the natural log probabilities of all tokens, and (V,) an upper bound for each token."""
        most = np.full(self.num_classes, -np.inf)
        np.maximum.at(most, self.tokens, self.log_probs)
        depth = self._depth()
        lowest, highest = min(0.0, self.backoff.min()), max(0.0, self.backoff.max())
        return float(self.log_probs.min(initial=0.0) + depth.max() * lowest), most + depth.max() * highest

    @cached_property
    def table(self) -> LmTable | None:
        """The same model as dense arrays; None if they would have more than MAX_TABLE entries."""
        num_contexts = len(self.end)
        if num_contexts * self.num_classes > MAX_TABLE:
            return None
        log_probs = np.zeros((num_contexts, self.num_classes))
        next_context = np.zeros(log_probs.shape, dtype=np.int32)
        depth = self._depth()
        context_of_arc = np.repeat(np.arange(num_contexts), np.diff(self.first_arc))
        for level in range(depth.max() + 1):
            if level:
                contexts = np.flatnonzero(depth == level)
                log_probs[contexts] = log_probs[self.shorter[contexts]] + self.backoff[contexts, None]
                next_context[contexts] = next_context[self.shorter[contexts]]
            arcs = np.flatnonzero(depth[context_of_arc] == level)
            log_probs[context_of_arc[arcs], self.tokens[arcs]] = self.log_probs[arcs]
            next_context[context_of_arc[arcs], self.tokens[arcs]] = self.next_context[arcs]
        return LmTable(log_probs, next_context, self.end, self.start)

    def _depth(self) -> np.ndarray:
        """(C,) the number of back-off steps from each context to the empty one."""
        depth, reached = np.minimum(np.arange(len(self.end)), 1), self.shorter
        while reached.any():  # the contexts after 1, 2, 4, ... back-off steps
            depth = depth + depth[reached]
            reached = reached[reached]
        return depth


class ListedContexts:
    """The contexts of an LmAutomaton, for many hypotheses at once."""

    def __init__(self, lm: LmAutomaton) -> None:
        self._lm, self.start = lm, lm.start
        self._known: dict[int, np.ndarray] = {}

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """Natural-log probabilities (..., V) of the next token in `contexts` (...,); entry 0 has no meaning."""
        if (table := self._lm.table) is not None:
            found: np.ndarray = table.log_probs[contexts]
            return found
        rows = [self._row(context) for context in contexts.ravel().tolist()]
        return np.array(rows).reshape(*contexts.shape, self._lm.num_classes)

    def ends(self, contexts: np.ndarray) -> np.ndarray:
        """Natural log P(</s>) in each of `contexts`, an array of any shape."""
        found: np.ndarray = self._lm.end[contexts]
        return found

    def after(self, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The contexts after `contexts` (...,) followed by `tokens` (...,)."""
        if (table := self._lm.table) is not None:
            return table.next_context[contexts, tokens].astype(np.int64)
        pairs = zip(contexts.ravel().tolist(), tokens.ravel().tolist(), strict=True)
        return np.array([self._lm.step(*pair)[0] for pair in pairs], np.int64).reshape(contexts.shape)

    def step(self, context: int, token: int) -> tuple[int, float]:
        """The context after `token`, and natural log P(token | context)."""
        return self._lm.step(context, token)

    def _row(self, context: int) -> np.ndarray:
        if context not in self._known:
            self._known[context] = self._lm.row(context)
        return self._known[context]


def build_automaton(phones: Sequence[str], levels: Levels) -> LmAutomaton:
    """The arrays of a back-off model over `phones`, in the order of the token table."""
    token_ids = {phone: i + 1 for i, phone in enumerate(phones)}
    contexts = _contexts(token_ids, levels)
    index = {context: row for row, context in enumerate(contexts)}
    shorter = np.array([0, *(index[_known_suffix(context[1:], index)] for context in contexts[1:])], dtype=np.int32)
    backoff = np.array([0.0, *(levels[len(context) - 1][context][1] for context in contexts[1:])])
    arcs = _arcs(token_ids, levels, index)
    rows, tokens, log10_probs, following = zip(*arcs, strict=True) if arcs else ((),) * 4
    return LmAutomaton(
        first_arc=np.searchsorted(np.array(rows, dtype=np.int64), np.arange(len(contexts) + 1)),
        tokens=np.array(tokens, dtype=np.int32),
        log_probs=np.array(log10_probs, dtype=np.float64) * LN10,
        next_context=np.array(following, dtype=np.int32),
        shorter=shorter,
        backoff=backoff * LN10,
        end=_ends(contexts, levels, shorter, backoff) * LN10,
        start=index.get((BOS,), 0),
        num_classes=len(phones) + 1,
    )


def _contexts(token_ids: Mapping[str, int], levels: Levels) -> list[Ngram]:
    """The contexts that differ from the next shorter one; the empty one first.

    A context that lists nothing, and whose back-off weight is 1, is the same as the next shorter one.
    """
    extended = {ngram[:-1] for level in levels[1:] for ngram in level}
    return [
        (),
        *(
            ngram
            for level in levels[:-1]
            for ngram, (_, backoff) in level.items()
            if (backoff != 0.0 or ngram in extended)
            and (ngram[0] == BOS or ngram[0] in token_ids)
            and all(symbol in token_ids for symbol in ngram[1:])
        ),
    ]


def _ends(contexts: Sequence[Ngram], levels: Levels, shorter: np.ndarray, backoff: np.ndarray) -> np.ndarray:
    """(C,) log10 P(</s> | context): the listed value, or that of the shorter context plus the back-off weight."""
    ends = np.zeros(len(contexts))
    for row, context in enumerate(contexts):
        listed = levels[len(context)].get((*context, EOS)) if len(context) < len(levels) else None
        ends[row] = ends[shorter[row]] + backoff[row] if listed is None else listed[0]
    return ends


def _arcs(
    token_ids: Mapping[str, int], levels: Levels, index: Mapping[Ngram, int]
) -> list[tuple[int, int, float, int]]:
    """The context, token, log10 probability and next context of each listed n-gram that ends in a phone."""
    return sorted(
        (row, token, log10_prob, index[_known_suffix(ngram, index)])
        for level in levels
        for ngram, (log10_prob, _) in level.items()
        if (token := token_ids.get(ngram[-1])) is not None and (row := index.get(ngram[:-1])) is not None
    )


def _known_suffix(ngram: Ngram, index: Mapping[Ngram, int]) -> Ngram:
    """The longest suffix of `ngram`, itself included, that is a context."""
    while ngram not in index:
        ngram = ngram[1:]
    return ngram
