"""One's own corpus: tables and label files of every kind, sets, and each fault with its file and line."""

import os

import numpy as np
import pytest
import soundfile

from asrkit.corpora.own import OwnOptions, read_corpus
from asrkit.errors import ConfigError, DataError
from asrkit.types import PhoneTime

RATE = 8000
ONE_PHONE = 'File type = "ooTextFile"\n"TextGrid"\n0\n1\n<exists>\n1\n"IntervalTier"\n"phones"\n0\n1\n3\n'
ONE_PHONE += '0\n0.25\n""\n0.25\n0.5\n"a"\n0.5\n1\n""\n'
LABELS = {
    "phn": "0 2000 sil\n2000 4000 a\n",
    "lab": "0 2500000 sil\n2500000 5000000 a\n",
    "TextGrid": ONE_PHONE,
}


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content, encoding="utf-8")
    return path


def record(path, seconds=1.0, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros((round(seconds * RATE), channels), np.int16), RATE)
    return path


@pytest.fixture
def corpus(tmp_path):
    """Three recordings of each of the speakers s0 to s9, one second long, without labels."""
    root = tmp_path / "corpus"
    for spk in range(10):
        for number in range(3):
            record(root / f"s{spk}/u{number}.wav")
    return root


def table_of(corpus, header, cells):
    """A table with a row for each recording; `cells(spk, number)` gives what follows the path."""
    rows = [f"s{spk}/u{number}.wav,{cells(spk, number)}" for spk in range(10) for number in range(3)]
    return write(corpus / "corpus.csv", "\n".join([f"audio,{header}", *rows]) + "\n")


def edit(path, line, old, new):
    lines = path.read_text(encoding="utf-8").split("\n")
    assert old in lines[line - 1]
    lines[line - 1] = lines[line - 1].replace(old, new)
    path.write_text("\n".join(lines), encoding="utf-8")


def all_utts(found):
    return {utt.utt_id: utt for utts in found.sets.values() for utt in utts}


def faults_of(corpus, error=DataError, **options):
    with pytest.raises(error) as caught:
        read_corpus(corpus, OwnOptions(**options))
    return [fault.replace(f"{corpus}/", "") for fault in str(caught.value).split("\n")]


def test_a_table_with_every_column(corpus):
    table_of(
        corpus,
        "phones,utt,speaker,sex,set,start,end",
        lambda spk, n: f"a b{n},S{spk}-{n},S{spk},{'fm'[spk % 2]},{('train', 'dev', 'test')[min(spk, 2)]},0.{n},0.9",
    )
    found = read_corpus(corpus)
    assert {name: len(utts) for name, utts in found.sets.items()} == {"train": 3, "dev": 3, "test": 24}
    assert list(found.phones) == ["a", "b0", "b1", "b2"]
    utt = all_utts(found)["S1-2"]
    assert (utt.spk_id, utt.sex, utt.phones, utt.start, utt.end) == ("S1", "m", ("a", "b2"), 0.2, 0.9)
    assert (utt.rec_id, utt.audio, utt.phone_times) == ("s1-u2", str(corpus / "s1/u2.wav"), ())
    assert found.durations["S1-2"] == pytest.approx(0.7)
    assert found.warnings == () or list(found.warnings) == []


def test_ids_begin_with_the_speaker_and_hold_what_tells_utterances_apart(corpus):
    table_of(corpus, "phones,speaker,start,end", lambda spk, n: f"a,s{spk},0,0.5")
    utt = read_corpus(corpus).sets["train"][0]
    assert utt.utt_id == f"{utt.spk_id}-u0-0000000-0000500"
    record(corpus / "more/s1/a b.wav")
    with open(corpus / "corpus.csv", "a") as stream:
        stream.write("more/s1/a b.wav,a,s1,,\n")
    assert all_utts(read_corpus(corpus))["s1-more-a_b"].audio.endswith("more/s1/a b.wav")


