"""The command's modules: each verb stands alone, and argparse goes no further than they do."""

import ast
from pathlib import Path

import pytest

import asrkit
from asrkit.cli.main import VERBS

PACKAGE = Path(asrkit.__file__).parent
VERB_MODULES = {module for module, _ in VERBS.values()}


def imported_modules(path: Path) -> set[str]:
    """Absolute names of the modules that a file imports, and of the names it takes from them."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


@pytest.mark.parametrize("module", sorted(VERB_MODULES))
def test_no_verb_imports_a_verb(module: str) -> None:
    path = PACKAGE.parent / (module.replace(".", "/") + ".py")
    assert imported_modules(path) & VERB_MODULES == set()
    assert "argparse" in imported_modules(path)


def test_arguments_of_the_command_line_stay_in_cli() -> None:
    outside = [path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[0] != "cli"]
    assert len(outside) > 50
    assert [str(path) for path in outside if "argparse" in imported_modules(path)] == []
