"""The mini corpus: synthetic Persian in the style of FarsDat, made with espeak-ng, with exact phone times.

Synthetic speakers read sentences of real and invented words. Each recording gets the reverberation of a room, noise and
a gain. The result depends only on the seed and the version of the library. Error rates on this corpus say nothing about
the real FarsDat.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import soundfile
import soxr

from asrkit.corpora import espeak, persian
from asrkit.corpora.persian import PHONES, SILENCE, VOWELS, Word
from asrkit.errors import DataError, location, name_some
from asrkit.findings import Findings
from asrkit.formats.ctm import format_line, parse_line
from asrkit.io.atomic import LOCK_NAMES, atomic_dir, atomic_write
from asrkit.io.files import NamedFile, read_bytes, writer
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Output, Stamp
from asrkit.parallel import map_ordered
from asrkit.types import CorpusInfo, PhoneTime, Utterance

INFO = CorpusInfo("mini", "Persian", None, None, is_synthetic=True)
SAMPLE_RATE = 16000  # in Hz
DEFAULT_SEED = 1

# FarsDat's symbols that have another mnemonic in espeak.
_MNEMONICS = {",": "tS", "'": "dZ", "]": "?", "y": "j", SILENCE: "_:"}
_PHONE_OF_EVENT = {
    **{phone: phone for phone in PHONES if phone not in _MNEMONICS},
    **{mnemonic: phone for phone, mnemonic in _MNEMONICS.items()},
    "R": "r",
    "Q": "q",
    "_": SILENCE,
}
_BURST_EVENTS = ("p", "t", "k", "q", "tS", "?")  # their event is at the burst, after the silence of the closure

# Whole voice variants are held out. Variants that resemble each other are all in train.
_TRAIN_VARIANTS = (
    *("Alex", "Annie", "Diogo", "Gene", "Gene2", "Henrique", "Hugo", "Lee", "Mario", "Michael", "Mike"),
    *("Mr serious", "Nguyen", "Reed", "RicishayMax", "Tweaky", "adam", "aunty", "belinda", "benjamin"),
    *("boris", "f2", "f4", "f5", "grandma", "grandpa", "gustave", "iven", "iven2", "iven3", "iven4"),
    *("john", "kaukovalta", "m1", "m3", "m4", "m6", "m7", "max", "michel", "miguel", "mike2", "pedro"),
    *("rob", "robert", "steph", "victor", "zac"),
)
_DEV_VARIANTS = ("f3", "anika", "Denis", "m8", "edward", "m5", "ed", "marcelo")
_TEST_VARIANTS = (
    *("Andrea", "f1", "linda", "Andy", "Jacky", "antonio", "Storm", "sandro", "m2", "quincy", "paul"),
    *("pablo",),
)
_WOMEN = frozenset(
    ("Andrea", "Annie", "anika", "aunty", "belinda", "f1", "f2", "f3", "f4", "f5", "grandma", "linda", "steph")
)


@dataclass(frozen=True)
class SetPlan:
    """The plan of one set. Each voice variant has `speakers_per_variant` speakers, with `num_utts` utterances each.

    The set has `num_sentences` different sentences.
    """

    variants: tuple[str, ...]
    speakers_per_variant: int
    num_utts: int
    num_sentences: int


PLAN = {
    "train": SetPlan(_TRAIN_VARIANTS, 2, 13, 400),
    "dev": SetPlan(_DEV_VARIANTS, 1, 12, 48),
    "test": SetPlan(_TEST_VARIANTS, 1, 15, 90),
}


@dataclass(frozen=True, slots=True)
class Speaker:
    """A synthetic speaker: a voice variant with its settings, the length of a vocal tract, and a recording room."""

    spk_id: str
    set_name: str
    sex: str
    variant: str
    rate: int  # words per minute
    pitch: int  # 0 to 99
    range: int  # of the pitch, 0 to 99
    warp: float  # factor for all frequencies
    snr_db: float
    noise_tilt: float  # the power of the noise falls with frequency to this power
    reverb_s: float  # reverberation time (decay by 60 dB), in seconds; 0: no room
    sentences: tuple[tuple[str, tuple[Word, ...]], ...]  # utt_id, words


def rng_of(seed: int, *names: object) -> np.random.Generator:
    """A random generator whose numbers depend only on the seed and the names, not on earlier random numbers."""
    digest = hashlib.sha256("/".join(map(str, (seed, *names))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little"))


def plan_speakers(seed: int) -> list[Speaker]:
    """All speakers with their sentences. No sentence and no voice variant is in two sets."""
    speakers: list[Speaker] = []
    taken: set[Word] = set()
    first_sentence = 1
    for set_name, plan in PLAN.items():
        sentences = persian.make_sentences(plan.num_sentences, rng_of(seed, "sentences", set_name), taken)
        deck = rng_of(seed, "deck", set_name).permutation(plan.num_sentences)
        voices = [variant for _ in range(plan.speakers_per_variant) for variant in plan.variants]
        for index, variant in enumerate(voices):
            spk_id = f"s{len(speakers) + 1:03d}"
            rng = rng_of(seed, "speaker", spk_id)
            numbers = sorted(deck[(index * plan.num_utts + np.arange(plan.num_utts)) % len(deck)].tolist())
            speakers.append(
                Speaker(
                    spk_id=spk_id,
                    set_name=set_name,
                    sex="f" if variant in _WOMEN else "m",
                    variant=variant,
                    rate=int(rng.integers(135, 216)),
                    pitch=int(rng.integers(30, 76)),
                    range=int(rng.integers(30, 76)),
                    warp=round(float(rng.uniform(0.90, 1.12)), 3),
                    snr_db=round(float(rng.uniform(15, 30)), 1),
                    noise_tilt=round(float(rng.uniform(0.5, 2)), 2),
                    reverb_s=round(float(rng.uniform(0.15, 0.4)), 2) if rng.random() < 0.35 else 0.0,
                    sentences=tuple(
                        (f"{spk_id}_{first_sentence + number:03d}", tuple(sentences[number])) for number in numbers
                    ),
                )
            )
        first_sentence += plan.num_sentences
    return speakers


_STAMP = ".corpus.stamp"


def make_corpus(corpus_dir: str | Path, *, seed: int = DEFAULT_SEED, num_jobs: int = 1, force: bool = False) -> bool:
    """Make the corpus in `corpus_dir`, atomically, with `num_jobs` processes.

    Returns False if the corpus with the same seed is already there and `force` is False. The corpus consists of
    wav/SPEAKER/UTTERANCE.wav, phones.ctm and speakers.tsv.

    Raises:
        MissingPackageError: espeakng-loader is not installed.
        DataError: espeak-ng did not say the requested phones, or `corpus_dir` contains something else.
    """
    corpus_dir = Path(corpus_dir)
    sources = (Path(__file__), Path(espeak.__file__), Path(persian.__file__))
    inputs = {"seed": seed, "code": [File(source) for source in sources]}
    stamp = Stamp(corpus_dir / _STAMP, inputs)
    if not force and stamp.is_current():
        return False
    if corpus_dir.exists() and not stamp.path.exists() and not _is_empty(corpus_dir):
        raise DataError(
            f"{location(corpus_dir)}holds something that is not a mini corpus; give a new or an empty directory"
        )
    version = espeak.library_version()
    speakers = plan_speakers(seed)
    with lock_dir(corpus_dir, "prepare"), atomic_dir(corpus_dir) as new:
        record = functools.partial(_record_speaker, new / "wav", seed)
        ctm: list[str] = []
        findings = Findings()
        for lines, of_speaker in map_ordered(record, speakers, num_jobs, description="speakers", chunk_size=1):
            ctm += lines
            findings.extend(of_speaker)
        findings.raise_errors()
        with atomic_write(new / "phones.ctm") as stream:
            stream.writelines(ctm)
        with atomic_write(new / "speakers.tsv") as stream:
            _write_speakers(stream, speakers, version)
        files = [path for path in new.rglob("*") if path.is_file()]
        Stamp(new / _STAMP, inputs).write({path: Output.found(path) for path in files})
    return True


def _is_empty(directory: Path) -> bool:
    return directory.is_dir() and {path.name for path in directory.iterdir()} <= {*LOCK_NAMES}


_COLUMNS = (
    "spk_id",
    "set_name",
    "sex",
    "variant",
    "rate",
    "pitch",
    "range",
    "warp",
    "snr_db",
    "noise_tilt",
    "reverb_s",
)


def _write_speakers(stream: IO[str], speakers: list[Speaker], version: str) -> None:
    stream.write("\t".join((*_COLUMNS, "espeak_version")) + "\n")
    for speaker in speakers:
        stream.write("\t".join(str(value) for value in (*(getattr(speaker, c) for c in _COLUMNS), version)) + "\n")


def read_corpus(corpus_dir: str | Path) -> dict[str, list[Utterance]]:
    """Read the utterances of each set, in the order train, dev, test.

    Raises DataError if the corpus is missing, or `make_corpus` did not write it like this.
    """
    corpus_dir = Path(corpus_dir)
    findings = Findings()
    speakers: dict[str, tuple[str, str]] = {}
    for number, fields in _read_rows(corpus_dir / "speakers.tsv", "\t"):
        if number == 1:
            continue
        if len(fields) < 3 or fields[1] not in PLAN or fields[2] not in ("m", "f"):
            findings.error("expected a speaker, its set and m or f", corpus_dir / "speakers.tsv", number)
        else:
            speakers[fields[0]] = (fields[1], fields[2])
    times: dict[str, list[PhoneTime]] = {}
    ctm = corpus_dir / "phones.ctm"
    for number, fields in _read_rows(ctm, " "):
        line = parse_line(fields)
        if line is None:
            findings.error(f"expected `utt 1 start duration phone`, found {name_some(fields)}", ctm, number)
            continue
        if line.phone not in PHONES or line.key.split("_")[0] not in speakers:
            findings.error(f"unknown phone or speaker: {line.key} {line.phone}", ctm, number)
        times.setdefault(line.key, []).append(PhoneTime(line.phone, line.start, line.end))
    findings.raise_errors()
    sets: dict[str, list[Utterance]] = {name: [] for name in PLAN}
    for utt_id, phone_times in sorted(times.items()):
        spk_id = utt_id.split("_")[0]
        set_name, sex = speakers[spk_id]
        sets[set_name].append(
            Utterance(
                utt_id=utt_id,
                spk_id=spk_id,
                audio=os.path.abspath(corpus_dir / "wav" / spk_id / f"{utt_id}.wav"),
                phones=tuple(time.phone for time in phone_times),
                sex=sex,
                phone_times=tuple(phone_times),
            )
        )
    return sets


def _read_rows(path: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    try:
        text = read_bytes(path).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{location(path)}cannot be read ({error}); make the corpus again with --force") from None
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        yield number, line.split(separator)


def _record_speaker(wav_dir: Path, seed: int, speaker: Speaker) -> tuple[list[str], Findings]:
    """Write the files of a speaker. Returns the lines of phones.ctm, and errors if other phones were spoken."""
    asked = []
    prompts = []
    for utt_id, words in speaker.sentences:
        pause_after = _pause_after(rng_of(seed, "pause", utt_id), len(words))
        asked.append(_asked_phones(words, pause_after))
        prompts.append(espeak.Prompt(to_mnemonics(words, pause_after), speaker.rate, speaker.pitch, speaker.range))
    speeches = espeak.synthesize("fa", speaker.variant, prompts)
    room = _room(speaker.reverb_s, rng_of(seed, "room", speaker.spk_id))
    (wav_dir / speaker.spk_id).mkdir(parents=True)
    lines: list[str] = []
    findings = Findings()
    for (utt_id, _), phones, prompt, speech in zip(speaker.sentences, asked, prompts, speeches, strict=True):
        said, starts = phone_starts(speech, speaker.rate)
        if said != phones:
            findings.error(
                f"{utt_id}: espeak-ng's voice {speaker.variant} said {' '.join(said)}; asked for {' '.join(phones)} "
                f"as {prompt.phonemes}; another version of espeakng-loader may do better"
            )
            continue
        samples = np.frombuffer(speech.samples, np.int16).astype(np.float32)
        pcm, bounds = _record(samples, starts, said, speaker, room, rng_of(seed, "recording", utt_id))
        content = io.BytesIO()
        soundfile.write(content, pcm, SAMPLE_RATE, format="WAV", subtype="PCM_16")
        with writer(NamedFile(wav_dir / speaker.spk_id / f"{utt_id}.wav", "wb"), "wb") as stream:
            stream.write(content.getbuffer())
        for phone, start, end in zip((SILENCE, *said), bounds, bounds[1:], strict=False):
            lines.append(format_line(utt_id, f"{start:.6f}", f"{end - start:.6f}", phone))
    return lines, findings


def _pause_after(rng: np.random.Generator, num_words: int) -> int:
    """The number of words before the pause inside a sentence; 0: no pause."""
    return int(rng.integers(2, num_words - 1)) if num_words >= 4 and rng.random() < 0.35 else 0


def _asked_phones(words: tuple[Word, ...], pause_after: int) -> tuple[str, ...]:
    first, second = sum(words[:pause_after], ()), sum(words[pause_after:], ())
    return (*first, *((SILENCE,) if first else ()), *second, SILENCE)


def to_mnemonics(words: tuple[Word, ...], pause_after: int = 0) -> str:
    """Words in espeak's phoneme mnemonics, stressed on the last syllable.

    A pause is put after `pause_after` words; 0 means no pause.
    """
    written = []
    for index, word in enumerate(words):
        if pause_after and index == pause_after:
            written.append(_MNEMONICS[SILENCE])
        stressed = max(i for i, phone in enumerate(word) if phone in VOWELS)
        names = []
        for i, phone in enumerate(word):
            name = _MNEMONICS.get(phone, phone)
            if phone == "q" and 0 < i < len(word) - 1 and word[i - 1] in VOWELS and word[i + 1] in VOWELS:
                name = "Q"  # between vowels, Persian q is a voiced fricative
            names.append("'" + name if i == stressed else name)
        written.append("|".join(names))  # the bar distinguishes t|S from tS
    return " ".join(written)


def phone_starts(speech: espeak.Speech, rate: int) -> tuple[tuple[str, ...], list[int]]:
    """The phones (in FarsDat's symbols) of espeak's events, and the sample at which each starts.

    An unknown event becomes `<name>`. `rate` is in words per minute. The event of an unvoiced stop is its burst. The
    silence of the closure before it is assigned to the stop.
    """
    samples = np.frombuffer(speech.samples, np.int16)
    closure = round(0.039 * (175 / rate) ** 0.8 * espeak.SAMPLE_RATE)  # after a vowel; measured at several rates
    phones: list[str] = []
    starts: list[int] = []
    for event, sample in speech.events:
        name = event.lstrip("',")  # marks of stress
        phone = _PHONE_OF_EVENT.get(name, f"<{name}>")  # espeak's y is a vowel, FarsDat's a glide
        if name in ("", "1") or phones[-1:] == [SILENCE] == [phone]:
            continue
        start = sample
        if name in _BURST_EVENTS:
            before_silent = not phones or phones[-1] in (SILENCE, "]")
            earliest = max(starts[-1] if starts else 0, sample - (closure if before_silent else 2 * closure))
            sounding = np.flatnonzero(samples[earliest:sample])
            start = earliest + (int(sounding[-1]) + 1 if len(sounding) else 0)
            if starts and sample - start < closure // 4:  # an echo of the voice fills the closure
                start = max(sample - closure, (starts[-1] + sample) // 2)
        phones.append(phone)
        starts.append(start)
    return tuple(phones), starts


def _record(
    samples: np.ndarray,
    starts: list[int],
    phones: tuple[str, ...],
    speaker: Speaker,
    room: np.ndarray,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a recording of `samples` (n,) in the `room`, whose impulse response is (m,), with noise.

    Silence is added before the speech, after it and in its pauses. Returns the samples (num_samples,) int16 at
    SAMPLE_RATE. Also returns the bounds (phones + 2,) of the first silence and of `phones`, in seconds.
    """
    # Silence is added in the middle of a pause, so that the decay of the phone before it stays.
    ends = [*starts[1:], len(samples)]
    middles = [(start + end) // 2 for phone, start, end in zip(phones, starts, ends, strict=True) if phone == SILENCE]
    positions = np.array([0, *middles])
    input_rate = espeak.SAMPLE_RATE * speaker.warp
    silences = np.round(rng.uniform(0.08, 0.3, len(positions)) * input_rate).astype(int)
    longer = np.insert(samples, np.repeat(positions, silences), np.float32(0))
    moved = [start + silences[positions <= start].sum() for start in starts]
    clean = soxr.resample(longer, input_rate, SAMPLE_RATE, quality="HQ")
    size = 1 << (len(clean) + len(room)).bit_length()
    heard = np.fft.irfft(np.fft.rfft(clean, size) * np.fft.rfft(room, size), size)[: len(clean)]
    snr_db = speaker.snr_db + rng.uniform(-2, 2)
    level = np.sqrt(np.mean(heard**2)) / 10 ** (snr_db / 20)
    heard = heard + level * _noise(size, speaker.noise_tilt, rng)[: len(clean)]
    peak = 32767 * 10 ** (-rng.uniform(1, 15) / 20)
    pcm = np.round(heard * (peak / np.abs(heard).max())).astype(np.int16)
    return pcm, np.array([0, *(start / input_rate for start in moved), len(pcm) / SAMPLE_RATE])


def _noise(num_samples: int, tilt: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (num_samples,) with power 1. Its spectrum falls with frequency to the power `tilt`."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    # The spectrum is flat below 1 % of the band. Otherwise the lowest frequencies would dominate.
    spectrum *= np.maximum(np.arange(len(spectrum)) / len(spectrum), 0.01) ** (-tilt / 2)
    noise = np.fft.irfft(spectrum, num_samples)
    return noise / np.sqrt(np.mean(noise**2))


def _room(reverb_s: float, rng: np.random.Generator) -> np.ndarray:
    """The impulse response (n,) of a room at SAMPLE_RATE: the direct sound, then noise that decays exponentially.

    It decays by 60 dB in `reverb_s` seconds.
    """
    if not reverb_s:
        return np.ones(1)
    time = np.arange(round(reverb_s * SAMPLE_RATE)) / SAMPLE_RATE
    tail = rng.standard_normal(len(time)) * 10 ** (-3 * time / reverb_s)
    tail[: round(0.002 * SAMPLE_RATE)] = 0
    tail *= 10 ** (-rng.uniform(6, 12) / 20) / np.sqrt(np.sum(tail**2))
    tail[0] = 1
    return tail
