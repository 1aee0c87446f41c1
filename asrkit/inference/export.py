"""A trained experiment as one ONNX file: front end, network, tokens, language model and settings.

The graph is written operator by operator: ONNX has the recurrent cells themselves, with their states as inputs, which
tracing PyTorch would take apart. Projected LSTMs and Jordan networks, which it lacks, are loops (Scan).

Inputs: `static` (T, D) float32, the static features of one utterance or of a window; with cmvn "running" and
    "speech_running" normalized ones. The others may be left out:
    `stats` (2, D + 1) float64, CMVN statistics; by default `static`'s own (cmvn "speaker" and "utterance"), else the
        training set's
    `first` int64, the frame in which the first step begins; `num_steps` int64, by default ceil(T / skip)
    `state.LAYER.NAME`, states of a unidirectional network before its first step
Outputs: `log_probs` (T', V) float32, unless a decoder is all there is; `frame_log_probs` (T', V - 1), where there is a
    frame-wise head; `attended` (T', E), the encoder's outputs, where there is a decoder; `state.LAYER.NAME.next`.

A decoder's weights lie beside the graph, as constants `decoder.NAME` that no operator takes: its steps are computed in
NumPy (models/search_decoder.py), many hypotheses at once.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from asrkit import __version__
from asrkit.config.yaml_config import config_text
from asrkit.decoding.attention_search import DecoderSearch
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import make_search
from asrkit.decoding.transducer_search import TransducerSearch
from asrkit.errors import ModelError, location
from asrkit.experiment import Experiment, load_experiment
from asrkit.inference.export_attention import attention_encoder
from asrkit.inference.export_cells import pyramid, recurrent_stack
from asrkit.inference.export_features import add_deltas, front_end, normalize, stack_frames
from asrkit.inference.export_graph import Graph, in_8_bits, linear, log_softmax
from asrkit.inference.onnx_metadata import Metadata, read_metadata
from asrkit.inference.onnx_model import DECODER, SCALES, OnnxModel
from asrkit.inference.torch_model import TorchModel
from asrkit.io.atomic import atomic_write
from asrkit.io.seal import read_digest, seal, unsealed
from asrkit.lm.automaton import LmAutomaton
from asrkit.models.acoustic import AcousticModel, Decoder
from asrkit.models.decoder import AttentionDecoder
from asrkit.models.pyramid import Pyramid
from asrkit.models.recurrent import RecurrentStack
from asrkit.models.transducer import Transducer
from asrkit.models.transformer import TransformerEncoder
from asrkit.types import TestScore

TOLERANCE = 1e-4  # between an export's log-probabilities and PyTorch's
_OPSET, _IR_VERSION = 17, 8  # those of 2022, which every onnxruntime in use reads

Utterance = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Sample:
    """Utterances on which an export is compared with PyTorch; `where` describes them."""

    utterances: Iterable[Utterance]
    where: str


@dataclass(frozen=True)
class Comparison:
    """The difference between an export and PyTorch.

    Attributes:
        difference: the largest between two log-probabilities, or two numbers that a decoder attends to.
        where: what they were computed on.
    """

    difference: float
    where: str

    def line(self) -> str:
        return f"log-probabilities differ from PyTorch's by {self.difference:.1e} at most, on {self.where}"


def export_experiment(directory: str | Path, path: str | Path | None = None) -> Path:
    """Write the model of an experiment directory to `path`, by default its `final.onnx`; returns the path.

    Raises ModelError as checked_export, and writes nothing then.
    """
    path = Path(directory) / "final.onnx" if path is None else Path(path)
    write_export(path, checked_export(directory))
    return path


def write_export(path: Path, content: bytes) -> None:
    """Write what is in an exported file."""
    with atomic_write(path, "wb") as stream:
        stream.write(content)


def checked_export(directory: str | Path) -> bytes:
    """The ONNX file of an experiment directory, which gives what PyTorch gives for made-up features.

    Raises ModelError as load_experiment and as compared_export.
    """
    experiment, digest = load_for_export(directory)
    content, _ = compared_export(experiment, digest, made_up_sample(experiment), directory)
    return content


def compared_export(
    experiment: Experiment, made_from: str | None, sample: Sample, name: str | Path, is_8_bit: bool = False
) -> tuple[bytes, Comparison]:
    """The ONNX file of the trained experiment `name`, as export_model gives it, and how far it is from PyTorch.

    With 8-bit weights PyTorch computes with the same weights, in float32.

    Raises ModelError for an export whose log-probabilities of the sample are TOLERANCE or more from PyTorch's.
    """
    experiment = with_8_bit_weights(experiment) if is_8_bit else experiment
    content = export_model(experiment, made_from, is_8_bit)
    comparison = Comparison(max_difference(experiment, OnnxModel(content), sample.utterances), sample.where)
    if not comparison.difference < TOLERANCE:
        raise ModelError(
            f"{location(name)}the export's log-probabilities differ by {comparison.difference:.1e}, "
            f"on {comparison.where}; expected less than {TOLERANCE:g}, and it was not written"
        )
    return content, comparison


def with_8_bit_weights(experiment: Experiment) -> Experiment:
    """The experiment with the weights that its export with 8-bit weights has, in float32.

    Each row of a matrix, or each output of a convolution, has a scale of its own. Biases, those of distances too,
    peepholes and layer norms stay as they are.
    """
    model = copy.deepcopy(experiment.model)
    for name, weights in model.named_parameters():
        if _has_scales(name, weights):
            whole, scales = in_8_bits(weights.detach().numpy(), tuple(range(1, weights.dim())))
            weights.data = torch.from_numpy(whole * scales)
    return replace(experiment, model=model)


def with_test_score(content: bytes, score: TestScore) -> bytes:
    """The exported model with the score in its metadata."""
    proto = onnx.load_from_string(unsealed(content))
    metadata = read_metadata({entry.key: entry.value for entry in proto.metadata_props})
    helper.set_model_props(proto, replace(metadata, test=score).entries())
    return seal(proto.SerializeToString())


def max_difference(experiment: Experiment, model: OnnxModel, utterances: Iterable[Utterance]) -> float:
    """The largest difference between the log-probabilities of an export and those of PyTorch.

    `utterances`: static features (T, D) and CMVN statistics of each, as OnnxModel.log_probs takes them. Without one
    nothing is known, so the difference is infinite then.
    """
    network, largest, mode = TorchModel(experiment), -np.inf, experiment.config.features.normalization
    for static, stats in utterances:
        static = mode.input_normalizer(experiment.global_cmvn)(static)
        expected, actual = network.log_probs(static, stats), model.log_probs(static, stats)
        possible = np.isfinite(expected)
        if expected.shape != actual.shape or not np.array_equal(possible, np.isfinite(actual)):
            return np.inf
        largest = max(largest, float(np.abs(expected[possible] - actual[possible]).max()))
        if experiment.model.decoder is not None and model.decoder is not None:
            largest = max(largest, _decoder_difference(experiment.model.decoder, model.decoder, actual))
    return largest if largest >= 0.0 else np.inf


@torch.inference_mode()
def _decoder_difference(module: Decoder, decoder: Any, stored: np.ndarray) -> float:
    """The largest between log-probabilities of two decoders that write what the second one finds in an utterance."""
    search = make_search(DecodingConfig(method="greedy"), None, decoder)
    tokens = search.decode(stored)[0].tokens
    phones = torch.tensor([tokens]).long()
    steps = torch.from_numpy(stored[None, :, stored.shape[1] - decoder.step_size :].copy())
    match module, search:
        case AttentionDecoder(), DecoderSearch():
            source = module.source(steps, torch.tensor([len(stored)]))
            found = [module.log_probs(step.vector) for step in module.read(source, phones)]
            (expected,), ((actual,), _) = torch.cat(found, dim=1).numpy(), search.read(stored, [tokens])
        case Transducer(), TransducerSearch():
            expected, actual = module.log_probs(steps[0], phones[0]).numpy(), search.read(stored, tokens)
        case other:
            raise TypeError(f"a decoder that cannot be exported: {type(other[0]).__name__}")
    return float(np.abs(expected - actual).max())


def made_up_sample(experiment: Experiment) -> Sample:
    """A sample without audio: features drawn from the training set's means and variances."""
    return Sample(_made_up_utterances(experiment), "made-up features; give --dev DATA to compare on real audio")


