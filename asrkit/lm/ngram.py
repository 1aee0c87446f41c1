"""Phone n-gram language models: training, scoring and ARPA files.

Sentences are scored as by KenLM: `<s>` begins the context and is never predicted, `</s>` is predicted at the end, and a
symbol outside the vocabulary counts as `<unk>`.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from asrkit.errors import DataError, location
from asrkit.formats import arpa
from asrkit.formats.arpa import BOS, EOS, NEVER, UNK, Ngram, read_arpa_text
from asrkit.lang.symbols import name_symbols
from asrkit.lm.automaton import LN10, MAX_DEPTH, LmAutomaton, build_automaton
from asrkit.lm.smoothing import EPSILONS, count_ngrams, estimate

_MAX_LOG10 = 1e5  # largest number of a model for decoding; sums of such numbers do not overflow
UNK_MISSING = -100.0  # log10 probability of <unk> in KenLM if the file has no <unk>


@dataclass(frozen=True)
class NgramLM:
    """A back-off n-gram model over phones.

    Attributes:
        phones: the phones in the order of the token table: phone i has token id i + 1.
        ngrams: `ngrams[n - 1]` maps each n-gram to its log10 probability and log10 back-off weight, as in an ARPA file.
    """

    phones: tuple[str, ...]
    ngrams: tuple[Mapping[Ngram, tuple[float, float]], ...]

    @property
    def order(self) -> int:
        """The order of the model: 2 for bigrams."""
        return len(self.ngrams)

    def log_prob(self, word: str, context: Sequence[str]) -> float:
        """Natural log P(word | context). The last `order - 1` symbols of `context` count. `word` can be </s>."""
        ngram = tuple(w if (w,) in self.ngrams[0] else UNK for w in [*context, word][-self.order :])
        log10_prob = 0.0
        while ngram not in self.ngrams[len(ngram) - 1]:
            log10_prob += self.ngrams[len(ngram) - 2].get(ngram[:-1], (0.0, 0.0))[1]
            ngram = ngram[1:]
        return (log10_prob + self.ngrams[len(ngram) - 1][ngram][0]) * LN10

    def score(self, sentence: Sequence[str], *, bos: bool = True, eos: bool = True) -> float:
        """Natural log probability of a sentence. With `bos` it follows <s>; with `eos` its </s> counts."""
        words = [*[BOS] * bos, *sentence, *[EOS] * eos]
        return math.fsum(self.log_prob(words[i], words[max(0, i - self.order) : i]) for i in range(bos, len(words)))

    def token_log_probs(self, sentences: Iterable[Sequence[str]]) -> list[np.ndarray]:
        """For each sentence of U symbols the natural-log probabilities (U + 1,) of its symbols and of </s>."""
        padded = [(BOS, *sentence, EOS) for sentence in sentences]
        return [
            np.array([self.log_prob(words[i], words[max(0, i - self.order) : i]) for i in range(1, len(words))])
            for words in padded
        ]

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Perplexity per symbol. The </s> of each sentence counts, and so do unknown phones.

        Raises:
            DataError: there are no sentences.
        """
        windows: Counter[Ngram] = Counter()  # each window is looked up only once
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
        return build_automaton(self.phones, self.ngrams)


