"""The Transformer's decoder (Vaswani et al. 2017). Each part of a layer normalises its inputs (Xiong et al. 2020).

    x_u = embedding of phone u - 1 + p_{u-1}           p: sinusoids (positions.py)
    m_j = h_j + p_{j-1}                                 h: the encoder's outputs, which contain no positions
    in each layer:
        x_u = x_u + attention(norm(x_u); norm(x_1) ... norm(x_u))      masked: no later phone is seen
        x_u = x_u + attention(norm(x_u); m_1 ... m_T)
        x_u = x_u + W_2 relu(W_1 norm(x_u) + b_1) + b_2
    P(phone u | phones before, audio) = softmax(V norm(x_u) + d)

Class 0, CTC's blank, stands for both ends, as in decoder.py. In training the phones are known, so all places of an
utterance are computed at once. A search goes from phone to phone, and keeps the keys and values of the phones before
(search_transformer.py).

Legend: N utterances, T steps, E size of steps, U phones, V classes, S hidden size, H heads, L places of a sequence.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from asrkit.errors import ConfigError
from asrkit.models.attention import valid_steps
from asrkit.models.decoder import DecoderTraining, Targets, draw_classes, losses_of_targets
from asrkit.models.decoder_config import END, DecoderConfig, DecoderKind
from asrkit.models.dropout import Dropout, uniform_like
from asrkit.models.embedding import Embedding
from asrkit.models.positions import sinusoids
from asrkit.models.search_decoder import SearchDecoder
from asrkit.models.search_transformer import TransformerSearchDecoder
from asrkit.models.transformer import FeedForward


class Memory(NamedTuple):
    """The encoder's outputs with their positions, to which a decoder attends. Padding has no influence.

    Attributes:
        steps: (N, T, E).
        valid: (N, T) False in padding.
    """

    steps: Tensor
    valid: Tensor


class TransformerDecoder(nn.Module):
    """The decoder. A result does not depend on padding or on other utterances of the batch."""

    kind: ClassVar[DecoderKind] = "attention"

    def __init__(self, config: DecoderConfig, step_size: int, num_classes: int, has_ctc: bool = False):
        """An untrained decoder.

        Args:
            config: settings.
            step_size, num_classes: E and V.
            has_ctc: whether the network also has CTC.

        Raises:
            ConfigError: hidden_size is no multiple of num_heads.
        """
        super().__init__()
        if config.hidden_size % config.num_heads:
            raise ConfigError(
                f"model.decoder.num_heads must divide hidden_size ({config.hidden_size}), found {config.num_heads}"
            )
        self.config, self.step_size, self.num_classes, self.has_ctc = config, step_size, num_classes, has_ctc
        self.embedding = Embedding(num_classes, config.hidden_size)
        self.layers = nn.ModuleList(TransformerDecoderLayer(config, step_size) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.hidden_size)
        self.output = nn.Linear(config.hidden_size, num_classes)
        self.dropout = Dropout(config.dropout)

    def source(self, steps: Tensor, lens: Tensor) -> Memory:
        """Prepare the encoder's outputs `steps` (N, T, E), with lengths `lens` (N,), for attention."""
        valid = valid_steps(steps, lens)
        return Memory(with_positions(steps.masked_fill(~valid[:, :, None], 0.0)), valid)  # 0 * NaN is NaN

    def forward(self, source: Memory, tokens: Tensor) -> Tensor:
        """Natural-log probabilities (N, U + 1, V) at each of the phones `tokens` (N, U) and at the end.

        Each is conditional on the phones before it.
        """
        return torch.log_softmax(self.logits(source, nn.functional.pad(tokens, (1, 0), value=END)), dim=2)

    def logits(self, source: Memory, before: Tensor) -> Tensor:
        """Scores (N, L, V) of the class after each of `before` (N, L): END and the first phones of an utterance."""
        states = self.dropout(with_positions(self.embedding(before)))
        for layer in self.layers:
            states = layer(states, source)
        logits: Tensor = self.output(self.norm(states))
        return logits

    def losses(self, source: Memory, tokens: Tensor, token_lens: Tensor, training: DecoderTraining) -> Tensor:
        """-log P(tokens, end | audio) of each utterance (N,), in nats, with label smoothing.

        Scheduled sampling needs two passes (Mihaylova and Martins 2019). The first pass sees the right phones. Phones
        drawn from its outputs replace some of the right phones in the second pass.

        Args:
            source: result of the method `source`.
            tokens: (N, U) phones; padding can hold anything.
            token_lens: (N,).
            training: settings.
        """
        targets = Targets.of(tokens, token_lens)
        before = targets.before
        if training.sampling:
            with torch.no_grad():
                own = draw_classes(torch.log_softmax(self.logits(source, before), dim=2))[:, :-1]
            is_own = uniform_like(own.to(source.steps.dtype)) < training.sampling
            before = torch.cat([before[:, :1], torch.where(is_own, own, before[:, 1:])], dim=1)
        return losses_of_targets(self.logits(source, before), targets, training.label_smoothing).sum(dim=1)

    def for_search(self) -> SearchDecoder:
        """The decoder for searches, with the present weights."""
        weights = {name: values.detach().cpu().numpy() for name, values in self.named_parameters()}
        return TransformerSearchDecoder(self.config, weights, self.step_size, self.num_classes, self.has_ctc)


