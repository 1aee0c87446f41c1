"""A graph of ONNX operators that is written node by node, and the layers that all networks have.

Every function adds nodes to a graph and gives the name of their output.
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
    """Weights as whole numbers from -127 to 127, int8, and their scales, float32.

    The axes `over` are what one output sums over; they share a scale, and have length 1 in the array of scales. Scales
    have 16 significant bits, so that scale * whole number is exact in float32, and rounding again changes nothing.
    """
    largest = np.abs(weights).max(axis=over, keepdims=True).astype(np.float64)
    mantissa, exponent = np.frexp(largest / 127)
    scales = np.where(largest > 0, np.ldexp(np.ceil(mantissa * 2**16), exponent - 16), 1.0)
    return np.rint(weights / scales).astype(np.int8), scales.astype(np.float32)


class Graph:
    """Nodes in the order of their execution, and the constants they take.

    `is_8_bit`: weights are stored in 8 bits (in_8_bits). onnxruntime makes float32 of them when it loads the graph, and
    computes with these.
    """

    def __init__(self, prefix: str = "", is_8_bit: bool = False) -> None:
        self.prefix, self.is_8_bit = prefix, is_8_bit
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output, and give that output's name."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, num_outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        name = f"{self.prefix}{kind}{len(self.nodes)}"
        outputs = [f"{name}.{i}" for i in range(num_outputs)]
        self.nodes.append(helper.make_node(kind, inputs, outputs, name, **attributes))
        return outputs

    def const(self, value: Any, dtype: type = np.int64) -> str:
        array = value.detach().numpy() if isinstance(value, torch.Tensor) else np.asarray(value, dtype)
        name = f"{self.prefix}const{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def weight(self, values: torch.Tensor, over: int | tuple[int, ...]) -> str:
        """A constant matrix, or several; the axes `over` are what one output sums over."""
        if not self.is_8_bit:
            return self.const(values)
        whole, scales = in_8_bits(values.detach().numpy(), over)
        expanded = self.op("Cast", self.const(whole, np.int8), to=TensorProto.FLOAT)
        return self.op("Mul", expanded, self.const(scales, np.float32))

    def input(self, name: str, kind: int, shape: Sequence[int | str], default: np.ndarray | None = None) -> str:
        """An input, which may be left out when it has a default."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        if default is not None:
            self.initializers.append(numpy_helper.from_array(default, name))
        return name

    def output(self, value: str, name: str, shape: Sequence[int | str]) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name], name))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def state(self, layer: int, name: str, shape: Sequence[int]) -> str:
        """The input of a recurrent layer's state; zeros by default."""
        return self.input(f"state.{layer}.{name}", TensorProto.FLOAT, shape, np.zeros(shape, np.float32))


Feedback = Callable[[Graph, str], str]  # what self-conditioning adds to a layer's inputs, from the outputs below it


def layer_norm(graph: Graph, values: str, norm: nn.LayerNorm) -> str:
    weights = graph.const(norm.weight), graph.const(norm.bias)
    return graph.op("LayerNormalization", values, *weights, axis=-1, epsilon=norm.eps)


def log_softmax(graph: Graph, hidden: str, head: nn.Linear) -> str:
    return graph.op("LogSoftmax", linear(graph, hidden, head), axis=1)


def linear(graph: Graph, values: str, layer: nn.Linear) -> str:
    return graph.op("Add", graph.op("MatMul", values, graph.weight(layer.weight.T, 0)), graph.const(layer.bias))


def of_kind(modules: Iterable[nn.Module], kind: type[Kind]) -> list[Kind]:
    """Those of the modules that are of this kind."""
    return [module for module in modules if isinstance(module, kind)]