def _made_up_utterances(experiment: Experiment) -> Iterator[Utterance]:
    rng = np.random.default_rng(0)
    sums, squares = experiment.global_cmvn[:, :-1] / experiment.global_cmvn[0, -1]
    deviation = np.sqrt(np.maximum(squares - sums * sums, 0.0))
    for num_frames in (2, 30, 1000):
        noise = rng.standard_normal((num_frames, len(sums)))
        yield (sums + deviation * noise).astype(np.float32), experiment.global_cmvn


def load_for_export(directory: str | Path) -> tuple[Experiment, str | None]:
    """A trained experiment, and the digest of its `final.pt`, which tells an export of it from an older one.

    Raises ModelError as load_experiment.
    """
    path = Path(directory) / "final.pt"
    while True:
        digest = read_digest(path)
        experiment = load_experiment(directory)
        if read_digest(path) == digest:  # else it was replaced in between
            return experiment, digest


def export_model(experiment: Experiment, made_from: str | None = None, is_8_bit: bool = False) -> bytes:
    """The ONNX file of a trained experiment; `made_from` is the digest of what it was read from.

    With 8-bit weights the language model is in single precision, too: half as large, and within 1e-6 of what it was.
    """
    config, model = experiment.config, experiment.model
    graph = Graph(is_8_bit=is_8_bit)
    static = graph.input("static", TensorProto.FLOAT, ["frames", config.features.num_static])
    feats = add_deltas(graph, normalize(graph, static, config.features, experiment.global_cmvn), config.features)
    steps = stack_frames(graph, front_end(graph, feats, model), config.model)
    _add_heads(graph, _encoder(graph, steps, model), model, len(experiment.tokens))
    if model.decoder is not None:
        _add_decoder(graph, model.decoder)

    proto = helper.make_model(
        helper.make_graph(graph.nodes, "asrkit", graph.inputs, graph.outputs, graph.initializers),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
        producer_name="asrkit",
        producer_version=__version__,
    )
    metadata = Metadata(
        config.features,
        config.model,
        config.decoding,
        experiment.calibration,
        experiment.tokens,
        experiment.global_cmvn,
        made_from,
        _in_single_precision(experiment.lm_automaton) if is_8_bit else experiment.lm_automaton,
        experiment.corpus,
        training=config_text(config.training),
    )
    helper.set_model_props(proto, metadata.entries())
    onnx.checker.check_model(proto, full_check=True)
    return seal(proto.SerializeToString())


