"""Settings of the acoustic model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from asrkit.errors import ConfigError, raise_if_any
from asrkit.models.cells import CELLS, CellName
from asrkit.models.choice import names_with
from asrkit.models.frontends import FrontEndName
from asrkit.models.heads import HEADS, HeadName, Heads
from asrkit.models.inits import INITS, InitName

# Far above what anyone trains; beyond them the weights or a step's input fit no memory.
_MAX_SIZES = {"num_layers": 100, "hidden_size": 8192, "stack": 100, "conv_channels": 1024, "tdnn_size": 8192}


@dataclass(frozen=True)
class ModelConfig:
    """Shape of the acoustic model: front end, recurrent layers, heads."""

    cell: CellName = "lstm"
    bidirectional: bool = True
    num_layers: int = 3
    hidden_size: int = 128  # memory blocks, or hidden units, a direction
    projection_size: int | None = None  # LSTM only: a linear projection of the hidden state, fed back and on
    nonlinearity: Literal["tanh", "relu"] = "tanh"  # Elman and Jordan only
    residual: bool = False  # add a layer's input to its output where the two have one size
    dropout: float = 0.3  # after every layer, so also before the output
    layer_norm: bool = True
    frontend: FrontEndName = "none"  # layers over frames, before stacking
    conv_channels: int = 32  # conv2d only
    tdnn_size: int = 256  # tdnn only
    stack: int = 3  # frames joined into one step
    skip: int = 3  # frames from one step to the next
    init: InitName = "uniform"
    init_range: float | None = None  # uniform only: half its width, for every weight; none: 1/sqrt(hidden_size)
    self_conditioning: bool = False  # what CTC finds after a layer is told to the next, and trained there too
    head: HeadName = "ctc"  # outputs: CTC, a phone for every step, or one of each

    def __post_init__(self) -> None:
        sizes = ["num_layers", "hidden_size", "stack", "skip", "conv_channels", "tdnn_size"]
        faults = [
            f"model.{name} must be at least 1, found {value}" for name in sizes if (value := getattr(self, name)) < 1
        ]
        faults += [
            f"model.{name} must be at most {limit}, found {value}"
            for name, limit in _MAX_SIZES.items()
            if (value := getattr(self, name)) > limit
        ]
        if not 0 <= self.dropout < 1:
            faults.append(f"model.dropout must be in [0, 1), found {self.dropout}")
        if self.skip > self.stack >= 1:
            faults.append(f"model.skip ({self.skip}) above stack ({self.stack}) would leave frames unread; raise stack")
        if self.projection_size is not None:
            if self.cell not in (takers := names_with(CELLS, "projection_size")):
                names = " and ".join(takers)
                faults.append(f"model.projection_size is for cell {names}, found cell {self.cell}; leave it out")
            if not 1 <= self.projection_size < self.hidden_size:
                faults.append(
                    f"model.projection_size must be at least 1 and below hidden_size ({self.hidden_size}), "
                    f"found {self.projection_size}"
                )
        is_default = self.nonlinearity == ModelConfig.nonlinearity
        if not is_default and self.cell not in (takers := names_with(CELLS, "nonlinearity")):
            names = " and ".join(takers)
            faults.append(f"model.nonlinearity {self.nonlinearity} is for cells {names}, found cell {self.cell}")
        if self.self_conditioning and not self.heads.has_ctc:
            faults.append(f"model.self_conditioning is for heads ctc and both, found head {self.head}; leave it out")
        if self.init_range is not None:
            if self.init not in (takers := names_with(INITS, "init_range")):
                names = " and ".join(takers)
                faults.append(f"model.init_range is for init {names}, found init {self.init}; leave one out")
            if self.init_range <= 0:
                faults.append(f"model.init_range must be above 0, found {self.init_range}")
        raise_if_any(faults, ConfigError)

    @property
    def heads(self) -> Heads:
        """The heads that `head` stands for."""
        return HEADS[self.head]
