"""The heads of a network, which are its output layers, by their names in `model.head`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asrkit.models.choice import names_with
from asrkit.models.decoder_config import DECODERS, DecoderKind

HeadName = Literal["ctc", "frames", "both", "attention", "joint", "transducer", "joint_transducer"]


@dataclass(frozen=True)
class Heads:
    """The output layers of a network.

    Attributes:
        has_ctc: a layer for CTC, over blank and phones (Graves et al. 2006).
        has_frames: a frame-wise layer, over phones: it finds the phone of every step (Graves and Schmidhuber 2005). Its
            training needs data directories with phone times.
        decoder: a decoder that writes one phone after another: with attention (Bahdanau et al. 2015), see decoder.py,
            or as a transducer (Graves 2012), see transducer.py.
    """

    has_ctc: bool
    has_frames: bool
    decoder: DecoderKind | None = None

    @property
    def has_decoder(self) -> bool:
        """Whether there is a decoder."""
        return self.decoder is not None

    def frame_weight(self, beside_ctc: float, is_pretraining: bool = False) -> float:
        """The weight of the frame loss in the training loss, from 0 to 1. CTC's loss has the rest.

        `beside_ctc` is this weight for a network with both heads. Pre-training uses only the frame loss.
        """
        if not self.has_frames:
            return 0.0
        if is_pretraining or not self.has_ctc:
            return 1.0
        return beside_ctc

    def decoder_weight(self, ctc_weight: float) -> float:
        """The weight of the decoder's loss in the training loss, from 0 to 1. CTC's loss has the rest.

        `ctc_weight` is the weight of CTC's loss for a network with both.
        """
        if not self.has_decoder:
            return 0.0
        return 1 - ctc_weight if self.has_ctc else 1.0


HEADS: dict[HeadName, Heads] = {
    "ctc": Heads(has_ctc=True, has_frames=False),
    "frames": Heads(has_ctc=False, has_frames=True),
    "both": Heads(has_ctc=True, has_frames=True),
    "attention": Heads(has_ctc=False, has_frames=False, decoder="attention"),
    "joint": Heads(has_ctc=True, has_frames=False, decoder="attention"),
    "transducer": Heads(has_ctc=False, has_frames=False, decoder="transducer"),
    "joint_transducer": Heads(has_ctc=True, has_frames=False, decoder="transducer"),
}


def heads_with_decoder(setting: str) -> list[HeadName]:
    """The names of heads whose decoder uses this setting of DecoderConfig. Not all decoders use it."""
    kinds = names_with(DECODERS, setting)
    return [name for name, heads in HEADS.items() if heads.decoder in kinds]


def heads_with_ctc() -> list[HeadName]:
    """The names of heads that have CTC."""
    return [name for name, heads in HEADS.items() if heads.has_ctc]
