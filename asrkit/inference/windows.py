"""Recognition of recordings of any length in bounded memory.

Static features go to a temporary file when they are many. Then the network runs over windows of them: that of a
unidirectional model carries its state from one to the next, that of a bidirectional one or of one with attention begins
a few seconds before each window and ends a few seconds after it, and what it gives for those is thrown away. The search
goes on from window to window, and phones that it is committed to are timed (phone_time_stream.py). A recording that is
no longer than a window is one window: its result is that of the whole. A model with an attention decoder takes pieces
in place of windows, which are cut in pauses (pieces.py), and hears each by itself.

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
from asrkit.inference.hypothesis import add_times, is_nothing, log_of_blanks, make_hypothesis, no_speech
from asrkit.inference.model import Model, Outputs, steps_of_frames
from asrkit.inference.onnx_model import OnnxModel, OutputStream
from asrkit.inference.phone_time_stream import FullFeatures, PhoneTimeStream, settle_steps
from asrkit.inference.phone_timer import PhoneTimer, Stretch, TimedPhones
from asrkit.inference.pieces import pieces
from asrkit.types import Hypothesis, PhoneTime, Waveform

_BLOCK = 2**14  # frames
_PIECES_AT_ONCE = 16  # that are searched together
_IN_MEMORY = 2**22  # bytes of features: those of a quarter of an hour


@dataclass(frozen=True)
class Windows:
    """Seconds: `length` of a window; `context` before and after it for a network that looks ahead."""

    length: float = 120.0
    context: float = 10.0


class StaticFeatures:
    """A model's input for one recording, (T, D), read in parts: static features, normalized if necessary.

    Close it, or use it in a `with` statement. `num_frames`: T.
    """

    def __init__(
        self,
        blocks: Iterable[np.ndarray],
        extractor: FeatureExtractor,
        name: str,
        normalize: Normalizer = lambda static: static,
    ) -> None:
        """`blocks` of samples (num_samples,) at the extractor's rate; `normalize`: the model's input_normalizer.

        Raises AudioError as FeatureExtractor.
        """
        self.dim = extractor.num_static
        self.num_frames = 0
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed by close)
        try:
            for static in _static_blocks(blocks, extractor, name):
                self._keep(normalize(static), name)
                self.num_frames += len(static)
        except BaseException:
            with contextlib.suppress(OSError):  # closing writes what is left, too
                self.close()
            raise

    def _keep(self, static: np.ndarray, name: str) -> None:
        try:
            self._file.write(np.ascontiguousarray(static).tobytes())
            self._file.flush()
        except OSError as error:
            raise no_room(name, error) from None

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames `begin` to `end`, those that there are."""
        begin, end = max(begin, 0), min(end, self.num_frames)
        row_bytes = 4 * self.dim
        self._file.seek(begin * row_bytes)
        return np.frombuffer(self._file.read((end - begin) * row_bytes), np.float32).reshape(-1, self.dim)

    def blocks(self) -> Iterator[np.ndarray]:
        """All frames in order, some thousands at a time."""
        for begin in range(0, self.num_frames, _BLOCK):
            yield self.read(begin, begin + _BLOCK)

    def close(self) -> None:
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
class WindowedRecognizer:
    """Recognizes recordings window by window; `search` and `timer` find phones in what the `model` gives.

    One object serves any number of threads.
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
        """Recognize one recording of `duration` seconds, with times and confidences unless they are not wanted.

        With `num_best` the hypothesis has up to so many alternatives; those of a long recording differ in its last
        part.
        """
        mode, stats = self.model.features.normalization, self.model.global_cmvn
        if mode.needs_whole_utterance:
            stats = mode.statistics_of(static.blocks)
        if not mode.holds_speech(stats, self.model.global_cmvn):
            return no_speech(utt_id, with_times)
        stats = mode.filled(stats, self.model.global_cmvn)
        if self.model.decoder is not None:
            found = self._pieces(static, stats, Stretch(utt_id, AudioEnd(static.num_frames, duration)), num_best)
            return self._joined(found, utt_id, with_times, num_best)
        phone_times = None
        if with_times:
            features = FullFeatures(static, stats, self.model.features)
            phone_times = PhoneTimeStream(self.timer, features, utt_id, duration)
        search = self.search.stream(settle_steps(self.timer.clock))
        ids: list[int] = []
        no_phones = 0.0
        by_frame = with_times and self.model.config.heads.has_frames
        for number, outputs in enumerate(self.outputs(static, stats, by_frame)):
            if number:
                committed = search.commit()
                ids += committed
                if phone_times is not None:
                    phone_times.time(committed, search.best()[0].tokens)
            search.advance(outputs.log_probs)
            no_phones += log_of_blanks(outputs.log_probs)
            if phone_times is not None:
                phone_times.accept(outputs)

        results = search.finish(max(num_best, 1))
        labelings = [replace(result, tokens=(*ids, *result.tokens)) for result in results]
        if is_nothing(labelings[0], no_phones, duration):
            return no_speech(utt_id, with_times)
        hypothesis = make_hypothesis(utt_id, self.model.tokens, labelings, num_best)
        if phone_times is None:
            return hypothesis
        phone_times.time((), results[0].tokens, is_end=True)
        return add_times(hypothesis, tuple(phone_times.times), tuple(phone_times.confidences))

    def _pieces(
        self, static: StaticFeatures, stats: np.ndarray, stretch: Stretch, num_best: int
    ) -> Iterator[tuple[list[BeamResult], TimedPhones]]:
        """What is found in each piece, and its phones' times."""
        features = FullFeatures(static, stats, self.model.features)
        bounds = pieces(static, self.model.features.normalization.level, self.timer.clock)
        while some := list(islice(bounds, _PIECES_AT_ONCE)):
            stored = [self.model.log_probs(static.read(*each), stats) for each in some]
            for each, found, results in zip(
                some, stored, self.search.decode_all(stored, num_best=max(num_best, 1)), strict=True
            ):
                outputs = Outputs(self.search.emissions(found, results[0].tokens))
                part = replace(stretch, first_frame=each[0])
                yield results, self.timer.time(outputs, features.read(*each), results[0].tokens, part)

    def _joined(
        self, found: Iterator[tuple[list[BeamResult], TimedPhones]], utt_id: str, with_times: bool, num_best: int
    ) -> Hypothesis:
        """One hypothesis of all pieces; its alternatives differ in the last one."""
        best, times, confidences = BeamResult((), 0.0, 0.0, 0.0), list[PhoneTime](), list[float]()
        for results, timed in found:
            results = [
                BeamResult(
                    (*best.tokens, *each.tokens),
                    best.score + each.score,
                    best.ctc_log_prob + each.ctc_log_prob,
                    best.lm_log_prob + each.lm_log_prob,
                )
                for each in results
            ]
            best = results[0]
            times += timed.times
            confidences += self.timer.confidences(timed.evidence)
        hypothesis = make_hypothesis(utt_id, self.model.tokens, results, num_best)
        return add_times(hypothesis, tuple(times), tuple(confidences)) if with_times else hypothesis

    def outputs(self, static: StaticFeatures, stats: np.ndarray, by_frame: bool) -> Iterator[Outputs]:
        """The heads' outputs per window: log_probs of the steps and, with `by_frame`, frame_log_probs of the frames.

        Without `by_frame` there are no frame_log_probs. Frames may come a window later than the steps they are in.
        """
        step = self.timer.clock.step
        length, context = (max(round(seconds / step), 1) for seconds in (self.windows.length, self.windows.context))
        if isinstance(self.model, OnnxModel) and not self.model.bidirectional:
            return _carried_outputs(self.model, static, stats, by_frame, length)
        return _overlapping_outputs(self.model, static, stats, by_frame, length, context)


def _overlapping_outputs(
    model: Model, static: StaticFeatures, stats: np.ndarray, by_frame: bool, length: int, context: int
) -> Iterator[Outputs]:
    """The outputs of windows of `length` steps, each computed with `context` steps more on either side."""
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
    """The outputs of a unidirectional model, whose state goes from one window of `length` steps to the next."""
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
    """Joins what a frame-wise head gives, window by window, in every phase of frame skipping to that of the frames."""

    def __init__(self, skip: int, stack: int, num_frames: int) -> None:
        self._skip, self._stack, self._num_frames = skip, stack, num_frames
        self._held: list[np.ndarray] = []  # of each phase, the outputs that are still needed, from _first_step on
        self._first_step = self._next_frame = 0

    def next(self, phases: Sequence[Outputs], is_end: bool) -> np.ndarray:
        """Take the next outputs of each phase; return those of the frames (t, V - 1) that are complete now."""
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
