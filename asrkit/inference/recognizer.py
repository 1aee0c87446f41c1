"""The path from audio to a Hypothesis, with an exported model. All verbs use it.

Legend: T frames, D static features.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from asrkit.audio import AudioStream, Channel, check_channel, check_rate, open_audio, read_audio, resample
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.methods import make_search
from asrkit.decoding.spans import align_frames
from asrkit.errors import AudioError, DataError, InUseError, ModelError, location
from asrkit.features.cmvn import Normalizer
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import full_features
from asrkit.inference.find_model import ENGLISH, find_model, find_pretrained
from asrkit.inference.frame_clock import AudioEnd
from asrkit.inference.hypothesis import add_times, is_nothing, log_of_blanks, make_hypothesis, no_speech
from asrkit.inference.model import Model, Outputs
from asrkit.inference.onnx_model import OnnxModel
from asrkit.inference.phone_time_stream import SETTLE
from asrkit.inference.phone_timer import PhoneTimer, Stretch
from asrkit.inference.pieces import HeldFeatures, pieces
from asrkit.inference.windows import StaticFeatures, WindowedRecognizer
from asrkit.io.lock import lock_dir, remove_dead_locks
from asrkit.io.seal import read_digest
from asrkit.io.tell import tell
from asrkit.lang.symbols import name_symbols
from asrkit.types import Hypothesis, Waveform

if TYPE_CHECKING:
    from asrkit.inference.torch_model import TorchModel

Device = Literal["cpu", "cuda"]
Audio = str | Path | AudioStream | Waveform | np.ndarray

SHORT = 1.5 * SETTLE  # seconds: in a recording of up to so many the search settles nothing, so it is done at once
_MAX_FINE_CELLS = 2**28  # frames times phones up to which align looks at every frame


def load_recognizer(
    model: str | Path | None = None,
    decoding: DecodingConfig | None = None,
    *,
    device: Device = "cpu",
    num_threads: int = 1,
) -> Recognizer:
    """Load a trained model, ready to recognise.

    Args:
        model: an experiment directory, a file of `asrkit export`, the name of a recipe that was run, or the name of a
            model that comes with asrkit (see find_model.find_model). The default is "english", which comes with asrkit.
        decoding: search settings that override the model's own.
        device: "cuda" runs the network with PyTorch on a GPU, and needs an experiment directory.
        num_threads: number of threads of the network within one utterance.

    Raises:
        ModelError: there is no such model, it is not finished or damaged, or no GPU can be used.
    """
    if model is None:
        model = find_pretrained(ENGLISH)
    if device == "cpu":
        return Recognizer(load_model(model, num_threads), decoding)
    return Recognizer(_open_torch(find_model(model), device), decoding)


class Recognizer:
    """A trained model, ready to recognise. Any number of threads can use one object at the same time.

    `model`: the network, with its settings and tokens. `features`: settings of the features. Their CMVN is per
    utterance if the model was trained with CMVN per speaker, because the speaker of a recording is unknown. `decoding`:
    settings of the search. `extractor` computes static features, `search` finds phones in log-probabilities, and
    `timer` finds their times.
    """

    def __init__(self, model: Model, decoding: DecodingConfig | None = None):
        """`decoding` takes the place of the model's own settings."""
        self.model = model
        self.features = model.features.with_normalization(model.features.normalization.without_speaker)
        self.extractor = FeatureExtractor(self.features)
        mode = self.features.normalization
        # What the model takes is normalized already where one mean does not serve all frames.
        self._of_input = self.features if mode.is_fixed else self.features.with_normalization(mode.with_given_stats)
        self.tokens = model.tokens
        self.decoding = decoding or model.decoding
        self.search = make_search(self.decoding, model.lm, model.decoder)
        self.timer = PhoneTimer.for_model(model, self.search.scorer)

    @classmethod
    def load(cls, model: str | Path, decoding: DecodingConfig | None = None) -> Recognizer:
        """As load_recognizer."""
        return load_recognizer(model, decoding)

    def transcribe(
        self,
        audio: Audio,
        utt_id: str | None = None,
        channel: Channel = "error",
        with_times: bool = True,
        *,
        sample_rate: int | None = None,
        num_best: int = 0,
    ) -> Hypothesis:
        """Recognise one recording, by default with times and confidences.

        Memory does not grow with the length of a file or AudioStream, except for the phones found (windows.py).

        Args:
            audio: a file that read_audio can decode, an AudioStream, a Waveform, or samples (num_samples,) or
                (num_samples, channels): floats within -1 and 1, int16 or int32. Any sampling rate.
            utt_id: a name for messages and the result; by default the file's.
            channel: for audio of several channels: "mix" averages them, a number (from 0) chooses one.
            sample_rate: the sampling rate of an array, in Hz.
            num_best: the largest number of alternatives in the hypothesis.

        Raises:
            AudioError: the audio cannot be used: not decodable, several channels and none chosen, no sample_rate,
                shorter than one frame.
        """
        if isinstance(audio, (str, Path)):
            with open_audio(audio, channel=channel) as stream:
                return self.transcribe(stream, utt_id or str(audio), with_times=with_times, num_best=num_best)
        utt_id = utt_id or (audio.name if isinstance(audio, AudioStream) else "audio")
        if isinstance(audio, np.ndarray):
            audio = to_waveform(audio, sample_rate, channel, utt_id)
        rate = self.features.sample_rate
        blocks = iter([resample(audio, rate, utt_id).samples]) if isinstance(audio, Waveform) else audio.blocks(rate)
        first, is_all = _read_ahead(blocks, round(SHORT * rate))
        if is_all:
            waveform = Waveform(np.concatenate(first), rate)
            return self._transcribe_short(waveform, utt_id, audio.duration, with_times, num_best)
        recognizer = WindowedRecognizer(self.model, self.search, self.timer)
        with StaticFeatures(chain(first, blocks), self.extractor, utt_id, self._normalizer()) as static:
            return recognizer.recognize(static, utt_id, audio.duration, with_times=with_times, num_best=num_best)

    def _transcribe_short(
        self, waveform: Waveform, utt_id: str, duration: float, with_times: bool, num_best: int
    ) -> Hypothesis:
        """Recognize all at once audio at the model's rate, whose original lasts `duration` seconds."""
        static, mode = self._input(self.extractor(waveform, utt_id)), self.features.normalization
        stats = mode.statistics(static) if mode.needs_whole_utterance else self.model.global_cmvn
        if not mode.holds_speech(stats, self.model.global_cmvn):
            return no_speech(utt_id, with_times)
        stats = mode.filled(stats, self.model.global_cmvn)
        log_probs = self.model.log_probs(static, stats)
        results = self.search.decode(log_probs, max(num_best, 1))
        if not self.model.config.heads.has_decoder and is_nothing(results[0], log_of_blanks(log_probs), duration):
            return no_speech(utt_id, with_times)
        hypothesis = make_hypothesis(utt_id, self.tokens, results, num_best)
        if not with_times:
            return hypothesis
        frames = None
        if self.model.config.heads.has_frames:
            frames = self.model.outputs_by_frame(static, stats).frame_log_probs
        stretch = Stretch(utt_id, AudioEnd(len(static), duration))
        outputs = Outputs(self.search.emissions(log_probs, results[0].tokens), frames)
        timed = self.timer.time(outputs, self._full_features(static), results[0].tokens, stretch)
        return add_times(hypothesis, timed.times, self.timer.confidences(timed.evidence))

    def align(
        self,
        audio: Audio,
        phones: Sequence[str],
        utt_id: str | None = None,
        channel: Channel = "error",
        optional_silence: str | None = None,
        *,
        sample_rate: int | None = None,
    ) -> Hypothesis:
        """Find where known phones are in the audio.

        A phone's confidence is the geometric mean of its posterior over the frames of its peak. Memory is limited to
        2**30 bytes, one per pair of a step and a phone, which suffices for half an hour.

        Args:
            audio, utt_id, channel, sample_rate: as for transcribe.
            phones: the spoken phones, in the model's symbols.
            optional_silence: a symbol of the model that may occur between any two phones and at both ends. It is in the
                result only where it is heard, even if `phones` has it.

        Raises:
            AudioError: as transcribe.
            DataError: the model does not have a symbol, or there are too many phones for the audio or for the memory.
            ModelError: a model with an attention decoder and without CTC.
        """
        heads = self.model.config.heads
        if not (heads.has_ctc or heads.has_frames):
            raise ModelError(
                f"model.head {self.model.config.head}: only CTC can align phones that are given; take a model with CTC"
            )
        utt_id, waveform, static = self._load(audio, utt_id, channel, sample_rate)
        if optional_silence is not None:
            phones = with_optional(phones, optional_silence)
        unknown = sorted(set(phones) - set(self.tokens.phones))
        if unknown:
            known = self.tokens.phones
            raise DataError(
                f"{utt_id}: phones that the model does not have: {name_symbols(unknown, known)}; it has "
                f"{' '.join(known)}"
            )
        ids = np.array(self.tokens.encode(phones), dtype=np.int64)
        optional = () if optional_silence is None else self.tokens.encode([optional_silence])
        fine = len(static) * len(ids) <= _MAX_FINE_CELLS
        if fine:
            outputs = self.model.outputs_by_frame(static)
        else:
            outputs = Outputs(self.search.emissions(self.model.log_probs(static), ids.tolist()))
        if heads.has_ctc:
            aligned = forced_align(outputs.log_probs, ids, optional=optional, utt_id=utt_id)
        else:
            aligned = align_frames(outputs.log_probs[:, 1:], ids, optional, utt_id)
        aligned = aligned.without_passed_over()
        stretch = Stretch(utt_id, AudioEnd(len(static), waveform.duration))
        times = self.timer.times(outputs, self._full_features(static), aligned, stretch)
        confidences = tuple(np.exp(aligned.log_probs).tolist())
        return Hypothesis(utt_id, self.tokens.decode(aligned.tokens), aligned.score, times, confidences)

    def posteriors(self, audio: Audio, channel: Channel = "error", *, sample_rate: int | None = None) -> np.ndarray:
        """The probability of each class at each step of the network, (T', V) float32; class 0 is the blank of CTC.

        Step k stands for the time that `timer.clock` says. Memory grows with the audio. Of an attention decoder without
        CTC they are those of the phones that it finds, at the steps that it looks at. Arguments and errors are
        transcribe's.
        """
        _, _, static = self._load(audio, None, channel, sample_rate)
        if self.model.decoder is None or self.model.config.heads.has_ctc:
            return np.exp(self.search.emissions(self.model.log_probs(static), ()))
        stats, parts = self._stats(static), []
        for begin, end in pieces(HeldFeatures(static), self.features.normalization.level, self.timer.clock):
            stored = self.model.log_probs(static[begin:end], stats)
            parts.append(self.search.emissions(stored, self.search.decode(stored)[0].tokens))
        return np.exp(np.concatenate(parts))

    def _stats(self, static: np.ndarray) -> np.ndarray:
        """The CMVN statistics of a recording as the model takes them."""
        mode = self.features.normalization
        stats = mode.statistics(static) if mode.needs_whole_utterance else self.model.global_cmvn
        return mode.filled(stats, self.model.global_cmvn)

    def _load(
        self, audio: Audio, utt_id: str | None, channel: Channel, sample_rate: int | None
    ) -> tuple[str, Waveform, np.ndarray]:
        """The utterance's name, its audio at its own rate, and its features (T, D) as the model takes them."""
        if isinstance(audio, (str, Path)):
            utt_id, waveform = utt_id or str(audio), read_audio(audio, channel=channel)
        elif isinstance(audio, AudioStream):
            utt_id = utt_id or audio.name
            waveform = Waveform(np.concatenate(list(audio.blocks())), audio.sample_rate)
        else:
            utt_id = utt_id or "audio"
            waveform = audio if isinstance(audio, Waveform) else to_waveform(audio, sample_rate, channel, utt_id)
        static = self.extractor(resample(waveform, self.features.sample_rate, utt_id), utt_id)
        return utt_id, waveform, self._input(static)

    def _input(self, static: np.ndarray) -> np.ndarray:
        """Static features (T, D) as the model takes them."""
        return self._normalizer()(static)

    def _normalizer(self) -> Normalizer:
        """The normalization of a recording's static features for the model."""
        return self.features.normalization.input_normalizer(self.model.global_cmvn)

    def _full_features(self, static: np.ndarray) -> np.ndarray:
        return full_features(static, self.model.global_cmvn, self._of_input)


