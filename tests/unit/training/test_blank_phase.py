"""The blank phase against every hypothesis that needs no audio, and against all pairs of utterances."""

import itertools
from collections import Counter

import numpy as np
import pytest

from asrkit.scoring.per import score
from asrkit.training.blank_phase import _others, is_blank_phase


def make_refs(num_utts, num_phones, shortest, longest, seed=1, silence=True):
    """Utterances of random phones, with silence at both ends if wanted."""
    rng, ends = np.random.default_rng(seed), ["sil"] * silence
    return {
        f"u{number}": [*ends, *map(str, rng.integers(0, num_phones, rng.integers(shortest, longest + 1))), *ends]
        for number in range(num_utts)
    }


DIGITS = [tuple("wan"), tuple("tu"), tuple("Tri"), tuple("for"), tuple("faiv")]
CORPORA = {
    "like TIMIT": make_refs(24, 30, 15, 40),
    "two phones": make_refs(12, 2, 1, 6, silence=False),
    "two phones with silence": make_refs(12, 2, 1, 6),
    "small": make_refs(3, 10, 5, 9),
    "one": make_refs(1, 10, 5, 9),
    "digits": {f"u{number}": DIGITS[number % 5] for number in range(30)},
    "mostly one word": {f"u{number}": DIGITS[max(0, number - 8)] for number in range(12)},
    "one word": {f"u{number}": DIGITS[0] for number in range(5)},
    "nothing": {"u0": (), "u1": ()},
}


@pytest.mark.parametrize("name", CORPORA)
def test_no_constant_hypothesis_leaves_it(name):
    """Brute force: every sequence of up to three symbols, every reference, silence at one end or both, long ones."""
    refs = CORPORA[name]
    symbols = sorted(set(itertools.chain(*refs.values())))[:4]
    constants = {seq for length in range(4) for seq in itertools.product(symbols, repeat=length)}
    constants |= {tuple(ref) for ref in refs.values()} | {("sil",), ("sil", "sil"), tuple(symbols) * 10}
    left = [seq for seq in constants if not is_blank_phase(refs, dict.fromkeys(refs, seq))]
    if len(set(map(tuple, refs.values()))) > 1 or name == "nothing":
        assert left == []
    else:  # where all utterances are one, what is right needs no audio
        assert tuple(next(iter(refs.values()))) in left
        assert all(score(refs, dict.fromkeys(refs, seq)).per < 90 for seq in left)


@pytest.mark.parametrize(
    "name", ["like TIMIT", "two phones", "two phones with silence", "small", "digits", "mostly one word"]
)
def test_right_hypotheses_leave_it(name):
    refs = CORPORA[name]
    assert not is_blank_phase(refs, refs)
    assert is_blank_phase(refs, dict.fromkeys(refs, ()))


def errors_with_all(refs, hyps):
    """Errors with the own reference, and the mean of those with all others of the lengths nearest to it."""
    own, other = 0, 0.0
    for utt_id, hyp in hyps.items():
        near = sorted(refs, key=lambda each: abs(len(refs[each]) - len(refs[utt_id])))
        near = [each for each in near if each != utt_id][:8]
        own += score({utt_id: refs[utt_id]}, {utt_id: hyp}).num_errors
        other += np.mean([score({each: refs[each]}, {each: hyp}).num_errors for each in near])
    return own, other


@pytest.mark.parametrize("num_phones", [2, 30])
def test_it_tells_what_all_pairs_of_utterances_tell(num_phones):
    """Outputs from deaf to good: phones are right with a chance of `share`, else others or none."""
    refs, rng = make_refs(40, num_phones, 10, 30, seed=2), np.random.default_rng(3)
    found, clear = {}, 0
    for share in np.linspace(0, 0.9, 10):
        hyps = {}
        for utt_id, ref in refs.items():
            drawn = [
                (phone, str(rng.integers(num_phones)), None)[rng.choice(3, p=[share, *[(1 - share) / 2] * 2])]
                for phone in ref
            ]
            hyps[utt_id] = [phone for phone in drawn if phone]
        own, other = errors_with_all(refs, hyps)
        ratio = own / min(other, sum(map(len, refs.values())))
        found[share] = is_blank_phase(refs, hyps)
        if abs(ratio - 0.9) > 0.04:
            assert found[share] == (ratio > 0.9), share
            clear += 1
    assert clear >= 7
    assert list(found.values()) == sorted(found.values(), reverse=True)  # left once, for good
    assert {found[0.0], found[0.9]} == {True, False}


def test_phones_at_random_do_not_leave_it():
    """Of the right number, with silence where it belongs: length alone is no recognition."""
    refs, rng = CORPORA["like TIMIT"], np.random.default_rng(4)
    for num_phones in (2, 30):
        hyps = {
            utt_id: ["sil", *map(str, rng.integers(0, num_phones, len(ref) - 2)), "sil"] for utt_id, ref in refs.items()
        }
        assert is_blank_phase(refs, hyps)
    cut = {utt_id: ref[:2] for utt_id, ref in refs.items()}  # right as far as it goes, but next to nothing
    assert is_blank_phase(refs, cut)
    assert is_blank_phase(refs, {utt_id: [*ref, *ref, *ref] for utt_id, ref in refs.items()})  # worse than nothing


@pytest.mark.parametrize("name", CORPORA)
def test_others_are_a_permutation_of_near_lengths(name):
    refs = CORPORA[name]
    others = _others(refs)
    assert all(tuple(refs[utt_id]) != tuple(refs[other]) for utt_id, other in others.items())
    assert len(set(others.values())) == len(others)
    assert Counter(tuple(refs[each]) for each in others) == Counter(tuple(refs[each]) for each in others.values())
    if len(set(map(tuple, refs.values()))) > 1:
        assert others
    if name == "like TIMIT":
        assert len(others) == len(refs)
        lens = sorted(map(len, refs.values()))
        gap = max(longer - shorter for shorter, longer in zip(lens, lens[2:], strict=False))
        assert max(abs(len(refs[utt_id]) - len(refs[other])) for utt_id, other in others.items()) <= gap
