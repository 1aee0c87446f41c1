"""Gradients by threads: those of one thread, and the same bits every time."""

import pytest
import torch

from asrkit.models.acoustic import AcousticModel
from asrkit.models.batching import Batch
from asrkit.models.config import ModelConfig
from asrkit.models.decoder import NO_DECODER, DecoderTraining
from asrkit.models.decoder_config import DecoderConfig
from asrkit.training.parallel_step import compute_gradients_of_parts, count, split_batch
from asrkit.training.step import compute_gradients

NUM_TOKENS = 5


def make_batch(lens, num_views=1):
    torch.manual_seed(len(lens))
    num_frames = max(lens)
    valid = torch.arange(num_frames) < torch.tensor(lens)[:, None]
    return Batch(
        tuple(f"u{i}" for i in range(len(lens))),
        torch.randn(len(lens), num_frames, 4) * valid[:, :, None],
        torch.tensor(lens),
        torch.randint(1, NUM_TOKENS, (len(lens), 3)),
        torch.tensor([1 + i % 3 for i in range(len(lens))]),
        torch.where(valid, torch.randint(-1, NUM_TOKENS, (len(lens), num_frames)).clamp(min=-1), -1),
        num_views,
    )


def make_model(**settings):
    torch.manual_seed(0)
    config = {
        "num_layers": 2,
        "hidden_size": 6,
        "dropout": 0.0,
        "skip": 2,
        "stack": 2,
        "decoder": DecoderConfig(dropout=0.0),
    }
    return AcousticModel(ModelConfig(**config | settings), 4, NUM_TOKENS)


def gradients(model):
    return {name: None if weight.grad is None else weight.grad.clone() for name, weight in model.named_parameters()}


def compute_gradients_in_threads(model, batch, offsets, frame_weight, num_threads, decoder=NO_DECODER):
    whole, parts = count(model, (batch, offsets), frame_weight), split_batch(batch, offsets, num_threads)
    return compute_gradients_of_parts(model, parts, whole, frame_weight, num_threads, decoder)


HEADS = [
    ("ctc", 0.0, 0.0),
    ("frames", 1.0, 0.0),
    ("both", 0.3, 0.0),
    ("both", 1.0, 0.0),
    ("attention", 0.0, 1.0),
    ("joint", 0.0, 0.7),
    ("joint_transducer", 0.0, 0.7),
]


@pytest.mark.parametrize(("head", "frame_weight", "decoder_weight"), HEADS)
@pytest.mark.parametrize(
    "layers", [{"cell": "lstm"}, {"cell": "gru"}, {"encoder": "conformer", "num_heads": 2}], ids=lambda each: str(each)
)
def test_losses_and_gradients_are_those_of_one_thread(layers, head, frame_weight, decoder_weight):
    decoder = DecoderTraining(decoder_weight, label_smoothing=0.1)
    model, batch = make_model(**layers, head=head), make_batch([21, 12, 30, 9, 14])
    offsets = torch.tensor([0, 1, 1, 0, 1])
    alone = compute_gradients(model, batch, offsets, frame_weight, False, decoder)
    expected = gradients(model)
    together = compute_gradients_in_threads(model, batch, offsets, frame_weight, 2, decoder)
    assert together.as_numbers() == together
    for name, value in vars(alone).items():
        assert getattr(together, name) == pytest.approx(value, rel=1e-5), name
    for name, found in gradients(model).items():
        assert (found is None) == (expected[name] is None), name
        if found is not None:
            torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-6)


def test_views_of_an_utterance_are_in_one_thread():
    model, batch = make_model(self_conditioning=True), make_batch([9, 9, 21, 21, 12, 12, 30, 30, 9, 9], num_views=2)
    alone = compute_gradients(model, batch, None, 0.0)
    expected = gradients(model)
    together = compute_gradients_in_threads(model, batch, None, 0.0, 2)
    assert together.ctc == pytest.approx(alone.ctc, rel=1e-5)
    for name, found in gradients(model).items():
        torch.testing.assert_close(found, expected[name], rtol=1e-4, atol=1e-6)


def test_dropout_follows_from_the_seed_and_the_threads_have_masks_of_their_own():
    model, batch = make_model(dropout=0.5), make_batch([16, 16, 16])
    runs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        compute_gradients_in_threads(model, batch, None, 0.0, 3)
        runs.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])

    same = torch.zeros(2, dtype=torch.int64)
    twice = Batch(("a", "b"), *(tensor[same] for tensor in (batch.feats, batch.feat_lens)), batch.tokens[same],
                  batch.token_lens[same])  # fmt: skip
    single = split_batch(twice, None, 2)[0][0]
    compute_gradients_in_threads(model, twice, None, 0.0, 2)
    both = model.output.weight.grad.clone()
    compute_gradients_in_threads(model, single, None, 0.0, 1)
    assert not torch.allclose(both, model.output.weight.grad)


def test_parts_hold_every_utterance_once_with_its_own_values():
    batch = make_batch([5, 9, 2, 7, 9])
    offsets = torch.arange(5)
    shards = split_batch(batch, offsets, 2)
    assert [sorted(shard.feat_lens.tolist()) for shard, _ in shards] == [[2, 7, 9], [5, 9]]
    for shard, delays in shards:
        assert shard.feats.shape[1] == shard.frame_labels.shape[1] == 9
        for row, utt_id in enumerate(shard.utt_ids):
            source = batch.utt_ids.index(utt_id)
            assert delays[row] == source
            for name in ("feats", "feat_lens", "tokens", "token_lens", "frame_labels"):
                assert torch.equal(getattr(shard, name)[row], getattr(batch, name)[source]), name
    assert len(split_batch(batch, None, 9)) == 5
    assert all(delays is None for _, delays in split_batch(batch, None, 9))


def test_an_error_in_a_thread_is_raised():
    batch = make_batch([5, 9])
    with pytest.raises((RuntimeError, ValueError)):  # which of them is the kernel's affair
        compute_gradients_in_threads(make_model(), Batch(batch.utt_ids, batch.feats[:, :, :3], *(
            getattr(batch, name) for name in ("feat_lens", "tokens", "token_lens"))), None, 0.0, 2)  # fmt: skip
