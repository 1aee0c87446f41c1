"""Recognition of audio while somebody speaks, with unidirectional models. The phones are those that windows.py finds.

Features, network and search continue from chunk to chunk. Each step is computed once, as soon as its audio has arrived.
Results do not depend on the sizes of the chunks.

Legend: T frames, D static features, T' steps of the network, V output classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import soxr

from asrkit.audio import check_rate
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import make_search
from asrkit.decoding.search import Search
from asrkit.errors import ConfigError
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.stream import StaticStream
from asrkit.inference.model import Outputs
from asrkit.inference.onnx_model import OnnxModel, OutputStream
from asrkit.inference.phone_time_stream import FullFeatures, PhoneTimeStream, settle_steps
from asrkit.inference.phone_timer import PhoneTimer
from asrkit.io.json_text import json_text
from asrkit.types import PhoneTime

_COMMIT_S = 10.0  # seconds after which certain phones become final


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The phones since the last final result.

    Attributes:
        phones: the phones so far, which can still change (`is_final` False), or the final ones.
        end: in seconds. For phones that can change: how much audio they are based on. For final phones: when the last
            one ends.
        times, confidences: of final phones. Times are in seconds from the beginning of the stream.
    """

    phones: tuple[str, ...]
    end: float
    is_final: bool = False
    times: tuple[PhoneTime, ...] = ()
    confidences: tuple[float, ...] = ()

    def json_line(self, symbols: Mapping[str, str] = MappingProxyType({})) -> str:
        """{"partial": [phone...], "time": s}, or {"final": [{"phone", "start", "end", "confidence"}...], "time": s}.

        `symbols` maps phones to the symbols that are written for them.
        """
        if not self.is_final:
            phones_so_far = [symbols.get(phone, phone) for phone in self.phones]
            return json_text({"partial": phones_so_far, "time": round(self.end, 3)})
        phones = [
            {
                "phone": symbols.get(span.phone, span.phone),
                "start": round(span.start, 4),
                "end": round(span.end, 4),
                "confidence": round(confidence, 4),
            }
            for span, confidence in zip(self.times, self.confidences, strict=True)
        ]
        return json_text({"final": phones, "time": round(self.end, 3)})


