"""Settings of decoders, and the classes that their names stand for. Does not load torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

import numpy as np

from asrkit.config.ranges import BelowOne, PositiveInt, Range, at_most, range_faults
from asrkit.errors import ConfigError, raise_if_any
from asrkit.models.choice import Choice, names_with

DecoderKind = Literal["attention", "transducer"]
DecoderCellName = Literal["lstm", "gru", "elman"]
DecoderLayersName = Literal["recurrent", "transformer"]
ContextName = Literal["attention", "fixed"]
ScoreName = Literal["additive", "dot", "scaled_dot", "general", "cosine", "location", "location_aware"]
WindowName = Literal["global", "local"]
ReadingName = Literal["soft", "hard"]

END = 0  # the class before an utterance's first phone and after its last: CTC's blank

# The settings of attention between recurrent layers and the encoder.
_OF_ATTENTION = (
    *("input_feeding", "context", "score", "attention_size", "location_channels", "location_width"),
    *("max_positions", "window", "window_size", "reading"),
)

# Decoders. Each is made from DecoderConfig, the size of the encoder's outputs, the number of classes, and whether CTC
# is trained beside it.
DECODERS: dict[DecoderKind, Choice] = {
    "attention": Choice(
        "asrkit.models.decoder_config",
        "attention_decoder",
        settings=("layers", "feed_forward_size", "num_heads", *_OF_ATTENTION),
    ),
    "transducer": Choice("asrkit.models.transducer", "Transducer"),
}

# The layers of attention decoders. Each is made in the same way as DECODERS.
DECODER_LAYERS: dict[DecoderLayersName, Choice] = {
    "recurrent": Choice(
        "asrkit.models.decoder", "AttentionDecoder", settings=("cell", "embedding_size", *_OF_ATTENTION)
    ),
    "transformer": Choice("asrkit.models.transformer_decoder", "TransformerDecoder", settings=("feed_forward_size",)),
}

# Each is a torch cell, made from the sizes of its inputs and of its state.
DECODER_CELLS: dict[DecoderCellName, Choice] = {
    "lstm": Choice("asrkit.models.decoder_cells", "LstmCell"),
    "gru": Choice("asrkit.models.decoder_cells", "GruCell"),
    "elman": Choice("asrkit.models.decoder_cells", "ElmanCell"),
}

# What a decoder sees of the audio at each phone. Each is made from the sizes of the query and of a step, and from
# DecoderConfig.
CONTEXTS: dict[ContextName, Choice] = {
    "attention": Choice("asrkit.models.attention", "Attention"),
    "fixed": Choice("asrkit.models.attention", "FixedContext"),
}

# Score functions: how well a step of the encoder fits the decoder's state. Each is made in the same way as CONTEXTS.
SCORES: dict[ScoreName, Choice] = {
    "additive": Choice("asrkit.models.attention_scores", "AdditiveScore"),
    "dot": Choice("asrkit.models.attention_scores", "DotScore"),
    "scaled_dot": Choice("asrkit.models.attention_scores", "ScaledDotScore"),
    "general": Choice("asrkit.models.attention_scores", "GeneralScore"),
    "cosine": Choice("asrkit.models.attention_scores", "CosineScore"),
    "location": Choice("asrkit.models.attention_scores", "LocationScore"),
    "location_aware": Choice("asrkit.models.attention_scores", "LocationAwareScore"),
}

# Which steps the decoder can look at. Each is made from the size of the query and DecoderConfig.
WINDOWS: dict[WindowName, Choice] = {
    "global": Choice("asrkit.models.attention", "GlobalWindow"),
    "local": Choice("asrkit.models.attention", "LocalWindow"),
}

# How the steps are combined according to the weights.
READINGS: dict[ReadingName, Choice] = {
    "soft": Choice("asrkit.models.attention", "SoftReading"),
    "hard": Choice("asrkit.models.attention", "HardReading"),
}

# The classes of the same names in searches, which do not use torch (search_decoder.py).
SEARCH_CELLS: dict[DecoderCellName, Choice] = {
    "lstm": Choice("asrkit.models.search_decoder", "SearchLstm"),
    "gru": Choice("asrkit.models.search_decoder", "SearchGru"),
    "elman": Choice("asrkit.models.search_decoder", "SearchElman"),
}
SEARCH_DECODERS: dict[DecoderKind, Choice] = {
    "attention": Choice("asrkit.models.decoder_config", "attention_search_decoder"),
    "transducer": Choice("asrkit.models.search_transducer", "SearchTransducer"),
}
SEARCH_LAYERS: dict[DecoderLayersName, Choice] = {
    "recurrent": Choice("asrkit.models.search_decoder", "RecurrentSearchDecoder"),
    "transformer": Choice("asrkit.models.search_transformer", "TransformerSearchDecoder"),
}
SEARCH_CONTEXTS: dict[ContextName, Choice] = {
    "attention": Choice("asrkit.models.search_attention", "SearchAttention"),
    "fixed": Choice("asrkit.models.search_attention", "SearchFixedContext"),
}
SEARCH_SCORES: dict[ScoreName, Choice] = {
    "additive": Choice("asrkit.models.search_attention", "SearchAdditive"),
    "dot": Choice("asrkit.models.search_attention", "SearchDot"),
    "scaled_dot": Choice("asrkit.models.search_attention", "SearchScaledDot"),
    "general": Choice("asrkit.models.search_attention", "SearchGeneral"),
    "cosine": Choice("asrkit.models.search_attention", "SearchCosine"),
    "location": Choice("asrkit.models.search_attention", "SearchLocation"),
    "location_aware": Choice("asrkit.models.search_attention", "SearchLocationAware"),
}
SEARCH_WINDOWS: dict[WindowName, Choice] = {
    "global": Choice("asrkit.models.search_attention", "SearchGlobalWindow"),
    "local": Choice("asrkit.models.search_attention", "SearchLocalWindow"),
}
SEARCH_READINGS: dict[ReadingName, Choice] = {
    "soft": Choice("asrkit.models.search_attention", "read_softly"),
    "hard": Choice("asrkit.models.search_attention", "read_one"),
}

_Size = Annotated[PositiveInt, at_most(8192)]
_Depth = Annotated[PositiveInt, at_most(16)]
_Heads = Annotated[PositiveInt, at_most(64)]
_Odd = Annotated[int, Range("must be odd and from 1 to 1001", lambda value: value in range(1, 1002, 2))]


@dataclass(frozen=True)
class DecoderConfig:
    """Settings of the decoder of heads attention and joint, or transducer and joint_transducer.

    A transducer uses cell, num_layers, sizes and dropout. The other settings are for attention. Raises ConfigError for
    impossible values.
    """

    layers: DecoderLayersName = "recurrent"
    cell: DecoderCellName = "lstm"
    num_layers: _Depth = 1
    hidden_size: _Size = 128  # also of a transducer's joint network
    feed_forward_size: _Size = 512  # transformer only: inner units of a feed-forward layer
    embedding_size: _Size = 32  # of the previous phone
    input_feeding: bool = True  # the last attentional vector is an input of the next step
    dropout: BelowOne = 0.3  # of embeddings and attentional vectors
    context: ContextName = "attention"  # fixed: one vector for the whole utterance
    score: ScoreName = "location_aware"
    attention_size: _Size = 64  # additive, scaled_dot, location_aware: size in which query and step are compared
    num_heads: _Heads = 1  # heads of attention, which share the sizes
    location_channels: _Size = 8  # location_aware only: filters over the last weights
    location_width: _Odd = 15  # location_aware only: steps that a filter spans
    max_positions: _Size = 1024  # location only: number of first steps that the decoder can look at
    window: WindowName = "global"
    window_size: _Size = 8  # local only: steps to either side of the centre
    reading: ReadingName = "soft"  # soft: weighted mean of all steps; hard: one step, drawn according to the weights

    def __post_init__(self) -> None:
        raise_if_any([*range_faults(self, "model.decoder"), *self._foreign_settings()], ConfigError)

    def _foreign_settings(self) -> Iterator[str]:
        """Faults: settings that were changed, but belong to other layers."""
        own = DECODER_LAYERS[self.layers].settings
        for each in fields(self):
            others = names_with(DECODER_LAYERS, each.name)
            if others and each.name not in own and getattr(self, each.name) != each.default:
                yield (
                    f"model.decoder.{each.name} is for layers {' and '.join(others)}, found layers {self.layers}; "
                    "leave it out"
                )


def attention_decoder(config: DecoderConfig, step_size: int, num_classes: int, has_ctc: bool) -> Any:
    """An untrained attention decoder, with the layers that the settings name."""
    return DECODER_LAYERS[config.layers].load()(config, step_size, num_classes, has_ctc)


def attention_search_decoder(
    config: DecoderConfig, weights: Mapping[str, np.ndarray], step_size: int, num_classes: int, has_ctc: bool
) -> Any:
    """A trained attention decoder for searches.

    `weights` are arrays by PyTorch's names, in PyTorch's shapes, such as (V, S) for "output.weight".
    """
    return SEARCH_LAYERS[config.layers].load()(config, weights, step_size, num_classes, has_ctc)
