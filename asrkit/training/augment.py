"""Augmentation of training utterances: speed, vocal tract length, noise, masks.

Speed perturbation (Ko et al. 2015), vocal tract length perturbation (Jaitly and Hinton 2013) and noise need features
computed anew from the audio; masks (SpecAugment, Park et al. 2019) are laid over full features. What an utterance
goes through is drawn from the generator that is passed in, and from nothing else.

Legend: T frames, D static features.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr

from asrkit.audio import AudioAccess
from asrkit.errors import DataError
from asrkit.features.cmvn import accumulate
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import FeatureLoader
from asrkit.training.audio_table import AudioTable
from asrkit.training.config import AugmentConfig
from asrkit.types import Waveform

NUM_WARPS = 9  # warp factors that vtlp draws from: as many as there are statistics for each speaker and speed
_NUM_TALKERS = 5  # of babble
_STATS_FRAMES = 6000  # of a speaker, the longest utterances first: after a minute, means and variances hardly move


class Augmenter:
    """Full features of augmented utterances, and masks for them.

    CMVN by speaker takes the statistics of the speaker's utterances at the same speed and warp, as if they were
    another speaker's; they are computed when first needed and kept. Noise does not enter them. Can be sent to another
    process.
    """

    def __init__(self, config: AugmentConfig, feats: FeatureLoader, audio: AudioTable | None = None) -> None:
        """`audio`: the utterances' audio at the features' sampling rate; masks alone need none.

        Raises ConfigError when the features' backend or filter bank does not go with `vtlp`.
        """
        self.config = config
        self._feats, self._audio = feats, audio
        self._speeds = config.speeds or (1.0,)
        self._warps = (1.0,)
        if config.vtlp:
            self._warps = tuple(np.linspace(1 - config.vtlp, 1 + config.vtlp, NUM_WARPS).round(6).tolist())
        self._extractors = [FeatureExtractor(feats.config, warp) for warp in self._warps] if audio is not None else []
        self._stats: dict[int, np.ndarray] = {}  # speaker -> (speeds, warps, 2, D): means and variances
        if feats.config.normalization.per_speaker and audio is not None:
            self._num_frames = feats.all_num_frames().values_by_row

    @classmethod
    def open(cls, config: AugmentConfig, feats: FeatureLoader) -> Augmenter:
        """With the audio of the features' data directory, where `config` needs it.

        Raises DataError when there is audio that is not in files or not there, and for features of another tool, which
        do not tell how they were made.
        """
        if not needs_audio(config):
            return cls(config, feats)
        if feats.made_with is None:
            raise DataError(
                f"{feats.data_dir / 'feats.json'}: not found; training.augment computes features anew and has to know "
                "how these were made: make them with asrkit extract, or set speeds to [], vtlp and noise_prob to 0"
            )
        root = feats.made_with.get("audio_root")
        access = AudioAccess(root and Path(root), channel=feats.made_with.get("channel", "error"))
        audio = AudioTable(feats.data_dir, feats.config.sample_rate, access)
        audio.check(feats.utt_ids)
        audio.decode_once(feats.utt_ids)
        return cls(config, feats, audio)

    def __call__(self, utt_id: str, rng: np.random.Generator, min_frames: int = 1) -> tuple[np.ndarray, float]:
        """Features (T, dim) float32 and the speed they have, which is 1 where T would be below `min_frames`.

        Without masks, which are mask()'s.
        """
        speed = self._speeds[rng.integers(len(self._speeds))]
        warp = int(rng.integers(len(self._warps)))
        with_noise = rng.random() < self.config.noise_prob
        if self._warps[warp] == speed == 1.0 and not with_noise:
            return self._feats[utt_id], speed
        original = self._recordings[utt_id]
        waveform = change_speed(original, speed)
        if self._extractors[warp].num_frames(len(waveform.samples)) < max(min_frames, 1):
            # Without the warp as well: there are no statistics for it at a speed that is not one of the settings'.
            waveform, speed, warp = original, 1.0, self._warps.index(1.0)
        if with_noise:
            low, high = self.config.noise_snr_db
            snr_db = rng.uniform(low, high)
            waveform = replace(waveform, samples=add_noise(waveform.samples, self._noise(waveform, rng), snr_db))
        stats = self._speaker_stats(utt_id, speed, warp)
        return self._extractors[warp].full(waveform, utt_id, stats), speed

    @property
    def _recordings(self) -> AudioTable:
        assert self._audio is not None, "settings that change audio come with it"
        return self._audio

    def _noise(self, waveform: Waveform, rng: np.random.Generator) -> np.ndarray:
        """Noise of the waveform's length: white, pink, or the babble of other utterances."""
        num_samples = len(waveform.samples)
        kind = rng.integers(3)
        if kind < 2:
            return colored_noise(num_samples, float(kind), rng)
        babble = np.zeros(num_samples, np.float32)
        for row in rng.integers(len(self._feats.utt_ids), size=_NUM_TALKERS):
            samples = self._recordings[self._feats.utt_ids[int(row)]].samples
            shift = rng.integers(len(samples))
            babble += np.resize(np.roll(samples, shift), num_samples) / max(samples.std(), 1.0)
        return babble

    def _speaker_stats(self, utt_id: str, speed: float, warp: int) -> np.ndarray | None:
        """CMVN statistics (2, D + 1) at a speed and warp; the stored ones where nothing was changed."""
        stored = self._feats.stats(utt_id)
        if not self._feats.config.normalization.per_speaker or self._warps[warp] == speed == 1.0:
            return stored
        speaker = int(self._feats.speakers[self._feats.utt_ids.row(utt_id)])
        if speaker not in self._stats:
            self._stats[speaker] = self._measure(speaker)
        mean, variance = self._stats[speaker][self._speeds.index(speed), warp].astype(np.float64)
        return np.array([[*mean, 1.0], [*(variance + mean * mean), 0.0]])  # as of one frame

    def _measure(self, speaker: int) -> np.ndarray:
        """Means and variances (speeds, warps, 2, D) float32 of a speaker's static features."""
        rows = np.flatnonzero(self._feats.speakers == speaker)
        rows = rows[np.argsort(-self._num_frames[rows], kind="stable")]
        before = np.cumsum(self._num_frames[rows]) - self._num_frames[rows]
        sums = np.zeros((len(self._speeds), len(self._warps), 2, self._feats.config.num_static + 1))
        for utt_id in (self._feats.utt_ids[row] for row in rows[before < _STATS_FRAMES].tolist()):
            original = self._recordings[utt_id]
            for sums_at_speed, speed in zip(sums, self._speeds, strict=True):
                waveform = change_speed(original, speed)
                if self._extractors[0].num_frames(len(waveform.samples)):
                    for warp, extractor in enumerate(self._extractors):
                        sums_at_speed[warp] += accumulate(extractor(waveform, utt_id))
        means = sums[..., :-1] / sums[..., :1, -1:]
        means[..., 1, :] -= means[..., 0, :] ** 2
        return means.astype(np.float32)

    def mask(self, feats: np.ndarray, rng: np.random.Generator) -> None:
        """Lay masks over features (T, dim) in place: zeros, the mean after CMVN; without CMVN the utterance's mean."""
        config, num_static = self.config, self._feats.config.num_static
        is_centered = self._feats.config.normalization.centers
        fill = np.zeros(feats.shape[1], np.float32) if is_centered else feats.mean(axis=0)
        left = int(config.time_mask_share * len(feats))
        for _ in range(config.time_masks):
            size = min(int(rng.integers(config.time_mask_frames + 1)), left)
            start = int(rng.integers(len(feats) - size + 1))
            feats[start : start + size] = fill
            left -= size
        for _ in range(config.coefficient_masks):
            size = min(int(rng.integers(config.coefficient_mask_size + 1)), num_static)
            start = int(rng.integers(num_static - size + 1))
            for first in range(start, feats.shape[1], num_static):  # the coefficients, their deltas and so on
                feats[:, first : first + size] = fill[first : first + size]


