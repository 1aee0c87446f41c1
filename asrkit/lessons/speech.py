"""The speech for lessons: the test set of a recipe that has been run, and models trained on its data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrkit.errors import DataError, location
from asrkit.features.pipeline import feats_input
from asrkit.formats.data_dir import load_data_dir
from asrkit.io.stamp import File, Input
from asrkit.types import PhoneTime, Utterance


@dataclass(frozen=True)
class Speech:
    """The place of the speech.

    Attributes:
        data: the data directory of a test set, with features and phone times.
        models: directories of experiments for such speech.
    """

    data: Path
    models: Sequence[Path]

    def inputs(self) -> dict[str, Input | None]:
        """Everything on which the results of a lesson depend."""
        tables = {name: File(self.data / name) for name in ("text", "phones.ctm")}
        models = {f"model {number}": File(path / "final.pt") for number, path in enumerate(self.models)}
        return {**tables, **models, "features": feats_input(self.data) if self.data.is_dir() else None}

    def utterances(self) -> list[Utterance]:
        """The utterances with their phone times.

        Raises:
            DataError: an utterance has no phone times.
        """
        utts = load_data_dir(self.data).utterances()
        for utt in utts:
            if not utt.phone_times:
                raise DataError(f"{location(self.data)}no times of phones for {utt.utt_id}, which lessons look at")
        return utts


def phones_at(seconds: np.ndarray, times: Sequence[PhoneTime]) -> list[str]:
    """The phone at each of `seconds` (n,). After the end of all phones it is the last one."""
    ends = np.array([each.end for each in times])
    places = np.minimum(np.searchsorted(ends, seconds, side="right"), len(times) - 1)
    return [times[place].phone for place in places.tolist()]
