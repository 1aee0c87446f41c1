"""Decides by level which frames of an utterance contain speech. CMVN over speech counts these frames (cmvn.py).

Levels are counted in steps of 0.25 dB. So the same frames are found if an utterance comes in one piece or in many.

Shapes: T frames, D static features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_STEPS_PER_DB = 4
_LOWEST_DB, _NUM_STEPS = -150, 1200  # levels outside this range count as its lowest or highest level
_PEAK_FRAMES = 5  # the loudest speech lasts at least this long; a click is shorter
_AUDIBLE_DB = 60  # frames further below the peak are digital silence; they do not count for the noise level
_NOISE_PART = 10  # the noise level: one audible frame of this many is not louder
_LOUD_DB, _LOUD_SHARE = 15, 0.7  # loud frames: at most this far below the peak, in dB and as a share of peak to noise
_QUIET_PER_LOUD = 0.6  # number of other frames that count, per loud frame
_SPEECH_DB = 40  # frames further below the peak never count
_RANGE_DB = 10  # the least distance of peak and noise for speech, in streams
_BLOCK = 20  # number of frames after which a stream updates its lowest level of speech
_MEMORY = 1500  # frames, whole blocks: a stream goes by the levels of the last one to two times as many


@dataclass(frozen=True)
class LevelScale:
    """Computes the level of a frame from its static features: `db` times the mean of the first `num_columns`, in dB.

    The default is for C0 of 23 mel filters in natural logarithms.
    """

    num_columns: int = 1
    db: float = 10 / math.log(10) / 23**0.5

    def steps(self, static: np.ndarray) -> np.ndarray:
        """The levels (T,) int64 of the features `static` (T, D), in steps of 0.25 dB above -150 dB."""
        levels = static[:, : self.num_columns].mean(axis=1, dtype=np.float64) * self.db
        above = np.nan_to_num((levels - _LOWEST_DB).clip(0, _NUM_STEPS / _STEPS_PER_DB))
        return np.minimum(above * _STEPS_PER_DB, _NUM_STEPS - 1).astype(np.int64)

    def below_mean(self, db: float, dim: int) -> np.ndarray:
        """The change (dim,) float32 of each static feature if the level falls by `db`; -1e30 for other features."""
        return np.where(np.arange(dim) < self.num_columns, -db / self.db, -1e30).astype(np.float32)


class SpeechLevels:
    """Collects the levels of an utterance's frames, and finds the lowest level of speech.

    A frame is loud if it is less than 15 dB below the peak, and above 30 % of the way from noise to peak. All loud
    frames count as speech, and the loudest of the others: at most 0.6 per loud frame. So a pause has little influence,
    however long it is, and whether it is digital silence or the noise of a room.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_NUM_STEPS, np.int64)  # numbers of frames, by level
        self._peak = -1  # the highest level that lasted for _PEAK_FRAMES frames
        self._last = np.empty(0, np.int64)  # the levels of the last frames

    def add(self, steps: np.ndarray) -> None:
        """Add the levels `steps` (t,) int64 of the next frames."""
        self._counts += np.bincount(steps, minlength=_NUM_STEPS)
        last = np.concatenate([self._last, steps])
        num_held = len(last) - _PEAK_FRAMES + 1
        if num_held > 0:
            held = last[:num_held].copy()
            for later in range(1, _PEAK_FRAMES):
                np.minimum(held, last[later : later + num_held], out=held)
            self._peak = max(self._peak, int(held.max()))
        self._last = last[-_PEAK_FRAMES + 1 :]

    def lowest(self, range_db: float = 0.0, num_counted: int = 0) -> int:
        """The lowest level that counts as speech, in steps. At least one frame so far reaches it, if there are any.

        If peak and noise are less than `range_db` (dB) apart, the result is above all levels. `num_counted` is the
        number of frames that counted already. If it reaches the allowed number, only loud frames count from then on.
        """
        if not len(self._last):
            return _NUM_STEPS
        peak = self._peak if self._peak >= 0 else int(self._last.min())
        audible = max(peak - _AUDIBLE_DB * _STEPS_PER_DB, 0)
        below = self._counts[audible:].cumsum()
        noise = min(audible + int(np.searchsorted(below, -(-below[-1] // _NOISE_PART))), peak)
        if peak - noise < range_db * _STEPS_PER_DB:
            return _NUM_STEPS
        loud = peak - int(min(_LOUD_DB * _STEPS_PER_DB, _LOUD_SHARE * (peak - noise)))
        above = self._counts[::-1].cumsum()  # numbers of frames at or above each level, from the highest level on
        most = int(above[_NUM_STEPS - 1 - loud] * (1 + _QUIET_PER_LOUD))
        if num_counted >= most:
            return loud
        return max(_NUM_STEPS - int(np.searchsorted(above, most, "right")), peak - _SPEECH_DB * _STEPS_PER_DB)


class SpeechStream:
    """Decides during an utterance which frames count as speech, each by the frames before it.

    Frames may come in pieces of any size; the results are the same. Until peak and noise are 10 dB apart, no frame
    counts. Levels are forgotten after 15 to 30 s, in frames of 10 ms. Otherwise nobody who speaks less loudly than
    somebody before, or than a door that slammed, would ever count.
    """

    def __init__(self) -> None:
        self._memories = [_Memory()]  # the older one, by which frames are chosen, and the one that takes its place
        self._lowest = self._memories[0].lowest()
        self._num_frames = 0  # in whole blocks
        self._waiting = np.empty(0, np.int64)  # the levels of the incomplete last block

    def __call__(self, steps: np.ndarray) -> np.ndarray:
        """Whether the next frames, with the levels `steps` (t,), count as speech: (t,) bool."""
        is_speech = np.empty(len(steps), bool)
        done = 0
        while done < len(steps):
            piece = steps[done : done + _BLOCK - len(self._waiting)]
            is_speech[done : done + len(piece)] = piece >= self._lowest
            done += len(piece)
            self._waiting = np.concatenate([self._waiting, piece])
            if len(self._waiting) == _BLOCK:
                self._update()
                self._waiting = self._waiting[:0]
        return is_speech

    def _update(self) -> None:
        """Take a whole block of levels into account."""
        num_counted = int(np.count_nonzero(self._waiting >= self._lowest))
        for memory in self._memories:
            memory.add(self._waiting, num_counted)
        self._num_frames += _BLOCK
        if self._num_frames % _MEMORY == 0:
            self._memories = [self._memories[-1], _Memory()]
        self._lowest = self._memories[0].lowest()


class _Memory:
    """The levels of a stream from some frame on, and how many of these frames counted."""

    def __init__(self) -> None:
        self._levels, self._num_counted = SpeechLevels(), 0

    def add(self, steps: np.ndarray, num_counted: int) -> None:
        self._levels.add(steps)
        self._num_counted += num_counted

    def lowest(self) -> int:
        return self._levels.lowest(_RANGE_DB, self._num_counted)
