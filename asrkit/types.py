"""Plain data types that pass between asrkit's parts. Times are in seconds unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class PhoneTime:
    """One phone with its start and end, in seconds from the beginning of the utterance."""

    phone: str
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance of a corpus.

    `audio` is a wav.scp entry: a path or a Kaldi pipe (`command |`). `start` and `end` cut the utterance
    out of the recording `rec_id`; both are None when the utterance is the whole recording.
    """

    utt_id: str
    spk_id: str
    audio: str
    phones: tuple[str, ...]
    rec_id: str | None = None  # None: the recording carries the utterance's own id
    start: float | None = None
    end: float | None = None
    sex: str | None = None  # "m", "f" or None
    phone_times: tuple[PhoneTime, ...] = ()

    @property
    def recording_id(self) -> str:
        return self.utt_id if self.rec_id is None else self.rec_id


@dataclass(frozen=True, slots=True)
class Waveform:
    """Mono audio: `samples` (num_samples,) float32 on the int16 scale (-32768 to 32767), as Kaldi has it."""

    samples: np.ndarray
    sample_rate: int

    @property
    def duration(self) -> float:
        """In seconds."""
        return len(self.samples) / self.sample_rate


@dataclass(frozen=True, slots=True)
class Alternative:
    """One of several labellings of an utterance. `score` ranks it, `log_prob` is CTC's alone; both are natural logs."""

    phones: tuple[str, ...]
    score: float
    log_prob: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The phones that a decoder found in one utterance.

    `log_prob` is CTC's natural-log probability of the phones: over all paths that a beam kept, or of the best path in
    greedy decoding. `times` and `confidences` have one entry per phone, or are empty if they were not requested.
    `confidence` is the expected share of right phones: the mean of `confidences`, 0 without phones, None if not
    requested. `alternatives` has the best labellings, beginning with this one, if they were requested.
    """

    utt_id: str
    phones: tuple[str, ...]
    log_prob: float
    times: tuple[PhoneTime, ...] = ()
    confidences: tuple[float, ...] = ()
    confidence: float | None = None
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class CorpusInfo:
    """The corpus that a model is trained on, described for users of the model.

    `license` and `attribution`: the corpus's licence and the attribution that it requires; None if unknown.
    `is_synthetic`: whether its speech was made by a program.
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
        return f"trained on the synthetic speech of {self.name}; what it finds in people's speech means little"


@dataclass(frozen=True, slots=True)
class Supplement:
    """Data stored with a trained network that training does not use.

    `lm_text`: the phone language model in ARPA format, or None. `corpus`: the network's training corpus, or None.
    """

    lm_text: str | None = None
    corpus: CorpusInfo | None = None


@dataclass(frozen=True, slots=True)
class TestScore:
    """The result of a model on a test set: the number of errors and of reference phones."""

    __test__ = False  # it is not a test of pytest's

    name: str  # of the set
    num_utterances: int
    num_phones: int
    num_errors: int

    def __str__(self) -> str:
        return f"{self.per:.1f} % on {self.name} ({self.num_utterances} utterances, {self.num_phones} phones)"

    @property
    def per(self) -> float:
        """In per cent."""
        return 100.0 * self.num_errors / max(self.num_phones, 1)
