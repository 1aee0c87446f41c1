"""Searches over a transducer find what trying all labellings finds, alone, in batches and as streams."""

import itertools
import pickle

import numpy as np
import pytest
import torch

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.methods import make_search
from asrkit.decoding.transducer_search import GreedyTransducerSearch, TransducerBeamSearch
from asrkit.errors import ModelError
from asrkit.lm.ngram import train_ngram
from asrkit.models.decoder_config import DECODER_CELLS, DecoderConfig
from asrkit.models.transducer import Transducer
from tests.language_models import random_network

STEP_SIZE, CLASSES = 4, 3
LM = train_ngram([["a", "b"], ["b"], ["a", "a", "b"]], 2, ["a", "b"]).automaton
NETWORK = random_network()


def make_transducer(has_ctc=False, **settings):
    torch.manual_seed(5)
    config = DecoderConfig(**{"hidden_size": 4, "embedding_size": 3, **settings})
    transducer = Transducer(config, STEP_SIZE, CLASSES, has_ctc).double().eval()
    with torch.no_grad():
        for weights in transducer.parameters():
            weights.copy_(torch.randn_like(weights))
    return transducer.for_search()


def make_stored(*lens, has_ctc=False, seed=0):
    """What is stored of utterances of so many steps."""
    rng = np.random.default_rng(seed)
    found = []
    for length in lens:
        logits = rng.normal(size=(length, CLASSES))
        ctc = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        steps = rng.normal(size=(length, STEP_SIZE))
        found.append(np.hstack([ctc, steps]) if has_ctc else steps)
    return found


def steps_for(labeling):
    return len(labeling) + sum(a == b for a, b in itertools.pairwise(labeling))


def all_labelings(num_steps):
    """Those that can be timed with so many steps: one for each phone, and one between equal ones."""
    found = (each for length in range(num_steps + 1) for each in itertools.product((1, 2), repeat=length))
    return [each for each in found if steps_for(each) <= num_steps]


def log_prob_of_paths(transducer, steps, labeling):
    """The sum over all paths of a labelling, one by one, that have no more phones at a step than can be timed then."""
    states, said = transducer.start(1)
    rows = [said]
    for token in labeling:
        states, said = transducer.say(np.array([token]), states)
        rows.append(said)
    log_probs = transducer.log_probs(transducer.hear(steps)[:, None], np.concatenate(rows))
    found = -np.inf
    for places in itertools.combinations_with_replacement(range(len(steps)), len(labeling)):  # the step of each phone
        if all(steps_for(labeling[: u + 1]) <= place + 1 for u, place in enumerate(places)):
            emitted = sum(
                log_probs[place, u, token] for u, (place, token) in enumerate(zip(places, labeling, strict=True))
            )
            blanks = sum(log_probs[t, sum(place <= t for place in places), 0] for t in range(len(steps)))
            found = np.logaddexp(found, emitted + blanks)
    return found


@pytest.mark.parametrize("cell", DECODER_CELLS)
@pytest.mark.parametrize("lm", [None, LM, NETWORK], ids=["no LM", "LM", "network"])
def test_a_wide_beam_finds_the_best_of_all_labelings(cell, lm):
    """Its total scores are those of the formula, also of the second and third best."""
    transducer = make_transducer(cell=cell)
    search = make_search(DecodingConfig(beam=200, lm_weight=0.5, insertion_bonus=0.7), lm, transducer)
    assert isinstance(search, TransducerBeamSearch)
    utterances = make_stored(4, 2, 5, 3, 1)
    for steps, found in zip(utterances, search.decode_all(utterances, num_best=3), strict=True):
        labelings = all_labelings(len(steps))
        scores = search.total_scores(steps, labelings)
        acoustic = [log_prob_of_paths(transducer, steps, labeling) for labeling in labelings]
        expected = [search.scorer.total(*pair) for pair in zip(acoustic, labelings, strict=True)]
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-10)
        best = np.argsort(-scores)[:3]
        assert [result.tokens for result in found] == [labelings[index] for index in best]
        np.testing.assert_allclose([result.score for result in found], scores[best], rtol=0, atol=1e-9)
        parts = [
            each.ctc_log_prob + search.scorer.lm_weight * each.lm_log_prob + 0.7 * len(each.tokens) for each in found
        ]
        np.testing.assert_allclose(parts, scores[best], rtol=0, atol=1e-9)
    impossible = search.total_scores(utterances[1], [(1, 1), (1, 2, 1)])
    assert (impossible == -np.inf).all() and search.total_scores(utterances[1], []).shape == (0,)


def test_greedy_search_takes_the_best_class_at_each_node():
    transducer = make_transducer()
    utterances = make_stored(5, 3, 9, 1, seed=1)
    for penalty in (0.0, 1.5):
        search = make_search(DecodingConfig(method="greedy", blank_penalty=penalty), LM, transducer)
        assert isinstance(search, GreedyTransducerSearch)
        for steps, (found,) in zip(utterances, search.decode_all(utterances), strict=True):
            (states, said), tokens, total = transducer.start(1), (), 0.0
            for t, heard in enumerate(transducer.hear(steps), 1):
                while True:
                    log_probs = transducer.log_probs(heard, said[0])
                    allowed = [token for token in (1, 2) if steps_for((*tokens, token)) <= t]
                    token = max(allowed, key=lambda token: log_probs[token], default=0)
                    token = token if token and log_probs[token] > log_probs[0] - penalty else 0
                    total += log_probs[token]
                    if token == 0:
                        break
                    tokens += (token,)
                    states, said = transducer.say(np.array([token]), states)
            assert found.tokens == tokens
            assert found.ctc_log_prob == found.score == pytest.approx(total, abs=1e-9)


