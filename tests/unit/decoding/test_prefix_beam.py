import gc
import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from asrkit._native import kernel
from asrkit.decoding import prefix_beam
from asrkit.decoding.greedy import greedy_search
from asrkit.decoding.prefix_beam import Beams
from asrkit.decoding.reference_beam import BeamSettings, ReferenceBeam
from asrkit.decoding.scorer import TokenScorer
from asrkit.decoding.search import BeamResult
from asrkit.errors import ConfigError, DataError, ModelError
from asrkit.lm import automaton
from asrkit.lm.ngram import train_ngram
from tests.searches import beam_search, prefix_beam_search, prefix_beam_search_batch

# Each frame's best class is the blank, yet the labelling (1,) has more probability in all: 0.64 against 0.36.
SPREAD = np.log(np.array([[0.6, 0.4], [0.6, 0.4]]))
SPARSE_NAMES = ("first_arc", "tokens", "log_probs", "next_context", "shorter", "backoff", "end")


@pytest.fixture(autouse=True, params=["native", "reference"])
def implementation(request, monkeypatch):
    """Every test runs with the compiled kernel and with the NumPy reference."""
    if request.param == "reference":
        monkeypatch.setattr(prefix_beam, "kernel", lambda name: None)
    elif kernel("_beam") is None:
        pytest.skip("there is no compiled kernel")
    return request.param


def test_sums_the_paths_of_a_labeling():
    assert greedy_search(SPREAD)[0] == []
    (best,) = prefix_beam_search(SPREAD)
    assert best.tokens == (1,)
    assert best.score == best.ctc_log_prob == pytest.approx(math.log(0.64))
    assert best.lm_log_prob == 0.0


def test_num_best_is_sorted_and_ends_with_what_the_beam_holds():
    found = prefix_beam_search(SPREAD, num_best=10)
    assert [result.tokens for result in found] == [(1,), ()]
    assert [result.score for result in found] == pytest.approx([math.log(0.64), math.log(0.36)])
    assert [result.tokens for result in prefix_beam_search(SPREAD, beam=1, num_best=10)] == [()]


def test_insertion_bonus_is_per_token():
    assert prefix_beam_search(SPREAD, insertion_bonus=-1.0)[0].tokens == ()
    found = {r.tokens: r for r in prefix_beam_search(SPREAD, insertion_bonus=-1.0, num_best=2)}
    assert found[1,].score == pytest.approx(math.log(0.64) - 1.0)
    assert found[1,].ctc_log_prob == pytest.approx(math.log(0.64))


def test_language_model_decides_between_tokens_that_sound_alike():
    lm = train_ngram([["a", "b"]] * 20 + [["c"]], 2, ["a", "b", "c"])
    log_probs = np.log(np.array([[0.02, 0.94, 0.02, 0.02], [0.94, 0.02, 0.02, 0.02], [0.02, 0.02, 0.46, 0.5]]))
    assert prefix_beam_search(log_probs)[0].tokens == (1, 3)
    (best,) = prefix_beam_search(log_probs, lm=lm, lm_weight=1.0)
    assert best.tokens == (1, 2)
    assert best.lm_log_prob == pytest.approx(lm.score(["a", "b"]))
    assert best.score == pytest.approx(best.ctc_log_prob + best.lm_log_prob)


def test_ties_are_ranked_by_growth_then_parent_then_token():
    uniform = np.full((1, 4), math.log(0.25))
    assert [r.tokens for r in prefix_beam_search(uniform, num_best=4)] == [(), (1,), (2,), (3,)]
    assert [r.tokens for r in prefix_beam_search(uniform, beam=2, num_best=4)] == [(), (1,)]
    shares = np.tile([2.0, 3.0, 1.0], 67)  # three levels of 67 equal classes each, the blank among the middle one
    found = prefix_beam_search(np.log(shares / shares.sum())[None], beam=150, num_best=150)
    in_order = sorted(range(201), key=lambda token: -shares[token])
    assert [r.tokens for r in found] == [(token,) if token else () for token in in_order[:150]]


