import math

import numpy as np
import pytest

from asrkit.decoding.forced_align import forced_align
from asrkit.errors import AsrkitError, DataError


def log_probs_of(path, num_classes=4, share=0.7):
    probs = np.full((len(path), num_classes), (1 - share) / (num_classes - 1))
    probs[np.arange(len(path)), path] = share
    return np.log(probs)


def test_finds_each_token_where_it_is():
    found = forced_align(log_probs_of([0, 1, 1, 0, 1, 3, 3, 3, 0]), [1, 1, 3])
    assert found.starts.tolist() == [1, 4, 5]
    assert found.ends.tolist() == [3, 5, 8]
    assert found.log_probs == pytest.approx(np.full(3, math.log(0.7)))
    assert found.score == pytest.approx(9 * math.log(0.7))


def test_forces_tokens_that_the_frames_do_not_show():
    found = forced_align(log_probs_of([0, 1, 0]), [1, 2])
    assert found.starts.tolist() == [1, 2]
    assert found.ends.tolist() == [2, 3]
    assert found.log_probs.tolist() == pytest.approx([math.log(0.7), math.log(0.1)])


def test_ties_are_decided_from_the_last_frame_backwards():
    uniform = np.full((5, 3), math.log(1 / 3))
    found = forced_align(uniform, [1, 2])
    assert found.starts.tolist() == [0, 1]
    assert found.ends.tolist() == [1, 5]


def test_no_tokens_is_all_blank():
    found = forced_align(log_probs_of([0, 0, 1]), [])
    assert found.starts.shape == found.ends.shape == found.log_probs.shape == (0,)
    assert found.score == pytest.approx(2 * math.log(0.7) + math.log(0.1))


def test_equal_neighbours_need_a_blank_between():
    assert forced_align(log_probs_of([2, 2, 2]), [2, 2]).starts.tolist() == [0, 2]
    with pytest.raises(DataError, match="2 tokens need at least 3 frames; there are 2"):
        forced_align(log_probs_of([2, 2]), [2, 2])


def test_refuses_unknown_tokens_and_impossible_paths():
    for tokens in ([0], [4]):
        with pytest.raises(DataError, match="expected 1 to 3"):
            forced_align(log_probs_of([0, 1]), tokens)
    with np.errstate(divide="ignore"), pytest.raises(DataError, match="no path"):
        forced_align(np.log(np.eye(2)[[0, 0]]), [1])


def test_silence_between_words_may_be_passed_over():
    # 3 is silence: there between the first two tokens, not between the others.
    log_probs = log_probs_of([1, 3, 3, 2, 1, 0])
    found = forced_align(log_probs, [3, 1, 3, 2, 3, 1, 3], optional={3})
    assert found.starts.tolist() == [0, 0, 1, 3, 4, 4, 5]
    assert found.ends.tolist() == [0, 1, 3, 4, 4, 5, 5]
    assert found.score == pytest.approx(6 * math.log(0.7))
    assert np.isnan(found.log_probs).tolist() == [True, False, False, False, True, False, True]
    assert found.log_probs[[1, 2, 3, 5]] == pytest.approx(np.full(4, math.log(0.7)))
    kept = found.without_passed_over()
    assert (kept.tokens.tolist(), kept.starts.tolist(), kept.ends.tolist()) == (
        [1, 3, 2, 1],
        [0, 1, 3, 4],
        [1, 3, 4, 5],
    )
    assert (kept.score, kept.log_probs.tolist()) == (found.score, found.log_probs[[1, 2, 3, 5]].tolist())


def test_equal_tokens_around_a_silence_that_is_passed_over_need_a_blank():
    found = forced_align(log_probs_of([2, 0, 2]), [2, 3, 2], optional={3})
    assert found.starts.tolist() == [0, 1, 2]
    assert found.ends.tolist() == [1, 1, 3]
    with pytest.raises(DataError, match="2 tokens need at least 3 frames; there are 2"):
        forced_align(log_probs_of([2, 2]), [2, 3, 2], optional={3})


def test_all_tokens_may_be_optional():
    found = forced_align(log_probs_of([0, 0]), [1, 2], optional=[1, 2])
    assert (found.starts.tolist(), found.ends.tolist()) == ([0, 0], [0, 0])
    assert forced_align(np.zeros((0, 3)), [1, 2], optional=[1, 2]).score == 0.0


def test_no_token_needs_no_class_but_the_blank():
    assert forced_align(np.full((3, 1), -0.5), []).score == -1.5


@pytest.mark.parametrize(
    ("log_probs", "tokens", "message"),
    [
        (log_probs_of([2, 2]), [2, 2], "2 tokens need at least 3 frames; there are 2"),
        (log_probs_of([0, 1]), [1, 4], "token ids 1 to 4; expected 1 to 3"),
        (log_probs_of([0, 1]), [2**80], "tokens are object of shape (1,); expected a sequence of ids"),
        (log_probs_of([0, 1]), [1.0], "tokens are float64 of shape (1,); expected a sequence of ids"),
        (log_probs_of([0, 1]), [[1]], "tokens are int64 of shape (1, 1); expected a sequence of ids"),
        (np.full((3, 2), -np.inf), [1], "no path has a probability above 0"),
        (np.full((3, 2), np.nan), [1], "log_probs hold NaN or infinity"),
        (np.full((3, 2), np.inf), [1], "log_probs hold NaN or infinity"),
        (np.zeros(3), [1], "log_probs are float64 of shape (3,); expected numbers, (frames, classes)"),
        (np.zeros((3, 0)), [], "log_probs are float64 of shape (3, 0); expected numbers, (frames, classes)"),
        (np.zeros((3, 2), "U1"), [1], "log_probs are <U1 of shape (3, 2); expected numbers, (frames, classes)"),
        (
            np.zeros((2**16, 2)),
            [1] * 2**15,
            "65536 frames times 32768 tokens; expected 1073741824 at most; align shorter pieces",
        ),
        (np.zeros((3, 3)), [-2, 2], "token ids -2 to 2; expected 1 to 2"),
    ],
)
def test_errors_name_the_utterance(log_probs, tokens, message):
    with pytest.raises(AsrkitError) as caught:
        forced_align(log_probs, tokens, utt_id="spk1_utt7")
    assert str(caught.value) == f"spk1_utt7: alignment: {message}"


def unaligned(array):
    """A copy one byte off, as archives that are mapped into memory give them."""
    return np.frombuffer(b"." + array.tobytes(), dtype=array.dtype, offset=1).reshape(array.shape)


@pytest.mark.parametrize("convert", [
    lambda a: a.astype(np.float32), lambda a: a.astype(np.float16), lambda a: a.astype(">f8"), unaligned,
    np.asfortranarray, lambda a: np.repeat(a, 2, axis=1)[:, ::2], lambda a: a[::-1].copy()[::-1],
])  # fmt: skip
def test_any_layout_and_float_type(convert):
    log_probs = log_probs_of([0, 1, 1, 0, 3])
    found = forced_align(convert(log_probs), [1, 3])
    assert (found.starts.tolist(), found.ends.tolist()) == ([1, 4], [3, 5])
    assert found.score == pytest.approx(5 * math.log(0.7), rel=1e-3)
    assert forced_align(log_probs, unaligned(np.array([1, 3]))).score == pytest.approx(5 * math.log(0.7))
