"""The metadata of an exported model, as JSON: settings, and the language model."""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np

from asrkit import __version__
from asrkit.config.plain_values import from_plain, is_of_type, shown
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import YOUNGER_DECODING, DecodingConfig
from asrkit.decoding.language_models import StoredLm, is_network, lm_text, parse_lm
from asrkit.errors import DataError
from asrkit.features.cmvn import check_stats
from asrkit.features.config import FeatureConfig
from asrkit.io.json_text import json_text
from asrkit.io.seal import DIGEST_KEY
from asrkit.lang.tokens import TokenTable
from asrkit.lm.automaton import LmAutomaton
from asrkit.models.config import YOUNGER_SETTINGS, ModelConfig
from asrkit.types import CorpusInfo, TestScore

FORMAT = 2
_SETTINGS, _LM = "asrkit", "lm"  # names of the metadata entries

# The arrays of a language model, in the order in which they are packed: dtype ("float": one of _FLOATS), and whether
# there is one entry per n-gram (otherwise one per context).
_FLOATS = ("<f4", "<f8")
_LM_ARRAYS = {
    **{"backoff": ("float", False), "end": ("float", False), "log_probs": ("float", True)},
    **{"first_arc": ("<i8", False), "shorter": ("<i4", False), "tokens": ("<i4", True), "next_context": ("<i4", True)},
}
Kind = TypeVar("Kind")
_MOST_SETTINGS = 2**16  # characters; reading YAML is slow
_MOST_EXPANDED = 64  # times the packed size; language models have about 3
_ALWAYS_EXPANDED = 2**20  # bytes, whatever the packed size


@dataclass(frozen=True)
class Metadata:
    """The settings of an exported model, and everything else that decoding needs.

    Attributes:
        features, model, decoding: settings of the features, the network and the search.
        calibration: the calibration of confidences; None before tuning.
        tokens: the phones and their ids.
        global_cmvn: (2, D + 1) CMVN statistics of the training set.
        made_from: the digest of the file from which the model was exported, or None.
        lm: the phone language model, or None.
        corpus: the corpus of the training, or None.
        test: the score on a test set, or None.
        training: settings of the training as YAML, unchecked, or None.
    """

    features: FeatureConfig
    model: ModelConfig
    decoding: DecodingConfig
    calibration: Calibration | None
    tokens: TokenTable
    global_cmvn: np.ndarray
    made_from: str | None
    lm: StoredLm | None
    corpus: CorpusInfo | None = None
    test: TestScore | None = None
    training: str | None = None

    def entries(self) -> dict[str, str]:
        """The metadata as entries of an ONNX file."""
        values = {
            "format": FORMAT,
            "version": __version__,
            "features": asdict(self.features),
            "model": asdict(self.model),
            "decoding": asdict(self.decoding),
            "calibration": asdict(self.calibration) if self.calibration else None,
            "phones": self.tokens.phones,
            "global_cmvn": self.global_cmvn.tolist(),
            "made_from": self.made_from,
            "corpus": asdict(self.corpus) if self.corpus else None,
            "test": asdict(self.test) if self.test else None,
            "training": self.training,
        }
        entries = {_SETTINGS: json_text(values)}
        return entries if self.lm is None else {**entries, _LM: _lm_entry(self.lm)}


def read_metadata(entries: Mapping[str, str]) -> Metadata:
    """Read the entries of an ONNX file, as `Metadata.entries` makes them.

    Raises:
        DataError, ConfigError: the entries are something else.
    """
    if _SETTINGS not in entries:
        raise DataError("no asrkit metadata; expected a file made by asrkit export")
    if unknown := entries.keys() - {_SETTINGS, _LM, DIGEST_KEY}:
        raise DataError(f"metadata {shown(min(unknown))}, which no export has")
    values = _read_json(entries[_SETTINGS])
    if values.get("format") != FORMAT:
        raise DataError(f"expected format {FORMAT}, found {shown(values.get('format'))}")
    names = ("phones", "calibration", "made_from", "training")
    phones, calibration, made_from, training = (values.get(name) for name in names)
    if not isinstance(phones, list) or not all(isinstance(phone, str) for phone in phones):
        raise DataError(f"phones: expected a list of symbols, found {shown(phones)}")
    if not is_of_type(made_from, str | None):
        raise DataError(f"made_from: expected a digest, found {shown(made_from)}")
    if not is_of_type(training, str | None) or len(training or "") > _MOST_SETTINGS:
        raise DataError(f"training: expected settings as text of {_MOST_SETTINGS} characters, found {shown(training)}")
    tokens, features = TokenTable(phones), from_plain(FeatureConfig, values.get("features"), "features")
    model = from_plain(ModelConfig, values.get("model"), "model", YOUNGER_SETTINGS)
    return Metadata(
        features,
        model,
        from_plain(DecodingConfig, values.get("decoding"), "decoding", YOUNGER_DECODING),
        None if calibration is None else Calibration.from_plain(calibration),
        tokens,
        _read_stats(values.get("global_cmvn"), features.num_static),
        made_from,
        _read_lm(entries[_LM], tokens) if _LM in entries else None,
        _optional(CorpusInfo, values, "corpus"),
        _optional(TestScore, values, "test"),
        training,
    )


def _optional(kind: type[Kind], values: Mapping[str, Any], name: str) -> Kind | None:
    value = values.get(name)
    return None if value is None else from_plain(kind, value, name)


