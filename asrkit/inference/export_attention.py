"""The Transformer's and the Conformer's encoder as ONNX operators.

Every function adds nodes to a graph and gives the name of their output.

Legend: T' steps, H units of a layer, K heads, R reach.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from asrkit.inference.export_graph import Feedback, Graph, layer_norm, linear
from asrkit.models.conformer import ConformerLayer, Convolution
from asrkit.models.transformer import FeedForward, SelfAttention, TransformerEncoder, TransformerLayer


def attention_encoder(graph: Graph, steps: str, encoder: TransformerEncoder, feedback: Feedback | None) -> str:
    """(T', step size) -> (T', H), as models/transformer.py does it. Dropout is left out."""
    steps = linear(graph, steps, encoder.input)
    distances = _distances(graph, steps, encoder.reach)
    for number, layer in enumerate(encoder.layers):
        if number > 0 and feedback is not None:
            steps = graph.op("Add", steps, feedback(graph, _normed(graph, steps, encoder.norm)))
        match layer:
            case TransformerLayer():
                steps = _transformer_layer(graph, steps, layer, distances)
            case ConformerLayer():
                steps = _conformer_layer(graph, steps, layer, distances)
            case other:
                raise TypeError(f"a layer that cannot be exported: {type(other).__name__}")
    return _normed(graph, steps, encoder.norm)


def _normed(graph: Graph, steps: str, norm: nn.Module) -> str:
    return layer_norm(graph, steps, norm) if isinstance(norm, nn.LayerNorm) else steps


def _transformer_layer(graph: Graph, steps: str, layer: TransformerLayer, distances: str) -> str:
    attended = _attention(graph, layer_norm(graph, steps, layer.attention_norm), layer.attention, distances)
    steps = graph.op("Add", steps, attended)
    return graph.op("Add", steps, _feed_forward(graph, steps, layer.feed_forward))


def _conformer_layer(graph: Graph, steps: str, layer: ConformerLayer, distances: str) -> str:
    half = graph.const(0.5, np.float32)
    steps = graph.op("Add", steps, graph.op("Mul", _feed_forward(graph, steps, layer.first), half))
    attended = _attention(graph, layer_norm(graph, steps, layer.attention_norm), layer.attention, distances)
    steps = graph.op("Add", steps, attended)
    steps = graph.op("Add", steps, _convolution(graph, steps, layer.convolution))
    steps = graph.op("Add", steps, graph.op("Mul", _feed_forward(graph, steps, layer.second), half))
    return layer_norm(graph, steps, layer.norm)


def _feed_forward(graph: Graph, steps: str, layer: FeedForward) -> str:
    inner = linear(graph, layer_norm(graph, steps, layer.norm), layer.inner)
    active = graph.op("Relu", inner) if isinstance(layer.activation, nn.ReLU) else _swish(graph, inner)
    return linear(graph, active, layer.outer)


def _swish(graph: Graph, values: str) -> str:
    return graph.op("Mul", values, graph.op("Sigmoid", values))


def _convolution(graph: Graph, steps: str, layer: Convolution) -> str:
    values, gates = graph.ops("Split", 2, linear(graph, layer_norm(graph, steps, layer.norm), layer.gated), axis=1)
    gated = graph.op("Mul", values, graph.op("Sigmoid", gates))
    columns = graph.op("Unsqueeze", graph.op("Transpose", gated, perm=[1, 0]), graph.const([0]))
    conv = layer.depthwise
    weights, side = (graph.weight(conv.weight, (1, 2)), graph.const(conv.bias)), conv.kernel_size[0] // 2
    joined = graph.op("Conv", columns, *weights, group=conv.groups, pads=[side, side])
    joined = graph.op("Transpose", graph.op("Squeeze", joined, graph.const([0])), perm=[1, 0])
    return linear(graph, _swish(graph, layer_norm(graph, joined, layer.inner_norm)), layer.output)


def _distances(graph: Graph, steps: str, reach: int) -> str:
    """(T', T'): j - i of each step i and each step j, from 0 for -R - 1 or less to 2R + 2 for R + 1 or more."""
    zero, one = graph.const(0), graph.const(1)
    numbers = graph.op("Range", zero, graph.op("Gather", graph.op("Shape", steps), zero), one)
    rows, columns = (graph.op("Unsqueeze", numbers, graph.const([axis])) for axis in (1, 0))
    shifted = graph.op("Add", graph.op("Sub", columns, rows), graph.const(reach + 1))
    return graph.op("Max", graph.op("Min", shifted, graph.const(2 * reach + 2)), zero)


def _attention(graph: Graph, steps: str, layer: SelfAttention, distances: str) -> str:
    by_head = graph.op("Reshape", linear(graph, steps, layer.query_key_value), graph.const([0, 3, layer.num_heads, -1]))
    query, key, value = graph.ops(
        "Split", 3, graph.op("Transpose", by_head, perm=[1, 2, 0, 3]), axis=0
    )  # (1, K, T', -)
    size = layer.output.in_features // layer.num_heads
    query = graph.op("Mul", query, graph.const(size**-0.5, np.float32))
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
    biases = graph.op(
        "Pad", graph.const(layer.bias_of_distance), graph.const([0, 1, 0, 1]), graph.const(-np.inf, np.float32)
    )
    scores = graph.op("Add", scores, graph.op("Gather", biases, distances, axis=1))
    attended = graph.op("MatMul", graph.op("Softmax", scores, axis=-1), value)
    joined = graph.op(
        "Reshape", graph.op("Transpose", attended, perm=[0, 2, 1, 3]), graph.const([-1, size * layer.num_heads])
    )
    return linear(graph, joined, layer.output)
