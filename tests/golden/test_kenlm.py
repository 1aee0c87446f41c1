"""Scores and Kneser-Ney estimates against KenLM 0.3.0: recorded ones always, and live ones where `kenlm` is installed.

In tests/golden/kenlm: `text`, sentences over a made-up lexicon; `lmplz.arpa`, its model by KenLM's
`lmplz -o 3 --discount_fallback`; `pruned.arpa`, a 4-gram file without <unk> in which suffixes of listed n-grams are
missing; `NAME.scores`, `kenlm.Model(NAME.arpa).score(sentence, bos, eos)` as `log10 TAB bos TAB eos TAB sentence`.
"""

import random
from itertools import pairwise
from pathlib import Path

import pytest

from asrkit.lm.ngram import LN10, UNK, UNK_MISSING, NgramLM, read_arpa, train_ngram, write_arpa
from asrkit.lm.smoothing import SMOOTHINGS

FOLDER = Path(__file__).parent / "kenlm"
TEXT = [line.split() for line in (FOLDER / "text").read_text(encoding="utf-8").splitlines()]
PHONES = sorted({phone for sentence in TEXT for phone in sentence})


def pruned(lm: NgramLM, rng: random.Random) -> NgramLM:
    """The model without half of its n-grams; contexts of those that stay do too, their suffixes need not."""
    levels, needed = [], set()
    for level in reversed(lm.ngrams[1:]):
        kept = {ngram: numbers for ngram, numbers in level.items() if ngram in needed or rng.random() < 0.5}
        needed = {ngram[:-1] for ngram in kept}
        levels.append(kept)
    return NgramLM(lm.phones, (lm.ngrams[0], *reversed(levels)))


@pytest.mark.parametrize("name", ["lmplz", "pruned"])
def test_recorded_scores(name):
    lm = read_arpa(FOLDER / f"{name}.arpa", PHONES)
    lines = (FOLDER / f"{name}.scores").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 92
    for line in lines:
        log10_prob, bos, eos, sentence = line.split("\t")
        ours = lm.score(sentence.split(), bos=bos == "1", eos=eos == "1") / LN10
        assert ours == pytest.approx(float(log10_prob), abs=1e-4), line


def test_the_pruned_file_is_one():
    unigrams, *levels = read_arpa(FOLDER / "pruned.arpa", PHONES).ngrams
    assert unigrams[UNK,] == (UNK_MISSING, 0.0)
    for shorter, longer in pairwise(levels):
        assert any(ngram[1:] not in shorter for ngram in longer)


def test_kneser_ney_is_that_of_lmplz():
    """Every number of the file. Its unigrams took the fall-back discounts, its bigrams and trigrams their own."""
    theirs, ours = read_arpa(FOLDER / "lmplz.arpa", PHONES), train_ngram(TEXT, 3, PHONES, "kneser_ney")
    for level, expected in zip(ours.ngrams, theirs.ngrams, strict=True):
        assert level.keys() == expected.keys()
        for ngram, (log10_prob, backoff) in level.items():
            if ngram != ("<s>",):  # its probability, of no use, is 0 in lmplz's files
                assert log10_prob == pytest.approx(expected[ngram][0], abs=2e-6)
            assert backoff == pytest.approx(expected[ngram][1], abs=2e-6)
    assert ours.perplexity(TEXT) == pytest.approx(theirs.perplexity(TEXT), rel=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_kenlm_reads_our_files_and_agrees(tmp_path, smoothing, order):
    kenlm = pytest.importorskip("kenlm", reason="kenlm is not installed (tools/setup.sh --bench)")
    rng = random.Random(order)
    full = train_ngram(TEXT, order, PHONES, smoothing)
    without_unk = NgramLM(full.phones, ({n: v for n, v in full.ngrams[0].items() if n != (UNK,)}, *full.ngrams[1:]))
    for model in (full, without_unk, pruned(full, rng), pruned(without_unk, rng)):
        if order == 1:  # KenLM asks for two orders; the second may be empty
            model = NgramLM(model.phones, (*model.ngrams, {}))
        write_arpa(model, tmp_path / "lm.arpa")
        ours, theirs = read_arpa(tmp_path / "lm.arpa", PHONES), kenlm.Model(str(tmp_path / "lm.arpa"))
        for _ in range(40):
            sentence = rng.choice(TEXT) if rng.random() < 0.5 else rng.choices([*PHONES, "ø"], k=rng.randint(0, 8))
            for bos in (True, False):
                for eos in (True, False):
                    expected = theirs.score(" ".join(sentence), bos=bos, eos=eos)
                    assert ours.score(sentence, bos=bos, eos=eos) / LN10 == pytest.approx(expected, abs=1e-4)
