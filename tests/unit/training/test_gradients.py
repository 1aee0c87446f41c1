"""Norms of gradients by layer and lag, against NumPy, differences and unrolled cells; logging them changes nothing."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from asrkit.errors import DataError
from asrkit.models.decoder import NO_DECODER
from asrkit.training import loop
from asrkit.training.curve import draw_gradients
from asrkit.training.dataset import TrainingSet
from asrkit.training.gradient_log import read_norms, write_norms
from asrkit.training.gradients import WEIGHTS, Place, gradient_norms
from asrkit.training.loop import TrainingSets, train
from asrkit.training.step import batch_losses
from tests.unit.models.test_cells import CELLS, REFERENCES
from tests.unit.training.test_loop import (
    CONFIG,
    DECODER,
    TOKENS,
    Killed,
    assert_equal,
    copy_of,
    make_data,
    make_model,
    without_cpu_seconds,
)
from tests.unit.training.test_monitor import read_scalars


def probe(num_utts=3, seed=5):
    data = make_data(num_utts, seed)
    return data.load(sorted(data.num_frames))


def softmax(x):
    return np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_an_elman_network_against_the_textbooks_recursion(bidirectional):
    """One layer and cross entropy: dL/dh(t - 1) = U' diag(1 - h(t)^2) dL/dh(t), dL/dh(T) = V' (p(T) - target)."""
    settings = {"cell": "elman", "hidden_size": 5, "stack": 1, "skip": 1, "layer_norm": False, "head": "frames"}
    model, batch = make_model(bidirectional=bidirectional, **settings), probe()
    norms = gradient_norms(model, batch, 1.0, NO_DECODER)
    weights = {key.split(".")[-1]: value.numpy() for key, value in model.double().state_dict().items()}
    out = model.frame_output.weight.detach().numpy()
    num_labels = int((batch.frame_labels > 0).sum())
    num_lags, size = int(batch.feat_lens.min()) // 3 + 1, 5
    expected, of_output = {"forward": [], "backward": []}, 0
    for row, length in enumerate(batch.feat_lens.tolist()):
        frames, labels = batch.feats[row, :length].double().numpy(), batch.frame_labels[row, :length].numpy()
        ahead = {key: value for key, value in weights.items() if not key.endswith("_reverse")}
        back = {key.removesuffix("_reverse"): value for key, value in weights.items() if key.endswith("_reverse")}
        states = {"forward": REFERENCES["elman"](ahead, frames, size)}
        if bidirectional:
            states["backward"] = REFERENCES["elman"](back, frames[::-1], size)[::-1]
        outputs = np.hstack([*states.values()])
        errors = softmax(outputs @ out.T + model.frame_output.bias.detach().numpy())
        errors[np.arange(length), labels - 1] -= 1
        errors[labels < 0] = 0
        errors /= num_labels
        of_output = of_output + errors.T @ outputs
        into = errors @ out  # dL/dy
        inner = np.arange(length // 3, length - length // 3)
        at = inner[np.argmax(np.linalg.norm(into[inner], axis=1))]
        for direction, (each, recurrent) in enumerate(zip(states.values(), (ahead, back), strict=False)):
            gradient, step = into[at, direction * size : (direction + 1) * size], -1 if direction == 0 else 1
            found = []
            for lag in range(num_lags):
                found.append(np.linalg.norm(gradient))
                gradient = recurrent["weight_hh_l0"].T @ ((1 - each[at + step * lag] ** 2) * gradient)
            expected[[*states][direction]].append(found)
    for of in states:
        np.testing.assert_allclose(norms[Place("layer 1", of)], np.mean(expected[of], axis=0), rtol=1e-5)
    bias = norms[Place("frame output", WEIGHTS)] ** 2 - np.linalg.norm(of_output) ** 2
    assert 0 < bias < norms[Place("frame output", WEIGHTS)] ** 2


@pytest.mark.parametrize("name", CELLS)
def test_every_cell_against_differences(name):
    """h(t) moves by a little, the layer goes on from there, and y(T) times its gradient moves by what is asked for."""
    settings = {"cell": name, **CELLS[name], "bidirectional": False, "hidden_size": 4}
    model, batch = make_model(**settings), probe(1)
    for weights in model.stack.layers.parameters():
        torch.nn.init.uniform_(weights, -0.8, 0.8)
    norms = gradient_norms(model, batch, 0.0, NO_DECODER)[Place("layer 1", "forward")]
    model = model.double().eval()
    batch, layer, kept = replace(batch, feats=batch.feats.double()), model.stack.layers[0], []
    layer.register_forward_hook(lambda layer, inputs, found: kept.append(inputs[0]))
    model.stack.register_forward_hook(lambda stack, inputs, found: (found[0].retain_grad(), kept.append(found[0]))[0])
    batch_losses(model, batch, None, 0.0).mean(0.0).backward()
    steps, last = kept
    length = last.shape[1]
    inner = range(length // 3, length - length // 3)
    at = max(inner, key=lambda step: float(last.grad[0, step].norm()))
    assert len(norms) == length // 3 + 1 >= 4

    def loss(lag, moved):
        """L(T) when the outputs of the step T - lag are moved."""
        outputs, states = layer.advance([steps[:, : at - lag + 1]], layer.first_states(steps))
        output = outputs[0][:, -1] + moved
        if lag:
            outputs, _ = layer.advance([steps[:, at - lag + 1 : at + 1]], (output[None], *states[1:]))
            output = outputs[0][:, -1]
        return float(model.stack.norms[0](output)[0] @ last.grad[0, at])

    with torch.no_grad():
        for lag, norm in enumerate(norms):
            small = 1e-5 * torch.eye(layer.output_size, dtype=torch.float64)
            slopes = [(loss(lag, each) - loss(lag, -each)) / 2e-5 for each in small]
            assert norm == pytest.approx(np.linalg.norm(slopes), rel=1e-4)


def test_lower_layers_against_cells_of_torch_that_are_unrolled():
    """Two bidirectional LSTM layers: what h(t) of the lower one does, it also does through the upper one's states."""
    model, batch = make_model(num_layers=2, hidden_size=3, stack=2, skip=2), probe(1)
    norms = gradient_norms(model, batch, 0.0, NO_DECODER)
    model, feats, hiddens = model.double().eval(), batch.feats.double(), {}

    def unrolled(inputs, layer, direction):
        cell = torch.nn.LSTMCell(inputs.shape[1], 3).double()
        cell.load_state_dict(
            {
                key.replace("_l0" + direction, ""): value
                for key, value in layer.rnn.state_dict().items()
                if key.endswith("_l0" + direction)
            }
        )
        state, found = (torch.zeros(1, 3, dtype=torch.float64),) * 2, []
        for frame in inputs.flip(0) if direction else inputs:
            state = cell(frame[None], state)
            found.append(state[0])
        return found[::-1] if direction else found

    pairs = torch.arange(0, feats.shape[1], 2)[:, None] + torch.arange(2)
    frames = feats[0, pairs.clamp(max=feats.shape[1] - 1)].flatten(1)
    for number, (layer, norm) in enumerate(zip(model.stack.layers, model.stack.norms, strict=True), start=1):
        ahead, back = unrolled(frames, layer, ""), unrolled(frames, layer, "_reverse")
        hiddens |= {Place(f"layer {number}", "forward"): ahead, Place(f"layer {number}", "backward"): back}
        frames = norm(torch.hstack([torch.cat(ahead), torch.cat(back)]))
    log_probs = torch.log_softmax(model.output(frames), dim=1)
    loss = torch.nn.functional.ctc_loss(
        log_probs[:, None].float(), batch.tokens, torch.tensor([len(frames)]), batch.token_lens, reduction="sum"
    )
    (into,) = torch.autograd.grad(loss / batch.token_lens.sum(), frames, retain_graph=True)
    third = len(frames) // 3
    at = third + int(into[third : len(frames) - third].norm(dim=1).argmax())
    for place, each in hiddens.items():
        grads = torch.autograd.grad(frames[at] @ into[at], each, retain_graph=True)
        step = 1 if place.of == "backward" else -1
        expected = [float(grads[at + step * lag].norm()) for lag in range(third + 1)]
        np.testing.assert_allclose(norms[place], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "settings", [{"self_conditioning": True, "num_layers": 2}, {"head": "joint"}, {"head": "both"}]
)
def test_weights_have_the_gradient_that_training_takes(settings):
    """By part, without noise and dropout; padding does not count."""
    model, batch = make_model(**{"dropout": 0.0, "decoder": replace(DECODER, dropout=0.0), **settings}), probe()
    decoder = replace(NO_DECODER, weight=0.7) if settings.get("head") == "joint" else NO_DECODER
    weight = 0.3 if settings.get("head") == "both" else 0.0
    norms = gradient_norms(model, batch, weight, decoder)
    assert [weights.grad for weights in model.parameters() if weights.grad is not None] == []
    torch.as_tensor(batch_losses(model.train(), batch, None, weight, decoder).mean(weight, decoder.weight)).backward()
    for place, (norm, *_) in norms.items():
        if place.of == WEIGHTS:
            prefix = {
                "layer 1": ("stack.layers.0.", "stack.norms.0."),
                "layer 2": ("stack.layers.1.", "stack.norms.1."),
            }
            names = prefix.get(place.part, (place.part.replace(" ", "_") + ".",))
            own = [weights.grad for name, weights in model.named_parameters() if name.startswith(names)]
            assert norm == pytest.approx(float(torch.cat([grad.flatten() for grad in own]).norm()), rel=1e-4)
    feats = torch.nn.functional.pad(batch.feats, (0, 0, 0, 9), value=3.0)
    padded = gradient_norms(model, replace(batch, feats=feats, frame_labels=pad(batch.frame_labels)), weight, decoder)
    assert padded.keys() == norms.keys()
    for place, each in norms.items():
        np.testing.assert_allclose(padded[place], each, rtol=1e-6)


