"""The transducer (Graves 2012, "Sequence transduction with recurrent neural networks"; Graves et al. 2013).

    g_u = cell(embedding of phone u, g_{u-1})              prediction network; phone 0 is class 0
    z_tu = tanh(W h_t + V g_u + b)                          joint network; h_t: the encoder's output at step t
    P(blank or next phone | step t, u phones) = softmax(A z_tu + c)

A blank moves to the next step; a phone stays at the step. transducer_lattice.py sums over all alignments.

Legend: N utterances, T steps, E outputs of the encoder, U phones, V classes, L layers, H hidden units.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from asrkit.models.decoder import DecoderTraining
from asrkit.models.decoder_config import DECODER_CELLS, DecoderConfig, DecoderKind
from asrkit.models.dropout import Dropout
from asrkit.models.embedding import Embedding
from asrkit.models.search_transducer import SearchTransducer
from asrkit.models.transducer_loss import transducer_loss


class Heard(NamedTuple):
    """The outputs of the encoder.

    Attributes:
        steps: (N, T, E); 0 in padding.
        lens: (N,) int64 numbers of steps.
    """

    steps: Tensor
    lens: Tensor


class Transducer(nn.Module):
    """Prediction network and joint network. Results do not depend on padding or on the rest of the batch."""

    kind: ClassVar[DecoderKind] = "transducer"

    def __init__(self, config: DecoderConfig, step_size: int, num_classes: int, has_ctc: bool = False):
        """An untrained transducer. `step_size` is E, and `has_ctc` says whether the network has CTC, too."""
        super().__init__()
        self.config, self.step_size, self.num_classes, self.has_ctc = config, step_size, num_classes, has_ctc
        size, cell_type = config.hidden_size, DECODER_CELLS[config.cell].load()
        self.num_states = cell_type.num_states
        self.embedding = Embedding(num_classes, config.embedding_size)
        sizes = [config.embedding_size, *[size] * (config.num_layers - 1)]
        self.cells = nn.ModuleList([cell_type(input_size, size) for input_size in sizes])
        self.of_steps = nn.Linear(step_size, size)
        self.of_phones = nn.Linear(size, size, bias=False)
        self.output = nn.Linear(size, num_classes)
        self.dropout = Dropout(config.dropout)

    def source(self, steps: Tensor, lens: Tensor) -> Heard:
        """Prepare the outputs of the encoder: `steps` (N, T, E) with lengths `lens` (N,)."""
        padding = torch.arange(steps.shape[1], device=lens.device) >= lens[:, None]
        return Heard(steps.masked_fill(padding[:, :, None], 0.0), lens)  # 0 * NaN is NaN

    def predict(self, tokens: Tensor) -> Tensor:
        """The outputs g_0 ...

        g_U of the prediction network, (N, U + 1, H), for `tokens` (N, U). Padding has no influence.
        """
        inputs = self.dropout(self.embedding(nn.functional.pad(tokens, (1, 0)))).unbind(1)
        for cell in self.cells:
            advance: Any = cell.advance
            state = [inputs[0].new_zeros(len(tokens), self.config.hidden_size)] * self.num_states
            outputs = []
            for each in inputs:
                state = advance(each, state)
                outputs.append(state[0])
            inputs = outputs
        return self.dropout(torch.stack(inputs, dim=1))

    def losses(self, source: Heard, tokens: Tensor, token_lens: Tensor, training: DecoderTraining) -> Tensor:
        """-log P(tokens | audio) of each utterance (N,), in nats, summed over all alignments.

        Args:
            source: from the method `source`.
            tokens: (N, U) phones; values in padding have no influence.
            token_lens: (N,) numbers of phones.
            training: ignored; its settings are for attention decoders.
        """
        places = torch.arange(tokens.shape[1], device=tokens.device)
        tokens = tokens.where(places < token_lens.to(tokens.device)[:, None], 0)
        heard, said = self.of_steps(source.steps), self.of_phones(self.predict(tokens))
        nodes = [
            (heard[n, :steps, None] + said[n, None, : phones + 1]).flatten(0, 1)
            for n, (steps, phones) in enumerate(zip(source.lens.tolist(), token_lens.tolist(), strict=True))
        ]
        return transducer_loss(self.output(torch.tanh(torch.cat(nodes))), source.lens, tokens, token_lens)

    def log_probs(self, steps: Tensor, tokens: Tensor) -> Tensor:
        """Natural-log probabilities at the nodes of one utterance, (T, U + 1, V).

        `steps` is (T, E) and `tokens` (U,).
        """
        nodes = self.of_steps(steps)[:, None] + self.of_phones(self.predict(tokens[None]))
        return torch.log_softmax(self.output(torch.tanh(nodes)), dim=2)

    def for_search(self) -> SearchTransducer:
        """The transducer for searches, with a copy of its weights."""
        weights = {name: values.detach().cpu().numpy() for name, values in self.named_parameters()}
        return SearchTransducer(self.config, weights, self.step_size, self.num_classes, self.has_ctc)