def to_waveform(
    samples: np.ndarray, sample_rate: int | None, channel: Channel = "error", name: str = "audio"
) -> Waveform:
    """The Waveform of samples (num_samples,) or (num_samples, channels), as Recognizer.transcribe takes them.

    Raises AudioError, naming `name`, for another shape or type, without a sampling rate, and for several channels if
    none is chosen.
    """
    scale = {np.dtype(np.int16): 1.0, np.dtype(np.int32): 2.0**-16}.get(samples.dtype)
    if scale is None and np.issubdtype(samples.dtype, np.floating):
        scale = 2.0**15
    if scale is None or samples.ndim not in (1, 2) or not samples.size:
        raise AudioError(
            f"{name}: an array of shape {samples.shape} and type {samples.dtype}; expected (num_samples,) or "
            "(num_samples, channels) of floats within -1 and 1, int16 or int32"
        )
    if sample_rate is None:
        raise AudioError(f"{name}: an array without sample_rate; expected its sampling rate in Hz")
    check_rate(sample_rate, name)
    columns = samples.reshape(len(samples), -1)
    check_channel(columns.shape[1], channel, name)
    mono = columns[:, channel] if isinstance(channel, int) else columns.mean(axis=1, dtype=np.float64)
    return Waveform(np.ascontiguousarray(mono * scale, np.float32), sample_rate)