def test_csv_with_quotes_tsv_without_and_semicolons(corpus):
    symbols = ["'", "#", ",", "]", "<", "\\", '"', "\u0303", "t͡s", "a\u0303", ";", "|", "“"]
    quoted = " ".join(symbols).replace('"', '""')
    table_of(corpus, "phones", lambda spk, n: f'"{quoted}"')
    assert set(read_corpus(corpus).phones) == set(symbols)
    tsv = (corpus / "corpus.csv").read_text(encoding="utf-8").replace(f',"{quoted}"', "\t" + " ".join(symbols))
    (corpus / "corpus.csv").unlink()
    table = corpus / "corpus.tsv"
    table.write_bytes(b"\xef\xbb\xbf" + tsv.replace("audio,", "Audio\t").replace("\n", "\r\n").encode())
    found = read_corpus(corpus)
    assert {utt.phones for utt in all_utts(found).values()} == {tuple(symbols)}
    table.unlink()
    write(corpus / "x.csv", tsv.replace("audio,", "audio;").replace("\t" + " ".join(symbols), ";a b"))
    assert read_corpus(corpus).phones == ["a", "b"]


@pytest.mark.parametrize("kind", ["phn", "lab", "TextGrid"])
def test_label_files_beside_the_audio_or_in_a_tree_of_their_own(corpus, kind):
    for spk in range(10):
        for number in range(3):
            write(corpus / f"s{spk}/u{number}.{kind.upper() if number else kind}", LABELS[kind])
    phones = ("a",) if kind == "TextGrid" else ("sil", "a")
    times = (PhoneTime("sil", 0.0, 0.25), PhoneTime("a", 0.25, 0.5))[-len(phones) :]
    found = read_corpus(corpus, OwnOptions(speaker="^([^/]+)/"))
    assert {(utt.phones, utt.phone_times) for utt in all_utts(found).values()} == {(phones, times)}
    assert len(all_utts(found)) == 30
    assert [note for note in found.notes if ".lab" in note] == (
        [".lab: 30 files in units of 100 ns, as HTK's"] if kind == "lab" else []
    )
    for spk in range(10):  # now by name alone, which has to be unique
        for number in range(3):
            (corpus / f"s{spk}/u{number}.wav").rename(record(corpus / f"wav/s{spk}_{number}.wav"))
            ending = kind.upper() if number else kind
            target = write(corpus / f"labels/s{spk}_{number}.{kind}", "")
            (corpus / f"s{spk}/u{number}.{ending}").rename(target)
    assert len(all_utts(read_corpus(corpus))) == 30


def test_one_ctm_for_all(corpus):
    rows = [f"s{spk}/u{number} 1 0.1 0.2 a\n" for spk in range(10) for number in range(3)]
    write(corpus / "all.ctm", "".join(rows))
    utts = all_utts(read_corpus(corpus))
    assert len(utts) == 30
    assert {(time.phone, time.start, round(time.end, 6)) for utt in utts.values() for time in utt.phone_times} == {
        ("a", 0.1, 0.3)
    }


def test_empty_intervals_become_the_silence_that_is_named(corpus):
    for path in list(corpus.rglob("*.wav")):
        write(path.with_suffix(".TextGrid"), ONE_PHONE)
    assert {utt.phones for utt in all_utts(read_corpus(corpus, OwnOptions(silence="sil"))).values()} == {
        ("sil", "a", "sil")
    }


def test_a_table_of_speakers_with_label_files(corpus):
    table_of(corpus, "speaker", lambda spk, n: f"anna{spk}")
    for path in list(corpus.rglob("*.wav")):
        write(path.with_suffix(".phn"), LABELS["phn"])
    found = read_corpus(corpus, OwnOptions(dev_speakers="anna3", test_speakers="anna4,anna5"))
    assert {name: len(utts) for name, utts in found.sets.items()} == {"train": 21, "dev": 3, "test": 6}


