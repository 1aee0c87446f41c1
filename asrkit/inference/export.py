"""Export of a trained experiment as one ONNX file: front end, network, tokens, language model and settings.

The graph is written operator by operator. ONNX has recurrent cells with their states as inputs; tracing PyTorch would
split them into small operators. ONNX lacks projected LSTMs and Jordan networks, so these are loops (Scan).

Inputs of the graph:

- `static` (T, D) float32: the static features of one utterance or of a window; normalised ones with cmvn "running" and
  "speech_running". The other inputs are optional.
- `stats` (2, D + 1) float64: CMVN statistics. By default those of `static` (cmvn "speaker" and "utterance"), or
  otherwise those of the training set.
- `first` int64: the frame at which the first step begins.
- `num_steps` int64; default: ceil(T / skip).
- `state.LAYER.NAME`: states of a unidirectional network before its first step.

Outputs of the graph:

- `log_probs` (T', V) float32, unless the network has only a decoder.
- `frame_log_probs` (T', V - 1), if there is a frame-wise head.
- `attended` (T', E): the outputs of the encoder, if there is a decoder.
- `state.LAYER.NAME.next`: states after the last step.

The weights of a decoder are stored as constants `decoder.NAME`, which no operator uses. NumPy computes the steps of a
decoder (models/search_decoder.py), for many hypotheses at once.
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
from asrkit.decoding.language_models import StoredLm
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
from asrkit.models.transformer_decoder import TransformerDecoder
from asrkit.types import TestScore

TOLERANCE = 1e-4  # largest accepted difference between log-probabilities of an export and of PyTorch
_OPSET, _IR_VERSION = 17, 8  # from 2022; every onnxruntime in use reads them

Utterance = tuple[np.ndarray, np.ndarray | None]


@dataclass(frozen=True)
class Sample:
    """Utterances on which an export is compared with PyTorch.

    Attributes:
        utterances: static features (T, D), and CMVN statistics (2, D + 1) or None.
        where: a description of them.
    """

    utterances: Iterable[Utterance]
    where: str


@dataclass(frozen=True)
class Comparison:
    """The difference between an export and PyTorch.

    Attributes:
        difference: the largest difference between two log-probabilities, or between two values that a decoder attends
            to.
        where: a description of the utterances that were compared.
    """

    difference: float
    where: str

    def line(self) -> str:
        """The difference as a line of text."""
        return f"log-probabilities differ from PyTorch's by {self.difference:.1e} at most, on {self.where}"


def export_experiment(directory: str | Path, path: str | Path | None = None) -> Path:
    """Write the model of an experiment directory to `path`, by default its `final.onnx`. Returns the path.

    Raises:
        ModelError: as `checked_export`. Nothing is written then.
    """
    path = Path(directory) / "final.onnx" if path is None else Path(path)
    write_export(path, checked_export(directory))
    return path


def write_export(path: Path, content: bytes) -> None:
    """Write the content of an exported file."""
    with atomic_write(path, "wb") as stream:
        stream.write(content)


def checked_export(directory: str | Path) -> bytes:
    """Export an experiment, and compare the export with PyTorch on made-up features.

    Returns the content of the ONNX file.

    Raises:
        ModelError: as `load_experiment` and `compared_export`.
    """
    experiment, digest = load_for_export(directory)
    content, _ = compared_export(experiment, digest, made_up_sample(experiment), directory)
    return content


def compared_export(
    experiment: Experiment, made_from: str | None, sample: Sample, name: str | Path, is_8_bit: bool = False
) -> tuple[bytes, Comparison]:
    """Export a trained experiment, and compare the export with PyTorch on a sample.

    With 8-bit weights, PyTorch computes with the same rounded weights, in float32.

    Args:
        experiment, made_from, is_8_bit: as for `export_model`.
        sample: the utterances.
        name: what messages call the experiment.

    Returns:
        The content of the ONNX file, and how far it is from PyTorch.

    Raises:
        ModelError: log-probabilities differ by TOLERANCE or more.
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
    """The experiment with weights that are rounded to 8 bits, as its 8-bit export has them, but stored as float32.

    Each row of a matrix, or each output of a convolution, has its own scale. Biases (also those of distances),
    peepholes and layer norms are not rounded.
    """
    model = copy.deepcopy(experiment.model)
    for name, weights in model.named_parameters():
        if _has_scales(name, weights):
            whole, scales = in_8_bits(weights.detach().numpy(), tuple(range(1, weights.dim())))
            weights.data = torch.from_numpy(whole * scales)
    return replace(experiment, model=model)


def with_test_score(content: bytes, score: TestScore) -> bytes:
    """The exported model `content` with a score on a test set in its metadata."""
    proto = onnx.load_from_string(unsealed(content))
    metadata = read_metadata({entry.key: entry.value for entry in proto.metadata_props})
    helper.set_model_props(proto, replace(metadata, test=score).entries())
    return seal(proto.SerializeToString())


