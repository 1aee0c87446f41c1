"""The acoustic model: independence of padding and batch, heads, labels of steps, initial weights."""

import math

import numpy as np
import pytest
import torch

from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.greedy import greedy_search
from asrkit.errors import ConfigError
from asrkit.features.config import FeatureConfig
from asrkit.inference.frame_clock import frame_clock
from asrkit.models.acoustic import AcousticModel
from asrkit.models.batching import Batch
from asrkit.models.config import ModelConfig
from asrkit.models.decoder import DecoderTraining
from asrkit.models.decoder_config import DecoderConfig
from asrkit.models.stacking import stack_frames
from asrkit.training.step import batch_losses
from tests.searches import prefix_beam_search

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

CELLS = [
    {"cell": "lstm"},
    {"cell": "lstm", "projection_size": 3},
    {"cell": "peephole_lstm"},
    {"cell": "gru"},
    {"cell": "elman"},
    {"cell": "elman", "nonlinearity": "relu"},
    {"cell": "jordan"},
    {"cell": "jordan", "nonlinearity": "relu"},
]
FRONTENDS = [
    {"stack": 1, "skip": 1},
    {"stack": 5, "skip": 2},
    {"frontend": "conv2d", "conv_channels": 4},
    {"frontend": "conv2d", "conv_channels": 4, "stack": 1, "skip": 1},
    {"frontend": "tdnn", "tdnn_size": 8},
    {"frontend": "tdnn", "tdnn_size": 8, "stack": 1, "skip": 1},
]


def naming(settings):
    return " ".join(str(value) for value in settings.values())


def random_feats(*lens, dim=6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, dim, generator=generator) for length in lens]


def pad(feats, extra=0, value=0.0):
    longest = max(len(matrix) for matrix in feats) + extra
    batch = torch.full((len(feats), longest, feats[0].shape[1]), value, dtype=feats[0].dtype)
    for row, matrix in zip(batch, feats, strict=True):
        row[: len(matrix)] = matrix
    return batch, torch.tensor([len(matrix) for matrix in feats])


def make_model(bidirectional=True, **settings):
    torch.manual_seed(3)
    sizes = {"num_layers": 2, "hidden_size": 6, "stack": 3, "skip": 3, "self_conditioning": False}
    config = ModelConfig(bidirectional=bidirectional, **{**sizes, **settings})
    return AcousticModel(config, feat_dim=6, num_tokens=4, feat_channels=3).eval()


def run_and_derive(model, batches):
    """Of every utterance its log-probs and the gradient of its features, and the gradients of all weights.

    The function that is derived weighs each valid value of each head differently, whatever the batch.
    """
    model.zero_grad()
    found = []
    for feats, lens in batches:
        feats = feats.clone().requires_grad_()
        log_prob_lens, *heads = model.outputs(feats, lens)[:3]
        valid = [head[row, :length] for row, length in enumerate(log_prob_lens) for head in heads]
        sum((values**3).sum() for values in valid).backward()
        found += [values.detach() for values in valid]
        for gradient, length in zip(feats.grad, lens, strict=True):
            assert not gradient[length:].any(), "padding has a gradient"
            found.append(gradient[:length])
    return found, [weights.grad.clone() for weights in model.parameters()]