def test_without_speakers_every_recording_is_one_and_that_is_said(corpus):
    table_of(corpus, "phones", lambda spk, n: "a")
    found = read_corpus(corpus)
    assert any("every recording counts as a separate speaker" in note for note in found.notes)
    assert {name: len(utts) for name, utts in found.sets.items()} == {"train": 24, "dev": 3, "test": 3}
    assert len({utt.spk_id for utt in all_utts(found).values()}) == 30


def speakers(found):
    return {name: {utt.spk_id for utt in utts} for name, utts in found.sets.items()}


def test_splits_are_by_speaker_and_depend_on_nothing_but_the_names(corpus):
    table = table_of(corpus, "phones,speaker", lambda spk, n: f"a,s{spk}")
    found = speakers(read_corpus(corpus, OwnOptions(dev_speakers="20%", test_speakers="0.3")))
    assert {name: len(spks) for name, spks in found.items()} == {"train": 5, "dev": 2, "test": 3}
    assert set.union(*found.values()) == {f"s{spk}" for spk in range(10)}
    assert speakers(read_corpus(corpus, OwnOptions(dev_speakers="20%", test_speakers="0.3"))) == found
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]) + "\n")
    assert speakers(read_corpus(corpus, OwnOptions(dev_speakers="20%", test_speakers="0.3"))) == found
    assert speakers(read_corpus(corpus, OwnOptions(dev_speakers="0.4", test_speakers="0.3")))["test"] == found["test"]
    listed = write(corpus.parent / "who", "s7\ns2\n")
    lists = speakers(read_corpus(corpus, OwnOptions(dev_speakers=str(listed), test_speakers="0.1")))
    assert lists["dev"] == {"s7", "s2"} and len(lists["test"]) == 1 and not lists["test"] & lists["dev"]


def test_sets_that_the_column_does_not_name_are_split_off_train(corpus):
    table_of(corpus, "phones,speaker,set", lambda spk, n: f"a,s{spk},{'test' if spk in (4, 5) else 'Train'}")
    found = read_corpus(corpus, OwnOptions(dev_speakers=".25"))
    assert speakers(found)["test"] == {"s4", "s5"}
    assert len(speakers(found)["dev"]) == 2 and len(speakers(found)["train"]) == 6
    assert faults_of(corpus, ConfigError, test_speakers="s1") == [
        "--test-speakers: the column set gives test already; leave out one of them"
    ]
    found = read_corpus(corpus, OwnOptions(dev_speakers="0"))
    assert set(found.sets) == {"train", "test"}
    assert "no dev set; the recipes need one" in found.warnings


def test_all_faults_of_a_table_come_at_once_with_their_lines(corpus):
    table = table_of(corpus, "phones,speaker,sex,set", lambda spk, n: f"a b,s{spk},,train")
    edit(table, 2, "a b", "")
    edit(table, 3, ",s0", ",")
    edit(table, 4, "train", "validation")
    edit(table, 5, ",,", ",x,")
    edit(table, 23, "train", "train,1")
    edit(table, 7, "s1/u2", "s1/u1")  # twice, and u2 is not in the table
    edit(table, 8, "s2/u0", "s2/no")
    edit(table, 9, "a b", "a <s>")
    edit(table, 10, "a b", "a\u00a0b")
    edit(table, 12, "a b", '"a b')
    edit(table, 13, "s3/u2.wav", "/")
    edit(table, 14, ",,", ",f,")
    edit(table, 15, ",,", ",male,")
    (corpus / "s6/u0.wav").write_bytes(b"RIFF, but no more")
    record(corpus / "s6/u1.wav", channels=2)
    faults = faults_of(corpus)
    expected = [
        "corpus.csv:2: no phones; give those of s0/u0.wav or remove the row",
        "corpus.csv:3: no speaker; fill the whole column",
        "corpus.csv:4: set 'validation'; expected train, dev or test; did you mean 'dev'?",
        "corpus.csv:5: sex 'x'; expected m, f or nothing",
        "corpus.csv:23: 6 fields; the header has 5",
        "corpus.csv:7: utterance s1-u1 a second time, first at",
        "corpus.csv:8: no audio file",
        "corpus.csv:9: the symbol <s> is reserved",
        "corpus.csv:10: the symbol 'a\\xa0b' holds white space (U+00A0)",
        "corpus.csv:12: not a row of CSV",
        "corpus.csv:13: no audio file /",
        "corpus.csv:15: speaker s4 is m, but f at corpus.csv:14",
        "corpus.csv:20: s6/u0.wav: ",
        "corpus.csv:21: 2 channels in u1.wav; make it mono",
    ]
    for start in expected:
        assert len([fault for fault in faults if fault.startswith(start)]) == 1, (start, faults)
    assert len(faults) == len(expected), faults


