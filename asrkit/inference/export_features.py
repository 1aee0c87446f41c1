"""The input of a network as ONNX operators: CMVN, deltas, front ends and frame stacking.

Each function adds nodes to a graph, and returns the name of their output.

Legend: T frames, D feature dim, T' steps.
"""

from __future__ import annotations

import numpy as np
from onnx import TensorProto
from torch import nn

from asrkit.features.cmvn import VARIANCE_FLOOR
from asrkit.features.config import FeatureConfig
from asrkit.inference.export_graph import Graph, layer_norm, of_kind
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.models.frontends.conv2d import Conv2dFrontEnd
from asrkit.models.frontends.none import NoFrontEnd
from asrkit.models.frontends.tdnn import CONTEXTS, TdnnFrontEnd


def normalize(graph: Graph, static: str, config: FeatureConfig, global_cmvn: np.ndarray) -> str:
    """Add CMVN. As in features/cmvn.py, sums of statistics are float64, and features float32.

    Running CMVN is not part of the graph, since the windows of a stream begin within an utterance.

    Args:
        graph, static, config: the graph, the static features and their settings.
        global_cmvn: (2, D + 1) statistics of the training set.
    """
    mode = config.normalization
    if not mode.is_fixed:
        return static
    dim = config.num_static
    has_default = mode.takes_global_stats or mode.counts_speech
    default = global_cmvn if has_default else np.zeros((2, dim + 1))
    stats = graph.input("stats", TensorProto.DOUBLE, [2, dim + 1], np.asarray(default, np.float64))
    count_at = graph.const([dim])
    if not has_default:
        stats = _given_or_own(graph, stats, static, dim)
    row_sums, row_squares = (graph.op("Gather", stats, graph.const(row)) for row in (0, 1))
    count = graph.op("Gather", row_sums, count_at)
    sums, squares = (
        graph.op("Slice", row, graph.const([0]), count_at, graph.const([0])) for row in (row_sums, row_squares)
    )
    mean = graph.op("Div", sums, count)
    centered = graph.op("Sub", static, graph.op("Cast", mean, to=TensorProto.FLOAT))
    if mode.counts_speech:
        centered = graph.op("Max", centered, graph.const(mode.below_mean(dim), np.float32))
    if not config.norm_vars:
        return centered
    variance = graph.op("Sub", graph.op("Div", squares, count), graph.op("Mul", mean, mean))
    variance = graph.op("Max", variance, graph.const(VARIANCE_FLOOR, np.float64))
    scale = graph.op("Reciprocal", graph.op("Sqrt", variance))
    return graph.op("Mul", centered, graph.op("Cast", scale, to=TensorProto.FLOAT))


def _given_or_own(graph: Graph, given: str, static: str, dim: int) -> str:
    """The statistics `given`. If their number of frames is 0, the statistics of the static features instead."""
    wide = graph.op("Cast", static, to=TensorProto.DOUBLE)
    sums = graph.op("ReduceSum", wide, graph.const([0]), keepdims=1)
    squares = graph.op("ReduceSumSquare", wide, axes=[0], keepdims=1)
    count = graph.op("Cast", graph.op("Shape", static, start=0, end=1), to=TensorProto.DOUBLE)
    count = graph.op("Unsqueeze", count, graph.const([0]))
    first = graph.op("Concat", sums, count, axis=1)
    second = graph.op("Concat", squares, graph.const([[0.0]], np.float64), axis=1)
    own = graph.op("Concat", first, second, axis=0)
    given_count = graph.op("Gather", graph.op("Gather", given, graph.const(0)), graph.const(dim))
    is_given = graph.op("Greater", given_count, graph.const(0.0, np.float64))
    return graph.op("Where", is_given, given, own)


def add_deltas(graph: Graph, feats: str, config: FeatureConfig) -> str:
    """Add all orders of deltas as one convolution over frames.

    The first and the last frame are repeated at the edges.
    """
    if config.delta_order == 0:
        return feats
    window, reach = config.delta_window, config.delta_order * config.delta_window
    slope = np.arange(-window, window + 1) / (2 * sum(step * step for step in range(1, window + 1)))
    kernel, kernels = np.ones(1), []
    for _ in range(config.delta_order + 1):
        side = reach - len(kernel) // 2
        kernels.append(np.pad(kernel, side))
        kernel = np.convolve(kernel, slope)
    columns = graph.op("Unsqueeze", graph.op("Transpose", feats, perm=[1, 0]), graph.const([1]))  # (D, 1, T)
    padded = graph.op("Pad", columns, graph.const([0, 0, reach, 0, 0, reach]), mode="edge")
    deltas = graph.op("Conv", padded, graph.const(np.stack(kernels)[:, None], np.float32))  # (D, orders, T)
    return graph.op("Reshape", graph.op("Transpose", deltas, perm=[2, 1, 0]), graph.const([-1, config.dim]))


