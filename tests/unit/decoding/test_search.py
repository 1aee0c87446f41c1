"""What every search of the registry gives: so many results as it keeps, and one where no number is named."""

import pickle

import numpy as np
import pytest

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import SEARCHES, make_search
from asrkit.errors import ModelError
from asrkit.lm.ngram import train_ngram

LOG_PROBS = np.log(np.random.default_rng(0).dirichlet(np.ones(4), 8))


@pytest.mark.parametrize(("method", "number"), [("beam", 5), ("greedy", 1)])
def test_as_many_results_as_are_kept(method, number):
    assert len(SEARCHES) == 2
    search = make_search(DecodingConfig(method=method, beam=5), None)
    assert search.max_results == number
    assert len(search.decode(LOG_PROBS, 100)) == number
    assert len(search.decode_all([LOG_PROBS], num_best=100)[0]) == number
    stream = search.stream()
    stream.advance(LOG_PROBS)
    assert len(stream.best(100)) == len(stream.finish(100)) == number
    for results in (search.decode(LOG_PROBS), *search.decode_all([LOG_PROBS]), stream.best(), stream.finish()):
        assert len(results) == 1


@pytest.mark.parametrize("method", SEARCHES)
def test_a_search_that_was_used_can_be_sent_to_another_process(method):
    search = make_search(DecodingConfig(method=method), train_ngram([["a", "b"]], 2, ["a", "b", "c"]).automaton)
    results = search.decode(LOG_PROBS)
    assert pickle.loads(pickle.dumps(search)).decode(LOG_PROBS) == results


@pytest.mark.parametrize(("num_threads", "most"), [(1, 3), (2, 10)])
def test_after_a_fault_no_more_utterances_are_begun(monkeypatch, num_threads, most):
    search = make_search(DecodingConfig(), None)
    decode, begun = search.decode, []

    def noted(log_probs, num_best):
        begun.append(num_best)
        return decode(log_probs, num_best)

    monkeypatch.setattr(search, "decode", noted)
    with pytest.raises(ModelError, match="utterance 2: beam search: frame 0"):
        search.decode_all([LOG_PROBS, LOG_PROBS, LOG_PROBS * np.nan, *[LOG_PROBS] * 100], num_threads)
    assert 3 <= len(begun) <= most
