"""Dataclasses are values, which may be shared: frozen, but for those that gather something while they live."""

import ast
from pathlib import Path

import asrkit

PACKAGE = Path(asrkit.__file__).parent
GATHERING = {
    ("audio/chunks.py", "_Header"),
    ("audio/mp3.py", "_Segment"),
    ("corpora/farsdat.py", "_Reading"),
    ("corpora/own.py", "_Listing"),
    ("corpora/table.py", "Table"),
    ("corpora/timit.py", "_Recorded"),
    ("corpora/timit.py", "_Tree"),
    ("findings.py", "Findings"),
    ("io/lock.py", "_Held"),
    ("lessons/reber.py", "Learner"),
    ("scoring/tally.py", "Group"),
    ("scoring/tally.py", "Tally"),
    ("training/lm_loop.py", "_Sums"),
    ("training/state.py", "EpochSums"),
    ("training/step.py", "LossSum"),
}


def is_frozen(decorator):
    """Whether `@dataclass` is frozen; None for another decorator."""
    name, keywords = decorator, []
    if isinstance(decorator, ast.Call):
        name, keywords = decorator.func, decorator.keywords
    if not (isinstance(name, ast.Name) and name.id == "dataclass"):
        return None
    return any(keyword.arg == "frozen" and ast.literal_eval(keyword.value) for keyword in keywords)


def test_dataclasses_are_frozen_but_for_those_that_gather():
    found = {
        (path.relative_to(PACKAGE).as_posix(), node.name)
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and False in map(is_frozen, node.decorator_list)
    }
    assert found == GATHERING
