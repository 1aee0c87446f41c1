"""Settings of an attention decoder, and what their names stand for. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from asrkit.config.ranges import BelowOne, PositiveInt, Range, at_most, range_faults
from asrkit.errors import ConfigError, raise_if_any
from asrkit.models.choice import Choice

DecoderCellName = Literal["lstm", "gru"]
ContextName = Literal["attention", "fixed"]
ScoreName = Literal["additive", "dot", "scaled_dot", "general", "cosine", "location", "location_aware"]
WindowName = Literal["global", "local"]
ReadingName = Literal["soft", "hard"]

# Each is a torch cell, made from the sizes of its inputs and of its state.
DECODER_CELLS: dict[DecoderCellName, Choice] = {
    "lstm": Choice("asrkit.models.decoder_cells", "LstmCell"),
    "gru": Choice("asrkit.models.decoder_cells", "GruCell"),
}

# What a decoder sees of the audio at each phone. Each is made from the sizes of query and steps, and DecoderConfig.
CONTEXTS: dict[ContextName, Choice] = {
    "attention": Choice("asrkit.models.attention", "Attention"),
    "fixed": Choice("asrkit.models.attention", "FixedContext"),
}

# How well a step of the encoder fits the decoder's state. Made as a context is.
SCORES: dict[ScoreName, Choice] = {
    "additive": Choice("asrkit.models.attention_scores", "AdditiveScore"),
    "dot": Choice("asrkit.models.attention_scores", "DotScore"),
    "scaled_dot": Choice("asrkit.models.attention_scores", "ScaledDotScore"),
    "general": Choice("asrkit.models.attention_scores", "GeneralScore"),
    "cosine": Choice("asrkit.models.attention_scores", "CosineScore"),
    "location": Choice("asrkit.models.attention_scores", "LocationScore"),
    "location_aware": Choice("asrkit.models.attention_scores", "LocationAwareScore"),
}

# Which steps are looked at. Each is made from the size of the query and DecoderConfig.
WINDOWS: dict[WindowName, Choice] = {
    "global": Choice("asrkit.models.attention", "GlobalWindow"),
    "local": Choice("asrkit.models.attention", "LocalWindow"),
}

# What is read with the weights.
READINGS: dict[ReadingName, Choice] = {
    "soft": Choice("asrkit.models.attention", "SoftReading"),
    "hard": Choice("asrkit.models.attention", "HardReading"),
}

_Size = Annotated[PositiveInt, at_most(8192)]
_Depth = Annotated[PositiveInt, at_most(16)]
_Heads = Annotated[PositiveInt, at_most(64)]
_Odd = Annotated[int, Range("must be odd and from 1 to 1001", lambda value: value in range(1, 1002, 2))]


@dataclass(frozen=True)
class DecoderConfig:
    """Shape of the decoder of heads attention and joint. Raises ConfigError for impossible values."""

    cell: DecoderCellName = "lstm"
    num_layers: _Depth = 1
    hidden_size: _Size = 128
    embedding_size: _Size = 32  # of the phone before
    input_feeding: bool = True  # the last attentional vector is an input of the next step
    dropout: BelowOne = 0.3  # of embeddings and attentional vectors
    context: ContextName = "attention"  # or one vector for the whole utterance
    score: ScoreName = "location_aware"
    attention_size: _Size = 64  # additive, scaled_dot, location_aware: size in which query and step meet
    num_heads: _Heads = 1  # that look at the encoder each in its own way; sizes are shared out among them
    location_channels: _Size = 8  # location_aware only: filters over the last weights
    location_width: _Odd = 15  # location_aware only: steps that a filter spans
    max_positions: _Size = 1024  # location only: steps from the beginning that can be looked at
    window: WindowName = "global"
    window_size: _Size = 8  # local only: steps to either side of the centre
    reading: ReadingName = "soft"  # the mean of all steps by weight, or one step drawn by weight

    def __post_init__(self) -> None:
        raise_if_any(range_faults(self, "model.decoder"), ConfigError)
