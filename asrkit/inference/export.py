"""A trained experiment as one ONNX file: front end, network, tokens, language model and settings.

The graph is written operator by operator: ONNX has the recurrent cells themselves, with their states as inputs, which
tracing PyTorch would take apart. Projected LSTMs and Jordan networks, which it lacks, are loops (Scan).

Inputs: `static` (T, D) float32, the static features of one utterance or of a window; with cmvn "running" normalised
    ones. The others may be left out:
    `stats` (2, D + 1) float64, CMVN statistics; by default the training set's (cmvn "global"), else `static`'s own
    `first` int64, the frame in which the first step begins; `num_steps` int64, by default ceil(T / skip)
    `state.LAYER.NAME`, states of a unidirectional network before its first step
Outputs: `log_probs` (T', V) float32; `frame_log_probs` (T', V - 1), where there is a frame-wise head;
    `state.LAYER.NAME.next`.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from asrkit import __version__
from asrkit.experiment import Experiment, load_experiment
from asrkit.features.cmvn import VARIANCE_FLOOR
from asrkit.features.config import FeatureConfig
from asrkit.inference.onnx_model import FORMAT, OnnxModel, pack_lm
from asrkit.inference.torch_model import TorchModel
from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import file_digest
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.models.convolution import Conv2dFrontend
from asrkit.models.tdnn import CONTEXTS

_OPSET, _IR_VERSION = 17, 8  # those of 2022, which every onnxruntime in use reads

Utterance = tuple[np.ndarray, np.ndarray | None]


class _Graph:
    """Nodes in the order of their execution, and the constants they take."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
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
        name = f"{self.prefix}const{len(self.initialisers)}"
        self.initialisers.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def input(self, name: str, kind: int, shape: list[int | str], default: np.ndarray | None = None) -> str:
        """An input, which may be left out when it has a default."""
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        if default is not None:
            self.initialisers.append(numpy_helper.from_array(default, name))
        return name

    def output(self, value: str, name: str, shape: list[int | str]) -> None:
        self.nodes.append(helper.make_node("Identity", [value], [name], name))
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def state(self, layer: int, name: str, shape: list[int]) -> str:
        """The input of a recurrent layer's state; zeros by default."""
        return self.input(f"state.{layer}.{name}", TensorProto.FLOAT, shape, np.zeros(shape, np.float32))


def export_experiment(directory: str | Path, path: str | Path | None = None) -> Path:
    """Write the model of an experiment directory to `path`, by default its `final.onnx`; returns the path.

    Raises ModelError as load_experiment.
    """
    path = Path(directory) / "final.onnx" if path is None else Path(path)
    content = export_model(*load_for_export(directory))
    with atomic_write(path, "wb") as stream:
        stream.write(content)
    return path


def int8_model(content: bytes) -> bytes:
    """The exported model with 8-bit weights in its LSTMs and products; what enters them is quantised as it comes.

    onnxruntime's dynamic quantisation: each column of a matrix has its own scale. GRUs and Elman networks have no such
    operators and stay as they are, as do convolutions.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "int8.onnx"
        logging.disable(logging.WARNING)  # it advises a preparation that changes nothing here
        try:
            quantize_dynamic(
                onnx.load_from_string(content),
                path,
                op_types_to_quantize=["MatMul", "LSTM"],
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
        finally:
            logging.disable(logging.NOTSET)
        return path.read_bytes()


def max_difference(experiment: Experiment, model: OnnxModel, utterances: Iterable[Utterance]) -> float:
    """The largest difference between the log-probabilities of an export and those of PyTorch.

    `utterances`: static features (T, D) and CMVN statistics of each, as OnnxModel.log_probs takes them.
    """
    network, found = TorchModel(experiment), 0.0
    for static, stats in utterances:
        expected, actual = network.log_probs(static, stats), model.log_probs(static, stats)
        possible = np.isfinite(expected)
        if expected.shape != actual.shape or not np.array_equal(possible, np.isfinite(actual)):
            return np.inf
        found = max(found, float(np.abs(expected[possible] - actual[possible]).max()))
    return found


def made_up_utterances(experiment: Experiment) -> Iterator[Utterance]:
    """Features of the training set's means and variances, for max_difference where there is no audio."""
    rng = np.random.default_rng(0)
    sums, squares = experiment.global_cmvn[:, :-1] / experiment.global_cmvn[0, -1]
    deviation = np.sqrt(np.maximum(squares - sums * sums, 0.0))
    for num_frames in (2, 30, 1000):
        noise = rng.standard_normal((num_frames, len(sums)))
        yield (sums + deviation * noise).astype(np.float32), experiment.global_cmvn


