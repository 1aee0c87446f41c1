"""Batches of utterances are searched at once, in as many threads as are asked for."""

import threading

import numpy as np
import pytest

from asrkit.decoding.attention_search import DecoderSearch
from asrkit.decoding.batched_search import BatchedSearch
from asrkit.decoding.search import BeamResult
from asrkit.decoding.transducer_search import TransducerSearch
from asrkit.errors import ConfigError


class TwoAtOnce(BatchedSearch):
    """It finds the number of steps, and goes on only when two threads search."""

    def __init__(self):
        self._both = threading.Barrier(2)

    def search_some(self, utterances, num_best):
        lens = [len(stored) for stored in utterances]
        assert lens == sorted(lens)
        self._both.wait(timeout=30)
        return [[BeamResult((length,) * num_best, 0.0, 0.0, 0.0)] for length in lens]


def test_batches_are_searched_in_threads_and_results_keep_their_order(monkeypatch):
    monkeypatch.setattr("asrkit.decoding.batched_search.BATCH_SIZE", 3)
    lens = np.random.default_rng(0).permutation(12).tolist()
    found = TwoAtOnce().decode_all([np.zeros((length, 2)) for length in lens], num_threads=2, num_best=2)
    assert [result.tokens for (result,) in found] == [(length, length) for length in lens]
    with pytest.raises(ConfigError, match="num_threads must be at least 1, found 0"):
        TwoAtOnce().decode_all([np.zeros((3, 2))], num_threads=0)
    for search in (TransducerSearch, DecoderSearch):
        assert search.decode_all is BatchedSearch.decode_all
