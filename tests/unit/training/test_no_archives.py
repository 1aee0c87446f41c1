"""Training on features that are computed whenever they are read gives the weights of training from archives."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.features.pipeline import pooled_stats
from asrkit.formats.data_dir import load_data_dir, write_data_dir
from asrkit.formats.shards import shards_of, write_shards
from asrkit.lang.tokens import TokenTable
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.training import loop
from asrkit.training.config import AugmentConfig, TrainingConfig
from asrkit.training.dataset import TrainingSet, split_infeasible
from asrkit.training.loop import TrainingSets, train
from asrkit.training.shards import Reading, ShardedSet
from asrkit.types import PhoneTime, Utterance
from tests.backends import extractor_or_skip

CONFIG = FeatureConfig(backend="native")
TOKENS = TokenTable(["a", "b", "c"])
# One utterance of three is not changed, so that its features come from the loader.
AUGMENT = AugmentConfig(speeds=(1.0, 1.1), vtlp=0.0, noise_prob=0.3, pause_prob=0.3, cut_prob=0.3)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory and its shards split2/, with features in archives. The audio is compressed."""
    extractor_or_skip(CONFIG)
    directory = tmp_path_factory.mktemp("corpus")
    utts, durations = [], {}
    for number in range(12):
        rng, utt_id = np.random.default_rng(number), f"s{number // 3}-{number}"
        durations[utt_id] = 0.5 + 0.05 * (number * 5 % 12)
        num_samples = int(16000 * durations[utt_id])
        samples = rng.normal(0, 3000, num_samples) * np.sin(np.linspace(0.05, 9, num_samples)) ** 2
        soundfile.write(directory / f"{utt_id}.flac", samples.astype(np.int16), 16000)
        phones = tuple(rng.choice(["a", "b", "c"], 3).tolist())
        times = tuple(PhoneTime(phone, 0.1 * i, 0.1 * i + 0.1) for i, phone in enumerate(phones))
        path = str(directory / f"{utt_id}.flac")
        utts.append(Utterance(utt_id, utt_id.partition("-")[0], path, phones, phone_times=times))
    write_data_dir(directory / "stored", utts, durations)
    write_shards(load_data_dir(directory / "stored"), directory / "stored/split2", 2)
    for data_dir in (directory / "stored", *(directory / "stored").glob("split2/*")):
        extract_data_dir(data_dir, CONFIG, num_jobs=1)
    return directory / "stored"


@pytest.fixture(scope="module")
def computed(stored: Path) -> Path:
    """The same without archives."""
    data_dir = stored.with_name("computed")
    shutil.copytree(stored, data_dir, ignore=shutil.ignore_patterns(".index*", ".audio*"))
    for each in (data_dir, *data_dir.glob("split2/*")):
        assert extract_data_dir(each, CONFIG, num_jobs=1, archives=False)
    assert not list(data_dir.rglob("feats.scp")) and not list(data_dir.rglob("feats.*.ark"))
    return data_dir


class Killed(Exception):
    pass


def weights_of(data_dir: Path, directory: Path, sharded: bool, monkeypatch: pytest.MonkeyPatch, at: int = 0) -> bytes:
    """The weights after two epochs; with `at`, of a training that is killed in that update and resumed."""
    torch.manual_seed(0)
    training = TrainingConfig(num_epochs=2, batch_size=3, checkpoint_minutes=1e-9, augment=AUGMENT)
    model = AcousticModel(ModelConfig(num_layers=1, hidden_size=4, self_conditioning=False), CONFIG.dim, len(TOKENS))
    stats = pooled_stats(data_dir, CONFIG)
    data: ShardedSet | TrainingSet
    if sharded:
        data = ShardedSet([(shards_of(data_dir / "split2"), 1.0)], Reading(CONFIG, TOKENS, AUGMENT), 6)
        data.split_infeasible(model)
    else:
        data, _ = split_infeasible(TrainingSet.open(data_dir, CONFIG, stats, TOKENS, AUGMENT), model)
    sets = TrainingSets(data, TrainingSet.open(data_dir, CONFIG, stats, TOKENS), TOKENS)
    num_updates, original = 0, loop.clip_gradients

    def step(*args: object, **options: object) -> object:
        nonlocal num_updates
        num_updates += 1
        if num_updates == at:
            raise Killed
        return original(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "clip_gradients", step)
        if at:
            with pytest.raises(Killed):
                train(model, training, sets, directory, "run")
            num_updates = at
        train(model, training, sets, directory, "run")
    assert num_updates >= 8
    return b"".join(value.numpy().tobytes() for value in model.state_dict().values())


@pytest.mark.parametrize("sharded", [False, True])
def test_the_same_weights(
    stored: Path, computed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharded: bool
) -> None:
    expected = weights_of(stored, tmp_path / "stored", sharded, monkeypatch)
    assert weights_of(computed, tmp_path / "computed", sharded, monkeypatch) == expected
    assert weights_of(computed, tmp_path / "killed", sharded, monkeypatch, at=6) == expected


def test_decoded_audio_is_stored_only_beside_stored_features(stored: Path, computed: Path) -> None:
    for data_dir, is_stored in ((stored, True), (computed, False)):
        TrainingSet.open(data_dir, CONFIG, np.ones((2, 14)), TOKENS, AUGMENT)
        assert (data_dir / ".audio.ark").exists() == is_stored