RECURRENT = [{**cell, "residual": True} for cell in CELLS] + FRONTENDS + [{"self_conditioning": True}]
ATTENTION = [
    {"encoder": "conformer", "num_heads": 2, "conv_kernel": 3},
    {"encoder": "transformer", "num_heads": 3},
    {"encoder": "transformer", "num_heads": 2, "attention_reach": 1, "self_conditioning": True},
    {"encoder": "conformer", "num_heads": 2, "stack": 1, "skip": 1, "attention_reach": 4, "conv_kernel": 15},
    {"encoder": "conformer", "num_heads": 2, "frontend": "conv2d", "conv_channels": 4, "self_conditioning": True},
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("settings", "bidirectional"),
    [(each, way) for each in RECURRENT for way in (False, True)] + [(each, True) for each in ATTENTION],
    ids=lambda value: naming(value) if isinstance(value, dict) else str(value),
)
def test_padding_and_batch_change_no_log_prob_and_no_gradient(settings, bidirectional, dtype):
    """Alone, in one batch, and in a batch whose long padding is not even numbers."""
    model = make_model(bidirectional, head="both", **settings).to(dtype)
    feats = [matrix.to(dtype) for matrix in random_feats(13, 4, 7, 1, 12)]
    found, gradients = run_and_derive(model, [pad([matrix]) for matrix in feats])
    # The order of `found` is utterance by utterance for single ones, all log-probs first for a batch.
    found = [found[3 * k + i] for k in range(len(feats)) for i in (0, 1)] + found[2::3]
    close = {"atol": 2e-4, "rtol": 1e-3} if dtype == torch.float32 else {"atol": 1e-12, "rtol": 1e-10}
    for batch in (pad(feats), pad(feats, extra=20, value=math.nan)):
        together, other_gradients = run_and_derive(model, [batch])
        for one, other in zip([*found, *gradients], [*together, *other_gradients], strict=True):
            torch.testing.assert_close(one, other, **close)


DECODED = [{}, {"bidirectional": False}, ATTENTION[0], {"frontend": "conv2d", "conv_channels": 4}]
DECODED += [
    {"encoder": "pyramid", "skip": 1},
    {"encoder": "pyramid", "cell": "gru", "num_layers": 3, "pyramid_join": 3},
]


TRANSFORMER = DecoderConfig(layers="transformer", num_layers=2, hidden_size=8, num_heads=2, feed_forward_size=12)


@pytest.mark.parametrize(
    ("settings", "head"),
    [(each, head) for each in DECODED for head in ("attention", "joint", "transducer")]
    + [({"encoder": "transformer", "num_heads": 3, "decoder": TRANSFORMER}, "joint")],
    ids=lambda value: naming(value) if isinstance(value, dict) else value,
)
def test_a_decoders_loss_does_not_depend_on_the_batch(settings, head):
    """Over any encoder, in float64 to 1e-10, whatever padding holds; and so do its gradients."""
    model = make_model(head=head, **settings).double()
    feats = [matrix.double() for matrix in random_feats(13, 8, 16)]
    tokens, token_lens = torch.tensor([[1, 2, 3], [3, 0, 0], [2, 2, 0]]), torch.tensor([3, 1, 2])

    def losses(rows, extra=0, value=0.0):
        model.zero_grad()
        batch, lens = pad([feats[row] for row in rows], extra, value)
        labels = Batch(tuple(map(str, rows)), batch, lens, tokens[rows], token_lens[rows])
        loss = batch_losses(model, labels, None, 0.0, DecoderTraining(1.0, 0.1))
        loss.decoder.backward()
        found = [weights.grad for weights in model.parameters() if weights.grad is not None]  # CTC's output has none
        return loss.as_numbers(), [gradient.clone() for gradient in found]

    alone = [losses([row]) for row in range(3)]
    for extra, value in ((0, 0.0), (9, math.nan)):
        together, gradients = losses([0, 1, 2], extra, value)
        assert together.decoder == pytest.approx(sum(loss.decoder for loss, _ in alone), abs=1e-10)
        for found, *parts in zip(gradients, *(grads for _, grads in alone), strict=True):
            torch.testing.assert_close(found, sum(parts), rtol=0, atol=1e-10)


