"""The searches by name: the only module that interprets `decoding.method`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from asrkit.decoding.config import DecodingConfig, SearchMethod
from asrkit.decoding.greedy import GreedySearch
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.decoding.search import Search
from asrkit.lm.automaton import LmAutomaton
from asrkit.models.choice import Choice

if TYPE_CHECKING:
    from asrkit.models.search_decoder import SearchDecoder

SEARCHES: dict[SearchMethod, type[GreedySearch] | type[BeamSearch]] = {"greedy": GreedySearch, "beam": BeamSearch}

# The same for models with an attention decoder; they need torch.
DECODER_SEARCHES: dict[SearchMethod, Choice] = {
    "greedy": Choice("asrkit.decoding.attention_search", "GreedyDecoderSearch"),
    "beam": Choice("asrkit.decoding.attention_search", "DecoderBeamSearch"),
}


@dataclass(frozen=True)
class SearchModels:
    """The models that a search uses besides log-probabilities."""

    lm: LmAutomaton | None = None
    decoder: SearchDecoder | None = None

    def search(self, config: DecodingConfig) -> Search:
        """The search that `config` describes. Raises ConfigError for settings that it cannot use."""
        return make_search(config, self.lm, self.decoder)


def make_search(config: DecodingConfig, lm: LmAutomaton | None, decoder: SearchDecoder | None = None) -> Search:
    """The search that `config` describes, over a model's `decoder` if it has one, else over log-probabilities.

    A language model of weight 0 is left out. Raises ConfigError for settings that the search cannot use.
    """
    lm = lm if config.lm_weight else None
    if decoder is None:
        return SEARCHES[config.method](config, lm)
    search: Search = DECODER_SEARCHES[config.method].load()(config, lm, decoder)
    return search
