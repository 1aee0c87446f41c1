"""A choice by name is made in its registry: nowhere else does the package compare the names of such a choice."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pytest

import asrkit
from asrkit.decoding.config import SearchMethod
from asrkit.decoding.methods import DECODER_SEARCHES, SEARCHES
from asrkit.features.backends import BACKENDS, BackendChoice
from asrkit.features.backends.interface import BackendName
from asrkit.features.cmvn import NORMALIZATIONS, CmvnMode
from asrkit.models.cells import CELLS, CellName
from asrkit.models.decoder_config import (
    CONTEXTS,
    DECODER_CELLS,
    DECODER_LAYERS,
    DECODERS,
    READINGS,
    SCORES,
    WINDOWS,
    ContextName,
    DecoderCellName,
    DecoderKind,
    DecoderLayersName,
    ReadingName,
    ScoreName,
    WindowName,
)
from asrkit.models.encoders import ENCODERS, EncoderName
from asrkit.models.frontends import FRONT_ENDS, FrontEndName
from asrkit.models.heads import HEADS, HeadName
from asrkit.models.inits import INITS, InitName
from asrkit.models.language_config import NetworkName
from asrkit.training.codecs import CODECS, CodecName
from asrkit.training.config import OptimizerName, ScheduleName
from asrkit.training.noise import NOISES, NoiseName
from asrkit.training.optim import OPTIMIZERS
from asrkit.training.schedule import SCHEDULES
from asrkit.training.selection import SELECTIONS, SelectName

PACKAGE = Path(asrkit.__file__).parent


@dataclass(frozen=True)
class Choice:
    """The `names` that settings choose by, and the file of the `registry` that turns them into objects.

    `other_meanings`: (file, name) where a name is another word that looks the same.
    """

    names: tuple[str, ...]
    registry: str
    other_meanings: frozenset[tuple[str, str]] = frozenset()


CHOICES = {
    "CMVN mode": Choice(get_args(CmvnMode), "features/cmvn.py", frozenset({("corpora/own.py", "speaker")})),
    "search method": Choice(get_args(SearchMethod), "decoding/methods.py"),
    "cell": Choice(get_args(CellName), "models/cells/__init__.py"),
    "encoder": Choice(get_args(EncoderName), "models/encoders.py"),
    "front end": Choice(get_args(FrontEndName), "models/frontends/__init__.py"),
    "head": Choice(get_args(HeadName), "models/heads.py", frozenset({("audio/chunks.py", "frames")})),
    "decoder": Choice(get_args(DecoderKind), "models/decoder_config.py"),
    "layers of a decoder": Choice(get_args(DecoderLayersName), "models/decoder_config.py"),
    "context": Choice(get_args(ContextName), "models/decoder_config.py"),
    "attention score": Choice(get_args(ScoreName), "models/decoder_config.py"),
    "attention window": Choice(get_args(WindowName), "models/decoder_config.py"),
    "attention reading": Choice(get_args(ReadingName), "models/decoder_config.py"),
    "language network": Choice(get_args(NetworkName), "models/language_config.py"),
    "initial weights": Choice(get_args(InitName), "models/inits.py"),
    "schedule": Choice(get_args(ScheduleName), "training/schedule.py"),
    "optimizer": Choice(get_args(OptimizerName), "training/optim.py"),
    "kept weights": Choice(get_args(SelectName), "training/selection.py"),
    "noise": Choice(get_args(NoiseName), "training/noise.py"),
    "codec": Choice(get_args(CodecName), "training/codecs.py"),
    "feature backend": Choice(get_args(BackendChoice), "features/backends/__init__.py"),
}


def compared_strings(node: ast.AST) -> Iterator[str]:
    """The strings that one syntax node compares something with: by ==, !=, in, not in, or a case of a match."""
    if isinstance(node, ast.Compare):
        if all(isinstance(op, ast.Eq | ast.NotEq | ast.In | ast.NotIn) for op in node.ops):
            operands = [node.left, *node.comparators]
            yield from (string for operand in operands for string in literal_strings(operand))
    elif isinstance(node, ast.MatchValue):
        yield from literal_strings(node.value)


def literal_strings(node: ast.expr) -> Iterator[str]:
    """The strings that an expression consists of: one, or those of a tuple, list, set or dictionary."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Tuple | ast.List | ast.Set):
        yield from (string for element in node.elts for string in literal_strings(element))
    elif isinstance(node, ast.Dict):
        yield from (string for key in node.keys if key is not None for string in literal_strings(key))


