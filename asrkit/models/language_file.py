"""The file of a trained neural language model: NumPy's .npz with settings, phones and weights, followed by a digest."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.config.plain_values import from_plain, shown
from asrkit.config.yaml_config import to_dict
from asrkit.errors import ConfigError, DataError, ModelError, location
from asrkit.io.atomic import atomic_write
from asrkit.io.files import read_bytes
from asrkit.io.json_text import json_text, parse_json
from asrkit.io.seal import check_seal, seal
from asrkit.models.language_config import LanguageConfig
from asrkit.models.search_language import NeuralLm

_FORMAT = 1
_SETTINGS = "asrkit"  # the array that holds settings and phones, as bytes of JSON
_REMEDY = "train it again (asrkit train-nlm)"
MARK = b"PK\x03\x04"  # the first bytes of such a file


def write_neural_lm(lm: NeuralLm, path: str | Path) -> None:
    """Write the model, atomically."""
    with atomic_write(path, "wb") as stream:
        stream.write(neural_lm_content(lm))


def neural_lm_content(lm: NeuralLm) -> bytes:
    """The content of the file that write_neural_lm writes."""
    values = {"format": _FORMAT, "model": to_dict(lm.config), "phones": list(lm.phones)}
    stream = io.BytesIO()
    arrays: dict[str, Any] = {_SETTINGS: np.frombuffer(json_text(values).encode(), np.uint8), **lm.weights}
    np.savez(stream, **arrays)
    return seal(stream.getvalue())


def read_neural_lm(path: str | Path) -> NeuralLm:
    """Read a file of write_neural_lm. Raises DataError for any other file."""
    return parse_neural_lm(read_bytes(path), str(path))


def parse_neural_lm(content: bytes, name: str) -> NeuralLm:
    """The model in a file's content. `name` stands for the file in messages. Raises DataError as read_neural_lm."""
    stream = io.BytesIO(content)
    try:
        size = check_seal(stream, name, _REMEDY)
        with zipfile.ZipFile(stream) as archive:
            members = archive.infolist()
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("a compressed archive")
            if sum(member.file_size for member in members) > size:
                raise ValueError("an archive whose members are larger than itself")
        stream.seek(0)
        with np.load(stream, allow_pickle=False) as arrays:
            weights: dict[str, np.ndarray] = dict(arrays)
        return _model(weights)
    except (ModelError, DataError, ConfigError) as error:
        text = str(error).split("\n")[0]
        raise DataError(text if text.startswith(location(name)) else f"{location(name)}{text}; {_REMEDY}") from None
    except (ValueError, LookupError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError(f"{location(name)}not a neural language model ({error}); {_REMEDY}") from None


def _model(weights: dict[str, np.ndarray]) -> NeuralLm:
    values: Any = parse_json(weights.pop(_SETTINGS).tobytes().decode())
    if not isinstance(values, dict) or values.get("format") != _FORMAT:
        raise ValueError(f"expected format {_FORMAT}")
    phones = values.get("phones")
    if not isinstance(phones, list) or not phones or not all(isinstance(phone, str) for phone in phones):
        raise ValueError(f"phones: expected a list of symbols, found {shown(phones)}")
    if bad := [key for key, array in weights.items() if array.dtype.kind != "f" or not np.isfinite(array).all()]:
        raise ValueError(f"weights that are not finite numbers: {bad[0]}")
    return NeuralLm(from_plain(LanguageConfig, values.get("model"), "model"), phones, weights)
