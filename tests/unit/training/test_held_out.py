"""Which utterances are held out, and what is chosen by them."""

import numpy as np

from asrkit.training.held_out import choose, choose_without, hold_out

SPEAKERS = {f"u{spk}-{number}": f"s{spk}" for spk in range(10) for number in range(spk + 1)}


def test_speakers_are_held_out_whole() -> None:
    held_out = hold_out(SPEAKERS, seed=1)
    speakers = {SPEAKERS[utt_id] for utt_id in held_out}
    assert len(speakers) == 2
    assert held_out == {utt_id for utt_id, spk in SPEAKERS.items() if spk in speakers}


def test_the_draw_depends_on_the_seed_and_the_names_alone() -> None:
    assert hold_out(dict(reversed(SPEAKERS.items())), seed=1) == hold_out(SPEAKERS, seed=1)
    assert len({frozenset(hold_out(SPEAKERS, seed)) for seed in range(20)}) > 5
    one = dict.fromkeys(SPEAKERS, "s")
    assert hold_out(one, seed=3) == hold_out({**dict(reversed(one.items()))}, seed=3)


def test_of_one_speaker_a_fifth_of_the_utterances_is_held_out() -> None:
    one = dict.fromkeys(SPEAKERS, "s")
    assert len(hold_out(one, seed=1)) == 11  # of 55
    assert len(hold_out({"a": "s", "b": "s"}, seed=1)) == 1
    assert len(hold_out({"a": "s", "b": "t"}, seed=1)) == 1
    assert hold_out({"a": "s"}, seed=1) == hold_out({}, seed=1) == set()


def test_the_candidate_with_the_fewest_errors_is_chosen() -> None:
    assert choose(np.array([[3, 2], [1, 3], [4, 0]])) == 1  # the first of two with 4
    assert choose(np.array([[3, 2], [1, 3], [3, 0]])) == 2


def test_a_unit_has_no_say_in_the_choice_for_itself() -> None:
    errors = np.array([[0, 0, 5, 5], [2, 2, 2, 2], [9, 9, 0, 0]])
    assert choose_without(errors, ["s", "s", "t", "t"]).tolist() == [2, 2, 0, 0]
    by_hand = [int(np.delete(errors, place, axis=1).sum(axis=1).argmin()) for place in range(4)]
    assert choose_without(errors, ["a", "b", "c", "d"]).tolist() == by_hand
    assert choose_without(errors, ["s"] * 4).tolist() == [0] * 4


def test_candidates_that_differ_by_chance_alone_gain_nothing() -> None:
    """The best of many on the same utterances looks better than it is; with each left out it does not."""
    rng = np.random.default_rng(1)
    means, favored = [], []
    for _ in range(200):
        errors = rng.binomial(30, 0.3, size=(12, 20))
        chosen = choose_without(errors, [str(place) for place in range(20)])
        means.append(errors[chosen, np.arange(20)].mean())
        favored.append(errors[choose(errors)].mean())
    assert abs(np.mean(means) - 9) < 0.15
    assert np.mean(favored) < 8.4