def load_for_export(directory: str | Path) -> tuple[Experiment, str]:
    """A trained experiment, and the digest of its `final.pt`, which tells an export of it from an older one."""
    return load_experiment(directory), file_digest(Path(directory) / "final.pt")


def export_model(experiment: Experiment, made_from: str | None = None) -> bytes:
    """The ONNX file of a trained experiment; `made_from` is the digest of what it was read from."""
    config, model = experiment.config, experiment.model
    graph = _Graph()
    static = graph.input("static", TensorProto.FLOAT, ["frames", config.features.num_static])
    feats = _deltas(graph, _cmvn(graph, static, config.features, experiment.global_cmvn), config.features)
    steps = _stack(graph, _frontend(graph, feats, model), config.model)
    hidden = _recurrent_stack(graph, steps, model)
    ctc, frames = (head and _log_softmax(graph, hidden, head) for head in (model.output, model.frame_output))
    if ctc is None:  # there is no blank: its probability is 0
        ctc = graph.op("Pad", frames, graph.const([0, 1, 0, 0]), graph.const(-np.inf, np.float32))
    graph.output(ctc, "log_probs", ["steps", len(experiment.tokens)])
    if frames is not None:
        graph.output(frames, "frame_log_probs", ["steps", len(experiment.tokens) - 1])

    proto = helper.make_model(
        helper.make_graph(graph.nodes, "asrkit", graph.inputs, graph.outputs, graph.initialisers),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="asrkit",
        producer_version=__version__,
    )
    helper.set_model_props(proto, _properties(experiment, made_from))
    onnx.checker.check_model(proto, full_check=True)
    return proto.SerializeToString()


def _properties(experiment: Experiment, made_from: str | None) -> dict[str, str]:
    config = experiment.config
    meta = {
        "format": FORMAT,
        "version": __version__,
        "features": asdict(config.features),
        "model": asdict(config.model),
        "decoding": asdict(config.decoding),
        "calibration": asdict(experiment.calibration) if experiment.calibration else None,
        "phones": experiment.tokens.phones,
        "global_cmvn": experiment.global_cmvn.tolist(),
        "made_from": made_from,
    }
    properties = {"asrkit": json.dumps(meta, ensure_ascii=False)}
    if experiment.lm is not None:
        properties["lm"] = pack_lm(experiment.lm.automaton)
    return properties


