"""Experiments of exported models: every weight comes back, and the language model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from asrkit.errors import ModelError
from asrkit.experiment import Experiment
from asrkit.features.config import FeatureConfig
from asrkit.inference.export import export_model, with_8_bit_weights
from asrkit.inference.from_export import load_exported
from asrkit.io.seal import seal, unsealed
from asrkit.lm.ngram import NgramLM, ngram_of, parse_arpa, train_ngram
from asrkit.models.config import ModelConfig
from tests.language_models import random_network
from tests.unit.inference.test_export import CELLS, TOKENS, make_experiment

SIZES = {"num_layers": 2, "hidden_size": 6, "conv_channels": 2, "tdnn_size": 6}


def written(experiment: Experiment, tmp_path, is_8_bit: bool = False):
    path = tmp_path / "model.onnx"
    path.write_bytes(export_model(experiment, is_8_bit=is_8_bit))
    return path


def assert_same_weights(ours: Experiment, theirs: Experiment) -> None:
    ours, theirs = ours.model.state_dict(), theirs.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(
    ("cell", "bidirectional", "frontend", "is_8_bit"),
    [
        *(
            (cell, bidirectional, "none", False)
            for cell in sorted(CELLS.keys() - {"projected"})
            for bidirectional in (True, False)
        ),
        *(("lstm", True, frontend, is_8_bit) for frontend in ("conv2d", "tdnn") for is_8_bit in (True, False)),
        ("gru", False, "none", True),
    ],
)
def test_every_weight_comes_back(cell: str, bidirectional: bool, frontend: str, is_8_bit: bool, tmp_path) -> None:
    shape = {"cell": cell, "bidirectional": bidirectional, "frontend": frontend, "head": "both", **CELLS[cell]}
    shape |= {"init_range": 0.1} if cell.endswith("relu") else {}  # or its sums grow without end
    experiment = make_experiment(ModelConfig(**shape, **SIZES, self_conditioning=True))
    found = load_exported(written(experiment, tmp_path, is_8_bit))
    assert_same_weights(found, with_8_bit_weights(experiment) if is_8_bit else experiment)
    assert found.config == experiment.config and found.tokens == TOKENS
    np.testing.assert_array_equal(found.global_cmvn, experiment.global_cmvn)
    assert not found.model.training


@pytest.mark.filterwarnings("error:invalid value:RuntimeWarning")
@pytest.mark.parametrize("encoder", ["transformer", "conformer"])
def test_every_weight_of_attention_comes_back(encoder: str, tmp_path) -> None:
    """Also beside constants that are infinite, and without a warning of them."""
    experiment = make_experiment(ModelConfig(encoder=encoder, num_layers=2, hidden_size=16))
    assert_same_weights(load_exported(written(experiment, tmp_path)), experiment)


def test_a_cell_whose_weights_are_added_up_is_refused(tmp_path) -> None:
    path = written(make_experiment(ModelConfig(cell="lstm", projection_size=3, **SIZES)), tmp_path)
    with pytest.raises(ModelError, match=r"its network cannot be trained further; give the experiment directory"):
        load_exported(path)


@pytest.mark.parametrize("cmvn", ["global", "speech_utterance", "speech_running", "none"])
def test_settings_of_features_change_nothing(cmvn: str, tmp_path) -> None:
    experiment = make_experiment(ModelConfig(**SIZES, bidirectional=False), FeatureConfig(cmvn=cmvn))
    assert_same_weights(load_exported(written(experiment, tmp_path)), experiment)


def test_a_graph_that_computes_something_else_is_refused(tmp_path) -> None:
    """One more ReLU, say; here a graph of another cell with constants of the same shapes."""
    ours = make_experiment(ModelConfig(**SIZES, cell="elman"))
    path = written(ours, tmp_path)
    content = unsealed(path.read_bytes()).replace(b"Tanh", b"Relu")
    path.write_bytes(seal(content))
    with pytest.raises(ModelError, match=r"^\S+model\.onnx: its network cannot be trained further"):
        load_exported(path)


SENTENCES = [s.split() for s in ["a # a", "a ʃ a ʃ sil", "# a", "sil", "a a a ʃ", "ʃ # ʃ # a sil a"] * 3]


@pytest.mark.parametrize("smoothing", ["kneser_ney", "laplace"])
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_language_models_come_back(order: int, smoothing: str, tmp_path) -> None:
    lm = train_ngram(SENTENCES, order, TOKENS.phones, smoothing)
    experiment = replace(make_experiment(ModelConfig(**SIZES)), lm=lm)
    found = load_exported(written(experiment, tmp_path)).lm
    assert found is not None and found.order == order
    assert_same_model(found, lm)


def test_a_neural_language_model_comes_back(tmp_path) -> None:
    lm = random_network("gru", TOKENS.phones)
    experiment = replace(make_experiment(ModelConfig(**SIZES)), lm=lm)
    found = load_exported(written(experiment, tmp_path)).lm
    assert found is not None and found.phones == lm.phones
    assert found.token_log_probs(SENTENCES)[0].tolist() == lm.token_log_probs(SENTENCES)[0].tolist()


PRUNED = """\\data\\
ngram 1=6
ngram 2=4
ngram 3=2

\\1-grams:
-99 <s> -0.3
-0.9 </s>
-0.5 a -0.2
-0.7 ʃ
-1.0 # -0.1
-1.2 sil

\\2-grams:
-0.4 <s> a -0.25
-0.3 a ʃ
-0.6 # a -0.5
-0.2 a </s>

\\3-grams:
-0.1 <s> a ʃ
-0.15 # a </s>

\\end\\
"""


def test_pruned_language_models_come_back() -> None:
    """Contexts that are missing, and some that list nothing but have a price."""
    lm = parse_arpa(PRUNED, TOKENS.phones, "pruned")
    assert_same_model(ngram_of(lm.automaton, TOKENS.phones), lm)


def assert_same_model(found: NgramLM, lm: NgramLM) -> None:
    """By every probability in every context of up to four symbols, </s> too, and by the arrays."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        context = ["<s>", *rng.choice(TOKENS.phones, rng.integers(5))][rng.integers(2) :]
        for word in (*TOKENS.phones, "</s>"):
            assert found.log_prob(word, context) == pytest.approx(lm.log_prob(word, context), abs=1e-12)
    ours, theirs = found.automaton, lm.automaton
    assert len(ours.end) == len(theirs.end) and len(ours.tokens) == len(theirs.tokens)
    assert sorted(ours.tokens) == sorted(theirs.tokens)
