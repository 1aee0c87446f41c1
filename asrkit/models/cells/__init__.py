"""The recurrent cells by their names in `model.cell`, one module for each. This table loads no torch.

A new cell needs a module with a subclass of `TorchLayer` or `SteppedLayer`, and a row in CELLS.
"""

from __future__ import annotations

from typing import Literal

from asrkit.models.choice import Choice

CellName = Literal["lstm", "peephole_lstm", "gru", "elman", "jordan"]

# Each is a RecurrentLayer, made from the size of its inputs and ModelConfig.
CELLS: dict[CellName, Choice] = {
    "lstm": Choice("asrkit.models.cells.lstm", "LstmLayer", settings=["projection_size"]),
    "peephole_lstm": Choice("asrkit.models.cells.peephole_lstm", "PeepholeLstmLayer"),
    "gru": Choice("asrkit.models.cells.gru", "GruLayer"),
    "elman": Choice("asrkit.models.cells.elman", "ElmanLayer", settings=["nonlinearity"]),
    "jordan": Choice("asrkit.models.cells.jordan", "JordanLayer", settings=["nonlinearity"]),
}
