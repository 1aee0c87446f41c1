"""The encoders of Transformer and Conformer as ONNX operators.

Each function adds nodes to a graph, and returns the name of their output.

Legend: T' steps, H units of a layer, K heads, R reach.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import nn

from asrkit.inference.export_graph import Feedback, Graph, layer_norm, linear
from asrkit.models.conformer import ConformerLayer, Convolution
from asrkit.models.transformer import FeedForward, SelfAttention, TransformerEncoder, TransformerLayer

_ALL = 2**17  # more blocks than any recording has


def attention_encoder(graph: Graph, steps: str, encoder: TransformerEncoder, feedback: Feedback | None) -> str:
    """Add the layers of models/transformer.py, without dropout: (T', step size) -> (T', H).

    Raises:
        TypeError: a layer cannot be exported.
    """
    steps = linear(graph, steps, encoder.input)
    blocks = _blocks(graph, steps, encoder.reach)
    for number, layer in enumerate(encoder.layers):
        if number > 0 and feedback is not None:
            steps = graph.op("Add", steps, feedback(graph, _normed(graph, steps, encoder.norm)))
        match layer:
            case TransformerLayer():
                steps = _transformer_layer(graph, steps, layer, blocks)
            case ConformerLayer():
                steps = _conformer_layer(graph, steps, layer, blocks)
            case other:
                raise TypeError(f"a layer that cannot be exported: {type(other).__name__}")
    return _normed(graph, steps, encoder.norm)


def _normed(graph: Graph, steps: str, norm: nn.Module) -> str:
    return layer_norm(graph, steps, norm) if isinstance(norm, nn.LayerNorm) else steps


def _transformer_layer(graph: Graph, steps: str, layer: TransformerLayer, blocks: _Blocks) -> str:
    attended = _attention(graph, layer_norm(graph, steps, layer.attention_norm), layer.attention, blocks)
    steps = graph.op("Add", steps, attended)
    return graph.op("Add", steps, _feed_forward(graph, steps, layer.feed_forward))


def _conformer_layer(graph: Graph, steps: str, layer: ConformerLayer, blocks: _Blocks) -> str:
    half = graph.const(0.5, np.float32)
    steps = graph.op("Add", steps, graph.op("Mul", _feed_forward(graph, steps, layer.first), half))
    attended = _attention(graph, layer_norm(graph, steps, layer.attention_norm), layer.attention, blocks)
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


@dataclass(frozen=True)
class _Blocks:
    """Steps in blocks of R steps, so that memory grows with T' and not with its square. Attributes are names of values.

    The steps of a block see only their own block and its two neighbours. There are B blocks, plus one block of zeros on
    either side; zeros also fill the last block.

    Attributes:
        num_steps: (1,) T'.
        pads: the amounts by which "Pad" extends (T', ...).
        distances: (R, 3R) j - i for each step of a block and each visible step, as an index of the padded biases.
        hidden: (B, 1, 3R) -inf before the first step and after the last one, otherwise 0.
    """

    num_steps: str
    pads: str
    distances: str
    hidden: str


def _blocks(graph: Graph, steps: str, reach: int) -> _Blocks:
    size, seen = graph.const([reach]), np.arange(-reach, 2 * reach)
    num_steps = graph.op("Shape", steps, start=0, end=1)
    num_blocks = graph.op("Div", graph.op("Add", num_steps, graph.const([reach - 1])), size)
    lacking = graph.op("Sub", graph.op("Mul", num_blocks, size), num_steps)
    pads = graph.op("Concat", graph.const([reach, 0]), graph.op("Add", lacking, size), graph.const([0]), axis=0)
    distances = (seen - np.arange(reach)[:, None]).clip(-reach - 1, reach + 1) + reach + 1
    zero, nothing, unseen = graph.const(0), graph.const(0.0, np.float32), graph.const(-np.inf, np.float32)
    begins = graph.op(
        "Range", zero, graph.op("Mul", graph.op("Squeeze", num_blocks), graph.const(reach)), graph.const(reach)
    )
    numbers = graph.op("Add", graph.op("Unsqueeze", begins, graph.const([1, 2])), graph.const(seen))
    within = graph.op("Where", graph.op("Less", numbers, num_steps), nothing, unseen)
    hidden = graph.op("Where", graph.op("Less", numbers, zero), unseen, within)
    return _Blocks(num_steps, pads, graph.const(distances), hidden)


def _attention(graph: Graph, steps: str, layer: SelfAttention, blocks: _Blocks) -> str:
    size = layer.output.in_features // layer.num_heads
    padded = graph.op("Pad", linear(graph, steps, layer.query_key_value), blocks.pads)
    by_block = graph.op("Reshape", padded, graph.const([-1, layer.reach, 3, layer.num_heads, size]))
    heads = graph.ops("Split", 3, graph.op("Transpose", by_block, perm=[2, 3, 0, 1, 4]), axis=0)  # (1, K, B + 2, R, -)
    query = graph.op("Mul", _part(graph, heads[0], 1, -1), graph.const(size**-0.5, np.float32))
    key, value = (
        graph.op("Concat", *(_part(graph, head, *ends) for ends in ((0, -2), (1, -1), (2, _ALL))), axis=3)
        for head in heads[1:]
    )  # (1, K, B, 3R, -)
    scores = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 2, 4, 3]))
    beyond = graph.const([0, 1, 0, 1]), graph.const(-np.inf, np.float32)
    biases = graph.op("Gather", graph.op("Pad", graph.const(layer.bias_of_distance), *beyond), blocks.distances, axis=1)
    scores = graph.op("Add", scores, graph.op("Unsqueeze", biases, graph.const([1])))
    weights = graph.op("Softmax", graph.op("Add", scores, blocks.hidden), axis=-1)
    attended = graph.op("Transpose", graph.op("MatMul", weights, value), perm=[0, 2, 3, 1, 4])
    joined = graph.op("Reshape", attended, graph.const([-1, size * layer.num_heads]))
    return linear(graph, graph.op("Slice", joined, graph.const([0]), blocks.num_steps), layer.output)


def _part(graph: Graph, blocks: str, begin: int, end: int) -> str:
    return graph.op("Slice", blocks, graph.const([begin]), graph.const([end]), graph.const([2]))