def pad(labels):
    return torch.nn.functional.pad(labels, (0, 9), value=-1)


def test_encoders_of_other_kinds():
    """Attention has no lags; a pyramid's lower layers have more steps, so their lags go farther."""
    batch = probe()
    norms = gradient_norms(make_model(encoder="conformer", num_layers=2), batch, 0.0, NO_DECODER)
    assert {place.of for place in norms} == {WEIGHTS}
    assert {"encoder input", "layer 1", "layer 2", "output"} <= {place.part for place in norms}
    decoder = replace(NO_DECODER, weight=1.0)
    settings = {"encoder": "pyramid", "num_layers": 3, "head": "attention", "stack": 1, "skip": 1, "frontend": "tdnn"}
    norms = gradient_norms(make_model(**settings), batch, 0.0, decoder)
    third = -(-int(batch.feat_lens.min()) // 4) // 3
    assert third > 0
    for of in ("forward", "backward"):
        lags = [len(norms[Place(f"layer {number}", of)]) for number in (1, 2, 3)]
        assert lags == [4 * third + 1, 2 * third + 1, third + 1]
        assert all(norms[Place(f"layer {number}", of)].min() > 0 for number in (1, 2, 3))


@pytest.mark.parametrize("settings", [{}, {"head": "attention", "decoder": replace(DECODER, reading="hard")}])
def test_logging_changes_nothing_and_is_resumed(tmp_path, monkeypatch, settings):
    data, dev = make_data(12, 1), make_data(20, 2)
    plain, logged, resumed = (make_model(**settings) for _ in range(3))
    expected = train(plain, CONFIG, TrainingSets(data, dev, TOKENS), tmp_path / "plain", "run")
    found = train(logged, CONFIG, TrainingSets(data, dev, TOKENS, dev), tmp_path / "logged", "run")
    assert_equal(copy_of(plain), copy_of(logged))
    assert without_cpu_seconds(found.history) == without_cpu_seconds(expected.history)
    rows = [(tmp_path / name / "history.csv").read_text().splitlines() for name in ("plain", "logged")]
    assert [row.rpartition(",")[0] for row in rows[0]] == [row.rpartition(",")[0] for row in rows[1]]  # CPU seconds
    table = (tmp_path / "logged/gradients.csv").read_bytes()
    assert [*read_norms(tmp_path / "logged/gradients.csv")] == [1, 2, 3]
    assert not list((tmp_path / "plain").glob("gradients.*"))
    assert imread(tmp_path / "logged/gradients.png").shape[1] == 760

    directory, real, calls = tmp_path / "killed", loop.compute_gradients, []

    def step(*args):
        calls.append(args)
        if len(calls) == 8:  # in the third epoch
            raise Killed
        return real(*args)

    monkeypatch.setattr(loop, "compute_gradients", step)
    with pytest.raises(Killed):
        train(resumed, CONFIG, TrainingSets(data, dev, TOKENS, dev), directory, "run")
    assert [*read_norms(directory / "gradients.csv")] == [1, 2]
    train(make_model(**settings), CONFIG, TrainingSets(data, dev, TOKENS, dev), directory, "run")
    assert (directory / "gradients.csv").read_bytes() == table
    shown = {
        step for tag, step in read_scalars(directory / "tensorboard") if tag == "gradient_by_lag/layer_1_forward_002"
    }
    assert shown == {1, 2, 3}
    (directory / "checkpoint.pt").unlink()
    train(make_model(**settings), replace(CONFIG, num_epochs=1), TrainingSets(data, dev, TOKENS), directory, "run")
    assert not list(directory.glob("gradients.*"))  # of another run


def test_the_utterances_are_of_middle_length(tmp_path, monkeypatch):
    feats = {f"u{length}": np.zeros((length, 4), np.float32) for length in range(10, 40)}
    data = TrainingSet(feats, {utt_id: len(each) for utt_id, each in feats.items()}, {key: [1] for key in feats})
    (tmp_path / "logged").mkdir()
    log = loop.GradientLog(tmp_path / "logged", data, 1)
    assert log._batch.feat_lens.tolist() == [*range(26, 34)]


def test_a_table_is_read_as_it_was_written_or_refused(tmp_path):
    path = tmp_path / "gradients.csv"
    epochs = {1: {Place("layer 1", WEIGHTS): np.array([0.5]), Place("layer 1", "forward"): np.array([1.0, 2e-12])}}
    write_norms(path, epochs)
    text = path.read_text()
    assert text.splitlines()[1:] == ["1,layer 1,weights,,0.5", "1,layer 1,forward,0,1", "1,layer 1,forward,1,2e-12"]
    assert str(read_norms(path)) == str(epochs)
    for old, new, line in [("epoch,", "era,", 1), ("0.5", "half", 2), (",1,2e", ",3,2e", 4), ("forward,0", "up,0", 3)]:
        path.write_text(text.replace(old, new))
        with pytest.raises(DataError, match=rf"gradients.csv:{line}: expected epoch, part, .*remove the file"):
            read_norms(path)


def test_a_picture_of_many_layers_shows_some(tmp_path):
    norms = {
        Place(f"layer {number}", of): np.full(size, 0.1)
        for number in range(1, 31)
        for of, size in ((WEIGHTS, 1), ("forward", 4))
    }
    draw_gradients({1: {}, 2: norms}, tmp_path / "a.png")
    assert imread(tmp_path / "a.png").shape[1] == 760
