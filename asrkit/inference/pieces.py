"""Where a long recording is cut for a model with an attention decoder, which hears each piece as a whole.

A decoder that learnt from utterances loses its way in what is much longer than these, so its windows are as long as an
utterance, and no window ends within a word if there is a pause.

Legend: T frames, D static features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from asrkit.features.speech_frames import LevelScale
from asrkit.inference.frame_clock import FrameClock
from asrkit.inference.phone_time_stream import StaticSource

LONGEST = 15.0  # seconds
_QUIET = 0.2  # seconds: what is quiet for so long is a pause


class HeldFeatures:
    """Static features (T, D) in memory, as a StaticSource."""

    def __init__(self, static: np.ndarray) -> None:
        self._static, self.num_frames = static, len(static)

    def read(self, begin: int, end: int) -> np.ndarray:
        return self._static[begin:end]


def pieces(static: StaticSource, scale: LevelScale, clock: FrameClock) -> Iterator[tuple[int, int]]:
    """The first frame of each piece and the one after its last; only the last has no whole number of steps.

    Each is cut in its second half, in the middle of the quietest fifth of a second.
    """
    longest = max(round(LONGEST / clock.step), 2) * clock.skip
    width = max(round(_QUIET / clock.shift), 1)
    begin = 0
    while static.num_frames - begin > longest:
        first = begin + longest // 2
        levels = scale.steps(static.read(first, begin + longest + 1)).astype(np.float64)
        means = np.convolve(levels, np.ones(min(width, len(levels))) / width, "valid")
        cut = first + int(means.argmin()) + width // 2
        end = min(begin + max((cut - begin) // clock.skip, 1) * clock.skip, begin + longest)
        yield begin, end
        begin = end
    yield begin, static.num_frames
