"""speechocean762: small trees of the public layout, their faults, and the counts of a real copy."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from asrkit.corpora import speechocean762
from asrkit.errors import DataError
from tests.shared import shared_or_skip

TEXT = {"GOOD MORNING": ("G_B UH1_I D_E", "M_B AO0_I R_I N_I IH0_I NG_E"), "A": ("AH0_S",)}


def make_part(root, part, speakers, ending=".WAV"):
    """Two utterances a speaker; returns the lines of text-phone."""
    tables = {name: [] for name in ("wav.scp", "text", "utt2spk", "spk2gender", "spk2age", "spk2utt")}
    labels = []
    for index, spk in enumerate(speakers):
        ids = [f"0{spk}0001", f"0{spk}0002"]
        tables["spk2gender"].append(f"{spk}\t{'mf'[index % 2]}")
        tables["spk2utt"].append(f"{spk}\t{' '.join(ids)}")
        for utt, (words, phones) in zip(ids, TEXT.items(), strict=True):
            audio = f"WAVE/SPEAKER{spk}/{utt}{ending}"
            (root / audio).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(root / audio, np.zeros(1600, np.int16), 16000, format="WAV")
            tables["wav.scp"].append(f"{utt}\t{audio}")
            tables["text"].append(f"{utt}\t{words}")
            tables["utt2spk"].append(f"{utt}\t{spk}")
            labels += [f"{utt}.{number}\t{word}" for number, word in enumerate(phones)]
    (root / part).mkdir(parents=True)
    for name, lines in tables.items():
        (root / part / name).write_text("".join(line + "\n" for line in lines))
    return labels


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "speechocean762"
    labels = make_part(root, "train", [f"{number:04d}" for number in range(1, 23)])
    labels += make_part(root, "test", ["0500", "0501"])
    (root / "resource").mkdir()
    (root / "resource" / "text-phone").write_text("".join(line + "\n" for line in labels))
    return root


def edit(path, line, new):
    """Replace a line, counted from 1; None removes it."""
    lines = path.read_text().split("\n")
    lines[line - 1 : line] = [] if new is None else [new]
    path.write_text("\n".join(lines))


def test_phones_lose_stress_and_position(corpus):
    path = corpus / "resource/text-phone"
    path.write_text("".join(sorted(path.read_text().splitlines(keepends=True), reverse=True)))  # words have numbers
    utts = {utt.utt_id: utt for utts in speechocean762.read_corpus(corpus).values() for utt in utts}
    assert utts["000020001"].phones == ("G", "UH", "D", "M", "AO", "R", "N", "IH", "NG")
    assert utts["000020002"].phones == ("AH",)
    assert utts["000020001"].audio == str(corpus / "WAVE/SPEAKER0002/000020001.WAV")
    assert (utts["000020001"].spk_id, utts["000020001"].sex) == ("0002", "f")


def test_dev_is_every_tenth_train_speaker_from_the_first(corpus):
    sets = speechocean762.read_corpus(corpus)
    assert list(sets) == ["train", "dev", "test"]
    speakers = {name: sorted({utt.spk_id for utt in utts}) for name, utts in sets.items()}
    assert speakers["dev"] == ["0001", "0011", "0021"]
    assert len(speakers["train"]) == 19 and not set(speakers["train"]) & set(speakers["dev"])
    assert speakers["test"] == ["0500", "0501"]
    assert all(len(sets[name]) == 2 * len(speakers[name]) for name in sets)


def test_counts_unlike_the_public_corpus_are_noted(corpus):
    notes = speechocean762.count_notes(speechocean762.read_corpus(corpus))
    assert notes == [
        "train: 19 speakers, 38 utterances; the public corpus has 112 and 2240",
        "dev: 3 speakers, 6 utterances; the public corpus has 13 and 260",
        "test: 2 speakers, 4 utterances; the public corpus has 125 and 2500",
    ]


def test_all_faults_come_at_once_with_file_and_line(corpus):
    (corpus / "WAVE/SPEAKER0003/000030001.WAV").unlink()
    labels = corpus / "resource" / "text-phone"
    edit(labels, 1, "000010001.0\tG_B QX1_I D_E")  # no such phone
    edit(labels, 5, "000020001.1\tM_B AO0 R_E")  # no position
    edit(labels, 71, None)  # 005010001.1
    edit(corpus / "train/utt2spk", 9, None)  # 000050001
    edit(corpus / "train/spk2gender", 4, "0004\tx")
    edit(corpus / "test/text", 2, "")
    with pytest.raises(DataError) as caught:
        speechocean762.read_corpus(corpus)
    faults = [fault.removeprefix(f"{corpus}/") for fault in str(caught.value).split("\n")]
    expected = [
        ("resource/text-phone:1:", "QX1_I"),
        ("resource/text-phone:5:", "AO0;"),
        ("train/wav.scp:9:", "000050001 is not in utt2spk"),
        ("train/text:9:", "000050001 is not in utt2spk"),
        ("train/spk2gender:4:", "found x"),
        ("train/wav.scp:5:", "000030001: no audio file"),
        ("test/text:2:", "empty line"),
        ("test/utt2spk:2:", "005000002 is not in text"),
        ("test/text:3:", "005010001: no phones for word 1"),
    ]
    for place, what in expected:
        assert [fault for fault in faults if fault.startswith(place) and what in fault], (place, what, faults)
    assert len(faults) == len(expected), faults


def test_an_utterance_without_any_phones_is_a_fault(corpus):
    labels = corpus / "resource" / "text-phone"
    kept = [line for line in labels.read_text().split("\n") if not line.startswith("000070002")]
    labels.write_text("\n".join(kept))
    with pytest.raises(DataError, match=r"train/text:14: 000070002: no phones for word 0 in resource/text-phone"):
        speechocean762.read_corpus(corpus)


def test_a_speaker_on_both_sides_and_ids_that_sort_otherwise_are_faults(corpus):
    edit(corpus / "test/utt2spk", 1, "005000001\t0502")
    edit(corpus / "test/utt2spk", 4, "005010002\t0001")
    with pytest.raises(DataError) as caught:
        speechocean762.read_corpus(corpus)
    assert "speakers both in train and in test: 0001" in str(caught.value)
    assert "test/utt2spk:2: 005000002 of speaker 0500 comes after 005000001 of 0502" in str(caught.value)


def test_a_directory_without_the_corpus_is_one_plain_fault(tmp_path):
    with pytest.raises(DataError, match=r"no train directory in it; expected speechocean762") as caught:
        speechocean762.read_corpus(tmp_path)
    assert "\n" not in str(caught.value)


def test_the_copy_has_the_known_counts():
    sets = speechocean762.read_corpus(shared_or_skip("data/speechocean762"))
    counts = {name: (len({utt.spk_id for utt in utts}), len(utts)) for name, utts in sets.items()}
    assert counts["train"] == (112, 2240) and counts["dev"] == (13, 260)
    assert counts["test"] in ((25, 500), (125, 2500))
    assert {phone for utts in sets.values() for utt in utts for phone in utt.phones} == set(speechocean762.PHONES)
