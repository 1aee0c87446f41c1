"""Recognition of recordings of any length in limited memory.

Many static features go to a temporary file. The network then runs over windows of them. A unidirectional network
carries its state from one window to the next. A bidirectional network, or one with attention, begins a few seconds
before each window and ends a few seconds after it; the outputs for these seconds are dropped.

The search continues from window to window. Phones to which it is committed get their times (phone_time_stream.py). A
recording that is not longer than a window is one window, so its result is that of the whole recording.

A model with an attention decoder uses pieces instead of windows. They are cut in pauses (pieces.py), and each is
recognised separately.

Legend: T frames, D static features, T' steps of the network, V output classes.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from asrkit.audio.read import no_room
from asrkit.decoding.search import BeamResult, Search
from asrkit.features.cmvn import Normalizer
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.stream import StaticStream
from asrkit.inference.frame_clock import AudioEnd
from asrkit.inference.hypothesis import (
    add_times,
    is_nothing,
    log_of_blanks,
    log_ratio_of_path,
    log_ratio_to_nothing,
    make_hypothesis,
    no_speech,
)
from asrkit.inference.model import Model, Outputs, steps_of_frames
from asrkit.inference.onnx_model import OnnxModel, OutputStream
from asrkit.inference.phone_time_stream import FullFeatures, PhoneTimeStream, settle_steps
from asrkit.inference.phone_timer import PhoneTimer, Stretch, TimedPhones
from asrkit.inference.pieces import pieces
from asrkit.types import Hypothesis, PhoneTime, Waveform

_BLOCK = 2**14  # frames
_PIECES_AT_ONCE = 16  # pieces that are searched together
_IN_MEMORY = 2**22  # bytes of features, about a quarter of an hour


@dataclass(frozen=True)
class Windows:
    """Lengths in seconds.

    Attributes:
        length: of a window.
        context: before and after a window, for a network that looks ahead.
    """

    length: float = 120.0
    context: float = 10.0


class StaticFeatures:
    """The input of a model for one recording: static features (T, D), normalised if necessary, which are read in parts.

    Close it, or use it in a `with` statement.

    Attributes:
        num_frames: T.
        dim: D.
    """

    def __init__(
        self,
        blocks: Iterable[np.ndarray],
        extractor: FeatureExtractor,
        name: str,
        normalize: Normalizer = lambda static: static,
    ) -> None:
        """Compute the features of a recording.

        Args:
            blocks: samples, (num_samples,) each, at the sampling rate of the extractor.
            extractor: computes the static features.
            name: the name of the recording in messages.
            normalize: the model's input_normalizer.

        Raises:
            AudioError: as FeatureExtractor; or the disk is full.
        """
        self.dim = extractor.num_static
        self.num_frames = 0
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed by close)
        try:
            for static in _static_blocks(blocks, extractor, name):
                self._keep(normalize(static), name)
                self.num_frames += len(static)
        except BaseException:
            with contextlib.suppress(OSError):  # closing also writes the rest, which can fail
                self.close()
            raise

    def _keep(self, static: np.ndarray, name: str) -> None:
        try:
            self._file.write(np.ascontiguousarray(static).tobytes())
            self._file.flush()
        except OSError as error:
            raise no_room(name, error) from None

    def read(self, begin: int, end: int) -> np.ndarray:
        """The frames from `begin` to `end` that exist, (t, D) float32."""
        begin, end = max(begin, 0), min(end, self.num_frames)
        row_bytes = 4 * self.dim
        self._file.seek(begin * row_bytes)
        return np.frombuffer(self._file.read((end - begin) * row_bytes), np.float32).reshape(-1, self.dim)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all frames in order, (t, D) with some thousands of frames each."""
        for begin in range(0, self.num_frames, _BLOCK):
            yield self.read(begin, begin + _BLOCK)

    def close(self) -> None:
        """Delete the temporary file."""
        self._file.close()

    def __enter__(self) -> StaticFeatures:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _static_blocks(blocks: Iterable[np.ndarray], extractor: FeatureExtractor, name: str) -> Iterator[np.ndarray]:
    if not extractor.takes_streams:
        yield extractor(Waveform(np.concatenate(list(blocks)), extractor.config.sample_rate), name)
        return
    stream = StaticStream(extractor, name)
    for samples in blocks:
        yield stream.accept(samples)
    yield stream.finish()


@dataclass(frozen=True)
class _Piece:
    """The results for a piece of a recording, the times of the best one, and its log_ratio_to_nothing."""

    results: list[BeamResult]
    timed: TimedPhones
    log_ratio: float