def ngram_of(lm: LmAutomaton, phones: Sequence[str]) -> NgramLM:
    """The n-gram model of an automaton. </s> is listed in every context.

    Its arrays are those of `lm`, except for rounding.

    Raises:
        DataError: no n-gram leads to a context of `lm`.
    """
    names: dict[int, Ngram] = {0: ()}
    if lm.start:
        names[lm.start] = (BOS,)
    # The arcs that spell a context pass through its beginnings. Other arcs to it spell longer strings. So shorter
    # contexts come first.
    found, length = {len(name): [context] for context, name in names.items()}, 0
    while found:
        for context in found.pop(length, ()):
            for arc in range(lm.first_arc[context], lm.first_arc[context + 1]):
                following = int(lm.next_context[arc])
                if following not in names:
                    names[following] = (*names[context], phones[lm.tokens[arc] - 1])
                    found.setdefault(length + 1, []).append(following)
        length += 1
    if len(names) < len(lm.end):
        raise DataError(f"language model: {len(lm.end) - len(names)} contexts that no n-gram leads to")
    backoffs = {name: float(lm.backoff[context]) / LN10 for context, name in names.items()}
    tables: list[dict[Ngram, tuple[float, float]]] = [{} for _ in range(max(map(len, backoffs)) + 1)]
    tables[0] |= {(BOS,): (NEVER, backoffs.get((BOS,), 0.0)), (UNK,): (UNK_MISSING, 0.0)}
    for context, name in names.items():
        table = tables[len(name)]
        for arc in range(lm.first_arc[context], lm.first_arc[context + 1]):
            ngram = (*name, phones[lm.tokens[arc] - 1])
            table[ngram] = (float(lm.log_probs[arc]) / LN10, backoffs.get(ngram, 0.0))
        table[*name, EOS] = (float(lm.end[context]) / LN10, 0.0)
    return NgramLM(tuple(phones), tuple(tables))


def train_ngram(
    sentences: Iterable[Sequence[str]],
    order: int,
    phones: Sequence[str],
    smoothing: str = "kneser_ney",
    epsilons: Sequence[float] = EPSILONS,
) -> NgramLM:
    """Train a model of any order with a smoothing of SMOOTHINGS; see asrkit/lm/smoothing.py.

    The lowest level is the uniform distribution over `phones`, </s> and <unk>. So every symbol has a probability, and
    the probabilities of each context sum to 1. `epsilons` are those of "laplace".

    Raises:
        DataError: there are no sentences; the order is below 1; `phones` contains a reserved symbol; or the sentences
            contain symbols that are not in `phones` (all are named).
        ConfigError: the smoothing is unknown, or epsilons are not positive numbers.
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
        raise DataError(f"language model: symbols outside the token table: {name_symbols(sorted(unknown), phones)}")
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
    """Write an ARPA file atomically. Numbers are written in full, so `read_arpa` gives exactly the same model."""
    arpa.write_arpa(lm.ngrams, path)


def read_arpa(path: str | Path, phones: Sequence[str]) -> NgramLM:
    """Read an ARPA file; see `parse_arpa`.

    Raises:
        DataError: as `parse_arpa`, or the file cannot be read.
    """
    return parse_arpa(read_arpa_text(path), phones, str(path))


def parse_arpa(text: str, phones: Sequence[str], path: str) -> NgramLM:
    """Parse the text of an ARPA file for a token table with these `phones`.

    The text can contain more symbols; the search never uses them. A missing <unk> gets the tiny probability that KenLM
    gives it. `path` is the name in messages.

    Raises:
        DataError: as `arpa.parse_arpa`; a phone has no unigram; a number is huge, or the order. One line for each
            fault.
    """
    ngrams = arpa.parse_arpa(text, path)
    unigrams = ngrams[0] if ngrams else {}
    unigrams.setdefault((UNK,), (UNK_MISSING, 0.0))
    missing = [symbol for symbol in (BOS, EOS, *phones) if (symbol,) not in unigrams]
    if missing:
        names = name_symbols(missing, (symbol for (symbol,) in unigrams))
        raise DataError(f"{location(path)}no unigrams for {names}; train it with the same token table")
    largest = max(abs(number) for level in ngrams for numbers in level.values() for number in numbers)
    if largest > _MAX_LOG10 or len(ngrams) > MAX_DEPTH:
        limits = f"{_MAX_LOG10:g} and {MAX_DEPTH} at most"
        raise DataError(f"{location(path)}numbers up to {largest:g}, order {len(ngrams)}; expected {limits}")
    return NgramLM(tuple(phones), tuple(ngrams))