def test_beam_threshold_drops_what_is_too_far_below_the_best():
    spread = np.log(np.array([[0.5, 0.3, 0.2]]))

    def survivors(threshold):
        return [r.tokens for r in prefix_beam_search(spread, beam_threshold=threshold, num_best=3)]

    assert survivors(None) == survivors(1000.0) == survivors(math.log(0.5 / 0.2) + 1e-9) == [(), (1,), (2,)]
    assert survivors(math.log(0.5 / 0.2) - 1e-9) == [(), (1,)]
    assert survivors(0.0) == [()]
    # Two frames: what was dropped after the first does not come back, though all its paths would have been best.
    late = np.log(np.array([[0.6, 0.4], [1e-9, 1 - 1e-9]]))
    assert prefix_beam_search(late, num_best=1)[0].ctc_log_prob == pytest.approx(0.0, abs=1e-8)
    assert prefix_beam_search(late, beam_threshold=0.1)[0].ctc_log_prob == pytest.approx(math.log(0.6), abs=1e-8)


def test_equal_scores_stay_in_rank_order_whatever_the_scale():
    # Powers of two: all sums are exact in linear arithmetic, and close to each other in logarithms.
    frames = np.tile(np.log([0.5, 0.25, 0.25]), (3, 1)) - 1000.0
    tokens = [r.tokens for r in prefix_beam_search(frames[:1], beam=2, num_best=2)]
    assert tokens == [(), (1,)]
    found = prefix_beam_search(frames, beam=50, num_best=50)
    assert found[0].score == pytest.approx(-3000.0 + math.log(17 / 64), rel=1e-12)
    assert {r.tokens for r in found[:2]} == {(1,), (2,)}


@pytest.mark.parametrize(("num_blanks", "best"), [(90, (1,)), (100, (1, 1))])
@pytest.mark.parametrize("beam", [1, 2, 50])
def test_paths_too_unlikely_for_a_double_come_back(num_blanks, best, beam):
    """The blank is nearly certain for long, then impossible: only the path that never took it is still (1,)."""
    with np.errstate(divide="ignore"):
        token = np.log([[0.0, 1.0]])
    gap = np.log([[1.0 - 1e-9, 1e-9]])
    frames = np.concatenate([token, np.repeat(gap, num_blanks, axis=0), token])
    found = prefix_beam_search(frames, beam=beam, insertion_bonus=-2000.0, num_best=2)
    expected = {(1,): num_blanks * math.log(1e-9) - 2000.0, (1, 1): -4000.0}
    assert found[0].tokens == best
    assert [r.score for r in found] == pytest.approx([expected[r.tokens] for r in found], abs=1e-6)
    assert len(found) == min(beam, 2)


def test_a_blank_too_unlikely_for_a_double_counts_when_nothing_else_is_left():
    with np.errstate(divide="ignore"):
        frames = np.array([[-np.inf, -np.inf, 0.0], [-800.0, -1.0, 0.0], [-800.0, 0.0, -1.0], np.log([0.0, 1.0, 0.0])])
    found = prefix_beam_search(frames, beam=2, num_best=2)
    assert [r.tokens for r in found] == [(2, 1), (2, 1, 1)]
    # 2111, 2211 and, one frame earlier, 2221; then 21-1, where the blank is all that parts the equal tokens.
    assert found[0].score == pytest.approx(np.logaddexp.reduce([-1.0, 0.0, -1.0]))
    assert found[1].score == pytest.approx(-801.0)


def test_masked_classes_are_told_apart_while_there_is_room():
    frames = np.array([[math.log(0.7), math.log(0.3), -1e9, -1e4]])
    found = prefix_beam_search(frames, beam=4, num_best=4)
    assert [r.tokens for r in found] == [(), (1,), (3,), (2,)]
    assert [r.score for r in found] == pytest.approx([math.log(0.7), math.log(0.3), -1e4, -1e9])


def test_impossible_tokens_and_long_silence_do_no_harm():
    with np.errstate(divide="ignore"):
        certain = np.log(np.eye(3)[[0, 1, 1, 0, 1, 2]])
    assert [(r.tokens, r.score) for r in prefix_beam_search(certain, num_best=5)] == [((1, 1, 2), 0.0)]
    silence = np.tile(np.log(np.array([[1 - 2e-6, 1e-6, 1e-6]])), (2000, 1))
    (best,) = prefix_beam_search(silence, beam=4)
    assert best.tokens == ()
    assert best.score == pytest.approx(2000 * math.log(1 - 2e-6))


def test_float32_input_and_no_frames():
    assert prefix_beam_search(SPREAD.astype(np.float32))[0].score == pytest.approx(math.log(0.64), rel=1e-6)
    lm = train_ngram([["a"]], 2, ["a"])
    (empty,) = prefix_beam_search(np.zeros((0, 2)), lm=lm, lm_weight=2.0)
    assert empty.tokens == ()
    assert empty.score == pytest.approx(2.0 * lm.score([]))


