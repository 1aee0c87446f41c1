"""The recurrent attention decoder. It writes the phones of an utterance one after another.

    x_u = [embedding of phone u - 1; a_{u-1}]        a: attentional vector; input feeding of Luong et al. 2015
    q_u = cell(x_u, q_{u-1})                          LSTM or GRU, any number of layers
    c_u = context(q_u)                                attention.py
    a_u = tanh(W [c_u; q_u] + b)
    P(phone u | phones before, audio) = softmax(V a_u + d)

Class 0, CTC's blank, stands for both ends of an utterance (END): it is the phone before the first and after the last.
The first state is tanh of a linear map of the encoder's outputs at the last and the first step.

Legend: N utterances, K hypotheses per utterance (1 in training), T steps, U phones, V classes, L layers, S state size,
H heads, E size of the encoder's outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from asrkit.models.attention import Context, edge_steps, valid_steps
from asrkit.models.attention_scores import Source
from asrkit.models.decoder_config import CONTEXTS, DECODER_CELLS, END, DecoderConfig, DecoderKind
from asrkit.models.dropout import Dropout, uniform_like
from asrkit.models.embedding import Embedding
from asrkit.models.search_decoder import RecurrentSearchDecoder, SearchDecoder

ENTROPY_WEIGHT = 0.01  # hard attention: rewards weights of high entropy, so that other steps are drawn, too


class DecoderState(NamedTuple):
    """The decoder's state of each hypothesis.

    Attributes:
        cells: (N, K, L, states of the cell, S). The first state of the last layer is the query.
        fed: (N, K, S) the last attentional vector.
        weights: (N, K, H, T) the last attention weights.
    """

    cells: Tensor
    fed: Tensor
    weights: Tensor


class Step(NamedTuple):
    """The output of one step of the decoder.

    Attributes:
        vector: (N, K, S) the attentional vector.
        query: (N, K, S).
        context: what the query saw.
        state: the next state.
    """

    vector: Tensor
    query: Tensor
    context: Context
    state: DecoderState


@dataclass(frozen=True)
class DecoderTraining:
    """The settings for training a decoder.

    Attributes:
        weight: of the decoder's loss beside CTC's, from 0 to 1 (Watanabe et al. 2017).
        label_smoothing: share of the target that is spread evenly over all classes (Szegedy et al. 2016).
        sampling: probability with which a step sees a phone drawn from the decoder's own last output instead of the
            right phone (scheduled sampling, Bengio et al. 2015).
    """

    weight: float = 0.0
    label_smoothing: float = 0.0
    sampling: float = 0.0


NO_DECODER = DecoderTraining()


class Targets(NamedTuple):
    """The inputs and targets of a decoder in training.

    Attributes:
        before: (N, U + 1) END and the phones.
        after: (N, U + 1) the next class after each: the phones and END.
        inside: (N, U + 1) False in padding.
    """

    before: Tensor
    after: Tensor
    inside: Tensor

    @classmethod
    def of(cls, tokens: Tensor, token_lens: Tensor) -> Targets:
        """The targets for phones `tokens` (N, U) with lengths `token_lens` (N,). Padding can hold anything."""
        places, token_lens = torch.arange(int(token_lens.max()) + 1, device=tokens.device), token_lens.to(tokens.device)
        inside = places <= token_lens[:, None]
        tokens = tokens[:, : len(places) - 1].where(inside[:, 1:], END)
        before, after = (nn.functional.pad(tokens, ends, value=END) for ends in ((1, 0), (0, 1)))
        return cls(before, after, inside)


def losses_of_targets(logits: Tensor, targets: Targets, label_smoothing: float) -> Tensor:
    """Cross entropies (N, U + 1) of `logits` (N, U + 1, V), in nats; 0 in padding."""
    losses = nn.functional.cross_entropy(
        logits.transpose(1, 2), targets.after, reduction="none", label_smoothing=label_smoothing
    )
    return losses.where(targets.inside, 0.0)


def draw_classes(log_probs: Tensor) -> Tensor:
    """Draw a class from each row of natural-log probabilities `log_probs` (N, K, V), by Gumbel's trick: (N, K)."""
    tiny = torch.finfo(log_probs.dtype).tiny
    return (log_probs - uniform_like(log_probs).clamp(min=tiny).log().neg().clamp(min=tiny).log()).argmax(dim=2)


