"""FarsDat: its symbols, generated trees in every layout, damaged and partial copies, and the splits."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import main
from asrkit.corpora import farsdat
from asrkit.errors import ConfigError, DataError
from asrkit.formats.data_dir import load_data_dir
from asrkit.lang.tokens import TokenTable
from asrkit.stages.validation import validate
from asrkit.types import Utterance
from tests.farsdat_tree import PHONES_OF, SENTENCES, Style, make_tree
from tests.shared import shared_or_skip

DOCS = Path(__file__).parents[3] / "docs" / "farsdat.md"

# Closure, release, and the phoneme that the two are in the end.
CLOSURE_RULES = [
    ("\\", "p", "p"),
    ("`", "b", "b"),
    ("-", "t", "t"),
    ("=", "d", "d"),
    ("@", "c", "k"),
    ("*", "k", "k"),
    ("!", ";", "g"),
    ("&", "g", "g"),
    ("^", "q", "q"),
    ("#", ",", ","),
    ("$", "'", "'"),
    ("(", "]", "]"),
]


def mixed(name: str) -> str:
    return "".join(letter.upper() if index % 2 else letter.lower() for index, letter in enumerate(name))


def prepare(corpus, data, *options):
    return main(["prepare", "farsdat", "--corpus", str(corpus), "--out", str(data), *map(str, options)])


def errors(capsys):
    """What is said of each fault, after `asrkit prepare: error: `."""
    lines = capsys.readouterr().err.splitlines()
    return [line.split("error: ", 1)[1] for line in lines if line.startswith("asrkit prepare: error: ")]


# Symbols


def test_there_is_a_rule_for_each_closure():
    assert {closure: release for closure, release, _ in CLOSURE_RULES} == farsdat.CLOSURES


@pytest.mark.parametrize(("closure", "release", "phone"), CLOSURE_RULES)
@pytest.mark.parametrize("before", [(), ("m", "a")], ids=["start", "later"])
@pytest.mark.parametrize("after", [(), ("l", "e")], ids=["end", "earlier"])
def test_closure_rules(closure, release, phone, before, after):
    expected = (*before, phone, *after)
    assert farsdat.to_phones((*before, closure, release, *after)) == expected  # released
    assert farsdat.to_phones((*before, closure, *after)) == expected  # not released
    assert farsdat.to_phones((*before, release, *after)) == expected  # a release alone
    assert farsdat.to_phones((*before, closure, closure, release, *after)) == (*before, phone, phone, *after)


@pytest.mark.parametrize(("closure", "release", "phone"), CLOSURE_RULES)
def test_a_closure_before_anothers_release_is_a_stop_of_its_own(closure, release, phone):
    other, other_phone = ("b", "b") if release != "b" else ("t", "t")
    assert farsdat.to_phones((closure, other)) == (phone, other_phone)
    assert farsdat.to_phones((release, closure)) == (phone, phone)  # the closure of a second stop, after a release


def test_allophones_fold_and_pauses_are_silence():
    assert farsdat.to_phones("jca;ij") == ("sil", "k", "a", "g", "i", "sil")
    assert farsdat.to_phones("jj") == ("sil", "sil")
    assert farsdat.to_phones("") == ()


def test_every_symbol_gives_one_of_29_phonemes_or_silence():
    given = {phone for symbol in farsdat.SYMBOLS for phone in farsdat.to_phones((symbol,))}
    assert given == set(farsdat.PHONES)
    assert len(farsdat.PHONES) == 30 and "sil" in farsdat.PHONES
    assert all(len(symbol) == 1 for symbol in farsdat.SYMBOLS)


def test_each_phoneme_has_a_letter_of_the_ipa_and_the_page_shows_it():
    assert set(farsdat.IPA) == set(farsdat.PHONES) - {"sil"}
    assert len(set(farsdat.IPA.values())) == 29
    rows = re.findall(r"^\| `` ?(\S) ?`` \| (\S+) \|", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert dict(rows) == farsdat.IPA


# Trees


@pytest.mark.parametrize("rate", [22050, 44100])
@pytest.mark.parametrize("case", [str.upper, str.lower, str, mixed], ids=["upper", "lower", "as published", "mixed"])
def test_a_tree_in_any_case_at_either_rate_becomes_data_directories(tmp_path, capsys, case, rate):
    corpus = make_tree(tmp_path / "c", style=Style(rate=rate, case=case))
    before = {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()}
    data = tmp_path / "data"
    assert prepare(corpus, data) == 0
    out, err = capsys.readouterr()
    assert f"12 recordings (12 at {rate} Hz, as their headers say), 24 utterances" in err
    table = [line.split() for line in out.splitlines()]
    assert [row[:3] for row in table] == [
        ["set", "speakers", "utterances"],
        ["train", "4", "16"],
        ["dev", "1", "4"],
        ["test", "1", "4"],
    ]
    tokens = TokenTable.read(data / "tokens.txt")
    assert len(tokens) == 31
    found, num_phones = {}, {}
    for name in ("train", "dev", "test"):
        assert validate(data / name, tokens=tokens).findings.errors == []
        utts = load_data_dir(data / name).utterances()
        found |= {utt.utt_id: utt for utt in utts}
        num_phones[name] = sum(len(utt.phones) for utt in utts)
        assert {utt.sex for utt in utts} <= {"m", "f"}
    assert {row[0]: int(row[4]) for row in table[1:]} == num_phones
    assert len(found) == 24
    first = found["009_2_040"]
    for speaker in (1, 2, 9, 10, 103, 304):
        for session in (1, 2):
            for index in range(2):
                text = SENTENCES[(speaker + index) % len(SENTENCES)]
                utt = found[f"{speaker:03d}_{session}_{20 * session + index:03d}"]
                assert " ".join(utt.phones) == PHONES_OF[text]
    assert (first.spk_id, first.sex, first.rec_id) == ("009", "m", "009_2")
    assert first.start == pytest.approx(0.02, abs=1e-3)  # the tree's gap, at either rate
    assert found["009_2_041"].start == pytest.approx(first.end + 0.02, abs=2e-3)
    # Nothing of the corpus is written to.
    assert {path: path.read_bytes() for path in corpus.rglob("*") if path.is_file()} == before


def test_segments_cut_the_bytes_that_the_table_names(tmp_path):
    corpus = make_tree(tmp_path / "c", speakers=(7,), style=Style(rate=44100))
    samples = np.arange(44100, dtype=np.int16)
    soundfile.write(corpus / "CD1/wave/S1007.WAV", samples, 44100)
    (corpus / "CD1/SENTENCE/S1007.SNT").write_text("20 8820 17640\n21 44100 88200\n")
    utts, _ = farsdat.read_utterances(corpus)
    segments = {utt.utt_id: (utt.start, utt.end) for utt in utts}
    assert segments["007_1_020"] == (0.1, 0.2)  # bytes 8820 to 17640 are samples 4410 to 8820
    assert segments["007_1_021"] == (0.5, 1.0)


def test_offsets_that_count_the_header_end_with_the_audio(tmp_path):
    corpus = make_tree(tmp_path / "c", speakers=(7,))
    soundfile.write(corpus / "CD1/wave/S1007.WAV", np.zeros(22050, np.int16), 22050)
    (corpus / "CD1/SENTENCE/S1007.SNT").write_text("20 44 20000\n21 20000 44144\n")
    utts, _ = farsdat.read_utterances(corpus)
    assert {utt.utt_id: utt.end for utt in utts}["007_1_021"] == 1.0
    (corpus / "CD1/SENTENCE/S1007.SNT").write_text("20 44 20000\n21 20000 44146\n")
    with pytest.raises(DataError, match=r"S1007.SNT:2: sentence 21 ends at byte 44146, past the audio"):
        farsdat.read_utterances(corpus)


def test_offsets_of_another_rate_are_suspected(tmp_path):
    corpus = make_tree(tmp_path / "c", speakers=(7,))
    for session in (1, 2):
        wave = corpus / f"CD1/wave/S{session}007.WAV"
        samples, rate = soundfile.read(wave, dtype="int16")
        soundfile.write(wave, np.repeat(samples, 2), 2 * rate)
    assert [w for w in farsdat.read_utterances(corpus)[1].warnings if "another sampling rate" in w]


def test_short_numbers_nested_directories_and_unix_lines_are_read(tmp_path):
    corpus = make_tree(tmp_path / "c", speakers=(7,))
    for path in sorted(corpus.rglob("*007*")):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n") if path.suffix != ".WAV" else path.read_bytes())
        path.rename(path.with_name(path.name.replace("007", "7")))
    (corpus / "CD1/PHONEME/more").mkdir()
    (corpus / "CD1/PHONEME/PH17.20").rename(corpus / "CD1/PHONEME/more/PH17.20")
    utts, _ = farsdat.read_utterances(corpus)
    assert [utt.utt_id for utt in utts] == ["007_1_020", "007_1_021", "007_2_040", "007_2_041"]
    assert {utt.sex for utt in utts} == {"m"}


# Partial copies


def test_a_partial_copy_is_prepared_with_warnings(tmp_path, capsys):
    corpus = make_tree(tmp_path / "c")
    for path in [*corpus.glob("CD1/*/*S2009*"), *corpus.glob("CD1/*/PH2009*")]:
        path.unlink()  # a session
    (corpus / "CD2/PHONEME/PH1002.20").unlink()  # a sentence, with its line
    table = corpus / "CD2/SENTENCE/S1002.SNT"
    table.write_bytes(table.read_bytes().split(b"\n", 1)[1])
    (corpus / "CD2/Information/Speaker.txt").unlink()
    (corpus / "CD1/wave/index.htm").write_text("")
    assert prepare(corpus, tmp_path / "data") == 0
    warned = [line.split("warning: ", 1)[1] for line in capsys.readouterr().err.splitlines() if "warning: " in line]
    assert [line.removeprefix(f"{corpus}: ") for line in warned] == [
        f"{corpus}/CD2: no Information/Speaker.txt",
        f"not used, because of their names: {corpus}/CD1/wave/index.htm",
        "6 speakers and 21 utterances; the whole corpus has 304 and 6080",
        "missing speakers: 3-8 11-102 104-303",
        "speakers with a missing session: 009 (2)",
        "speakers without exactly 20 utterances: 001 (4) 002 (3) 009 (2) 010 (4) 103 (4) 304 (4)",
        "Speaker.txt gives no sex for speakers 002 010 304; they are left out of spk2gender",
    ]


def test_one_disc_alone_is_a_partial_copy(tmp_path, capsys):
    corpus = make_tree(tmp_path / "c")
    (corpus / "CD2").rename(tmp_path / "elsewhere")
    assert prepare(corpus, tmp_path / "data") == 0
    assert "no directory CD2" in capsys.readouterr().err


def test_the_whole_corpus_gives_no_warning(monkeypatch, tmp_path):
    monkeypatch.setattr(farsdat, "NUM_SPEAKERS", 3)
    monkeypatch.setattr(farsdat, "NUM_UTTERANCES", 60)
    corpus = make_tree(tmp_path / "c", (1, 2, 3), num_sentences=10, style=Style(phone_seconds=0.002))
    utts, findings = farsdat.read_utterances(corpus)
    assert len(utts) == 60 and findings.warnings == []


# Damage


def test_each_fault_is_named_all_at_once_and_nothing_is_written(tmp_path, capsys):
    corpus = make_tree(tmp_path / "c", (1, 2, 3, 4, 5, 7, 9, 11, 13))
    cd1, cd2 = corpus / "CD1", corpus / "CD2"
    (cd1 / "PHONEME/PH1001.20").unlink()  # audio without its transcript
    (cd2 / "wave/S1002.WAV").unlink()
    wave = cd1 / "wave/S1003.WAV"
    wave.write_bytes(wave.read_bytes()[:-1000])  # truncated
    (cd2 / "wave/S1004.WAV").write_text("not audio")
    (cd1 / "SENTENCE/S1005.SNT").unlink()
    table = cd1 / "SENTENCE/S2005.SNT"
    table.write_text(table.read_text() + "99 100 9999999\n")  # past the end
    (cd1 / "PHONEME/PH2005.99").write_text("a\n")
    (cd1 / "PHONEME/PH1007.20").write_text("j\na\n? 3 4\nj\n")  # an unknown symbol
    (cd1 / "PHONEME/PH1007.21").write_text("0 100 sil\n100 200 a\n")  # another format
    (cd1 / "PHONEME/PH2007.40").write_text("\n\x1a")
    (cd1 / "PHONEME/PH2007.333").write_text("a\n")
    (cd1 / "SENTENCE/S1009.SNT").write_text("20 0\n21 500 100\n")
    (cd1 / "SENTENCE/S2009.SNT").write_text("40 0 100\n40 200 300\n41 300 400\n")
    (cd1 / "Information/Speaker.txt").write_text("1 30 M\n1 30 M\n2 30 M\n3 x\n")  # a speaker twice; one otherwise
    (cd2 / "wave/s111.wav").write_bytes((cd1 / "wave/S1011.WAV").read_bytes())  # a recording twice
    soundfile.write(cd1 / "wave/S1013.WAV", np.zeros((30000, 2), np.int16), 22050)
    data = tmp_path / "data"
    assert prepare(corpus, data) == 1
    expected = {
        "CD1/SENTENCE/S1001.SNT:1: sentence 20: no PH1001.20 in PHONEME",
        "CD2/SENTENCE/S1002.SNT: no audio S1002.WAV in wave",
        "CD1/wave/S1003.WAV: the header promises",
        "CD2/wave/S1004.WAV: not audio",
        "CD1/wave/S1005.WAV: no S1005.SNT in SENTENCE",
        "CD1/SENTENCE/S2005.SNT:3: sentence 99 ends at byte 9999999, past the audio",
        "CD1/PHONEME/PH1007.20:3: unknown symbol '?'",
        "CD1/PHONEME/PH1007.21: 2 of 2 lines begin with an unknown symbol ('0' '1')",
        "CD1/PHONEME/PH2007.40: no phones in it",
        "CD1/PHONEME/PH2007.333: no line for sentence 333",
        "CD1/SENTENCE/S1009.SNT:1: expected `sentence start end` in whole numbers, found '20 0'",
        "CD1/SENTENCE/S1009.SNT:2: sentence 21: bytes 500 to 100",
        "CD1/SENTENCE/S2009.SNT:2: sentence 40 a second time (first in line 1)",
        "CD1/Information/Speaker.txt:2: speaker 1 a second time (first in line 1)",
        "CD2/Information/Speaker.txt:2: speaker 2 is f, but m in",
        f"CD2/wave/s111.wav: {cd1}/wave/S1011.WAV has the same name",
        "CD1/wave/S1013.WAV: 2 channels",
    }
    found = [line.removeprefix(f"{corpus}/") for line in errors(capsys)]
    assert {start: sum(line.startswith(start) for line in found) for start in expected} == dict.fromkeys(expected, 1)
    assert len(found) == len(expected), found
    assert not data.exists()


@pytest.mark.parametrize(
    "make", [lambda path: None, lambda path: path.mkdir(), lambda path: (path / "CD1").mkdir(parents=True)]
)
def test_a_directory_without_the_corpus_is_one_plain_fault(tmp_path, capsys, make):
    make(tmp_path / "c")
    assert prepare(tmp_path / "c", tmp_path / "data") == 1
    (fault,) = errors(capsys)
    assert fault.startswith(f"{tmp_path}/c: ") and "expected FarsDat (ELRA-S0112)" in fault


# Splits


def whole_corpus(read=lambda speaker: [(1 + index // 10, 20 * (speaker % 20) + index + 1) for index in range(20)]):
    """304 speakers of 20 utterances; `read` gives the session and sentence of each."""
    return [
        Utterance(f"{speaker:03d}_{session}_{sentence:03d}", f"{speaker:03d}", "/x.wav", ("a", "b"))
        for speaker in range(1, 305)
        for session, sentence in read(speaker)
    ]


def spks(utts):
    return {utt.spk_id for utt in utts}


@pytest.mark.parametrize(("split", "num_test"), [("textbook-95-5", 15), ("textbook-80-20", 61)])
def test_whole_speakers_are_held_out(split, num_test):
    utts = whole_corpus()
    sets, findings = farsdat.split_textbook(utts, split)
    speakers = {name: spks(kept) for name, kept in sets.items()}
    assert len(speakers["test"]) == num_test and len(speakers["dev"]) == 15
    assert sum(map(len, speakers.values())) == 304 == len(set.union(*speakers.values()))
    assert sorted(utt.utt_id for kept in sets.values() for utt in kept) == sorted(utt.utt_id for utt in utts)
    assert f"{20 * num_test} to test on" in findings.notes[0] and "whole speakers" in findings.notes[0]
    assert farsdat.split_textbook(utts, split)[0] == sets
    assert spks(farsdat.split_textbook(utts, split, seed=2)[0]["test"]) != speakers["test"]


@pytest.mark.parametrize(("split", "train", "test"), [("textbook-95-5", 5698, 382), ("textbook-80-20", 4864, 1216)])
def test_the_random_split_has_the_source_s_counts(split, train, test):
    sets, findings = farsdat.split_textbook(whole_corpus(), split, random_split=True)
    assert len(sets["train"]) + len(sets["dev"]) == train and len(sets["test"]) == test
    assert len(sets["dev"]) == 382
    assert len({utt.utt_id for kept in sets.values() for utt in kept}) == 6080
    assert spks(sets["test"]) & spks(sets["train"])
    assert f"{train} utterances to train on (382 of them dev), {test} to test on" in findings.notes[0]


def test_a_part_of_the_corpus_is_split_in_proportion():
    part = whole_corpus()[: 152 * 20]
    assert len(spks(farsdat.split_textbook(part, "textbook-95-5")[0]["test"])) == 8
    assert len(spks(farsdat.split_textbook(part, "textbook-80-20")[0]["test"])) == 30
    assert len(farsdat.split_textbook(part, "textbook-80-20", random_split=True)[0]["test"]) == 608
    tiny = farsdat.split_textbook(part[:60], "textbook-95-5")[0]
    assert [len(spks(tiny[name])) for name in ("train", "dev", "test")] == [1, 1, 1]
    with pytest.raises(DataError, match="2 speakers; expected 3 or more"):
        farsdat.split_textbook(part[:40], "textbook-95-5")


def write_lists(directory, train, dev, test):
    directory.mkdir()
    for name, speakers in (("train", train), ("dev", dev), ("test", test)):
        (directory / f"{name}_spk.list").write_text("".join(f"{speaker:03d}\n" for speaker in speakers))
    return directory


def test_speaker_lists_keep_held_out_sentences_out_of_train(tmp_path, capsys):
    # Everybody reads sentences 1 and 2; 1 of session 1 and 2 of session 2 are followed by a sentence of one's own.
    corpus = make_tree(tmp_path / "c", sentence_number=lambda spk, session, index: (session, 10 * spk % 400)[index])
    lists = write_lists(tmp_path / "lists", (1, 2, 9, 77), (10,), (103,))
    data = tmp_path / "data"
    assert prepare(corpus, data, "--speaker-lists", lists) == 0
    out, err = capsys.readouterr()
    texts = {name: (data / name / "text").read_text().split("\n")[:-1] for name in ("train", "dev", "test")}
    assert [line.split()[0] for line in texts["dev"]] == ["010_1_001", "010_1_100", "010_2_002", "010_2_100"]
    assert len(texts["test"]) == 4
    assert [line.split()[0] for line in texts["train"]] == [
        *("001_1_010", "001_2_010", "002_1_020", "002_2_020", "009_1_090", "009_2_090"),
    ]
    assert "4 sentences of dev and test kept out of train, 6 of its 12 utterances" in err
    assert "speakers that are listed, but not there: 77" in err
    assert "speakers that are in no list, and so in no set: 304" in err
    assert ["train", "3", "6"] in [line.split()[:3] for line in out.splitlines()]


def test_the_published_sentences_are_the_eight_smallest_numbers_of_speakers_from_100_on():
    # Speaker 150 reads 1 to 6 and 150 to 163: the eight smallest, with 20 times 150, are 1 to 6 and 150. Speaker 50
    # has a say in nothing, yet those of its sentences that are chosen stay. 300 reads 400 (never in train) to 419.
    numbers = {150: [*range(1, 7), *range(150, 164)], 50: [5, *range(200, 219)], 1: [1, 7, 160, 200, 305, 400, 405]}
    utts = [
        Utterance(f"{speaker:03d}_1_{number:03d}", f"{speaker:03d}", "/x.wav", ("a",))
        for speaker, read in {**numbers, 300: range(301, 321)}.items()
        for number in read
    ]
    lists = {"train": {1}, "dev": {150, 50}, "test": {300}}
    sets, findings = farsdat.split_by_lists(utts, lists, published_sentences=True)
    kept = {name: [utt.utt_id for utt in of_set] for name, of_set in sets.items()}
    assert kept["dev"] == [*(f"150_1_00{number}" for number in range(1, 7)), "150_1_150", "050_1_005"]
    # 300 itself is smaller than all that the speaker reads, and no sentence of it.
    assert kept["test"] == []
    assert kept["train"] == ["001_1_007", "001_1_160", "001_1_200", "001_1_305"]
    assert findings.warnings == ["utterances in train, dev, test: 4, 8, 0; published: 3994, 475, 287"]


@pytest.mark.parametrize("published", [False, True])
def test_the_public_lists_divide_304_speakers_into_224_50_and_30(published):
    lists = farsdat.read_speaker_lists(shared_or_skip("data/farsdat"))
    assert {name: len(speakers) for name, speakers in lists.items()} == {"train": 224, "dev": 50, "test": 30}
    assert set.union(*lists.values()) == set(range(1, 305))
    # Sentences of one's own, but for the two that everybody reads.
    utts = whole_corpus(lambda speaker: [(1, 1), (2, 2), *((1, 3 + 18 * speaker + index) for index in range(18))])
    sets, _ = farsdat.split_by_lists(utts, lists, published_sentences=False)
    assert {name: len(kept) for name, kept in sets.items()} == {"train": 224 * 18, "dev": 1000, "test": 600}


def test_held_out_sentences_that_leave_no_train_are_one_fault_with_a_remedy(tmp_path, capsys):
    corpus = make_tree(tmp_path / "c")  # everybody reads the same
    lists = write_lists(tmp_path / "lists", (1, 2), (9,), (10,))
    assert prepare(corpus, tmp_path / "data", "--speaker-lists", lists) == 1
    (fault,) = errors(capsys)
    assert "no utterance is left to train on" in fault and "8 of its 8 utterances" in fault
    assert fault.endswith("--sentences published")
    assert not (tmp_path / "data").exists()


def test_faults_of_speaker_lists_are_listed_together(tmp_path, capsys):
    corpus = make_tree(tmp_path / "c")
    lists = write_lists(tmp_path / "lists", (1, 2), (9, 2), ())
    (lists / "train_spk.list").write_text("1\n2\nx9\n")
    assert prepare(corpus, tmp_path / "data", "--speaker-lists", lists) == 1
    assert [line.removeprefix(f"{lists}/") for line in errors(capsys)] == [
        "train_spk.list:3: expected a speaker's number, found 'x9'",
        f"dev_spk.list:2: speaker 002 a second time (first in {lists}/train_spk.list:2)",
        "test_spk.list: empty; expected a speaker's number on each line",
    ]
    assert prepare(corpus, tmp_path / "data", "--speaker-lists", tmp_path / "none") == 1
    assert len(errors(capsys)) == 3
    assert not (tmp_path / "data").exists()


def test_options_that_do_not_go_together_are_refused(tmp_path, capsys):
    corpus = make_tree(tmp_path / "c")
    with pytest.raises(ConfigError, match="choose one of them"):
        farsdat.read_corpus(corpus, farsdat.FarsdatOptions(random_split=True, speaker_lists=tmp_path))
    with pytest.raises(ConfigError, match="--speaker-lists"):
        farsdat.read_corpus(corpus, farsdat.FarsdatOptions(published_sentences=True))
    with pytest.raises(SystemExit) as stopped:
        prepare(corpus, tmp_path / "data", "--split", "textbook-80-20", "--speaker-lists", tmp_path)
    assert stopped.value.code == 2


def test_the_random_split_is_prepared_on_request(tmp_path, capsys):
    corpus = make_tree(tmp_path / "c")
    data = tmp_path / "data"
    assert prepare(corpus, data, "--split", "textbook-80-20", "--by", "utterances", "--seed", "3") == 0
    out, err = capsys.readouterr()
    assert "split textbook-80-20 by random utterances" in err and "seed 3" in err
    counts = {row[0]: int(row[2]) for row in (line.split() for line in out.splitlines()[1:])}
    assert counts == {"train": 17, "dev": 2, "test": 5}
    for name in counts:
        assert validate(data / name, tokens=TokenTable.read(data / "tokens.txt")).findings.errors == []
