"""Cut a long recording into pieces for a model with an attention decoder.

Such a decoder learnt from utterances, and fails on much longer audio. So each piece is about as long as an utterance,
and is cut in a pause if there is one.

Legend: T frames, D static features.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from asrkit.features.speech_frames import LevelScale
from asrkit.inference.frame_clock import FrameClock
from asrkit.inference.phone_time_stream import StaticSource

LONGEST = 15.0  # seconds
_QUIET = 0.2  # seconds; the length of a pause


class HeldFeatures:
    """Static features (T, D) in memory, as a StaticSource. `static` is this array."""

    def __init__(self, static: np.ndarray) -> None:
        self._static, self.num_frames = static, len(static)

    def read(self, begin: int, end: int) -> np.ndarray:
        """The frames from `begin` to `end` that exist, (t, D)."""
        return self._static[begin:end]


def pieces(static: StaticSource, scale: LevelScale, clock: FrameClock) -> Iterator[tuple[int, int]]:
    """Yield the first frame of each piece, and the frame after its last one.

    Each piece is cut in its second half, in the middle of the quietest fifth of a second. All pieces but the last have
    a whole number of steps.
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