def needs_audio(config: AugmentConfig) -> bool:
    """Whether features are to be computed from audio again."""
    return any(speed != 1.0 for speed in config.speeds) or config.vtlp > 0 or config.noise_prob > 0


def is_active(config: AugmentConfig) -> bool:
    """Whether anything is done to the utterances at all."""
    return needs_audio(config) or config.time_masks > 0 or config.coefficient_masks > 0


def change_speed(waveform: Waveform, speed: float) -> Waveform:
    """The waveform played `speed` times as fast: shorter and higher, at the same sampling rate."""
    if speed == 1.0:
        return waveform
    rate = waveform.sample_rate
    samples = soxr.resample(waveform.samples, rate * speed, rate, quality="HQ")
    return Waveform(np.ascontiguousarray(samples, np.float32), rate)


def colored_noise(num_samples: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (num_samples,) float32 whose power falls with frequency to `exponent`: 0 white, 1 pink."""
    if exponent == 0.0:
        return rng.standard_normal(num_samples, np.float32)
    size = 1 << (num_samples - 1).bit_length()  # the FFT's best
    spectrum = np.fft.rfft(rng.standard_normal(size, np.float32))
    spectrum[0] = 0.0
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-exponent / 2)
    return np.fft.irfft(spectrum, size)[:num_samples].astype(np.float32)


def add_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """`samples` and `noise`, both (n,) float32, at a ratio of their powers of `snr_db`; silence stays as it is."""
    power, noise_power = samples.var(dtype=np.float64), noise.var(dtype=np.float64)
    if power == 0.0 or noise_power == 0.0:
        return samples
    return samples + np.float32(np.sqrt(power / noise_power) * 10 ** (-snr_db / 20)) * noise
