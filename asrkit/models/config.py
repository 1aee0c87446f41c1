"""Settings of the acoustic model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Annotated, Literal

from asrkit.config.ranges import BelowOne, Positive, PositiveInt, at_most, range_faults
from asrkit.errors import ConfigError, raise_if_any
from asrkit.models.cells import CELLS, CellName
from asrkit.models.choice import names_with
from asrkit.models.decoder_config import DECODERS, DecoderConfig
from asrkit.models.encoders import ENCODERS, EncoderName
from asrkit.models.frontends import FrontEndName
from asrkit.models.heads import HEADS, HeadName, Heads, heads_with_ctc, heads_with_decoder
from asrkit.models.inits import INITS, InitName

# Settings that came after the first exported models. The files of those models lack them.
YOUNGER_SETTINGS = (
    *("encoder", "num_heads", "attention_reach", "feed_forward_size", "conv_kernel"),
    *("pyramid_join", "decoder", "decoder.layers", "decoder.feed_forward_size"),
)

# Limits far above any useful size. Beyond them the weights, or the input of a step, do not fit into memory.
_Depth = Annotated[PositiveInt, at_most(100)]
_Reach = Annotated[PositiveInt, at_most(256)]
_Join = Annotated[PositiveInt, at_most(8)]
_Channels = Annotated[PositiveInt, at_most(1024)]
_Size = Annotated[PositiveInt, at_most(8192)]


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the acoustic model: front end, encoder, heads. Raises ConfigError for impossible values."""

    encoder: EncoderName = "recurrent"  # the layers: recurrent, or of a Transformer or Conformer
    cell: CellName = "lstm"
    bidirectional: bool = True
    num_layers: _Depth = 3
    hidden_size: _Size = 128  # memory blocks, or hidden units, per direction
    projection_size: int | None = None  # LSTM only: size of a linear projection, which is fed back and is the output
    nonlinearity: Literal["tanh", "relu"] = "tanh"  # Elman and Jordan only
    residual: bool = False  # add a layer's input to its output if both have the same size
    dropout: BelowOne = 0.3  # after every layer, so also before the output
    layer_norm: bool = True
    num_heads: PositiveInt = 4  # transformer and conformer: heads of attention, which share the hidden units
    attention_reach: _Reach = 32  # transformer and conformer: steps to either side that a step of a layer sees
    feed_forward_size: _Size = 512  # transformer and conformer: inner units of a feed-forward layer
    conv_kernel: _Channels = 15  # conformer only: steps that a convolution joins, an odd number
    frontend: FrontEndName = "none"  # layers over frames, before stacking
    conv_channels: _Channels = 32  # conv2d only
    tdnn_size: _Size = 256  # tdnn only
    stack: _Depth = 4  # frames joined into one step
    skip: PositiveInt = 4  # frames from one step to the next
    pyramid_join: _Join = 2  # pyramid only: outputs of a layer that are one input of the next
    init: InitName = "uniform"
    init_range: Positive | None = None  # uniform only: largest size of a weight; none: 1/sqrt(hidden_size)
    # CTC is trained after each layer, and its probabilities are inputs of the next layer. By default with every CTC.
    self_conditioning: bool | None = None
    # Outputs: CTC, a phone for every step, or both; an attention decoder or a transducer, or either joint with CTC.
    head: HeadName = "ctc"
    decoder: DecoderConfig = field(default_factory=DecoderConfig)  # attention decoders and transducers

    def __post_init__(self) -> None:
        if self.self_conditioning is None:
            object.__setattr__(self, "self_conditioning", self.heads.has_ctc and not self.is_pyramid)
        raise_if_any([*range_faults(self, "model"), *self._contradictions()], ConfigError)

    def _contradictions(self) -> Iterator[str]:
        """Faults of settings that are valid each by itself, but not together."""
        if self.skip > self.stack >= 1:
            yield f"model.skip ({self.skip}) above stack ({self.stack}) would leave frames unread; raise stack"
        yield from self._foreign_settings()
        yield from self._foreign_decoder_settings()
        if self.has_attention and self.num_heads >= 1 and self.hidden_size % self.num_heads:
            yield f"model.num_heads ({self.num_heads}) must divide hidden_size ({self.hidden_size})"
        if self.conv_kernel % 2 == 0:
            yield f"model.conv_kernel must be odd, so that it has a middle, found {self.conv_kernel}"
        if self.projection_size is not None:
            if self.cell not in (cells := names_with(CELLS, "projection_size")):
                yield f"model.projection_size is for cell {' and '.join(cells)}, found cell {self.cell}; leave it out"
            if not 1 <= self.projection_size < self.hidden_size:
                limits = f"at least 1 and below hidden_size ({self.hidden_size})"
                yield f"model.projection_size must be {limits}, found {self.projection_size}"
        if self.nonlinearity != "tanh" and self.cell not in (cells := names_with(CELLS, "nonlinearity")):
            yield f"model.nonlinearity {self.nonlinearity} is for cells {' and '.join(cells)}, found cell {self.cell}"
        if self.self_conditioning and not self.heads.has_ctc:
            known = ", ".join(heads_with_ctc())
            yield f"model.self_conditioning is for heads with CTC ({known}), found head {self.head}; leave it out"
        if self.is_pyramid and self.self_conditioning:
            yield f"model.self_conditioning needs layers of as many steps, found encoder {self.encoder}; leave it out"
        if self.is_pyramid and not self.heads.has_decoder:
            known = ", ".join(name for name, heads in HEADS.items() if heads.has_decoder)
            yield (
                f"model.encoder {self.encoder} is for heads with a decoder ({known}), found head {self.head}; take "
                "another encoder"
            )
        if self.init_range is not None and self.init not in (inits := names_with(INITS, "init_range")):
            yield f"model.init_range is for init {' and '.join(inits)}, found init {self.init}; leave one out"

    def _foreign_settings(self) -> Iterator[str]:
        """Faults: settings that were changed, but belong to other encoders."""
        own = ENCODERS[self.encoder].settings
        for each in fields(self):
            others = names_with(ENCODERS, each.name)
            if others and each.name not in own and getattr(self, each.name) != each.default:
                yield (
                    f"model.{each.name} is for encoder{'s' * (len(others) > 1)} {' and '.join(others)}, "
                    f"found encoder {self.encoder}; leave it out"
                )

    def _foreign_decoder_settings(self) -> Iterator[str]:
        """Faults: settings of the decoder that were changed, but belong to other decoders."""
        if self.heads.decoder is None:
            return
        own = DECODERS[self.heads.decoder].settings
        for each in fields(self.decoder):
            others = heads_with_decoder(each.name)
            if others and each.name not in own and getattr(self.decoder, each.name) != each.default:
                known = " and ".join(others)
                yield f"model.decoder.{each.name} is for heads {known}, found head {self.head}; leave it out"

    @property
    def is_pyramid(self) -> bool:
        """Whether each layer has fewer steps than the one below."""
        return "pyramid_join" in ENCODERS[self.encoder].settings

    @property
    def joined(self) -> int:
        """The number of the first layer's steps per step of the last layer."""
        return self.pyramid_join ** (self.num_layers - 1) if self.is_pyramid else 1

    @property
    def frames_a_step(self) -> int:
        """Frames from one of the last layer's steps to the next."""
        return self.skip * self.joined

    @property
    def frames_in_step(self) -> int:
        """Frames that one of the last layer's steps joins."""
        return self.stack + self.skip * (self.joined - 1)

    @property
    def has_attention(self) -> bool:
        """Whether the layers are those of a Transformer or Conformer."""
        return "num_heads" in ENCODERS[self.encoder].settings

    @property
    def kind_of_layers(self) -> str:
        """The cell of recurrent layers, or the encoder."""
        return self.encoder if self.has_attention else self.cell

    @property
    def looks_ahead_by(self) -> str:
        """The setting by which a step depends on later ones, where it does."""
        return f"model.encoder {self.encoder}" if self.has_attention else "model.bidirectional"

    @property
    def heads(self) -> Heads:
        """The heads that `head` stands for."""
        return HEADS[self.head]