KNOWN_VOICES = "its error rate is that of voices known from training, not of new ones"


def test_a_speaker_in_two_sets_is_prepared_with_a_warning_of_what_it_means(corpus):
    table_of(
        corpus, "phones,speaker,set", lambda spk, n: f"a,s{spk},{('train', 'dev', 'test')[n] if spk < 7 else 'train'}"
    )
    found = read_corpus(corpus)
    assert {name: len(utts) for name, utts in found.sets.items()} == {"train": 16, "dev": 7, "test": 7}
    assert found.warnings == [
        f"7 of 7 speakers of dev are in train, too (s0 s1 s2 s3 s4 s5 s6): {KNOWN_VOICES}",
        f"7 of 7 speakers of test are in train, too (s0 s1 s2 s3 s4 s5 s6): {KNOWN_VOICES}",
    ]
    table_of(
        corpus,
        "phones,speaker,set",
        lambda spk, n: f"a,s{spk},{'train' if spk > 1 else 'dev' if spk == 1 or n else 'test'}",
    )
    assert read_corpus(corpus).warnings == [
        "1 of 1 speakers of test are in dev, too (s0): settings are tuned to voices of test, which makes its error "
        "rate too low"
    ]


@pytest.mark.parametrize("column", [True, False])
@pytest.mark.parametrize("num_spks", [1, 2])
def test_too_few_speakers_for_sets_of_their_own(corpus, num_spks, column):
    """One informant, or two: the utterances are split, with a warning; a column `set` may say how."""
    sets = {0: "train", 1: "dev", 2: "test"}
    columns = "phones,speaker,set" if column else "phones,speaker"
    table_of(corpus, columns, lambda spk, n: f"a,s{spk % num_spks}" + (f",{sets[n]}" if column else ""))
    found = read_corpus(corpus)
    expected = {"train": 10, "dev": 10, "test": 10} if column else {"train": 24, "dev": 3, "test": 3}
    assert {name: len(utts) for name, utts in found.sets.items()} == expected
    assert [warning.split(" (")[0] for warning in found.warnings] == [
        f"{len(speakers(found)[name])} of {len(speakers(found)[name])} speakers of {name} are in train, too"
        for name in ("dev", "test")
    ]
    drawn = f"{num_spks} speakers are too few to hold out whole ones; the utterances are split instead"
    assert (drawn in found.notes) == (not column)
    assert {utt.utt_id for utt in read_corpus(corpus).sets["train"]} == {utt.utt_id for utt in found.sets["train"]}


def test_a_set_that_the_column_leaves_out_is_drawn_from_the_utterances_of_the_only_speaker(corpus):
    table_of(corpus, "phones,speaker,set", lambda spk, n: f"a,anna,{'test' if n == 2 else 'train'}")
    found = read_corpus(corpus, OwnOptions(dev_speakers="0.2"))
    assert {name: len(utts) for name, utts in found.sets.items()} == {"train": 16, "dev": 4, "test": 10}
    fault = "1 speakers for train and dev: none is left for train; hold out fewer, or give the sets in a column set"
    assert faults_of(corpus, ConfigError, dev_speakers="anna") == [f"corpus.csv: {fault}"]


