"""Sharded data: each utterance once in an epoch, mixed within bounded windows, from an index that equals the tables."""

import itertools
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from asrkit.errors import DataError
from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import pooled_stats
from asrkit.formats.data_dir import load_data_dir, write_data_dir
from asrkit.formats.shards import shards_of, write_shards
from asrkit.io.ark import ArkWriter
from asrkit.io.scp import read_table, write_table
from asrkit.lang.tokens import TokenTable
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.training import index as indexes
from asrkit.training import loop
from asrkit.training.config import AugmentConfig, TrainingConfig
from asrkit.training.dataset import TrainingSet, split_infeasible
from asrkit.training.loop import TrainingSets, train
from asrkit.training.shards import Reading, ShardedSet, _Shard
from asrkit.types import PhoneTime, Utterance

TOKENS = TokenTable(["a", "b", "c"])
CONFIG = FeatureConfig(cmvn="speaker")
STILL = AugmentConfig(speeds=(), vtlp=0.0, time_masks=0)
NUM_SPKS, NUM_UTTS = 6, 7


def make_utts(num_spks: int = NUM_SPKS, num_utts: int = NUM_UTTS) -> list[Utterance]:
    rng = np.random.default_rng(5)
    utts = []
    for spk, number in itertools.product(range(num_spks), range(num_utts)):
        phones = tuple(rng.choice(["a", "b", "c"], rng.integers(1, 5)).tolist())
        times = tuple(PhoneTime(phone, 0.05 * i, 0.05 * i + 0.04) for i, phone in enumerate(phones))
        utts.append(Utterance(f"s{spk}-{number}", f"s{spk}", f"/{spk}{number}.wav", phones, phone_times=times))
    return utts


