"""A trained transducer in NumPy for searches. It computes the same as transducer.py, without torch.

Legend: B hypotheses, E outputs of the encoder, V classes, L layers, S states of a cell, H hidden units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from asrkit.models.decoder_config import SEARCH_CELLS, DecoderConfig, DecoderKind
from asrkit.models.search_weights import Weights


class SearchTransducer:
    """transducer.Transducer for searches.

    Attributes:
        step_size: E.
        num_classes: V.
        has_ctc: whether the network has CTC, too.
        dtype: of its numbers.
        hear: a linear map of the encoder's outputs, (..., E) -> (..., H), for `log_probs`.
    """

    kind: ClassVar[DecoderKind] = "transducer"

    def __init__(
        self, config: DecoderConfig, weights: Mapping[str, np.ndarray], step_size: int, num_classes: int, has_ctc: bool
    ) -> None:
        """Take the weights of a transducer, in PyTorch's shapes, such as (V, H) for "output.weight".

        Args:
            config: settings of the decoder.
            weights: PyTorch's name -> array.
            step_size, num_classes: E and V.
            has_ctc: whether the network has CTC, too.

        Raises:
            ModelError: a weight is missing, unexpected, or of another shape.
        """
        self.step_size, self.num_classes, self.has_ctc = step_size, num_classes, has_ctc
        named, size, layers = Weights(weights), config.hidden_size, range(config.num_layers)
        cell_type = SEARCH_CELLS[config.cell].load()
        num_sums = cell_type.num_gates * size
        self._state_shape = config.num_layers, cell_type.num_states, size
        sizes = [config.embedding_size, *[size] * (config.num_layers - 1)]
        first, *self._inputs = [named.linear(f"cells.{i}", sizes[i], num_sums, suffix="_ih") for i in layers]
        self._cells = [cell_type(named.linear(f"cells.{i}", size, num_sums, suffix="_hh")) for i in layers]
        embedding = named.take("embedding.weight", num_classes, config.embedding_size)
        self._of_tokens = first(embedding)  # (V, gates H) the sums of each phone in the first layer
        self.hear = named.linear("of_steps", step_size, size)  # (..., E) -> (..., H)
        self._of_phones = named.linear("of_phones", size, size, bias=False)
        self._output = named.linear("output", size, num_classes)
        named.expect_all_taken()
        self.dtype = embedding.dtype

    def start(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The result of `say` before the first phone, for `number` hypotheses: (B, L, S, H) and (B, H)."""
        states = np.zeros((number, *self._state_shape), self.dtype)
        return self.say(np.zeros(number, np.int64), states)

    def say(self, tokens: np.ndarray, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Advance the prediction network by one phone.

        Args:
            tokens: (B,) the phones.
            states: (B, L, S, H) the states before them.

        Returns:
            The next states (B, L, S, H), and the input (B, H) of `log_probs`.
        """
        found, sums = np.empty_like(states), self._of_tokens[tokens]
        for layer, cell in enumerate(self._cells):
            if layer:
                sums = self._inputs[layer - 1](found[:, layer - 1, 0])
            found[:, layer] = cell(sums, states[:, layer])
        return found, self._of_phones(found[:, -1, 0])

    def log_probs(self, heard: np.ndarray, said: np.ndarray) -> np.ndarray:
        """Natural-log probabilities of the classes, (..., V) float64.

        `heard` and `said` are (..., H). Their shapes can differ if they broadcast.
        """
        logits = self._output(np.tanh(heard + said)).astype(np.float64)
        logits -= logits.max(axis=-1, keepdims=True)
        logits -= np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        return logits
