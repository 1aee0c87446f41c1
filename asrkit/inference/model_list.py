"""The models that `--model` knows by a name, and what their files tell of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from asrkit.errors import AsrkitError, expected
from asrkit.inference.find_model import find_model, model_names
from asrkit.inference.onnx_model import read_model_metadata
from asrkit.types import CorpusInfo, TestScore


@dataclass(frozen=True)
class ModelInfo:
    """A model on disk: the exported file at `path`, of `size` bytes.

    `corpus`: what it was trained on, `test`: how well it recognises a test set, where the file tells that.
    `is_streaming`: whether it can recognise streams.
    """

    name: str
    path: Path
    size: int
    phones: tuple[str, ...]
    is_streaming: bool
    corpus: CorpusInfo | None
    test: TestScore | None


def known_models() -> Iterator[ModelInfo | AsrkitError]:
    """Each model that has a name here, or what is wrong with it. No network is loaded."""
    for name in model_names():
        found = find_model(name)
        path = found if found.is_file() else found / "final.onnx"
        try:
            yield read_model_info(name, path)
        except Exception as error:
            yield expected(error, name)


def read_model_info(name: str, path: Path) -> ModelInfo:
    """What an exported model's file tells of it. Raises ModelError as read_model_metadata."""
    metadata = read_model_metadata(path)
    is_streaming = not metadata.model.bidirectional and not metadata.features.normalization.needs_whole_utterance
    phones = tuple(metadata.tokens.phones)
    return ModelInfo(name, path, path.stat().st_size, phones, is_streaming, metadata.corpus, metadata.test)