def test_speakers_of_label_files_of_whom_none_is_left(corpus):
    for speaker in ("s0", "s1"):
        write(corpus / speaker / "u0.phn", LABELS["phn"])
    options = {"speaker": "^(s.)", "partial": True, "test_speakers": "s0"}
    fault = (
        "2 speakers for train and test and dev: none is left for train; hold out fewer, or give the sets in a column"
    )
    assert faults_of(corpus, ConfigError, **options, dev_speakers="s1") == [f"{corpus}: {fault} set"]


def test_parts_of_one_recording_without_a_speaker(tmp_path):
    record(tmp_path / "long.wav", 6.0)
    rows = "".join(f"long.wav,a,{n / 2},{n / 2 + 0.4}\n" for n in range(12))
    write(tmp_path / "t.csv", f"audio,phones,start,end\n{rows}")
    found = read_corpus(tmp_path)
    assert {name: len(utts) for name, utts in found.sets.items()} == {"train": 10, "dev": 1, "test": 1}
    assert len(found.warnings) == 2


def test_audio_that_the_table_does_not_name(corpus):
    table = table_of(corpus, "phones,speaker", lambda spk, n: f"a,s{spk}")
    edit(table, 3, "s0/u1.wav,a", "s0/u0.wav,")  # a faulty row names its audio all the same
    record(corpus / "s3/more.opus.ogg")
    faults = faults_of(corpus)
    assert [fault.split("corpus.csv")[0] for fault in faults if "not in" in fault] == [
        "s0/u1.wav: not in ",
        "s3/more.opus.ogg: not in ",
    ]
    edit(table, 3, "s0/u0.wav,", "s0/u1.wav,a")
    found = read_corpus(corpus, OwnOptions(partial=True))
    assert len(all_utts(found)) == 30
    assert [line.replace(f"{corpus}/", "") for line in found.warnings] == [
        "left out: 1 recordings without labels, labels without audio, or files not in the table",
        "s3/more.opus.ogg: not in corpus.csv; add a row for it",
    ]


def test_columns_that_are_not_known(corpus):
    table_of(corpus, "phonmes,spk,Sex,colour,sex,end", lambda spk, n: "a,b,m,red,m,1")
    known = "known are audio, phones, utt, speaker, sex, set, start, end"
    assert faults_of(corpus) == [
        f"corpus.csv:1: unknown column 'phonmes'; did you mean 'phones'? {known}",
        f"corpus.csv:1: unknown column 'spk'; did you mean 'speaker'? {known}",
        f"corpus.csv:1: unknown column 'colour'; remove it; {known}",
        "corpus.csv:1: column 'sex' is given 2 times",
        "corpus.csv:1: columns start and end need each other",
    ]
    write(corpus / "corpus.csv", "s0/u0.wav,a\n")
    assert "corpus.csv:1: no column audio; expected a header such as `audio,phones,speaker,set`" in faults_of(corpus)


def test_segments_past_the_end_and_backwards(corpus):
    table = table_of(corpus, "phones,start,end", lambda spk, n: "a,0,1.005")
    read_corpus(corpus)  # rounding is forgiven
    edit(table, 2, "1.005", "1.2")
    edit(table, 3, "0,1.005", "0.5,0.5")
    edit(table, 4, "0,1.005", "0,x")
    faults = faults_of(corpus)
    assert faults[0].startswith("corpus.csv:3: start 0.5, end 0.5; expected seconds")
    assert faults[1].startswith("corpus.csv:4: start 0, end x; expected seconds")
    assert "corpus.csv:2: 0.000 to 1.200 s; u0.wav ends at 1.000 s" in faults