def front_end(graph: Graph, feats: str, model: AcousticModel) -> str:
    """Add the front end: (T, D) -> (T, frame size). Raises TypeError for one that cannot be exported."""
    match model.frontend:
        case NoFrontEnd():
            return feats
        case Conv2dFrontEnd() as conv2d:
            return _conv2d(graph, feats, conv2d)
        case TdnnFrontEnd() as tdnn:
            return _tdnn(graph, feats, tdnn)
        case other:
            raise TypeError(f"a front end that cannot be exported: {type(other).__name__}")


def _conv2d(graph: Graph, feats: str, layers: Conv2dFrontEnd) -> str:
    maps = graph.op("Reshape", feats, graph.const([0, layers.feat_channels, -1]))
    maps = graph.op("Unsqueeze", graph.op("Transpose", maps, perm=[1, 0, 2]), graph.const([0]))
    for layer in (layers.first, layers.second):
        weights = graph.weight(layer.weight, (1, 2, 3)), graph.const(layer.bias)
        maps = graph.op("Relu", graph.op("Conv", maps, *weights, strides=[1, 2], pads=[1, 1, 1, 1]))
    frames = graph.op("Transpose", maps, perm=[0, 2, 1, 3])  # (1, T, channels, frequencies)
    return graph.op("Reshape", frames, graph.const([-1, layers.output_size]))


def _tdnn(graph: Graph, feats: str, layers: TdnnFrontEnd) -> str:
    products, norms = of_kind(layers.layers, nn.Linear), of_kind(layers.norms, nn.LayerNorm)
    for context, layer, norm in zip(CONTEXTS, products, norms, strict=True):
        columns = graph.op("Unsqueeze", graph.op("Transpose", feats, perm=[1, 0]), graph.const([0]))
        kernel = layer.weight.unflatten(1, (len(context), -1)).transpose(1, 2)  # (size, D, frames)
        weights, padding = (graph.weight(kernel, (1, 2)), graph.const(layer.bias)), [context[-1]] * 2
        joined = graph.op("Conv", columns, *weights, pads=padding, dilations=[context[1] - context[0]])
        joined = graph.op("Squeeze", graph.op("Relu", joined), graph.const([0]))
        feats = layer_norm(graph, graph.op("Transpose", joined, perm=[1, 0]), norm)
    return feats


def stack_frames(graph: Graph, feats: str, config: ModelConfig) -> str:
    """Add the frame stacking of models/stacking.py: (T, frame size) -> (T', stack * frame size)."""
    stack, skip = config.stack, config.skip
    first = graph.input("first", TensorProto.INT64, [], np.array(0, np.int64))
    asked = graph.input("num_steps", TensorProto.INT64, [], np.array(-1, np.int64))
    one, zero = graph.const(1), graph.const(0)
    num_frames = graph.op("Gather", graph.op("Shape", feats), zero)
    all_steps = graph.op("Div", graph.op("Add", num_frames, graph.const(skip - 1)), graph.const(skip))
    num_steps = graph.op("Where", graph.op("Less", asked, zero), all_steps, asked)
    begins = graph.op("Mul", graph.op("Range", zero, num_steps, one), graph.const(skip))
    return _stacked(graph, feats, graph.op("Add", begins, first), stack)


def join_steps(graph: Graph, steps: str, number: int) -> str:
    """Join steps between two layers of a pyramid: (T, size) -> (ceil(T / number), number * size)."""
    one, zero = graph.const(1), graph.const(0)
    last = graph.op("Sub", graph.op("Gather", graph.op("Shape", steps), zero), one)
    joined = graph.op("Add", graph.op("Div", last, graph.const(number)), one)
    begins = graph.op("Mul", graph.op("Range", zero, joined, one), graph.const(number))
    return _stacked(graph, steps, begins, number)


def _stacked(graph: Graph, feats: str, begins: str, number: int) -> str:
    """Join `number` frames from each of the frames `begins` (T',) on. Beyond an edge, the edge frame is repeated."""
    frames = graph.op("Unsqueeze", begins, graph.const([1]))
    frames = graph.op("Add", frames, graph.const([list(range(number))]))  # (T', number)
    num_frames = graph.op("Gather", graph.op("Shape", feats), graph.const(0))
    within = graph.op("Min", frames, graph.op("Sub", num_frames, graph.const(1)))
    within = graph.op("Max", within, graph.const(0))
    return graph.op("Flatten", graph.op("Gather", feats, within, axis=0), axis=1)
