"""Models of all smoothings against the recursive definition in fractions, and the arrays against the model."""

import math
import random
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkit.lm.ngram import BOS, EOS, UNK, NgramLM, read_arpa, train_ngram, write_arpa
from asrkit.lm.smoothing import FALLBACK_DISCOUNTS, SMOOTHINGS, adjusted_counts, count_ngrams, kneser_ney_discounts

PHONES = ["a", "ʃ", "ɪ̈", "b"]
epsilons_of_orders = st.lists(st.sampled_from([0.01, 0.5, 1.0, 7.0]), min_size=1, max_size=4)
corpora = st.lists(st.lists(st.sampled_from(PHONES[:3]), max_size=6), min_size=1, max_size=6)


def occurrences(sentences, context, word):
    found = 0
    for sentence in sentences:
        words = [BOS, *sentence, EOS]
        for i in range(1, len(words)):
            found += words[i] == word and words[max(0, i - len(context)) : i] == list(context)
    return found


def interpolated(context, word, kept_and_reserved):
    """P(word | context), each order interpolated with the next; `kept_and_reserved` says how."""
    symbols = [*PHONES, EOS, UNK]
    lower = interpolated(context[1:], word, kept_and_reserved) if context else Fraction(1, len(symbols))
    kept, reserved = kept_and_reserved(context)
    total = sum(kept.values()) + reserved
    return (kept[word] + reserved * lower) / total if total else lower


def definition(sentences, order, smoothing, epsilons):
    """`kept_and_reserved` of each smoothing, counted from the sentences anew for each context."""
    symbols = [*PHONES, EOS, UNK]

    def witten_bell(context):
        counts = {symbol: occurrences(sentences, context, symbol) for symbol in symbols}
        return counts, sum(count > 0 for count in counts.values())

    def laplace(context):
        counts = {symbol: occurrences(sentences, context, symbol) for symbol in symbols}
        return counts, Fraction(epsilons[min(len(context), len(epsilons) - 1)])

    @cache
    def adjusted_count(context, word):
        if len(context) == order - 1 or context[:1] == (BOS,):
            return occurrences(sentences, context, word)
        return sum(occurrences(sentences, (first, *context), word) > 0 for first in [BOS, *PHONES])

    @cache
    def discounts(length):
        contexts = [c for n in range(length) for c in product(PHONES[:3], repeat=n)]
        contexts = [c for c in contexts if len(c) == length - 1] + [(BOS, *c) for c in contexts if len(c) == length - 2]
        counts = [adjusted_count(context, word) for context in contexts for word in [*PHONES[:3], EOS]]
        n1, n2, n3, n4 = (counts.count(j) for j in (1, 2, 3, 4))
        if n1 and n2 and n3:
            y = Fraction(n1, n1 + 2 * n2)
            found = [1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3]
            if all(0 < d <= j for d, j in zip(found, (1, 2, 3), strict=True)):
                return [0, *found]
        return [0, Fraction(1, 2), 1, Fraction(3, 2)]

    def kneser_ney(context):
        counts = {symbol: adjusted_count(context, symbol) for symbol in symbols}
        by_count = discounts(len(context) + 1)
        discount = {symbol: by_count[min(count, 3)] for symbol, count in counts.items()}
        return {symbol: counts[symbol] - discount[symbol] for symbol in symbols}, sum(discount.values())

    return {"witten_bell": witten_bell, "laplace": laplace, "kneser_ney": kneser_ney}[smoothing]


def contexts_of(rng, order):
    yield ()
    yield (BOS,)
    for _ in range(6):
        phones = rng.choices(PHONES, k=rng.randint(1, order + 1))
        yield (BOS, *phones) if rng.random() < 0.5 else tuple(phones)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@settings(max_examples=40, deadline=None)
