"""Every configuration that ships is built and takes training steps; networks of papers have the papers' sizes."""

import math

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config, parse_config
from asrkit.experiment import make_model
from asrkit.lang.tokens import TokenTable
from asrkit.models.decoder import NO_DECODER
from asrkit.training.optim import clip_gradients, make_optimizer
from tests.presets import EACH_PRESET, ROOT


def load(path, num_phones):
    config = load_config(path, ExperimentConfig)
    return config, make_model(config, TokenTable([f"p{i}" for i in range(num_phones)]))


def losses(model, feats, lens, tokens, labels):
    """The mean loss of each head: the decoder's over utterances, CTC's over tokens, the frames' over steps."""
    output = model.outputs(feats, lens)
    step_lens, ctc, frames = output.log_prob_lens, output.ctc_log_probs, output.frame_log_probs
    found = []
    if model.decoder is not None:
        source, token_lens = model.decoder.source(output.steps, step_lens), torch.full((len(tokens),), tokens.shape[1])
        found.append(model.decoder.losses(source, tokens, token_lens, NO_DECODER).mean())
    if ctc is not None:
        token_lens = torch.full((len(tokens),), tokens.shape[1])
        found.append(torch.nn.functional.ctc_loss(ctc.transpose(0, 1), tokens, step_lens, token_lens))
    if frames is not None:
        classes = model.frame_labels_to_steps(labels, lens) - 1
        found.append(torch.nn.functional.nll_loss(frames.transpose(1, 2), classes, ignore_index=-2))
    return torch.stack(found)


@EACH_PRESET
def test_a_preset_learns_a_small_batch(path):
    """The full network, on two utterances of a quarter of a second with dropout as it is trained."""
    torch.set_num_threads(1)
    config, model = load(path, 30)
    optimizer = make_optimizer(model, config.training)
    rng = np.random.default_rng(1)
    feats = torch.from_numpy(rng.normal(size=(2, 24, config.features.dim)).astype(np.float32))
    lens = torch.tensor([24, 20])
    tokens = torch.tensor([[3, 30, 7], [1, 2, 3]])
    labels = tokens.repeat_interleave(8, dim=1)
    model.eval()
    before = losses(model, feats, lens, tokens, labels)
    weights = {name: values.detach().clone() for name, values in model.named_parameters()}
    model.train()
    for _ in range(4):
        loss = losses(model, feats, lens, tokens, labels)
        assert torch.isfinite(loss).all()
        optimizer.zero_grad()
        loss.sum().backward()
        norm = clip_gradients(model, config.training)
        assert 0 < norm < np.inf
        optimizer.step()
    for name, values in model.named_parameters():
        assert not torch.equal(values, weights[name]), f"{name} did not move"
    model.eval()
    assert (losses(model, feats, lens, tokens, labels) < before).all()


@EACH_PRESET
def test_an_utterance_of_a_preset_gives_the_same_alone_and_in_a_batch(path):
    """The full network in float64: outputs, losses and the gradient of the features, whatever padding holds."""
    torch.set_num_threads(1)
    config, model = load(path, 30)
    model.double().eval()
    feats = torch.from_numpy(np.random.default_rng(2).normal(size=(2, 24, config.features.dim)))
    tokens = torch.tensor([[3, 30, 7], [1, 2, 3]])

    def run(rows, num_frames, padding=0.0):
        """Of each utterance its heads' outputs and what the gradient of its losses is in the features."""
        lens = torch.tensor([24, 17])[rows]
        batch = feats[rows, :num_frames].clone()
        for row, length in zip(batch, lens, strict=True):
            row[length:] = padding
        batch.requires_grad_()
        output = model.outputs(batch, lens)
        heads = [head for head in (output.ctc_log_probs, output.frame_log_probs, output.steps) if head is not None]
        total = sum(
            (head[row, :length] ** 3).sum() for row, length in enumerate(output.log_prob_lens) for head in heads
        )
        lost = torch.zeros(len(rows))
        if model.decoder is not None:
            source = model.decoder.source(output.steps, output.log_prob_lens)
            lost = model.decoder.losses(source, tokens[rows], torch.full((len(rows),), 3), NO_DECODER)
            total = total + lost.sum()
        total.backward()
        return [
            [lost[row], batch.grad[row, : lens[row]], *(head[row, :length] for head in heads)]
            for row, length in enumerate(output.log_prob_lens)
        ]

    together = run([0, 1], 24, math.nan)
    for alone, found in zip([*run([0], 24), *run([1], 17)], together, strict=True):
        for one, other in zip(alone, found, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_what_is_left_out_gives_the_recommended_system():
    assert load_config(ROOT / "conf/blstm_ctc.yaml", ExperimentConfig) == ExperimentConfig()
    assert parse_config("model: {head: frames}", ExperimentConfig, "c.yaml").model.self_conditioning is False


@pytest.mark.parametrize(
    ("name", "millions"),
    [("graves2013_ctc_3l_250h", 3.8), ("graves2013_ctc_5l_250h", 6.8), ("graves2013_ctc_3l_421h_uni", 3.8)],
)
def test_networks_of_graves_2013_have_the_papers_number_of_weights(name, millions):
    """Table 1 of the paper, for 123 inputs and TIMIT's 61 phones."""
    config, model = load(ROOT / f"conf/{name}.yaml", 61)
    assert config.features.dim == 123
    assert round(sum(weights.numel() for weights in model.parameters()) / 1e6, 1) == millions
    for weights in model.parameters():
        assert weights.abs().max() <= 0.1


@pytest.mark.parametrize(
    ("name", "bidirectional", "num_layers", "hidden_size"),
    [
        ("textbook_lstm", False, 1, 150),
        ("textbook_blstm", True, 1, 120),
        ("textbook_lstm_deep", False, 3, 150),
        ("textbook_blstm_deep", True, 3, 120),
    ],
)
def test_networks_of_the_textbook(name, bidirectional, num_layers, hidden_size):
    config, model = load(ROOT / f"conf/{name}.yaml", 30)
    training = config.training
    assert (training.optimizer, training.batch_size, training.schedule) == ("sgd", 1, "constant")
    assert training.max_lr == pytest.approx(0.0003 * 30)  # of a sentence's mean over 30 phones, not of its sum
    # 30 classes and blank; 16 ms every 8 ms: 124 whole frames in a second, and a step for each of them.
    log_probs, _ = model(torch.zeros(1, 1 + (1000 - 16) // 8, config.features.dim), torch.tensor([124]))
    assert log_probs.shape == (1, 124, 31)
    assert (config.features.frame_length_ms, config.features.frame_shift_ms) == (16, 8)
    # Each direction has four gates, each with its input, recurrent weights and PyTorch's two biases.
    directions, inputs, expected = 1 + bidirectional, 39, 0
    for _ in range(num_layers):
        expected += directions * 4 * hidden_size * (inputs + hidden_size + 2)
        inputs = directions * hidden_size
    assert sum(weights.numel() for weights in model.parameters()) == expected + 31 * (inputs + 1)
    assert max(weights.abs().max() for weights in model.stack.parameters()) <= hidden_size**-0.5
