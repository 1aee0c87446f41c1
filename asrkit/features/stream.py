"""Features of audio that arrives in chunks. The frames are exactly those of the whole utterance."""

from __future__ import annotations

import numpy as np

from asrkit.errors import ConfigError
from asrkit.features.backends import names_of_backends
from asrkit.features.mfcc import FeatureExtractor, add_dither, not_finite, too_short


class StaticStream:
    """Computes the static features of one utterance in chunks. It keeps only about one frame of audio in memory.

    Raises ConfigError if the backend of the extractor cannot process streams.
    """

    def __init__(self, extractor: FeatureExtractor, utt_id: str = "") -> None:
        if not extractor.takes_streams:
            expected = names_of_backends(lambda backend: backend.takes_streams)
            raise ConfigError(f"features.backend: {extractor.backend} takes no streams; expected {expected}")
        self.extractor, self.utt_id = extractor, utt_id
        self._noise = extractor.noise(utt_id)
        self._samples = np.empty(0, np.float32)  # the samples that are still needed, from number _begin on
        self._begin = 0
        self._num_done = 0
        self._has_ended = False

    def accept(self, samples: np.ndarray) -> np.ndarray:
        """Take the next `samples` (num_samples,) on the int16 scale; returns the new complete frames (t, num_static).

        Raises:
            AudioError: samples are NaN, infinite or so large that the features are not finite.
            ValueError: `samples` has another shape, or `finish` was called before.
        """
        if self._has_ended:
            raise ValueError("accept() after finish()")
        config = self.extractor.config
        samples = np.require(samples, np.float32, ("C", "A"))
        if samples.ndim != 1:
            raise ValueError(f"samples of shape {samples.shape}; expected (num_samples,)")
        self._samples = np.concatenate([self._samples, add_dither(samples, self._noise, config)])
        num_samples = self._begin + len(self._samples)
        first = self.extractor.framing.first_start
        # The first frames contain the mirror image of the samples up to -first.
        is_begun = num_samples >= max(first + config.frame_length, -first)
        num_ready = (num_samples - first - config.frame_length) // config.frame_shift + 1 if is_begun else 0
        return self._take(max(num_ready, self._num_done))

    def finish(self) -> np.ndarray:
        """End the audio; returns the remaining frames (t, num_static). Raises AudioError if it had no frame at all."""
        num_samples = self._begin + len(self._samples)
        num_frames = self.extractor.num_frames(num_samples)
        if num_frames == 0:
            raise too_short(self.extractor.framing, num_samples, self.utt_id)
        self._has_ended = True
        return self._take(num_frames)

    def _take(self, num_ready: int) -> np.ndarray:
        config = self.extractor.config
        first = self.extractor.framing.first_start + self._num_done * config.frame_shift
        num_new = num_ready - self._num_done
        feats: np.ndarray | None = np.empty((0, config.num_static), np.float32)
        if num_new > 0:
            feats = self.extractor.static(self._samples, first - self._begin, num_new, self._num_done)
        if feats is None:
            raise not_finite(self._samples, self.utt_id)
        self._num_done = max(num_ready, self._num_done)
        # The mirror image at the end may need samples before the remaining frames, but less than one frame of them.
        needed = self.extractor.framing.first_start + num_ready * config.frame_shift
        drop = min(needed - self._begin - (0 if config.snip_edges else config.frame_length), len(self._samples))
        if drop > 0:
            self._samples = self._samples[drop:]
            self._begin += drop
        return feats
