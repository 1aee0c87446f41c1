"""TIMIT as it lies on disk: every layout that circulates, the standard sets, and damage."""

import dataclasses
import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from asrkit.corpora.timit import CORE_TEST_SPEAKERS, DEV_SPEAKERS, read_corpus
from asrkit.errors import DataError
from asrkit.types import PhoneTime
from tests.shared import shared_or_skip
from tests.timit_tree import (
    LAYOUTS,
    NLTK,
    SENTENCES,
    Speech,
    files_of,
    make_complete_tree,
    make_tree,
    riff,
    speak,
    sphere,
    write_utterance,
)

UPPER = LAYOUTS["upper"]
NO_SA = sorted(name for name in SENTENCES if not name.startswith("sa"))


def digests(root: Path) -> dict[str, tuple[str, int]]:
    """Content and time of every file below `root`."""
    return {
        str(path): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def faults_of(root: Path, **options) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_corpus(root, **options)
    return str(caught.value).split("\n")


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_sets(name, tmp_path):
    layout = LAYOUTS[name]
    make_tree(tmp_path, layout)
    before = digests(tmp_path)
    corpus = read_corpus(tmp_path, num_phones=61)
    assert digests(tmp_path) == before
    expected = {"train": ("fcjf0", "mdac0"), "dev": DEV_SPEAKERS[:1], "test": CORE_TEST_SPEAKERS[:1]}
    for set_name, spks in expected.items():
        utts = corpus.sets[set_name]
        assert [utt.utt_id for utt in utts] == [f"{spk}-{sentence}" for spk in spks for sentence in NO_SA]
        part = "train" if set_name == "train" else "test"
        for utt in utts:
            sentence = utt.utt_id.partition("-")[2]
            paths = files_of(layout, tmp_path, part, utt.spk_id, sentence)
            assert Path(utt.audio) == paths["wav"]
            assert utt.sex == utt.spk_id[0]
            rows = [line.split() for line in paths["phn"].read_text().splitlines()]
            assert utt.phones == tuple(row[2] for row in rows)
            assert utt.phone_times == tuple(PhoneTime(p, int(a) / 16000, int(b) / 16000) for a, b, p in rows)
            assert corpus.durations[utt.utt_id] == int(rows[-1][1]) / 16000
    assert any("SPKRINFO" in warning for warning in corpus.warnings) == (name == "no-table")


def test_the_only_copy_of_an_utterance_may_be_the_riff_one(tmp_path):
    layout = dataclasses.replace(UPPER, riff_beside=True)
    make_tree(tmp_path, layout, num_dev=0, num_core=0)
    for path in tmp_path.rglob("*.WAV"):
        path.unlink()
    utts = read_corpus(tmp_path).sets["train"]
    assert len(utts) == 16 and all(utt.audio.endswith(".WAV.wav") for utt in utts)


@pytest.mark.parametrize("container", ["sphere", "riff"])
def test_nltk_sample_is_a_part_of_train(container, tmp_path):
    make_tree(tmp_path, dataclasses.replace(NLTK, container=container), num_train=4)
    corpus = read_corpus(tmp_path)
    assert list(corpus.sets) == ["train"]
    assert len(corpus.sets["train"]) == 4 * 8
    assert corpus.sets["train"][-1].utt_id == "mdac0-sx397"
    assert corpus.warnings == (
        "train: 4 of 462 speakers, 32 of 3696 utterances",
        "dev: this copy has none of its 50 speakers; no dev is made",
        "test: this copy has none of its 24 speakers; no test is made",
    )


def test_directories_and_names_of_mixed_case(tmp_path):
    make_tree(tmp_path / "upper", UPPER)
    expected = read_corpus(tmp_path / "upper")
    for path in sorted((tmp_path / "upper").rglob("*")):
        if path.is_file():
            parts = [part.swapcase() if index % 2 else part for index, part in enumerate(path.parts[-4:])]
            target = tmp_path.joinpath("mixed", *parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            text = path.read_bytes()
            target.write_bytes(text.upper() if path.suffix == ".PHN" else text)
    mixed = read_corpus(tmp_path / "mixed")
    assert mixed.warnings == expected.warnings
    for name, utts in expected.sets.items():
        assert [dataclasses.replace(utt, audio="") for utt in mixed.sets[name]] == [
            dataclasses.replace(utt, audio="") for utt in utts
        ]


def test_the_train_tree_itself_links_and_other_files(tmp_path):
    make_tree(tmp_path / "copy", UPPER)
    train = tmp_path / "copy" / "TRAIN"
    (train / "DR1" / "FCJF0" / "._SA1.WAV").write_bytes(b"Finder's")
    (train / "DR1" / "FCJF0" / "notes.txt").write_text("mine")
    (train / "again").symlink_to(train / "DR1")
    (train / "DR1" / "up").symlink_to(tmp_path / "copy")
    assert {name: len(utts) for name, utts in read_corpus(train).sets.items()} == {"train": 16, "dev": 8, "test": 8}
    (train / "DR1" / "up").unlink()
    assert {name: len(utts) for name, utts in read_corpus(train).sets.items()} == {"train": 16}


def test_speaker_lists():
    assert len(set(CORE_TEST_SPEAKERS)) == 24
    assert len(set(DEV_SPEAKERS)) == 50
    assert not set(CORE_TEST_SPEAKERS) & set(DEV_SPEAKERS)
    # Two men and a woman from each of eight dialect regions.
    assert sum(spk.startswith("m") for spk in CORE_TEST_SPEAKERS) == 16


def test_the_speaker_lists_are_those_of_the_facts_about_the_corpus():
    facts = shared_or_skip("docs/corpora.md").read_text()
    words = set(re.findall(r"\b[mf][a-z]{3}\d\b", facts.partition("## FarsDat")[0]))
    assert words >= {*CORE_TEST_SPEAKERS, *DEV_SPEAKERS}


@pytest.mark.slow
def test_a_complete_copy_has_the_standard_counts_and_a_partial_one_says_what_is_missing(tmp_path):
    make_complete_tree(tmp_path)
    core = read_corpus(tmp_path)
    assert core.warnings == ()
    counts = {name: (len({utt.spk_id for utt in utts}), len(utts)) for name, utts in core.sets.items()}
    assert counts == {"train": (462, 3696), "dev": (50, 400), "test": (24, 192)}
    tokens = {name: sum(len(utt.phones) for utt in utts) for name, utts in core.sets.items()}
    assert (tokens["dev"], tokens["test"]) == (15057, 7215)
    assert not any("-sa" in utt.utt_id for utts in core.sets.values() for utt in utts)
    spks = {name: {utt.spk_id for utt in utts} for name, utts in core.sets.items()}
    assert not spks["train"] & spks["dev"] and not spks["train"] & spks["test"] and not spks["dev"] & spks["test"]

    full = read_corpus(tmp_path, test="full")
    assert (len({utt.spk_id for utt in full.sets["test"]}), len(full.sets["test"])) == (168, 1680)
    assert sum("-sa" in utt.utt_id for utt in full.sets["test"]) == 336
    assert full.sets["train"] == core.sets["train"] and full.sets["dev"] == core.sets["dev"]
    assert len(full.warnings) == 1 and "holds the dev speakers too" in full.warnings[0]

    shutil.rmtree(tmp_path / "train/dr1/maaa9")
    shutil.rmtree(tmp_path / "test/dr1/fpas0")
    for ending in ("wav", "phn"):
        (tmp_path / f"test/dr1/faks0/sx37.{ending}").unlink()
        (tmp_path / f"test/dr1/mdab0/sa1.{ending}").unlink()  # is in no standard set
    labels = tmp_path / "test/dr1/mdab0/sx37.phn"
    labels.write_text("0 1000 h#\n")
    partial = read_corpus(tmp_path)
    assert partial.warnings == (
        "train: 461 of 462 speakers, 3688 of 3696 utterances; absent: maaa9",
        "dev: 50 of 50 speakers, 399 of 400 utterances; not with 8 sentences: faks0 (7)",
        "test: 23 of 24 speakers, 184 of 192 utterances; absent: fpas0",
    )


def test_labels_that_are_not_the_published_ones_are_noticed_by_their_number(tmp_path):
    make_tree(tmp_path, UPPER, num_train=0, num_dev=0, num_core=24)
    warnings = read_corpus(tmp_path).warnings
    assert len(warnings) == 3
    assert re.fullmatch(r"test: \d+ labels other than q; the published corpus has 7215", warnings[-1])


def test_speakers_missing_from_the_table(tmp_path):
    make_tree(tmp_path, UPPER)
    table = tmp_path / "DOC" / "SPKRINFO.TXT"
    text = table.read_text()
    table.write_text("".join(line for line in text.splitlines(keepends=True) if not line.startswith("CJF0")))
    corpus = read_corpus(tmp_path)
    assert corpus.warnings[-1] == f"1 speaker not in {table}: fcjf0; the sex is taken from the id"
    assert {utt.sex for utt in corpus.sets["train"] if utt.spk_id == "fcjf0"} == {"f"}
    assert not any(" not in " in warning for warning in corpus.warnings[:-1])
    table.write_text(re.sub(r"^(\w+)(\s+)([MF])", r"\3\1\2\3", text, flags=re.MULTILINE))  # ids with the sex
    assert not any(" not in " in warning for warning in read_corpus(tmp_path).warnings)


def write_one(root: Path, phones: list[str]) -> Speech:
    speech = speak(np.random.default_rng(3), phones)
    write_utterance(UPPER, root, "train", "fcjf0", "sx37", speech)
    return speech


@pytest.mark.parametrize(
    ("num_phones", "expected"),
    [
        (61, "h# q aa tcl t ax-h kcl pau zh h#"),
        (48, "sil aa cl t ax cl sil zh sil"),
        (39, "sil aa sil t ah sil sil sh sil"),
    ],
)
def test_folding_keeps_times_drops_q_and_merges_nothing(num_phones, expected, tmp_path):
    speech = write_one(tmp_path, ["h#", "q", "aa", "tcl", "t", "ax-h", "kcl", "pau", "zh", "h#"])
    corpus = read_corpus(tmp_path, num_phones=num_phones)
    (utt,) = corpus.sets["train"]
    assert utt.phones == tuple(expected.split())
    kept = [label for label in speech.labels if num_phones == 61 or label[2] != "q"]
    assert [(time.start, time.end) for time in utt.phone_times] == [(a / 16000, b / 16000) for a, b, _ in kept]
    assert len(corpus.phones) == len(set(corpus.phones)) == num_phones
    assert set(utt.phones) <= set(corpus.phones)


def test_the_last_label_may_end_a_little_past_the_audio_and_is_cut(tmp_path):
    speech = write_one(tmp_path, ["h#", "aa", "h#"])
    labels = files_of(UPPER, tmp_path, "train", "fcjf0", "sx37")["phn"]
    num_samples = len(speech.samples)
    start, end, _ = speech.labels[-1]
    labels.write_text(labels.read_text().replace(f"{start} {end} h#", f"{start} {end + 150} h#\n\n"))
    corpus = read_corpus(tmp_path)
    assert corpus.sets["train"][0].phone_times[-1] == PhoneTime("sil", start / 16000, num_samples / 16000)
    labels.write_text(labels.read_text().replace(f"{end + 150}", f"{end + 200}"))
    assert faults_of(tmp_path) == [
        f"{labels}:3: h# ends at sample {end + 200}, past the end of the audio, which has {num_samples}"
    ]


def test_a_label_without_length_is_a_warning(tmp_path):
    write_one(tmp_path, ["h#", "aa", "h#"])
    labels = files_of(UPPER, tmp_path, "train", "fcjf0", "sx37")["phn"]
    labels.write_text("0 1000 h#\n1000 1000 tcl\n1000 2000 t\n")
    corpus = read_corpus(tmp_path)
    assert corpus.sets["train"][0].phones == ("sil", "cl", "t")
    assert f"{labels}:2: tcl has no length (1000 to 1000); kept" in corpus.warnings


def test_all_damage_is_listed_in_one_go_with_path_and_line(tmp_path):
    make_tree(tmp_path, UPPER, num_train=3, num_dev=2, num_core=2)

    def paths(part: str, spk: str, sentence: str) -> dict[str, Path]:
        return files_of(UPPER, tmp_path, part, spk, sentence)

    expected = []

    def rewrite(path: Path, number: int, row: str | None, message: str) -> None:
        lines = path.read_text().splitlines()
        lines[number - 1 : number] = [row]
        path.write_text("\n".join(lines) + "\n")
        expected.append(f"{path}:{number}: {message}")

    gone = paths("train", "fcjf0", "sx37")
    gone["phn"].unlink()
    expected.append(f"{gone['wav']}: no sx37.phn beside it")
    gone = paths("train", "fcjf0", "si648")
    gone["wav"].unlink()
    expected.append(f"{gone['phn']}: no si648.wav beside it")
    cut = paths("train", "mdac0", "sx127")["wav"]
    cut.write_bytes(cut.read_bytes()[:2000])
    expected.append(f"{cut}: the header promises ")
    packed = paths("train", "mdac0", "sx217")["wav"]
    packed.write_bytes(sphere(np.zeros(8000), sample_coding="-s26 pcm,embedded-shorten-v2.00"))
    expected.append(f"{packed}: SPHERE compressed with shorten")
    other = paths("test", "faks0", "sa1")["wav"]
    other.write_bytes(riff(np.zeros(8000))[:900])
    expected.append(f"{other}: the header promises ")
    odd = paths("train", "mcpm0", "sx307")["phn"]
    times = odd.read_text().splitlines()[1].rpartition(" ")[0]
    rewrite(odd, 2, f"{times} xx", "unknown symbol xx")
    rewrite(paths("train", "mcpm0", "sx397")["phn"], 1, "0 500", "expected `start end phone` in samples, found 0 500")
    rewrite(paths("test", "faks0", "sx37")["phn"], 1, "-1 5 h#", "expected `start end phone` in samples")
    long = paths("test", "faks0", "sx127")["phn"]
    num = len(long.read_text().splitlines())
    start = long.read_text().splitlines()[-1].split()[0]
    rewrite(long, num, f"{start} 99999 h#", "h# ends at sample 99999, past the end of the audio, which has ")
    rewrite(paths("test", "mdab0", "sx37")["phn"], 2, "1 2000 aa", "aa starts at 1, before ")
    first, *_, last = (swapped := paths("test", "mdab0", "sx127")["phn"]).read_text().splitlines()
    swapped.write_text(f"{last}\n{first}\n")
    expected.append(f"{swapped}:2: h# starts at 0, before {last.split()[1]}, where the labels above end")
    rewrite(paths("test", "mwbt0", "sx37")["phn"], 1, "700 5 h#", "h# ends at 5, before its start 700")
    empty = paths("test", "mwbt0", "sx127")["phn"]
    empty.write_text("")
    expected.append(f"{empty}: no labels in it")
    speech = speak(np.random.default_rng(1))
    again = dataclasses.replace(UPPER, above="OLD")
    write_utterance(again, tmp_path, "train", "mdac0", "sx37", speech)
    expected.append(f"{tmp_path}/TRAIN/DR1/MDAC0: speaker mdac0 is in {tmp_path}/OLD/TRAIN/DR1/MDAC0 already")
    write_utterance(UPPER, tmp_path, "train", "fpas0", "sx37", speech)
    expected.append(
        f"{tmp_path}/TRAIN/DR1/FPAS0: fpas0 is a speaker of the standard dev or test set; expected it under"
    )
    (tmp_path / "stray").mkdir()
    (tmp_path / "stray" / "SX1.WAV").write_bytes(b"")
    expected.append(f"{tmp_path}/stray: holds SX1.WAV, but is no speaker's directory")

    found = faults_of(tmp_path)
    for message in expected:
        assert sum(line.startswith(message) for line in found) == 1, message
    assert [line for line in found if not line.startswith(tuple(expected))] == []


@pytest.mark.parametrize("what", ["missing", "empty", "other files"])
def test_a_directory_that_is_not_timit(what, tmp_path):
    root = tmp_path / "corpus"
    if what != "missing":
        root.mkdir()
    if what == "other files":
        (root / "song.wav").write_bytes(b"RIFF")
    (fault,) = faults_of(root)
    assert fault.startswith(f"{root}: ") and ("no such directory" if what == "missing" else "TRAIN/DR1/FCJF0") in fault