@pytest.mark.parametrize(
    ("start", "end", "taken", "fault"),
    [
        (-0.001, 0.5, (0.0, 0.5), None),  # as Praat and others write where they round
        (-0.01, 0.5, (0.0, 0.5), None),
        (0.5, 1.005, (0.5, 1.0), None),
        (-0.005, 1.01, (0.0, 1.0), None),
        (0.5, 1.02, None, "a ends at 1.020 s, past the end of u0.wav, which has 1.000 s"),
        (-0.02, 0.5, None, "a starts at -0.020 s, before the recording begins"),
        (-0.005, -0.001, None, "a starts at -0.005 s and ends at -0.001 s: it lies before the recording begins"),
        (-0.005, 0.0, None, "a starts at -0.005 s and ends at 0.000 s: it lies before the recording begins"),
        (1.0, 1.005, None, "a starts at 1.000 s and ends at 1.005 s: it lies at its end, 1.000000 s"),
        (1.002, 1.005, None, "a starts at 1.002 s and ends at 1.005 s: it lies at its end, 1.000000 s"),
        (0.5, 0.5, None, "a starts at 0.500 s and ends at 0.500 s; expected start < end"),
    ],
)
@pytest.mark.parametrize("kind", ["TextGrid", "lab", "ctm"])
def test_times_at_the_ends_of_the_recording(tmp_path, kind, start, end, taken, fault):
    """A label that rounding put outside is cut off; any other is told with file and line, alike in every format."""
    record(tmp_path / "u0.wav")
    for other in ("u1", "u2"):
        record(tmp_path / f"{other}.wav")
    contents = {
        "TextGrid": (
            lambda a, b: f'"ooTextFile" "TextGrid" 0 1 <exists> 1 "IntervalTier" "phones" 0 1 1\n{a} {b} "a"\n'
        ),
        "lab": (lambda a, b: f"{a:.3f} {b:.3f} a\n"),
        "ctm": (lambda a, b: f"NAME 1 {a:.3f} {b - a:.3f} a\n"),
    }
    for name, times in (("u0", (start, end)), ("u1", (0, 0.5)), ("u2", (0, 0.5))):
        write(tmp_path / f"{name}.{kind}", contents[kind](*times).replace("NAME", name))
    if fault is not None:
        line = 2 if kind == "TextGrid" else 1
        assert faults_of(tmp_path) == [f"u0.{kind}:{line}: {fault}"]
        return
    (time,) = all_utts(read_corpus(tmp_path))["u0"].phone_times
    assert (time.start, time.end) == pytest.approx(taken, abs=1e-9)


def test_labels_that_overlap_by_rounding_keep_their_order(tmp_path):
    """A start that lies before that of the label above would make the table of phone times go back."""
    for name in ("u0", "u1", "u2"):
        record(tmp_path / f"{name}.wav")
        write(tmp_path / f"{name}.lab", "0.1 0.2 a\n0.2 0.201 b\n0.1999 0.3 c\n")
    times = all_utts(read_corpus(tmp_path))["u0"].phone_times
    assert [(time.start, time.end) for time in times] == [(0.1, 0.2), (0.2, 0.201), (0.2, 0.3)]
    write(tmp_path / "u0.lab", "0.1 0.2 a\n0.2 0.201 b\n0.1999 0.1999999 c\n")
    assert faults_of(tmp_path) == [
        "u0.lab:3: c starts at 0.200 s, before 0.201 s where the interval above ends; expected intervals in order that "
        "do not overlap"
    ]


