"""A trained Transformer decoder in NumPy for searches. It computes the same as transformer_decoder.py, without torch.

The keys and values of the encoder's outputs are computed once per utterance. The keys and values of the phones before
are the state of a hypothesis. So a step computes one new place of each hypothesis, and no place twice.

Legend: N utterances, K hypotheses per utterance, L layers, H heads, U phones before, T steps, E size of steps, V
classes, S hidden size, D = S / H.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from asrkit.models.decoder_config import DecoderConfig, DecoderKind
from asrkit.models.positions import sinusoids
from asrkit.models.search_attention import Source, softmax
from asrkit.models.search_decoder import State, Step, log_softmax
from asrkit.models.search_weights import LayerNorm, Weights, split_heads


class TransformerSearchDecoder:
    """transformer_decoder.TransformerDecoder as a SearchDecoder. Its attention weights are those of the last layer.

    The state has an array (N, K, 2, H, U, D) for each layer: keys and values of the phones before.
    """

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
        size, named = config.hidden_size, Weights(weights)
        self._embedding = named.take("embedding.weight", num_classes, size)
        self._layers = [_Layer(config, named.under(f"layers.{i}"), step_size) for i in range(config.num_layers)]
        self._norm = LayerNorm(named.under("norm"), size)
        self._output = named.linear("output", size, num_classes)
        named.expect_all_taken()
        self._kept_shape = 2, config.num_heads, 0, size // config.num_heads
        self.dtype = self._embedding.dtype

    def source(self, steps: np.ndarray, lens: np.ndarray) -> Source:
        """Prepare the outputs of the encoder: `steps` (N, T, E), 0 in padding, with lengths `lens` (N,).

        The result's `keys` are (N, L, H, D, T), its `values` (N, L, H, T, D).
        """
        positions = sinusoids(0, *steps.shape[1:]).astype(steps.dtype)
        keys, values = zip(*(layer.heard(steps + positions) for layer in self._layers), strict=True)
        mask = np.where(np.arange(steps.shape[1]) < lens[:, None], 0.0, -np.inf).astype(steps.dtype)
        return Source(lens, steps[:, 0, :0], mask, np.stack(values, axis=1), np.stack(keys, axis=1))

    def start(self, source: Source) -> State:
        """The state before the first phone, for one hypothesis per utterance: (N, 1, 2, H, 0, D) for each layer."""
        return (np.zeros((len(source.lens), 1, *self._kept_shape), self.dtype),) * len(self._layers)

    def step(self, tokens: np.ndarray, state: State, source: Source) -> Step:
        """Compute one step. `tokens` (N, K) are the previous phones; END at the beginning."""
        place, next_state = state[0].shape[4], []
        states = self._embedding[tokens] + sinusoids(place, 1, self._embedding.shape[1])[0].astype(self.dtype)
        for number, (layer, kept) in enumerate(zip(self._layers, state, strict=True)):
            states, kept = layer.look_back(states, kept)
            next_state.append(kept)
            states, weights = layer.listen(states, source.keys[:, number], source.values[:, number], source.mask)
            states = layer.think(states)
        log_probs = log_softmax(self._output(self._norm(states)).astype(np.float64))
        return Step(log_probs, weights, tuple(next_state))


class _Layer:
    """transformer_decoder.TransformerDecoderLayer for one new place of each hypothesis. The states are (N, K, S)."""

    def __init__(self, config: DecoderConfig, weights: Weights, step_size: int) -> None:
        size, self._num_heads = config.hidden_size, config.num_heads
        self._scale = 1 / math.sqrt(size // config.num_heads)
        before, audio, forward = (weights.under(name) for name in ("before", "audio", "feed_forward"))
        self._before_norm = LayerNorm(weights.under("before_norm"), size)
        self._before_query, self._before_output = (before.linear(name, size, size) for name in ("query", "output"))
        self._before_key_value = before.linear("key_value", size, 2 * size)
        self._audio_norm = LayerNorm(weights.under("audio_norm"), size)
        self._audio_query, self._audio_output = (audio.linear(name, size, size) for name in ("query", "output"))
        self._audio_key_value = audio.linear("key_value", step_size, 2 * size)
        self._forward_norm = LayerNorm(forward.under("norm"), size)
        self._inner = forward.linear("inner", size, config.feed_forward_size)
        self._outer = forward.linear("outer", config.feed_forward_size, size)

    def heard(self, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys (N, H, D, T) and values (N, H, T, D) of `steps` (N, T, E), which contain positions."""
        keys, values = np.split(self._audio_key_value(steps), 2, axis=2)
        return split_heads(keys, self._num_heads).transpose(0, 1, 3, 2), split_heads(values, self._num_heads)

    def look_back(self, states: np.ndarray, kept: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Attend to the phones before.

        `kept` (N, K, 2, H, U, D) holds their keys and values. Returns the new states, and `kept` with this phone added.
        """
        normed, shape = self._before_norm(states), (*states.shape[:2], self._num_heads, 1, -1)
        new = self._before_key_value(normed).reshape(*states.shape[:2], 2, self._num_heads, 1, -1)
        kept = np.concatenate([kept, new], axis=4)
        query = (self._before_query(normed) * self._scale).reshape(shape)
        weights = softmax(query @ kept[:, :, 0].swapaxes(3, 4))  # (N, K, H, 1, U + 1)
        return states + self._before_output((weights @ kept[:, :, 1]).reshape(states.shape)), kept

    def listen(
        self, states: np.ndarray, keys: np.ndarray, values: np.ndarray, mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Attend to the audio. Returns states and attention weights (N, K, H, T).

        `keys` and `values` are those of the method `heard`; `mask` (N, T) is 0, and -inf in padding.
        """
        query = split_heads(self._audio_query(self._audio_norm(states)) * self._scale, self._num_heads)
        weights = softmax(query @ keys + mask[:, None, None])  # (N, H, K, T)
        seen = (weights @ values).transpose(0, 2, 1, 3).reshape(states.shape)
        return states + self._audio_output(seen), weights.transpose(0, 2, 1, 3)

    def think(self, states: np.ndarray) -> np.ndarray:
        """The feed-forward layer."""
        inner = self._inner(self._forward_norm(states))
        found: np.ndarray = states + self._outer(np.maximum(inner, 0.0, out=inner))
        return found