class StreamingRecognizer:
    """Recognises one stream of audio. Only one thread can use it at a time; many streams can share a model.

    The phones of all final results together are those that transcribe finds in the whole audio. Phones become final
    when nothing can change them any more, and at the end of the stream. Until then memory grows by some kilobytes per
    second, for about a minute, or for longer while nobody speaks. With an `endpoint`, that many seconds without speech
    make all phones final and free the memory. Then each piece is searched like an utterance.

    Attributes:
        step: seconds from one step of the network to the next.
        look_ahead: name of a part -> seconds of audio that it needs after the middle of a step. The sum is the
            algorithmic latency.
        num_steps: steps that were computed so far.
        silences: the phones that stand for silence.
    """

    def __init__(
        self,
        model: OnnxModel,
        decoding: DecodingConfig | None = None,
        *,
        sample_rate: int | None = None,
        endpoint: float | None = None,
        utt_id: str = "stream",
    ) -> None:
        """Begin a stream.

        Args:
            model: a unidirectional model.
            decoding: search settings in place of the model's own settings.
            sample_rate: the sampling rate of the samples, in Hz; by default that of the model.
            endpoint: seconds without speech that end a piece; None for no such limit.
            utt_id: the name of the stream in messages.

        Raises:
            ConfigError: the model needs the end of the audio before it can recognise (it is bidirectional, or has a
                decoder, CMVN per utterance or speaker, or features of librosa); or `endpoint` is not above 0.
        """
        self._searches = make_search(decoding or model.decoding, model.lm, model.decoder)
        _check(model, self._searches)
        if endpoint is not None and not 0.0 < endpoint < math.inf:
            raise ConfigError(f"endpoint {endpoint} s; expected seconds of silence, above 0")
        features = model.features.with_streaming_backend()
        self._model, self._features, self._utt_id = model, features, utt_id
        self._timer = PhoneTimer.for_model(model, self._searches)
        self.silences = self._timer.silent_phones
        self._quiet = {0, *self._timer.silences}  # classes without speech, the blank included
        self.step, self.look_ahead = self._timer.clock.step, _look_ahead(model, self._timer.clock.shift)
        self._commit_steps = max(round(_COMMIT_S / self.step), 1)
        self._endpoint_steps = None if endpoint is None else max(math.ceil(endpoint / self.step), 1)

        self._resampler: soxr.ResampleStream | None = None
        if sample_rate not in (None, features.sample_rate):
            check_rate(sample_rate, utt_id, features.sample_rate)
            self._resampler = soxr.ResampleStream(sample_rate, features.sample_rate, 1, dtype="float32", quality="HQ")
        self._num_samples = 0  # at the model's rate
        self._duration: float | None = None  # of the whole stream, once it has ended
        self._stream = StaticStream(FeatureExtractor(features), utt_id)
        self._outputs = OutputStream(model)
        self._static = _StaticWindow(features.num_static)
        self._normalize = features.normalization.input_normalizer(model.global_cmvn)
        self.num_steps = 0
        self._begin()

    def accept(self, samples: np.ndarray) -> list[StreamResult]:
        """Take the next samples, (num_samples,): int16, or float32 on the scale of int16.

        Returns:
            New final results, and a partial result if its phones have changed.

        Raises:
            AudioError: samples are NaN or infinite, or so large that features are infinite.
        """
        samples = self._resampled(np.asarray(samples, np.float32), is_end=False)
        return self._advance(self._stream.accept(samples), is_end=False)

    def finish(self) -> list[StreamResult]:
        """End the audio. Returns the last final result, if phones are left.

        Raises:
            AudioError: the audio was shorter than one frame.
        """
        if self._resampler is not None:
            results = self._advance(self._stream.accept(self._resampled(np.empty(0, np.float32), is_end=True)), False)
            results = [result for result in results if result.is_final]
        else:
            results = []
        self._duration = self._phone_times.duration = self._num_samples / self._features.sample_rate
        return results + self._advance(self._stream.finish(), is_end=True)

    def _resampled(self, samples: np.ndarray, is_end: bool) -> np.ndarray:
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=is_end)
            delay = float(self._resampler.delay()) / self._features.sample_rate
            self.look_ahead["resampling"] = max(self.look_ahead.get("resampling", 0.0), delay)
        self._num_samples += len(samples)
        return samples

    def _begin(self) -> None:
        """Start a new search at the next step."""
        self._search = self._searches.stream(settle_steps(self._timer.clock))
        features = FullFeatures(self._static, self._model.global_cmvn, self._features)
        self._phone_times = PhoneTimeStream(self._timer, features, self._utt_id, self._duration, self.num_steps)
        self._pieces: list[np.ndarray] = []  # log-probabilities that the timer has not received yet
        self._num_quiet = 0  # steps without speech at the end
        self._sounds: list[int] = []  # of the best labelling of the last step, as far as it is not committed
        self._partial: Sequence[int] = ()

    def _advance(self, static: np.ndarray, is_end: bool) -> list[StreamResult]:
        static = self._normalize(static)
        self._static.append(static)
        pieces = [self._outputs.accept(static).log_probs]
        if is_end:
            pieces.append(self._outputs.finish().log_probs)
        log_probs = np.concatenate(pieces)
        results: list[StreamResult] = []
        for step in log_probs[:, None]:
            self._search.advance(step)
            self._pieces.append(step)
            self.num_steps += 1
            if self._endpoint_steps is not None:
                self._num_quiet = self._num_quiet + 1 if self._is_quiet(step) else 0
            if self._num_quiet == self._endpoint_steps:
                results += self._close()
                self._begin()
            elif self.num_steps % self._commit_steps == 0:
                results += self._make_final(self._search.commit(), self._search.best()[0].tokens)
                self._sounds = self._best_sounds()
        self._static.drop(self._phone_times.first_step * self._model.skip - self._model.reach)
        if is_end:
            return results + self._close()
        if len(log_probs):
            tokens = (*self._phone_times.pending, *self._search.best()[0].tokens)
            if tokens != self._partial:
                self._partial = tokens
                end = self._num_samples / self._features.sample_rate
                results.append(StreamResult(self._model.tokens.decode(tokens), end))
        return results

    def _is_quiet(self, step: np.ndarray) -> bool:
        """Whether nobody speaks in a step (1, C) that the search has taken.

        With CTC its most probable class is the blank or silence. A transducer's best labelling got no other phone then.
        """
        if self._model.decoder is None:
            return int(step.argmax()) in self._quiet
        before, self._sounds = self._sounds, self._best_sounds()
        return self._sounds == before

    def _best_sounds(self) -> list[int]:
        """The phones other than silence of the best labelling, as far as they are not committed."""
        return [token for token in self._search.best()[0].tokens if token not in self._quiet]

    def _close(self) -> list[StreamResult]:
        """All phones since the last final result, as if the utterance ended here."""
        results = self._make_final((), self._search.finish()[0].tokens, is_end=True)
        if self._endpoint_steps is not None:  # silence alone is not an utterance
            results = [result for result in results if set(result.phones) - self.silences]
        return results

    def _make_final(self, committed: Sequence[int], rest: Sequence[int], is_end: bool = False) -> list[StreamResult]:
        phone_times = self._phone_times
        if self._pieces:
            phone_times.accept(Outputs(np.concatenate(self._pieces)))
            self._pieces = []
        self._search.use_up(phone_times.time(committed, rest, is_end))
        times, confidences = tuple(phone_times.times), tuple(phone_times.confidences)
        phone_times.times.clear()
        phone_times.confidences.clear()
        if not times:
            return []
        phones = tuple(time.phone for time in times)
        return [StreamResult(phones, times[-1].end, True, times, confidences)]


