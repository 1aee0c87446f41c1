"""A graph of ONNX operators that is written node by node, and layers that all networks share.

Each function adds nodes to a graph, and returns the name of their output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

Kind = TypeVar("Kind", bound=nn.Module)


def in_8_bits(weights: np.ndarray, over: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Round weights to whole numbers from -127 to 127, and find their scales.

    A scale has 16 significant bits. So scale * whole number is exact in float32, and rounding again changes nothing.

    Args:
        weights: (outputs, inputs), or of any other shape.
        over: the axes over which one output sums. Weights along these axes share a scale.

    Returns:
        The whole numbers, int8 of the same shape, and the scales, float32 of the same shape with length 1 along `over`.
    """
    largest = np.abs(weights).max(axis=over, keepdims=True).astype(np.float64)
    mantissa, exponent = np.frexp(largest / 127)
    scales = np.where(largest > 0, np.ldexp(np.ceil(mantissa * 2**16), exponent - 16), 1.0)
    return np.rint(weights / scales).astype(np.int8), scales.astype(np.float32)


class Graph:
    """Nodes in the order of their execution, and the constants that they use.

    Attributes:
        prefix: the beginning of all names.
        is_8_bit: whether weights are stored in 8 bits (see in_8_bits). onnxruntime converts them to float32 when it
            loads the graph.
        nodes, initializers, inputs, outputs: the contents of the ONNX graph.
    """

    def __init__(self, prefix: str = "", is_8_bit: bool = False) -> None:
        self.prefix, self.is_8_bit = prefix, is_8_bit
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output. Returns the name of the output."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, num_outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        """Add a node with several outputs. Returns the names of the outputs."""
        name = f"{self.prefix}{kind}{len(self.nodes)}"
        outputs = [f"{name}.{i}" for i in range(num_outputs)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name, **attributes))
        return outputs

    def const(self, value: Any, dtype: type = np.int64) -> str:
        """Add a constant: a tensor, or a value that is converted to `dtype`. Returns its name."""
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value, dtype)
        name = f"{self.prefix}const{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def weight(self, values: torch.Tensor, over: int | tuple[int, ...]) -> str:
        """Add a constant weight matrix, or several, of any shape. Returns its name.

        Args:
            values: the weights, (inputs, outputs) or of another shape.
            over: the axes over which one output sums, for 8-bit weights.
        """
        if not self.is_8_bit:
            return self.const(values)
        whole, scales = in_8_bits(values.detach().numpy(), over)
        expanded = self.op("Cast", self.const(whole, np.int8), to=TensorProto.FLOAT)
        return self.op("Mul", expanded, self.const(scales, np.float32))

    def input(self, name: str, kind: int, shape: Sequence[int | str], default: np.ndarray | None = None) -> str:
        """Add an input. If there is a `default`, of the shape `shape`, the input is optional."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        if default is not None:
            self.initializers.append(numpy_helper.from_array(default, name))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        """Make a float32 value an output of the graph."""
        self.nodes.append(helper.make_node("Identity", [value], [name], name))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def state(self, layer: int, name: str, shape: Sequence[int]) -> str:
        """Add an input for a state of a recurrent layer. Its default is zeros."""
        return self.input(f"state.{layer}.{name}", TensorProto.FLOAT, shape, np.zeros(shape, np.float32))


Feedback = Callable[[Graph, str], str]  # self-conditioning: from the outputs of a layer to an addition to them


def layer_norm(graph: Graph, values: str, norm: nn.LayerNorm) -> str:
    """Add layer normalisation over the last axis."""
    weights = graph.const(norm.weight), graph.const(norm.bias)
    return graph.op("LayerNormalization", values, *weights, axis=-1, epsilon=norm.eps)


def log_softmax(graph: Graph, hidden: str, head: nn.Linear) -> str:
    """Add a linear layer and log-softmax: (T', inputs) -> (T', classes)."""
    return graph.op("LogSoftmax", linear(graph, hidden, head), axis=1)


def linear(graph: Graph, values: str, layer: nn.Linear) -> str:
    """Add a linear layer: (..., inputs) -> (..., outputs)."""
    return graph.op("Add", graph.op("MatMul", values, graph.weight(layer.weight.T, 0)), graph.const(layer.bias))


def of_kind(modules: Iterable[nn.Module], kind: type[Kind]) -> list[Kind]:
    """The modules that are instances of `kind`."""
    return [module for module in modules if isinstance(module, kind)]
