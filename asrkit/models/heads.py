"""The heads of a network: its output layers, by the names of `model.head`. Loads no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HeadName = Literal["ctc", "frames", "both", "attention", "joint"]


@dataclass(frozen=True)
class Heads:
    """The output layers that a network has.

    Attributes:
        has_ctc: one over blank and phones, for CTC (Graves et al. 2006).
        has_frames: one over phones, for the phone of every step (Graves and Schmidhuber 2005). To train it, data
            directories need phone times.
        has_decoder: a decoder that writes phone after phone (Bahdanau et al. 2015), see decoder.py.
    """

    has_ctc: bool
    has_frames: bool
    has_decoder: bool = False

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
    "attention": Heads(has_ctc=False, has_frames=False, has_decoder=True),
    "joint": Heads(has_ctc=True, has_frames=False, has_decoder=True),
}


def heads_with_ctc() -> list[HeadName]:
    """The names of those that have CTC."""
    return [name for name, heads in HEADS.items() if heads.has_ctc]
