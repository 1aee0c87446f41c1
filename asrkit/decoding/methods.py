"""The searches by name: the only module that interprets `decoding.method`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from asrkit.decoding.config import DecodingConfig, SearchMethod
from asrkit.decoding.greedy import GreedySearch
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.decoding.search import Search
from asrkit.lm.automaton import LmAutomaton
from asrkit.models.choice import Choice
from asrkit.models.decoder_config import DecoderKind

SEARCHES: dict[SearchMethod, type[GreedySearch] | type[BeamSearch]] = {"greedy": GreedySearch, "beam": BeamSearch}

# The same for models with a decoder, by its kind; those of attention decoders need torch.
DECODER_SEARCHES: dict[DecoderKind, dict[SearchMethod, Choice]] = {
    "attention": {
        "greedy": Choice("asrkit.decoding.attention_search", "GreedyDecoderSearch"),
        "beam": Choice("asrkit.decoding.attention_search", "DecoderBeamSearch"),
    },
    "transducer": {
        "greedy": Choice("asrkit.decoding.transducer_search", "GreedyTransducerSearch"),
        "beam": Choice("asrkit.decoding.transducer_search", "TransducerBeamSearch"),
    },
}


class SearchableDecoder(Protocol):
    """A decoder as the searches of its kind take it."""

    kind: ClassVar[DecoderKind]


@dataclass(frozen=True)
class SearchModels:
    """The models that a search uses besides log-probabilities."""

    lm: LmAutomaton | None = None
    decoder: SearchableDecoder | None = None

    def search(self, config: DecodingConfig) -> Search:
        """The search that `config` describes. Raises ConfigError for settings that it cannot use."""
        return make_search(config, self.lm, self.decoder)


def make_search(config: DecodingConfig, lm: LmAutomaton | None, decoder: SearchableDecoder | None = None) -> Search:
    """The search that `config` describes, over a model's `decoder` if it has one, else over log-probabilities.

    A language model of weight 0 is left out. Raises ConfigError for settings that the search cannot use.
    """
    lm = lm if config.lm_weight else None
    if decoder is None:
        return SEARCHES[config.method](config, lm)
    search: Search = DECODER_SEARCHES[decoder.kind][config.method].load()(config, lm, decoder)
    return search