def _read_json(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text, parse_constant=lambda name: None)  # NaN and infinity, which are not JSON
    except (ValueError, RecursionError) as error:
        raise DataError(f"metadata that is not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise DataError(f"metadata: expected values by their names, found {shown(values)}")
    return values


def _read_stats(rows: object, dim: int) -> np.ndarray:
    """Read CMVN statistics (2, D + 1)."""
    is_matrix = isinstance(rows, list) and all(
        isinstance(row, list) and len(row) == dim + 1 and all(is_of_type(value, float) for value in row) for row in rows
    )
    if not is_matrix:
        raise DataError(f"global_cmvn: expected two rows of {dim + 1} numbers, found {shown(rows)}")
    return check_stats(np.array(rows, np.float64), dim)


def _lm_entry(lm: StoredLm) -> str:
    return _pack_lm(lm) if isinstance(lm, LmAutomaton) else lm_text(lm)


def _read_lm(text: str, tokens: TokenTable) -> StoredLm:
    """The language model of these tokens. Raises DataError for anything else."""
    if is_network(text):
        return parse_lm(text, tokens.phones, "its language model").automaton
    return _unpack_lm(text, len(tokens))


def _pack_lm(automaton: LmAutomaton) -> str:
    """Pack a language model as text without loss. A model in single precision gives a shorter text.

    The bytes of whole numbers are sorted: first the lowest byte of each number, then the next one... Most of the higher
    bytes are zeros, which compress well.
    """
    arrays = {name: np.asarray(getattr(automaton, name)) for name in _LM_ARRAYS}
    is_single = all(np.array_equal(each, each.astype(np.float32)) for each in arrays.values() if each.dtype.kind == "f")
    floats = _FLOATS[0 if is_single else 1]
    contents = []
    for name, (dtype, _) in _LM_ARRAYS.items():
        array = arrays[name].astype(floats if dtype == "float" else dtype)
        contents.append(_bytes_first(array).tobytes() if array.dtype.kind == "i" else array.tobytes())
    values = {
        "floats": floats,
        "start": automaton.start,
        "num_classes": automaton.num_classes,
        "num_contexts": len(automaton.end),
        "num_ngrams": len(automaton.tokens),
        "arrays": base64.b64encode(zlib.compress(b"".join(contents), 9)).decode(),
    }
    return json_text(values)


def _unpack_lm(text: str, num_classes: int) -> LmAutomaton:
    """Unpack a language model. Raises DataError unless it is valid and has `num_classes` output classes."""
    values = _read_json(text)
    names = ["start", "num_classes", "num_contexts", "num_ngrams", "floats", "arrays"]
    if {*names} != values.keys():
        raise DataError(f"language model: found {shown(sorted(values))}; expected {', '.join(names)}")
    *numbers, floats, packed = (values[name] for name in names)
    if not all(is_of_type(number, int) and 0 <= number < 2**31 for number in numbers) or numbers[1] != num_classes:
        wanted = f"whole numbers, and {num_classes} classes"
        raise DataError(f"language model: {', '.join(names[:4])} {shown(numbers)}; expected {wanted}")
    if floats not in _FLOATS:
        raise DataError(f"language model: floats {shown(floats)}; expected one of {', '.join(_FLOATS)}")
    start, _, num_contexts, num_ngrams = numbers
    lengths = {name: num_ngrams if is_by_ngram else num_contexts for name, (_, is_by_ngram) in _LM_ARRAYS.items()}
    lengths["first_arc"] += 1
    dtypes = {name: np.dtype(floats if dtype == "float" else dtype) for name, (dtype, _) in _LM_ARRAYS.items()}
    sizes = {name: lengths[name] * dtype.itemsize for name, dtype in dtypes.items()}
    content = memoryview(_expand(packed, sum(sizes.values())))
    arrays, at = {}, 0
    for name, dtype in dtypes.items():
        part = content[at : at + sizes[name]]
        at += sizes[name]
        is_whole = dtype.kind == "i"
        arrays[name] = _bytes_last(part, dtype) if is_whole else np.frombuffer(part, dtype).astype(np.float64)
    return LmAutomaton(start=start, num_classes=num_classes, **arrays)


def _expand(packed: object, size: int) -> bytes:
    """Decompress `size` bytes.

    Raises DataError if there are more or fewer, or if `size` is much too large for the text.
    """
    if not isinstance(packed, str) or size > _MOST_EXPANDED * len(packed) + _ALWAYS_EXPANDED:
        raise DataError(f"language model: arrays of {size} bytes, found {shown(packed)}")
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(base64.b64decode(packed, validate=True), size + 1)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise DataError(f"language model: arrays that cannot be unpacked ({error})") from None
    if len(content) != size or not unpacker.eof or unpacker.unused_data:
        raise DataError(f"language model: arrays of not {size} bytes, as its contexts and n-grams have")
    return content


def _bytes_first(array: np.ndarray) -> np.ndarray:
    """The bytes of whole numbers (n,), as (bytes of one number, n)."""
    return np.ascontiguousarray(array).view(np.uint8).reshape(len(array), -1).T


def _bytes_last(content: memoryview, dtype: np.dtype[Any]) -> np.ndarray:
    """The inverse of _bytes_first."""
    planes = np.frombuffer(content, np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(dtype).ravel()