@dataclass(frozen=True)
class WindowedRecognizer:
    """Recognises recordings window by window. Any number of threads can use one object.

    Attributes:
        model: the network, with its settings.
        search: finds phones in its outputs.
        timer: finds the times of phones.
        windows: lengths of windows and context.
    """

    model: Model
    search: Search
    timer: PhoneTimer
    windows: Windows = Windows()

    def recognize(
        self,
        static: StaticFeatures,
        utt_id: str,
        duration: float,
        *,
        with_times: bool = True,
        num_best: int = 0,
    ) -> Hypothesis:
        """Recognise one recording of `duration` seconds, by default with times and confidences.

        With `num_best` the hypothesis has up to that many alternatives. Those of a long recording differ only in its
        last part.
        """
        mode, stats = self.model.features.normalization, self.model.global_cmvn
        if mode.needs_whole_utterance:
            stats = mode.statistics_of(static.blocks)
        if not mode.holds_speech(stats, self.model.global_cmvn):
            return no_speech(utt_id, with_times)
        stats = mode.filled(stats, self.model.global_cmvn)
        if not self.search.takes_streams:
            found = self._pieces(static, stats, Stretch(utt_id, AudioEnd(static.num_frames, duration)), num_best)
            return self._joined(found, utt_id, duration, with_times, num_best)
        phone_times = None
        if with_times:
            features = FullFeatures(static, stats, self.model.features)
            phone_times = PhoneTimeStream(self.timer, features, utt_id, duration)
        search = self.search.stream(settle_steps(self.timer.clock))
        ids: list[int] = []
        log_ratio, heads = 0.0, self.model.config.heads
        by_frame = with_times and heads.has_frames
        for number, outputs in enumerate(self.outputs(static, stats, by_frame)):
            if number:
                committed = search.commit()
                ids += committed
                if phone_times is not None:
                    search.use_up(phone_times.time(committed, search.best()[0].tokens))
            search.advance(outputs.log_probs)
            if heads.has_decoder:
                log_ratio += log_ratio_of_path(self.search, heads, outputs.log_probs)
            else:
                log_ratio -= log_of_blanks(outputs.log_probs)
            if phone_times is not None:
                phone_times.accept(outputs)

        results = search.finish(max(num_best, 1))
        labelings = [replace(result, tokens=(*ids, *result.tokens)) for result in results]
        log_ratio += 0.0 if heads.has_decoder else labelings[0].ctc_log_prob
        if is_nothing(labelings[0], log_ratio, duration):
            return no_speech(utt_id, with_times)
        hypothesis = make_hypothesis(utt_id, self.model.tokens, labelings, num_best)
        if phone_times is None:
            return hypothesis
        phone_times.time((), results[0].tokens, is_end=True)
        return add_times(hypothesis, tuple(phone_times.times), tuple(phone_times.confidences))

    def _pieces(self, static: StaticFeatures, stats: np.ndarray, stretch: Stretch, num_best: int) -> Iterator[_Piece]:
        """Yield the results for each piece."""
        features = FullFeatures(static, stats, self.model.features)
        bounds = pieces(static, self.model.features.normalization.level, self.timer.clock)
        while some := list(islice(bounds, _PIECES_AT_ONCE)):
            stored = [self.model.log_probs(static.read(*each), stats) for each in some]
            for each, found, results in zip(
                some, stored, self.search.decode_all(stored, num_best=max(num_best, 1)), strict=True
            ):
                part = replace(stretch, first_frame=each[0])
                timed = self.timer.time(Outputs(found), features.read(*each), results[0].tokens, part)
                ratio = log_ratio_to_nothing(self.search, self.model.config.heads, found, results[0])
                yield _Piece(results, timed, ratio)

    def _joined(
        self, found: Iterator[_Piece], utt_id: str, duration: float, with_times: bool, num_best: int
    ) -> Hypothesis:
        """One hypothesis for all pieces. Its alternatives differ only in the last piece."""
        best, times, confidences = BeamResult((), 0.0, 0.0, 0.0), list[PhoneTime](), list[float]()
        log_ratio = 0.0
        for piece in found:
            results = [
                BeamResult(
                    (*best.tokens, *each.tokens),
                    best.score + each.score,
                    best.ctc_log_prob + each.ctc_log_prob,
                    best.lm_log_prob + each.lm_log_prob,
                )
                for each in piece.results
            ]
            best = results[0]
            times += piece.timed.times
            confidences += self.timer.confidences(piece.timed.evidence)
            log_ratio += piece.log_ratio
        if is_nothing(best, log_ratio, duration):
            return no_speech(utt_id, with_times)
        hypothesis = make_hypothesis(utt_id, self.model.tokens, results, num_best)
        return add_times(hypothesis, tuple(times), tuple(confidences)) if with_times else hypothesis

    def outputs(self, static: StaticFeatures, stats: np.ndarray, by_frame: bool) -> Iterator[Outputs]:
        """Yield the outputs of the heads for each window: log_probs of the steps.

        Args:
            static: the input of the model.
            stats: (2, D + 1) CMVN statistics.
            by_frame: also give frame_log_probs, one row per frame. A frame can come one window later than its step.
        """
        step = self.timer.clock.step
        length, context = (max(round(seconds / step), 1) for seconds in (self.windows.length, self.windows.context))
        if isinstance(self.model, OnnxModel) and not self.model.bidirectional:
            return _carried_outputs(self.model, static, stats, by_frame, length)
        return _overlapping_outputs(self.model, static, stats, by_frame, length, context)


