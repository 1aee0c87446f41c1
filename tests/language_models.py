"""Neural language models with weights drawn at random, for tests."""

import torch

from asrkit.models.language import LanguageModel
from asrkit.models.language_config import LanguageConfig
from asrkit.models.search_language import NeuralLm

SHAPES = {
    "elman": LanguageConfig("elman", hidden_size=3, embedding_size=2),
    "gru": LanguageConfig("gru", num_layers=2, hidden_size=6, embedding_size=4),
    "lstm": LanguageConfig("lstm", num_layers=2, hidden_size=6, embedding_size=4),
    "transformer": LanguageConfig("transformer", num_layers=2, hidden_size=8, embedding_size=4, num_heads=2),
}


def random_network(network="lstm", phones=("a", "b"), seed=2):
    """A model over `phones`, in float64."""
    torch.manual_seed(seed)
    model = LanguageModel(SHAPES[network], len(phones) + 1).double()
    for weights in model.parameters():
        torch.nn.init.normal_(weights)
    weights = {name: values.detach().numpy() for name, values in model.state_dict().items()}
    return NeuralLm(SHAPES[network], phones, weights)
