"""From audio to a Hypothesis with an exported model. All verbs use this module.

Legend: T frames, D static features, T' steps of the network, V output classes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path

import numpy as np

from asrkit.audio import AudioStream, Channel, check_channel, check_rate, open_audio, read_audio, resample
from asrkit.decoding.attention_search import DecoderSearch
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.forced_align import AlignedTokens, forced_align, num_needed
from asrkit.decoding.methods import make_search
from asrkit.decoding.spans import align_frames
from asrkit.decoding.transducer_search import TransducerSearch
from asrkit.device import CPU, gpu_number
from asrkit.errors import AudioError, ConfigError, DataError, InUseError, ModelError
from asrkit.features.cmvn import Normalizer
from asrkit.features.full import full_features
from asrkit.features.mfcc import FeatureExtractor
from asrkit.inference.find_model import ENGLISH, find_model, find_pretrained
from asrkit.inference.frame_clock import AudioEnd
from asrkit.inference.hypothesis import add_times, is_nothing, log_ratio_to_nothing, make_hypothesis, no_speech
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
from asrkit.types import AttentionWeights, Hypothesis, Waveform

Audio = str | Path | AudioStream | Waveform | np.ndarray

SHORT = 1.5 * SETTLE  # seconds; the search settles nothing in a shorter recording, so it is recognised at once
_MAX_FINE_CELLS = 2**28  # frames times phones; above that, align uses steps and not frames
_MAX_NODES = 2**20  # steps times phones that align takes of a transducer: about 1 GiB


def load_recognizer(
    model: str | Path | None = None,
    decoding: DecodingConfig | None = None,
    *,
    device: str = CPU,
    num_threads: int = 1,
) -> Recognizer:
    """Load a trained model for recognition.

    Args:
        model: an experiment directory, a file of `asrkit export`, the name of a recipe that was run, or the name of a
            model that comes with asrkit (see find_model.find_model). The default is "english", which comes with asrkit.
        decoding: search settings in place of the model's own settings.
        device: where the network runs: cpu, or cuda or cuda:N for a GPU; see `open_model`.
        num_threads: threads of the network within one utterance.

    Raises:
        ModelError: there is no such model, or it is unfinished or damaged.
        ConfigError: there is no such device.
    """
    return Recognizer(open_model(find_pretrained(ENGLISH) if model is None else model, device, num_threads), decoding)


class Recognizer:
    """A trained model, ready to recognise. Any number of threads can use one object at the same time.

    Attributes:
        model: the network, with its settings and tokens.
        features: settings of the features. The speaker of a recording is unknown, so a model that was trained with CMVN
            per speaker uses CMVN per utterance.
        decoding: settings of the search.
        extractor: computes static features.
        search: finds phones in log-probabilities.
        timer: finds the times of phones.
    """

    def __init__(self, model: Model, decoding: DecodingConfig | None = None):
        """Use a model. `decoding` replaces the search settings of the model."""
        self.model = model
        self.features = model.features.with_normalization(model.features.normalization.without_speaker)
        self.extractor = FeatureExtractor(self.features)
        mode = self.features.normalization
        # If CMVN changes from frame to frame, the input of the model is normalised already.
        self._of_input = self.features if mode.is_fixed else self.features.with_normalization(mode.with_given_stats)
        self.tokens = model.tokens
        self.decoding = decoding or model.decoding
        self.search = make_search(self.decoding, model.lm, model.decoder)
        self.timer = PhoneTimer.for_model(model, self.search)

    @classmethod
    def load(cls, model: str | Path, decoding: DecodingConfig | None = None) -> Recognizer:
        """Load a trained model. The same as `load_recognizer`."""
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

        A long file or AudioStream is read in parts (windows.py), so memory grows only by the phones that are found.

        Args:
            audio: a file that read_audio can decode, an AudioStream, a Waveform, or samples (num_samples,) or
                (num_samples, channels): floats within -1 and 1, int16 or int32. Any sampling rate is accepted.
            utt_id: the name in messages and in the result; by default the name of the file.
            channel: for audio with several channels: "mix" averages them, a number (from 0) selects one.
            with_times: find times and confidences of the phones.
            sample_rate: the sampling rate of an array, in Hz.
            num_best: the largest number of alternatives in the hypothesis.

        Raises:
            AudioError: the audio cannot be decoded; it has several channels and none is selected; an array comes
                without sample_rate; or the audio is shorter than one frame.
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
        """Recognise audio at the model's sampling rate in one go. The original lasts `duration` seconds."""
        static = self._input(self.extractor(waveform, utt_id))
        stats = self._stats_of_speech(static)
        if stats is None:
            return no_speech(utt_id, with_times)
        log_probs = self.model.log_probs(static, stats)
        results = self.search.decode(log_probs, max(num_best, 1))
        heads = self.model.config.heads
        if is_nothing(results[0], log_ratio_to_nothing(self.search, heads, log_probs, results[0]), duration):
            return no_speech(utt_id, with_times)
        hypothesis = make_hypothesis(utt_id, self.tokens, results, num_best)
        if not with_times:
            return hypothesis
        frames = None
        if heads.has_frames:
            frames = self.model.outputs_by_frame(static, stats).frame_log_probs
        stretch = Stretch(utt_id, AudioEnd(len(static), duration))
        timed = self.timer.time(Outputs(log_probs, frames), self._full_features(static), results[0].tokens, stretch)
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

        The confidence of a phone is the geometric mean of its posterior over the frames of its peak. Memory is limited
        to 2**30 bytes: one byte for each pair of a step and a phone, which suffices for half an hour of speech. A
        transducer without CTC takes a thousand bytes for each pair, which suffices for a minute.

        Args:
            audio, utt_id, channel, sample_rate: as for transcribe.
            phones: the spoken phones, in the symbols of the model.
            optional_silence: a symbol of the model that can occur between any two phones and at both ends. The result
                has it only where it is heard, even if `phones` contains it.

        Raises:
            AudioError: as transcribe.
            ConfigError, ModelError: as expect_alignment.
            DataError: the model does not have a symbol, or there are too many phones for the audio or for the memory.
        """
        self.expect_alignment(optional_silence)
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
        heads = self.model.config.heads
        if not (heads.has_ctc or heads.has_frames):
            outputs, aligned = self._align_by_transducer(static, ids, utt_id)
        else:
            if len(static) * len(ids) <= _MAX_FINE_CELLS:
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

    def expect_alignment(self, optional_silence: str | None = None) -> None:
        """Check that the model can align phones.

        Raises:
            ConfigError: `optional_silence` with a transducer that has no CTC.
            ModelError: the model has an attention decoder and no CTC.
        """
        heads, head = self.model.config.heads, self.model.config.head
        if heads.has_ctc or heads.has_frames:
            return
        if not isinstance(self.search, TransducerSearch):
            raise ModelError(
                f"model.head {head}: only CTC and transducers can align phones that are given; take a model with either"
            )
        if optional_silence is not None:
            raise ConfigError(
                f"model.head {head}: only CTC can find out where a silence is; give the phones with their silences, or "
                "take a model with CTC"
            )

    def _align_by_transducer(
        self, static: np.ndarray, tokens: np.ndarray, utt_id: str
    ) -> tuple[Outputs, AlignedTokens]:
        """Align `tokens` (U,) with the steps of the features `static` (T, D).

        The score is the log probability of the tokens, summed over all paths. Raises DataError for too many tokens.
        """
        stored = self.model.log_probs(static)
        fault = ""
        if len(stored) < (needed := num_needed(tokens)):
            fault = f"{len(tokens)} tokens need at least {needed} steps; there are {len(stored)}"
        elif len(stored) * (len(tokens) + 1) > _MAX_NODES:
            fault = (
                f"{len(stored)} steps times {len(tokens)} tokens; a transducer takes {_MAX_NODES} at most; align "
                "shorter pieces, or take a model with CTC"
            )
        if fault:
            raise DataError(f"{utt_id}: alignment: {fault}")
        assert isinstance(self.search, TransducerSearch)
        emissions, log_prob = self.search.scored_emissions(stored, tokens.tolist())
        return Outputs(emissions), replace(forced_align(emissions, tokens, utt_id=utt_id), score=log_prob)

    def posteriors(self, audio: Audio, channel: Channel = "error", *, sample_rate: int | None = None) -> np.ndarray:
        """The probability of each class at each step of the network, (T', V) float32. Class 0 is the blank of CTC.

        `timer.clock` has the times of the steps. Memory grows with the length of the audio. A model with a decoder and
        without CTC gives probabilities only of the phones that it finds, at the steps to which it attends.

        Args:
            audio, channel, sample_rate: as for transcribe.

        Raises:
            AudioError: as transcribe.
        """
        _, _, static = self._load(audio, None, channel, sample_rate)
        if self.model.decoder is None or self.model.config.heads.has_ctc:
            return np.exp(self.search.emissions(self.model.log_probs(static), ()))
        stats, parts = self._stats(static), []
        for begin, end in pieces(HeldFeatures(static), self.features.normalization.level, self.timer.clock):
            stored = self.model.log_probs(static[begin:end], stats)
            parts.append(self.search.emissions(stored, self.search.decode(stored)[0].tokens))
        return np.exp(np.concatenate(parts))

    def attention(
        self, audio: Audio, channel: Channel = "error", *, sample_rate: int | None = None
    ) -> tuple[AttentionWeights, ...]:
        """Where the decoder looks when it writes the phones that `transcribe` finds. `asrkit plot attention` draws it.

        A recording of more than 15 s is recognised in pieces, each with its own weights. If nobody speaks, there are
        none. The arguments and errors are those of `transcribe`; see also below.

        Raises:
            ModelError: the model has no attention decoder.
        """
        if not isinstance(self.search, DecoderSearch):
            raise ModelError(
                f"model.head {self.model.config.head}: such a model has no attention decoder; train one that has "
                "(docs/models.md)"
            )
        _, waveform, static = self._load(audio, None, channel, sample_rate)
        stats, clock, found = self._stats_of_speech(static), self.timer.clock, list[AttentionWeights]()
        if stats is None:
            return ()
        for begin, end in pieces(HeldFeatures(static), self.features.normalization.level, clock):
            stored = self.model.log_probs(static[begin:end], stats)
            tokens = self.search.decode(stored)[0].tokens
            first = clock.start + clock.shift * (begin + clock.middle + 0.5)
            found.append(
                AttentionWeights(
                    self.tokens.decode(tokens),
                    self.search.attention([stored], [tokens])[0],
                    first + clock.step * np.arange(len(stored)),
                    clock.step,
                    start=begin * clock.shift,
                    end=waveform.duration if end == len(static) else end * clock.shift,
                )
            )
        return tuple(found)

    def _stats(self, static: np.ndarray) -> np.ndarray:
        """The CMVN statistics of a recording, as the model needs them."""
        return self.features.normalization.filled(self._own_stats(static), self.model.global_cmvn)

    def _stats_of_speech(self, static: np.ndarray) -> np.ndarray | None:
        """As above, but None for a recording in which nobody speaks."""
        mode, stats = self.features.normalization, self._own_stats(static)
        is_speech = mode.holds_speech(stats, self.model.global_cmvn)
        return mode.filled(stats, self.model.global_cmvn) if is_speech else None

    def _own_stats(self, static: np.ndarray) -> np.ndarray:
        """The CMVN statistics of a recording, or of the training set."""
        mode = self.features.normalization
        return mode.statistics(static) if mode.needs_whole_utterance else self.model.global_cmvn

    def _load(
        self, audio: Audio, utt_id: str | None, channel: Channel, sample_rate: int | None
    ) -> tuple[str, Waveform, np.ndarray]:
        """The name of an utterance, its audio at its own sampling rate, and the input (T, D) of the model."""
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
        """The input of the model from static features (T, D)."""
        return self._normalizer()(static)

    def _normalizer(self) -> Normalizer:
        """The normalisation of a recording's static features for the model."""
        return self.features.normalization.input_normalizer(self.model.global_cmvn)

    def _full_features(self, static: np.ndarray) -> np.ndarray:
        return full_features(static, self.model.global_cmvn, self._of_input)


def to_waveform(
    samples: np.ndarray, sample_rate: int | None, channel: Channel = "error", name: str = "audio"
) -> Waveform:
    """Make a Waveform from an array.

    Args:
        samples: (num_samples,) or (num_samples, channels): floats within -1 and 1, int16 or int32.
        sample_rate: in Hz.
        channel: for several channels: "mix" averages them, a number (from 0) selects one.
        name: what messages call the audio.

    Raises:
        AudioError: the array has another shape or type, sample_rate is missing, or there are several channels and none
            is selected.
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
    """The `phones` with one silence at either end and between any two phones. It replaces the silences in `phones`."""
    result = [silence]
    for phone in phones:
        result += () if phone == silence else (phone, silence)
    return tuple(result)


def _read_ahead(blocks: Iterator[np.ndarray], most: int) -> tuple[list[np.ndarray], bool]:
    """Read blocks until they have more than `most` samples. Returns them, and whether there are no more blocks."""
    taken, num_samples = [], 0
    for block in blocks:
        taken.append(block)
        num_samples += len(block)
        if num_samples > most:
            return taken, False
    return taken, True


def open_model(model: str | Path, device: str = CPU, num_threads: int = 1) -> Model:
    """Load a trained model to recognise recordings.

    PyTorch runs an experiment on a GPU. onnxruntime runs everything else; on a GPU it needs its CUDA provider.

    Arguments and errors are those of load_recognizer.
    """
    if gpu_number(device) is not None and ((path := find_model(model)) / "final.pt").is_file():
        from asrkit.experiment import load_experiment  # loads PyTorch
        from asrkit.inference.torch_model import TorchModel

        return TorchModel(load_experiment(path), device)
    return load_model(model, device, num_threads)


def load_model(model: str | Path, device: str = CPU, num_threads: int = 1) -> OnnxModel:
    """Load a trained model with onnxruntime. An experiment without an up-to-date export is exported first.

    Arguments and errors are those of load_recognizer.
    """
    path, open_file = find_model(model), partial(OnnxModel, num_threads=num_threads, device=device)
    if path.is_file():
        return open_file(path)
    trained, exported = path / "final.pt", path / "final.onnx"
    if not trained.is_file():
        return open_file(exported)
    if exported.is_file():
        try:
            existing = open_file(exported)
        except ModelError:
            pass  # made by another version, or damaged
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
    except (OSError, InUseError):  # the directory is not writable, or another process is writing
        return open_file(content)
    return open_file(exported)
