"""The searches by name: the one place that knows what `decoding.method` means."""

from __future__ import annotations

from asrkit.decoding.config import DecodingConfig, SearchMethod
from asrkit.decoding.greedy import GreedySearch
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.decoding.search import Search
from asrkit.lm.automaton import LmAutomaton

SEARCHES: dict[SearchMethod, type[GreedySearch] | type[BeamSearch]] = {"greedy": GreedySearch, "beam": BeamSearch}


def make_search(config: DecodingConfig, lm: LmAutomaton | None) -> Search:
    """The search that `config` describes. A language model of weight 0 is left out.

    Raises ConfigError for settings that the search cannot use.
    """
    return SEARCHES[config.method](config, lm if config.lm_weight else None)
