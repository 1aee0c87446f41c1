"""Stacks of recurrent layers whose output for an utterance does not depend on what it is batched with.

Legend: N utterances, T frames, D input dim, H hidden units a direction.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from asrkit.models.config import ModelConfig
from asrkit.models.dropout import Dropout
from asrkit.models.jordan import JordanLayer
from asrkit.models.lstm_kernel import directions_of, is_available, lstm, pack, packing_of, unpack
from asrkit.models.peephole import PeepholeLayer
from asrkit.models.stepped import SteppedLayer, reversal_index, take_frames

# Said once a process, with nothing to be done about it: the result is right, only slower than without a projection.
warnings.filterwarnings("ignore", "LSTM with projections is not supported with oneDNN")

_KERNELS = {"LSTM": torch.lstm, "GRU": torch.gru, "RNN_TANH": torch.rnn_tanh, "RNN_RELU": torch.rnn_relu}


Feedback = Callable[[Tensor], Tensor]  # (..., output_size) -> the same shape, each frame by itself


class RecurrentLayer(nn.Module):
    """One Elman (1990), LSTM (Gers et al. 2000; with projection: Sak et al. 2014) or GRU (Cho et al. 2014) layer.

    (N, T, D) -> (N, T, output_size). `rnn` holds the weights of both directions under PyTorch's names and runs
    packed sequences in one call, as cuDNN wants it. On padded input each direction is one call of torch's kernel,
    and the backward direction runs forward over each utterance reversed by its own length. That keeps padding out
    of valid frames, which `nn.LSTM(bidirectional=True)` on padded input does not, and is many times faster on a CPU
    than packed sequences.
    """

    def __init__(self, rnn: nn.RNNBase):
        """`rnn`: of one layer."""
        super().__init__()
        self.rnn = rnn
        self.output_size = (rnn.proj_size or rnn.hidden_size) * (2 if rnn.bidirectional else 1)

    def forward(self, inputs: Tensor, reverse: Tensor) -> Tensor:
        """`inputs` (N, T, D); `reverse` (N, T) from reversal_index."""
        ahead = self._run(inputs, 0)
        if not self.rnn.bidirectional:
            return ahead
        back = self._run(take_frames(inputs, reverse), 1)
        return torch.cat([ahead, take_frames(back, reverse)], dim=2)

    def _run(self, inputs: Tensor, direction: int) -> Tensor:
        rnn = self.rnn
        state = inputs.new_zeros(1, len(inputs), rnn.proj_size or rnn.hidden_size)
        if rnn.mode == "LSTM":
            state = (state, inputs.new_zeros(1, len(inputs), rnn.hidden_size))
        # Biases, one layer, no dropout, one direction, batch first.
        return _KERNELS[rnn.mode](inputs, state, rnn.all_weights[direction], True, 1, 0.0, self.training, False, True)[
            0
        ]


def make_layer(input_size: int, config: ModelConfig) -> RecurrentLayer | SteppedLayer:
    """A layer of the configured cell over inputs of size D."""
    size, two_ways = config.hidden_size, config.bidirectional
    if config.cell == "jordan":
        return JordanLayer(input_size, size, two_ways, config.nonlinearity)
    if config.cell == "peephole_lstm":
        return PeepholeLayer(input_size, size, two_ways)
    shape = {"input_size": input_size, "hidden_size": size, "batch_first": True, "bidirectional": two_ways}
    if config.cell == "elman":
        return RecurrentLayer(nn.RNN(**shape, nonlinearity=config.nonlinearity))
    if config.cell == "gru":
        return RecurrentLayer(nn.GRU(**shape))
    return RecurrentLayer(nn.LSTM(**shape, proj_size=config.projection_size or 0))


class RecurrentStack(nn.Module):
    """Recurrent layers, each followed by optional layer normalisation (Ba et al. 2016) and by dropout.

    With `residual` a layer's input is added to what leaves its dropout (He et al. 2016), wherever sizes agree.
    """

    def __init__(self, input_size: int, config: ModelConfig):
        super().__init__()
        self.layers = nn.ModuleList()
        self.norms = nn.ModuleList()
        for _ in range(config.num_layers):
            layer = make_layer(input_size, config)
            input_size = layer.output_size
            self.layers.append(layer)
            self.norms.append(nn.LayerNorm(input_size) if config.layer_norm else nn.Identity())
        self.dropout = Dropout(config.dropout)
        self.residual = config.residual
        self.is_lstm = config.cell == "peephole_lstm" or (config.cell == "lstm" and config.projection_size is None)
        self.output_size = input_size

    def forward(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """(N, T, D), lens (N,) -> outputs (N, T, output_size), the last layer's. Padded frames hold unspecified values.

        With `feedback`, those of all layers; what it makes of a layer's outputs is added to the next layer's inputs.
        """
        if inputs.is_cuda and isinstance(self.layers[0], RecurrentLayer):
            return self.forward_packed(inputs, lens, feedback)
        if self.is_lstm and not inputs.is_cuda and inputs.dtype == torch.float32 and is_available():
            return self.forward_kernel(inputs, lens, feedback)
        reverse = reversal_index(lens, inputs.shape[1])
        return self._run(inputs, lambda layer, frames: layer(frames, reverse), feedback)

    def forward_packed(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """forward() for torch's own cells on a GPU: packed from end to end, with one cuDNN call a layer."""
        packed = pack_padded_sequence(inputs, lens.cpu(), batch_first=True, enforce_sorted=False)

        def run(layer: RecurrentLayer, frames: Tensor) -> Tensor:
            return layer.rnn(PackedSequence(frames, *packed[1:]))[0].data

        outputs = (PackedSequence(frames, *packed[1:]) for frames in self._run(packed.data, run, feedback))
        return [pad_packed_sequence(frames, batch_first=True, total_length=inputs.shape[1])[0] for frames in outputs]

    def forward_kernel(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """forward() for LSTMs on a CPU: packed from end to end, by asrkit's compiled kernel."""
        packing = packing_of(lens, inputs.shape[1])

        def run(layer: RecurrentLayer | SteppedLayer, frames: Tensor) -> Tensor:
            weights = layer.rnn if isinstance(layer, RecurrentLayer) else layer
            return lstm(frames, packing.batch_sizes, directions_of(weights))

        outputs = self._run(pack(inputs, packing), run, feedback)
        return [unpack(frames, packing, inputs.shape[:2]) for frames in outputs]

    def _run(
        self, inputs: Tensor, run: Callable[[nn.Module, Tensor], Tensor], feedback: Feedback | None
    ) -> list[Tensor]:
        kept = []
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            if feedback is not None and number > 0:
                inputs = inputs + feedback(inputs)
            outputs = self.dropout(norm(run(layer, inputs)))
            inputs = inputs + outputs if self.residual and inputs.shape == outputs.shape else outputs
            kept.append(inputs)
        return kept if feedback is not None else kept[-1:]


def initialise(model: nn.Module, scheme: str, init_range: float | None) -> None:
    """Set the weights of `model`.

    "uniform": those of recurrent layers uniform in +-1/sqrt(H), the textbook's and PyTorch's choice, others as
    PyTorch sets them; with `init_range`, all but layer normalisation's uniform in +-init_range (Graves et al. 2013).
    "orthogonal": in recurrent layers Xavier input weights, orthogonal other matrices a gate (Saxe et al. 2014),
    forget-gate bias 1 (Gers et al. 2000), other biases and peepholes 0.
    """
    for module in model.modules():
        if init_range is not None:
            if not isinstance(module, nn.LayerNorm):
                for weights in module.parameters(recurse=False):
                    nn.init.uniform_(weights, -init_range, init_range)
        elif isinstance(module, (nn.RNNBase, SteppedLayer)):
            module.reset_parameters()
            if scheme == "orthogonal":
                _orthogonal(module)


@torch.no_grad()
def _orthogonal(layer: nn.RNNBase | SteppedLayer) -> None:
    size = layer.hidden_size
    for name, weights in layer.named_parameters():
        if weights.dim() == 1 or name.startswith("weight_ch"):
            nn.init.zeros_(weights)
            if name.startswith("bias_ih") and len(weights) == 4 * size:  # PyTorch's order: input, forget, cell, output
                weights[size : 2 * size] = 1
            continue
        fill = nn.init.xavier_uniform_ if name.startswith("weight_ih") else nn.init.orthogonal_
        for gate in weights.split(min(size, len(weights))):
            fill(gate)
