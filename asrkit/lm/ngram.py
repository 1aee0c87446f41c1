"""Phone n-gram language models: training, scoring, the ARPA format, and arrays for decoding.

Sentences are scored as KenLM scores them: `<s>` opens the context and is never predicted, `</s>` is predicted at
the end, and a symbol outside the vocabulary counts as `<unk>`.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from asrkit.errors import DataError, location
from asrkit.formats import arpa
from asrkit.formats.arpa import BOS, EOS, NEVER, UNK, Ngram, read_arpa_text
from asrkit.lm.smoothing import EPSILONS, count_ngrams, estimate

LN10 = math.log(10.0)
UNK_MISSING = -100.0  # log10 probability that KenLM gives to <unk> when the file has none
MAX_TABLE = 2**22  # entries of a dense table: 84 MB with what a decoder adds


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
        depth = np.zeros(len(self.end), dtype=np.int64)
        while True:
            deeper = np.where(np.arange(len(depth)) > 0, depth[self.shorter] + 1, 0)
            if (deeper == depth).all():
                return depth
            depth = deeper


@dataclass(frozen=True)
class NgramLM:
    """A back-off n-gram model over phones.

    `ngrams[n - 1]` maps each n-gram to its (log10 probability, log10 back-off weight), the two numbers of an ARPA
    line. `phones` are in token table order: phone i has token id i + 1.
    """

    phones: tuple[str, ...]
    ngrams: tuple[Mapping[Ngram, tuple[float, float]], ...]

    @property
    def order(self) -> int:
        return len(self.ngrams)

    def log_prob(self, word: str, context: Sequence[str]) -> float:
        """Natural log P(word | context); the last `order - 1` symbols of `context` count, `word` may be </s>."""
        ngram = tuple(w if (w,) in self.ngrams[0] else UNK for w in [*context, word][-self.order :])
        log10_prob = 0.0
        while ngram not in self.ngrams[len(ngram) - 1]:
            log10_prob += self.ngrams[len(ngram) - 2].get(ngram[:-1], (0.0, 0.0))[1]
            ngram = ngram[1:]
        return (log10_prob + self.ngrams[len(ngram) - 1][ngram][0]) * LN10

    def score(self, sentence: Sequence[str], *, bos: bool = True, eos: bool = True) -> float:
        """Natural log probability of the sentence: with `bos` it follows <s>, with `eos` its </s> is included."""
        words = [*[BOS] * bos, *sentence, *[EOS] * eos]
        return math.fsum(self.log_prob(words[i], words[max(0, i - self.order) : i]) for i in range(bos, len(words)))

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Perplexity a symbol; each sentence's `</s>` and unknown phones count. Raises DataError without sentences."""
        windows: Counter[Ngram] = Counter()  # each is looked up once, however often a long text has it
        for sentence in sentences:
            words = (BOS, *sentence, EOS)
            windows.update(words[max(0, i - self.order) : i] for i in range(2, len(words) + 1))
        if not windows:
            raise DataError("perplexity: there are no sentences")
        log_prob = math.fsum(count * self.log_prob(window[-1], window[:-1]) for window, count in windows.items())
        return math.exp(-log_prob / windows.total())

    @cached_property
    def automaton(self) -> LmAutomaton:
        """The model as arrays."""
        token_ids = {phone: i + 1 for i, phone in enumerate(self.phones)}
        # A context that lists nothing and costs nothing to leave is the same as the next shorter one.
        extended = {ngram[:-1] for level in self.ngrams[1:] for ngram in level}
        contexts: list[Ngram] = [()]
        contexts += (
            ngram
            for level in self.ngrams[:-1]
            for ngram, (_, backoff) in level.items()
            if (backoff != 0.0 or ngram in extended)
            and (ngram[0] == BOS or ngram[0] in token_ids)
            and all(symbol in token_ids for symbol in ngram[1:])
        )
        index = {context: row for row, context in enumerate(contexts)}
        shorter = np.array([0, *(index[_known_suffix(context[1:], index)] for context in contexts[1:])], dtype=np.int32)
        backoff = np.array([0.0, *(self.ngrams[len(context) - 1][context][1] for context in contexts[1:])])
        end = np.zeros(len(contexts))
        for row, context in enumerate(contexts):
            listed = self.ngrams[len(context)].get((*context, EOS)) if len(context) < self.order else None
            end[row] = end[shorter[row]] + backoff[row] if listed is None else listed[0]
        arcs = [
            (row, token, log10_prob, index[_known_suffix(ngram, index)])
            for level in self.ngrams
            for ngram, (log10_prob, _) in level.items()
            if (token := token_ids.get(ngram[-1])) is not None and (row := index.get(ngram[:-1])) is not None
        ]
        arcs.sort()
        rows, tokens, log10_probs, following = zip(*arcs, strict=True) if arcs else ((),) * 4
        return LmAutomaton(
            first_arc=np.searchsorted(np.array(rows, dtype=np.int64), np.arange(len(contexts) + 1)),
            tokens=np.array(tokens, dtype=np.int32),
            log_probs=np.array(log10_probs, dtype=np.float64) * LN10,
            next_context=np.array(following, dtype=np.int32),
            shorter=shorter,
            backoff=backoff * LN10,
            end=end * LN10,
            start=index.get((BOS,), 0),
            num_classes=len(self.phones) + 1,
        )


