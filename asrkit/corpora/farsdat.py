"""Reads FarsDat (ELRA-S0112; Bijankhan et al., SST 1994): Persian, read by 304 speakers. Utterances are parts of files.

The corpus is licensed, and some details of its format are known only from public descriptions (docs/farsdat.md).
Uncertain details are detected in the files, and notes report them.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar, get_args

from asrkit.audio import audio_info
from asrkit.corpora.common import Corpus
from asrkit.corpora.persian import PHONES, SILENCE
from asrkit.errors import AudioError, ConfigError, DataError, location, name_some
from asrkit.findings import Findings
from asrkit.io.numbers import MAX_WHOLE, parse_whole
from asrkit.io.text import open_text
from asrkit.lang.ipa import FARSDAT
from asrkit.types import CorpusInfo, Utterance

INFO = CorpusInfo("FarsDat", "Persian", "ELRA's for ELRA-S0112", "M. Bijankhan et al., FARSDAT, SST 1994")
# The symbol of the closure of each stop and affricate -> the symbol of its release.
CLOSURES = {
    **{"\\": "p", "`": "b", "-": "t", "=": "d", "@": "c", "*": "k"},
    **{"!": ";", "&": "g", "^": "q", "#": ",", "$": "'", "(": "]"},
}
# Allophone -> the phoneme as which it counts. The palatal stops are c and ;.
FOLDING = {"c": "k", ";": "g", "j": SILENCE}
SYMBOLS = frozenset({*PHONES, *CLOSURES, *FOLDING} - {SILENCE})

IPA = FARSDAT

NUM_SPEAKERS = 304
NUM_UTTERANCES = 6080
_UTTERANCES_PER_SPEAKER = 20

Split = Literal["textbook-95-5", "textbook-80-20"]
SPLITS: tuple[Split, ...] = get_args(Split)
DEFAULT_SPLIT: Split = "textbook-95-5"
DEFAULT_SEED = 1
# Numbers for the whole corpus: the held-out test speakers, and the test utterances of the textbook's random split.
_TEST_SPEAKERS = {"textbook-95-5": 15, "textbook-80-20": 61}
_TEST_UTTERANCES = {"textbook-95-5": 382, "textbook-80-20": 1216}
_DEV_SPEAKERS, _DEV_UTTERANCES = 15, 382  # of the train part, for both splits

_PUBLISHED = {"train": 3994, "dev": 475, "test": 287}  # numbers of utterances in the results of the public recipe
_PUBLIC_TRAIN_SENTENCES = frozenset(range(1, 405)) - {400}

_LEAST_USED_SHARE = 0.6  # of a recording up to the end of its last sentence; a smaller share is suspicious
_HEADER_BYTES = 44  # of a WAV file; it is not known whether offsets include it
_RECORDING = re.compile(r"s([12])([0-9]+)\.(snt|wav)")
_PHONEME_FILE = re.compile(r"ph([12])([0-9]+)\.([0-9]+)")

Recording = tuple[int, int]  # speaker, session
Key = TypeVar("Key")


@dataclass(frozen=True, slots=True)
class _Files:
    """The files of the corpus, by recording."""

    waves: dict[Recording, Path]
    sentences: dict[Recording, Path]
    phonemes: dict[Recording, dict[int, Path]]  # then by the number of the sentence
    speaker_tables: list[Path]


def to_phones(symbols: Iterable[str]) -> tuple[str, ...]:
    """The phonemes of a transcription: stops as one symbol, allophones folded, pauses as `sil`.

    A closure directly before its own release is dropped. Any other closure becomes the stop, which is then unreleased.
    """
    symbols = tuple(symbols)
    stops = []
    for symbol, following in itertools.zip_longest(symbols, symbols[1:]):
        release = CLOSURES.get(symbol)
        if release is None:
            stops.append(symbol)
        elif release != following:
            stops.append(release)
    return tuple(FOLDING.get(phone, phone) for phone in stops)


@dataclass(frozen=True)
class FarsdatOptions:
    """How FarsDat is divided into train, dev and test.

    Attributes:
        split: the name of one of the textbook's splits. Whole speakers are held out for test. If only a part of the
            corpus is there, their share is that of the whole corpus. dev is taken from the train part in the same way.
        random_split: hold out utterances instead of speakers.
        speaker_lists: a directory with train_spk.list, dev_spk.list and test_spk.list, which replace `split`. Sentences
            of dev and test are left out of train.
        published_sentences: with `speaker_lists`, keep only the sentences of dev and test that the public recipe uses.
        seed: the seed for the choice of speakers or utterances. `speaker_lists` does not use it.
    """

    split: Split = DEFAULT_SPLIT
    random_split: bool = False
    speaker_lists: Path | None = None
    published_sentences: bool = False
    seed: int = DEFAULT_SEED

    def check(self) -> None:
        """Raise ConfigError if options contradict each other; a line for each fault."""
        findings = Findings()
        if self.split not in SPLITS:
            findings.error(f"split {self.split}: expected one of {', '.join(SPLITS)}")
        if self.random_split and self.speaker_lists is not None:
            findings.error("speaker lists and a split by utterances exclude each other; choose one of them")
        if self.published_sentences and self.speaker_lists is None:
            findings.error("published sentences need speaker lists; give --speaker-lists, too")
        findings.raise_errors(ConfigError)


def read_corpus(corpus_dir: str | Path, options: FarsdatOptions = FarsdatOptions()) -> Corpus:
    """Read the utterances of train, dev and test. Their ids are SPEAKER_SESSION_SENTENCE.

    `corpus_dir` contains CD1, CD2 or both. Upper and lower case in names do not matter.

    Raises:
        DataError: files have faults (a line for each), or no utterance is left for train.
        ConfigError: options contradict each other.
    """
    corpus_dir = Path(corpus_dir)
    options.check()
    utts, findings = read_utterances(corpus_dir)
    if options.speaker_lists is None:
        sets, split = split_textbook(utts, options.split, random_split=options.random_split, seed=options.seed)
    else:
        lists = read_speaker_lists(options.speaker_lists)
        sets, split = split_by_lists(utts, lists, published_sentences=options.published_sentences)
    if not sets.get("train"):
        fewer = options.speaker_lists is not None and not options.published_sentences
        remedy = "; keep fewer of them with --sentences published" if fewer else ""
        raise DataError(f"{location(corpus_dir)}no utterance is left to train on; {' '.join(split.notes)}{remedy}")
    findings.extend(split)
    durations = {utt.utt_id: utt.end - utt.start for utt in utts if utt.end is not None and utt.start is not None}
    kept = {name: members for name, members in sets.items() if members}
    return Corpus(PHONES, kept, durations, findings.warnings, findings.notes, INFO)


# Reading


@dataclass
class _Reading:
    """The data that were read so far.

    Attributes:
        rates: sampling rate (Hz) -> number of recordings.
        used_shares: for each recording, the share up to the end of its last sentence.
    """

    sexes: Mapping[int, str]
    findings: Findings
    utts: list[Utterance] = field(default_factory=list)
    rates: Counter[int] = field(default_factory=Counter)
    used_shares: list[float] = field(default_factory=list)


def read_utterances(corpus_dir: str | Path) -> tuple[list[Utterance], Findings]:
    """All utterances, sorted by id, with warnings about missing parts and notes about what was found.

    Raises DataError if files have faults; a line for each.
    """
    corpus_dir = Path(corpus_dir)
    findings = Findings()
    files = _find_files(corpus_dir, findings)
    reading = _Reading(_read_sexes(files.speaker_tables, findings), findings)
    recordings = sorted({*files.waves, *files.sentences, *files.phonemes})
    for recording in recordings:
        _read_recording(files, recording, reading)
    if not recordings:
        findings.error("no recordings in wave of CD1 and CD2; expected FarsDat (ELRA-S0112)", corpus_dir)
    findings.raise_errors()
    utts = sorted(reading.utts, key=lambda utt: utt.utt_id)
    _warn_of_missing(reading.utts, recordings, findings)
    if nameless := sorted({utt.spk_id for utt in utts if utt.sex is None}):
        findings.warn(f"Speaker.txt gives no sex for speakers {name_some(nameless)}; they are left out of spk2gender")
    used_shares = sorted(reading.used_shares)
    if used_shares and used_shares[len(used_shares) // 2] < _LEAST_USED_SHARE:
        findings.warn(
            f"in half of the recordings, the last sentence ends before {used_shares[len(used_shares) // 2]:.0%} of the "
            "length; perhaps the offsets in SENTENCE are for another sampling rate than that of the WAV headers: "
            "listen to an utterance"
        )
    rates = ", ".join(f"{count} at {rate} Hz" for rate, count in sorted(reading.rates.items()))
    findings.note(f"{reading.rates.total()} recordings ({rates}, as their headers say), {len(utts)} utterances")
    return utts, findings


def _read_recording(files: _Files, recording: Recording, reading: _Reading) -> None:
    """Add the utterances of one recording."""
    findings = reading.findings
    wave, table, phoneme_files = _complete(files, recording, findings)
    if table is None:
        return
    num_errors = len(findings.errors)
    segments = _read_segments(table, findings)
    is_whole = len(findings.errors) == num_errors
    transcripts = _read_transcripts(table, segments, phoneme_files, recording, is_whole, findings)
    if wave is None:
        return
    try:
        num_samples, rate, num_channels = audio_info(wave)
    except AudioError as error:
        findings.error(str(error))
        return
    if num_channels != 1:
        findings.error(f"{num_channels} channels; expected 1, for SENTENCE counts bytes of one channel", wave)
        return
    reading.rates[rate] += 1
    spk_id, rec_id = f"{recording[0]:03d}", f"{recording[0]:03d}_{recording[1]}"
    for sentence, (line, first, last) in segments.items():
        if last > 2 * num_samples + _HEADER_BYTES:
            findings.error(
                f"sentence {sentence} ends at byte {last}, past the audio: {wave} has {2 * num_samples} bytes of "
                "samples",
                table,
                line,
            )
        elif sentence in transcripts:
            reading.utts.append(
                Utterance(
                    utt_id=f"{rec_id}_{sentence:03d}",
                    spk_id=spk_id,
                    audio=os.path.abspath(wave),
                    phones=transcripts[sentence],
                    rec_id=rec_id,
                    start=first / (2 * rate),
                    end=min(last, 2 * num_samples) / (2 * rate),
                    sex=reading.sexes.get(recording[0]),
                )
            )
    if segments:
        reading.used_shares.append(max(last for _, _, last in segments.values()) / (2 * num_samples))


def _find_files(corpus_dir: Path, findings: Findings) -> _Files:
    files = _Files({}, {}, defaultdict(dict), [])
    discs = {name: _named(corpus_dir, name) for name in ("CD1", "CD2")}
    if not any(discs.values()):
        raise DataError(f"{location(corpus_dir)}no directory CD1 or CD2 in it; expected FarsDat (ELRA-S0112)")
    others: list[Path] = []
    for name, directories in discs.items():
        if not directories:
            findings.warn(f"no directory {name}")
        for disc in directories:
            for part, place in (("wave", files.waves), ("SENTENCE", files.sentences)):
                for path in _walk(disc, part, findings):
                    match = _RECORDING.fullmatch(path.name.lower())
                    recording = _recording(match) if match and (match[3] == "wav") == (part == "wave") else None
                    if recording is not None:
                        _place(place, recording, path, findings)
                    else:
                        others.append(path)
            for path in _walk(disc, "PHONEME", findings):
                match = _PHONEME_FILE.fullmatch(path.name.lower())
                recording, sentence = (_recording(match), parse_whole(match[3])) if match else (None, None)
                if recording is not None and sentence is not None:
                    _place(files.phonemes[recording], sentence, path, findings)
                else:
                    others.append(path)
            tables = [path for path in _walk(disc, "Information", findings) if path.name.lower() == "speaker.txt"]
            if not tables:
                findings.warn("no Information/Speaker.txt", disc)
            files.speaker_tables.extend(tables)
    if others:
        more = f" and {len(others) - 1} others" if len(others) > 1 else ""
        findings.warn(f"not used, because of their names: {others[0]}{more}")
    return files


def _recording(match: re.Match[str]) -> Recording | None:
    """The speaker and the session in the name of a file."""
    speaker, session = parse_whole(match[2]), parse_whole(match[1])
    return None if speaker is None or session is None else (speaker, session)


def _named(directory: Path, name: str) -> list[Path]:
    """The directories with this name, in upper or lower case."""
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        raise DataError(
            f"{location(directory)}cannot be read ({error.strerror}); expected FarsDat (ELRA-S0112)"
        ) from None
    return [entry for entry in entries if entry.name.lower() == name.lower() and entry.is_dir()]


def _walk(disc: Path, part: str, findings: Findings) -> list[Path]:
    """All files below the directory `part`, sorted."""
    directories = _named(disc, part)
    if not directories:
        findings.warn(f"no directory {part}", disc)
    walks = [walk for directory in directories for walk in os.walk(directory, onerror=findings.unreadable)]
    return sorted(path for parent, _, names in walks for name in names if (path := Path(parent, name)).is_file())


def _place(places: dict[Key, Path], key: Key, path: Path, findings: Findings) -> None:
    first = places.setdefault(key, path)
    if first is not path:
        findings.error(f"{first} has the same name; remove one of them", path)


def _complete(
    files: _Files, recording: Recording, findings: Findings
) -> tuple[Path | None, Path | None, Mapping[int, Path]]:
    """The audio, table and phoneme files of a recording. A missing part is a fault."""
    wave, table = files.waves.get(recording), files.sentences.get(recording)
    phoneme_files = files.phonemes.get(recording, {})
    name = f"S{recording[1]}{recording[0]:03d}"
    if wave is None:
        there = table or min(phoneme_files.values())
        findings.error(f"no audio {name}.WAV in wave; copy it, or remove its other files", there)
    elif table is None:
        findings.error(f"no {name}.SNT in SENTENCE, which says where its sentences are", wave)
    return wave, table, phoneme_files


def _read_lines(path: Path, findings: Findings) -> list[tuple[int, str]]:
    """The lines that are not blank, with numbers. A byte is a character. DOS's line ends and file end are removed."""
    try:
        with open_text(path) as stream:
            text = stream.read().decode("latin-1")
    except OSError as error:
        findings.error(f"cannot be read ({error.strerror})", path)
        return []
    lines = ((number, line.rstrip("\r\x1a\x00")) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in lines if line.strip(" \t")]