def _cmvn(graph: _Graph, static: str, config: FeatureConfig, global_cmvn: np.ndarray) -> str:
    """Statistics are summed in float64, features normalized in float32, as in features/cmvn.py.

    Running CMVN is left to what feeds the graph, as the windows of a stream begin within an utterance.
    """
    mode = config.normalization
    if not mode.is_fixed:
        return static
    dim = config.num_static
    default = global_cmvn if mode.takes_global_stats else np.zeros((2, dim + 1))
    used = graph.input("stats", TensorProto.DOUBLE, [2, dim + 1], np.asarray(default, np.float64))
    count_at = graph.const([dim])
    if not mode.takes_global_stats:
        wide = graph.op("Cast", static, to=TensorProto.DOUBLE)
        sums = graph.op("ReduceSum", wide, graph.const([0]), keepdims=1)
        squares = graph.op("ReduceSumSquare", wide, axes=[0], keepdims=1)
        count = graph.op("Cast", graph.op("Shape", static, start=0, end=1), to=TensorProto.DOUBLE)
        count = graph.op("Unsqueeze", count, graph.const([0]))
        own = [
            graph.op("Concat", sums, count, axis=1),
            graph.op("Concat", squares, graph.const([[0.0]], np.float64), axis=1),
        ]
        own = graph.op("Concat", *own, axis=0)
        given = graph.op("Gather", graph.op("Gather", used, graph.const(0)), graph.const(dim))
        is_given = graph.op("Greater", given, graph.const(0.0, np.float64))
        used = graph.op("Where", is_given, used, own)
    row_sums, row_squares = (graph.op("Gather", used, graph.const(row)) for row in (0, 1))
    count = graph.op("Gather", row_sums, count_at)
    sums, squares = (
        graph.op("Slice", row, graph.const([0]), count_at, graph.const([0])) for row in (row_sums, row_squares)
    )
    mean = graph.op("Div", sums, count)
    centred = graph.op("Sub", static, graph.op("Cast", mean, to=TensorProto.FLOAT))
    if not config.norm_vars:
        return centred
    variance = graph.op("Sub", graph.op("Div", squares, count), graph.op("Mul", mean, mean))
    variance = graph.op("Max", variance, graph.const(VARIANCE_FLOOR, np.float64))
    scale = graph.op("Reciprocal", graph.op("Sqrt", variance))
    return graph.op("Mul", centred, graph.op("Cast", scale, to=TensorProto.FLOAT))


def _deltas(graph: _Graph, feats: str, config: FeatureConfig) -> str:
    """Every order of deltas as one kernel over the frames, of which the first and the last are repeated."""
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
    found = graph.op("Conv", padded, graph.const(np.stack(kernels)[:, None], np.float32))  # (D, orders, T)
    return graph.op("Reshape", graph.op("Transpose", found, perm=[2, 1, 0]), graph.const([-1, config.dim]))


def _frontend(graph: _Graph, feats: str, model: AcousticModel) -> str:
    """(T, D) -> (T, frame size)."""
    frontend = model.frontend
    if frontend is None:
        return feats
    if isinstance(frontend, Conv2dFrontend):
        maps = graph.op("Reshape", feats, graph.const([0, frontend.feat_channels, -1]))
        maps = graph.op("Unsqueeze", graph.op("Transpose", maps, perm=[1, 0, 2]), graph.const([0]))
        for layer in (frontend.first, frontend.second):
            weights = graph.const(layer.weight), graph.const(layer.bias)
            maps = graph.op("Relu", graph.op("Conv", maps, *weights, strides=[1, 2], pads=[1, 1, 1, 1]))
        frames = graph.op("Transpose", maps, perm=[0, 2, 1, 3])  # (1, T, channels, frequencies)
        return graph.op("Reshape", frames, graph.const([-1, frontend.output_size]))
    for context, layer, norm in zip(CONTEXTS, frontend.layers, frontend.norms, strict=True):
        columns = graph.op("Unsqueeze", graph.op("Transpose", feats, perm=[1, 0]), graph.const([0]))
        kernel = layer.weight.unflatten(1, (len(context), -1)).transpose(1, 2)  # (size, D, frames)
        weights, padding = (graph.const(kernel), graph.const(layer.bias)), [context[-1]] * 2
        found = graph.op("Conv", columns, *weights, pads=padding, dilations=[context[1] - context[0]])
        found = graph.op("Squeeze", graph.op("Relu", found), graph.const([0]))
        feats = _layer_norm(graph, graph.op("Transpose", found, perm=[1, 0]), norm)
    return feats


def _stack(graph: _Graph, feats: str, config: ModelConfig) -> str:
    """(T, frame size) -> (T', stack * frame size), as models/frontend.py does it."""
    stack, skip = config.stack, config.skip
    first = graph.input("first", TensorProto.INT64, [], np.array(0, np.int64))
    asked = graph.input("num_steps", TensorProto.INT64, [], np.array(-1, np.int64))
    one, zero = graph.const(1), graph.const(0)
    num_frames = graph.op("Gather", graph.op("Shape", feats), zero)
    all_steps = graph.op("Div", graph.op("Add", num_frames, graph.const(skip - 1)), graph.const(skip))
    num_steps = graph.op("Where", graph.op("Less", asked, zero), all_steps, asked)
    begins = graph.op("Mul", graph.op("Range", zero, num_steps, one), graph.const(skip))
    begins = graph.op("Unsqueeze", graph.op("Add", begins, first), graph.const([1]))
    frames = graph.op("Add", begins, graph.const([list(range(stack))]))  # (T', stack)
    within = graph.op("Max", graph.op("Min", frames, graph.op("Sub", num_frames, one)), zero)
    return graph.op("Flatten", graph.op("Gather", feats, within, axis=0), axis=1)


