"""Augmentation: what is drawn, what it does to the audio, and what CMVN then takes."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from asrkit.audio import AudioAccess, read_audio
from asrkit.errors import ConfigError, DataError
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.features.full import full_features
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.pipeline import FeatureLoader, pooled_stats
from asrkit.formats.data_dir import write_data_dir
from asrkit.lang.tokens import TokenTable
from asrkit.training.augment import Augmenter, change_speed
from asrkit.training.codecs import CODECS, set_level
from asrkit.training.config import AugmentConfig
from asrkit.training.dataset import TrainingSet, split_infeasible
from asrkit.training.noise import NOISES, Scene, add_noise, colored_noise
from asrkit.training.rooms import reverberate, room_response
from asrkit.training.sounds import sound_without_speech
from asrkit.types import PhoneTime, Utterance, Waveform

TOKENS = TokenTable(["a", "b", "c"])
NOTHING = AugmentConfig(speeds=(), vtlp=0.0, time_masks=0)
UTTS = {f"spk{spk}-{n}": f"spk{spk}" for spk in (1, 2) for n in range(3)}
ALL = replace(
    NOTHING, speeds=(0.9, 1.0, 1.1), vtlp=0.1, noise_prob=0.5, time_masks=2, time_mask_frames=5, coefficient_masks=1
)
WAYS = replace(
    NOTHING, noise_prob=0.5, reverb_prob=0.5, level_prob=0.5, codec_prob=0.5, noises=("brown", "babble", "hum")
)
INAUDIBLE = replace(NOTHING, noise_prob=1.0, noise_snr_db=(200.0, 200.0))


def speech(seconds: float, seed: int) -> np.ndarray:
    """Harmonics that glide, and noise; whole numbers."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(16000 * seconds)) / 16000
    phase = 2 * np.pi * np.cumsum(rng.uniform(90, 200) + 30 * np.sin(2 * np.pi * time)) / 16000
    voiced = sum(np.sin(k * phase) / k for k in range(1, 30))
    return np.round(2000 * voiced * np.sin(4 * time) + rng.normal(0, 50, len(time)))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("augment")
    utts, durations = [], {}
    for seed, (utt_id, spk_id) in enumerate(UTTS.items()):
        path, durations[utt_id] = directory / f"{utt_id}.wav", 0.6 + 0.1 * seed
        soundfile.write(path, speech(durations[utt_id], seed).astype(np.int16), 16000)
        times = tuple(PhoneTime(phone, 0.2 * i, 0.2 * i + 0.2) for i, phone in enumerate("abc"))
        utts.append(Utterance(utt_id, spk_id, str(path), ("a", "b", "c"), phone_times=times))
    write_data_dir(directory / "data", utts, durations)
    extract_data_dir(directory / "data", FeatureConfig(), num_jobs=1)
    return directory / "data"


def open_set(data_dir: Path, augment: AugmentConfig, **settings: object) -> TrainingSet:
    return TrainingSet.open(
        data_dir, FeatureConfig(**settings), pooled_stats(data_dir, FeatureConfig(**settings)), TOKENS, augment, True
    )


def open_plain(data_dir: Path, augment: AugmentConfig | None = None) -> TrainingSet:
    return TrainingSet.open(data_dir, FeatureConfig(), pooled_stats(data_dir, FeatureConfig()), TOKENS, augment)


def augmenter(data_dir: Path, augment: AugmentConfig, **settings: object) -> Augmenter:
    return Augmenter.open(
        augment, FeatureLoader(data_dir, FeatureConfig(**settings), pooled_stats(data_dir, FeatureConfig(**settings)))
    )


def audio_of(data_dir: Path, utt_id: str) -> Waveform:
    return read_audio(data_dir.parent / f"{utt_id}.wav")


@pytest.mark.parametrize("augment", [ALL, WAYS, replace(WAYS, nobody_prob=0.5)])
def test_the_generator_decides_everything(data_dir: Path, augment: AugmentConfig) -> None:
    data, fresh = open_set(data_dir, augment), open_set(data_dir, augment)
    utt_ids = list(UTTS)
    first = data.load(utt_ids, np.random.default_rng(1))
    other = data.load(utt_ids, np.random.default_rng(2))
    assert not (first.feats.shape == other.feats.shape and first.feats.equal(other.feats))
    for again in (data, fresh, pickle.loads(pickle.dumps(data)), pickle.loads(pickle.dumps(fresh))):
        batch = again.load(utt_ids, np.random.default_rng(1))
        assert batch.feats.equal(first.feats)
        assert batch.frame_labels.equal(first.frame_labels)
        assert batch.feat_lens.equal(first.feat_lens)
    plain = open_plain(data_dir)
    assert data.load(utt_ids).feats.equal(plain.load(utt_ids).feats)


