"""Settings of a neural language model, and the names of its networks. Does not load torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Annotated, Literal

from asrkit.config.ranges import BelowOne, PositiveInt, at_most, range_faults
from asrkit.errors import ConfigError, raise_if_any
from asrkit.models.choice import Choice, names_with

NetworkName = Literal["elman", "gru", "lstm", "transformer"]

END = 0  # the class before a sentence's first token and after its last

# Each is a torch module, made from LanguageConfig.
NETWORKS: dict[NetworkName, Choice] = {
    "elman": Choice("asrkit.models.language", "ElmanNetwork"),
    "gru": Choice("asrkit.models.language", "GruNetwork"),
    "lstm": Choice("asrkit.models.language", "LstmNetwork"),
    "transformer": Choice("asrkit.models.language", "TransformerNetwork", ("num_heads", "feed_forward_size")),
}

# The classes of the same names without torch. Each is made from LanguageConfig and Weights.
SEARCH_NETWORKS: dict[NetworkName, Choice] = {
    "elman": Choice("asrkit.models.search_language", "SearchElmanNetwork"),
    "gru": Choice("asrkit.models.search_language", "SearchGruNetwork"),
    "lstm": Choice("asrkit.models.search_language", "SearchLstmNetwork"),
    "transformer": Choice("asrkit.models.search_language", "SearchTransformerNetwork"),
}

_Size = Annotated[PositiveInt, at_most(8192)]
_Depth = Annotated[PositiveInt, at_most(16)]


@dataclass(frozen=True)
class LanguageConfig:
    """Settings of a neural language model. Raises ConfigError for impossible values."""

    network: NetworkName = "lstm"
    num_layers: _Depth = 1
    hidden_size: _Size = 256  # units of a layer
    embedding_size: _Size = 64  # numbers that stand for a token
    tied: bool = False  # the output's weights are the embeddings; their sizes must be equal
    dropout: BelowOne = 0.5  # of embeddings and of what each layer gives
    num_heads: PositiveInt = 4  # transformer only: heads of attention, which share the hidden units
    feed_forward_size: _Size = 512  # transformer only: inner units of a feed-forward layer

    def __post_init__(self) -> None:
        raise_if_any([*range_faults(self, "model"), *self._contradictions()], ConfigError)

    def _contradictions(self) -> Iterator[str]:
        """Faults of settings that are valid each by itself, but not together."""
        if self.tied and self.embedding_size != self.hidden_size:
            yield (
                f"model.tied needs embedding_size ({self.embedding_size}) equal to hidden_size ({self.hidden_size}); "
                "set both alike"
            )
        own = NETWORKS[self.network].settings
        for each in fields(self):
            others = names_with(NETWORKS, each.name)
            if others and each.name not in own and getattr(self, each.name) != each.default:
                yield (
                    f"model.{each.name} is for network {' and '.join(others)}, found network {self.network}; "
                    "leave it out"
                )
        if "num_heads" in own and self.num_heads >= 1 and self.hidden_size % self.num_heads:
            yield f"model.num_heads ({self.num_heads}) must divide hidden_size ({self.hidden_size})"
