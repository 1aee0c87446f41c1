"""Recurrent layers as ONNX operators.

ONNX has recurrent cells with their states as inputs. It lacks projected LSTMs and Jordan networks; these are loops
(Scan).

Legend: T' steps, H units of a layer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import nn

from asrkit.inference.export_features import join_steps
from asrkit.inference.export_graph import Feedback, Graph, layer_norm, of_kind
from asrkit.models.cells.elman import ElmanLayer
from asrkit.models.cells.gru import GruLayer
from asrkit.models.cells.jordan import JordanLayer
from asrkit.models.cells.layer import RecurrentLayer
from asrkit.models.cells.lstm import LstmLayer
from asrkit.models.cells.peephole_lstm import PeepholeLstmLayer
from asrkit.models.pyramid import Pyramid
from asrkit.models.recurrent import RecurrentStack


def recurrent_stack(
    graph: Graph, steps: str, size: int, stack: RecurrentStack, feedback: Feedback | None, first: int = 0
) -> str:
    """Add the layers of models/recurrent.py, without dropout: (T', size) -> (T', output size).

    `first` is the number of the first layer within the network. Raises TypeError for a layer that cannot be exported.
    """
    layers = of_kind(stack.layers, RecurrentLayer)
    for number, (layer, norm) in enumerate(zip(layers, stack.norms, strict=True)):
        if number > 0 and feedback is not None:
            steps = graph.op("Add", steps, feedback(graph, steps))
        outputs = _recurrent_layer(graph, steps, layer, first + number)
        if isinstance(norm, nn.LayerNorm):
            outputs = layer_norm(graph, outputs, norm)
        steps = graph.op("Add", steps, outputs) if stack.residual and size == layer.output_size else outputs
        size = layer.output_size
    return steps


@dataclass(frozen=True)
class _Operator:
    """A recurrent operator of ONNX.

    Attributes:
        kind: its name.
        gates: for each of its gates, in order, the number of the same gate in PyTorch.
        attributes: its attributes.
    """

    kind: str
    gates: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


def pyramid(graph: Graph, steps: str, size: int, layers: Pyramid) -> str:
    """Add the layers of models/pyramid.py: (T', size) -> (fewer steps, output size).

    Raises TypeError as `recurrent_stack`.
    """
    for number, layer in enumerate(of_kind(layers.layers, RecurrentStack)):
        if number:
            steps = join_steps(graph, steps, layers.join)
        steps = recurrent_stack(graph, steps, size, layer, None, number)
        size = layer.output_size * layers.join
    return steps


def _recurrent_layer(graph: Graph, steps: str, layer: RecurrentLayer, number: int) -> str:
    """The outputs (T', output size) of a layer: by an operator of ONNX if there is one, otherwise by a loop."""
    match layer:
        case LstmLayer(is_projected=True):
            return _looped(graph, steps, layer, number, _projected_lstm_step)
        case JordanLayer():
            return _looped(graph, steps, layer, number, partial(_jordan_step, layer.nonlinearity.capitalize()))
        case LstmLayer() | PeepholeLstmLayer():
            operator = _Operator("LSTM", (0, 3, 1, 2))  # input, output, forget, cell
        case GruLayer():
            operator = _Operator("GRU", (1, 0, 2), {"linear_before_reset": 1})  # update, reset, new
        case ElmanLayer():
            activations = [layer.nonlinearity.capitalize()] * len(layer.suffixes)
            operator = _Operator("RNN", (0,), {"activations": activations})
        case _:
            raise TypeError(f"a layer that cannot be exported: {type(layer).__name__}")
    return _recurrent(graph, steps, layer, number, operator)


def _recurrent(graph: Graph, steps: str, layer: RecurrentLayer, number: int, operator: _Operator) -> str:
    """A recurrent operator of ONNX. One operator computes both directions."""
    size, is_peephole = layer.state_sizes["hidden"], isinstance(layer, PeepholeLstmLayer)

    def gates(name: str) -> list[torch.Tensor]:
        return [torch.cat([weights.split(size)[gate] for gate in operator.gates]) for weights in layer.weights(name)]

    weight_ih, weight_hh, bias = gates("weight_ih"), gates("weight_hh"), gates("bias_ih")
    other = [torch.zeros_like(row) for row in bias] if is_peephole else gates("bias_hh")
    biases = [torch.cat(pair) for pair in zip(bias, other, strict=True)]
    inputs = [
        graph.op("Unsqueeze", steps, graph.const([1])),
        *(graph.weight(torch.stack(weights), 2) for weights in (weight_ih, weight_hh)),
        graph.const(torch.stack(biases)),
        "",
    ]
    if not layer.bidirectional:
        inputs += [graph.state(number, name, [1, 1, size]) for name in layer.state_sizes]
    elif is_peephole:
        inputs += ["", ""]
    if is_peephole:  # input, forget, output -> input, output, forget
        peepholes = [weights[[0, 2, 1]].flatten() for weights in layer.weights("weight_ch")]
        inputs.append(graph.const(torch.stack(peepholes)))
    direction = "bidirectional" if layer.bidirectional else "forward"
    attributes = {"hidden_size": size, "direction": direction, **operator.attributes}
    num_outputs = 1 + len(layer.state_sizes)
    outputs, *states = graph.ops(operator.kind, num_outputs, *inputs, **attributes)  # (T', directions, 1, H)
    if not layer.bidirectional:
        for name, state in zip(layer.state_sizes, states, strict=True):
            graph.output(state, f"state.{number}.{name}.next", [1, 1, size])
    return graph.op("Reshape", outputs, graph.const([-1, layer.output_size]))


Weights = Callable[[str], torch.Tensor]  # of one direction, by name
Step = Callable[[Graph, Graph, Weights, dict[str, str]], dict[str, str]]


def _looped(graph: Graph, steps: str, layer: RecurrentLayer, number: int, step: Step) -> str:
    """A loop over the steps, for a cell that ONNX lacks. One matrix product serves the inputs of all steps.

    `step` writes the nodes of one step. It takes the graph, the body of the loop, the weights, and the names of the
    sums and of the previous states. It returns the names of the next states.
    """
    outputs = []
    for direction in range(len(layer.suffixes)):
        weights = partial(_weights_of, layer, direction)
        bias = weights("bias_ih") if isinstance(layer, JordanLayer) else weights("bias_ih") + weights("bias_hh")
        input_sums = graph.op("MatMul", steps, graph.weight(weights("weight_ih").T, 0))
        input_sums = graph.op("Add", input_sums, graph.const(bias))
        body = _loop_body(graph, f"layer{number}{layer.suffixes[direction]}.", layer, weights, step)
        if layer.bidirectional:
            initial = [graph.const(np.zeros(size), np.float32) for size in layer.state_sizes.values()]
        else:
            initial = [graph.state(number, name, [size]) for name, size in layer.state_sizes.items()]
        *states, output = graph.ops(
            "Scan",
            len(layer.state_sizes) + 1,
            *initial,
            input_sums,
            body=body,
            num_scan_inputs=1,
            scan_input_directions=[direction],
            scan_output_directions=[direction],
        )
        outputs.append(output)
        if not layer.bidirectional:
            for (name, size), state in zip(layer.state_sizes.items(), states, strict=True):
                graph.output(state, f"state.{number}.{name}.next", [size])
    return outputs[0] if len(outputs) == 1 else graph.op("Concat", *outputs, axis=1)


def _weights_of(layer: RecurrentLayer, direction: int, name: str) -> torch.Tensor:
    return layer.weights(name)[direction]


def _loop_body(graph: Graph, prefix: str, layer: RecurrentLayer, weights: Weights, step: Step) -> onnx.GraphProto:
    """The body of a loop: from the previous states and the sums of the inputs to the next states and the output."""
    recurrent = graph.weight(weights("weight_hh").T, 0)
    body = Graph(prefix)
    before = {name: body.input(prefix + name, TensorProto.FLOAT, [size]) for name, size in layer.state_sizes.items()}
    frame = body.input(prefix + "frame", TensorProto.FLOAT, [len(weights("bias_ih"))])
    sums = body.op("Add", body.op("MatMul", before["hidden"], recurrent), frame)
    after = step(graph, body, weights, {"sums": sums, **before})
    for name, size in layer.state_sizes.items():
        body.output(after[name], f"{prefix}{name}.next", [size])
    body.output(prefix + "hidden.next", prefix + "output", [layer.state_sizes["hidden"]])
    return helper.make_graph(body.nodes, prefix + "step", body.inputs, body.outputs, body.initializers)


def _jordan_step(
    activation: str, graph: Graph, body: Graph, weights: Weights, values: dict[str, str]
) -> dict[str, str]:
    out = graph.weight(weights("weight_ho").T, 0), graph.const(weights("bias_ho"))
    product = body.op("MatMul", body.op(activation, values["sums"]), out[0])
    return {"hidden": body.op(activation, body.op("Add", product, out[1]))}


def _projected_lstm_step(graph: Graph, body: Graph, weights: Weights, values: dict[str, str]) -> dict[str, str]:
    input_gate, forget_gate, cell_gate, output_gate = body.ops("Split", 4, values["sums"], axis=0)
    kept = body.op("Mul", body.op("Sigmoid", forget_gate), values["cell"])
    cell = body.op("Add", kept, body.op("Mul", body.op("Sigmoid", input_gate), body.op("Tanh", cell_gate)))
    hidden = body.op("Mul", body.op("Sigmoid", output_gate), body.op("Tanh", cell))
    return {"hidden": body.op("MatMul", hidden, graph.weight(weights("weight_hr").T, 0)), "cell": cell}