def random_utterances(number):
    rng = np.random.default_rng(5)
    logits = [rng.normal(size=(int(rng.integers(0, 60)), 6)) * 3.0 for _ in range(number)]
    return [(utt - np.logaddexp.reduce(utt, axis=1, keepdims=True)).astype(np.float32) for utt in logits]


def test_batches_equal_single_utterances_on_any_number_of_threads():
    lm = train_ngram([["a", "b", "c"], ["d", "a", "e"]], 3, ["a", "b", "c", "d", "e"])
    utts = random_utterances(7)
    options = {"beam": 9, "lm": lm, "lm_weight": 0.4, "insertion_bonus": 1.0, "num_best": 4}
    expected = [prefix_beam_search(utt, **options) for utt in utts]
    for num_threads in (1, 2, 20):
        assert prefix_beam_search_batch(utts, num_threads=num_threads, **options) == expected
    assert prefix_beam_search_batch([], num_threads=2) == []


def test_a_bad_utterance_of_a_batch_is_named():
    utts = random_utterances(4)
    utts[2] = np.full((3, 6), np.nan, dtype=np.float32)
    utts[3] = np.zeros(6)
    for num_threads in (1, 3):
        with pytest.raises(ModelError, match="utterance 2: beam search: frame 0 of log_probs holds NaN"):
            prefix_beam_search_batch(utts, num_threads=num_threads)
    with pytest.raises(ConfigError, match="num_threads 0"):
        prefix_beam_search_batch(utts, num_threads=0)


@pytest.mark.parametrize("order", [1, 3, 6])
def test_a_model_too_large_for_a_table_gives_the_same(order, monkeypatch):
    rng = np.random.default_rng(order)
    phones = ["a", "b", "c", "d", "e"]
    text = [rng.choice(phones, size=12).tolist() for _ in range(30)]
    options = {"beam": 12, "lm_weight": 0.7, "insertion_bonus": 0.5, "num_best": 12}
    utts = random_utterances(5)
    dense = prefix_beam_search_batch(utts, lm=train_ngram(text, order, phones), **options)
    monkeypatch.setattr(automaton, "MAX_TABLE", 5)
    sparse_lm = train_ngram(text, order, phones)
    assert sparse_lm.automaton.table is None
    for few, many in zip(prefix_beam_search_batch(utts, lm=sparse_lm, **options), dense, strict=True):
        assert [r.tokens for r in few] == [r.tokens for r in many]
        assert [r.score for r in few] == pytest.approx([r.score for r in many], rel=1e-12)
        assert [r.lm_log_prob for r in few] == pytest.approx([r.lm_log_prob for r in many], rel=1e-12)


def test_many_contexts_fit_into_the_memory_for_a_few(monkeypatch):
    """More contexts are met than the kernel keeps rows for."""
    monkeypatch.setattr(automaton, "MAX_TABLE", 0)
    rng = np.random.default_rng(0)
    phones = [f"p{i}" for i in range(20)]
    lm = train_ngram([rng.choice(phones, size=12000).tolist() for _ in range(2)], 4, phones)
    assert len(lm.automaton.end) > 7000
    log_probs = np.log(rng.dirichlet(np.full(21, 1.0), size=120))
    (found,) = prefix_beam_search(log_probs, beam=400, lm=lm, lm_weight=0.5)
    reference = ReferenceBeam(21, BeamSettings(400, math.inf, TokenScorer(lm.automaton, 0.5)))
    assert reference.advance(log_probs) == -1
    ((tokens, score, _, _),) = reference.best(1, True)
    assert found.tokens == tokens
    assert found.score == pytest.approx(score, rel=1e-12)
    assert found.lm_log_prob == pytest.approx(lm.score([phones[t - 1] for t in found.tokens]), rel=1e-12)


def test_accepts_any_layout_of_numbers():
    (expected,) = prefix_beam_search(SPREAD)
    swapped = SPREAD.astype(SPREAD.dtype.newbyteorder())
    unaligned = np.frombuffer(b"." + SPREAD.tobytes(), dtype=np.float64, offset=1).reshape(SPREAD.shape)
    assert not unaligned.flags.aligned
    for same in (unaligned, np.asfortranarray(SPREAD), np.repeat(SPREAD, 2, axis=0)[::2], swapped, SPREAD.tolist()):
        assert prefix_beam_search(same) == [expected]
    assert prefix_beam_search(np.zeros((2, 3), dtype=np.int32))[0].score == pytest.approx(math.log(3))
    read_only = SPREAD.copy()
    read_only.flags.writeable = False
    assert prefix_beam_search(read_only) == [expected]