class _StaticWindow:
    """The last frames (T, D) of a stream, as the input of a model. It is a StaticSource."""

    def __init__(self, dim: int) -> None:
        self._frames = np.empty((0, dim), np.float32)
        self._begin = 0

    @property
    def num_frames(self) -> int:
        return self._begin + len(self._frames)

    def append(self, static: np.ndarray) -> None:
        self._frames = np.concatenate([self._frames, static])

    def read(self, begin: int, end: int) -> np.ndarray:
        return self._frames[max(begin - self._begin, 0) : max(end - self._begin, 0)]

    def drop(self, end: int) -> None:
        """Forget the frames before number `end`."""
        if end > self._begin:
            self._frames = self._frames[end - self._begin :]
            self._begin = end


def _look_ahead(model: OnnxModel, shift: float) -> dict[str, float]:
    """Name of a part -> seconds of audio that it needs after the middle of a step. `shift`: seconds per frame."""
    features = model.features
    delta_reach = features.delta_order * features.delta_window
    return {
        "window": features.frame_length / 2 / features.sample_rate,
        "stacking": (model.stack - 1) / 2 * shift,
        "deltas": delta_reach * shift,
        "front end": (model.reach - delta_reach) * shift,
    }


def _check(model: OnnxModel, search: Search) -> None:
    """Raise ConfigError if the model cannot recognise streams."""
    if not search.takes_streams:
        raise ConfigError(
            f"model.head {model.config.head}: its decoder is given the whole utterance before it writes a phone, "
            "and so cannot be used in a stream; train a unidirectional model with CTC (conf/lstm_ctc_streaming.yaml) "
            "or a transducer (conf/rnnt_lstm_streaming.yaml)"
        )
    if model.bidirectional:
        raise ConfigError(
            f"{model.config.looks_ahead_by}: this model reads an utterance from its end, too, and so cannot be used in "
            "a stream; train a unidirectional one (conf/lstm_ctc_streaming.yaml)"
        )
    if model.features.normalization.needs_whole_utterance:
        raise ConfigError(
            f"features.cmvn: this model takes statistics of the whole {model.features.cmvn}, which a stream does not "
            "have; train one with cmvn global or running (conf/lstm_ctc_streaming.yaml)"
        )
