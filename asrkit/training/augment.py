"""Augmentation of training utterances.

Speed perturbation (Ko et al. 2015), vocal tract length perturbation (VTLP; Jaitly and Hinton 2013), rooms, noise and
codecs (rooms.py, noise.py, codecs.py) compute features again from the audio. So do sounds in place of speech
(sounds.py). Pauses are added before and after static features. Masks (SpecAugment, Park et al. 2019) change full
features. All random values come from the generator that the caller passes.

Legend: T frames, D static features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import soxr

from asrkit.errors import DataError
from asrkit.features.audio_table import AudioTable
from asrkit.features.config import FeatureConfig
from asrkit.features.full import full_features
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import FeatureLoader
from asrkit.features.speech_frames import SpeechLevels
from asrkit.training.codecs import CODECS, check_codecs, set_level
from asrkit.training.config import AugmentConfig
from asrkit.training.noise import NOISES, Scene, add_noise
from asrkit.training.rooms import reverberate, room_response
from asrkit.training.sounds import sound_without_speech
from asrkit.types import Waveform

NUM_WARPS = 9  # warp factors of vtlp; each has its own statistics per speaker and speed
_NUM_TALKERS = 5  # talkers in babble
_PAUSE_AT_AN_END, _DIGITAL = 0.7, 0.25  # share of the ends with a pause; share of these pauses with digital silence
_PAUSE_FRAMES = (20, 500)  # shortest and longest pause
_LEFT_FRAMES = 15  # most frames that a cut leaves before or after the loud ones, which begin and end later than speech
_STATS_FRAMES = 6000  # frames per speaker, longest utterances first; after a minute the statistics hardly change


class Augmented(NamedTuple):
    """An augmented utterance.

    Attributes:
        feats: (T, dim) float32 full features.
        speed: the factor of its speed.
        added: the numbers of frames of the pauses before and after it; negative where frames were cut off.
        is_speech: False if a sound replaced the speech, so that there are no phones.
    """

    feats: np.ndarray
    speed: float
    added: tuple[int, int] = (0, 0)
    is_speech: bool = True


@dataclass(frozen=True)
class _Made:
    """The features of an utterance, as functions that compute CMVN statistics, static features and full features."""

    speed: float
    stats: Callable[[], np.ndarray | None]
    static: Callable[[], np.ndarray]
    full: Callable[[np.ndarray | None], np.ndarray]
    config: FeatureConfig
    is_speech: bool = True


class Augmenter:
    """Makes full features of augmented utterances, and masks them.

    CMVN per speaker uses the speaker's utterances at the same speed and warp, as if they came from another speaker.
    These statistics are computed when they are needed first, and kept. An utterance with another room, noise, level or
    codec is normalised with its own statistics, like a recording of an unknown speaker. The object can be pickled.

    `stats` has the means and variances so far: speaker -> (speeds, warps, 2, D).
    """

    def __init__(self, config: AugmentConfig, feats: FeatureLoader, audio: AudioTable | None = None) -> None:
        """Make an augmenter.

        Args:
            config: the settings.
            feats: the features of the utterances.
            audio: their audio at the sampling rate of the features; None if only masks are used.

        Raises:
            ConfigError: `vtlp` cannot be used with the features' backend or filter bank, or a codec is not available.
        """
        self.config = config
        self._feats, self._audio = feats, audio
        self._speeds = config.speeds or (1.0,)
        self._warps = (1.0,)
        if config.vtlp:
            self._warps = tuple(np.linspace(1 - config.vtlp, 1 + config.vtlp, NUM_WARPS).round(6).tolist())
        self._extractors = [FeatureExtractor(feats.config, warp) for warp in self._warps] if audio is not None else []
        ways = [
            (config.nobody_prob, self._without_speech),
            (config.reverb_prob, self._in_a_room),
            (config.noise_prob, self._with_noise),
            (config.level_prob, self._at_a_level),
            (config.codec_prob, self._through_a_codec),
        ]
        # The draw for noise is always made, since the draws for the other settings depend on it.
        self._ways = [(share, way) for share, way in ways if share or way == self._with_noise]
        alone = feats.config.with_normalization(feats.config.normalization.without_speaker)
        self._alone = [FeatureExtractor(alone, warp) for warp in self._warps] if any(share for share, _ in ways) else []
        if config.codec_prob:
            check_codecs(config.codecs)
        rate = feats.config.sample_rate
        silence = Waveform(np.zeros(feats.config.framing.samples_needed, np.float32), rate)
        self._silence = FeatureExtractor(feats.config)(silence)[:1] if config.pause_prob else np.empty(0)
        self.stats: dict[int, np.ndarray] = {}
        if feats.config.normalization.per_speaker and audio is not None:
            self._num_frames = feats.all_num_frames().values_by_row

    @classmethod
    def open(cls, config: AugmentConfig, feats: FeatureLoader, decode_once: bool = True) -> Augmenter:
        """Make an augmenter with the audio of the features' data directory, if `config` needs audio.

        Args:
            config, feats: as for `__init__`.
            decode_once: store audio that takes long to decode, decoded, for the next epoch (see AudioTable), unless
                features are computed when they are read.

        Raises:
            DataError: audio is missing or not in files; or another tool made the features, so that their settings are
                unknown.
        """
        if not needs_audio(config):
            return cls(config, feats)
        if feats.made_with is None:
            raise DataError(
                f"{feats.data_dir / 'feats.json'}: not found; training.augment computes features anew and has to know "
                "how these were made: make them with asrkit extract, or set speeds to [] and vtlp, noise_prob, "
                "reverb_prob, level_prob and codec_prob to 0"
            )
        audio = feats.open_audio()
        if decode_once and not feats.are_computed:  # audio is ten times as big
            audio.decode_once(feats.utt_ids)
        return cls(config, feats, audio)

    @property
    def join_prob(self) -> float:
        """The share of utterances that come right after another one; whoever asks for them joins them."""
        return self.config.join_prob

    def __call__(self, utt_id: str, rng: np.random.Generator, min_frames: int = 1) -> Augmented:
        """The augmented features of an utterance, without masks; see `mask`. All draws come from `rng`.

        If there would be fewer than `min_frames` frames, the speed is 1.
        """
        made = self._make(utt_id, rng, min_frames)
        stats = made.stats()
        if self.config.cut_prob and rng.random() < self.config.cut_prob:
            static = made.static()
            first, last = self._ends(static, rng)
            if last - first >= min_frames:
                feats = full_features(static[first:last], stats, made.config)
                return Augmented(feats, made.speed, (-first, last - len(static)), made.is_speech)
        if self.config.pause_prob == 0.0 or rng.random() >= self.config.pause_prob:
            return Augmented(made.full(stats), made.speed, is_speech=made.is_speech)
        static = made.static()
        before, behind = (self._pause(static, rng) for _ in range(2))
        feats = full_features(np.concatenate([before, static, behind]), stats, made.config)
        return Augmented(feats, made.speed, (len(before), len(behind)), made.is_speech)

    def _ends(self, static: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
        """Where speech begins and ends in static features (T, D): the first frame, and the one after the last."""
        levels, steps = SpeechLevels(), self._feats.config.normalization.level.steps(static)
        levels.add(steps)
        loud = (steps >= levels.lowest(num_counted=2 * len(steps))).nonzero()[0]
        before, behind = rng.integers(_LEFT_FRAMES + 1, size=2).tolist()
        return max(int(loud[0]) - before, 0), min(int(loud[-1]) + 1 + behind, len(static))

    def _pause(self, static: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Static features (t, D) of a pause: random frames of the utterance's quietest tenth, or digital silence."""
        if rng.random() >= _PAUSE_AT_AN_END:
            return static[:0]
        shortest, longest = _PAUSE_FRAMES
        num_frames = int(np.exp(rng.uniform(np.log(shortest), np.log(longest))))
        if rng.random() < _DIGITAL:
            return self._silence.repeat(num_frames, axis=0)
        by_level = np.argsort(self._feats.config.normalization.level.steps(static), kind="stable")
        return static[rng.choice(by_level[: max(len(static) // 10, 1)], num_frames)]

    def _make(self, utt_id: str, rng: np.random.Generator, min_frames: int) -> _Made:
        """The utterance after all augmentation except cuts, pauses and masks."""
        speed = self._speeds[rng.integers(len(self._speeds))]
        warp = int(rng.integers(len(self._warps)))
        ways = [way for share, way in self._ways if rng.random() < share]
        if self._warps[warp] == speed == 1.0 and not ways:
            feats = self._feats
            static, stats = partial(feats.static, utt_id), partial(feats.stats, utt_id)
            return _Made(speed, stats, static, lambda found: full_features(static(), found, feats.config), feats.config)
        original = self._recordings[utt_id]
        waveform = change_speed(original, speed)
        if self._extractors[warp].num_frames(len(waveform.samples)) < max(min_frames, 1):
            # Drop the warp, too: there are no statistics for it at a speed that is not in the settings.
            waveform, speed, warp = original, 1.0, self._warps.index(1.0)
        # Not a lambda: a test counts the calls between a command and its first features.
        stats = partial(self._global_stats) if ways else partial(self._speaker_stats, utt_id, speed, warp)
        for way in ways:
            waveform = way(waveform, rng)
        extract = (self._alone if ways else self._extractors)[warp]
        static = partial(extract, waveform, utt_id)
        full, is_speech = partial(extract.full, waveform, utt_id), self._without_speech not in ways
        return _Made(speed, stats, static, full, extract.config, is_speech)

    @property
    def _recordings(self) -> AudioTable:
        assert self._audio is not None, "settings that change audio come with it"
        return self._audio

    def _without_speech(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        """A sound without speech, as long and as loud as the utterance."""
        sound = sound_without_speech(len(waveform.samples), waveform.sample_rate, rng)
        return replace(waveform, samples=sound * waveform.samples.std())

    def _in_a_room(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        t60 = _between(self.config.reverb_t60, rng)
        response = room_response(t60, waveform.sample_rate, rng)
        return replace(waveform, samples=reverberate(waveform.samples, response))

    def _with_noise(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        snr_db = _between(self.config.noise_snr_db, rng)
        return replace(waveform, samples=add_noise(waveform.samples, self._noise(waveform, rng), snr_db))

    def _noise(self, waveform: Waveform, rng: np.random.Generator) -> np.ndarray:
        """Noise as long as the waveform, of a random kind."""
        kind = self.config.noises[rng.integers(len(self.config.noises))]
        return NOISES[kind](Scene(len(waveform.samples), waveform.sample_rate, self._talkers), rng)

    def _talkers(self, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Yield samples of the utterances for babble."""
        for row in rng.integers(len(self._feats.utt_ids), size=_NUM_TALKERS):
            yield self._recordings[self._feats.utt_ids[int(row)]].samples

    def _at_a_level(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        return replace(waveform, samples=set_level(waveform.samples, _between(self.config.level_db, rng)))

    def _through_a_codec(self, waveform: Waveform, rng: np.random.Generator) -> Waveform:
        codec = CODECS[self.config.codecs[rng.integers(len(self.config.codecs))]]
        return codec(waveform, _between(self.config.codec_kbps, rng))

    def _global_stats(self) -> np.ndarray | None:
        """The statistics for CMVN without a speaker."""
        return self._feats.global_stats

    def _speaker_stats(self, utt_id: str, speed: float, warp: int) -> np.ndarray | None:
        """CMVN statistics (2, D + 1) at a speed and warp. For an unchanged utterance they are the stored ones."""
        stored = self._feats.stats(utt_id)
        if not self._feats.config.normalization.per_speaker or self._warps[warp] == speed == 1.0:
            return stored
        speaker = int(self._feats.speakers[self._feats.utt_ids.row(utt_id)])
        if speaker not in self.stats:
            self.stats[speaker] = self._measure(speaker)
        mean, variance = self.stats[speaker][self._speeds.index(speed), warp].astype(np.float64)
        return np.array([[*mean, 1.0], [*(variance + mean * mean), 0.0]])  # as if from one frame

    def _measure(self, speaker: int) -> np.ndarray:
        """Means and variances of a speaker's static features, (speeds, warps, 2, D) float32."""
        rows = np.flatnonzero(self._feats.speakers == speaker)
        rows = rows[np.argsort(-self._num_frames[rows], kind="stable")]
        before = np.cumsum(self._num_frames[rows]) - self._num_frames[rows]
        mode = self._feats.config.normalization
        sums = np.zeros((len(self._speeds), len(self._warps), 2, self._feats.config.num_static + 1))
        for utt_id in (self._feats.utt_ids[row] for row in rows[before < _STATS_FRAMES].tolist()):
            original = self._recordings[utt_id]
            for sums_at_speed, speed in zip(sums, self._speeds, strict=True):
                waveform = change_speed(original, speed)
                if self._extractors[0].num_frames(len(waveform.samples)):
                    for warp, extractor in enumerate(self._extractors):
                        sums_at_speed[warp] += mode.statistics(extractor(waveform, utt_id))
        sums = np.stack([[self._feats.filled(stats) for stats in at_speed] for at_speed in sums])
        means = sums[..., :-1] / sums[..., :1, -1:]
        means[..., 1, :] -= means[..., 0, :] ** 2
        return means.astype(np.float32)

    def mask(self, feats: np.ndarray, rng: np.random.Generator) -> None:
        """Mask the features `feats` (T, dim) in place.

        The value is 0, the mean after CMVN; without CMVN the utterance's mean.
        """
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
            for first in range(start, feats.shape[1], num_static):  # the coefficients and their deltas
                feats[:, first : first + size] = fill[first : first + size]


def _between(ends: Sequence[float], rng: np.random.Generator) -> float:
    low, high = ends
    return rng.uniform(low, high)


def needs_audio(config: AugmentConfig) -> bool:
    """Whether features must be computed again from audio."""
    ways = config.nobody_prob, config.noise_prob, config.reverb_prob, config.level_prob, config.codec_prob
    return any(speed != 1.0 for speed in config.speeds) or any((config.vtlp, *ways))


def is_active(config: AugmentConfig) -> bool:
    """Whether anything is augmented at all."""
    parts = config.cut_prob, config.pause_prob, config.join_prob, config.time_masks, config.coefficient_masks
    return needs_audio(config) or any(parts)


def change_speed(waveform: Waveform, speed: float) -> Waveform:
    """Play the waveform `speed` times as fast. It becomes shorter and higher, at the same sampling rate."""
    if speed == 1.0:
        return waveform
    rate = waveform.sample_rate
    samples = soxr.resample(waveform.samples, rate * speed, rate, quality="HQ")
    return Waveform(np.ascontiguousarray(samples, np.float32), rate)