def test_results_are_plain_numbers():
    lm = train_ngram([["a"]], 2, ["a"])
    (result,) = prefix_beam_search(SPREAD.astype(np.float32), lm=lm, lm_weight=0.1)
    assert isinstance(result, BeamResult)
    assert [type(value) for value in (*result.tokens, result.score, result.ctc_log_prob, result.lm_log_prob)] == [
        int,
        float,
        float,
        float,
    ]


def test_refuses_what_it_cannot_decode():
    lm = train_ngram([["a"]], 2, ["a", "b"])
    with pytest.raises(ModelError, match=r"2 classes, but the language model is for 2 tokens and the blank"):
        prefix_beam_search(SPREAD, lm=lm, lm_weight=1.0)
    broken = SPREAD.copy()
    broken[1, 0] = np.nan
    with pytest.raises(ModelError, match="frame 1 of log_probs holds NaN"):
        prefix_beam_search(broken)
    with pytest.raises(ModelError, match="frame 0 of log_probs holds NaN or no possible class"):
        prefix_beam_search(np.full((1, 2), -np.inf))
    with pytest.raises(ModelError, match=r"shape \(2,\)"):
        prefix_beam_search(SPREAD[0])
    with pytest.raises(ConfigError, match="beam must be at least 1, found 0"):
        prefix_beam_search(SPREAD, beam=0)
    with pytest.raises(ConfigError, match="beam must be at most 100000, found 1000000"):
        prefix_beam_search(SPREAD, beam=10**6)
    with pytest.raises(ModelError, match="frame 1 of log_probs"):
        prefix_beam_search(np.array([[0.0, -1.0], [1e200, 0.0]]))
    with pytest.raises(ModelError, match="type complex128"):
        prefix_beam_search(SPREAD.astype(np.complex128))
    with pytest.raises(ConfigError, match="beam_threshold must not be negative, found -1"):
        prefix_beam_search(SPREAD, beam_threshold=-1)
    with pytest.raises(ConfigError, match="beam_threshold must not be negative, found nan"):
        prefix_beam_search(SPREAD, beam_threshold=math.nan)
    with pytest.raises(ConfigError, match="lm_weight must be at most 1000000"):
        prefix_beam_search(SPREAD, lm_weight=math.inf)
    with pytest.raises(ConfigError, match="insertion_bonus must be from"):
        prefix_beam_search(SPREAD, insertion_bonus=math.nan)


def test_the_kernel_refuses_arguments_that_do_not_fit(implementation):
    if implementation == "reference":
        pytest.skip("about the compiled kernel alone")
    native = kernel("_beam")
    table = train_ngram([["a"]], 2, ["a"]).automaton.table
    lm = native.LanguageModel(2, 0, 0.0, np.zeros(2), *dense_arrays(table))
    search = native.Search(2, 5, math.inf, 0.0, 0.0, lm)
    assert search.advance(SPREAD) == -1
    assert len(search.best(1, True)) == 1
    right = (2, 5, math.inf, 0.0, 0.0, None)
    for place, values in enumerate(
        ([0, 2**31, 3], [0, -1, 2**31], [-1.0, math.nan, -math.inf], [math.nan, math.inf], [math.nan, -math.inf])
    ):
        for value in values:
            with pytest.raises((ValueError, OverflowError)):
                native.Search(*right[:place], value, *right[place + 1 : 5], lm)
    for other in (table, search, "LanguageModel", native.LanguageModel):
        with pytest.raises(TypeError, match="the last argument is a LanguageModel or None"):
            native.Search(*right[:5], other)
    for wrong in (right[:5], (*right, None)):
        with pytest.raises(TypeError):
            native.Search(*wrong)
    with pytest.raises(TypeError, match="no keyword"):
        native.Search(*right[:5], lm=lm)
    for frames in (SPREAD.astype(int), SPREAD[0], SPREAD[:, ::2], np.zeros((1, 3)), None):
        with pytest.raises((TypeError, ValueError, BufferError)):
            search.advance(frames)
    with pytest.raises(ValueError, match="num_best 0"):
        search.best(0, True)
    assert len(search.best(1, True)) == 1