def test_nothing_drawn_is_nothing_done(data_dir: Path) -> None:
    plain = open_plain(data_dir).load(list(UTTS)).feats
    for augment in (NOTHING, replace(NOTHING, speeds=(1.0,)), replace(NOTHING, vtlp=0.0, noise_prob=0.0)):
        assert open_set(data_dir, augment).load(list(UTTS), np.random.default_rng(1)).feats.equal(plain)
    assert open_set(data_dir, NOTHING).augmenter is None
    # Features of the audio, with noise that is too weak to change a sample, are the stored ones.
    data = open_set(data_dir, INAUDIBLE, cmvn="utterance")
    plain = data.load(list(UTTS)).feats
    assert (data.load(list(UTTS), np.random.default_rng(1)).feats - plain).abs().max() < 1e-3


def test_joined_utterances_are_others_and_then_their_own(data_dir: Path) -> None:
    data = open_set(data_dir, replace(NOTHING, join_prob=0.5), cmvn="speech_running")
    alone = {utt_id: data.load([utt_id]) for utt_id in UTTS}
    (own,) = alone["spk1-1"].feats.numpy()
    before = []
    for seed in range(100):
        batch = data.load(["spk1-1"], np.random.default_rng(seed))
        num_before = batch.feats.shape[1] - len(own)
        assert (batch.feats[0, num_before:].numpy() == own).all()
        assert batch.frame_labels[0, num_before:].equal(alone["spk1-1"].frame_labels[0])
        if not num_before:
            assert batch.tokens.equal(alone["spk1-1"].tokens)
            continue
        (other,) = (utt_id for utt_id, each in alone.items() if each.feats.equal(batch.feats[:, :num_before]))
        assert batch.frame_labels[:, :num_before].equal(alone[other].frame_labels)
        assert batch.tokens.tolist() == [alone[other].tokens[0].tolist() + alone["spk1-1"].tokens[0].tolist()]
        before.append(other)
    assert 35 < len(before) < 65
    assert set(before) == set(UTTS)


def test_utterances_are_joined_only_where_ctc_can_align_them(data_dir: Path) -> None:
    """They are of three phones: alone each needs three steps, and joined seven, as "c" may meet "c"."""
    data = open_set(data_dir, replace(NOTHING, join_prob=1.0), cmvn="speech_running")
    lengths = data.num_frames
    for longest in sorted(lengths.values()):
        few = replace(data, min_frames=np.array([0, 1, 1, 1, 1, longest]))
        found = {len(few.load(["spk1-1"], np.random.default_rng(seed)).feats[0]) for seed in range(60)}
        assert found == {lengths["spk1-1"] + (each if each >= longest else 0) for each in lengths.values()}
    none = replace(data, min_frames=np.ones(5, int)).load(["spk1-1"], np.random.default_rng(0))
    assert len(none.feats[0]) == lengths["spk1-1"]


