"""Beam search with its settings as keywords, for tests: those that are left out count for nothing."""

from collections.abc import Sequence

import numpy as np

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.decoding.search import BeamResult
from asrkit.lm.ngram import NgramLM


def beam_search(lm: NgramLM | None = None, **settings: float | None) -> BeamSearch:
    config = DecodingConfig(**{"lm_weight": 0.0, "insertion_bonus": 0.0, **settings})
    return BeamSearch(config, None if lm is None else lm.automaton)


def prefix_beam_search(log_probs: np.ndarray, num_best: int = 1, **settings: object) -> list[BeamResult]:
    return beam_search(**settings).decode(log_probs, num_best)


def prefix_beam_search_batch(
    log_probs: Sequence[np.ndarray], num_threads: int = 1, num_best: int = 1, **settings: object
) -> list[list[BeamResult]]:
    return beam_search(**settings).decode_all(log_probs, num_threads, num_best)
