"""The recurrent cells of decoders: those of torch, with one interface.

Legend: B rows, D input dim, H hidden units.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class LstmCell(nn.LSTMCell):
    """Long short-term memory (Hochreiter and Schmidhuber 1997; with forget gates, Gers et al. 2000)."""

    num_states = 2  # hidden and cell state

    def advance(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute one step.

        Args:
            inputs: (B, D).
            states: hidden and cell state, (B, H) each.

        Returns:
            The next states, (B, H) each. The first one is the output.
        """
        hidden, cell = self(inputs, (states[0], states[1]))
        return hidden, cell


class GruCell(nn.GRUCell):
    """Gated recurrent unit (Cho et al. 2014)."""

    num_states = 1

    def advance(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute one step from `inputs` (B, D) and `states`, one tensor (B, H).

        Returns the next state, which is the output.
        """
        return (self(inputs, states[0]),)


class ElmanCell(nn.RNNCell):
    """Simple recurrent cell (Elman 1990)."""

    num_states = 1

    def advance(self, inputs: Tensor, states: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Compute one step from `inputs` (B, D) and `states`, one tensor (B, H).

        Returns the next state, which is the output.
        """
        return (self(inputs, states[0]),)