@pytest.mark.parametrize("cmvn", ["speech_speaker", "utterance"])
@pytest.mark.parametrize("speeds", [(), (1.1,)])
def test_pauses_are_of_quiet_frames_and_have_no_labels(data_dir: Path, cmvn: str, speeds: tuple[float, ...]) -> None:
    data = open_set(data_dir, replace(NOTHING, pause_prob=1.0, speeds=speeds), cmvn=cmvn)
    straight = open_set(data_dir, replace(NOTHING, pause_prob=0.0, speeds=speeds), cmvn=cmvn)
    lengths, num_silent, num_ends = [], 0, 0
    for seed in range(60):
        feats, _, (before, behind), _ = data.augmenter("spk1-1", np.random.default_rng(seed))
        batch = data.load(["spk1-1"], np.random.default_rng(seed))
        plain = straight.load(["spk1-1"], np.random.default_rng(seed))
        num_frames = len(feats) - before - behind
        assert num_frames == plain.feats.shape[1]
        assert batch.feats[0, : len(feats)].numpy() == pytest.approx(feats)
        labels = batch.frame_labels[0].tolist()
        assert labels[before : before + num_frames] == plain.frame_labels[0].tolist()
        assert set(labels[:before] + labels[before + num_frames :]) <= {-1}
        said = feats[before : before + num_frames, :13]
        if cmvn == "speech_speaker":  # deltas see the pauses, at either end
            np.testing.assert_allclose(said, plain.feats[0, :, :13], atol=1e-5)
            for pause in (feats[:before, :13], feats[before + num_frames :, :13]):
                of_the_utterance = (np.abs(pause[:, None] - said[None]).max(axis=2) < 1e-4).any(axis=1)
                assert of_the_utterance.all() or not of_the_utterance.any()
                assert not len(pause) or pause[:, 0].max() <= np.sort(said[:, 0])[len(said) // 10] + 1e-3
                num_silent += bool(len(pause)) and not of_the_utterance.any()
                num_ends += bool(len(pause))
        lengths += [length for length in (before, behind) if length]
    assert 60 < len(lengths) < 105
    assert 20 <= min(lengths) < 40 < 300 < max(lengths) <= 500
    assert cmvn == "utterance" or 0.1 < num_silent / num_ends < 0.4


@pytest.mark.parametrize("cmvn", ["speech_speaker", "speech_running", "utterance"])
def test_a_cut_leaves_at_most_15_quiet_frames_at_either_end(tmp_path: Path, cmvn: str) -> None:
    """Speech from 0.5 to 1.5 s in an utterance of 1.9 s."""
    samples = np.random.default_rng(1).normal(0, 20, 30400)
    samples[8000:24000] += 3000 * np.sin(np.arange(16000) / 5)
    soundfile.write(tmp_path / "x.wav", samples.round().astype(np.int16), 16000)
    times = (PhoneTime("a", 0.5, 0.8), PhoneTime("b", 0.8, 1.5))
    utt = Utterance("x", "s", str(tmp_path / "x.wav"), ("a", "b"), phone_times=times)
    write_data_dir(tmp_path / "data", [utt], {"x": 1.9})
    extract_data_dir(tmp_path / "data", FeatureConfig(), num_jobs=1)
    data = open_set(tmp_path / "data", replace(NOTHING, cut_prob=1.0, pause_prob=1.0), cmvn=cmvn)
    static, stats = data.feats.static("x"), data.feats.stats("x")
    plain, left = data.load(["x"]).frame_labels[0].numpy(), []
    for seed in range(60):
        feats, _, (before, behind), _ = data.augmenter("x", np.random.default_rng(seed))
        kept = slice(-before, len(static) + behind)
        np.testing.assert_array_equal(feats, full_features(static[kept], stats, data.feats.config))
        batch = data.load(["x"], np.random.default_rng(seed))
        np.testing.assert_array_equal(batch.frame_labels[0].numpy(), plain[kept])
        left.append((50 + before, 40 + behind))  # frames before 0.5 s, and from 1.5 s on
    fewest, most = np.min(left, axis=0), np.max(left, axis=0)  # a frame of 25 ms hears what is beside it
    assert (abs(fewest) <= 2).all() and (abs(most - 15) <= 2).all()
    whole = data.augmenter("x", np.random.default_rng(1), min_frames=len(static))
    assert min(whole.added) >= 0, "too short after a cut: pauses instead"


@pytest.mark.parametrize("cmvn", ["speech_speaker", "speech_utterance"])
def test_where_nobody_speaks_there_are_no_phones_and_the_rest_is_as_it_was(data_dir: Path, cmvn: str) -> None:
    data = open_set(data_dir, replace(NOTHING, nobody_prob=0.5), cmvn=cmvn)
    plain = open_set(data_dir, NOTHING, cmvn=cmvn).load(list(UTTS))
    num_silent = 0
    for seed in range(20):
        batch = data.load(list(UTTS), np.random.default_rng(seed))
        assert batch.feat_lens.equal(plain.feat_lens)
        for row, num_tokens in enumerate(batch.token_lens.tolist()):
            is_same = batch.feats[row].equal(plain.feats[row])
            assert is_same == (num_tokens == 3) == (batch.frame_labels[row] > 0).any().item()
            assert num_tokens in (0, 3)
            num_silent += not num_tokens
    assert 40 < num_silent < 80


def test_what_nobody_says_goes_the_way_of_speech(data_dir: Path) -> None:
    """As loud as the utterance, and then in a room, in noise, through a codec."""
    for settings in ({}, {"level_prob": 1.0}, {"noise_prob": 1.0}, {"reverb_prob": 1.0}, {"codec_prob": 1.0}):
        alone = augmenter(data_dir, replace(NOTHING, nobody_prob=1.0), cmvn="none")
        changed = augmenter(data_dir, replace(NOTHING, nobody_prob=1.0, **settings), cmvn="none")
        for utt_id in UTTS:
            first, second = (each(utt_id, np.random.default_rng(3)) for each in (alone, changed))
            assert not first.is_speech
            assert not second.is_speech
            assert np.array_equal(first.feats, second.feats) == (not settings)
            samples = audio_of(data_dir, utt_id).samples
            drawn = np.random.default_rng(3)
            drawn.integers(1), drawn.integers(1), drawn.random(), drawn.random()  # speed, warp, whether, noise
            sound = sound_without_speech(len(samples), 16000, drawn) * samples.std()
            expected = FeatureExtractor(FeatureConfig(cmvn="none"))(Waveform(sound, 16000))
            np.testing.assert_allclose(first.feats[:, :13], expected, atol=1e-3)


class Draws:
    """A generator that draws what it is told: the speed, the warp, then whether there is noise."""

    def __init__(self, speed: int, warp: int) -> None:
        self._numbers = iter((speed, warp))

    def integers(self, number: int) -> int:
        drawn = next(self._numbers)
        assert drawn < number
        return drawn

    def random(self) -> float:
        return 1.0


@pytest.mark.parametrize("cmvn", ["speaker", "utterance", "global", "none", "speech_speaker"])
@pytest.mark.parametrize(("speed", "warp"), [(0.9, 1.0), (1.0, 0.9), (1.0, 1.1), (1.1, 0.925)])
def test_features_and_statistics_by_brute_force(
    data_dir: Path, cmvn: str, speed: float, warp: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asrkit.features.cmvn._ENOUGH", 1000)  # frames, which none of the speakers has
    config = FeatureConfig(cmvn=cmvn)
    made = augmenter(data_dir, replace(NOTHING, speeds=(0.9, 1.0, 1.1), vtlp=0.1), cmvn=cmvn)
    draws = Draws([0.9, 1.0, 1.1].index(speed), round((warp - 0.9) / 0.025))
    feats, found, _, _ = made("spk2-1", draws)
    assert found == speed

    extract = FeatureExtractor(config, warp)
    static = {utt_id: extract(change_speed(audio_of(data_dir, utt_id), speed)) for utt_id in UTTS}
    speakers = sum(config.normalization.statistics(static[utt_id]) for utt_id in ("spk2-0", "spk2-1", "spk2-2"))
    total = pooled_stats(data_dir, config)
    if cmvn == "speech_speaker":
        speakers += total * (1000 - speakers[0, -1]) / total[0, -1]
    expected = full_features(static["spk2-1"], total if cmvn == "global" else speakers, config)
    np.testing.assert_allclose(feats, expected, atol=1e-4)
    if cmvn == "speaker":
        everything = [made(utt_id, Draws(2, 0))[0] for utt_id in ("spk2-0", "spk2-1", "spk2-2")]
        static_part = np.concatenate(everything)[:, :13]
        np.testing.assert_allclose(static_part.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(static_part.std(axis=0), 1, atol=1e-4)


def test_of_a_speaker_with_much_speech_the_longest_are_measured(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("asrkit.training.augment._STATS_FRAMES", 150)
    feats, *_ = augmenter(data_dir, replace(NOTHING, vtlp=0.1))("spk1-0", Draws(0, 0))
    extract = FeatureExtractor(FeatureConfig(), 0.9)
    static = {utt_id: extract(audio_of(data_dir, utt_id)) for utt_id in ("spk1-0", "spk1-1", "spk1-2")}
    longest = accumulate(static["spk1-2"]) + accumulate(static["spk1-1"])  # 78 frames and 68, then 58
    for utt_id, expected in (("all", longest + accumulate(static["spk1-0"])), ("two", longest)):
        same = np.allclose(feats, full_features(static["spk1-0"], expected, FeatureConfig()), atol=1e-4)
        assert same == (utt_id == "all")
    monkeypatch.setattr("asrkit.training.augment._STATS_FRAMES", 140)
    feats, *_ = augmenter(data_dir, replace(NOTHING, vtlp=0.1))("spk1-0", Draws(0, 0))
    np.testing.assert_allclose(feats, full_features(static["spk1-0"], longest, FeatureConfig()), atol=1e-4)


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.1, 1.2])
def test_speed_changes_tempo_and_pitch(speed: float) -> None:
    time = np.arange(32000) / 16000
    played = change_speed(Waveform(np.sin(2 * np.pi * 1000 * time).astype(np.float32), 16000), speed)
    assert played.sample_rate == 16000
    assert len(played.samples) == pytest.approx(32000 / speed, abs=1)
    expected = np.sin(2 * np.pi * 1000 * speed * np.arange(len(played.samples)) / 16000)
    np.testing.assert_allclose(played.samples[500:-500], expected[500:-500], atol=1e-3)


def test_frame_labels_go_with_the_speed(data_dir: Path) -> None:
    for speed in (0.8, 1.25):
        batch = open_set(data_dir, replace(NOTHING, speeds=(speed,))).load(["spk1-0"], np.random.default_rng(1))
        centres = (0.0125 + 0.01 * np.arange(int(batch.feat_lens[0]))) * speed
        expected = np.where(centres < 0.2, 1, np.where(centres < 0.4, 2, np.where(centres < 0.6, 3, -1)))
        assert abs(len(expected) - 58 / speed) < 3
        assert (batch.frame_labels[0].numpy() == expected).all()


def test_all_that_is_offered_is_drawn(data_dir: Path) -> None:
    made = augmenter(data_dir, replace(NOTHING, speeds=(0.9, 1.0, 1.1), vtlp=0.1))
    rng = np.random.default_rng(1)
    drawn = [made("spk1-0", rng) for _ in range(300)]
    assert {each.speed for each in drawn} == {0.9, 1.0, 1.1}
    assert len({feats.tobytes() for feats, *_ in drawn}) == 27


class Frames:
    """A model of a step a frame."""

    def num_steps(self, num_frames: int) -> int:
        return num_frames


@pytest.mark.parametrize("vtlp", [0.0, 0.1])
def test_utterances_that_would_become_too_short_keep_their_speed(data_dir: Path, vtlp: float) -> None:
    data = open_set(data_dir, replace(NOTHING, speeds=(2.0,), vtlp=vtlp), cmvn="speaker")
    rng = np.random.default_rng(1)
    assert data.load(["spk1-0"], rng).feat_lens.item() == 28
    longer = {utt_id: [1, 2] * 25 for utt_id in UTTS}  # 50 steps
    data = TrainingSet(data.feats, data.num_frames, longer, data.frame_labels, data.augmenter)
    data, excluded = split_infeasible(data, Frames())
    assert not excluded
    batch = data.load(["spk1-0"] * 5 + ["spk2-2"], rng)
    assert batch.feat_lens.tolist() == [58] * 5 + [53]  # 108 frames at speed 1
    plain = data.load(["spk1-0"])
    for row in range(5):
        assert batch.feats[row, :58].equal(plain.feats[0])
        assert batch.frame_labels[row, :58].equal(plain.frame_labels[0])


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_noise_has_its_colour(exponent: float) -> None:
    noise = colored_noise(200_000, exponent, np.random.default_rng(1))
    hz, power = scipy.signal.welch(noise, 16000, nperseg=4096)
    band = (hz > 50) & (hz < 7000)
    slope = np.polyfit(np.log(hz[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.03)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 20.0])
def test_noise_is_as_loud_as_asked(snr_db: float) -> None:
    samples = (speech(1.0, 1) + 500).astype(np.float32)  # the offset is no signal
    added = add_noise(samples, colored_noise(len(samples), 1.0, np.random.default_rng(1)), snr_db) - samples
    assert 10 * np.log10(samples.var() / added.var()) == pytest.approx(snr_db, abs=0.05)
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(add_noise(silence, np.ones(100, np.float32), snr_db), silence)


def test_noise_comes_as_often_as_asked(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ratios = []

    def note(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
        assert noise.shape == samples.shape
        assert np.isfinite(noise).all()
        ratios.append(snr_db)
        return add_noise(samples, noise, snr_db)

    monkeypatch.setattr("asrkit.training.augment.add_noise", note)
    made = augmenter(data_dir, replace(NOTHING, noise_prob=0.3, noise_snr_db=(5.0, 15.0)))
    plain = made._feats["spk1-1"]
    rng = np.random.default_rng(1)
    changed = sum(not np.array_equal(made("spk1-1", rng)[0], plain) for _ in range(300))
    assert changed == len(ratios)
    assert 60 < changed < 120
    assert 5 <= min(ratios) < 6
    assert 14 < max(ratios) <= 15


def test_babble_is_other_speech(data_dir: Path) -> None:
    made = augmenter(data_dir, replace(NOTHING, noise_prob=1.0))
    waveform, kinds = audio_of(data_dir, "spk1-0"), {}
    for seed in range(30):
        kind = int(np.random.default_rng(seed).integers(3))
        kinds.setdefault(kind, made._noise(waveform, np.random.default_rng(seed)))
    assert sorted(kinds) == [0, 1, 2]
    assert all(len(noise) == len(waveform.samples) for noise in kinds.values())
    low = {
        kind: np.abs(np.fft.rfft(noise)[1:300]).mean() / np.abs(np.fft.rfft(noise)[3000:]).mean()
        for kind, noise in kinds.items()
    }
    assert low[0] < 1.3
    assert low[1] > 2
    assert low[2] > 2
    talkers = made._noise(
        waveform, np.random.default_rng(next(s for s in range(30) if np.random.default_rng(s).integers(3) == 2))
    )
    assert talkers.std() == pytest.approx(5**0.5, rel=0.3)  # five talkers of equal power


@pytest.mark.parametrize("cmvn", ["speaker", "utterance", "global", "none", "speech_speaker"])
@pytest.mark.parametrize("rate", [8000, 16000])
def test_what_an_utterance_goes_through_by_brute_force(
    tmp_path: Path, cmvn: str, rate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the order of a recording: room, noise, level, codec; then CMVN as for a file without a speaker."""
    monkeypatch.setattr("asrkit.features.cmvn._ENOUGH", 1000)  # frames, which the utterance does not have
    soundfile.write(tmp_path / "utt.wav", speech(1.2, 1).astype(np.int16), 16000)
    data = tmp_path / "data"
    write_data_dir(data, [Utterance("utt", "spk", str(tmp_path / "utt.wav"), ("a",))], {"utt": 1.2})
    config = FeatureConfig(cmvn=cmvn, sample_rate=rate)
    extract_data_dir(data, config, num_jobs=1)
    augment = replace(
        NOTHING, reverb_prob=1.0, noise_prob=1.0, level_prob=1.0, codec_prob=1.0, noises=("hum",), codecs=("mulaw",)
    )
    made = augmenter(data, augment, cmvn=cmvn, sample_rate=rate)
    found, speed, _, _ = made("utt", np.random.default_rng(5))
    assert speed == 1.0

    rng = np.random.default_rng(5)
    rng.integers(1), rng.integers(1), rng.random(4)  # the speed, the warp, four ways
    wave = read_audio(tmp_path / "utt.wav", sample_rate=rate)
    samples = reverberate(wave.samples, room_response(rng.uniform(0.1, 0.8), rate, rng))
    snr_db = rng.uniform(10, 30)
    rng.integers(1)
    samples = add_noise(samples, NOISES["hum"](Scene(len(samples), rate, lambda rng: iter(())), rng), snr_db)
    samples = set_level(samples, rng.uniform(-40, 6))
    static = FeatureExtractor(config)(CODECS["mulaw"](Waveform(samples, rate), 0.0))
    total = pooled_stats(data, config)
    stats = total if cmvn == "global" else accumulate(static)
    if cmvn == "speech_speaker":
        stats = config.normalization.statistics(static)
        stats += total * (1000 - stats[0, -1]) / total[0, -1]
    np.testing.assert_allclose(found, full_features(static, stats, config), atol=1e-4)


def test_an_8_khz_recording_is_heard_in_training_as_in_recognition(data_dir: Path, tmp_path: Path) -> None:
    """The same features, CMVN included, as those of a file at 8 kHz that a model for 16 kHz recognizes."""
    config = FeatureConfig(cmvn="speaker")
    made = augmenter(data_dir, replace(NOTHING, codec_prob=1.0, codecs=("8khz",)), cmvn="speaker")
    feats, *_ = made("spk1-2", np.random.default_rng(1))
    at_8_khz = soxr.resample(audio_of(data_dir, "spk1-2").samples, 16000, 8000)
    soundfile.write(tmp_path / "a.wav", np.rint(at_8_khz).astype(np.int16), 8000)
    static = FeatureExtractor(config)(read_audio(tmp_path / "a.wav", sample_rate=16000))
    np.testing.assert_allclose(feats, full_features(static, accumulate(static), config), atol=1e-4)


def test_ways_that_are_off_draw_nothing(data_dir: Path) -> None:
    """So that what a seed gave before there were these settings it still gives."""
    made = augmenter(data_dir, replace(NOTHING, speeds=(0.9, 1.0, 1.1), vtlp=0.1, noise_prob=0.5))
    rng, expected = np.random.default_rng(1), np.random.default_rng(1)
    kinds = set()
    for utt_id in [*UTTS] * 5:
        speed = made(utt_id, rng)[1]
        assert speed == (0.9, 1.0, 1.1)[expected.integers(3)]
        expected.integers(9)
        if expected.random() < 0.5:
            expected.uniform(10, 30)
            num_samples = len(change_speed(audio_of(data_dir, utt_id), speed).samples)
            kinds.add(kind := int(expected.integers(3)))
            if kind == 2:
                for row in expected.integers(len(UTTS), size=5):
                    expected.integers(len(audio_of(data_dir, [*UTTS][row]).samples))
            else:
                expected.standard_normal(1 << (num_samples - 1).bit_length() if kind else num_samples, np.float32)
        assert rng.bit_generator.state == expected.bit_generator.state
    assert kinds == {0, 1, 2}


@pytest.mark.parametrize("seconds", [0.026, 0.1])
@pytest.mark.parametrize("sound", ["silence", "clipped", "click"])
def test_ways_of_very_short_silent_and_clipped_utterances(tmp_path: Path, seconds: float, sound: str) -> None:
    num_samples = round(16000 * seconds)
    samples = np.zeros(num_samples, np.int16)
    if sound == "clipped":
        samples[:] = np.where(np.arange(num_samples) % 100 < 50, 32767, -32768)
    elif sound == "click":
        samples[num_samples // 2] = 1
    soundfile.write(tmp_path / "utt.wav", samples, 16000)
    data = tmp_path / "data"
    write_data_dir(data, [Utterance("utt", "spk", str(tmp_path / "utt.wav"), ("a",))], {"utt": seconds})
    extract_data_dir(data, FeatureConfig(), num_jobs=1)
    plain = FeatureExtractor(FeatureConfig()).num_frames(num_samples)
    always = replace(WAYS, noise_prob=1.0, reverb_prob=1.0, level_prob=1.0, codec_prob=1.0)
    for ways in (*(replace(always, codecs=(name,)) for name in CODECS), replace(WAYS, codec_prob=0.0)):
        made, rng = augmenter(data, ways), np.random.default_rng(1)
        for _ in range(3):
            feats, speed, _, _ = made("utt", rng)
            assert feats.shape == (plain, 39)
            assert speed == 1.0
            assert np.isfinite(feats).all()


def masked(data_dir: Path, augment: AugmentConfig, seed: int, **settings: object) -> tuple[np.ndarray, np.ndarray]:
    """What was masked (T, dim), and the values found there and elsewhere."""
    data = open_set(data_dir, augment, **settings)
    plain = data.load(["spk2-2"]).feats[0].numpy()
    feats = data.load(["spk2-2"], np.random.default_rng(seed)).feats[0].numpy()
    fill = plain.mean(axis=0) if settings.get("cmvn") == "none" else np.zeros(plain.shape[1])
    mask = feats != plain
    np.testing.assert_allclose(feats[mask], np.broadcast_to(fill, feats.shape)[mask], atol=1e-5)
    return mask, plain


@pytest.mark.parametrize("settings", [{}, {"cmvn": "none"}, {"cmvn": "utterance"}, {"cmvn": "global"}])
def test_time_masks(data_dir: Path, settings: dict) -> None:
    lengths = []
    for seed in range(60):
        mask, plain = masked(
            data_dir, replace(NOTHING, time_masks=2, time_mask_frames=8, time_mask_share=0.1), seed, **settings
        )
        frames = mask.any(axis=1)
        assert (mask == frames[:, None]).all()
        assert frames.sum() <= 0.1 * len(plain)
        assert np.abs(np.diff(frames.astype(int), prepend=0, append=0)).sum() <= 4  # two stretches
        lengths.append(int(frames.sum()))
    assert min(lengths) <= 3
    assert max(lengths) == int(0.1 * len(plain))


def test_time_masks_without_a_cap(data_dir: Path) -> None:
    lengths = [
        int(masked(data_dir, replace(NOTHING, time_masks=1, time_mask_share=1.0), seed)[0].any(axis=1).sum())
        for seed in range(80)
    ]
    assert set(lengths) >= {0, 20}
    assert max(lengths) == 20
    assert np.mean(lengths) == pytest.approx(10, abs=2)


@pytest.mark.parametrize("settings", [{}, {"cmvn": "none"}, {"delta_order": 0}])
def test_coefficient_masks_take_the_deltas_along(data_dir: Path, settings: dict) -> None:
    groups = set()
    for seed in range(80):
        mask, _ = masked(data_dir, replace(NOTHING, coefficient_masks=1, coefficient_mask_size=4), seed, **settings)
        hit = mask.mean(axis=0) > 0.9  # a value may be equal to the fill by chance
        parts = hit.reshape(-1, 13)
        assert (parts == parts[0]).all()
        coefficients = np.flatnonzero(parts[0])
        assert len(coefficients) <= 4
        assert (np.diff(coefficients) == 1).all()
        assert not mask[:, ~hit].any()
        groups.add(tuple(coefficients))
    assert {len(group) for group in groups} == {0, 1, 2, 3, 4}
    assert {0, 12} < {coefficient for group in groups for coefficient in group}


def test_views_of_an_utterance_differ_in_their_masks_alone(data_dir: Path) -> None:
    augment = replace(ALL, time_mask_share=0.5, coefficient_masks=0)
    batch = open_set(data_dir, augment).load(["spk1-0", "spk2-2"], np.random.default_rng(3), num_views=2)
    assert batch.utt_ids == ("spk1-0", "spk1-0", "spk2-2", "spk2-2") and batch.num_views == 2
    feats, lens = batch.feats.numpy(), batch.feat_lens.tolist()
    for first in (0, 2):
        assert lens[first] == lens[first + 1]
        one, other = feats[first : first + 2, : lens[first]]
        masked = [(view == 0).all(axis=1) for view in (one, other)]
        assert (masked[0] != masked[1]).any()
        kept = ~masked[0] & ~masked[1]
        np.testing.assert_array_equal(one[kept], other[kept])
        assert batch.frame_labels[first].equal(batch.frame_labels[first + 1])
    plain = open_plain(data_dir)
    for views in plain.load(["spk1-0", "spk2-2"], np.random.default_rng(3), num_views=2).feats.split(2):
        assert views[0].equal(views[1])


def test_masks_larger_than_what_there_is(data_dir: Path) -> None:
    augment = replace(
        NOTHING, time_masks=5, time_mask_frames=1000, time_mask_share=1.0, coefficient_masks=3, coefficient_mask_size=99
    )
    for seed in range(20):
        masked(data_dir, augment, seed)


def test_masks_need_no_audio_and_no_settings(data_dir: Path, tmp_path: Path) -> None:
    for path in data_dir.iterdir():
        if path.is_file() and path.name not in ("wav.scp", "feats.json", ".feats.stamp"):
            (tmp_path / path.name).write_bytes(path.read_bytes())
    batch = open_set(tmp_path, replace(NOTHING, time_masks=1)).load(["spk1-0"], np.random.default_rng(3))
    assert batch.feats.shape == (1, 58, 39)
    for augment in (replace(NOTHING, vtlp=0.1), replace(NOTHING, speeds=(0.9,)), replace(NOTHING, noise_prob=0.1)):
        with pytest.raises(DataError, match=r"feats\.json: not found; training\.augment computes features anew"):
            open_set(tmp_path, augment)


def test_audio_that_is_gone_is_told_before_training(data_dir: Path, tmp_path: Path) -> None:
    for path in data_dir.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (data_dir / "wav.scp").read_text().split("\n")
    (tmp_path / "wav.scp").write_text("\n".join([lines[0] + ".gone", lines[1].split()[0] + " cat x |", *lines[2:]]))
    gone = r"spk1-0: .*\.gone: no such file; bring it back, or correct its path"
    with pytest.raises(DataError, match=gone + r"\n.*spk1-1 is a pipe"):
        open_set(tmp_path, replace(NOTHING, vtlp=0.1))


def test_the_channel_and_root_of_the_extraction_are_kept(tmp_path: Path) -> None:
    stereo = np.stack([speech(0.8, 1), speech(0.8, 2)], axis=1).astype(np.int16)
    soundfile.write(tmp_path / "rec.wav", stereo, 16000)
    data = tmp_path / "data"
    write_data_dir(data, [Utterance("utt", "spk", "/rec.wav", ("a",))], {"utt": 0.8})
    (data / "wav.scp").write_text("utt rec.wav\n")
    extract_data_dir(data, FeatureConfig(), num_jobs=1, access=AudioAccess(tmp_path, channel=1))
    made_with = json.loads((data / "feats.json").read_text())
    assert (made_with["channel"], made_with["audio_root"]) == (1, str(tmp_path))
    plain = open_plain(data).load(["utt"]).feats
    computed = open_plain(data, INAUDIBLE)
    assert (computed.load(["utt"], np.random.default_rng(1)).feats - plain).abs().max() < 1e-3


def test_a_band_that_cannot_be_warped(data_dir: Path, tmp_path: Path) -> None:
    for path in data_dir.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    config = FeatureConfig(low_hz=3000.0, high_hz=4200.0, num_mel_bins=13)
    extract_data_dir(tmp_path, config, num_jobs=1)
    with pytest.raises(ConfigError, match="a band of 3000 to 4200 Hz is too narrow"):
        TrainingSet.open(tmp_path, config, pooled_stats(tmp_path, config), TOKENS, replace(NOTHING, vtlp=0.2))
