"""The searches by name. Only this module interprets `decoding.method`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

from asrkit.decoding.config import DecodingConfig, SearchMethod
from asrkit.decoding.greedy import GreedySearch
from asrkit.decoding.prefix_beam import BeamSearch
from asrkit.decoding.scorer import SearchLm
from asrkit.decoding.search import Search
from asrkit.models.choice import Choice
from asrkit.models.decoder_config import DecoderKind

SEARCHES: dict[SearchMethod, type[GreedySearch] | type[BeamSearch]] = {"greedy": GreedySearch, "beam": BeamSearch}

# The searches for models with a decoder, by the kind of the decoder.
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
    """A decoder, as the searches for its kind need it."""

    kind: ClassVar[DecoderKind]


@dataclass(frozen=True)
class SearchModels:
    """The models that a search uses besides log-probabilities.

    Attributes:
        lm: the language model, or None.
        decoder: an attention decoder or transducer, or None.
    """

    lm: SearchLm | None = None
    decoder: SearchableDecoder | None = None

    def search(self, config: DecodingConfig) -> Search:
        """Make the search that `config` describes. Raises ConfigError for settings that it cannot use."""
        return make_search(config, self.lm, self.decoder)


def make_search(config: DecodingConfig, lm: SearchLm | None, decoder: SearchableDecoder | None = None) -> Search:
    """Make the search that `config` describes, for a model with a `decoder` or for CTC's log-probabilities.

    A language model of weight 0 is left out. Raises ConfigError for settings that the search cannot use.
    """
    lm = lm if config.lm_weight else None
    if decoder is None:
        return SEARCHES[config.method](config, lm)
    search: Search = DECODER_SEARCHES[decoder.kind][config.method].load()(config, lm, decoder)
    return search
