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
MAX_DEPTH = 1000  # contexts on the way from one to the empty one: far above any order that is of use
_MAX_MAGNITUDE = 1e9  # of natural logs: sums and products of them stay finite

Levels = Sequence[Mapping[Ngram, tuple[float, float]]]  # of unigrams, bigrams...: log10 probability, log10 back-off


@dataclass(frozen=True)
class LmTable:
    """A language model as dense arrays, for decoders. C contexts, V = 1 + number of phones (column 0 is CTC's blank).

    `log_probs` (C, V) float64: natural log P(token | context); column 0 means nothing.
    `next_context` (C, V) int32: the context after the token; column 0 means nothing.
    `end` (C,) float64: natural log P(</s> | context). `start`: the context of an empty sentence.
    """

    log_probs: np.ndarray
    next_context: np.ndarray
    end: np.ndarray
    start: int
    _factors: dict[tuple[float, float], np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def factors(self, weight: float, bonus: float) -> np.ndarray:
        """exp(weight * log_probs + bonus), (C, V) float64. The last one asked for is kept."""
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
    """A language model of any size as arrays, for decoders: its contexts, and from each what the model lists there.

    C contexts, the empty one first and shorter ones before longer ones; A arcs, one for each listed n-gram that ends
    in a phone; V as in LmTable. A token that a context does not list is to be looked for in its `shorter` context,
    at the price of `backoff`; the empty context lists every token.

    `first_arc` (C + 1,) int64: the arcs of context c are those from first_arc[c] up to first_arc[c + 1], by token.
    `tokens` (A,) int32, `log_probs` (A,) float64 natural, `next_context` (A,) int32: one entry an arc.
    `shorter` (C,) int32: the longest known proper suffix of each context; `backoff` (C,) float64: natural log weights.
    `end` (C,) float64: natural log P(</s> | context). `start`: the context of an empty sentence.

    Raises DataError for arrays that are not so: whoever has an LmAutomaton can follow it without looking out.
    """

    first_arc: np.ndarray
    tokens: np.ndarray
    log_probs: np.ndarray
    next_context: np.ndarray
    shorter: np.ndarray
    backoff: np.ndarray
    end: np.ndarray
    start: int
    num_classes: int  # V

    def __post_init__(self) -> None:
        for fault in self._faults():  # the first one: those after it take for granted what it denies
            raise DataError(f"language model: {fault}")

    def _faults(self) -> Iterator[str]:
        """The faults of the arrays."""
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
        falls = np.flatnonzero(np.diff(self.tokens) <= 0) + 1  # where a context's arcs may begin, and nothing else
        if first_arc[1] != num_tokens or not np.isin(falls, first_arc).all():
            yield f"tokens: expected each of {num_tokens} in the empty context, and in each context in rising order"

    def begin(self) -> ListedContexts:
        """The contexts of a search."""
        return ListedContexts(self)

    def step(self, context: int, token: int) -> tuple[int, float]:
        """The context after `token`, and natural log P(token | context)."""
        log_prob = 0.0
        while True:
            first, last = self.first_arc[context : context + 2]
            arc = first + np.searchsorted(self.tokens[first:last], token)
            if arc < last and self.tokens[arc] == token:
                return int(self.next_context[arc]), float(self.log_probs[arc]) + log_prob
            log_prob += float(self.backoff[context])
            context = int(self.shorter[context])

    def row(self, context: int) -> np.ndarray:
        """(V,) natural log P(token | context); entry 0 means nothing."""
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
        """A lower bound of every log probability of a token, and (V,) upper bounds for each token."""
        most = np.full(self.num_classes, -np.inf)
        np.maximum.at(most, self.tokens, self.log_probs)
        depth = self._depth()
        lowest, highest = min(0.0, self.backoff.min()), max(0.0, self.backoff.max())
        return float(self.log_probs.min(initial=0.0) + depth.max() * lowest), most + depth.max() * highest

    @cached_property
    def table(self) -> LmTable | None:
        """The same model as dense arrays, or None when they would have more than MAX_TABLE entries."""
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
        """(C,) how many contexts there are on each one's way to the empty one."""
        depth, reached = np.minimum(np.arange(len(self.end)), 1), self.shorter
        while reached.any():  # contexts that are 1, 2, 4, ... on the way
            depth = depth + depth[reached]
            reached = reached[reached]
        return depth


class ListedContexts:
    """The contexts of an LmAutomaton, for many hypotheses at once."""

    def __init__(self, lm: LmAutomaton) -> None:
        self._lm, self.start = lm, lm.start
        self._known: dict[int, np.ndarray] = {}

    def rows(self, contexts: np.ndarray) -> np.ndarray:
        """Contexts (...) to natural-log probabilities (..., V) of what follows; entry 0 means nothing."""
        if (table := self._lm.table) is not None:
            found: np.ndarray = table.log_probs[contexts]
            return found
        rows = [self._row(context) for context in contexts.ravel().tolist()]
        return np.array(rows).reshape(*contexts.shape, self._lm.num_classes)

    def ends(self, contexts: np.ndarray) -> np.ndarray:
        """Contexts (...) to natural log P(</s>) (...)."""
        found: np.ndarray = self._lm.end[contexts]
        return found

    def after(self, contexts: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        """The contexts (...) after tokens (...)."""
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
    """The arrays of a back-off model over `phones`, which are in token table order."""
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
    """The contexts that differ from the next shorter one, the empty one first.

    One that lists nothing and costs nothing to leave is the same as the next shorter one.
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
    """(C,) log10 P(</s> | context): listed, or that of the shorter context at the price of the back-off."""
    ends = np.zeros(len(contexts))
    for row, context in enumerate(contexts):
        listed = levels[len(context)].get((*context, EOS)) if len(context) < len(levels) else None
        ends[row] = ends[shorter[row]] + backoff[row] if listed is None else listed[0]
    return ends


def _arcs(
    token_ids: Mapping[str, int], levels: Levels, index: Mapping[Ngram, int]
) -> list[tuple[int, int, float, int]]:
    """For each listed n-gram that ends in a phone: its context, token, log10 probability and the context after it."""
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
