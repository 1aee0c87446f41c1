"""The encoders by their names in `model.encoder`, one module for each. This table loads no torch.

A new encoder needs a module with a subclass of `Encoder` (models/encoder.py), and a row in ENCODERS.
"""

from __future__ import annotations

from typing import Literal

from asrkit.models.choice import Choice

EncoderName = Literal["recurrent", "pyramid", "transformer", "conformer"]

_RECURRENT = (
    *("cell", "bidirectional", "projection_size", "nonlinearity", "residual", "layer_norm"),
    *("init", "init_range"),  # they initialise weights of recurrent layers
)
_ATTENTION = ("num_heads", "attention_reach", "feed_forward_size")

# Each is an Encoder, made from the size of its inputs and ModelConfig.
ENCODERS: dict[EncoderName, Choice] = {
    "recurrent": Choice("asrkit.models.recurrent", "RecurrentStack", settings=_RECURRENT),
    "pyramid": Choice("asrkit.models.pyramid", "Pyramid", settings=(*_RECURRENT, "pyramid_join")),
    "transformer": Choice("asrkit.models.transformer", "TransformerEncoder", settings=_ATTENTION),
    "conformer": Choice("asrkit.models.conformer", "ConformerEncoder", settings=(*_ATTENTION, "conv_kernel")),
}