def _read_segments(table: Path, findings: Findings) -> dict[int, tuple[int, int, int]]:
    """Number of the sentence -> its line in the table, and the offsets of its first and last byte."""
    segments: dict[int, tuple[int, int, int]] = {}
    lines = _read_lines(table, findings)
    if not lines:
        findings.error("empty; expected `sentence start end` on each line", table)
    for line, text in lines:
        numbers = [number for field in text.split()[:3] if (number := parse_whole(field, -MAX_WHOLE)) is not None]
        if len(numbers) != 3:
            findings.error(f"expected `sentence start end` in whole numbers, found {text.strip()!r}", table, line)
            continue
        sentence, first, last = numbers
        if not 0 <= first < last:
            findings.error(f"sentence {sentence}: bytes {first} to {last}; expected 0 <= start < end", table, line)
        elif sentence in segments:
            findings.error(f"sentence {sentence} a second time (first in line {segments[sentence][0]})", table, line)
        else:
            segments[sentence] = (line, first, last)
    return segments


def _read_transcripts(
    table: Path,
    segments: Mapping[int, tuple[int, int, int]],
    phoneme_files: Mapping[int, Path],
    recording: Recording,
    is_whole: bool,
    findings: Findings,
) -> dict[int, tuple[str, ...]]:
    """Number of the sentence -> phones. A sentence that is not in the table is an error if the table `is_whole`."""
    transcripts = {}
    for sentence, (line, _, _) in segments.items():
        if sentence not in phoneme_files:
            name = f"PH{recording[1]}{recording[0]:03d}.{sentence}"
            findings.error(f"sentence {sentence}: no {name} in PHONEME", table, line)
    for sentence, path in sorted(phoneme_files.items()):
        phones = _read_phones(path, findings)
        transcripts[sentence] = phones
        if is_whole and sentence not in segments:
            findings.error(f"no line for sentence {sentence} in {table}", path)
    return transcripts


