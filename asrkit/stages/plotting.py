"""Pictures of what a model does with recordings."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.audio import Channel, open_audio
from asrkit.audio.inputs import STANDARD_INPUT, Input
from asrkit.errors import AudioError, DataError, location, printable
from asrkit.inference.recognizer import Recognizer
from asrkit.io.json_text import json_text
from asrkit.reporting.attention import attention_figures, attention_png
from asrkit.types import Waveform


@dataclass(frozen=True)
class AttentionPlot:
    """The attention of a decoder to a recording.

    Attributes:
        pictures: the content of a PNG file for each piece of the recording.
        figures: the numbers, as JSON values.
    """

    pictures: Sequence[bytes]
    figures: Mapping[str, Any]

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The files to write, as endings of their names and contents.

        The endings are .png, or .1.png and so on for several pieces, and .json.
        """
        for number, picture in enumerate(self.pictures, start=1):
            yield (".png" if len(self.pictures) == 1 else f".{number}.png"), picture
        yield ".json", f"{json_text(self.figures)}\n".encode()


def plot_attention(
    recognizer: Recognizer, recording: Input, channel: Channel = "error", symbols: Mapping[str, str] = {}
) -> AttentionPlot:
    """Recognise a recording and draw where the decoder looks.

    Args:
        recognizer: the recogniser; its model needs an attention decoder.
        recording: the recording.
        channel: the channel of a recording with several.
        symbols: other symbols for some of the model's phones.

    Raises:
        DataError: the recording has a fault.
        AudioError: it cannot be read, or nobody speaks in it.
        ModelError: the model has no attention decoder.
    """
    if recording.fault is not None:
        raise DataError(recording.fault)
    source = sys.stdin.buffer if recording.name == STANDARD_INPUT else recording.name
    with open_audio(source, channel=channel) as audio:
        waveform = Waveform(np.concatenate(list(audio.blocks())), audio.sample_rate)
    pieces = [
        replace(piece, phones=tuple(symbols.get(phone, phone) for phone in piece.phones))
        for piece in recognizer.attention(waveform)
    ]
    if not pieces:
        raise AudioError(f"{location(recording.name)}nobody speaks in it, so there is no attention to draw")
    shown = printable(recording.name)
    titles = [f"Where the decoder looks in {Path(shown).name}"] * len(pieces)
    if len(pieces) > 1:
        titles = [
            f"{title}, {piece.start:.1f} to {piece.end:.1f} s" for title, piece in zip(titles, pieces, strict=True)
        ]
    return AttentionPlot(
        [attention_png(waveform, *pair) for pair in zip(pieces, titles, strict=True)],
        {"audio": shown, "pieces": [attention_figures(piece) for piece in pieces]},
    )