class AttentionDecoder(nn.Module):
    """The decoder. A result does not depend on padding or on other utterances of the batch."""

    kind: ClassVar[DecoderKind] = "attention"

    def __init__(self, config: DecoderConfig, step_size: int, num_classes: int, has_ctc: bool = False):
        """An untrained decoder.

        Args:
            config: settings.
            step_size, num_classes: E and V.
            has_ctc: whether the network also has CTC.

        Raises:
            ConfigError: the score cannot have the given sizes.
        """
        super().__init__()
        self.step_size, self.num_classes, self.has_ctc = step_size, num_classes, has_ctc
        size = config.hidden_size
        cell_type = DECODER_CELLS[config.cell].load()
        self.config, self.num_states = config, cell_type.num_states
        self.embedding = Embedding(num_classes, config.embedding_size)
        fed_size = size if config.input_feeding else 0
        sizes = [config.embedding_size + fed_size, *[size] * (config.num_layers - 1)]
        self.cells = nn.ModuleList([cell_type(input_size, size) for input_size in sizes])
        self.bridge = nn.Linear(2 * step_size, config.num_layers * self.num_states * size)
        self.context = CONTEXTS[config.context].load()(size, step_size, config)
        self.combine = nn.Linear(self.context.context_size + size, size)
        self.output = nn.Linear(size, num_classes)
        self.baseline = nn.Linear(size, 1) if self.context.draws else None
        self.dropout = Dropout(config.dropout)

    def source(self, steps: Tensor, lens: Tensor) -> Source:
        """Prepare the encoder's outputs `steps` (N, T, E), with lengths `lens` (N,), for attention."""
        padding = ~valid_steps(steps, lens)
        source: Source = self.context.source(steps.masked_fill(padding[:, :, None], 0.0), lens)  # 0 * NaN is NaN
        return source

    def start(self, source: Source, num_hypotheses: int = 1) -> DecoderState:
        """The state before the first phone."""
        size = self.config.hidden_size
        cells = torch.tanh(self.bridge(edge_steps(source.steps, source.lens)))
        cells = cells.view(-1, 1, self.config.num_layers, self.num_states, size).expand(-1, num_hypotheses, -1, -1, -1)
        fed = cells.new_zeros(len(cells), num_hypotheses, size)
        return DecoderState(cells, fed, self.context.first_weights(source, num_hypotheses))

    def step(self, tokens: Tensor, state: DecoderState, source: Source) -> Step:
        """Compute one step. `tokens` (N, K) are the previous phones; END at the beginning."""
        shape = tokens.shape
        inputs = self.dropout(self.embedding(tokens))
        if self.config.input_feeding:
            inputs = torch.cat([inputs, state.fed], dim=2)
        inputs, states = inputs.flatten(0, 1), []
        for layer, cell in enumerate(self.cells):
            states.append(torch.stack(_advance(cell, inputs, state.cells[:, :, layer].flatten(0, 1)), dim=1))
            inputs = states[-1][:, 0]
        query = inputs.unflatten(0, shape)
        context: Context = self.context(query, source, state.weights)
        vector = self.dropout(torch.tanh(self.combine(torch.cat([context.vector, query], dim=2))))
        cells = torch.stack(states, dim=1).unflatten(0, shape)
        return Step(vector, query, context, DecoderState(cells, vector, context.weights))

    def log_probs(self, vectors: Tensor) -> Tensor:
        """Natural-log probabilities (..., V) of the next phone or END, from attentional `vectors` (..., S)."""
        return torch.log_softmax(self.output(vectors), dim=-1)

    def forward(self, source: Source, tokens: Tensor) -> Tensor:
        """Natural-log probabilities (N, U + 1, V) at each of the phones `tokens` (N, U) and at the end.

        Each is conditional on the phones before it.
        """
        return self.log_probs(torch.cat([step.vector for step in self.read(source, tokens)], dim=1))

    def read(self, source: Source, tokens: Tensor, sampling: float = 0.0) -> list[Step]:
        """The U + 1 steps that write `tokens` (N, U) and the end. `sampling`: see DecoderTraining."""
        state, before, steps = self.start(source), tokens.new_full((len(tokens), 1), END), []
        for u in range(tokens.shape[1] + 1):
            steps.append(self.step(before, state, source))
            state, before = steps[-1].state, tokens[:, u : u + 1]
            if sampling and u < tokens.shape[1]:
                own = draw_classes(self.log_probs(steps[-1].vector).detach())
                before = torch.where(uniform_like(state.fed[:, :, 0]) < sampling, own, before)
        return steps

    def for_search(self) -> SearchDecoder:
        """The decoder for searches, with the present weights."""
        weights = {name: values.detach().cpu().numpy() for name, values in self.named_parameters()}
        return RecurrentSearchDecoder(self.config, weights, self.step_size, self.num_classes, self.has_ctc)

    def losses(self, source: Source, tokens: Tensor, token_lens: Tensor, training: DecoderTraining) -> Tensor:
        """-log P(tokens, end | audio) of each utterance (N,), in nats, with label smoothing.

        With hard attention the gradients are those of REINFORCE (Williams 1992) with a learned baseline. The loss is
        that of the drawn steps.

        Args:
            source: result of the method `source`.
            tokens: (N, U) phones; padding can hold anything.
            token_lens: (N,).
            training: settings.
        """
        targets = Targets.of(tokens, token_lens)
        steps = self.read(source, targets.before[:, 1:], training.sampling)
        logits = self.output(torch.cat([step.vector for step in steps], dim=1))
        losses = losses_of_targets(logits, targets, training.label_smoothing)
        if self.baseline is not None and self.training:
            by_draws = self._reinforce(steps, losses.detach(), targets.inside)
            losses = losses + by_draws - by_draws.detach()
        return losses.sum(dim=1)

    def _reinforce(self, steps: list[Step], losses: Tensor, inside: Tensor) -> Tensor:
        """Terms (N, U + 1) whose gradients are those of REINFORCE, and of the baseline.

        A draw is responsible for the loss of its phone and of all later phones.
        """
        assert self.baseline is not None
        draws = [step.context.draw for step in steps]
        log_probs = torch.cat([draw.log_prob for draw in draws if draw is not None], dim=1)
        entropies = torch.cat([draw.entropy for draw in draws if draw is not None], dim=1)
        expected = self.baseline(torch.cat([step.query for step in steps], dim=1).detach())[:, :, 0]
        found = losses.flip(1).cumsum(1).flip(1)
        terms = (found - expected.detach()) * log_probs - ENTROPY_WEIGHT * entropies + (expected - found) ** 2 / 2
        return terms.where(inside, 0.0)


def _advance(cell: Any, inputs: Tensor, states: Tensor) -> tuple[Tensor, ...]:
    """The next states from `inputs` (B, D) and `states` (B, states of the cell, S)."""
    advanced: tuple[Tensor, ...] = cell.advance(inputs, states.unbind(1))
    return advanced