def _read_phones(path: Path, findings: Findings) -> tuple[str, ...]:
    lines = _read_lines(path, findings)
    unknown = [(line, text[0]) for line, text in lines if text[0] not in SYMBOLS]
    if not lines:
        findings.error("no phones in it", path)
    elif len(unknown) > max(1, len(lines) // 2):
        names = name_some(sorted({repr(symbol) for _, symbol in unknown}))
        findings.error(
            f"{len(unknown)} of {len(lines)} lines begin with an unknown symbol "
            f"({names}); expected one of FarsDat's as the first character; the first line is {lines[0][1][:40]!r}",
            path,
        )
    else:
        for line, symbol in unknown:
            findings.error(f"unknown symbol {symbol!r} as the first character", path, line)
    return to_phones(text[0] for _, text in lines)


def _read_sexes(tables: Sequence[Path], findings: Findings) -> dict[int, str]:
    """Speaker -> m or f. Both discs may list a speaker if they agree."""
    sexes: dict[int, tuple[str, str]] = {}  # speaker -> sex, and its line
    for path in tables:
        first_lines: dict[int, int] = {}
        for line, text in _read_lines(path, findings):
            fields = text.split()
            if "Code" in text:
                continue
            speaker = parse_whole(fields[0]) if fields else None
            if len(fields) < 3 or speaker is None or fields[2][0].lower() not in "mf":
                findings.warn(f"expected a speaker's number first and M or F third, found {text.strip()!r}", path, line)
                continue
            sex = fields[2][0].lower()
            before = sexes.setdefault(speaker, (sex, f"{path}:{line}"))
            if first_lines.setdefault(speaker, line) != line:
                findings.error(f"speaker {speaker} a second time (first in line {first_lines[speaker]})", path, line)
            elif before[0] != sex:
                findings.error(f"speaker {speaker} is {sex}, but {before[0]} in {before[1]}", path, line)
    return {speaker: sex for speaker, (sex, _) in sexes.items()}


def _warn_of_missing(utts: Sequence[Utterance], recordings: Sequence[Recording], findings: Findings) -> None:
    """Warn if a copy lacks some of the 304 speakers (two sessions each) and 6080 utterances of the corpus."""
    speakers = {speaker for speaker, _ in recordings}
    if len(utts) != NUM_UTTERANCES or len(speakers) != NUM_SPEAKERS:
        findings.warn(
            f"{len(speakers)} speakers and {len(utts)} utterances; the whole corpus has {NUM_SPEAKERS} and "
            f"{NUM_UTTERANCES}"
        )
    if absent := set(range(1, NUM_SPEAKERS + 1)) - speakers:
        findings.warn(f"missing speakers: {_ranges(absent)}")
    there = set(recordings)
    if single := [f"{s:03d} ({3 - session})" for s, session in recordings if (s, 3 - session) not in there]:
        findings.warn(f"speakers with a missing session: {name_some(single)}")
    counts = Counter(utt.spk_id for utt in utts)
    few = [f"{spk} ({count})" for spk, count in sorted(counts.items()) if count != _UTTERANCES_PER_SPEAKER]
    if few:
        findings.warn(f"speakers without exactly {_UTTERANCES_PER_SPEAKER} utterances: {name_some(few)}")


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as text, such as 1-3 7 9-12."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return " ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


# Splits

Sets = dict[str, list[Utterance]]


def split_textbook(
    utts: Sequence[Utterance], split: Split, *, random_split: bool = False, seed: int = DEFAULT_SEED
) -> tuple[Sets, Findings]:
    """Divide utterances into train, dev and test by the textbook's `split`; also returns a note about it.

    Whole speakers are held out, or utterances with `random_split`. The order of choice depends only on the ids and the
    seed.

    Raises DataError if there are fewer than three speakers (or utterances).
    """
    key = "utt_id" if random_split else "spk_id"
    what = "utterances" if random_split else "speakers"
    whole = NUM_UTTERANCES if random_split else NUM_SPEAKERS
    keys = sorted(
        {getattr(utt, key) for utt in utts}, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest()
    )
    if len(keys) < 3:
        raise DataError(f"{len(keys)} {what}; expected 3 or more, one each for train, dev and test")
    num_test, num_dev = (
        max(1, round(len(keys) * count / whole))
        for count in (
            (_TEST_UTTERANCES[split], _DEV_UTTERANCES) if random_split else (_TEST_SPEAKERS[split], _DEV_SPEAKERS)
        )
    )
    set_of = dict.fromkeys(keys, "train")
    set_of |= dict.fromkeys(keys[:num_test], "test") | dict.fromkeys(keys[num_test : num_test + num_dev], "dev")
    sets: Sets = {"train": [], "dev": [], "test": []}
    for utt in utts:
        sets[set_of[getattr(utt, key)]].append(utt)
    manner = "random utterances, so every set has the same speakers" if random_split else "whole speakers"
    part = len(sets["train"]) + len(sets["dev"])
    findings = Findings()
    findings.note(
        f"split {split} by {manner}, seed {seed}: {part} utterances to train on ({len(sets['dev'])} of them dev), "
        f"{len(sets['test'])} to test on"
    )
    return sets, findings


def read_speaker_lists(directory: str | Path) -> dict[str, set[int]]:
    """The speakers of train, dev and test, from train_spk.list, dev_spk.list and test_spk.list: one number per line.

    Raises DataError if a file is missing, a line is not a number, or a speaker is listed twice. The message has a line
    for each fault.
    """
    findings = Findings()
    lists: dict[str, set[int]] = {}
    places: dict[int, str] = {}
    for name in ("train", "dev", "test"):
        path = Path(directory) / f"{name}_spk.list"
        lists[name] = set()
        lines = _read_lines(path, findings)
        if not lines and path.is_file():
            findings.error("empty; expected a speaker's number on each line", path)
        for line, text in lines:
            number = text.strip()
            speaker = parse_whole(number)
            if speaker is None:
                findings.error(f"expected a speaker's number, found {number!r}", path, line)
                continue
            place = f"{path}:{line}"
            if places.setdefault(speaker, place) != place:
                findings.error(f"speaker {number} a second time (first in {places[speaker]})", path, line)
            lists[name].add(speaker)
    findings.raise_errors()
    return lists


def split_by_lists(
    utts: Sequence[Utterance], lists: Mapping[str, set[int]], *, published_sentences: bool = False
) -> tuple[Sets, Findings]:
    """Divide utterances into train, dev and test by speaker `lists`; also returns warnings and a note.

    Sentences of dev and test are left out of train. With `published_sentences`, dev and test have the sentences that
    the public recipe chooses (Kaldi, egs/farsdat/s5/local/farsdat_data_prep.sh). It takes the speakers of the set whose
    number has three digits. For each, it sorts the sentence numbers and copies of the speaker's own number together,
    and chooses the eight smallest.
    """
    sets: Sets = {name: [utt for utt in utts if int(utt.spk_id) in speakers] for name, speakers in lists.items()}
    if published_sentences:
        for name in ("dev", "test"):
            chosen = _published_choice(sets[name])
            sets[name] = [utt for utt in sets[name] if _sentence(utt) in chosen]
        sets["train"] = [utt for utt in sets["train"] if _sentence(utt) in _PUBLIC_TRAIN_SENTENCES]
    held_out = {_sentence(utt) for name in ("dev", "test") for utt in sets[name]}
    num_candidates = len(sets["train"])
    sets["train"] = [utt for utt in sets["train"] if _sentence(utt) not in held_out]
    findings = Findings()
    listed = set[int]().union(*lists.values())
    there = {int(utt.spk_id) for utt in utts}
    if absent := listed - there:
        findings.warn(f"speakers that are listed, but not there: {_ranges(absent)}")
    if unlisted := there - listed:
        findings.warn(f"speakers that are in no list, and so in no set: {_ranges(unlisted)}")
    counts = {name: len(kept) for name, kept in sets.items()}
    if published_sentences and counts != _PUBLISHED:
        findings.warn(
            f"utterances in train, dev, test: {', '.join(map(str, counts.values()))}; published: "
            f"{', '.join(map(str, _PUBLISHED.values()))}"
        )
    findings.note(
        f"split by speaker lists{', published sentences' if published_sentences else ''}: {len(held_out)} sentences of "
        f"dev and test kept out of train, {num_candidates - counts['train']} of its {num_candidates} utterances"
    )
    return sets, findings


def _sentence(utt: Utterance) -> int:
    return int(utt.utt_id.rsplit("_", 1)[1])


def _published_choice(utts: Iterable[Utterance]) -> set[int]:
    # The recipe sorts the sentence numbers of a speaker together with as many copies of the speaker's number. It
    # searches for speakers by numbers without leading zeros, so it finds only those from 100 on.
    numbers: dict[int, list[int]] = defaultdict(list)
    for utt in utts:
        numbers[int(utt.spk_id)] += [_sentence(utt), int(utt.spk_id)]
    return {number for speaker, own in numbers.items() if speaker >= 100 for number in sorted(own)[:8]}