class TransformerDecoderLayer(nn.Module):
    """Masked self-attention, attention over the audio, and a feed-forward layer, with dropout after each part."""

    def __init__(self, config: DecoderConfig, step_size: int):
        super().__init__()
        size = config.hidden_size
        self.before_norm = nn.LayerNorm(size)
        self.before = HeadedAttention(size, size, config.num_heads)
        self.audio_norm = nn.LayerNorm(size)
        self.audio = HeadedAttention(size, step_size, config.num_heads)
        self.feed_forward = FeedForward(config, nn.ReLU())
        self.dropout = Dropout(config.dropout)

    def forward(self, states: Tensor, source: Memory) -> Tensor:
        """Compute the output (N, L, S) from `states` (N, L, S), one for each place of an utterance."""
        normed = self.before_norm(states)
        states = states + self.dropout(self.before(normed, normed))
        states = states + self.dropout(self.audio(self.audio_norm(states), source.steps, source.valid))
        return states + self.dropout(self.feed_forward(states))


class HeadedAttention(nn.Module):
    """Attention of H heads: y_i = W sum_j a_ij v_j, a_ij = softmax over j of q_i . k_j / sqrt(S / H).

    The queries q are a linear map of one sequence. The keys k and values v are linear maps of another, to which it
    attends. There is no dropout of attention weights, as in transformer.SelfAttention.
    """

    def __init__(self, size: int, source_size: int, num_heads: int):
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(source_size, 2 * size)
        self.output = nn.Linear(size, size)

    def forward(self, looking: Tensor, looked_at: Tensor, valid: Tensor | None = None) -> Tensor:
        """Attend from `looking` (N, L, S) to `looked_at` (N, T, source size): (N, L, S).

        Places where `valid` (N, T) is False are not seen. Without `valid`, place i sees the places up to i.
        """
        query = self.query(looking).unflatten(2, (self.num_heads, -1)).transpose(1, 2)  # (N, H, L, S / H)
        key, value = self.key_value(looked_at).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mask = None if valid is None else valid[:, None, None]
        attended = nn.functional.scaled_dot_product_attention(query, key, value, mask, is_causal=valid is None)
        mixed: Tensor = self.output(attended.transpose(1, 2).flatten(2))
        return mixed


def with_positions(vectors: Tensor) -> Tensor:
    """Add positions to `vectors` (N, L, size). The first vector of an utterance has place 0."""
    return vectors + torch.from_numpy(sinusoids(0, *vectors.shape[1:])).to(vectors)
