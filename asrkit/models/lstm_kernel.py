"""LSTM layers on the CPU by a compiled kernel, which computes only valid frames and no padding.

Legend: N utterances, T frames, F frames of all utterances together, D input dim, H hidden units per direction, P panels
of eight units, Hp = 8 P.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from asrkit._native import kernel

_LANES, _TILE = 8, 32  # units of a panel; columns of a matrix product that the kernel computes together


class Direction(NamedTuple):
    """The weights of one direction in PyTorch's layout. The gates are input, forget, cell and output, H rows each.

    Attributes:
        weight_ih: (4H, D) from the inputs.
        weight_hh: (4H, H) from the previous hidden state.
        bias: (4H,).
        peepholes: (3, H) from the cell to the input, forget and output gates; None without peepholes.
    """

    weight_ih: Tensor
    weight_hh: Tensor
    bias: Tensor
    peepholes: Tensor | None = None


class Packing(NamedTuple):
    """The order of packed frames: all first frames, all second frames..., each time with the longest utterance first.

    Attributes:
        rows: (F,) int64, the place of each frame among the N * T frames of the padded batch.
        batch_sizes: (T,) int64, the number of utterances with a first, second... frame; zeros are left out.
    """

    rows: Tensor
    batch_sizes: Tensor


def is_available() -> bool:
    """Whether there is a build of the kernel that is faster than torch."""
    if torch.compiler.is_compiling():  # also when exporting: torch cannot trace the kernel
        return False
    native = kernel("_lstm")
    return native is not None and native.BUILD != "baseline"


def directions_of(layer: nn.Module) -> list[Direction]:
    """The weights of the first layer of nn.LSTM, or of another module with the same names of weights.

    `bias_hh_l0` can be missing. `weight_ch_l0`, if it exists, holds peepholes.
    """
    directions = []
    for suffix in ("_l0", "_l0_reverse"):
        if not hasattr(layer, "weight_ih" + suffix):
            continue
        weight_ih, weight_hh, bias = (getattr(layer, name + suffix) for name in ("weight_ih", "weight_hh", "bias_ih"))
        other_bias, peepholes = (getattr(layer, name + suffix, None) for name in ("bias_hh", "weight_ch"))
        bias = bias if other_bias is None else bias + other_bias
        directions.append(Direction(weight_ih, weight_hh, bias, peepholes))
    return directions


def packing_of(lens: Tensor, num_frames: int) -> Packing:
    """The packing of a batch with lengths `lens` (N,). `num_frames` is T of the padded batch."""
    lens, order = lens.sort(descending=True, stable=True)
    frames = torch.arange(num_frames)[:, None]
    valid = frames < lens
    batch_sizes = valid.sum(dim=1)
    return Packing((order * num_frames + frames)[valid], batch_sizes[batch_sizes > 0])


def pack(inputs: Tensor, packing: Packing) -> Tensor:
    """Pack a padded batch `inputs` (N, T, D): (F, D)."""
    return _Pack.apply(inputs, packing.rows)


def unpack(frames: Tensor, packing: Packing, shape: tuple[int, int]) -> Tensor:
    """Pad packed `frames` (F, D): (N, T, D), with `shape` (N, T). Padding is 0."""
    return _Unpack.apply(frames, packing.rows, shape)


def lstm(frames: Tensor, batch_sizes: Tensor, directions: Sequence[Direction]) -> Tensor:
    """Compute an LSTM layer from zero states, in float32 on the CPU.

    It can be differentiated once, in `frames` and all weights.

    Args:
        frames: (F, D) packed frames.
        batch_sizes: (T,) from the packing.
        directions: the weights of one direction or two; the second one runs from the end to the start.

    Returns:
        (F, H), or (F, 2H) with two directions.
    """
    return _Layer.apply(frames, batch_sizes, *(weights for direction in directions for weights in direction))


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, inputs: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.shape = inputs.shape[:2]
        return inputs.flatten(0, 1).index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _Unpack.apply(grad, *ctx.saved_tensors, ctx.shape), None


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frames: Tensor, rows: Tensor, shape: tuple[int, int]) -> Tensor:
        ctx.save_for_backward(rows)
        padded = frames.new_zeros(shape[0] * shape[1], frames.shape[1])
        return padded.index_copy_(0, rows, frames).unflatten(0, shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _Pack.apply(grad, *ctx.saved_tensors), None, None


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, frames: Tensor, batch_sizes: Tensor, *weights: Tensor | None) -> Tensor:
        native, frames, num_frames = _native(), frames.contiguous(), len(frames)
        directions = _directions(weights)
        size = directions[0].weight_hh.shape[1]
        outputs = frames.new_empty(num_frames, size * len(directions))
        saved: list[Tensor | None] = [frames, batch_sizes]
        for i, (weight_ih, weight_hh, bias, peepholes) in enumerate(directions):
            weight_ih, weight_hh, bias = (_to_panels(w, size) for w in (weight_ih, weight_hh, bias[:, None]))
            num_panels = len(weight_hh) // _TILE
            gates = _multiply(frames, weight_ih.T, bias[:, 0]).view(num_frames, num_panels, 4, _LANES)
            cells = frames.new_empty(num_frames, num_panels, 2, _LANES)
            states = frames.new_empty(num_frames, num_panels * _LANES)
            if peepholes is not None:
                peepholes = _pad(peepholes, num_panels * _LANES)
            arrays = (batch_sizes, _tiles(weight_hh.T), peepholes, gates, cells, states, outputs)
            native.forward(*map(_array, arrays), size, i * size, i > 0)
            saved += [weight_ih, weight_hh, peepholes, gates, cells, states]
        ctx.save_for_backward(*saved)
        ctx.hidden_size = size
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        native, size, grad_outputs = _native(), ctx.hidden_size, grad_outputs.contiguous()
        frames, batch_sizes, *saved = ctx.saved_tensors
        grad_frames, grads = None, []
        for i in range(len(saved) // 6):
            weight_ih, weight_hh, peepholes, gates, cells, states = saved[6 * i : 6 * i + 6]
            grad_gates = torch.empty_like(gates)
            grad_peepholes = None if peepholes is None else torch.empty_like(peepholes)
            arrays = (batch_sizes, _tiles(weight_hh), peepholes, gates, cells, grad_outputs, grad_gates, grad_peepholes)
            native.backward(*map(_array, arrays), size, i * size, i > 0)
            grad_gates = grad_gates.flatten(1)
            if ctx.needs_input_grad[0]:
                grad = _multiply(grad_gates, weight_ih)
                grad_frames = grad if grad_frames is None else grad_frames.add_(grad)
            grads += [
                _from_panels(frames.T @ grad_gates, size),
                _from_panels(states.T @ grad_gates, size)[:, :size],
                _from_panels(grad_gates.sum(dim=0)[None], size)[:, 0],
                None if grad_peepholes is None else grad_peepholes[:, :size],
            ]
        return grad_frames, None, *grads


def _native() -> ModuleType:
    native = kernel("_lstm")
    assert native is not None, "callers ask is_available() first"
    return native


def _directions(weights: Sequence[Tensor | None]) -> list[Direction]:
    """Group the weights of all directions by direction."""
    directions = []
    for weight_ih, weight_hh, bias, peepholes in zip(*[iter(weights)] * 4, strict=True):
        assert weight_ih is not None and weight_hh is not None and bias is not None
        directions.append(Direction(weight_ih, weight_hh, bias, peepholes))
    return directions


def _pad(weights: Tensor, num_columns: int) -> Tensor:
    return torch.nn.functional.pad(weights, (0, num_columns - weights.shape[1]))


def _to_panels(weights: Tensor, size: int) -> Tensor:
    """From gates in PyTorch's order (4H, K) to panels (4 Hp, K): panel by panel, and within a panel gate by gate."""
    padded = torch.nn.functional.pad(weights.unflatten(0, (4, size)), (0, 0, 0, -size % _LANES))
    return padded.unflatten(1, (-1, _LANES)).transpose(0, 1).flatten(0, 2)


def _from_panels(columns: Tensor, size: int) -> Tensor:
    """From columns (K, 4 Hp), in the order of _to_panels, to gates in PyTorch's order (4H, K)."""
    return columns.unflatten(1, (-1, 4, _LANES)).permute(2, 1, 3, 0).flatten(1, 2)[:, :size].flatten(0, 1)


def _tiles(right: Tensor) -> Tensor:
    """Cut the right factor (K, M) of a matrix product into tiles of columns (J, K, 32). Zeros fill the last tile."""
    return _pad(right, -(-right.shape[1] // _TILE) * _TILE).unflatten(1, (-1, _TILE)).transpose(0, 1)


def _multiply(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    tiles = _tiles(right)
    product = left.new_empty(len(left), tiles.shape[0] * _TILE)
    _native().multiply(*map(_array, (left, tiles, bias, product)))
    return product[:, : right.shape[1]]


def _array(tensor: Tensor | None) -> Any:
    return None if tensor is None else tensor.contiguous().numpy()