def test_numbers_that_no_file_means(tmp_path):
    record(tmp_path / "u0.wav")
    grid = '"ooTextFile" "TextGrid" 0 1 <exists> {} "IntervalTier" "phones" 0 1 {}\n0 1 "a"\n'
    for tiers, size, fault in (
        ("1e999", "1", "u0.TextGrid:1: expected the number of tiers, found a number beyond 1e+09"),
        ("1", "-1e999", "u0.TextGrid:1: expected the size of tier phones, found a number beyond 1e+09"),
        ("1", "1.5", "u0.TextGrid:1: expected the size of tier phones, found 1.5"),
        ("1", "-1", "u0.TextGrid:1: expected the size of tier phones, found -1"),
    ):
        write(tmp_path / "u0.TextGrid", grid.format(tiers, size))
        assert faults_of(tmp_path) == [fault]
    (tmp_path / "u0.TextGrid").unlink()
    write(tmp_path / "u0.phn", f"0 {'9' * 5000} a\n")
    assert faults_of(tmp_path)[0].startswith("u0.phn:1: expected `start end phone` in samples, found 0 999")
    (tmp_path / "u0.phn").unlink()
    for start, end in (
        ("0.1", "0.10000001"),
        ("1_0", "20"),
        ("nan", "1"),
        ("0", "inf"),
        ("-0.001", "0.5"),
        ("1", "0.5"),
    ):
        write(tmp_path / "t.csv", f"audio,phones,start,end\nu0.wav,a,{start},{end}\n")
        assert faults_of(tmp_path) == [f"t.csv:2: start {start}, end {end}; expected seconds, with 0 <= start < end"]
    write(tmp_path / "t.csv", "audio,phones,start,end\nu0.wav,a,0.9999999,1.005\n")
    assert faults_of(tmp_path) == ["t.csv:2: 1.000 to 1.005 s; u0.wav ends at 1.000 s"]


def test_ids_that_would_be_lost(tmp_path):
    record(tmp_path / "u0.wav")
    write(tmp_path / "t.csv", "audio,phones,speaker\nu0.wav,a,\ufeffs\n")
    fault = "t.csv:2: the id '\\ufeff{}' is empty or begins with a byte-order mark; change it"
    assert faults_of(tmp_path) == [fault.format("s-u0"), fault.format("s")]


def test_all_faults_of_label_files_come_at_once(corpus):
    for path in list(corpus.rglob("*.wav")):
        write(path.with_suffix(".phn"), LABELS["phn"])
    (corpus / "s0/u0.phn").unlink()
    (corpus / "s0/u1.wav").unlink()
    write(corpus / "s1/u0.phn", "0 2000 a\n1000 4000 b\n")
    write(corpus / "s1/u1.phn", "0 2000 a\n2000 9000 b\n")
    write(corpus / "s1/u2.phn", "")
    write(corpus / "s2/u0.phn", "0 2000\n")
    write(corpus / "s2/u1.wav", "")
    record(corpus / "s2/u2.flac")
    starts = [
        "s0/u0.wav: no .phn labels for u0.wav",
        "s0/u1.phn: no audio for the labels of s0/u1",
        "s1/u0.phn:2: b starts at 0.125 s, before 0.250 s",
        "s1/u1.phn:2: b ends at 1.125 s, past the end of u1.wav, which has 1.000 s",
        "s1/u2.phn: empty",
        "s2/u0.phn:1: expected `start end phone` in samples, found 0 2000",
        "s2/u1.wav: empty file (0 bytes)",
        "s2/u2.wav: the same recording as u2.flac?",
    ]
    faults = faults_of(corpus)
    assert len(faults) == len(starts), faults
    for start in starts:
        assert any(fault.startswith(start) for fault in faults), (start, faults)


def test_partial_leaves_out_what_has_no_counterpart_and_says_so(corpus):
    for path in list(corpus.rglob("*.wav")):
        write(path.with_suffix(".phn"), LABELS["phn"])
    (corpus / "s0/u0.phn").unlink()
    (corpus / "s0/u1.wav").unlink()
    found = read_corpus(corpus, OwnOptions(partial=True))
    assert len(all_utts(found)) == 28
    assert [line.replace(f"{corpus}/", "") for line in found.warnings[1:3]] == [
        "s0/u1.phn: no audio for the labels of s0/u1",
        "s0/u0.wav: no .phn labels for u0.wav",
    ]


