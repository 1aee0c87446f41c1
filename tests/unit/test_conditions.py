"""The copies of a test set that tests/bench/conditions.py makes are what they are called."""

from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from asrkit.audio import read_audio
from asrkit.formats.data_dir import load_data_dir, write_data_dir
from asrkit.types import Hypothesis, PhoneTime, Utterance
from tests.bench.conditions import (
    CONDITIONS,
    NOBODY,
    Corpus,
    directory_of,
    load_corpus,
    make,
    measure_nobody,
    reverberation_time,
    room,
)

RATE = 16000
SNRS = {"noise, 20 dB": 20, "noise, 10 dB": 10, "noise, 5 dB": 5}


@pytest.fixture(scope="module")
def utts_and_corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Utterance], Corpus]:
    """Three recordings of tones in soft noise."""
    directory, rng = tmp_path_factory.mktemp("conditions"), np.random.default_rng(1)
    utts = []
    for number in range(3):
        tone = sum(np.sin(np.arange(RATE) * 2 * np.pi * hz / RATE) for hz in rng.uniform(200, 3000, 5))
        tone[: RATE // 4] = 0
        path = directory / f"{number}.wav"
        soundfile.write(path, np.rint(1500 * tone + 20 * rng.standard_normal(RATE)).astype(np.int16), RATE)
        times = (PhoneTime("a", 0.25, 0.5), PhoneTime("b", 0.5, 1.0))
        utts.append(Utterance(f"utt{number}", "spk", str(path), ("a", "b"), phone_times=times))
    write_data_dir(directory / "data", utts, {utt.utt_id: 1.0 for utt in utts})
    return load_corpus(directory / "data", None, RATE, 1)


@pytest.fixture(scope="module")
def made(utts_and_corpus: tuple[list[Utterance], Corpus], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    for name in CONDITIONS:
        make(name, *utts_and_corpus, directory / directory_of(name))
    return directory


def audio_under(made: Path, name: str, utt_id: str = "utt1") -> np.ndarray:
    (utt,) = (utt for utt in load_data_dir(made / directory_of(name)).utterances() if utt.utt_id == utt_id)
    return read_audio(utt.audio, sample_rate=RATE).samples.astype(float)


def test_each_condition_has_a_data_directory_and_other_audio(made: Path) -> None:
    assert len({directory_of(name) for name in CONDITIONS}) == len(CONDITIONS) == 15
    heard = set()
    for name in CONDITIONS:
        utts = load_data_dir(made / directory_of(name)).utterances()
        assert [utt.phones for utt in utts] == [("a", "b")] * 3
        heard.add(audio_under(made, name).tobytes())
    assert len(heard) == len(CONDITIONS)


def test_clean_speech_stays_as_it_is(made: Path, utts_and_corpus: tuple[list[Utterance], Corpus]) -> None:
    for utt_id, samples in utts_and_corpus[1].samples.items():
        np.testing.assert_array_equal(audio_under(made, "clean", utt_id), samples)


@pytest.mark.parametrize("seconds", [1, 5])
@pytest.mark.parametrize("quiet", ["digital silence", "room noise"])
def test_quiet_is_at_both_ends(made: Path, quiet: str, seconds: int) -> None:
    name, clean = f"{quiet}, {seconds} s", audio_under(made, "clean")
    heard, before = audio_under(made, name), seconds * RATE
    np.testing.assert_array_equal(heard[before:-before], clean)
    for end in (heard[:before], heard[-before:]):
        if quiet == "digital silence":
            assert not end.any()
        else:  # as the recording before speech begins: white, of standard deviation 20
            assert end.std() == pytest.approx(20, rel=0.15)
            low, high = (scipy.signal.welch(end, RATE)[1][part].mean() for part in (slice(5, 60), slice(60, 120)))
            assert low / high == pytest.approx(1, abs=0.4)
    times = load_data_dir(made / directory_of(name)).phone_times["utt1"]
    assert [time.start for time in times] == [seconds + 0.25, seconds + 0.5]


def test_bands_levels_and_files(made: Path, utts_and_corpus: tuple[list[Utterance], Corpus]) -> None:
    clean = audio_under(made, "clean")
    for name, kind, rate in (("8 kHz", "PCM_16", 8000), ("mu-law", "ULAW", 8000), ("MP3, 48 kbit/s", None, RATE)):
        utt = load_data_dir(made / directory_of(name)).utterances()[1]
        info = soundfile.info(utt.audio)
        assert info.samplerate == rate
        assert info.subtype == (kind or "MPEG_LAYER_III")
        if kind is None:
            assert Path(utt.audio).stat().st_size * 8 / 1000 == pytest.approx(48, rel=0.15)
        correlation = scipy.signal.correlate(audio_under(made, name), clean)
        assert np.argmax(correlation) == len(clean) - 1
    np.testing.assert_allclose(audio_under(made, "gain -30 dB"), clean * 10**-1.5, atol=0.51)
    ideal = clean * 32767 * 10**0.5 / np.abs(clean).max()
    np.testing.assert_allclose(audio_under(made, "clipping"), np.clip(ideal, -32768, 32767), atol=0.51)


@pytest.mark.parametrize(("name", "snr_db"), SNRS.items())
def test_noise_is_as_loud_as_the_name_says(made: Path, name: str, snr_db: float) -> None:
    for utt_id in ("utt0", "utt1", "utt2"):
        clean = audio_under(made, "clean", utt_id)
        noise = audio_under(made, name, utt_id) - clean
        assert 10 * np.log10(clean.var() / noise.var()) == pytest.approx(snr_db, abs=0.1)


@pytest.mark.parametrize("t60", [0.3, 0.8])
def test_rooms_have_their_reverberation_time(t60: float) -> None:
    """By Schroeder's integral of what is heard, at another rate than the benchmark's."""
    response = room(t60, 8000, 1, 0)
    assert np.argmax(np.abs(response)) == 0
    assert reverberation_time(response**2, 8000) == pytest.approx(t60, rel=0.1)
    white = np.random.default_rng(1).standard_normal(8000)
    assert np.argmax(np.abs(scipy.signal.correlate(scipy.signal.fftconvolve(white, response)[:8000], white))) == 7999


def test_reverberation_time_of_a_decay_that_is_known() -> None:
    seconds = np.arange(16000) / 16000
    for t60 in (0.2, 0.5):
        assert reverberation_time(10 ** (-6 * seconds / t60), 16000) == pytest.approx(t60, rel=1e-3)


def test_the_seed_decides_everything(utts_and_corpus: tuple[list[Utterance], Corpus], tmp_path: Path) -> None:
    utts, corpus = utts_and_corpus
    for name in ("noise, 10 dB", "room noise, 1 s"):
        heard = []
        for number, seed in enumerate((1, 1, 2)):
            make(name, utts, Corpus(corpus.samples, RATE, seed), tmp_path / f"{number}")
            heard.append([audio.read_bytes() for audio in sorted((tmp_path / f"{number}_audio").iterdir())])
        assert heard[0] == heard[1]
        assert heard[0] != heard[2]


def power_near(samples: np.ndarray, hz: float) -> float:
    """The share of the power within 2 Hz of `hz`."""
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    power = np.abs(np.fft.rfft(samples)) ** 2
    return float(power[np.abs(frequencies - hz) <= 2].sum() / power.sum())


def test_where_nobody_speaks_there_is_what_the_name_says() -> None:
    sounds = {name: sound(RATE, np.random.default_rng(3)) for name, sound in NOBODY.items()}
    assert {len(samples) for samples in sounds.values()} == {8 * RATE}
    assert not sounds["digital silence"].any()
    assert power_near(sounds["hum"], 50) > 0.5
    levels = {name: samples.reshape(-1, RATE // 100).std(axis=1) for name, samples in sounds.items()}
    for name, even in {"white noise": True, "hum": True, "gusts": False, "drums": False}.items():
        assert (np.quantile(levels[name], 0.9) < 2 * np.quantile(levels[name], 0.1)) == even, name
    peaks = np.sort(np.abs(np.fft.rfft(sounds["chords"])) ** 2)[::-1]
    assert peaks[:3200].sum() > 0.9 * peaks.sum()  # a twentieth of 64001: tones


def test_what_is_heard_where_nobody_speaks_is_counted_without_silence() -> None:
    class Recognizer:
        timer = type("Timer", (), {"silent_phones": frozenset({"sil"})})

        def transcribe(self, samples: np.ndarray, name: str, sample_rate: int) -> Hypothesis:
            assert (len(samples), sample_rate, samples.dtype) == (8 * RATE, RATE, np.int16)
            if name.endswith(" 0"):
                return Hypothesis(name, ("a", "sil", "b"), 0.0, confidences=(0.5, 0.9, 0.1))
            return Hypothesis(name, ("sil",), 0.0, confidences=(0.9,))

    found = measure_nobody(Recognizer(), "gusts", RATE, 1)
    assert found == {"heard": 10.0, "phones": 2, "confidence": pytest.approx(30.0)}
