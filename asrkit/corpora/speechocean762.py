"""Reads speechocean762 (OpenSLR 101; Zhang et al., Interspeech 2021): English, read by Mandarin speakers.

It reads the tables of the public download. The audio may be in any format, at the paths in wav.scp.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path

from asrkit.errors import DataError, location, name_some
from asrkit.findings import Findings
from asrkit.io.numbers import parse_whole
from asrkit.io.scp import scan_table, split_fields
from asrkit.types import CorpusInfo, Utterance

INFO = CorpusInfo(
    "speechocean762",
    "English",
    "CC BY 4.0",
    "J. Zhang et al., speechocean762: An Open-Source Non-native English Speech Corpus For Pronunciation Assessment, "
    "Interspeech 2021; openslr.org/101",
)
# The 39 phones of ARPAbet, without stress.
PHONES = (
    *("AA", "AE", "AH", "AO", "AW", "AY", "B", "CH", "D", "DH", "EH", "ER", "EY", "F", "G", "HH", "IH", "IY", "JH"),
    *("K", "L", "M", "N", "NG", "OW", "OY", "P", "R", "S", "SH", "T", "TH", "UH", "UW", "V", "W", "Y", "Z", "ZH"),
)
_DEV_STRIDE = 10  # dev has every tenth speaker of the train part, from the first
_EXPECTED = {
    "train": (112, 2240),
    "dev": (13, 260),
    "test": (125, 2500),
}  # numbers of speakers and utterances in the public corpus
_LABEL = re.compile(r"([A-Z]+)[0-2]?_[BIES]")


def read_corpus(corpus_dir: str | Path) -> dict[str, list[Utterance]]:
    """Read the utterances of train, dev and test, with the ids of the corpus.

    Phones are without stress and word position. They are canonical pronunciations. dev has every tenth speaker (in the
    order of ids) of the corpus's train part.

    Raises DataError if a table or an audio file is missing, phones of words are missing, or a label is unknown. The
    message has a line for each fault.
    """
    corpus_dir = Path(corpus_dir)
    findings = Findings()
    if not (corpus_dir / "train").is_dir():
        raise DataError(
            f"{location(corpus_dir)}no train directory in it; expected speechocean762 unpacked (OpenSLR 101)"
        )
    words = _read_phones(corpus_dir / "resource" / "text-phone", findings)
    parts = {name: _read_part(corpus_dir, name, words, findings) for name in ("train", "test")}
    in_both = ({utt.spk_id for utt in parts["train"]} & {utt.spk_id for utt in parts["test"]}) - {""}
    if in_both:
        findings.error(f"speakers both in train and in test: {name_some(sorted(in_both))}", corpus_dir)
    findings.raise_errors()
    dev_speakers = set(sorted({utt.spk_id for utt in parts["train"]})[::_DEV_STRIDE])
    return {
        "train": [utt for utt in parts["train"] if utt.spk_id not in dev_speakers],
        "dev": [utt for utt in parts["train"] if utt.spk_id in dev_speakers],
        "test": parts["test"],
    }


def count_notes(sets: Mapping[str, list[Utterance]]) -> list[str]:
    """A line for each set whose numbers of speakers and utterances differ from the public corpus."""
    notes = []
    for name, utts in sets.items():
        counts = (len({utt.spk_id for utt in utts}), len(utts))
        if counts != _EXPECTED[name]:
            speakers, num_utts = _EXPECTED[name]
            notes.append(
                f"{name}: {counts[0]} speakers, {counts[1]} utterances; the public corpus has {speakers} and {num_utts}"
            )
    return notes


def _read_phones(path: Path, findings: Findings) -> dict[str, dict[int, tuple[str, ...]]]:
    """Read text-phone as utt_id -> index of the word -> its phones. Words with a fault are included."""
    words: dict[str, dict[int, tuple[str, ...]]] = {}
    for line, key, value in scan_table(path, findings):
        utt_id, _, index = key.rpartition(".")
        number = parse_whole(index)
        if not utt_id or number is None:
            findings.error(f"expected `utterance.wordindex phones`, found {key}", path, line)
            continue
        labels = split_fields(value)
        matches = [_LABEL.fullmatch(label) for label in labels]
        unknown = [
            label for label, match in zip(labels, matches, strict=True) if match is None or match[1] not in PHONES
        ]
        if unknown:
            findings.error(f"{key}: unknown symbol {name_some(unknown)}; expected ARPAbet such as AH0_B", path, line)
        words.setdefault(utt_id, {})[number] = tuple(match[1] for match in matches if match)
    return words


def _read_part(
    corpus_dir: Path, name: str, words: Mapping[str, Mapping[int, tuple[str, ...]]], findings: Findings
) -> list[Utterance]:
    directory = corpus_dir / name
    tables: dict[str, dict[str, str]] = {}
    lines: dict[str, dict[str, int]] = {}
    for table in ("wav.scp", "text", "utt2spk", "spk2gender"):
        rows = list(scan_table(directory / table, findings))
        tables[table] = {key: value for _, key, value in rows}
        lines[table] = {key: line for line, key, _ in rows}

    def where(table: str, key: str) -> str:
        return location(directory / table, lines[table][key])

    utt2spk = tables["utt2spk"]
    for table in ("wav.scp", "text"):
        if tables[table] and utt2spk:
            for utt_id in sorted(utt2spk.keys() - tables[table].keys()):
                findings.error(f"{where('utt2spk', utt_id)}{utt_id} is not in {table}")
            for utt_id in sorted(tables[table].keys() - utt2spk.keys()):
                findings.error(f"{where(table, utt_id)}{utt_id} is not in utt2spk")
    for spk_id, sex in tables["spk2gender"].items():
        if sex not in ("m", "f"):
            findings.error(f"{where('spk2gender', spk_id)}speaker {spk_id}: expected m or f, found {sex}")
    utts = []
    for utt_id, entry in tables["wav.scp"].items():
        audio = os.path.abspath(corpus_dir / entry)
        if not os.path.isfile(audio):
            findings.error(f"{where('wav.scp', utt_id)}{utt_id}: no audio file {audio}; unpack the whole corpus")
        of_words = words.get(utt_id, {})
        num_words = len(split_fields(tables["text"].get(utt_id, "")))
        if words and utt_id in lines["text"] and sorted(of_words) != list(range(num_words)):
            missing = sorted(set(range(num_words)) - of_words.keys())
            what = f"no phones for word {name_some(list(map(str, missing)))}" if missing else "more words"
            findings.error(f"{where('text', utt_id)}{utt_id}: {what} in resource/text-phone; get the whole corpus")
        phones = tuple(itertools.chain.from_iterable(of_words[index] for index in sorted(of_words)))
        spk_id = utt2spk.get(utt_id, "")
        utts.append(Utterance(utt_id, spk_id, audio, phones, sex=tables["spk2gender"].get(spk_id)))
    # Kaldi's tools need speakers in the order of their utterances.
    utts.sort(key=lambda utt: utt.utt_id)
    for before, utt in itertools.pairwise(utts):
        if utt.spk_id < before.spk_id and utt.utt_id in utt2spk and before.utt_id in utt2spk:
            findings.error(
                f"{where('utt2spk', utt.utt_id)}{utt.utt_id} of speaker {utt.spk_id} comes after {before.utt_id} of "
                f"{before.spk_id}; expected utterance ids that sort as their speakers do"
            )
    return utts
