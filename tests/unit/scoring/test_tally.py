"""Counts of a set that is scored piece by piece are those of the whole."""

from hypothesis import given
from hypothesis import strategies as st

from asrkit.scoring.per import Counts, pool
from asrkit.scoring.protocols import PROTOCOLS
from asrkit.scoring.significance import intervals
from asrkit.scoring.tally import LENGTH_BOUNDS, Tally, length_name

PHONES = st.lists(st.sampled_from(["sil", "aa", "b", "t"]), max_size=12)


@given(
    st.lists(st.tuples(PHONES, PHONES), min_size=1, max_size=30), st.sampled_from(sorted(PROTOCOLS)), st.integers(1, 7)
)
def test_pieces_give_what_the_whole_gives(transcripts, name, size):
    protocol = PROTOCOLS[name]
    utts = {f"u{number:02}": pair for number, pair in enumerate(transcripts)}
    refs, hyps = ({utt: pair[side] for utt, pair in utts.items()} for side in (0, 1))
    utt2spk = {utt: f"s{number % 3}" for number, utt in enumerate(utts)}
    whole = protocol.score_part(refs, hyps)
    tally = Tally(num_worst=4)
    for first in range(0, len(utts), size):
        part = list(utts)[first : first + size]
        tally.add(protocol.score_part({u: refs[u] for u in part}, {u: hyps[u] for u in part}), utt2spk)
    assert tally.total == Counts(*(getattr(whole, name) for name in Counts.__dataclass_fields__))
    assert tally.pair_counts == whole.pair_counts
    assert tally.intervals() == intervals(whole.per_utt, utt2spk)
    assert tally.num_utts == len(utts)
    assert tally.num_utts_correct == sum(not counts.num_errors for counts in whole.per_utt.values())
    for spk, group in tally.speakers.items():
        of_speaker = [counts for utt, counts in whole.per_utt.items() if utt2spk[utt] == spk]
        assert (group.num_utts, group.counts) == (len(of_speaker), pool(of_speaker))
    assert sum(group.num_utts for group in tally.lengths.values()) == len(utts)
    wrong = sorted(
        (utt for utt, counts in whole.per_utt.items() if counts.num_errors),
        key=lambda utt: (
            -whole.per_utt[utt].per if whole.per_utt[utt].num_ref else -float("inf"),
            -whole.per_utt[utt].num_errors,
            utt,
        ),
    )
    assert [each.utt for each in tally.worst] == wrong[:4]
    assert all(each.pairs == whole.pairs[each.utt] for each in tally.worst)


def test_groups_of_lengths_are_named():
    assert [length_name(number) for number in range(len(LENGTH_BOUNDS) + 1)] == [
        "0 to 4",
        "5 to 9",
        "10 to 19",
        "20 to 39",
        "40 to 79",
        "80 to 159",
        "160 or more",
    ]