def _layer_norm(graph: _Graph, values: str, norm: nn.LayerNorm) -> str:
    weights = graph.const(norm.weight), graph.const(norm.bias)
    return graph.op("LayerNormalization", values, *weights, axis=-1, epsilon=norm.eps)


def _log_softmax(graph: _Graph, hidden: str, head: nn.Linear) -> str:
    return graph.op("LogSoftmax", _linear(graph, hidden, head), axis=1)


def _linear(graph: _Graph, values: str, layer: nn.Linear) -> str:
    return graph.op("Add", graph.op("MatMul", values, graph.const(layer.weight.T)), graph.const(layer.bias))


def _recurrent_stack(graph: _Graph, steps: str, model: AcousticModel) -> str:
    """(T', step size) -> (T', output size), as models/recurrent.py does it. Dropout is left out."""
    config = model.config
    size = _weights(model.stack.layers[0], "weight_ih_l0").shape[1]
    for number, (layer, norm) in enumerate(zip(model.stack.layers, model.stack.norms, strict=True)):
        if model.feedback is not None and number > 0:
            found = graph.op("Softmax", _linear(graph, steps, model.output), axis=1)
            steps = graph.op("Add", steps, _linear(graph, found, model.feedback))
        if config.cell == "jordan" or config.projection_size is not None:
            outputs = _looped(graph, steps, layer, number, config)
        else:
            outputs = _recurrent(graph, steps, layer, number, config)
        if isinstance(norm, nn.LayerNorm):
            outputs = _layer_norm(graph, outputs, norm)
        steps = graph.op("Add", steps, outputs) if config.residual and size == layer.output_size else outputs
        size = layer.output_size
    return steps


def _weights(layer: nn.Module, name: str) -> torch.Tensor:
    return getattr(layer.rnn if hasattr(layer, "rnn") else layer, name)


def _suffixes(config: ModelConfig) -> tuple[str, ...]:
    return ("_l0", "_l0_reverse") if config.bidirectional else ("_l0",)


