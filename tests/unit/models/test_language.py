"""Neural language models: PyTorch against NumPy, and against formulas written out here."""

import math

import numpy as np
import pytest
import torch

from asrkit.errors import ConfigError, DataError, ModelError
from asrkit.models.language import LanguageModel
from asrkit.models.language_config import NETWORKS, SEARCH_NETWORKS, LanguageConfig
from asrkit.models.language_file import parse_neural_lm, read_neural_lm, write_neural_lm
from asrkit.models.search_language import NeuralLm

PHONES = tuple("abcde")
CONFIGS = {
    "elman": LanguageConfig("elman", num_layers=2, hidden_size=6, embedding_size=4),
    "gru": LanguageConfig("gru", num_layers=2, hidden_size=6, embedding_size=4),
    "lstm": LanguageConfig("lstm", num_layers=2, hidden_size=6, embedding_size=4),
    "tied": LanguageConfig("lstm", hidden_size=6, embedding_size=6, tied=True),
    "transformer": LanguageConfig("transformer", num_layers=2, hidden_size=8, embedding_size=4, num_heads=2),
}
SENTENCES = [[1, 2, 3, 4, 5, 1, 1], [5], [], [2, 2, 4]]


def make(config, dtype=torch.float64):
    torch.manual_seed(3)
    model = LanguageModel(config, len(PHONES) + 1).to(dtype).eval()
    for weights in model.parameters():  # so that every part counts
        torch.nn.init.normal_(weights, std=0.5)
    return model


def for_search(model, config):
    return NeuralLm(config, PHONES, {name: each.detach().numpy() for name, each in model.state_dict().items()})


def read_whole(model, sentence):
    """(U + 1, V) what the model says after each token of one sentence, in one pass."""
    with torch.no_grad():
        return model(torch.tensor([[0, *sentence]]), model.first_states(1))[0][0].numpy()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def linear(weights, name, x):
    return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]


