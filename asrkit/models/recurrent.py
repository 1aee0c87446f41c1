"""Stacks of recurrent layers. The output for an utterance does not depend on the rest of its batch.

Legend: N utterances, T frames, D input dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence
from torch.utils.checkpoint import checkpoint

from asrkit.models.cells import CELLS
from asrkit.models.cells.layer import RecurrentLayer, States, reversal_index
from asrkit.models.cells.torch_layer import TorchLayer
from asrkit.models.config import ModelConfig
from asrkit.models.dropout import Dropout, same_draws
from asrkit.models.encoder import Encoder, Feedback
from asrkit.models.lstm_kernel import directions_of, is_available, lstm, pack, packing_of, unpack


def make_layer(input_size: int, config: ModelConfig) -> RecurrentLayer:
    """An untrained layer of the configured cell, for inputs of size `input_size`."""
    return CELLS[config.cell].load()(input_size, config)


class RecurrentStack(Encoder):
    """Recurrent layers. Layer normalisation (Ba et al. 2016; optional) and dropout follow each layer.

    With `residual`, the input of a layer is added to its output after dropout (He et al. 2016), if both have the same
    size.

    Attributes:
        bptt_steps: truncated BPTT, for layers of one direction: in training, the gradient goes back through this many
            frames, counted from the beginning of the utterance. None: through all frames.
    """

    bptt_steps: int | None = None

    def __init__(self, input_size: int, config: ModelConfig):
        super().__init__()
        layers: list[RecurrentLayer] = []
        norms: list[nn.Module] = []
        for _ in range(config.num_layers):
            layers.append(make_layer(input_size, config))
            input_size = layers[-1].output_size
            norms.append(nn.LayerNorm(input_size) if config.layer_norm else nn.Identity())
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(norms)
        self.dropout = Dropout(config.dropout)
        self.residual = config.residual
        self.has_lstm_kernel = all(layer.has_lstm_kernel for layer in layers)
        self.is_torchs = all(isinstance(layer, TorchLayer) for layer in layers)
        self.output_size = input_size

    def forward(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """Compute the outputs of the layers, (N, T, output_size) each. Padded frames hold unspecified values.

        Args:
            inputs: (N, T, D).
            lens: (N,) numbers of frames.
            feedback: see Encoder.forward.

        Returns:
            The output of the last layer; with `feedback`, the outputs of all layers.
        """
        if self.training and self.bptt_steps is not None and self.bptt_steps < inputs.shape[1]:
            return self.forward_truncated(inputs, self.bptt_steps, feedback)
        if inputs.is_cuda and self.is_torchs:
            return self.forward_packed(inputs, lens, feedback)
        if self.has_lstm_kernel and not inputs.is_cuda and inputs.dtype == torch.float32 and is_available():
            return self.forward_kernel(inputs, lens, feedback)
        reverse = reversal_index(lens, inputs.shape[1])
        return self._run(inputs, [partial(layer, reverse=reverse) for layer in self.layers], feedback)

    def forward_packed(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """forward() for PyTorch's cells on a GPU: the frames stay packed, and each layer is one call of cuDNN.

        `inputs` is (N, T, D) and `lens` (N,).
        """
        packed = pack_padded_sequence(inputs, lens.cpu(), batch_first=True, enforce_sorted=False)

        def run(layer: TorchLayer, frames: Tensor) -> Tensor:
            return layer.forward_packed(PackedSequence(frames, *packed[1:]))

        layers = [partial(run, layer) for layer in self.layers if isinstance(layer, TorchLayer)]
        outputs = (PackedSequence(frames, *packed[1:]) for frames in self._run(packed.data, layers, feedback))
        return [pad_packed_sequence(frames, batch_first=True, total_length=inputs.shape[1])[0] for frames in outputs]

    def forward_kernel(self, inputs: Tensor, lens: Tensor, feedback: Feedback | None = None) -> list[Tensor]:
        """forward() for LSTMs on a CPU: the frames stay packed, and asrkit's compiled kernel computes the layers.

        `inputs` is (N, T, D) and `lens` (N,).
        """
        packing = packing_of(lens, inputs.shape[1])

        def run(layer: RecurrentLayer, frames: Tensor) -> Tensor:
            return lstm(frames, packing.batch_sizes, directions_of(layer.weight_owner))

        layers = [partial(run, layer) for layer in self.layers if isinstance(layer, RecurrentLayer)]
        outputs = self._run(pack(inputs, packing), layers, feedback)
        return [unpack(frames, packing, (inputs.shape[0], inputs.shape[1])) for frames in outputs]

    def forward_truncated(self, inputs: Tensor, bptt_steps: int, feedback: Feedback | None = None) -> list[Tensor]:
        """forward() in pieces of `bptt_steps` frames. Each piece starts from the last states of the previous piece.

        The outputs are those of the whole utterance, but the gradient stays within a piece. The values that the
        gradient needs are computed again piece by piece, which takes time and saves memory. `inputs` is (N, T, D).
        """
        states = [layer.first_states(inputs) for layer in self.layers if isinstance(layer, RecurrentLayer)]
        pieces = []
        for piece in inputs.split(bptt_steps, dim=1):
            outputs, states = checkpoint(
                self._run_piece,
                piece,
                states,
                feedback,
                use_reentrant=False,
                preserve_rng_state=piece.is_cuda,
                context_fn=same_draws,
            )
            pieces.append(outputs)
        return [torch.cat(outputs, dim=1) for outputs in zip(*pieces, strict=True)]

    def _run_piece(
        self, inputs: Tensor, states: Sequence[States], feedback: Feedback | None
    ) -> tuple[list[Tensor], list[States]]:
        """Compute one piece (N, T, D) from the given states.

        Returns the outputs, and the last states without gradient.
        """
        left: list[States] = []

        def run(layer: RecurrentLayer, states: States, frames: Tensor) -> Tensor:
            (outputs,), after = layer.advance([frames], states)
            left.append(tuple(state.detach() for state in after))
            return outputs

        recurrent = (layer for layer in self.layers if isinstance(layer, RecurrentLayer))
        layers = [partial(run, layer, each) for layer, each in zip(recurrent, states, strict=True)]
        return self._run(inputs, layers, feedback), left

    def _run(
        self, inputs: Tensor, layers: Iterable[Callable[[Tensor], Tensor]], feedback: Feedback | None
    ) -> list[Tensor]:
        """Compute all `layers`, including normalisation, dropout, feedback and residual connections."""
        kept: list[Tensor] = []
        for layer, norm in zip(layers, self.norms, strict=True):
            if feedback is not None and kept:
                inputs = inputs + feedback(inputs)
            outputs = self.dropout(norm(layer(inputs)))
            inputs = inputs + outputs if self.residual and inputs.shape == outputs.shape else outputs
            kept.append(inputs)
        return kept if feedback is not None else kept[-1:]