def test_options_that_do_not_fit(corpus):
    table_of(corpus, "phones,speaker", lambda spk, n: f"a,s{spk}")
    for options, message in [
        ({"tier": "phones"}, "has a column phones; --labels, --tier and --silence are for label files"),
        ({"speaker": "^(s.)"}, "--speaker: the table has a column speaker"),
        ({"speaker": "s."}, "has no group; put the speaker in parentheses"),
        ({"speaker": "("}, "is not a regular expression"),
        ({"dev_speakers": "s1,s12", "test_speakers": "s2"}, "--dev-speakers: s12: no such speaker; did you mean 's"),
        ({"dev_speakers": "s1", "test_speakers": "s1"}, "s1: already in another set"),
        ({"dev_speakers": "100%"}, "leaves none to train on"),
        ({"dev_speakers": "50%", "test_speakers": "50%"}, "none is left for train; hold out fewer"),
    ]:
        faults = faults_of(corpus, ConfigError, **options)
        assert len(faults) == 1 and message in faults[0], faults
    write(corpus / "other.tsv", "audio\tphones\n")
    assert "2 tables: corpus.csv other.tsv; give one: --table" in faults_of(corpus, ConfigError)[0]
    (corpus / "other.tsv").unlink()
    (corpus / "corpus.csv").unlink()
    write(corpus / "s0/u0.phn", LABELS["phn"])
    write(corpus / "s0/u0.lab", LABELS["lab"])
    assert "several kinds: 1 .lab, 1 .phn; choose one with --labels" in faults_of(corpus, ConfigError)[0]


def test_nothing_to_read(tmp_path):
    assert faults_of(tmp_path / "no")[0].endswith("no such directory; expected the corpus's audio and labels")
    assert faults_of(tmp_path) == [f"{tmp_path}: no audio files in it"]
    record(tmp_path / "a.wav")
    assert faults_of(tmp_path) == [f"{tmp_path}: no table and no label files (.textgrid .phn .lab .ctm); give either"]


def test_phones_that_train_lacks_or_that_look_alike_are_warned_of(corpus):
    table_of(
        corpus,
        "phones,speaker,set",
        lambda spk, n: (
            f"{'x' if spk == 1 else 'ã' if spk == 2 else 'a' + chr(0x303)},s{spk},{'dev' if spk == 1 else 'train'}"
        ),
    )
    warnings = read_corpus(corpus).warnings
    assert "phones of dev that train does not have, and so cannot be learnt: x" in warnings
    assert any("U+0061 U+0303, U+00E3" in warning for warning in warnings)


def test_hidden_files_and_the_data_directory_are_no_part_of_the_corpus(corpus):
    table_of(corpus, "phones", lambda spk, n: "a")
    record(corpus / "._u0.wav")
    record(corpus / "out/x.wav")
    (corpus / "s0/again").symlink_to(corpus, target_is_directory=True)
    assert len(all_utts(read_corpus(corpus, exclude=corpus / "out"))) == 30


def test_words_in_place_of_phones_and_invisible_characters_are_warned_of(corpus):
    table_of(corpus, "phones", lambda spk, n: " ".join(f"word{spk}{n}{index}" for index in range(10)))
    assert any(warning.startswith("300 different phones;") for warning in read_corpus(corpus).warnings)
    table_of(corpus, "phones", lambda spk, n: "a" if n else "a\u200b")
    assert any("U+0061, U+0061 U+200B" in warning for warning in read_corpus(corpus).warnings)


def test_a_file_name_that_no_table_can_hold(corpus):
    table_of(corpus, "phones", lambda spk, n: "a")
    record(corpus / "s0/a\nb.wav")
    (corpus / "s0/\x1b[2J.lab").write_text("a\n")
    (corpus / os.fsdecode(b"\xff.csv")).write_text("audio,phones\n")
    assert faults_of(corpus) == [
        f"{name}: a file name that is not UTF-8 or holds a control character; rename it"
        for name in ("\\xff.csv", "s0/\\x1b[2J.lab", "s0/a\\nb.wav")
    ]
