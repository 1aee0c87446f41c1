"""What decoding needs beside the network, as the metadata of an exported model: settings and language model, JSON."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from asrkit import __version__
from asrkit.config.plain_values import from_plain, is_of_type, shown
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.errors import DataError
from asrkit.features.cmvn import check_stats
from asrkit.features.config import FeatureConfig
from asrkit.io.json_text import json_text
from asrkit.io.seal import DIGEST_KEY
from asrkit.lang.tokens import TokenTable
from asrkit.lm.automaton import LmAutomaton
from asrkit.models.config import ModelConfig

FORMAT = 1
_SETTINGS, _LM = "asrkit", "lm"  # entries


@dataclass(frozen=True)
class Metadata:
    """The settings of an exported model, and what decoding needs.

    `global_cmvn` (2, D + 1): statistics of the training set. `made_from`: the digest of the file that it was exported
    from, None where that is not known.
    """

    features: FeatureConfig
    model: ModelConfig
    decoding: DecodingConfig
    calibration: Calibration | None
    tokens: TokenTable
    global_cmvn: np.ndarray
    made_from: str | None
    lm: LmAutomaton | None

    def entries(self) -> dict[str, str]:
        """The metadata's entries."""
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
        }
        entries = {_SETTINGS: json_text(values)}
        return entries if self.lm is None else {**entries, _LM: _pack_lm(self.lm)}


def read_metadata(entries: Mapping[str, str]) -> Metadata:
    """What `Metadata.entries` gave. Raises DataError or ConfigError for anything else, whoever wrote it."""
    if _SETTINGS not in entries:
        raise DataError("no asrkit metadata; expected a file made by asrkit export")
    if unknown := entries.keys() - {_SETTINGS, _LM, DIGEST_KEY}:
        raise DataError(f"metadata {shown(min(unknown))}, which no export has")
    values = _read_json(entries[_SETTINGS])
    if values.get("format") != FORMAT:
        raise DataError(f"expected format {FORMAT}, found {shown(values.get('format'))}")
    phones, calibration, made_from = (values.get(name) for name in ("phones", "calibration", "made_from"))
    if not isinstance(phones, list) or not all(isinstance(phone, str) for phone in phones):
        raise DataError(f"phones: expected a list of symbols, found {shown(phones)}")
    if not is_of_type(made_from, str | None):
        raise DataError(f"made_from: expected a digest, found {shown(made_from)}")
    tokens, features = TokenTable(phones), from_plain(FeatureConfig, values.get("features"), "features")
    return Metadata(
        features,
        from_plain(ModelConfig, values.get("model"), "model"),
        from_plain(DecodingConfig, values.get("decoding"), "decoding"),
        None if calibration is None else Calibration.from_plain(calibration),
        tokens,
        _read_stats(values.get("global_cmvn"), features.num_static),
        made_from,
        _unpack_lm(entries[_LM], len(tokens)) if _LM in entries else None,
    )


def _read_json(text: str) -> dict[str, Any]:
    try:
        values = json.loads(text, parse_constant=lambda name: None)  # NaN and infinity, which JSON has not
    except (ValueError, RecursionError) as error:
        raise DataError(f"metadata that is not JSON ({str(error).splitlines()[0]})") from None
    if not isinstance(values, dict):
        raise DataError(f"metadata: expected values by their names, found {shown(values)}")
    return values


def _read_stats(rows: object, dim: int) -> np.ndarray:
    """CMVN statistics (2, D + 1)."""
    is_matrix = isinstance(rows, list) and all(
        isinstance(row, list) and len(row) == dim + 1 and all(is_of_type(value, float) for value in row) for row in rows
    )
    if not is_matrix:
        raise DataError(f"global_cmvn: expected two rows of {dim + 1} numbers, found {shown(rows)}")
    return check_stats(np.array(rows, np.float64), dim)


def _pack_lm(automaton: LmAutomaton) -> str:
    """The arrays of a language model as text, which loads in milliseconds."""
    values = {
        name: [value.dtype.str, base64.b64encode(np.ascontiguousarray(value).tobytes()).decode()]
        if isinstance(value, np.ndarray)
        else value
        for name, value in asdict(automaton).items()
    }
    return json_text(values)


def _unpack_lm(text: str, num_classes: int) -> LmAutomaton:
    """Raises DataError for anything but the language model of as many output classes."""
    values = _read_json(text)
    names = {field.name for field in fields(LmAutomaton)}
    if names != values.keys():
        raise DataError(f"language model: found {shown(sorted(values))}; expected {', '.join(sorted(names))}")
    start, found_classes = values.pop("start"), values.pop("num_classes")
    if not is_of_type(start, int) or found_classes != num_classes:
        raise DataError(
            f"language model: of {shown(found_classes)} classes, start {shown(start)}; expected {num_classes} classes "
            "and a whole number"
        )
    arrays = {name: _unpack_array(name, value) for name, value in values.items()}
    return LmAutomaton(start=start, num_classes=num_classes, **arrays)


def _unpack_array(name: str, packed: object) -> np.ndarray:
    match packed:
        case [("<i4" | "<i8" | "<f8") as dtype, str(text)]:
            try:
                return np.frombuffer(base64.b64decode(text, validate=True), dtype)
            except (binascii.Error, ValueError) as error:
                raise DataError(f"language model: {name}: not an array ({error})") from None
        case _:
            raise DataError(f"language model: {name}: expected an array, found {shown(packed)}")