def add_features(data_dir: Path) -> None:
    """Features that depend on the utterance alone, and statistics on the speaker."""
    speakers = read_table(data_dir / "utt2spk")
    with ArkWriter(data_dir / "feats.ark", data_dir / "feats.scp") as writer:
        for utt_id in speakers:
            rng = np.random.default_rng([*utt_id.encode()])
            writer.write(utt_id, rng.standard_normal((int(rng.integers(5, 40)), 13)).astype(np.float32))
    with ArkWriter(data_dir / "cmvn.ark", data_dir / "cmvn.scp") as writer:
        for spk in sorted(set(speakers.values())):
            mean = np.random.default_rng([*spk.encode()]).standard_normal(13)
            writer.write(spk, np.array([[*(9 * mean), 9.0], [*(9 * (mean**2 + 1)), 0.0]]))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory in one piece, with its shards split3/ and split6/."""
    data_dir = tmp_path_factory.mktemp("data") / "train"
    utts = make_utts()
    write_data_dir(data_dir, utts, {utt.utt_id: 1.0 for utt in utts})
    for number in (3, 6):
        for shard in write_shards(load_data_dir(data_dir), data_dir / f"split{number}", number):
            add_features(shard)
    add_features(data_dir)
    return data_dir


def open_shards(shards: list[Path], window: int = 10, augment: AugmentConfig = STILL, frames: bool = False):
    return ShardedSet([(shards, 1.0)], Reading(CONFIG, TOKENS, augment, frames), window)


def epoch_of(data, batch_size: int, seed: tuple[int, ...], num_done: int = 0) -> list[tuple[str, ...]]:
    """The batches of an epoch, by utterance ids."""
    batches = []
    for window in data.windows(batch_size, seed, num_done):
        batches += [tuple(batch) for batch in window.plan][max(num_done - window.num_before, 0) :]
    return batches


def test_an_index_has_what_the_tables_have(plain: Path) -> None:
    whole = TrainingSet.open(plain, CONFIG, None, TOKENS, None, True)
    sharded = open_shards(shards_of(plain / "split3"), window=1000, frames=True)
    np.testing.assert_allclose(sharded.global_cmvn, pooled_stats(plain, CONFIG), rtol=1e-12)
    assert len(sharded) == len(whole) == NUM_SPKS * NUM_UTTS
    (window,) = sharded.windows(5, (1, 1))
    assert dict(window.data.num_frames) == dict(whole.num_frames)
    assert dict(window.data.tokens) == dict(whole.tokens)
    for batch in window.plan:
        found, expected = window.data.load(batch), whole.load(batch)
        for name in ("feats", "feat_lens", "tokens", "token_lens", "frame_labels"):
            assert getattr(found, name).equal(getattr(expected, name)), name


class Never:
    """In place of a function that reads tables: it must not be called."""

    def __init__(self, *args: object) -> None:
        raise AssertionError("a table was read")


def test_an_index_is_made_once_and_again_when_a_table_changes(plain: Path, monkeypatch) -> None:
    shards = shards_of(plain / "split6")
    assert len(open_shards(shards)) == 42
    with monkeypatch.context() as patch:
        patch.setattr(indexes, "_columns", Never)
        assert len(open_shards(shards)) == 42
        with pytest.raises(AssertionError):
            ShardedSet([(shards, 1.0)], Reading(CONFIG, TokenTable(["c", "b", "a"]), STILL), 10)
    text = shards[2] / "text"
    before = read_table(text)
    write_table(text, dict.fromkeys(before, "b a b"))
    (window,) = open_shards(shards, window=1000).windows(5, (1, 1))
    changed = {utt_id: tokens for utt_id, tokens in window.data.tokens.items() if utt_id in before}
    assert set(map(tuple, changed.values())) == {(2, 1, 2)}
    (shards[2] / indexes.INDEX).write_bytes(b"damaged")
    assert len(open_shards(shards)) == 42
    write_table(text, dict.fromkeys(before, "x"))
    with pytest.raises(DataError, match=r"text: s2-0: phones not in the token table: x"):
        open_shards(shards)
    write_table(text, before)


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=8),
    window=st.integers(1, 60),
    batch_size=st.integers(1, 9),
    seed=st.integers(0, 1000),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_each_utterance_once_in_bounded_windows(sizes, window, batch_size, seed, data) -> None:
    """On sets whose shards are made up: what the sampler does depends on their sizes alone."""
    left_out = [
        np.array(sorted(data.draw(st.sets(st.integers(0, size - 1), max_size=size - 1))), np.int64) for size in sizes
    ]
    sharded = made_up(sizes, left_out, window)
    wanted = {
        f"{shard}-{row:02d}"
        for shard, size in enumerate(sizes)
        for row in range(size)
        if row not in left_out[shard].tolist()
    }
    assert len(sharded) == len(wanted)
    batches, opened = [], []
    for each in sharded.windows(batch_size, (seed, 1)):
        assert each.num_before == len(batches)
        assert 1 <= len(each.data) <= max(window // batch_size, 1) * batch_size
        assert sorted(itertools.chain(*each.plan)) == sorted(each.data.num_frames)
        batches += [tuple(batch) for batch in each.plan]
        opened.append(len(sharded._open))
    assert sorted(itertools.chain(*batches)) == sorted(wanted)
    assert len(batches) == -(-len(wanted) // batch_size)
    assert [len(batch) for batch in batches if len(batch) < batch_size] in ([], [len(wanted) % batch_size])
    assert max(opened) <= -(-window // min(map(len, sharded.shards))) + batch_size + 1
    done = data.draw(st.integers(0, len(batches) - 1))
    assert epoch_of(made_up(sizes, left_out, window), batch_size, (seed, 1), done) == batches[done:]


def made_up(sizes, left_out, window, weights=None) -> ShardedSet:
    """A sharded set of which only the numbers of frames are known."""
    sharded = ShardedSet.__new__(ShardedSet)
    sharded.window, sharded._open, sharded._min_frames = window, {}, None
    sharded.weights = weights or [(len(sizes), 1.0)]
    sharded.shards = tuple(
        _Shard(Path(str(number)), size, rows) for number, (size, rows) in enumerate(zip(sizes, left_out, strict=True))
    )

    def open_shard(number):
        frames = {f"{number}-{row:02d}": 10 + 3 * row for row in range(sizes[number])}
        return TrainingSet({}, frames, {})

    sharded._open_shard = open_shard
    return sharded


@given(
    corpora=st.lists(
        st.tuples(st.lists(st.integers(1, 20), min_size=1, max_size=3), st.floats(0.05, 3.5)), min_size=1, max_size=3
    ),
    window=st.integers(1, 60),
)
@settings(max_examples=30, deadline=None)
def test_weights_say_how_often_an_utterance_comes(corpora, window) -> None:
    """In each epoch as often as the weight says, to the next whole number; the corpus to rounding."""
    sizes = [size for each, _ in corpora for size in each]
    weights = [(len(each), weight) for each, weight in corpora]
    if not any(round(weight * sum(each)) for each, weight in corpora):
        return
    sharded = made_up(sizes, [np.empty(0, np.int64)] * len(sizes), window, weights)
    for epoch in (1, 2):
        batches = epoch_of(sharded, 3, (1, epoch))
        assert len(batches) == -(-len(sharded) // 3)
        counts = Counter(itertools.chain(*batches))
        shard = 0
        for each, weight in corpora:
            utts = [f"{shard + i}-{row:02d}" for i, size in enumerate(each) for row in range(size)]
            assert {counts[utt_id] for utt_id in utts} <= {int(weight), int(weight) + 1}
            assert abs(sum(counts[utt_id] for utt_id in utts) - weight * len(utts)) <= 0.5 + 1e-9
            shard += len(each)


def test_a_share_of_a_corpus_is_drawn_anew_in_each_epoch() -> None:
    epochs, counts = 400, Counter()
    sharded = made_up([10, 15, 20], [np.empty(0, np.int64)] * 3, 20, [(2, 0.4), (1, 1.0)])
    for epoch in range(1, epochs + 1):
        counts.update(itertools.chain(*epoch_of(sharded, 4, (3, epoch))))
    found = np.array([counts[f"{shard}-{row:02d}"] for shard, size in enumerate([10, 15]) for row in range(size)])
    assert np.abs(found - 0.4 * epochs).max() < 5 * np.sqrt(epochs * 0.4 * 0.6)
    assert {counts[f"2-{row:02d}"] for row in range(20)} == {epochs}


def test_epochs_differ_and_are_mixed(plain: Path) -> None:
    sharded = open_shards(shards_of(plain / "split6"), window=14)
    first, second = (list(itertools.chain(*epoch_of(sharded, 2, (1, epoch)))) for epoch in (1, 2))
    assert first != second and sorted(first) == sorted(second)
    assert epoch_of(sharded, 2, (1, 1)) == epoch_of(open_shards(shards_of(plain / "split6"), window=14), 2, (1, 1))
    begins = [first.index(f"s{spk}-0") for spk in range(NUM_SPKS)]
    assert begins != sorted(begins)  # of shards in order


def test_all_places_are_equally_likely() -> None:
    """Over many epochs each utterance is about equally often in each batch of an epoch."""
    epochs, places = 600, np.zeros((40, 10))
    sharded = made_up([10] * 4, [np.empty(0, np.int64)] * 4, 20)
    for epoch in range(1, epochs + 1):
        for place, batch in enumerate(epoch_of(sharded, 4, (3, epoch))):
            for utt_id in batch:
                shard, row = map(int, utt_id.split("-"))
                places[10 * shard + row, place] += 1
    assert np.abs(places - epochs / 10).max() < 5 * np.sqrt(epochs * 0.1 * 0.9)


class Thirds:
    """A model that takes three frames a step."""

    def num_steps(self, num_frames: int) -> int:
        return (num_frames + 2) // 3


def test_what_ctc_cannot_align_is_left_out_as_without_shards(plain: Path) -> None:
    whole, excluded = split_infeasible(TrainingSet.open(plain, CONFIG, None, TOKENS), Thirds())
    sharded = open_shards(shards_of(plain / "split6"), window=1000)
    assert sharded.split_infeasible(Thirds()) == excluded and 0 < len(excluded) < 42
    (window,) = sharded.windows(4, (1, 1))
    assert dict(window.data.num_frames) == dict(whole.num_frames)
    assert window.data.min_frames.tolist() == whole.min_frames.tolist()


def test_an_utterance_in_two_shards_is_an_error(tmp_path: Path) -> None:
    utts = make_utts(4, 2)
    for number, part in enumerate((utts[::2], utts[1::2]), 1):  # their ids alternate
        write_data_dir(tmp_path / "a" / str(number), part, {utt.utt_id: 1.0 for utt in part})
        add_features(tmp_path / "a" / str(number))
    assert len(open_shards(shards_of(tmp_path / "a"))) == 8
    write_data_dir(tmp_path / "a/2", utts[3:5], {utt.utt_id: 1.0 for utt in utts})
    add_features(tmp_path / "a/2")
    with pytest.raises(DataError, match=r"^\S*a/2/text: s2-0 is also in \S*a/1; remove it from one of them$"):
        open_shards(shards_of(tmp_path / "a"))


def test_an_utterance_that_comes_twice_in_a_batch_is_drawn_twice(plain: Path) -> None:
    sharded = ShardedSet(
        [(shards_of(plain / "split6"), 2.0)], Reading(CONFIG, TOKENS, replace(STILL, pause_prob=1.0)), 1000
    )
    (window,) = sharded.windows(84, (1, 1))
    (batch,) = window.plan
    loaded = window.data.load(batch, np.random.default_rng(1))
    assert loaded.utt_ids == tuple(batch) and len(set(batch)) == 42
    lengths = dict(zip(batch, loaded.feat_lens.tolist(), strict=True))  # of the later ones
    assert sum(lengths[utt_id] != length for utt_id, length in zip(batch, loaded.feat_lens.tolist(), strict=True)) > 20


@pytest.mark.parametrize("split", ["split3", "split6"])
def test_a_killed_run_goes_on_to_the_same_weights(plain: Path, tmp_path: Path, monkeypatch, split: str) -> None:
    config = TrainingConfig(num_epochs=2, batch_size=4, max_lr=0.02, warmup=0.12, augment=STILL)
    config = replace(config, checkpoint_minutes=1e-9)
    dev = TrainingSet.open(plain, CONFIG, None, TOKENS)
    updates = 0

    def run(directory: Path, last: int | None = None):
        nonlocal updates
        torch.manual_seed(1)
        model = AcousticModel(
            ModelConfig(num_layers=1, hidden_size=8, self_conditioning=False), CONFIG.dim, len(TOKENS)
        )
        sharded = open_shards(shards_of(plain / split), window=12)
        sharded.split_infeasible(model)
        updates = 0

        def step(*args, **kwargs):
            nonlocal updates
            updates += 1
            if updates == last:
                raise KeyboardInterrupt
            return original(*args, **kwargs)

        monkeypatch.setattr(loop, "clip_gradients", step)
        train(model, config, TrainingSets(sharded, dev, TOKENS), directory, "run")
        return model.state_dict()

    original = loop.clip_gradients
    weights = run(tmp_path / "whole")
    assert updates > 12
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", 6)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", 3)
    resumed = run(tmp_path / "killed")
    assert all(weights[name].equal(resumed[name]) for name in weights)