def comparison_faults(package_dir: Path, choices: dict[str, Choice]) -> list[str]:
    """One line for each comparison under `package_dir` with a name of `choices` outside its registry."""
    faults = []
    for path in sorted(package_dir.rglob("*.py")):
        file = path.relative_to(package_dir).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            strings = set(compared_strings(node))
            for kind, choice in choices.items():
                names = {name for name in choice.names if (file, name) not in choice.other_meanings}
                if file != choice.registry and names & strings:
                    faults.append(f"{file}:{node.lineno}: compares a {kind}: {ast.unparse(node)}")
    return faults


def test_names_of_choices_are_compared_in_their_registries_alone() -> None:
    assert comparison_faults(PACKAGE, CHOICES) == []


@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_the_table_of_choices_is_up_to_date(choice: Choice) -> None:
    assert (PACKAGE / choice.registry).is_file()
    for file, name in choice.other_meanings:
        nodes = ast.walk(ast.parse((PACKAGE / file).read_text(encoding="utf-8")))
        assert name in {string for node in nodes for string in compared_strings(node)}


def test_registries_hold_the_names_of_their_settings() -> None:
    assert tuple(NORMALIZATIONS) == get_args(CmvnMode)
    assert tuple(SEARCHES) == get_args(SearchMethod)
    assert tuple(BACKENDS) == get_args(BackendName)
    assert tuple(CELLS) == get_args(CellName)
    assert tuple(ENCODERS) == get_args(EncoderName)
    assert tuple(FRONT_ENDS) == get_args(FrontEndName)
    assert tuple(HEADS) == get_args(HeadName)
    assert tuple(DECODER_CELLS) == get_args(DecoderCellName)
    assert tuple(DECODER_LAYERS) == get_args(DecoderLayersName)
    assert tuple(CONTEXTS) == get_args(ContextName)
    assert tuple(SCORES) == get_args(ScoreName)
    assert tuple(WINDOWS) == get_args(WindowName)
    assert tuple(READINGS) == get_args(ReadingName)
    assert tuple(DECODERS) == tuple(DECODER_SEARCHES) == get_args(DecoderKind)
    assert all(tuple(searches) == get_args(SearchMethod) for searches in DECODER_SEARCHES.values())
    assert tuple(INITS) == get_args(InitName)
    assert tuple(SCHEDULES) == get_args(ScheduleName)
    assert tuple(OPTIMIZERS) == get_args(OptimizerName)
    assert tuple(NOISES) == get_args(NoiseName)
    assert tuple(CODECS) == get_args(CodecName)
    assert tuple(SELECTIONS) == get_args(SelectName)


@pytest.mark.parametrize(
    "source",
    [
        "config.cmvn == 'speaker'",
        "'speaker' != config.cmvn",
        "config.cmvn in ('running', 'speaker')",
        "config.cmvn not in ['speaker']",
        "config.cmvn in {'speaker': 1}",
        "match config.cmvn:\n    case 'running' | 'speaker':\n        pass",
    ],
)
def test_a_comparison_is_found(tmp_path: Path, source: str) -> None:
    choices = {"mode": Choice(("speaker",), "registry.py", frozenset({("b.py", "speaker")}))}
    (tmp_path / "registry.py").write_text(source, encoding="utf-8")
    (tmp_path / "b.py").write_text("'speaker' in columns\nmode = 'speaker'\nf(reduction='speaker')", encoding="utf-8")
    assert comparison_faults(tmp_path, choices) == []
    (tmp_path / "a.py").write_text(f"pass\n{source}", encoding="utf-8")
    (fault,) = comparison_faults(tmp_path, choices)
    assert fault.startswith(("a.py:2: compares a mode", "a.py:3: compares a mode"))
