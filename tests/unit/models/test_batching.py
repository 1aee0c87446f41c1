import numpy as np
import pytest

from asrkit.models.batching import bucket, collate

LENS = {f"utt{i}": n for i, n in enumerate([30, 10, 50, 20, 40, 60, 5])}


def test_buckets_go_from_short_to_long_and_hold_every_utterance_once():
    batches = bucket(LENS, 3)
    assert [[LENS[utt_id] for utt_id in batch] for batch in batches] == [[5, 10, 20], [30, 40, 50], [60]]


def test_shuffled_buckets_depend_on_the_seed_alone():
    first, again, other = (bucket(LENS, 2, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert list(first) == list(again)
    assert list(first) != list(other)
    assert sorted(utt_id for batch in first for utt_id in batch) == sorted(LENS)


def test_collate_pads_with_zeros_and_keeps_lengths():
    feats = {"a": np.ones((2, 3), np.float32), "b": np.full((4, 3), 2, np.float32)}
    batch = collate(["b", "a"], feats, {"a": [7], "b": [5, 6]})
    assert batch.utt_ids == ("b", "a")
    assert batch.feats.shape == (2, 4, 3)
    assert batch.feats[1].tolist() == [[1] * 3] * 2 + [[0] * 3] * 2
    assert batch.feat_lens.tolist() == [4, 2]
    assert batch.tokens.tolist() == [[5, 6], [7, 0]]
    assert batch.token_lens.tolist() == [2, 1]


def test_features_are_loaded_for_the_batch_alone():
    loaded = []

    class Lazy(dict):
        def __getitem__(self, utt_id):
            loaded.append(utt_id)
            return np.zeros((LENS[utt_id], 2), np.float32)

    collate(bucket(LENS, 3)[0], Lazy())
    assert loaded == ["utt6", "utt1", "utt3"]


@pytest.mark.parametrize("num_utts", [0, 1])
def test_small_sets(num_utts):
    assert len(bucket(dict(list(LENS.items())[:num_utts]), 3)) == num_utts
