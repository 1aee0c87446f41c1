"""The heads of a network: its output layers, by the names of `model.head`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asrkit.models.choice import names_with
from asrkit.models.decoder_config import DECODERS, DecoderKind

HeadName = Literal["ctc", "frames", "both", "attention", "joint", "transducer", "joint_transducer"]


@dataclass(frozen=True)
class Heads:
    """The output layers that a network has.

    Attributes:
        has_ctc: one over blank and phones, for CTC (Graves et al. 2006).
        has_frames: one over phones, for the phone of every step (Graves and Schmidhuber 2005). To train it, data
            directories need phone times.
        decoder: a decoder that writes phone after phone: by attention (Bahdanau et al. 2015), see decoder.py, or as a
            transducer (Graves 2012), see transducer.py.
    """

    has_ctc: bool
    has_frames: bool
    decoder: DecoderKind | None = None

    @property
    def has_decoder(self) -> bool:
        return self.decoder is not None

    def frame_weight(self, beside_ctc: float, is_pretraining: bool = False) -> float:
        """The frame loss's weight in the training loss, from 0 to 1; CTC's loss has the rest.

        `beside_ctc`: that weight when the network has both heads. Pre-training uses the frame loss alone.
        """
        if not self.has_frames:
            return 0.0
        if is_pretraining or not self.has_ctc:
            return 1.0
        return beside_ctc

    def decoder_weight(self, ctc_weight: float) -> float:
        """The decoder's loss's weight beside CTC's, from 0 to 1. `ctc_weight`: CTC's, when the network has both."""
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
    """The names of those whose decoder takes a setting of DecoderConfig that other decoders do not."""
    kinds = names_with(DECODERS, setting)
    return [name for name, heads in HEADS.items() if heads.decoder in kinds]


def heads_with_ctc() -> list[HeadName]:
    """The names of those that have CTC."""
    return [name for name, heads in HEADS.items() if heads.has_ctc]