_GATES = {"lstm": (0, 3, 1, 2), "peephole_lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "elman": (0,)}  # in ONNX's order


def _recurrent(graph: _Graph, steps: str, layer: nn.Module, number: int, config: ModelConfig) -> str:
    """One of ONNX's own cells, both directions in one operator."""
    size, order, suffixes = config.hidden_size, _GATES[config.cell], _suffixes(config)

    def gates(name: str) -> list[torch.Tensor]:
        return [torch.cat([_weights(layer, name + s).split(size)[gate] for gate in order]) for s in suffixes]

    weight_ih, weight_hh, bias = gates("weight_ih"), gates("weight_hh"), gates("bias_ih")
    other = [torch.zeros_like(row) for row in bias] if config.cell == "peephole_lstm" else gates("bias_hh")
    biases = [torch.cat(pair) for pair in zip(bias, other, strict=True)]
    inputs = [
        graph.op("Unsqueeze", steps, graph.const([1])),
        *(graph.const(torch.stack(w)) for w in (weight_ih, weight_hh, biases)),
        "",
    ]
    names = ["hidden", "cell"] if "lstm" in config.cell else ["hidden"]
    if not config.bidirectional:
        inputs += [graph.state(number, name, [1, 1, size]) for name in names]
    elif config.cell == "peephole_lstm":
        inputs += ["", ""]
    if config.cell == "peephole_lstm":  # input, forget, output -> input, output, forget
        inputs.append(
            graph.const(torch.stack([_weights(layer, "weight_ch" + s)[[0, 2, 1]].flatten() for s in suffixes]))
        )
    kind = {"gru": "GRU", "elman": "RNN"}.get(config.cell, "LSTM")
    attributes: dict[str, Any] = {
        "hidden_size": size,
        "direction": "bidirectional" if config.bidirectional else "forward",
    }
    if config.cell == "gru":
        attributes["linear_before_reset"] = 1
    if config.cell == "elman":
        attributes["activations"] = [config.nonlinearity.capitalize()] * len(suffixes)
    outputs, *states = graph.ops(kind, 1 + len(names), *inputs, **attributes)  # (T', directions, 1, H)
    if not config.bidirectional:
        for name, state in zip(names, states, strict=True):
            graph.output(state, f"state.{number}.{name}.next", [1, 1, size])
    return graph.op("Reshape", outputs, graph.const([-1, layer.output_size]))


def _looped(graph: _Graph, steps: str, layer: nn.Module, number: int, config: ModelConfig) -> str:
    """A cell that ONNX lacks, as a loop over the steps; the product of the input is one for all of them."""
    size = config.hidden_size
    output_size = config.projection_size or size
    found = []
    for direction, suffix in enumerate(_suffixes(config)):

        def weights(name: str, suffix: str = suffix) -> torch.Tensor:
            return _weights(layer, name + suffix)

        bias = weights("bias_ih") if config.cell == "jordan" else weights("bias_ih") + weights("bias_hh")
        drive = graph.op("MatMul", steps, graph.const(weights("weight_ih").T))
        drive = graph.op("Add", drive, graph.const(bias))
        shapes = {"hidden": output_size} if config.cell == "jordan" else {"hidden": output_size, "cell": size}
        recurrent = graph.const(weights("weight_hh").T)
        body = _Graph(f"layer{number}{suffix}.")
        hidden = body.input(body.prefix + "hidden", TensorProto.FLOAT, [output_size])
        cell = body.input(body.prefix + "cell", TensorProto.FLOAT, [size]) if "cell" in shapes else ""
        frame = body.input(body.prefix + "frame", TensorProto.FLOAT, [len(bias)])
        sums = body.op("Add", body.op("MatMul", hidden, recurrent), frame)
        if config.cell == "jordan":
            activation = config.nonlinearity.capitalize()
            out = graph.const(weights("weight_ho").T), graph.const(weights("bias_ho"))
            product = body.op("MatMul", body.op(activation, sums), out[0])
            body.output(body.op(activation, body.op("Add", product, out[1])), body.prefix + "hidden.next", [size])
        else:
            enter, forget, new, leave = body.ops("Split", 4, sums, axis=0)
            kept = body.op("Mul", body.op("Sigmoid", forget), cell)
            cell = body.op("Add", kept, body.op("Mul", body.op("Sigmoid", enter), body.op("Tanh", new)))
            hidden = body.op("Mul", body.op("Sigmoid", leave), body.op("Tanh", cell))
            hidden = body.op("MatMul", hidden, graph.const(weights("weight_hr").T))
            body.output(hidden, body.prefix + "hidden.next", [output_size])
            body.output(cell, body.prefix + "cell.next", [size])
        body.output(body.prefix + "hidden.next", body.prefix + "output", [output_size])
        if config.bidirectional:
            before = [graph.const(np.zeros(n), np.float32) for n in shapes.values()]
        else:
            before = [graph.state(number, name, [n]) for name, n in shapes.items()]
        *after, outputs = graph.ops(
            "Scan",
            len(shapes) + 1,
            *before,
            drive,
            body=helper.make_graph(body.nodes, body.prefix + "step", body.inputs, body.outputs, body.initialisers),
            num_scan_inputs=1,
            scan_input_directions=[direction],
            scan_output_directions=[direction],
        )
        found.append(outputs)
        if not config.bidirectional:
            for (name, n), state in zip(shapes.items(), after, strict=True):
                graph.output(state, f"state.{number}.{name}.next", [n])
    return found[0] if len(found) == 1 else graph.op("Concat", *found, axis=1)
