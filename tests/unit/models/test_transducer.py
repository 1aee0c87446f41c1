"""The transducer: against NumPy's own formulas and all alignments, by numerical gradients, and in batches."""

import numpy as np
import pytest
import torch

from asrkit.errors import ConfigError
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.models.decoder import NO_DECODER
from asrkit.models.decoder_config import DECODER_CELLS, DecoderConfig
from asrkit.models.dropout import dropout_from
from asrkit.models.transducer import Transducer
from asrkit.models.transducer_lattice import Lattice

STEP_SIZE, CLASSES = 4, 5
KINDS = [{"cell": cell, "num_layers": layers} for cell in DECODER_CELLS for layers in (1, 2)]


def naming(settings):
    return " ".join(map(str, settings.values()))


def make_transducer(**settings):
    torch.manual_seed(7)
    config = DecoderConfig(**{"hidden_size": 6, "embedding_size": 3, "dropout": 0.0, **settings})
    transducer = Transducer(config, STEP_SIZE, CLASSES).double().eval()
    with torch.no_grad():
        for weights in transducer.parameters():
            weights.copy_(torch.randn_like(weights) * 0.7)
    return transducer


def make_batch(*lens):
    """Steps with padding of NaN, their numbers, tokens with padding that is none, and their numbers."""
    generator = torch.Generator().manual_seed(len(lens))
    steps = torch.randn(len(lens), max(lens) + 1, STEP_SIZE, generator=generator, dtype=torch.float64)
    tokens = torch.randint(1, CLASSES, (len(lens), max(lens)), generator=generator)
    token_lens = torch.tensor([(3 * length) // 4 for length in lens])
    for row, length in enumerate(lens):
        steps[row, length:] = torch.nan
        tokens[row, token_lens[row] :] = 99
    return steps, torch.tensor(lens), tokens, token_lens


# What the formulas say of one utterance.


def sigmoid(values):
    return 1 / (1 + np.exp(-values))


def advance(cell, weights, layer, inputs, state):
    """One step of a cell with torch's weights."""
    by_input = weights[f"cells.{layer}.weight_ih"] @ inputs + weights[f"cells.{layer}.bias_ih"]
    by_output = weights[f"cells.{layer}.weight_hh"] @ state[0] + weights[f"cells.{layer}.bias_hh"]
    if cell == "elman":
        return [np.tanh(by_input + by_output)]
    if cell == "gru":
        reset, update, new = np.split(by_input, 3)
        fed_reset, fed_update, fed_new = np.split(by_output, 3)
        new = np.tanh(new + sigmoid(reset + fed_reset) * fed_new)
        kept = sigmoid(update + fed_update)
        return [(1 - kept) * new + kept * state[0]]
    enter, forget, new, leave = np.split(by_input + by_output, 4)
    memory = sigmoid(forget) * state[1] + sigmoid(enter) * np.tanh(new)
    return [sigmoid(leave) * np.tanh(memory), memory]


def log_probs_of(transducer, steps, tokens):
    """(T, U + 1, V) by the formulas."""
    weights = {name: values.detach().numpy() for name, values in transducer.named_parameters()}
    config = transducer.config
    states = [[np.zeros(config.hidden_size)] * 2 for _ in range(config.num_layers)]
    rows = []
    for token in [0, *tokens]:
        output = weights["embedding.weight"][token]
        for layer in range(config.num_layers):
            states[layer] = advance(config.cell, weights, layer, output, states[layer])
            output = states[layer][0]
        rows.append(output)
    found = np.empty((len(steps), len(rows), CLASSES))
    for t, step in enumerate(steps):
        for u, row in enumerate(rows):
            joined = weights["of_steps.weight"] @ step + weights["of_steps.bias"] + weights["of_phones.weight"] @ row
            logits = weights["output.weight"] @ np.tanh(joined) + weights["output.bias"]
            found[t, u] = logits - np.log(np.exp(logits).sum())
    return found


@pytest.mark.parametrize("kind", KINDS, ids=naming)
def test_losses_are_those_of_the_formulas(kind):
    transducer = make_transducer(**kind)
    steps, lens, tokens, token_lens = make_batch(5, 2, 7, 1)
    losses = transducer.losses(transducer.source(steps, lens), tokens, token_lens, NO_DECODER)
    for row, loss in enumerate(losses.tolist()):
        some = tokens[row, : token_lens[row]].tolist()
        log_probs = log_probs_of(transducer, steps[row, : lens[row]].numpy(), some)
        assert loss == pytest.approx(-Lattice.of(log_probs, np.array(some, int)).log_prob, rel=0, abs=1e-10)


@pytest.mark.parametrize("kind", KINDS, ids=naming)
def test_searches_take_the_same_numbers(kind):
    transducer = make_transducer(**kind)
    (steps,) = make_batch(6)[0]
    tokens, searched = [3, 1, 1, 4], transducer.for_search()
    assert (searched.step_size, searched.num_classes, searched.dtype) == (STEP_SIZE, CLASSES, np.float64)
    states, said = searched.start(2)
    rows = [said[1]]
    for token in tokens:
        states, said = searched.say(np.array([2, token]), states)
        states[0] = states[1]
        rows.append(said[1])
    found = searched.log_probs(searched.hear(steps[:6].numpy())[:, None], np.stack(rows))
    np.testing.assert_allclose(found, log_probs_of(transducer, steps[:6].numpy(), tokens), rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", [KINDS[0], pytest.param(KINDS[3], marks=pytest.mark.slow)], ids=naming)
def test_numerical_gradients_agree(kind):
    transducer = make_transducer(**kind)
    steps, lens, tokens, token_lens = make_batch(3, 2)
    names, weights = zip(*transducer.named_parameters(), strict=True)
    inputs = steps[:, :3].nan_to_num(0.5).requires_grad_()

    def losses(inputs, *weights):
        found = torch.func.functional_call(
            _Losses(transducer), dict(zip((f"owner.{name}" for name in names), weights, strict=True)),
            (inputs, lens, tokens, token_lens),
        )  # fmt: skip
        return found

    assert torch.autograd.gradcheck(losses, (inputs, *weights), atol=1e-7)


class _Losses(torch.nn.Module):
    def __init__(self, owner):
        super().__init__()
        self.owner = owner

    def forward(self, inputs, lens, tokens, token_lens):
        return self.owner.losses(self.owner.source(inputs, lens), tokens, token_lens, NO_DECODER)


@pytest.mark.parametrize("cell", DECODER_CELLS)
def test_an_utterance_and_its_gradients_are_the_same_alone_and_in_a_batch(cell):
    transducer = make_transducer(cell=cell)
    steps, lens, tokens, token_lens = make_batch(6, 3, 5)
    steps.requires_grad_()
    together = transducer.losses(transducer.source(steps, lens), tokens, token_lens, NO_DECODER)
    weights = list(transducer.parameters())
    for row in range(3):
        expected = torch.autograd.grad(together[row], [steps, *weights], retain_graph=True)
        alone = steps.detach()[row : row + 1, : lens[row]].requires_grad_()
        some = tokens[row : row + 1, : token_lens[row]]
        (loss,) = transducer.losses(
            transducer.source(alone, lens[row : row + 1]), some, token_lens[row : row + 1], NO_DECODER
        )
        torch.testing.assert_close(loss, together[row], rtol=0, atol=1e-10)
        of_steps, *found = torch.autograd.grad(loss, [alone, *weights])
        torch.testing.assert_close(of_steps[0], expected[0][row, : lens[row]], rtol=0, atol=1e-10)
        assert not expected[0][row, lens[row] :].any()
        for each, other in zip(found, expected[1:], strict=True):
            torch.testing.assert_close(each, other, rtol=0, atol=1e-10)


def test_dropout_is_drawn_from_its_generator():
    transducer = make_transducer(dropout=0.5).train()
    batch = make_batch(5, 4)

    def losses(seed):
        with dropout_from(torch.Generator().manual_seed(seed)):
            return transducer.losses(transducer.source(*batch[:2]), *batch[2:], NO_DECODER)

    assert torch.equal(losses(1), losses(1)) and not torch.equal(losses(1), losses(2))


@pytest.mark.parametrize("head", ["transducer", "joint_transducer"])
def test_a_network_has_it_on_any_encoder(head):
    """What is stored for searches are the encoder's outputs, behind CTC's log-probabilities."""
    for encoder in ("recurrent", "pyramid", "conformer"):
        config = ModelConfig(encoder=encoder, head=head, hidden_size=8, num_layers=2)
        model = AcousticModel(config, 3, CLASSES).eval()
        output = model.outputs(torch.randn(2, 30, 3), torch.tensor([30, 21]))
        assert isinstance(model.decoder, Transducer) and model.decoder.has_ctc == (head == "joint_transducer")
        num_ctc = CLASSES if model.decoder.has_ctc else 0
        assert output.log_probs.shape[2] == num_ctc + model.decoder.step_size == num_ctc + model.stack.output_size


def test_settings_of_attention_are_refused():
    with pytest.raises(ConfigError) as refused:
        ModelConfig(head="transducer", decoder=DecoderConfig(score="dot", hidden_size=7, num_heads=2))
    assert str(refused.value).split("\n") == [
        "model.decoder.score is for heads attention and joint, found head transducer; leave it out",
        "model.decoder.num_heads is for heads attention and joint, found head transducer; leave it out",
    ]