@given(corpora, st.integers(1, 4), epsilons_of_orders, st.integers(0, 1000))
def test_probabilities_are_those_of_the_definition_and_sum_to_one(smoothing, sentences, order, epsilons, seed):
    lm = train_ngram(sentences, order, PHONES, smoothing, epsilons)
    expected = definition(sentences, order, smoothing, epsilons)
    for context in contexts_of(random.Random(seed), order):
        probs = {word: math.exp(lm.log_prob(word, context)) for word in [*PHONES, EOS, UNK]}
        assert sum(probs.values()) == pytest.approx(1.0, abs=1e-12)
        used = context[len(context) - min(len(context), order - 1) :]
        assert probs == pytest.approx({word: float(interpolated(used, word, expected)) for word in probs}, rel=1e-10)


def test_kneser_ney_takes_its_own_discounts_where_the_text_allows():
    """Random sentences long enough for discounts of their own at orders 2 and 3, not at 1 and 4."""
    rng = random.Random(3)
    sentences = [rng.choices(PHONES[:3], [8, 2, 1], k=rng.randint(0, 5)) for _ in range(20)]
    ids = {BOS: 1, EOS: 2} | {phone: i for i, phone in enumerate(PHONES, 3)}
    text = np.array([ids[symbol] for sentence in sentences for symbol in [BOS, *sentence, EOS]])
    levels = count_ngrams(text, 3 + len(PHONES), 4, bos=1)
    found = [kneser_ney_discounts(adjusted_counts(levels, n)) for n in range(4)]
    assert [discounts == FALLBACK_DISCOUNTS for discounts in found] == [True, False, False, True]
    lm, expected = train_ngram(sentences, 4, PHONES), definition(sentences, 4, "kneser_ney", ())
    for context in [(), (BOS,), *product([BOS, *PHONES[:3]], PHONES[:3]), *product(PHONES[:3], repeat=3)]:
        for word in [*PHONES, EOS, UNK]:
            assert math.exp(lm.log_prob(word, context)) == pytest.approx(float(interpolated(context, word, expected)))


def pruned(lm, rng, share):
    """The model without some of its n-grams above unigrams; those that others begin with are kept, as in any file."""
    levels, needed = [], set()
    for level in reversed(lm.ngrams[1:]):
        kept = {ngram: numbers for ngram, numbers in level.items() if ngram in needed or rng.random() > share}
        needed = {ngram[:-1] for ngram in kept}
        levels.append(kept)
    return NgramLM(lm.phones, (lm.ngrams[0], *reversed(levels)))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(SMOOTHINGS),
    corpora,
    st.integers(1, 5),
    st.lists(st.sampled_from(PHONES), max_size=10),
    st.sampled_from([0.0, 0.3, 0.7]),
    st.integers(0, 1000),
)
def test_walking_the_arrays_scores_as_the_model_does(smoothing, sentences, order, sentence, share, seed):
    lm = pruned(train_ngram(sentences, order, PHONES, smoothing), random.Random(seed), share)
    automaton, table = lm.automaton, lm.automaton.table
    lowest, highest = automaton.bounds
    context, log_prob = automaton.start, 0.0
    for i, phone in enumerate(sentence):
        expected = np.array([lm.log_prob(p, [BOS, *sentence[:i]]) for p in PHONES])
        assert automaton.row(context)[1:] == pytest.approx(expected, abs=1e-9)
        assert table.log_probs[context, 1:] == pytest.approx(expected, abs=1e-9)
        assert (expected >= lowest - 1e-9).all()
        assert (expected <= highest[1:] + 1e-9).all()
        token = PHONES.index(phone) + 1
        following, step = automaton.step(context, token)
        assert following == table.next_context[context, token]
        context, log_prob = following, log_prob + step
    assert log_prob + automaton.end[context] == pytest.approx(lm.score(sentence), abs=1e-9)


@settings(max_examples=20, deadline=None)
@given(corpora, st.integers(1, 4), st.sampled_from(SMOOTHINGS))
def test_arpa_gives_the_same_model_back(tmp_path_factory, sentences, order, smoothing):
    path = tmp_path_factory.mktemp("arpa") / "lm.arpa"
    lm = train_ngram(sentences, order, PHONES, smoothing)
    write_arpa(lm, path)
    again = read_arpa(path, PHONES)
    assert again == lm
    assert [list(level) for level in again.ngrams] == [list(level) for level in lm.ngrams]
