"""Recognition of recordings of any length in bounded memory.

Static features go to a temporary file when they are many. Then the network runs over windows of them: that of a
unidirectional model carries its state from one to the next, that of a bidirectional one begins a few seconds before
each window and ends a few seconds after it, and what it gives for those is thrown away. The search goes on from window
to window. Phones that it is committed to get their times by aligning the steps since a phone that is timed already.
A recording that is no longer than a window is one window: its result is that of the whole.

Legend: T frames, D static features, T' steps of the network, V output classes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from asrkit.decoding.confidence import phone_evidence
from asrkit.decoding.decoder import Decoder
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.search import SearchStream
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import full_features
from asrkit.features.stream import StaticStream
from asrkit.inference.onnx_model import OnnxModel, Outputs, OutputStream
from asrkit.types import Alternative, Hypothesis, PhoneTime, Waveform

if TYPE_CHECKING:
    from asrkit.inference.torch_model import TorchModel

_IN_MEMORY = 2**22  # bytes of features: those of a quarter of an hour
_SETTLE = 10.0  # seconds: what is twice as old cannot change any more (prefix_beam.BeamStream)
_LONGEST_GAP = 300.0  # seconds to which the next phone's time may go back
_CONTEXT_TOKENS = 16  # to either side of a phone, for its time and confidence: more than any language model looks at


@dataclass(frozen=True)
class Windows:
    """Seconds: `length` of a window; `context` before and after it for a bidirectional network."""

    length: float = 120.0
    context: float = 10.0


class StaticFeatures:
    """Static features (T, D) of one recording, which are read in parts. Close it, or use it in a `with` statement.

    `stats` (2, D + 1): its CMVN statistics. `num_frames`: T.
    """

    def __init__(self, blocks: Iterable[np.ndarray], extractor: FeatureExtractor, name: str) -> None:
        """`blocks` of samples (num_samples,) at the extractor's rate. Raises AudioError as FeatureExtractor."""
        self.dim = extractor.num_static
        self.num_frames = 0
        self.stats = np.zeros((2, self.dim + 1))
        self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 (closed by close)
        try:
            for static in _static_blocks(blocks, extractor, name):
                self._file.write(np.ascontiguousarray(static))
                self.num_frames += len(static)
                self.stats += accumulate(static)
        except BaseException:
            self.close()
            raise

    def read(self, begin: int, end: int) -> np.ndarray:
        """Frames `begin` to `end`, those that there are."""
        begin, end = max(begin, 0), min(end, self.num_frames)
        row_bytes = 4 * self.dim
        self._file.seek(begin * row_bytes)
        return np.frombuffer(self._file.read((end - begin) * row_bytes), np.float32).reshape(-1, self.dim)

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


def recognise(
    model: OnnxModel | TorchModel,
    decoder: Decoder,
    static: StaticFeatures,
    duration: float,
    utt_id: str,
    *,
    with_times: bool = True,
    num_best: int = 0,
    windows: Windows = Windows(),
) -> Hypothesis:
    """Recognise one recording of `duration` seconds, with times and confidences unless they are not wanted.

    With `num_best` the hypothesis has up to so many alternatives, of which a long recording's differ in its last part.
    """
    stats = static.stats if model.features.normalization.needs_whole_utterance else model.global_cmvn
    timer = PhoneTimer(decoder, static, stats, model.features, duration, utt_id) if with_times else None
    search = start_search(decoder)
    ids: list[int] = []
    by_frame = with_times and model.config.heads.has_frames
    for number, outputs in enumerate(_outputs(model, static, stats, by_frame, windows, decoder.clock.shift)):
        if number:
            committed = search.commit()
            ids += committed
            if timer is not None:
                timer.time(committed, search.best()[0].tokens)
        search.advance(outputs.log_probs)
        if timer is not None:
            timer.accept(outputs)

    results = search.finish(max(num_best, 1))
    labellings = [decoder.tokens.decode((*ids, *result.tokens)) for result in results]
    alternatives = tuple(
        Alternative(phones, result.score, result.ctc_log_prob)
        for phones, result in zip(labellings[:num_best], results, strict=False)
    )
    found = Hypothesis(utt_id, labellings[0], results[0].ctc_log_prob, alternatives=alternatives)
    if timer is None:
        return found
    timer.time((), results[0].tokens, is_end=True)
    confidences = tuple(timer.confidences)
    mean = float(np.mean(confidences)) if confidences else 0.0
    return replace(found, times=tuple(timer.times), confidences=confidences, confidence=mean)


