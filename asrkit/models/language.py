"""Neural language models (Bengio et al. 2003; Mikolov et al. 2010): the probabilities of the next token in a sentence.

Legend: N sentences, T tokens, V classes (class 0 begins and ends a sentence), E embedding size, H units, K heads.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from asrkit.models.cells import CELLS, CellName
from asrkit.models.cells.layer import RecurrentLayer, States
from asrkit.models.config import ModelConfig
from asrkit.models.embedding import Embedding
from asrkit.models.language_config import NETWORKS, LanguageConfig

LayerStates = list[States]  # the states of each layer, which go from one piece of the sentences to the next


class LanguageModel(nn.Module):
    """A language model: embeddings, a network, and log-softmax over all classes."""

    def __init__(self, config: LanguageConfig, num_classes: int):
        super().__init__()
        self.embedding = Embedding(num_classes, config.embedding_size)
        self.network = NETWORKS[config.network].load()(config)
        self.dropout = nn.Dropout(config.dropout)
        self.output = nn.Linear(config.hidden_size, num_classes)
        if config.tied:
            self.output.weight = self.embedding.weight

    def first_states(self, number: int) -> LayerStates:
        """The states before the first tokens of `number` sentences."""
        states: LayerStates = self.network.first_states(self.embedding.weight.new_zeros(number, 1, 1))
        return states

    def forward(self, tokens: Tensor, states: LayerStates) -> tuple[Tensor, LayerStates]:
        """Compute the probabilities of the next tokens. Gradients do not go back beyond `states`.

        Args:
            tokens: (N, T) the next piece of each sentence.
            states: the states before the piece.

        Returns:
            Natural-log probabilities (N, T, V) of the class after each token, and the states after the piece.
        """
        hidden, after = self.network(self.dropout(self.embedding(tokens)), states)
        log_probs = torch.log_softmax(self.output(hidden), dim=2)
        return log_probs, [tuple(state.detach() for state in layer) for layer in after]


class RecurrentNetwork(nn.Module):
    """Recurrent layers (N, T, E) -> (N, T, H), each followed by dropout."""

    cell: ClassVar[CellName]

    def __init__(self, config: LanguageConfig):
        super().__init__()
        shape = ModelConfig(cell=self.cell, bidirectional=False, hidden_size=config.hidden_size)
        sizes = [config.embedding_size, *[config.hidden_size] * (config.num_layers - 1)]
        self.layers = nn.ModuleList(CELLS[self.cell].load()(size, shape) for size in sizes)
        self.dropout = nn.Dropout(config.dropout)

    def first_states(self, inputs: Tensor) -> LayerStates:
        """The states before the first token of each sentence. `inputs` (N, 1, 1) gives their number and dtype."""
        return [layer.first_states(inputs) for layer in self.layers if isinstance(layer, RecurrentLayer)]

    def forward(self, inputs: Tensor, states: LayerStates) -> tuple[Tensor, LayerStates]:
        """Run the layers on `inputs` (N, T, E). Returns outputs (N, T, H) and the states after them."""
        after = []
        layers = (layer for layer in self.layers if isinstance(layer, RecurrentLayer))
        for layer, before in zip(layers, states, strict=True):
            (outputs,), left = layer.advance([inputs], before)
            inputs = self.dropout(outputs)
            after.append(left)
        return inputs, after


class ElmanNetwork(RecurrentNetwork):
    """A network of simple recurrent layers (Elman 1990), as in Mikolov et al. 2010."""

    cell = "elman"


class GruNetwork(RecurrentNetwork):
    """A network of gated recurrent units (Cho et al. 2014)."""

    cell = "gru"


class LstmNetwork(RecurrentNetwork):
    """A network of LSTM layers, as in Sundermeyer et al. 2012."""

    cell = "lstm"


class TransformerNetwork(nn.Module):
    """A linear layer to H units, causal layers of attention, and layer normalisation: (N, T, E) -> (N, T, H).

    A layer's states are the keys and values of all tokens so far (Dai et al. 2019).
    """

    def __init__(self, config: LanguageConfig):
        super().__init__()
        self.input = nn.Linear(config.embedding_size, config.hidden_size)
        self.layers = nn.ModuleList(CausalLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)

    def first_states(self, inputs: Tensor) -> LayerStates:
        """The states before the first token of each sentence. `inputs` (N, 1, 1) gives their number and dtype."""
        return [layer.first_states(inputs) for layer in self.layers if isinstance(layer, CausalLayer)]

    def forward(self, inputs: Tensor, states: LayerStates) -> tuple[Tensor, LayerStates]:
        """Run the layers on `inputs` (N, T, E). Returns outputs (N, T, H) and the states after them."""
        inputs, after = self.input(inputs), []
        for layer, before in zip(self.layers, states, strict=True):
            inputs, left = layer(inputs, before)
            after.append(left)
        return self.norm(inputs), after


class CausalLayer(nn.Module):
    """x = x + attention(norm(x)), then x = x + W_2 relu(W_1 norm(x)), with dropout after each part.

    Attention of K heads: y_i = W sum_j a_ij v_j over j <= i, a_ij = softmax over j of (q_i . k_j / sqrt(H / K)
    - s (i - j)), with s from 2^(-8/K) to 2^-8 by head (Press et al. 2022).
    """

    def __init__(self, config: LanguageConfig):
        super().__init__()
        size, self.num_heads = config.hidden_size, config.num_heads
        self.attention_norm, self.norm = nn.LayerNorm(size), nn.LayerNorm(size)
        self.query_key_value, self.attended = nn.Linear(size, 3 * size), nn.Linear(size, size)
        self.inner = nn.Linear(size, config.feed_forward_size)
        self.outer = nn.Linear(config.feed_forward_size, size)
        self.dropout = nn.Dropout(config.dropout)

    def first_states(self, inputs: Tensor) -> States:
        """Keys and values of no token, (N, K, 0, H / K) each. `inputs` (N, 1, 1) gives their number and dtype."""
        none = inputs.new_zeros(len(inputs), self.num_heads, 0, self.attended.in_features // self.num_heads)
        return none, none

    def forward(self, steps: Tensor, states: States) -> tuple[Tensor, States]:
        """Run the layer on `steps` (N, T, H).

        Returns its outputs (N, T, H) and the keys and values of all tokens so far.
        """
        parts = self.query_key_value(self.attention_norm(steps)).unflatten(2, (3, self.num_heads, -1))
        query, *new = parts.permute(2, 0, 3, 1, 4)  # (N, K, T, H / K) each
        keys, values = (torch.cat(pair, dim=2) for pair in zip(states, new, strict=True))
        bias = self._bias(query, keys.shape[2])
        found = functional.scaled_dot_product_attention(query, keys, values, attn_mask=bias)
        steps = steps + self.dropout(self.attended(found.transpose(1, 2).flatten(2)))
        inner = self.dropout(torch.relu(self.inner(self.norm(steps))))
        return steps + self.dropout(self.outer(inner)), (keys, values)

    def _bias(self, query: Tensor, num_keys: int) -> Tensor:
        """The bias by distance, (K, T, keys). The last key belongs to the last query."""
        keys, queries = torch.arange(num_keys, device=query.device), query.shape[2]
        ages = keys[num_keys - queries :, None] - keys
        heads = torch.arange(1, self.num_heads + 1, dtype=query.dtype, device=query.device)
        slopes = 2.0 ** (-8.0 / self.num_heads * heads)
        bias: Tensor = -slopes[:, None, None] * ages
        return bias.masked_fill(ages < 0, -torch.inf)
