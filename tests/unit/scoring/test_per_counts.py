import math

import pytest

from asrkit.errors import DataError
from asrkit.formats.transcripts import read_transcripts
from asrkit.scoring.align import align
from asrkit.scoring.per import Counts, PerResult, pool, score


def test_counts_and_line():
    refs = {"u1": ("a", "b", "c", "d"), "u2": ("a", "b"), "u3": ("ʃ",)}
    hyps = {"u1": ("a", "x", "c"), "u2": ("a", "b", "b"), "u3": ()}
    result = score(refs, hyps)
    assert (result.num_ref, result.num_ins, result.num_del, result.num_sub) == (7, 1, 2, 1)
    assert (result.num_hits, result.num_hyp, result.num_errors) == (4, 6, 4)
    assert result.line() == "%PER 57.14 [ 4 / 7, 1 ins, 2 del, 1 sub ]"
    assert result.per_utt == {"u1": Counts(4, 0, 1, 1), "u2": Counts(2, 1, 0, 0), "u3": Counts(1, 0, 1, 0)}
    assert result.pairs["u3"] == (("ʃ", None),)
    assert result.pair_counts["b", "x"] == 1
    assert Counts(1321, 20, 60, 43).line() == "%PER 9.31 [ 123 / 1321, 20 ins, 60 del, 43 sub ]"


def test_empty_references_count_insertions():
    result = score({"u1": (), "u2": ("a",), "u3": ()}, {"u1": ("a", "b"), "u2": ("a",), "u3": ()})
    assert result.per_utt["u1"] == Counts(0, 2, 0, 0)
    assert result.line() == "%PER 200.00 [ 2 / 1, 2 ins, 0 del, 0 sub ]"
    nothing = score({"u1": ()}, {"u1": ("a",)})
    assert nothing.num_ins == 1
    assert math.isnan(nothing.per)
    assert nothing.to_dict()["per"] is None
    assert score({}, {}) == PerResult()
    assert pool([]) == Counts()


def test_symbols_are_compared_as_they_are():
    refs = {"u": ("A", "a ", " ", "", "ɪ̈", "it's")}
    assert score(refs, {"u": ("A", "a ", " ", "", "ɪ̈", "it's")}).num_errors == 0
    assert score(refs, {"u": ("a", "a", "", " ", "ɪ", "its")}).num_errors == 6


def test_missing_and_extra_hypotheses_are_all_named():
    with pytest.raises(DataError) as error:
        score({"u1": ("a",), "u2": ("a",), "u3": ("a",)}, {"u2": ("a",), "u4": ()}, ref_name="text", hyp_name="hyp")
    assert str(error.value).split("\n") == [
        "hyp: utterance u1 of text is missing; decode it",
        "hyp: utterance u3 of text is missing; decode it",
        "text: utterance u4 of hyp is missing",
    ]


def test_align_prefers_pairs_then_deletions():
    assert align("abc", "abc") == [("a", "a"), ("b", "b"), ("c", "c")]
    assert align("ab", "b") == [("a", None), ("b", "b")]
    assert align("", "xy") == [(None, "x"), (None, "y")]
    assert align("ab", "xy") == [("a", "x"), ("b", "y")]


def test_transcripts_may_be_empty_and_hold_any_symbol(tmp_path):
    path = tmp_path / "hyp"
    path.write_text("u1 a\u00a0b\tʃ  \u2028\nu2\nu3 \n", encoding="utf-8")
    assert read_transcripts(path) == {"u1": ("a\u00a0b", "ʃ", "\u2028"), "u2": (), "u3": ()}


def test_every_bad_line_of_a_transcript_file_is_named(tmp_path):
    path = tmp_path / "hyp"
    path.write_bytes(b"u1 a\n\nu2 \xff\nu1 b\n")
    with pytest.raises(DataError) as error:
        read_transcripts(path)
    lines = str(error.value).split("\n")
    assert [line.split(": ")[0] for line in lines] == [f"{path}:2", f"{path}:3", f"{path}:4"]