def _in_single_precision(lm: LmAutomaton | None) -> LmAutomaton | None:
    """With the numbers of float32, as float64."""
    if lm is None:
        return None
    names = ("log_probs", "backoff", "end")
    return replace(lm, **{name: getattr(lm, name).astype(np.float32).astype(np.float64) for name in names})


def _encoder(graph: Graph, steps: str, model: AcousticModel) -> str:
    """(T', step size) -> (T', output size)."""
    feedback = None
    if model.output is not None and model.feedback is not None:
        feedback = partial(_feed_back, model.output, model.feedback)
    size = model.frontend.output_size * model.config.stack
    match model.stack:
        case RecurrentStack() as stack:
            return recurrent_stack(graph, steps, size, stack, feedback)
        case Pyramid() as layers:
            return pyramid(graph, steps, size, layers)
        case TransformerEncoder() as encoder:
            return attention_encoder(graph, steps, encoder, feedback)
        case other:
            raise TypeError(f"an encoder that cannot be exported: {type(other).__name__}")


def _feed_back(output: nn.Linear, feedback: nn.Linear, graph: Graph, hidden: str) -> str:
    return linear(graph, graph.op("Softmax", linear(graph, hidden, output), axis=1), feedback)


def _add_heads(graph: Graph, hidden: str, model: AcousticModel, num_classes: int) -> None:
    ctc = None if model.output is None else log_softmax(graph, hidden, model.output)
    frames = None if model.frame_output is None else log_softmax(graph, hidden, model.frame_output)
    if ctc is None and frames is not None:  # there is no blank: its probability is 0
        ctc = graph.op("Pad", frames, graph.const([0, 1, 0, 0]), graph.const(-np.inf, np.float32))
    if ctc is not None:
        graph.output(ctc, "log_probs", ["steps", num_classes])
    if frames is not None:
        graph.output(frames, "frame_log_probs", ["steps", num_classes - 1])
    if model.decoder is not None:
        graph.output(hidden, "attended", ["steps", model.decoder.step_size])


def _add_decoder(graph: Graph, decoder: Decoder) -> None:
    """The weights that searches take; with 8-bit weights as those of the graph, each with its scales behind it."""
    for name, values in decoder.named_parameters():
        array = values.detach().numpy()
        if graph.is_8_bit and _has_scales(name, values):
            array, scales = in_8_bits(array, tuple(range(1, array.ndim)))
            parts = {"": array, SCALES: scales}
        else:
            parts = {"": array}
        graph.initializers += [numpy_helper.from_array(each, f"{DECODER}{name}{end}") for end, each in parts.items()]


def _has_scales(name: str, weights: torch.Tensor) -> bool:
    """Whether 8-bit weights have a scale for each row: not peepholes and biases."""
    return weights.dim() > 1 and not name.rpartition(".")[2].startswith(("weight_ch", "bias_"))