def dense_arrays(table):
    return table.factors(0.5, 1.0), table.log_probs, table.next_context, table.end


def sparse_arrays(lm):
    return [getattr(lm, name) for name in SPARSE_NAMES]


def put(array, place, value):
    """A copy of an array with another number in one place."""
    array = array.copy()
    array.flat[place] = value
    return array


def bad_copies(array, below):
    """An array with what no language model has: other lengths, shapes, types, and numbers out of range.

    `below`: what an index must be below; None for numbers that are no indices.
    """
    yield array[:-1]
    yield np.concatenate([array, array[-1:]])
    yield array[None]
    yield array.astype(np.float32)
    yield array.astype(np.int16)
    limits = np.iinfo(array.dtype) if below is not None else None
    strange = [math.nan, math.inf, -math.inf] if limits is None else [-1, below, limits.min, limits.max]
    for place in {0, 1, array.size // 2, array.size - 2, array.size - 1}:
        for value in strange:
            yield put(array, place, value)


@pytest.mark.parametrize("kind", ["dense", "sparse"])
def test_the_kernel_refuses_arrays_of_which_none_may_be_followed(implementation, kind):
    if implementation == "reference":
        pytest.skip("about the compiled kernel alone")
    native = kernel("_beam")
    lm = train_ngram([["a", "b", "a"], ["c", "a", "b", "b"]], 3, ["a", "b", "c"]).automaton
    num_contexts, num_arcs = len(lm.end), len(lm.tokens)
    arrays = dense_arrays(lm.table) if kind == "dense" else sparse_arrays(lm)
    sparse_limits = [num_arcs + 1, 4, None, num_contexts, num_contexts, None, None]
    limits = [None, None, num_contexts, None] if kind == "dense" else sparse_limits
    begin = 4, lm.start, lm.bounds[0], lm.bounds[1]
    native.LanguageModel(*begin, *arrays)
    for place, array in enumerate(arrays):
        for bad in bad_copies(array, limits[place]):
            is_factors = kind == "dense" and place == 0 and (bad.shape, bad.dtype) == (array.shape, array.dtype)
            if is_factors and (bad >= 0).all():
                continue  # they may overflow
            with pytest.raises((TypeError, ValueError)):
                native.LanguageModel(*begin, *arrays[:place], bad, *arrays[place + 1 :])
    for wrong in ((4, -1), (4, num_contexts), (3, 0), (5, 0), (0, 0), (2**31, 0)):
        with pytest.raises(ValueError, match="language model: "):
            native.LanguageModel(*wrong, *begin[2:], *arrays)
    for number in (0, 3, 5, 8):
        with pytest.raises(TypeError, match=f"{number} arrays; expected 4 or 7"):
            native.LanguageModel(*begin, *[arrays[0]] * number)


def test_the_kernel_refuses_ways_without_an_end(implementation):
    if implementation == "reference":
        pytest.skip("about the compiled kernel alone")
    lm = train_ngram([["a", "b", "a"], ["c", "a", "b", "b"]], 3, ["a", "b", "c"]).automaton
    deep = int(np.flatnonzero(lm.shorter > 0)[0])
    falling = next(c for c in range(1, len(lm.end)) if lm.first_arc[c + 1] - lm.first_arc[c] > 1)
    pair = lm.first_arc[falling] + np.arange(2)
    for change, match in (
        ({"shorter": put(lm.shorter, deep, deep)}, "shorter names a context that is not before its own"),
        ({"shorter": put(lm.shorter, lm.shorter[deep], deep)}, "shorter names a context that is not before its own"),
        ({"shorter": put(lm.shorter, 0, 1)}, "shorter names a context that is not before its own"),
        ({"first_arc": put(lm.first_arc, 1, 2)}, "miss some in the empty one"),
        ({"first_arc": put(lm.first_arc, 2, 2**62)}, "first_arc does not rise"),
        ({"tokens": put(lm.tokens, pair, lm.tokens[pair[::-1]])}, "do not rise in each context"),
        ({"tokens": put(lm.tokens, pair, lm.tokens[pair[:1]])}, "do not rise in each context"),
    ):
        arrays = [change.get(name, getattr(lm, name)) for name in SPARSE_NAMES]
        with pytest.raises(ValueError, match=match):
            kernel("_beam").LanguageModel(4, lm.start, *lm.bounds, *arrays)
        with pytest.raises(DataError, match="language model: "):
            replace(lm, **change)


def test_the_kernel_keeps_the_arrays_that_it_reads_and_one_thread_at_a_time(implementation):
    if implementation == "reference":
        pytest.skip("about the compiled kernel alone")
    lm = train_ngram([["a", "b"]], 3, ["a", "b"]).automaton
    search = Beams(BeamSettings(9, math.inf, TokenScorer(lm, 0.4))).start_native(kernel("_beam"), 3)
    del lm
    gc.collect()
    frames = np.log(np.random.default_rng(0).dirichlet(np.ones(3), size=20000))
    worker = threading.Thread(target=search.advance, args=(frames,))
    worker.start()
    refused = False
    while worker.is_alive():
        try:
            search.best(1, True)
        except RuntimeError as error:
            refused = str(error) == "Search: two threads at once"
            break
    worker.join()
    assert refused
    assert len(search.best(1, True)) == 1


def test_a_stream_says_what_is_certain():
    frames = np.log(np.array([[0.05, 0.9, 0.05], [0.9, 0.05, 0.05], [0.05, 0.05, 0.9], [0.9, 0.05, 0.05]]))
    search = beam_search(beam=2).stream()
    assert (search.commit(), search.best()[0].tokens) == ((), ())
    found = []
    for frame in np.repeat(frames, 5, axis=0):
        search.advance(frame[None])
        found.append((search.commit(), search.best()[0].tokens))
    assert sum((certain for certain, _ in found), ()) == (1, 2)[: sum(len(certain) for certain, _ in found)]
    assert any(certain == (1,) for certain, _ in found)
    assert found[0] == ((), (1,))
    whole = sum((certain for certain, _ in found), ()) + search.finish()[0].tokens
    assert whole == prefix_beam_search(np.repeat(frames, 5, axis=0), beam=2)[0].tokens == (1, 2)


def test_memory_does_not_grow_with_the_stream(implementation):
    """What is held after each thousand frames, with and without committing; an hour of 30 ms steps is 120,000."""
    lm = train_ngram([["a", "b", "c"], ["d", "a", "e"]], 3, ["a", "b", "c", "d", "e"])
    rng = np.random.default_rng(2)
    options = {"beam": 8, "lm": lm, "lm_weight": 0.4, "insertion_bonus": 1.0}
    committing, keeping = beam_search(**options).stream(settle_after=50), beam_search(**options).stream()
    num_committed, num_pieces = 0, 120 if implementation == "native" else 4
    for _ in range(num_pieces):
        frames = np.log(rng.dirichlet(np.full(6, 0.05), size=1000) + 1e-12)
        committing.advance(frames)
        keeping.advance(frames)
        num_committed += len(committing.commit())
        assert committing._beam.num_nodes <= 4096
        kept = keeping.best()[0]
        assert len(kept.tokens) <= keeping._beam.num_nodes <= 4 * len(kept.tokens) + 4096
        assert len(committing.best()[0].tokens) < 200
    assert num_committed + len(committing.best()[0].tokens) == pytest.approx(len(kept.tokens), rel=0.01)


def test_what_a_stream_refuses():
    lm = train_ngram([["a"]], 2, ["a", "b"])
    search = beam_search().stream()
    with pytest.raises(ModelError, match=r"shape \(2,\)"):
        search.advance(SPREAD[0])
    search.advance(SPREAD)
    with pytest.raises(ModelError, match="3 classes; expected 2 as before"):
        search.advance(np.zeros((1, 3)))
    with pytest.raises(ModelError, match="frame 3 of log_probs holds NaN"):
        search.advance(np.array([[0.0, 0.0], [0.0, np.nan]]))
    with pytest.raises(ConfigError, match="num_best 0"):
        search.best(0)
    with pytest.raises(ModelError, match="2 classes, but the language model is for 2 tokens and the blank"):
        beam_search(lm=lm, lm_weight=1.0).stream().advance(SPREAD)
    with pytest.raises(ConfigError, match="beam must be at least 1, found 0"):
        beam_search(beam=0).stream()
    with pytest.raises(ConfigError, match="settle_after 0"):
        beam_search().stream(settle_after=0)
    (empty,) = beam_search(lm=lm, lm_weight=2.0).stream().finish()
    assert (empty.tokens, empty.score) == ((), pytest.approx(2.0 * lm.score([])))