def max_difference(experiment: Experiment, model: OnnxModel, utterances: Iterable[Utterance]) -> float:
    """The largest difference between log-probabilities of an export and of PyTorch. Infinite without utterances.

    Args:
        experiment, model: the same network in PyTorch and as an export.
        utterances: static features (T, D) and CMVN statistics (2, D + 1), as for OnnxModel.log_probs.
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
    """The largest difference between log-probabilities of two decoders that write the same phones.

    The phones are those that the second decoder finds in the utterance.
    """
    search = make_search(DecodingConfig(method="greedy"), None, decoder)
    tokens = search.decode(stored)[0].tokens
    phones = torch.tensor([tokens]).long()
    steps = torch.from_numpy(stored[None, :, stored.shape[1] - decoder.step_size :].copy())
    match module, search:
        case (AttentionDecoder() | TransformerDecoder()) as reader, DecoderSearch():
            (expected,) = reader(reader.source(steps, torch.tensor([len(stored)])), phones).numpy()
            (actual,), _ = search.read(stored, [tokens])
        case Transducer(), TransducerSearch():
            expected, actual = module.log_probs(steps[0], phones[0]).numpy(), search.read(stored, tokens)
        case other:
            raise TypeError(f"a decoder that cannot be exported: {type(other[0]).__name__}")
    return float(np.abs(expected - actual).max())


def made_up_sample(experiment: Experiment) -> Sample:
    """A sample without audio: random features with the means and variances of the training set."""
    return Sample(_made_up_utterances(experiment), "made-up features; give --dev DATA to compare on real audio")


def _made_up_utterances(experiment: Experiment) -> Iterator[Utterance]:
    rng = np.random.default_rng(0)
    sums, squares = experiment.global_cmvn[:, :-1] / experiment.global_cmvn[0, -1]
    deviation = np.sqrt(np.maximum(squares - sums * sums, 0.0))
    for num_frames in (2, 30, 1000):
        noise = rng.standard_normal((num_frames, len(sums)))
        yield (sums + deviation * noise).astype(np.float32), experiment.global_cmvn


def load_for_export(directory: str | Path) -> tuple[Experiment, str | None]:
    """Load a trained experiment.

    Returns also the digest of its `final.pt`, which identifies the model that was exported.

    Raises:
        ModelError: as `load_experiment`.
    """
    path = Path(directory) / "final.pt"
    while True:
        digest = read_digest(path)
        experiment = load_experiment(directory)
        if read_digest(path) == digest:  # otherwise the file was replaced while it was read
            return experiment, digest


def export_model(experiment: Experiment, made_from: str | None = None, is_8_bit: bool = False) -> bytes:
    """Export a trained experiment. Returns the content of the ONNX file.

    Args:
        experiment: the experiment.
        made_from: the digest of its `final.pt`.
        is_8_bit: store weights in 8 bits. Then the language model is stored in single precision, too: half the size,
            with values that change by less than 1e-6.

    Raises:
        TypeError: the network has a layer that cannot be exported.
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


def _in_single_precision(lm: StoredLm | None) -> StoredLm | None:
    """The language model with its numbers rounded to float32, stored as float64."""
    if not isinstance(lm, LmAutomaton):
        return lm  # a network is in single precision
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
    if ctc is None and frames is not None:  # without a blank, its probability is 0
        ctc = graph.op("Pad", frames, graph.const([0, 1, 0, 0]), graph.const(-np.inf, np.float32))
    if ctc is not None:
        graph.output(ctc, "log_probs", ["steps", num_classes])
    if frames is not None:
        graph.output(frames, "frame_log_probs", ["steps", num_classes - 1])
    if model.decoder is not None:
        graph.output(hidden, "attended", ["steps", model.decoder.step_size])


def _add_decoder(graph: Graph, decoder: Decoder) -> None:
    """Add the weights of a decoder as constants. 8-bit weights are followed by their scales."""
    for name, values in decoder.named_parameters():
        array = values.detach().numpy()
        if graph.is_8_bit and _has_scales(name, values):
            array, scales = in_8_bits(array, tuple(range(1, array.ndim)))
            parts = {"": array, SCALES: scales}
        else:
            parts = {"": array}
        graph.initializers += [numpy_helper.from_array(each, f"{DECODER}{name}{end}") for end, each in parts.items()]


def _has_scales(name: str, weights: torch.Tensor) -> bool:
    """Whether 8-bit weights have one scale per row. Peepholes and biases have none."""
    return weights.dim() > 1 and not name.rpartition(".")[2].startswith(("weight_ch", "bias_"))
