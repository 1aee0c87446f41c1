"""The experiment from which a model was exported, for further training.

Each weight is somewhere in the constants of the exported graph. To find the place, this module exports a network with
the same settings whose weights are numbered 0, 1, 2...
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import parse_config
from asrkit.decoding.language_models import phone_lm
from asrkit.errors import ConfigError, DataError, ModelError, location
from asrkit.experiment import Experiment, make_model
from asrkit.inference.export import TOLERANCE, export_model, made_up_sample, max_difference
from asrkit.inference.onnx_model import OnnxModel, read_model_metadata
from asrkit.io.files import read_bytes
from asrkit.io.seal import unsealed
from asrkit.models.acoustic import AcousticModel
from asrkit.training.config import TrainingConfig

_MOST_WEIGHTS = 2**24 - 1  # float32 represents all whole numbers up to 2**24
_REMEDY = "give the experiment directory that it was exported from"


def load_exported(path: str | Path) -> Experiment:
    """Load an exported model as an experiment. 8-bit weights become float32.

    If the file does not contain the settings of the training, `training` has default values.

    Raises:
        ModelError: as OnnxModel; or the weights cannot be found. That happens for a network whose weights the export
            adds up (projected LSTMs), and for exports of an older version that added them up in another way.
    """
    name, exported = str(path), OnnxModel(path)
    metadata = read_model_metadata(path)
    try:
        training = parse_config(metadata.training or "", TrainingConfig, "its training settings")
        config = ExperimentConfig(metadata.features, metadata.model, training, metadata.decoding)
        lm = None if metadata.lm is None else phone_lm(metadata.lm, metadata.tokens.phones)
    except (ConfigError, DataError) as error:
        raise ModelError(f"{location(name)}{error}; {_REMEDY}") from None
    with torch.device("meta"):  # needs no memory, however large the network is that the settings describe
        described = make_model(config, metadata.tokens)
    if sum(values.numel() for values in described.parameters()) > _MOST_WEIGHTS:
        raise _cannot_be_read(name)
    model = make_model(config, metadata.tokens)
    parts = metadata.tokens, model, metadata.global_cmvn, lm, metadata.calibration, metadata.corpus
    experiment = Experiment(config, *parts)
    _set_weights(experiment, _constants(unsealed(read_bytes(Path(path)))), name)
    if not max_difference(experiment, exported, made_up_sample(experiment).utterances) < TOLERANCE:
        raise _cannot_be_read(name)
    return experiment


def _set_weights(experiment: Experiment, constants: list[np.ndarray], name: str) -> None:
    """Copy the weights from the constants of the graph to the network. Raises ModelError if it cannot."""
    first, second = (_numbered(experiment, begin) for begin in (0, 1))
    if [each.shape for each in first] != [each.shape for each in constants]:
        raise _cannot_be_read(name)
    parameters = [*experiment.model.parameters()]
    weights = np.full(sum(values.numel() for values in parameters), np.nan, np.float32)
    for numbers, others, array in zip(first, second, constants, strict=True):
        with np.errstate(invalid="ignore"):  # infinite constants
            is_weight = others - numbers == 1  # a sum of two weights grows by 2, other constants by 0
        weights[numbers[is_weight].astype(np.int64)] = array[is_weight]
    if np.isnan(weights).any():
        raise _cannot_be_read(name)
    for values, part in zip(
        parameters, torch.from_numpy(weights).split([each.numel() for each in parameters]), strict=True
    ):
        values.data = part.reshape(values.shape).clone()
    experiment.model.eval()


def _numbered(experiment: Experiment, begin: int) -> list[np.ndarray]:
    """The constants of an export whose weights are the whole numbers from `begin` on."""
    config = experiment.config
    model: AcousticModel = make_model(config, experiment.tokens)
    for values in model.parameters():
        values.data = torch.arange(begin, begin + values.numel(), dtype=torch.float32).reshape(values.shape)
        begin += values.numel()
    proto = unsealed(export_model(replace(experiment, model=model.eval(), lm=None)))
    return _constants(proto)


def _constants(proto: bytes) -> list[np.ndarray]:
    """The float32 constants of a graph in order. 8-bit weights are multiplied by their scales, which follow them."""
    arrays = _arrays(onnx.load_from_string(proto).graph)
    found = []
    for array in arrays:
        found.append(array * next(arrays) if array.dtype == np.int8 else array)
    return [array for array in found if array.dtype == np.float32]


def _arrays(graph: onnx.GraphProto) -> Iterator[np.ndarray]:
    for tensor in graph.initializer:
        yield numpy_helper.to_array(tensor)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from _arrays(attribute.g)


def _cannot_be_read(name: str) -> ModelError:
    return ModelError(f"{location(name)}its network cannot be trained further; {_REMEDY}")
