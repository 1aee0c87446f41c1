"""Which frames of an utterance hold speech, by their levels: those that CMVN over speech counts (cmvn.py).

Levels are counted in steps of a quarter of a decibel, so that an utterance gives the same frames in one piece and in
many. T frames, D static features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_STEPS_PER_DB = 4
_LOWEST_DB, _NUM_STEPS = -150, 1200  # levels outside are taken for the lowest or the highest
_PEAK_FRAMES = 5  # that the loudest speech lasts: a click is shorter
_AUDIBLE_DB = 60  # what is further below the peak is digital silence, and no noise to compare with
_NOISE_PART = 10  # of so many audible frames, one is no louder than the noise
_LOUD_DB, _LOUD_SHARE = 15, 0.7  # loud frames: so far below the peak, or by such a share of the way down to the noise
_QUIET_PER_LOUD = 0.6  # frames that count beside each loud one
_SPEECH_DB = 40  # what is further below the peak never counts
_RANGE_DB = 10  # from noise to peak where there is speech; asked of audio that is still going on
_BLOCK = 20  # frames by which a stream's levels are looked at again


@dataclass(frozen=True)
class LevelScale:
    """A frame's level from its static features: the mean of the first `num_columns`, times `db`, in dB.

    By default that of C0 of 23 filters, in natural logarithms.
    """

    num_columns: int = 1
    db: float = 10 / math.log(10) / 23**0.5

    def steps(self, static: np.ndarray) -> np.ndarray:
        """The levels (T,) of static features (T, D), in whole steps from the lowest level on."""
        levels = static[:, : self.num_columns].mean(axis=1, dtype=np.float64) * self.db
        above = np.nan_to_num((levels - _LOWEST_DB).clip(0, _NUM_STEPS / _STEPS_PER_DB))
        return np.minimum(above * _STEPS_PER_DB, _NUM_STEPS - 1).astype(np.int64)

    def below_mean(self, db: float, dim: int) -> np.ndarray:
        """The static features (dim,) of a level `db` lower, less those of the level itself; -1e30 for the others."""
        return np.where(np.arange(dim) < self.num_columns, -db / self.db, -1e30).astype(np.float32)


class SpeechLevels:
    """The levels of an utterance's frames so far, and from which level on frames count as speech.

    Loud frames are within 15 dB of the peak, or above 30 % of the way from the noise to the peak if that is higher. To
    them come the loudest of the others, up to 0.6 for each loud one. So a pause counts for little, however long it is
    and whether it is digital silence or a noisy room's.
    """

    def __init__(self) -> None:
        self._counts = np.zeros(_NUM_STEPS, np.int64)  # of frames, by level
        self._peak = -1  # the highest level that was held for _PEAK_FRAMES
        self._last = np.empty(0, np.int64)  # levels of the last frames

    def add(self, steps: np.ndarray) -> None:
        """Take the levels (t,) of the next frames."""
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
        """The lowest level that counts as speech; above all levels while peak and noise are less than `range_db` apart.

        At least one frame so far is at that level or above, if there is any. `num_counted`: how many frames counted
        already; once they are as many as there is room for beside the loud ones, only loud ones count.
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
        above = self._counts[::-1].cumsum()  # frames at each level or above, from the highest level on
        most = int(above[_NUM_STEPS - 1 - loud] * (1 + _QUIET_PER_LOUD))
        if num_counted >= most:
            return loud
        return max(_NUM_STEPS - int(np.searchsorted(above, most, "right")), peak - _SPEECH_DB * _STEPS_PER_DB)


class SpeechStream:
    """Which frames of an utterance that is still going on count as speech, each by the frames before it.

    Frames may come in any pieces: the results are the same. Before peak and noise are 10 dB apart there is no speech.
    """

    def __init__(self) -> None:
        self._levels = SpeechLevels()
        self._lowest = self._levels.lowest()
        self._num_counted = 0
        self._waiting = np.empty(0, np.int64)  # levels of a block that is not complete

    def __call__(self, steps: np.ndarray) -> np.ndarray:
        """Whether the next frames, of levels (t,), count: (t,) bool."""
        is_speech = np.empty(len(steps), bool)
        done = 0
        while done < len(steps):
            piece = steps[done : done + _BLOCK - len(self._waiting)]
            is_speech[done : done + len(piece)] = counts = piece >= self._lowest
            self._num_counted += int(np.count_nonzero(counts))
            done += len(piece)
            self._waiting = np.concatenate([self._waiting, piece])
            if len(self._waiting) == _BLOCK:
                self._levels.add(self._waiting)
                self._lowest = self._levels.lowest(_RANGE_DB, self._num_counted)
                self._waiting = self._waiting[:0]
        return is_speech
