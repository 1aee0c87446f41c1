"""Crafted model files: a right one, in which one thing after the other is changed."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.decoding.config import DecodingConfig
from asrkit.experiment import Experiment, make_model
from asrkit.features.cmvn import accumulate
from asrkit.features.config import FeatureConfig
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import NgramLM, train_ngram
from asrkit.models.config import ModelConfig

PHONES = ("sil", "a", "b", "ʃ")
LM_ARRAYS = ("first_arc", "tokens", "log_probs", "next_context", "shorter", "backoff", "end")


@dataclass(frozen=True)
class Case:
    """A model file. `must_fail`: no program may take it; else it may turn out to be a model."""

    name: str
    kind: str  # what reads it: a name in models.JUDGES
    make: Callable[[], bytes]
    must_fail: bool = False


class Missing:
    """In place of a value: there is none."""

    def __repr__(self) -> str:
        return "missing"


# What no setting is meant to be; some are right for some.
STRANGE = (
    Missing(),
    None,
    True,
    "text",
    "",
    [],
    [[1.0]],
    {},
    -1,
    0,
    1,
    2.5,
    -1e308,
    1e308,
    math.nan,
    math.inf,
    -math.inf,
    2**31,
    2**63,
    10**400,
)
BAD_PHONES = (
    Missing(),
    None,
    "sil a b c",
    {},
    [],
    [1, 2, 3, 4],
    [None] * 4,
    [["sil"], "a", "b", "c"],
    ["sil", "a", "b"],
    ["sil", "a", "b", "c", "d"],
    ["sil", "a", "a", "b"],
    ["sil", "a", "", "b"],
    ["sil", "a", "b c", "d"],
    ["sil", "a", "<blk>", "b"],
    ["sil", "a", "\x1b[2J", "b"],
    ["sil", "a", "b\n", "c"],
    ["sil", "a", "\ud800", "b"],
    ["sil", "a", "\0", "b"],
    ["same"] * 100_000,
    [f"p{i}" for i in range(100_000)],
)
HUGE = {"num_layers": 100, "hidden_size": 8192, "stack": 100, "skip": 100}


@functools.cache
def lm() -> NgramLM:
    rng = np.random.default_rng(0)
    return train_ngram([rng.choice(PHONES, size=20).tolist() for _ in range(20)], 3, PHONES)


@functools.cache
def experiment(**shape: Any) -> Experiment:
    """A small network that was not trained, with a language model."""
    config = ExperimentConfig(
        features=FeatureConfig(cmvn="global"),
        model=ModelConfig(**{"num_layers": 1, "hidden_size": 8, "stack": 2, "skip": 2, **shape}),
        decoding=DecodingConfig(beam=4, lm_weight=0.5, insertion_bonus=1.0),
    )
    stats = accumulate(np.random.default_rng(1).normal(5.0, 3.0, (200, 13)).astype(np.float32))
    tokens = TokenTable(PHONES)
    return Experiment(config, tokens, make_model(config, tokens).eval(), stats, lm())


def put(tree: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of nested dicts and lists with another value in one place."""
    if not path:
        return value
    copy = dict(tree) if isinstance(tree, dict) else list(tree)
    if isinstance(value, Missing) and len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = put(tree[path[0]], path[1:], value)
    return copy


def leaves(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The places of all values of nested dicts, those of the dicts themselves included; lists are values."""
    if path:
        yield path
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from leaves(value, (*path, key))


def strange_values(tree: Any) -> Iterator[tuple[str, Any]]:
    """The tree with each of STRANGE in each of its places, and a name of each."""
    for path in leaves(tree):
        for value in STRANGE:
            yield f"{'.'.join(map(str, path))} {str(value)[:20]!r}", put(tree, path, value)


def bad_arrays(name: str) -> Iterator[tuple[str, np.ndarray]]:
    """An array of the language model with what none has, and what was done to it."""
    array: np.ndarray = getattr(lm().automaton, name)
    yield "cut", array[:-1]
    yield "longer", np.append(array, array[-1:])
    yield "empty", array[:0]
    strange = [math.nan, math.inf, -math.inf, 1e300, -1e300]
    if array.dtype.kind == "i":
        strange = [-1, np.iinfo(array.dtype).min, np.iinfo(array.dtype).max, len(array) + 100]
    for place in sorted({0, 1, len(array) // 3, len(array) // 2, len(array) - 2, len(array) - 1}):
        for value in strange:
            changed = array.copy()
            changed[place] = value
            yield f"[{place}] = {value}", changed
    if array.dtype.kind == "i" and name != "next_context":  # where any context may follow
        yield "falling", array[::-1].copy()
        yield "constant", np.full_like(array, array[len(array) // 2])


def damaged(content: bytes, count: int, seed: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Copies of a file of which one bit was flipped, that were cut, or got more bytes."""
    rng = np.random.default_rng(seed)
    positions = np.unique(np.append(rng.integers(0, 8 * len(content), count), [0, 8 * len(content) - 1]))
    for position in positions.tolist():
        yield f"bit {position} flipped", functools.partial(_flipped, content, position)
    for length in sorted({0, 1, 4, len(content) // 2, len(content) - 64, len(content) - 78, len(content) - 1}):
        yield f"cut to {length} bytes", functools.partial(content.__getitem__, slice(length))
    yield "one byte more", lambda: content + b"0"
    yield "digest twice", lambda: content + content[-78:]


def _flipped(content: bytes, position: int) -> bytes:
    flipped = bytearray(content)
    flipped[position // 8] ^= 1 << position % 8
    return bytes(flipped)


def to_json(value: Any) -> str:
    """JSON, with NaN, infinity and half characters as Python's own module writes them."""
    return json.dumps(value)