def with_optional(phones: Sequence[str], silence: str) -> tuple[str, ...]:
    """`phones` with one silence at either end and between any two, in place of those that were there."""
    result = [silence]
    for phone in phones:
        result += () if phone == silence else (phone, silence)
    return tuple(result)


def _read_ahead(blocks: Iterator[np.ndarray], most: int) -> tuple[list[np.ndarray], bool]:
    """The first blocks, up to the one that brings more than `most` samples; whether there are no more."""
    taken, num_samples = [], 0
    for block in blocks:
        taken.append(block)
        num_samples += len(block)
        if num_samples > most:
            return taken, False
    return taken, True


def load_model(model: str | Path, num_threads: int = 1) -> OnnxModel:
    """A trained model on onnxruntime. It is exported now if it was not exported before.

    Arguments and errors are load_recognizer's.
    """
    path = find_model(model)
    if path.is_file():
        return OnnxModel(path, num_threads)
    trained, exported = path / "final.pt", path / "final.onnx"
    if not trained.is_file():
        return OnnxModel(exported, num_threads)
    if exported.is_file():
        try:
            existing = OnnxModel(exported, num_threads)
        except ModelError:
            pass  # of another version, or damaged
        else:
            if existing.made_from == read_digest(trained):
                remove_dead_locks(path)
                return existing
    tell(f"{exported}: exporting the model, which takes some seconds and is done once")

    from asrkit.inference.export import checked_export, write_export  # loads PyTorch

    content = checked_export(path)
    try:
        with lock_dir(path, "export"):
            write_export(exported, content)
    except (OSError, InUseError):  # a directory that cannot be written, or is being written
        return OnnxModel(content, num_threads)
    return OnnxModel(exported, num_threads)


def _open_torch(path: Path, device: str) -> TorchModel:
    if path.is_file():
        raise ModelError(
            f"{location(path)}an exported file, which runs on the CPU; for a GPU name the experiment directory"
        )

    from asrkit.experiment import load_experiment  # loads PyTorch
    from asrkit.inference.torch_model import TorchModel

    return TorchModel(load_experiment(path), device)