def start_search(decoder: Decoder) -> SearchStream:
    """The search that `decoder` is set to, for frames that come in pieces."""
    return decoder.search.stream(max(round(_SETTLE / (decoder.clock.shift * decoder.clock.skip)), 1))


def _outputs(
    model: OnnxModel | TorchModel,
    static: StaticFeatures,
    stats: np.ndarray,
    by_frame: bool,
    windows: Windows,
    shift: float,
) -> Iterator[Outputs]:
    """What the heads give, window by window: log_probs of the steps and, `by_frame`, frame_log_probs of the frames.

    Without `by_frame` there are no frame_log_probs. Frames may come a window later than the steps they are in.
    """
    skip, num_frames = model.config.skip, static.num_frames
    length, context = (max(round(seconds / shift / skip), 1) for seconds in (windows.length, windows.context))
    if isinstance(model, OnnxModel) and not model.bidirectional:
        yield from _carried(model, static, stats, by_frame, length * skip)
        return
    num_steps = -(-num_frames // skip)
    for begin in range(0, num_steps, length):
        end = min(begin + length, num_steps)
        first = max(begin - context, 0)
        window = static.read(first * skip, (end + context) * skip)
        log_probs = model.log_probs(window, stats)[begin - first : end - first]
        frames = None
        if by_frame:
            frames = model.outputs_by_frame(window, stats).frame_log_probs
            frames = frames[(begin - first) * skip : (end - first) * skip]
        yield Outputs(log_probs, frames)


def _carried(
    model: OnnxModel, static: StaticFeatures, stats: np.ndarray, by_frame: bool, length: int
) -> Iterator[Outputs]:
    """_outputs of a unidirectional model, whose state goes from one window of `length` frames to the next."""
    skip, middle, num_frames = model.skip, (model.stack - 1) // 2, static.num_frames
    streams = [OutputStream(model, stats, phase) for phase in range(skip if by_frame else 1)]
    pending: list[np.ndarray] = []  # of each phase, what its head by frame gave from step `first_step` on
    first_step = next_frame = 0
    for begin in range(0, num_frames, length):
        window = static.read(begin, begin + length)
        pieces = [[stream.accept(window)] for stream in streams]
        if begin + length >= num_frames:
            for piece, stream in zip(pieces, streams, strict=True):
                piece.append(stream.finish())
        log_probs = np.concatenate([outputs.log_probs for outputs in pieces[0]])
        if not by_frame:
            yield Outputs(log_probs, None)
            continue
        new = [np.concatenate([outputs.frame_log_probs for outputs in piece]) for piece in pieces]
        pending = [np.concatenate(pair) for pair in zip(pending, new, strict=True)] if pending else new
        # In phase p step k has its middle in frame middle + k * skip - p (runtime.by_frame).
        num_ready = first_step + min(map(len, pending))
        is_end = begin + length >= num_frames
        end = num_frames if is_end else max(middle + (num_ready - 1) * skip + 1, 0)
        frames = np.arange(next_frame, end) - middle
        steps = ((frames + skip - 1) // skip).clip(0, num_ready - 1) - first_step
        phases = (-frames) % skip
        found = np.stack([head[: num_ready - first_step] for head in pending])[phases, steps]
        yield Outputs(log_probs, found)
        next_frame = end
        drop = max((next_frame - middle + skip - 1) // skip, 0) - first_step
        pending, first_step = [head[drop:] for head in pending], first_step + drop


class PhoneTimer:
    """Times and confidences of phones, as the search commits itself to them.

    It holds the steps from some phones before the first that is not timed yet: those are aligned, and tell where the
    next ones begin. `times` and `confidences` may be taken away. `duration` of the recording, in seconds: inf while it
    is going on. `first_step` of the network is the first that is held.
    """

    def __init__(
        self,
        decoder: Decoder,
        static: StaticFeatures,
        stats: np.ndarray,
        features: FeatureConfig,
        duration: float,
        utt_id: str,
        first_step: int = 0,
    ) -> None:
        self.times: list[PhoneTime] = []
        self.confidences: list[float] = []
        self._decoder, self._static, self._stats, self._utt_id = decoder, static, stats, utt_id
        # So that the recording's statistics are taken rather than a part's own.
        self._features = features.with_normalization(features.normalization.with_given_stats)
        self.duration = duration
        self.first_step = first_step
        self._ids: list[int] = []  # of the phones within the steps that are held, as far as they are certain
        self._num_timed = 0  # of those
        self._log_probs: np.ndarray | None = None
        self._frames: np.ndarray | None = None  # of the head by frame

    @property
    def pending(self) -> tuple[int, ...]:
        """The phones, as tokens, that are certain but not timed yet."""
        return tuple(self._ids[self._num_timed :])

    def accept(self, outputs: Outputs) -> None:
        self._log_probs = _joined(self._log_probs, outputs.log_probs)
        self._frames = _joined(self._frames, outputs.frame_log_probs)

    def time(self, committed: Iterable[int], rest: Iterable[int], is_end: bool = False) -> None:
        """Find times after more phones were `committed`; the `rest`, up to the last step held, may change yet."""
        self._ids += committed
        ids = (*self._ids, *rest)
        decoder, log_probs, frames = self._decoder, self._log_probs, self._frames
        clock, total = decoder.clock, self._static.num_frames
        step = clock.shift * clock.skip
        if not is_end and len(ids) == len(self._ids) and len(log_probs) * step > _LONGEST_GAP:
            # Nothing was said for minutes: what comes next will have its time without what came before.
            self.time((), (), is_end=True)
            self._drop(len(log_probs) - round(_SETTLE / step), len(ids))
            return
        num_certain = len(ids) if is_end else min(len(self._ids), len(ids) - _CONTEXT_TOKENS)
        if num_certain <= self._num_timed:
            return
        aligned = forced_align(log_probs, ids, utt_id=self._utt_id)
        begin = self.first_step * clock.skip
        end = begin + len(log_probs) * clock.skip if frames is None else begin + len(frames)
        feats = self._full_features(begin, min(end, total))
        starts, ends = clock.spans(feats, log_probs, aligned, decoder.silences, frames)
        new = slice(self._num_timed, num_certain)
        phones = decoder.tokens.decode(ids[new])
        self.times += clock.phone_times(phones, begin + starts[new], begin + ends[new], total, self.duration)
        evidence = phone_evidence(log_probs, aligned, decoder.search.scorer)[new]
        self.confidences += decoder.calibration(evidence).tolist()
        self._num_timed = num_certain
        drop = num_certain - _CONTEXT_TOKENS
        if is_end or drop <= 0:
            return
        # In the middle of the blanks between two phones: where there are any, one remains before the cut.
        self._drop(int(aligned.ends[drop - 1] + aligned.starts[drop] + 1) // 2, drop)

    def _drop(self, num_steps: int, num_phones: int) -> None:
        self._log_probs, self.first_step = self._log_probs[num_steps:].copy(), self.first_step + num_steps
        if self._frames is not None:
            self._frames = self._frames[num_steps * self._decoder.clock.skip :].copy()
        self._ids, self._num_timed = self._ids[num_phones:], self._num_timed - num_phones

    def _full_features(self, begin: int, end: int) -> np.ndarray:
        """Full features of frames `begin` to `end`, deltas as in the whole."""
        reach = self._features.delta_order * self._features.delta_window
        first = max(begin - reach - self._features.normalization.history, 0)
        feats = full_features(self._static.read(first, end + reach), self._stats, self._features)
        return feats[begin - first : end - first]


def _joined(held: np.ndarray | None, new: np.ndarray | None) -> np.ndarray | None:
    return new if held is None or new is None else np.concatenate([held, new])
