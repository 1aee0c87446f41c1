"""The acoustic model against a step-by-step NumPy LSTM, and its independence of padding and batch."""

import numpy as np
import pytest
import torch

from asrkit.decoding.forced_align import forced_align
from asrkit.decoding.greedy import greedy_search
from asrkit.decoding.prefix_beam import prefix_beam_search
from asrkit.errors import ConfigError
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.models.frontend import num_steps, stack_frames
from asrkit.models.recurrent import RecurrentLayer, reversal_index


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(lstm: torch.nn.LSTM, inputs: np.ndarray) -> np.ndarray:
    """One direction over (T, D), written from the equations of Hochreiter and Schmidhuber with a forget gate."""
    weights = {name: value.detach().numpy().astype(np.float64) for name, value in lstm.named_parameters()}
    hidden = cell = np.zeros(lstm.hidden_size)
    outputs = []
    for frame in inputs:
        gates = weights["weight_ih_l0"] @ frame + weights["bias_ih_l0"]
        gates = gates + weights["weight_hh_l0"] @ hidden + weights["bias_hh_l0"]
        enter, forget, new, leave = np.split(gates, 4)
        cell = sigmoid(forget) * cell + sigmoid(enter) * np.tanh(new)
        hidden = sigmoid(leave) * np.tanh(cell)
        outputs.append(hidden)
    return np.array(outputs)


def random_feats(*lens, dim=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(length, dim, generator=generator) for length in lens]


def pad(feats, extra=0, value=0.0):
    longest = max(len(matrix) for matrix in feats) + extra
    batch = torch.full((len(feats), longest, feats[0].shape[1]), value)
    for row, matrix in zip(batch, feats, strict=True):
        row[: len(matrix)] = matrix
    return batch, torch.tensor([len(matrix) for matrix in feats])


def make_model(bidirectional=True, **settings):
    torch.manual_seed(3)
    config = ModelConfig(bidirectional=bidirectional, num_layers=2, hidden_size=6, **settings)
    return AcousticModel(config, feat_dim=5, num_tokens=4).eval()


@pytest.mark.parametrize("bidirectional", [False, True])
def test_a_layer_equals_the_equations_step_by_step(bidirectional):
    torch.manual_seed(1)
    layer = RecurrentLayer(5, 7, bidirectional)
    feats = random_feats(9, 4, 1)
    batch, lens = pad(feats)
    outputs = layer(batch, reversal_index(lens, batch.shape[1])).detach().numpy()
    for row, matrix in zip(outputs, feats, strict=True):
        expected = numpy_lstm(layer.ahead, matrix.numpy())
        if bidirectional:
            expected = np.hstack([expected, numpy_lstm(layer.back, matrix.numpy()[::-1])[::-1]])
        np.testing.assert_allclose(row[: len(matrix)], expected, atol=1e-6)


def test_reversal_is_within_each_utterance():
    assert reversal_index(torch.tensor([3, 1, 4]), 4).tolist() == [[2, 1, 0, 3], [0, 1, 2, 3], [3, 2, 1, 0]]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("stack", "skip"), [(1, 1), (3, 3), (5, 2)])
def test_padding_and_batch_change_no_log_prob_and_no_gradient(bidirectional, stack, skip):
    model = make_model(bidirectional, stack=stack, skip=skip)
    feats = random_feats(13, 4, 7, 1, 12)

    def run(batches):
        """Log-probs of every utterance, and the gradient of a function that weighs them all alike."""
        model.zero_grad()
        found, total = [], 0.0
        for batch, lens in batches:
            log_probs, log_prob_lens = model(batch, lens)
            for row, length in zip(log_probs, log_prob_lens, strict=True):
                found.append(row[:length])
                total = total + (row[:length] ** 2).sum()
        total.backward()
        return [row.detach() for row in found], [parameter.grad.clone() for parameter in model.parameters()]

    alone, alone_grads = run([pad([matrix]) for matrix in feats])
    for batches in ([pad(feats)], [pad(feats, extra=20, value=1e3)]):
        together, grads = run(batches)
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
        for one, other in zip(alone_grads, grads, strict=True):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_log_probs_are_normalised():
    batch, lens = pad(random_feats(10, 8))
    log_probs, log_prob_lens = make_model()(batch, lens)
    assert log_prob_lens.tolist() == [4, 3]
    torch.testing.assert_close(log_probs.exp().sum(2), torch.ones(2, 4))


def test_stacking_repeats_the_edges():
    feats = torch.arange(1.0, 8.0).reshape(1, 7, 1)
    stacked, lens = stack_frames(feats, torch.tensor([5]), stack=3, skip=2)
    assert lens.tolist() == [3]
    assert stacked[0, :3].tolist() == [[1, 2, 3], [3, 4, 5], [5, 5, 5]]
    delayed, _ = stack_frames(feats, torch.tensor([5]), stack=3, skip=2, offsets=torch.tensor([1]))
    assert delayed[0, :3].tolist() == [[1, 1, 2], [2, 3, 4], [4, 5, 5]]


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
    found_lens, ctc, frames = model.outputs(batch, lens)
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


def test_decoders_take_the_log_probs_of_frames_alone():
    batch, lens = pad(random_feats(30))
    log_probs = make_model(head="frames", stack=1, skip=1)(batch, lens)[0][0].detach().numpy()
    path = log_probs.argmax(1)
    expected = [int(token) for token, before in zip(path, [-1, *path[:-1]], strict=True) if token != before]
    assert greedy_search(log_probs)[0] == expected
    best = prefix_beam_search(log_probs, beam=8)[0]
    assert np.isfinite(best.score) and 0 not in best.tokens
    assert np.isfinite(forced_align(log_probs, list(best.tokens)).log_probs).all()


def test_number_of_steps_is_rounded_up():
    assert [num_steps(n, 3) for n in (1, 2, 3, 4, 6, 7)] == [1, 1, 1, 2, 2, 3]


def test_orthogonal_initialisation():
    lstm = make_model(init="orthogonal").stack.layers[0].back
    recurrent = lstm.weight_hh_l0.detach().reshape(4, 6, 6)
    for gate in recurrent:
        torch.testing.assert_close(gate @ gate.T, torch.eye(6), atol=1e-5, rtol=0)
    bias = (lstm.bias_ih_l0 + lstm.bias_hh_l0).detach().reshape(4, 6)
    assert bias.tolist() == [[0] * 6, [1] * 6, [0] * 6, [0] * 6]


def test_uniform_initialisation_stays_within_the_textbooks_bounds():
    torch.manual_seed(0)
    model = AcousticModel(ModelConfig(num_layers=1, hidden_size=100, init="uniform"), feat_dim=39, num_tokens=30)
    for parameter in model.stack.layers[0].parameters():
        assert 0.095 < parameter.abs().max() <= 0.1


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
