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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
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
from asrkit.models.cells.elman import ElmanLayer
from asrkit.models.cells.gru import GruLayer
from asrkit.models.cells.jordan import JordanLayer
from asrkit.models.cells.layer import RecurrentLayer
from asrkit.models.cells.lstm import LstmLayer
from asrkit.models.cells.peephole_lstm import PeepholeLstmLayer
from asrkit.models.config import ModelConfig
from asrkit.models.frontends.conv2d import Conv2dFrontEnd
from asrkit.models.frontends.none import NoFrontEnd
from asrkit.models.frontends.tdnn import CONTEXTS

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
    if isinstance(frontend, NoFrontEnd):
        return feats
    if isinstance(frontend, Conv2dFrontEnd):
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
    """(T, frame size) -> (T', stack * frame size), as models/stacking.py does it."""
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
    size = model.frontend.output_size * model.config.stack
    for number, (layer, norm) in enumerate(zip(model.stack.layers, model.stack.norms, strict=True)):
        if model.feedback is not None and number > 0:
            found = graph.op("Softmax", _linear(graph, steps, model.output), axis=1)
            steps = graph.op("Add", steps, _linear(graph, found, model.feedback))
        outputs = _recurrent_layer(graph, steps, layer, number)
        if isinstance(norm, nn.LayerNorm):
            outputs = _layer_norm(graph, outputs, norm)
        steps = graph.op("Add", steps, outputs) if model.stack.residual and size == layer.output_size else outputs
        size = layer.output_size
    return steps


@dataclass(frozen=True)
class _Operator:
    """One of ONNX's recurrent operators: which of PyTorch's gates come first, second... in it, and its attributes."""

    kind: str
    gates: tuple[int, ...]
    attributes: dict[str, Any] = field(default_factory=dict)


def _recurrent_layer(graph: _Graph, steps: str, layer: RecurrentLayer, number: int) -> str:
    """The outputs (T', output size) of a layer: by ONNX's own operator where there is one, else by a loop."""
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


def _recurrent(graph: _Graph, steps: str, layer: RecurrentLayer, number: int, operator: _Operator) -> str:
    """One of ONNX's own cells, both directions in one operator."""
    size, is_peephole = layer.state_sizes["hidden"], isinstance(layer, PeepholeLstmLayer)

    def gates(name: str) -> list[torch.Tensor]:
        return [torch.cat([weights.split(size)[gate] for gate in operator.gates]) for weights in layer.weights(name)]

    weight_ih, weight_hh, bias = gates("weight_ih"), gates("weight_hh"), gates("bias_ih")
    other = [torch.zeros_like(row) for row in bias] if is_peephole else gates("bias_hh")
    biases = [torch.cat(pair) for pair in zip(bias, other, strict=True)]
    inputs = [
        graph.op("Unsqueeze", steps, graph.const([1])),
        *(graph.const(torch.stack(w)) for w in (weight_ih, weight_hh, biases)),
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
Step = Callable[[_Graph, _Graph, Weights, dict[str, str]], dict[str, str]]


def _looped(graph: _Graph, steps: str, layer: RecurrentLayer, number: int, step: Step) -> str:
    """A cell that ONNX lacks, as a loop over the steps; the product of the input is one for all of them.

    `step` writes the nodes of one step: from the graph, the loop's body, the weights, the names of the sums and of the
    states before it, to the names of the states after it.
    """
    outputs = []
    for direction, suffix in enumerate(layer.suffixes):

        def weights(name: str, direction: int = direction) -> torch.Tensor:
            return layer.weights(name)[direction]

        bias = weights("bias_ih") if isinstance(layer, JordanLayer) else weights("bias_ih") + weights("bias_hh")
        input_sums = graph.op("MatMul", steps, graph.const(weights("weight_ih").T))
        input_sums = graph.op("Add", input_sums, graph.const(bias))
        recurrent = graph.const(weights("weight_hh").T)
        body = _Graph(f"layer{number}{suffix}.")
        before = {
            name: body.input(body.prefix + name, TensorProto.FLOAT, [size]) for name, size in layer.state_sizes.items()
        }
        frame = body.input(body.prefix + "frame", TensorProto.FLOAT, [len(bias)])
        sums = body.op("Add", body.op("MatMul", before["hidden"], recurrent), frame)
        after = step(graph, body, weights, {"sums": sums, **before})
        for name, size in layer.state_sizes.items():
            body.output(after[name], f"{body.prefix}{name}.next", [size])
        body.output(body.prefix + "hidden.next", body.prefix + "output", [layer.state_sizes["hidden"]])
        if layer.bidirectional:
            initial = [graph.const(np.zeros(size), np.float32) for size in layer.state_sizes.values()]
        else:
            initial = [graph.state(number, name, [size]) for name, size in layer.state_sizes.items()]
        *states, found = graph.ops(
            "Scan",
            len(layer.state_sizes) + 1,
            *initial,
            input_sums,
            body=helper.make_graph(body.nodes, body.prefix + "step", body.inputs, body.outputs, body.initialisers),
            num_scan_inputs=1,
            scan_input_directions=[direction],
            scan_output_directions=[direction],
        )
        outputs.append(found)
        if not layer.bidirectional:
            for (name, size), state in zip(layer.state_sizes.items(), states, strict=True):
                graph.output(state, f"state.{number}.{name}.next", [size])
    return outputs[0] if len(outputs) == 1 else graph.op("Concat", *outputs, axis=1)


def _jordan_step(
    activation: str, graph: _Graph, body: _Graph, weights: Weights, values: dict[str, str]
) -> dict[str, str]:
    out = graph.const(weights("weight_ho").T), graph.const(weights("bias_ho"))
    product = body.op("MatMul", body.op(activation, values["sums"]), out[0])
    return {"hidden": body.op(activation, body.op("Add", product, out[1]))}


def _projected_lstm_step(graph: _Graph, body: _Graph, weights: Weights, values: dict[str, str]) -> dict[str, str]:
    input_gate, forget_gate, cell_gate, output_gate = body.ops("Split", 4, values["sums"], axis=0)
    kept = body.op("Mul", body.op("Sigmoid", forget_gate), values["cell"])
    cell = body.op("Add", kept, body.op("Mul", body.op("Sigmoid", input_gate), body.op("Tanh", cell_gate)))
    hidden = body.op("Mul", body.op("Sigmoid", output_gate), body.op("Tanh", cell))
    return {"hidden": body.op("MatMul", hidden, graph.const(weights("weight_hr").T)), "cell": cell}
