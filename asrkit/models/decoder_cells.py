"""The recurrent cells of decoders: torch's own, with one interface.

Legend: B rows, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class LstmCell(nn.LSTMCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000)."""

    num_states = 2  # hidden and cell state

    def advance(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Inputs (B, D) and states (B, H) to the next states; the first is the output."""
        hidden, cell = self(inputs, (states[0], states[1]))
        return hidden, cell


class GruCell(nn.GRUCell):
    """Gated recurrent unit (Cho et al. 2014)."""

    num_states = 1

    def advance(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As LstmCell's."""
        return (self(inputs, states[0]),)


class ElmanCell(nn.RNNCell):
    """The simple recurrent cell (Elman 1990)."""

    num_states = 1

    def advance(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """As LstmCell's."""
        return (self(inputs, states[0]),)