def _overlapping_outputs(
    model: Model, static: StaticFeatures, stats: np.ndarray, by_frame: bool, length: int, context: int
) -> Iterator[Outputs]:
    """The outputs of windows of `length` steps. Each is computed with `context` more steps on either side."""
    skip = model.config.skip
    num_steps = -(-static.num_frames // skip)
    for begin in range(0, num_steps, length):
        end = min(begin + length, num_steps)
        first = max(begin - context, 0)
        window = static.read(first * skip, (end + context) * skip)
        log_probs = model.log_probs(window, stats)[begin - first : end - first]
        frames = model.outputs_by_frame(window, stats).frame_log_probs if by_frame else None
        if frames is not None:
            frames = frames[(begin - first) * skip : (end - first) * skip]
        yield Outputs(log_probs, frames)


def _carried_outputs(
    model: OnnxModel, static: StaticFeatures, stats: np.ndarray, by_frame: bool, length: int
) -> Iterator[Outputs]:
    """The outputs of a unidirectional model, which carries its state from one window of `length` steps to the next."""
    streams = [OutputStream(model, stats, phase) for phase in range(model.skip if by_frame else 1)]
    frames = _FramesOfPhases(model.skip, model.stack, static.num_frames)
    for begin in range(0, static.num_frames, length * model.skip):
        window = static.read(begin, begin + length * model.skip)
        is_end = begin + len(window) == static.num_frames
        phases = [_next_outputs(stream, window, is_end) for stream in streams]
        yield Outputs(phases[0].log_probs, frames.next(phases, is_end) if by_frame else None)


def _next_outputs(stream: OutputStream, window: np.ndarray, is_end: bool) -> Outputs:
    outputs = [stream.accept(window), *([stream.finish()] if is_end else [])]
    frames = [each.frame_log_probs for each in outputs if each.frame_log_probs is not None]
    return Outputs(np.concatenate([each.log_probs for each in outputs]), np.concatenate(frames) if frames else None)


class _FramesOfPhases:
    """Joins the outputs of a frame-wise head in all phases of frame skipping to one row per frame, window by window."""

    def __init__(self, skip: int, stack: int, num_frames: int) -> None:
        self._skip, self._stack, self._num_frames = skip, stack, num_frames
        self._held: list[np.ndarray] = []  # per phase, the outputs from _first_step on, which are still needed
        self._first_step = self._next_frame = 0

    def next(self, phases: Sequence[Outputs], is_end: bool) -> np.ndarray:
        """Take the next outputs of each phase. Returns the rows (t, V - 1) of the frames that are complete now."""
        new = [outputs.frame_log_probs for outputs in phases if outputs.frame_log_probs is not None]
        self._held = [np.concatenate(pair) for pair in zip(self._held, new, strict=True)] if self._held else new
        num_held = min(map(len, self._held))
        last_step = self._first_step + num_held - 1
        middle = (self._stack - 1) // 2
        end = self._num_frames if is_end else max(middle + last_step * self._skip + 1, 0)
        phase_of, step_of = steps_of_frames(np.arange(self._next_frame, end), self._skip, self._stack)
        step_of = step_of.clip(0, last_step) - self._first_step
        frames: np.ndarray = np.stack([head[:num_held] for head in self._held])[phase_of, step_of]
        self._next_frame = end
        num_past = max((end - middle + self._skip - 1) // self._skip, 0) - self._first_step
        self._held, self._first_step = [head[num_past:] for head in self._held], self._first_step + num_past
        return frames