def _known_suffix(ngram: Ngram, index: Mapping[Ngram, int]) -> Ngram:
    """The longest suffix of `ngram`, itself included, that is a context."""
    while ngram not in index:
        ngram = ngram[1:]
    return ngram


def train_ngram(
    sentences: Iterable[Sequence[str]],
    order: int,
    phones: Sequence[str],
    smoothing: str = "kneser_ney",
    epsilons: Sequence[float] = EPSILONS,
) -> NgramLM:
    """Train a model of any order, smoothed as `smoothing` (one of SMOOTHINGS) says; see asrkit/lm/smoothing.py.

    Below the unigrams stands the uniform distribution over `phones`, </s> and <unk>, so every symbol has a probability
    and each context's sum to 1. `epsilons` are those of "laplace".

    Raises:
        DataError: no sentences, order below 1, a symbol in `phones` that the model reserves, or symbols in the
            sentences that are not in `phones` (all are named).
        ConfigError: an unknown smoothing, or epsilons that are not positive numbers.
    """
    if order < 1:
        raise DataError(f"language model: order {order}; expected at least 1")
    if reserved := [phone for phone in phones if phone in (BOS, EOS, UNK)]:
        raise DataError(f"language model: reserved symbols among the phones: {' '.join(reserved)}; rename them")
    symbols = [UNK, BOS, EOS, *phones]
    ids = {phone: i for i, phone in enumerate(phones, 3)}
    unknown: set[str] = set()
    text = array("i")
    for sentence in sentences:
        unknown.update(set(sentence) - ids.keys())
        text.append(1)
        text.extend([ids.get(symbol, 0) for symbol in sentence])
        text.append(2)
    if unknown:
        raise DataError(f"language model: symbols outside the token table: {' '.join(sorted(unknown))}")
    if not text:
        raise DataError("language model: no sentences to train on")

    levels = count_ngrams(np.frombuffer(text, dtype=np.int32), len(symbols), order, bos=1)
    contexts: list[Ngram] = [()]
    ngrams = []
    for level, (probs, backoffs) in zip(levels, estimate(levels, smoothing, epsilons), strict=True):
        rows = zip(level.context.tolist(), level.last.tolist(), strict=True)
        contexts = [(*contexts[context], symbols[last]) for context, last in rows]
        numbers = zip(np.log10(probs).tolist(), np.log10(backoffs).tolist(), strict=True)
        ngrams.append(dict(zip(contexts, numbers, strict=True)))
    ngrams[0][BOS,] = (NEVER, ngrams[0][BOS,][1])
    return NgramLM(tuple(phones), tuple(ngrams))


def write_arpa(lm: NgramLM, path: str | Path) -> None:
    """Write an ARPA file, atomically. Numbers are written in full, so that `read_arpa` gives the very same model."""
    arpa.write_arpa(lm.ngrams, path)


def read_arpa(path: str | Path, phones: Sequence[str]) -> NgramLM:
    """Read an ARPA file as `parse_arpa` does. Raises DataError for a file that cannot be read, too."""
    return parse_arpa(read_arpa_text(path), phones, str(path))


def parse_arpa(text: str, phones: Sequence[str], path: str) -> NgramLM:
    """The model of an ARPA file's text, for the token table whose phones, in order, are `phones`.

    The text may hold more symbols than that; they are never hypothesized. A missing <unk> gets the tiny
    probability that KenLM gives it. `path` names it in messages.

    Raises:
        DataError: one line per fault: as `arpa.parse_arpa`, or a phone without a unigram.
    """
    ngrams = arpa.parse_arpa(text, path)
    unigrams = ngrams[0] if ngrams else {}
    unigrams.setdefault((UNK,), (UNK_MISSING, 0.0))
    missing = [symbol for symbol in (BOS, EOS, *phones) if (symbol,) not in unigrams]
    if missing:
        raise DataError(f"{location(path)}no unigrams for {' '.join(missing)}; train it with the same token table")
    return NgramLM(tuple(phones), tuple(ngrams))