def test_utterances_do_not_change_each_other():
    utterances = make_stored(6, 1, 9, 4, 9, has_ctc=True, seed=3) * 9
    search = make_search(DecodingConfig(beam=3, lm_weight=0.3), LM, make_transducer(has_ctc=True))
    together = search.decode_all(utterances, num_best=2)
    for stored, found in zip(utterances[:5], together[:5], strict=True):
        alone = search.decode(stored, num_best=2)
        assert [result.tokens for result in alone] == [result.tokens for result in found]
        np.testing.assert_allclose([each.score for each in alone], [each.score for each in found], rtol=0, atol=1e-9)
    assert [found[0].tokens for found in together] == [found[0].tokens for found in together[:5]] * 9
    sent = pickle.loads(pickle.dumps(search))  # as to a cluster's worker
    assert sent.decode_all(utterances[:5]) == search.decode_all(utterances[:5])


def test_a_language_model_too_large_for_a_table_gives_the_same(monkeypatch):
    search = make_search(DecodingConfig(beam=8, lm_weight=0.5), LM, make_transducer())
    expected = search.decode_all(make_stored(4, 6))
    monkeypatch.setattr("asrkit.lm.automaton.MAX_TABLE", 0)
    other = train_ngram([["a", "b"], ["b"], ["a", "a", "b"]], 2, ["a", "b"]).automaton
    assert other.table is None
    assert make_search(DecodingConfig(beam=8, lm_weight=0.5), other, make_transducer()).decode_all(
        make_stored(4, 6)
    ) == (expected)


@pytest.mark.parametrize(
    ("method", "lm"), [("greedy", LM), ("beam", LM), ("beam", NETWORK)], ids=["greedy", "beam", "network"]
)
def test_a_stream_finds_what_the_whole_gives_however_it_is_cut(method, lm):
    """Also when phones are committed on the way: these and the rest are the whole."""
    config = DecodingConfig(method=method, beam=4, lm_weight=0.4, insertion_bonus=1.0)
    search, rng = make_search(config, lm, make_transducer()), np.random.default_rng(0)
    num_committed = 0
    for steps in make_stored(40, 1, 25, 60, seed=4):
        stream, committed = search.stream(), []
        for piece in np.split(steps, np.sort(rng.integers(0, len(steps) + 1, 6))):
            if len(piece):
                stream.advance(piece)
            committed += stream.commit()
        (expected,) = search.decode(steps)
        (found,) = stream.finish()
        assert (*committed, *found.tokens) == expected.tokens
        assert found.score == pytest.approx(expected.score, abs=1e-9)
        num_committed += len(committed)
    assert num_committed > 20


def test_a_stream_settles():
    """Alternatives older than so many steps are gone, so that phones are committed and memory does not grow."""
    search = make_search(DecodingConfig(beam=50, lm_weight=0.4), LM, make_transducer())
    steps = make_stored(400, seed=6)[0]
    free, settled = search.stream(), search.stream(settle_after=10)
    numbers = []
    for stream in (free, settled):
        for piece in np.split(steps, 40):
            stream.advance(piece)
            stream.commit()
        paths = {result.tokens for result in stream.best(50)}
        numbers.append(max(map(len, paths)))
    assert numbers[1] <= 30 and numbers[1] < numbers[0]


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_steps_that_are_used_up_take_no_phones(method):
    """A transducer that emits wherever it may needs all steps but these."""
    torch.manual_seed(5)
    transducer = Transducer(DecoderConfig(hidden_size=4, embedding_size=3), STEP_SIZE, CLASSES).double()
    with torch.no_grad():
        transducer.output.bias[0] = -50.0
    search = make_search(DecodingConfig(method=method, beam=4), None, transducer.for_search())
    (steps,) = make_stored(40)
    for number in (0, 7):
        stream = search.stream()
        stream.advance(steps[:20])
        committed = stream.commit()
        stream.use_up(number)
        stream.advance(steps[20:])
        assert steps_for((*committed, *stream.finish()[0].tokens)) == 40 - number


def test_emissions_time_the_phones_of_a_labeling():
    """Log-probabilities of steps by which any labelling that can be timed is; CTC's where there is CTC."""
    search = make_search(DecodingConfig(), None, make_transducer())
    (steps,) = make_stored(7, seed=2)
    for labeling in [(), (1,), (2, 2, 1), (1, 2, 1, 2, 1, 2, 1), (1, 1, 1, 1)]:
        found = search.emissions(steps, labeling)
        np.testing.assert_allclose(np.exp(found).sum(axis=1), 1.0, atol=1e-5)
        aligned = forced_align(found, labeling)
        assert len(aligned.starts) == len(labeling)
    (stored,) = make_stored(6, has_ctc=True)
    search = make_search(DecodingConfig(), None, make_transducer(has_ctc=True))
    np.testing.assert_array_equal(search.emissions(stored, (1, 2)), stored[:, :CLASSES])


def test_what_cannot_be_searched_is_refused():
    search = make_search(DecodingConfig(), None, make_transducer())
    for stored in (np.zeros((0, STEP_SIZE)), np.zeros((3, STEP_SIZE - 1)), np.zeros(STEP_SIZE)):
        with pytest.raises(ModelError, match=r"stored outputs of shape .*; expected steps of 4 numbers"):
            search.decode(stored)
    with pytest.raises(ModelError, match="numbers that are not finite"):
        search.decode(np.full((3, STEP_SIZE), np.nan))
