"""A trained attention decoder in NumPy for searches. It computes the same as decoder.py, without torch.

Only the order of some sums differs. Everything that does not depend on the hypothesis is computed once per utterance:
the decoder's linear maps of the steps, and the first layer's linear maps of the phones.

Legend: N utterances, K hypotheses per utterance, T steps, V classes, E size of steps, S state size, H heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from asrkit.models.config import ModelConfig
from asrkit.models.decoder_config import SEARCH_CELLS, SEARCH_CONTEXTS, SEARCH_DECODERS, DecoderConfig, DecoderKind
from asrkit.models.search_attention import Context, Source
from asrkit.models.search_weights import Linear, Weights, sigmoid

State = tuple[np.ndarray, ...]  # the state of hypotheses: arrays (N, K, ...)


class Step(NamedTuple):
    """The result of one step of the decoder.

    Attributes:
        log_probs: (N, K, V) float64 natural-log probabilities of the next phone or END.
        weights: (N, K, H, T) attention weights; 0 in padding.
        state: the next state.
    """

    log_probs: np.ndarray
    weights: np.ndarray
    state: State


class SearchDecoder(Protocol):
    """The interface of attention decoders for searches. For transducers see search_transducer.SearchTransducer.

    Attributes:
        step_size: E.
        num_classes: V.
        has_ctc: whether the network has CTC, too.
        dtype: of its numbers.
    """

    kind: ClassVar[DecoderKind]
    step_size: int
    num_classes: int
    has_ctc: bool
    dtype: np.dtype

    def source(self, steps: np.ndarray, lens: np.ndarray) -> Source:
        """Prepare the outputs of the encoder: `steps` (N, T, E), 0 in padding, with lengths `lens` (N,)."""

    def start(self, source: Source) -> State:
        """The state before the first phone, for one hypothesis per utterance."""

    def step(self, tokens: np.ndarray, state: State, source: Source) -> Step:
        """Compute one step. `tokens` (N, K) are the previous phones; END at the beginning."""


class Cell(Protocol):
    """A recurrent cell. Calling it gives the next states, (B, num_states, S).

    It takes the sums of the inputs, (B, num_gates S), which it can change, and the states (B, num_states, S).
    """

    num_gates: int
    num_states: int

    def __init__(self, recurrent: Linear) -> None: ...

    def __call__(self, sums: np.ndarray, states: np.ndarray) -> np.ndarray: ...


class SearchLstm:
    """nn.LSTMCell of torch: from `sums` (B, 4 S) and `states` (B, 2, S) to the next states."""

    num_gates, num_states = 4, 2

    def __init__(self, recurrent: Linear) -> None:
        self._recurrent = recurrent

    def __call__(self, sums: np.ndarray, states: np.ndarray) -> np.ndarray:
        size = states.shape[2]
        sums += self._recurrent(states[:, 0])
        gates = sigmoid(sums[:, : 2 * size])  # input, forget
        new = np.tanh(sums[:, 2 * size : 3 * size])
        next_states = np.empty_like(states)
        cell = next_states[:, 1] = gates[:, size:] * states[:, 1] + gates[:, :size] * new
        next_states[:, 0] = sigmoid(sums[:, 3 * size :]) * np.tanh(cell)
        return next_states


class SearchGru:
    """nn.GRUCell of torch: from `sums` (B, 3 S) and `states` (B, 1, S) to the next state."""

    num_gates, num_states = 3, 1

    def __init__(self, recurrent: Linear) -> None:
        self._recurrent = recurrent

    def __call__(self, sums: np.ndarray, states: np.ndarray) -> np.ndarray:
        size, hidden = states.shape[2], states[:, 0]
        fed = self._recurrent(hidden)
        gates = sigmoid(sums[:, : 2 * size] + fed[:, : 2 * size])  # reset, update
        new = np.tanh(sums[:, 2 * size :] + gates[:, :size] * fed[:, 2 * size :])
        next_hidden: np.ndarray = new + gates[:, size:] * (hidden - new)
        return next_hidden[:, None]


class SearchElman:
    """nn.RNNCell of torch: from `sums` (B, S) and `states` (B, 1, S) to the next state."""

    num_gates, num_states = 1, 1

    def __init__(self, recurrent: Linear) -> None:
        self._recurrent = recurrent

    def __call__(self, sums: np.ndarray, states: np.ndarray) -> np.ndarray:
        found: np.ndarray = np.tanh(self._recurrent(states[:, 0]) + sums)
        return found[:, None]


class RecurrentSearchDecoder:
    """decoder.AttentionDecoder as a SearchDecoder."""

    kind: ClassVar[DecoderKind] = "attention"

    def __init__(
        self, config: DecoderConfig, weights: Mapping[str, np.ndarray], step_size: int, num_classes: int, has_ctc: bool
    ) -> None:
        """Take the weights of a decoder, in PyTorch's shapes, such as (V, S) for "output.weight".

        Args:
            config: settings of the decoder.
            weights: PyTorch's name -> array.
            step_size, num_classes: E and V.
            has_ctc: whether the network has CTC, too.

        Raises:
            ModelError: a weight is missing, unexpected, or of another shape.
        """
        self.step_size, self.num_classes, self.has_ctc = step_size, num_classes, has_ctc
        size, embedding_size = config.hidden_size, config.embedding_size
        named = Weights(weights)
        cell_type: type[Cell] = SEARCH_CELLS[config.cell].load()
        num_sums = cell_type.num_gates * size
        embedding = named.take("embedding.weight", num_classes, embedding_size)
        fed_size = size if config.input_feeding else 0
        first = named.linear("cells.0", embedding_size + fed_size, num_sums, suffix="_ih")
        self._sums_of_tokens = embedding @ first.weight[:embedding_size] + first.bias  # (V, gates S)
        self._fed = Linear(np.ascontiguousarray(first.weight[embedding_size:])) if config.input_feeding else None
        others = range(1, config.num_layers)
        self._inputs = [named.linear(f"cells.{layer}", size, num_sums, suffix="_ih") for layer in others]
        recurrent = (named.linear(f"cells.{layer}", size, num_sums, suffix="_hh") for layer in range(config.num_layers))
        self._cells = [cell_type(each) for each in recurrent]
        self._state_shape = config.num_layers, cell_type.num_states, size
        self._bridge = named.linear("bridge", 2 * step_size, config.num_layers * cell_type.num_states * size)
        context_size = SEARCH_CONTEXTS[config.context].load().size_of(step_size)
        combine = named.linear("combine", context_size + size, size)
        of_context, of_query = np.split(combine.weight, [context_size])
        self._combine = Linear(np.ascontiguousarray(of_query), combine.bias)
        self._context: Context = SEARCH_CONTEXTS[config.context].load()(
            config, named.under("context"), size, step_size, of_context
        )
        self._output = named.linear("output", size, num_classes)
        named.expect_all_taken(besides=("baseline.weight", "baseline.bias"))
        self.dtype = embedding.dtype

    def source(self, steps: np.ndarray, lens: np.ndarray) -> Source:
        """Prepare the outputs of the encoder: `steps` (N, T, E), 0 in padding, with lengths `lens` (N,)."""
        return self._context.source(steps, lens)

    def start(self, source: Source) -> State:
        """The state before the first phone, for one hypothesis per utterance."""
        cells = np.tanh(self._bridge(source.edges))
        cells = cells.reshape(-1, 1, *self._state_shape)
        fed = () if self._fed is None else (np.zeros((len(cells), 1, self._state_shape[2]), cells.dtype),)
        return (cells, *self._context.first_state(source), *fed)

    def step(self, tokens: np.ndarray, state: State, source: Source) -> Step:
        """Compute one step. `tokens` (N, K) are the previous phones; END at the beginning."""
        shape, cells = tokens.shape, state[0].reshape(-1, *self._state_shape)
        sums = self._sums_of_tokens[tokens.ravel()]
        if self._fed is not None:
            sums += self._fed(state[-1].reshape(-1, self._state_shape[2]))
        next_cells = np.empty_like(cells)
        for layer, cell in enumerate(self._cells):
            if layer:
                sums = self._inputs[layer - 1](next_cells[:, layer - 1, 0])
            next_cells[:, layer] = cell(sums, cells[:, layer])
        query = next_cells[:, -1, 0].reshape(*shape, -1)
        seen, weights, context_state = self._context(query, state[1:], source)
        vector = np.tanh(self._combine(query) + seen)
        log_probs = log_softmax(self._output(vector).astype(np.float64))
        fed = () if self._fed is None else (vector,)
        next_state = (next_cells.reshape(*shape, *self._state_shape), *context_state, *fed)
        return Step(log_probs, weights, next_state)


def search_decoder(
    config: ModelConfig, weights: Mapping[str, np.ndarray], step_size: int, num_classes: int
) -> SearchDecoder:
    """Make the decoder of a model.

    Args:
        config: settings of the model.
        weights: PyTorch's name -> array, in PyTorch's shapes, such as (V, S) for "output.weight".
        step_size, num_classes: E and V.

    Raises:
        ModelError: the weights do not fit the settings.
    """
    heads = config.heads
    assert heads.decoder is not None, "callers have a model with a decoder"
    decoder: SearchDecoder = SEARCH_DECODERS[heads.decoder].load()(
        config.decoder, weights, step_size, num_classes, heads.has_ctc
    )
    return decoder


def log_softmax(values: np.ndarray) -> np.ndarray:
    """Log-softmax of `values` over the last axis; the shape stays."""
    values = values - values.max(axis=-1, keepdims=True)
    found: np.ndarray = values - np.log(np.exp(values).sum(axis=-1, keepdims=True))
    return found
