"""The layers of docs/architecture.md: imports point down, and modules of one row do not import each other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import asrkit

PACKAGE = Path(asrkit.__file__).parent

# From the bottom up. A name is a module of asrkit or a package with all that is in it, unless its modules have rows of
# their own.
LAYERS = (
    ("types", "errors"),
    ("findings", "extras", "drawing"),
    ("io",),
    ("config.yaml_config", "config.plain_values", "config.ranges", "audio", "lang", "parallel", "device", "_native"),
    ("formats", "cluster"),
    ("corpora", "features"),
    ("models", "lm", "scoring"),
    ("decoding",),
    ("training",),
    ("config.experiment_config",),
    ("experiment",),
    ("inference",),
    ("reporting",),
    ("stages", "serve", "lessons"),
    ("cli",),
    ("__main__",),
)
RANKS = {name: rank for rank, row in enumerate(LAYERS) for name in row}


def layer_of(parts: tuple[str, ...]) -> str:
    """The name in the table of layers under which a module, `parts` below asrkit, or a name in it stands."""
    dotted = ".".join(parts[:2])
    return dotted if dotted in RANKS else parts[0] if parts else ""


def imported_names(node: ast.AST, package: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """Dotted names below asrkit that one syntax node takes; `package` is where the node's file lies.

    `from X import a` gives X.a: whether that is a module or a name in X makes no difference to the layer, unless
    X is asrkit itself.
    """
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name.split(".") for alias in node.names if (alias.name, alias.asname) != ("asrkit", None)]
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        names = [[node.value.id, node.attr]]  # what a bare `import asrkit` is used for
    elif isinstance(node, ast.ImportFrom):
        base = list(package[: len(package) - node.level + 1]) if node.level else []
        base += node.module.split(".") if node.module else []
        names = [[*base, alias.name] for alias in node.names]
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
        if called in ("import_module", "__import__") and isinstance(node.args[0].value, str):
            names = [node.args[0].value.split(".")]
    for name in names:
        if name[0] == "asrkit":
            yield tuple(name[1:])


def layer_faults(package_dir: Path) -> list[str]:
    """One line for each import under `package_dir` (a tree that stands for asrkit) that breaks the layers."""
    faults = []
    for path in sorted(package_dir.rglob("*.py")):
        parts = path.relative_to(package_dir).with_suffix("").parts
        if parts == ("__init__",):  # the public names: it may take them from any layer
            continue
        own = layer_of(parts)
        if parts[-1] == "__init__" and own not in RANKS:
            continue  # of a package whose modules have rows of their own
        if own not in RANKS:
            faults.append(f"{'/'.join(parts)}: {own} has no row in the table of layers")
            continue
        package = ("asrkit", *parts[:-1])
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for name in imported_names(node, package):
                where = f"{'/'.join(parts)}.py:{node.lineno}: {own}"
                target = layer_of(name)
                if name in (("__version__",), ("__file__",)) or target == own:
                    continue
                if target not in RANKS:
                    faults.append(f"{where} imports {'.'.join(('asrkit', *name))}, which is no module of the table")
                elif RANKS[target] > RANKS[own]:
                    faults.append(f"{where} imports {target}, which is above it")
                elif RANKS[target] == RANKS[own]:
                    faults.append(f"{where} imports {target}, which is in its own row")
    return faults


def test_the_documentation_shows_this_table() -> None:
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+ \| (`.*`) \|$", page, re.MULTILINE)
    assert [tuple(row.strip("`").split("`, `")) for row in reversed(rows)] == list(LAYERS[:-1])


def test_imports_of_asrkit_point_down() -> None:
    assert (PACKAGE / "cli" / "main.py").is_file()
    assert layer_faults(PACKAGE) == []


@pytest.mark.parametrize(
    ("file", "source", "fault"),
    [
        ("io/scp.py", "import asrkit.cli.main", "io/scp.py:1: io imports cli, which is above it"),
        ("io/scp.py", "import numpy\nimport asrkit.cli.main as m", "io/scp.py:2: io imports cli, which is above it"),
        ("io/scp.py", "from asrkit.cli import main", "io/scp.py:1: io imports cli, which is above it"),
        ("io/scp.py", "from asrkit import cli", "io/scp.py:1: io imports cli, which is above it"),
        ("io/scp.py", "from ..cli import main", "io/scp.py:1: io imports cli, which is above it"),
        ("io/scp.py", "from .. import audio", "io/scp.py:1: io imports audio, which is above it"),
        ("audio.py", "from . import formats", "audio.py:1: audio imports formats, which is above it"),
        ("io/__init__.py", "from ..audio import x", "io/__init__.py:1: io imports audio, which is above it"),
        (
            "io/scp.py",
            "def f():\n    if 1:\n        from asrkit import lm\n",
            "io/scp.py:3: io imports lm, which is above",
        ),
        (
            "io/scp.py",
            "if TYPE_CHECKING:\n    import asrkit.formats",
            "io/scp.py:2: io imports formats, which is above it",
        ),
        ("io/scp.py", "import_module('asrkit.cli')", "io/scp.py:1: io imports cli, which is above it"),
        ("io/scp.py", "importlib.import_module('asrkit.cli')", "io/scp.py:1: io imports cli, which is above it"),
        ("lm/ngram.py", "import asrkit.scoring.per", "lm/ngram.py:1: lm imports scoring, which is in its own row"),
        ("types.py", "from asrkit.errors import E", "types.py:1: types imports errors, which is in its own row"),
        ("corpora/a.py", "from asrkit.features import x", "corpora imports features, which is in its own row"),
        (
            "formats/a.py",
            "import asrkit as a",
            "formats/a.py:1: formats imports asrkit, which is no module of the table",
        ),
        ("formats/a.py", "import asrkit\nasrkit.cli.main", "formats/a.py:2: formats imports cli, which is above it"),
        (
            "formats/a.py",
            "import asrkit\nasrkit.Recognizer()",
            "formats/a.py:2: formats imports asrkit.Recognizer, which is no",
        ),
        ("formats/a.py", "from asrkit import Recognizer", "imports asrkit.Recognizer, which is no module of the table"),
        ("extra/a.py", "", "extra/a: extra has no row in the table of layers"),
    ],
)
def test_a_wrong_import_is_found(tmp_path: Path, file: str, source: str, fault: str) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(source, encoding="utf-8")
    faults = layer_faults(tmp_path)
    assert len(faults) == 1
    assert fault in faults[0]


def test_right_imports_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "cli").mkdir()
    (tmp_path / "__init__.py").write_text("from asrkit.inference.recognizer import Recognizer\n")
    (tmp_path / "cli" / "decode.py").write_text(
        "import numpy, asrkit.io.scp\nfrom asrkit import __version__, errors\nfrom . import options\n"
        "from .main import VERBS\nfrom ..lang.tokens import BLANK\nfrom asrkit.cli.options import add_nj\n"
    )
    (tmp_path / "audio.py").write_text("import asrkit\nasrkit.__file__\n")
    assert layer_faults(tmp_path) == []
