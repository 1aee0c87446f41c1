"""The mini corpus: its plan, the phone times against signals of known content, and that it is made whole and alike."""

from __future__ import annotations

import errno
import fcntl
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from asrkit.corpora import espeak, mini
from asrkit.corpora.persian import PHONES, VOWELS, spell
from asrkit.errors import DataError
from asrkit.io.lock import lock_dir

SMALL_PLAN = {
    "train": mini.SetPlan(("m1", "f2"), 2, 3, 5),
    "dev": mini.SetPlan(("ed",), 1, 2, 2),
    "test": mini.SetPlan(("m2",), 1, 2, 3),
}


@pytest.fixture
def _loader():
    pytest.importorskip("espeakng_loader", reason="the mini corpus's library is an optional extra")


@pytest.fixture
def small_plan(monkeypatch, _loader):
    monkeypatch.setattr(mini, "PLAN", SMALL_PLAN)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The small corpus of seed 3, made by one process."""
    pytest.importorskip("espeakng_loader", reason="the mini corpus's library is an optional extra")
    corpus = tmp_path_factory.mktemp("made") / "corpus"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mini, "PLAN", SMALL_PLAN)
        assert mini.make_corpus(corpus, seed=3, num_jobs=1)
    return corpus


def content(directory):
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


# The plan


def test_sets_share_no_variant_and_no_sentence():
    speakers = mini.plan_speakers(1)
    variants, sentences = {}, {}
    for speaker in speakers:
        variants.setdefault(speaker.set_name, set()).add(speaker.variant)
        read = {sum(words, ()) for _, words in speaker.sentences}
        assert len(read) == len(speaker.sentences)
        sentences.setdefault(speaker.set_name, set()).update(read)
    for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
        assert not variants[first] & variants[second]
        assert not sentences[first] & sentences[second]
    assert {name: len(names) for name, names in variants.items()} == {"train": 48, "dev": 8, "test": 12}
    # Every sentence that was written is read.
    assert {name: len(read) for name, read in sentences.items()} == {"train": 400, "dev": 48, "test": 90}
    assert {speaker.sex for speaker in speakers if speaker.set_name == "test"} == {"m", "f"}


def test_utterance_ids_are_unique_and_begin_with_their_speaker():
    speakers = mini.plan_speakers(1)
    utts = [(utt_id, speaker.spk_id) for speaker in speakers for utt_id, _ in speaker.sentences]
    assert len({utt_id for utt_id, _ in utts}) == len(utts)
    assert all(utt_id.startswith(spk_id + "_") for utt_id, spk_id in utts)
    assert utts == sorted(utts)


def test_the_plan_depends_on_the_seed_alone():
    assert mini.plan_speakers(5) == mini.plan_speakers(5) != mini.plan_speakers(6)


@pytest.mark.usefixtures("_loader")
def test_every_variant_of_the_plan_is_in_the_library():
    planned = {variant for plan in mini.PLAN.values() for variant in plan.variants}
    assert planned <= set(espeak.variant_names())


def test_mnemonics():
    assert mini.to_mnemonics((spell("?Aqce"), spell("caqA")), 1) == "?|A|q|tS|'e _: tS|a|Q|'A"
    assert mini.to_mnemonics((spell("qAyeq"), spell("jahed"))) == "q|A|j|'e|q dZ|a|h|'e|d"


# Phone times


def speech(num_samples, events, sounding):
    samples = np.zeros(num_samples, np.int16)
    for begin, end in sounding:
        samples[begin:end] = 1000
    return espeak.Speech(samples.tobytes(), tuple(events))


def test_a_closure_belongs_to_the_stop_after_it():
    events = [("s", 300), ("'a", 2000), ("t", 4800), (",e", 5500), ("1", 7000), ("_:", 7000), ("_", 7200)]
    said = speech(7200, events, [(300, 4000), (4800, 7000)])
    assert mini.phone_starts(said, 175) == (("s", "a", "t", "e", "sil"), [300, 2000, 4000, 5500, 7000])


def test_a_closure_after_silence_has_its_usual_length():
    events = [("k", 3000), ("A", 3500), ("_:", 6000), ("tS", 12000), ("i", 13000), ("_:", 15000)]
    phones, starts = mini.phone_starts(speech(15000, events, [(3000, 6000), (12000, 15000)]), 175)
    assert phones == ("k", "A", "sil", ",", "i", "sil")
    closure = 860  # 39 ms, which is what the library leaves at the beginning of an utterance at this rate
    assert starts[0] == pytest.approx(3000 - closure, abs=2) and starts[3] == pytest.approx(12000 - closure, abs=2)


def test_a_closure_that_an_echo_fills_has_its_usual_length():
    events = [("a", 0), ("t", 5000), ("e", 5500), ("_:", 7000)]
    assert mini.phone_starts(speech(7000, events, [(0, 7000)]), 175)[1][1] == pytest.approx(5000 - 860, abs=2)


@pytest.mark.parametrize("name", ["y", "w", "ej"])
def test_a_name_that_is_no_phone_of_ours_never_passes_for_one(name):
    phones, _ = mini.phone_starts(speech(900, [(name, 0), ("a", 500), ("_:", 800)], []), 175)
    assert phones == (f"<{name}>", "a", "sil")


@pytest.mark.parametrize("warp", [0.9, 1.0, 1.12])
@pytest.mark.parametrize("reverb_s", [0.0, 0.3])
def test_recorded_bounds_fall_on_the_sound(warp, reverb_s):
    # One pulse at the start of each phone of the speech; the pauses hold none.
    phones = ("s", "a", "sil", "m", "sil")
    starts = [500, 4000, 8000, 9000, 12000]
    samples = np.zeros(12500, np.float32)
    samples[[500, 4000, 9000]] = 20000
    speaker = replace(mini.plan_speakers(1)[0], warp=warp, snr_db=80.0, reverb_s=reverb_s)
    room = mini._room(reverb_s, np.random.default_rng(1))
    pcm, bounds = mini._record(samples, starts, phones, speaker, room, np.random.default_rng(2))
    assert len(bounds) == len(phones) + 2
    assert bounds[0] == 0 and bounds[-1] == len(pcm) / mini.SAMPLE_RATE and (np.diff(bounds) > 0).all()
    for index in (1, 2, 4):
        centre = round(bounds[index] * mini.SAMPLE_RATE)
        window = np.abs(pcm[centre - 400 : centre + 400].astype(float))
        assert abs(int(window.argmax()) - 400) <= 1
    # Before, inside and after the speech there is silence of 80 to 300 ms, besides espeak's own.
    own = np.array([500, 1000, 500]) / (espeak.SAMPLE_RATE * warp)
    silences = np.array([bounds[1], bounds[4] - bounds[3], bounds[6] - bounds[5]]) - own
    assert (silences > 0.079).all() and (silences < 0.301).all()


def centroid_hz(samples):
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return float((power * np.fft.rfftfreq(len(samples), 1 / mini.SAMPLE_RATE)).sum() / power.sum())


@pytest.mark.usefixtures("_loader")
@pytest.mark.parametrize("variant", ["m1", "f2"])
def test_spoken_phones_sound_as_their_labels_say(tmp_path, variant):
    words = (spell("saSi"), spell("zAZe"), spell("sosak"), spell("SiSe"), spell("?Atas"))
    speaker = replace(
        mini.plan_speakers(1)[0],
        variant=variant,
        warp=1.0,
        snr_db=40.0,
        reverb_s=0.0,
        sentences=(("s001_001", words),),
    )
    lines, findings = mini._record_speaker(tmp_path, 1, speaker)
    assert findings.errors == []
    samples, rate = soundfile.read(tmp_path / "s001" / "s001_001.wav")
    spans = [(fields[4], float(fields[2]), float(fields[3])) for fields in map(str.split, lines)]
    assert [phone for phone, _, _ in spans if phone != "sil"] == list(sum(words, ()))
    assert sum(duration for _, _, duration in spans) == pytest.approx(len(samples) / rate, abs=1e-4)
    hiss, voice, silence = [], [], []
    for phone, start, duration in spans:
        part = samples[round(start * rate) : round((start + duration) * rate)]
        if phone in ("s", "S"):
            hiss.append(centroid_hz(part))
        elif phone in VOWELS:
            voice.append(centroid_hz(part))
        level = 10 * np.log10(np.mean(part**2) / np.mean(samples**2))
        if phone in VOWELS:
            assert level > -6
        elif phone == "sil":
            silence.append(level)
    assert len(hiss) == 7 and min(hiss) > 2500 > 1800 > max(voice)
    assert max(silence) < -20


# The corpus


@pytest.mark.usefixtures("small_plan")
def test_the_corpus_is_the_same_bits_however_many_processes_make_it(made, tmp_path):
    assert mini.make_corpus(tmp_path / "two", seed=3, num_jobs=2)
    one = content(made)
    assert one == content(tmp_path / "two")
    assert sum(path.suffix == ".wav" for path in one) == 4 * 3 + 2 + 2
    assert mini.make_corpus(tmp_path / "two", seed=4)
    assert one != content(tmp_path / "two")


@pytest.mark.usefixtures("small_plan")
def test_what_is_read_is_what_was_planned(made):
    sets = mini.read_corpus(made)
    planned = {utt_id: (speaker, words) for speaker in mini.plan_speakers(3) for utt_id, words in speaker.sentences}
    assert {name: len(utts) for name, utts in sets.items()} == {"train": 12, "dev": 2, "test": 2}
    for name, utts in sets.items():
        assert utts == sorted(utts, key=lambda utt: utt.utt_id)
        for utt in utts:
            speaker, words = planned[utt.utt_id]
            assert (utt.spk_id, name, utt.sex) == (speaker.spk_id, speaker.set_name, speaker.sex)
            assert tuple(phone for phone in utt.phones if phone != "sil") == sum(words, ())
            assert utt.phones[0] == utt.phones[-1] == "sil" and set(utt.phones) <= set(PHONES)
            info = soundfile.info(utt.audio)
            assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
            assert utt.phone_times[-1].end == pytest.approx(info.frames / 16000, abs=2e-6)
            for before, after in zip(utt.phone_times, utt.phone_times[1:], strict=False):
                assert before.end == pytest.approx(after.start, abs=2e-6) and after.end > after.start


@pytest.mark.usefixtures("small_plan")
def test_a_second_run_makes_nothing_and_another_seed_or_force_does(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "corpus")
    with monkeypatch.context() as patch:
        patch.setattr(mini, "_record_speaker", None)  # would fail
        assert not mini.make_corpus(tmp_path / "corpus", seed=3)
    before = (tmp_path / "corpus" / "phones.ctm").stat().st_mtime_ns
    assert mini.make_corpus(tmp_path / "corpus", seed=3, force=True)
    assert (tmp_path / "corpus" / "phones.ctm").stat().st_mtime_ns > before


@pytest.mark.usefixtures("small_plan")
def test_a_failure_leaves_what_was_there(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "corpus")
    before = content(tmp_path / "corpus")
    # A pronunciation that the library does not say as written.
    monkeypatch.setattr(mini, "to_mnemonics", lambda words, pause_after=0: "s|'A|l")
    with pytest.raises(DataError) as caught:
        mini.make_corpus(tmp_path / "corpus", seed=4)
    faults = str(caught.value).split("\n")
    assert len(faults) == 16 and all("said s A l sil; asked for" in fault for fault in faults)
    assert content(tmp_path / "corpus") == before
    assert [path.name for path in tmp_path.iterdir()] == ["corpus"]


def test_a_directory_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(DataError, match="not a mini corpus"):
        mini.make_corpus(tmp_path, force=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


@pytest.mark.usefixtures("small_plan")
@pytest.mark.parametrize("has_flock", [True, False])
def test_what_a_lock_consists_of_is_not_something_else(tmp_path, monkeypatch, has_flock):
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    if not has_flock:
        monkeypatch.setattr(fcntl, "flock", flock)
    with lock_dir(tmp_path / "corpus", "prepare"):
        assert mini.make_corpus(tmp_path / "corpus", seed=3)
    made = {path.name for path in (tmp_path / "corpus").iterdir()}
    assert made == {".corpus.stamp", "phones.ctm", "speakers.tsv", "wav"}


def test_faults_in_the_corpus_tables_are_all_named(tmp_path):
    (tmp_path / "speakers.tsv").write_text("spk_id\tset_name\tsex\ns001\ttrain\tm\ns002\tnowhere\tm\n")
    (tmp_path / "phones.ctm").write_text(
        "s001_1 1 0.0 0.5 sil\ns001_1 1 0.5 half a\ns009_1 1 0 1 sil\ns001_1 1 0 1 X\n"
    )
    with pytest.raises(DataError) as caught:
        mini.read_corpus(tmp_path)
    faults = str(caught.value).split("\n")
    assert [fault.split(": ")[0].removeprefix(f"{tmp_path}/") for fault in faults] == [
        "speakers.tsv:3",
        "phones.ctm:2",
        "phones.ctm:3",
        "phones.ctm:4",
    ]
    with pytest.raises(DataError, match=r"speakers.tsv: cannot be read"):
        mini.read_corpus(tmp_path / "nowhere")
