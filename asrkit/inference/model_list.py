"""The models that `--model` knows by name, and the contents of their files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asrkit.decoding.config import DecodingConfig
from asrkit.errors import AsrkitError, ModelError, expected
from asrkit.features.config import FeatureConfig
from asrkit.inference.find_model import find_model, find_pretrained, model_names
from asrkit.inference.onnx_model import count_model_weights, read_model_metadata
from asrkit.models.config import ModelConfig
from asrkit.types import CorpusInfo, TestScore


@dataclass(frozen=True)
class ModelInfo:
    """A model on disk.

    Attributes:
        path: the exported file.
        size: its size in bytes.
        is_streaming: whether it can recognise streams.
        corpus: the corpus of its training; None if the file does not name it.
        test: its score on a test set; None if the file does not have one.
    """

    name: str
    path: Path
    size: int
    phones: tuple[str, ...]
    is_streaming: bool
    corpus: CorpusInfo | None
    test: TestScore | None


@dataclass(frozen=True)
class ModelDetails:
    """Everything that `asrkit info` prints of a model.

    Attributes:
        kind: its form on disk, in words.
        path: its file.
        size: the size of the file in bytes.
        num_numbers: numbers in its network: trained weights, and in an exported file also constants.
        is_streaming: whether it can recognise streams.
        has_lm: whether it has a phone language model.
        is_tuned: whether `asrkit tune` chose its `decoding` settings.
        corpus, test: as in ModelInfo.
    """

    name: str
    kind: str
    path: Path
    size: int
    phones: tuple[str, ...]
    num_numbers: int
    is_streaming: bool
    features: FeatureConfig
    model: ModelConfig
    decoding: DecodingConfig
    has_lm: bool
    is_tuned: bool
    corpus: CorpusInfo | None
    test: TestScore | None


def read_model_details(name: str | Path) -> ModelDetails:
    """Read the details of a model: an experiment directory, an exported file, or a name.

    PyTorch reads an experiment that has no export.

    Raises:
        ModelError: as find_model and OnnxModel.
    """
    found = find_model(name)
    path = found / "final.onnx" if found.is_dir() else found
    if not path.is_file():
        return _of_experiment(str(name), found)
    metadata = read_model_metadata(path)
    is_ours = path == _pretrained_file(path.stem)
    kind = "experiment directory" if found.is_dir() else "model that comes with asrkit" if is_ours else "exported file"
    return ModelDetails(
        name=str(name),
        kind=kind,
        path=path,
        size=path.stat().st_size,
        phones=tuple(metadata.tokens.phones),
        num_numbers=count_model_weights(path),
        is_streaming=_is_streaming(metadata.model, metadata.features),
        features=metadata.features,
        model=metadata.model,
        decoding=metadata.decoding,
        has_lm=metadata.lm is not None,
        is_tuned=metadata.calibration is not None,
        corpus=metadata.corpus,
        test=metadata.test,
    )


def _of_experiment(name: str, directory: Path) -> ModelDetails:
    from asrkit.experiment import load_experiment  # loads PyTorch

    experiment, path = load_experiment(directory), directory / "final.pt"
    return ModelDetails(
        name=name,
        kind="experiment directory without an exported file",
        path=path,
        size=path.stat().st_size,
        phones=tuple(experiment.tokens.phones),
        num_numbers=sum(values.numel() for values in experiment.model.parameters()),
        is_streaming=_is_streaming(experiment.config.model, experiment.config.features),
        features=experiment.config.features,
        model=experiment.config.model,
        decoding=experiment.config.decoding,
        has_lm=experiment.lm is not None,
        is_tuned=experiment.calibration is not None,
        corpus=experiment.corpus,
        test=None,
    )


def _pretrained_file(name: str) -> Path | None:
    try:
        return find_pretrained(name)
    except ModelError:
        return None


def _is_streaming(model: ModelConfig, features: FeatureConfig) -> bool:
    return not model.bidirectional and not features.normalization.needs_whole_utterance


def known_models() -> Iterator[ModelInfo | AsrkitError]:
    """Yield each model that has a name here, or the error in its file. No network is loaded."""
    for name in model_names():
        found = find_model(name)
        path = found if found.is_file() else found / "final.onnx"
        try:
            yield read_model_info(name, path)
        except Exception as error:
            yield expected(error, name)


def read_model_info(name: str, path: Path) -> ModelInfo:
    """Read the description of an exported model in its file. Raises ModelError as read_model_metadata."""
    metadata = read_model_metadata(path)
    is_streaming = _is_streaming(metadata.model, metadata.features)
    phones = tuple(metadata.tokens.phones)
    return ModelInfo(name, path, path.stat().st_size, phones, is_streaming, metadata.corpus, metadata.test)
