"""What a trained experiment keeps, and what is refused."""

import numpy as np
import pytest
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.errors import ModelError
from asrkit.experiment import load_experiment, make_model, save_experiment
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.training import checkpoint

TOKENS = TokenTable(["a", "b", "c"])


@pytest.fixture
def saved(tmp_path):
    config = ExperimentConfig(model=ModelConfig(num_layers=1, hidden_size=4, head="both"))
    model = make_model(config, TOKENS)
    save_experiment(tmp_path, config, TOKENS, model, np.ones((2, 14)))
    return tmp_path, config, model


def test_it_comes_back_as_it_was(saved):
    directory, config, model = saved
    found = load_experiment(directory)
    assert (found.config, found.tokens.phones, found.lm) == (config, TOKENS.phones, None)
    assert np.array_equal(found.global_cmvn, np.ones((2, 14)))
    assert not found.model.training
    weights = found.model.state_dict()
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


def test_one_of_an_earlier_format_is_to_be_trained_again(saved):
    path = saved[0] / "final.pt"
    content = checkpoint.load(path)
    checkpoint.save(path, content | {"format": 1})
    with pytest.raises(ModelError, match=r"final.pt: expected format 2, found 1; train again"):
        load_experiment(saved[0])


def test_weights_of_another_model_are_refused(saved):
    path = saved[0] / "final.pt"
    content = checkpoint.load(path)
    del content["model"]["output.bias"]
    checkpoint.save(path, content)
    with pytest.raises(ModelError, match="weights do not fit the model"):
        load_experiment(saved[0])