def test_a_pyramid_joins_the_outputs_of_each_layer():
    """Its steps are those of layers that were made by hand, and of the number that it says."""
    model = make_model(head="attention", encoder="pyramid", num_layers=3, stack=1, skip=1)
    feats, lens = pad(random_feats(13, 6))
    output = model.outputs(feats, lens)
    assert output.log_prob_lens.tolist() == [4, 2] == [model.num_steps(int(length)) for length in lens]
    assert model.num_steps(8) == 2 and model.num_steps(9) == 3
    for row, length in enumerate(lens.tolist()):
        steps = feats[row : row + 1, :length]
        for number, layer in enumerate(model.stack.layers):
            if number:
                steps = torch.cat([steps, steps[:, -1:]], dim=1) if steps.shape[1] % 2 else steps
                steps = steps.reshape(1, -1, 2 * steps.shape[2])
            (steps,) = layer(steps, torch.tensor([steps.shape[1]]))
        torch.testing.assert_close(output.steps[row, : steps.shape[1]], steps[0])
    clock = frame_clock(FeatureConfig(), model.config)
    assert (clock.skip, clock.middle) == (4, 1.5)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"head": "ctc"}, r"model.encoder pyramid is for heads with a decoder \(attention, .*\), found head ctc"),
        ({"head": "joint", "self_conditioning": True}, "self_conditioning needs layers of as many steps"),
        ({"head": "joint", "pyramid_join": 0}, "pyramid_join must be at least 1"),
    ],
)
def test_what_a_pyramid_cannot_have_is_told(settings, fault):
    with pytest.raises(ConfigError, match=fault):
        ModelConfig(encoder="pyramid", **settings)


def test_log_probs_are_normalised():
    batch, lens = pad(random_feats(10, 8))
    log_probs, log_prob_lens = make_model()(batch, lens)
    assert log_prob_lens.tolist() == [4, 3]
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(2, 4))


