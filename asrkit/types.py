"""The data types that asrkit's packages exchange. Times are in seconds unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class PhoneTime:
    """A phone with its start and end, in seconds from the beginning of the utterance."""

    phone: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """An utterance of a corpus.

    `audio` is an entry of wav.scp: a path or a Kaldi pipe (`command |`). The utterance is the part from `start` to
    `end` (seconds) of the recording `rec_id`. Both are None if it is the whole recording. `rec_id` is None if the
    recording has the id of the utterance. `sex` is "m", "f" or None.
    """

    utt_id: str
    spk_id: str
    audio: str
    phones: tuple[str, ...]
    rec_id: str | None = None
    start: float | None = None
    end: float | None = None
    sex: str | None = None
    phone_times: tuple[PhoneTime, ...] = ()

    @property
    def recording_id(self) -> str:
        """The id of the recording: `rec_id`, or else the id of the utterance."""
        return self.utt_id if self.rec_id is None else self.rec_id


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono audio: `samples` (num_samples,) float32 on the int16 scale (-32768 to 32767), as in Kaldi.

    `sample_rate` is in Hz.
    """

    samples: np.ndarray
    sample_rate: int

    @property
    def duration(self) -> float:
        """The length in seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several possible phone sequences of an utterance.

    `score` orders the alternatives. `log_prob` is the log-probability that CTC alone gives. Both are natural
    logarithms.
    """

    phones: tuple[str, ...]
    score: float
    log_prob: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The phones that a decoder recognised in an utterance.

    Attributes:
        utt_id: the id of the utterance.
        phones: the recognised phones.
        log_prob: the natural logarithm of CTC's probability of the phones. A beam search sums all paths that it kept;
            greedy decoding takes the best path only.
        times: one entry per phone; empty if not requested.
        confidences: one per phone, from 0 to 1; empty if not requested.
        confidence: the expected share of correct phones, which is the mean of `confidences`. 0 without phones, None if
            not requested.
        alternatives: the best phone sequences, beginning with this one; empty if not requested.
    """

    utt_id: str
    phones: tuple[str, ...]
    log_prob: float
    times: tuple[PhoneTime, ...] = ()
    confidences: tuple[float, ...] = ()
    confidence: float | None = None
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class AttentionWeights:
    """The attention weights of a decoder for the phones of a recording, or of a piece of it.

    Attributes:
        phones: the U recognised phones.
        weights: (H, U + 1, T) float32, for each of H heads, for each phone and then the end, at each of T steps.
        times: (T,) the centres of the steps, in seconds.
        step: the time from one step to the next, in seconds.
        start: the start of the piece in the recording, in seconds.
        end: the end of the piece in the recording, in seconds.
    """

    phones: tuple[str, ...]
    weights: np.ndarray
    times: np.ndarray
    step: float
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """Describes the training corpus of a model for its users.

    `license` and `attribution`: the licence of the corpus and the attribution that it requires; None if unknown.
    `is_synthetic`: whether a program generated the speech.
    """

    name: str
    language: str
    license: str | None
    attribution: str | None
    is_synthetic: bool = False

    @property
    def doubt(self) -> str | None:
        """A warning for users of the model if its speech is synthetic, otherwise None."""
        if not self.is_synthetic:
            return None
        return f"trained on the synthetic speech of {self.name}; its results on human speech are not reliable"


@dataclass(frozen=True, slots=True)
class Supplement:
    """Data that are stored with a trained network but not used in training.

    `lm_text`: the phone language model, as decoding.language_models.read_lm_text gives it, or None. `corpus`: the
    training corpus, or None.
    """

    lm_text: str | None = None
    corpus: CorpusInfo | None = None


@dataclass(frozen=True, slots=True)
class TestScore:
    """The result of a model on the test set `name`: numbers of utterances, reference phones and errors."""

    __test__ = False  # pytest must not take it for a test

    name: str
    num_utterances: int
    num_phones: int
    num_errors: int

    def __str__(self) -> str:
        return f"{self.per:.1f} % on {self.name} ({self.num_utterances} utterances, {self.num_phones} phones)"

    @property
    def per(self) -> float:
        """The phone error rate in per cent."""
        return 100.0 * self.num_errors / max(self.num_phones, 1)