def norm(weights, name, x):
    centred = x - sum(x) / len(x)
    return centred / math.sqrt(sum(centred**2) / len(x) + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def recurrent_by_hand(config, weights, inputs):
    """Outputs of the layers, token by token: Elman 1990, Cho et al. 2014, and Sundermeyer et al. 2012."""
    for layer in range(config.num_layers):
        rnn, outputs = f"network.layers.{layer}.rnn.", []
        hidden = cell = np.zeros(config.hidden_size)
        for x in inputs:
            by_input = weights[rnn + "weight_ih_l0"] @ x + weights[rnn + "bias_ih_l0"]
            by_output = weights[rnn + "weight_hh_l0"] @ hidden + weights[rnn + "bias_hh_l0"]
            if config.network == "elman":
                hidden = np.tanh(by_input + by_output)
            elif config.network == "gru":
                (r, z, n), (fed_r, fed_z, fed_n) = np.split(by_input, 3), np.split(by_output, 3)
                new, kept = np.tanh(n + sigmoid(r + fed_r) * fed_n), sigmoid(z + fed_z)
                hidden = (1 - kept) * new + kept * hidden
            else:
                i, f, g, o = np.split(by_input + by_output, 4)
                cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
                hidden = sigmoid(o) * np.tanh(cell)
            outputs.append(hidden)
        inputs = outputs
    return inputs


def transformer_by_hand(config, weights, inputs):
    """Each token attends to itself and those before; the farther one is, the less (Press et al. 2022)."""
    steps, size = [linear(weights, "network.input", x) for x in inputs], config.hidden_size // config.num_heads
    for layer in range(config.num_layers):
        name, outputs = f"network.layers.{layer}", []
        parts = [
            np.split(linear(weights, f"{name}.query_key_value", norm(weights, f"{name}.attention_norm", x)), 3)
            for x in steps
        ]
        for i, x in enumerate(steps):
            joined = []
            for head in range(config.num_heads):
                rows, slope = slice(head * size, (head + 1) * size), 2.0 ** (-8 * (head + 1) / config.num_heads)
                shares = [
                    math.exp(parts[i][0][rows] @ parts[j][1][rows] / math.sqrt(size) - slope * (i - j))
                    for j in range(i + 1)
                ]
                joined.append(sum(share * parts[j][2][rows] for j, share in enumerate(shares)) / sum(shares))
            x = x + linear(weights, f"{name}.attended", np.concatenate(joined))
            inner = np.maximum(linear(weights, f"{name}.inner", norm(weights, f"{name}.norm", x)), 0)
            outputs.append(x + linear(weights, f"{name}.outer", inner))
        steps = outputs
    return [norm(weights, "network.norm", x) for x in steps]


def by_hand(model, config, sentence):
    """What read_whole gives, by the formulas in plain NumPy."""
    weights = {name: each.detach().numpy() for name, each in model.state_dict().items()}
    network = transformer_by_hand if config.network == "transformer" else recurrent_by_hand
    outputs = network(config, weights, [weights["embedding.weight"][token] for token in (0, *sentence)])
    logits = [linear(weights, "output", x) for x in outputs]
    return np.array([each - np.log(np.exp(each).sum()) for each in logits])


@pytest.mark.parametrize("name", CONFIGS)
def test_a_network_is_what_its_formulas_say(name):
    model = make(CONFIGS[name])
    for sentence in SENTENCES:
        expected = by_hand(model, CONFIGS[name], sentence)
        np.testing.assert_allclose(read_whole(model, sentence), expected, rtol=0, atol=1e-10)


def test_searches_know_every_network():
    assert NETWORKS.keys() == SEARCH_NETWORKS.keys()


def test_perplexity_is_that_of_the_formulas():
    model = make(CONFIGS["tied"])
    lm = for_search(model, CONFIGS["tied"])
    log_probs = []
    for sentence in SENTENCES:
        rows = by_hand(model, CONFIGS["tied"], sentence)
        log_probs += [row[token] for row, token in zip(rows, [*sentence, 0], strict=True)]
    texts = [[PHONES[token - 1] for token in sentence] for sentence in SENTENCES]
    assert lm.perplexity(texts) == pytest.approx(math.exp(-np.mean(log_probs)), rel=1e-10)
    assert lm.score(texts[0]) == pytest.approx(sum(log_probs[:8]), rel=1e-10)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_step_in_numpy_is_that_of_pytorch(name):
    model = make(CONFIGS[name])
    contexts = for_search(model, CONFIGS[name]).begin()
    expected = read_whole(model, SENTENCES[0])
    context, log_prob = np.array([contexts.start]), 0.0
    for place, token in enumerate(SENTENCES[0]):
        np.testing.assert_allclose(contexts.rows(context)[0], expected[place], rtol=0, atol=1e-10)
        assert contexts.step(int(context[0]), token)[1] == pytest.approx(expected[place, token], abs=1e-10)
        log_prob += expected[place, token]
        context = contexts.after(context, np.array([token]))
    assert contexts.ends(context)[0] == pytest.approx(expected[-1, 0], abs=1e-10)


@pytest.mark.parametrize("name", CONFIGS)
def test_many_contexts_at_once_are_each_as_alone(name):
    """Of different lengths, so that a Transformer's are padded; equal beginnings are one context."""
    model = make(CONFIGS[name])
    contexts = for_search(model, CONFIGS[name]).begin()
    places = []
    for sentence in SENTENCES:
        context = np.array([contexts.start])
        for token in sentence:
            context = contexts.after(context, np.array([token]))
        places.append(int(context[0]))
    expected = np.array([read_whole(model, sentence)[-1] for sentence in SENTENCES])
    grid = np.array(places).reshape(2, 2)
    np.testing.assert_allclose(contexts.rows(grid), expected.reshape(2, 2, -1), rtol=0, atol=1e-10)
    again = contexts.after(np.array([contexts.start]), np.array([5]))
    assert again.tolist() == [places[1]]


@pytest.mark.parametrize("name", CONFIGS)
def test_padding_changes_nothing(name):
    model = make(CONFIGS[name])
    padded = torch.zeros((len(SENTENCES), 9), dtype=torch.long)
    for row, sentence in zip(padded, SENTENCES, strict=True):
        row[1 : len(sentence) + 1] = torch.tensor(sentence)
        row[len(sentence) + 1 :] = 3
    with torch.no_grad():
        log_probs, _ = model(padded, model.first_states(len(SENTENCES)))
    for row, sentence in zip(log_probs.numpy(), SENTENCES, strict=True):
        np.testing.assert_allclose(row[: len(sentence) + 1], read_whole(model, sentence), rtol=0, atol=1e-12)
    texts = [[PHONES[token - 1] for token in sentence] for sentence in SENTENCES]
    lm = for_search(model, CONFIGS[name])
    for together, text in zip(lm.token_log_probs(texts), texts, strict=True):
        np.testing.assert_allclose(together, lm.token_log_probs([text])[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_pieces_go_on_where_the_last_one_ended_but_for_the_gradient(name):
    model, sentence = make(CONFIGS[name]), torch.tensor([[0, *SENTENCES[0]]])
    states, found = model.first_states(1), []
    for piece in sentence.split(3, dim=1):
        log_probs, states = model(piece, states)
        assert not any(state.requires_grad for layer in states for state in layer)
        found.append(log_probs[0].detach().numpy())
    np.testing.assert_allclose(np.concatenate(found), read_whole(model, SENTENCES[0]), rtol=0, atol=1e-10)


def test_a_file_gives_the_same_model_back(tmp_path):
    lm = for_search(make(CONFIGS["transformer"], torch.float32), CONFIGS["transformer"])
    write_neural_lm(lm, tmp_path / "lm.npz")
    again = read_neural_lm(tmp_path / "lm.npz")
    assert (again.config, again.phones, again.dtype) == (lm.config, lm.phones, np.float32)
    assert again.score("abc") == lm.score("abc")
    content = (tmp_path / "lm.npz").read_bytes()
    for bad in (content[:-1], content[:-400], b"", b"\0" + content[1:], content[:500] + b"?" + content[501:]):
        with pytest.raises(DataError, match=r"^x\.npz: "):
            parse_neural_lm(bad, "x.npz")


def test_unknown_symbols_are_named():
    lm = for_search(make(CONFIGS["gru"]), CONFIGS["gru"])
    with pytest.raises(DataError, match="symbols that it does not know: x y"):
        lm.perplexity([["a", "x"], ["y"]])
    with pytest.raises(DataError, match="no sentences"):
        lm.perplexity([])


def test_weights_must_fit():
    lm = for_search(make(CONFIGS["gru"]), CONFIGS["gru"])
    with pytest.raises(ModelError, match=r"output\.bias"):
        NeuralLm(lm.config, PHONES, {name: each for name, each in lm.weights.items() if name != "output.bias"})


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"tied": True}, "model.tied needs embedding_size"),
        ({"num_heads": 2}, "model.num_heads is for network transformer, found network lstm"),
        ({"network": "transformer", "num_heads": 3}, "must divide hidden_size"),
        ({"dropout": 1.0}, "model.dropout"),
    ],
)
def test_impossible_settings(settings, fault):
    with pytest.raises(ConfigError, match=fault):
        LanguageConfig(**settings)