def test_a_label_of_a_step_is_that_of_its_middle_frame():
    """Frames that hold their own number: a step's label is the frame that stands in the middle of what it joins."""
    for stack, skip, offsets in [(3, 3, None), (3, 2, None), (1, 1, None), (5, 4, [0, 3, 2]), (3, 3, [2, 1, 0])]:
        model = make_model(stack=stack, skip=skip)
        lens = torch.tensor([11, 4, 1])
        labels = torch.arange(11).repeat(3, 1)
        offsets = None if offsets is None else torch.tensor(offsets)
        stacked, step_lens = stack_frames(labels[:, :, None].float(), lens, stack, skip, offsets)
        steps = model.frame_labels_to_steps(labels, lens, offsets)
        assert steps.shape == stacked.shape[:2]
        for row, joined, length in zip(steps, stacked, step_lens, strict=True):
            assert row[:length].tolist() == joined[:length, stack // 2].tolist()
            assert (row[length:] == -1).all()


def test_unlabelled_frames_stay_so():
    labels = torch.tensor([[1, -1, -1, 2, 2, 2]])
    model = make_model(stack=1, skip=1)
    assert model.frame_labels_to_steps(labels, torch.tensor([6])).tolist() == labels.tolist()


@pytest.mark.parametrize("head", ["ctc", "frames", "both"])
def test_heads(head):
    """Each head is normalised over its own classes; decoding takes CTC's, or the frames' without a blank."""
    model = make_model(head=head)
    batch, lens = pad(random_feats(10, 8))
    found_lens, ctc, frames = model.outputs(batch, lens)[:3]
    log_probs, log_prob_lens = model(batch, lens)
    assert found_lens.tolist() == log_prob_lens.tolist() == [4, 3]
    assert (ctc is None, frames is None) == (head == "frames", head == "ctc")
    if ctc is not None:
        assert torch.equal(log_probs, ctc)
        torch.testing.assert_close(ctc.exp().sum(2), torch.ones(2, 4))
    if frames is not None:
        assert frames.shape == (2, 4, 3)
        torch.testing.assert_close(frames.exp().sum(2), torch.ones(2, 4))
    if ctc is None:
        assert torch.equal(log_probs[:, :, 1:], frames)
        assert (log_probs[:, :, 0] == -torch.inf).all()


def test_self_conditioning_tells_a_layer_what_ctc_finds_below_it():
    model = make_model(self_conditioning=True, dropout=0.0).double()
    first, second = model.stack.layers
    seen = {}
    first.register_forward_hook(lambda _, given, found: seen.update(below=model.stack.norms[0](found)))
    second.register_forward_hook(lambda _, given, found: seen.update(given=given[0]))
    batch, lens = pad([matrix.double() for matrix in random_feats(10, 8)])
    output = model.train().outputs(batch, lens)
    (lower,) = output.lower_log_probs
    torch.testing.assert_close(lower, model.output(seen["below"]).log_softmax(2))
    told = lower.exp() @ model.feedback.weight.T + model.feedback.bias
    torch.testing.assert_close(seen["given"], seen["below"] + told)
    assert list(model.eval().outputs(batch, lens).lower_log_probs) == []


def test_decoders_take_the_log_probs_of_frames_alone():
    batch, lens = pad(random_feats(30))
    log_probs = make_model(head="frames", stack=1, skip=1)(batch, lens)[0][0].detach().numpy()
    path = log_probs.argmax(1)
    expected = [int(token) for token, before in zip(path, [-1, *path[:-1]], strict=True) if token != before]
    assert greedy_search(log_probs)[0] == expected
    best = prefix_beam_search(log_probs, beam=8)[0]
    assert np.isfinite(best.score) and 0 not in best.tokens
    assert np.isfinite(forced_align(log_probs, list(best.tokens)).log_probs).all()


@pytest.mark.parametrize("settings", CELLS, ids=naming)
def test_orthogonal_initialisation(settings):
    model = make_model(init="orthogonal", **settings)
    for name, weights in model.stack.layers[1].named_parameters():
        kind = name.split(".")[-1].split("_l0")[0]
        if weights.dim() == 1 or kind == "weight_ch":
            expected = torch.zeros_like(weights)
            if "lstm" in settings["cell"] and kind == "bias_ih":
                expected[6:12] = 1.0  # input, forget, cell and output gate of 6 units each
            assert torch.equal(weights, expected), name
        elif kind != "weight_ih":
            gates = weights.detach().split(min(6, len(weights)))
            assert (
                len(gates) == {"lstm": 4, "peephole_lstm": 4, "gru": 3}.get(settings["cell"], 1) or kind != "weight_hh"
            )
            for gate in gates:
                gram = gate @ gate.T if gate.shape[0] <= gate.shape[1] else gate.T @ gate
                torch.testing.assert_close(gram, torch.eye(len(gram)), atol=1e-5, rtol=0)


@pytest.mark.parametrize("cell", ["lstm", "peephole_lstm", "gru", "elman", "jordan"])
def test_uniform_initialisation_stays_within_the_textbooks_bounds(cell):
    torch.manual_seed(0)
    model = AcousticModel(ModelConfig(cell=cell, num_layers=1, hidden_size=100), feat_dim=39, num_tokens=30)
    for weights in model.stack.layers[0].parameters():
        assert 0.095 < weights.abs().max() <= 0.1


def test_a_given_range_of_initial_weights_holds_for_all_of_them():
    model = make_model(init_range=0.02, frontend="tdnn", tdnn_size=50, head="both")
    for name, weights in model.named_parameters():
        if "norm" in name:
            assert torch.equal(weights, torch.full_like(weights, name.endswith("weight"))), name
        else:
            assert weights.abs().max() <= 0.02, name
            if weights.numel() > 100:
                assert weights.min() < -0.018 and weights.max() > 0.018, name


@pytest.mark.parametrize(("name", "limit"), [("num_layers", 100), ("hidden_size", 8192), ("stack", 100)])
def test_sizes_that_fit_no_memory_are_refused(name, limit):
    assert getattr(ModelConfig(**{name: limit}), name) == limit
    with pytest.raises(ConfigError) as caught:
        ModelConfig(**{name: limit + 1})
    assert str(caught.value) == f"model.{name} must be at most {limit}, found {limit + 1}"


def test_impossible_sizes_are_all_named():
    with pytest.raises(ConfigError) as caught:
        ModelConfig(num_layers=0, dropout=1.0, stack=2, skip=3)
    assert [line.split()[0] for line in str(caught.value).split("\n")] == [
        "model.num_layers",
        "model.dropout",
        "model.skip",
    ]
