"""What `import asrkit` offers: its names, that type checkers see them as they are, and that none gets lost."""

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import asrkit

# Imports every module of asrkit, those given first, and then looks at each public name.
USE_ALL = """
import importlib, inspect, pkgutil, sys
import asrkit
modules = [module.name for module in pkgutil.walk_packages(asrkit.__path__, "asrkit.")]
modules = [name for name in modules if name != "asrkit.__main__" and not name.startswith("asrkit._native.")]
assert len(modules) > 50
before = [getattr(asrkit, name) for name in asrkit.__all__] if sys.argv[1] == "names first" else None
for name in sorted(modules, reverse=sys.argv[1] == "reverse"):
    importlib.import_module(name)
after = [getattr(asrkit, name) for name in asrkit.__all__]
assert before is None or all(a is b for a, b in zip(before, after, strict=True))
print(*(name for name, value in zip(asrkit.__all__, after, strict=True) if inspect.ismodule(value)))
print(*(name for name, value in zip(asrkit.__all__, after, strict=True) if callable(value)))
"""


def test_dir_shows_the_public_names_alone() -> None:
    assert dir(asrkit) == sorted([*asrkit.__all__, "__version__"])
    assert {"load_recognizer", "Recognizer", "train_lm", "score", "compare", "report", "tabulate"} <= {*asrkit.__all__}


@pytest.mark.parametrize("order", ["names first", "forward", pytest.param("reverse", marks=pytest.mark.slow)])
def test_a_name_stays_what_it_is_whatever_was_imported(order: str) -> None:
    done = subprocess.run([sys.executable, "-c", USE_ALL, order], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    modules, functions = done.stdout.splitlines()
    assert modules == ""
    assert {*asrkit.__all__} - {*functions.split()} == {"PROTOCOLS"}


def test_type_checkers_see_the_same_names() -> None:
    """The imports for type checkers are those that are done when a name is used."""
    tree = ast.parse(Path(asrkit.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    checked = {
        alias.asname: node.module for node in imports if node.module.startswith("asrkit.") for alias in node.names
    }
    assert checked == asrkit._MODULE_OF


def test_a_name_that_is_not_there_is_refused() -> None:
    with pytest.raises(AttributeError, match=r"module 'asrkit' has no attribute 'scorer'"):
        _ = asrkit.scorer


def public_members() -> dict[str, object]:
    """By its name, each public function, class, and method or property that it has of its own."""
    found = {}
    for name in asrkit.__all__:
        found[name] = value = getattr(asrkit, name)
        if inspect.isclass(value):
            kinds = (property, classmethod, staticmethod)
            found |= {
                f"{name}.{attribute}": getattr(member, "fget", None) or getattr(member, "__func__", member)
                for attribute, member in vars(value).items()
                if not attribute.startswith("_") and (inspect.isfunction(member) or isinstance(member, kinds))
            }
    return {name: value for name, value in found.items() if callable(value)}


def test_each_public_name_is_described_and_arrays_with_their_shapes() -> None:
    """Its own docstring, not a dataclass's list of fields. A shape is written (T, D); (num_samples,) is one, too."""
    members = public_members()
    assert len(members) > 100
    missing = {name for name, value in members.items() if (value.__doc__ or f"{name}(").startswith(f"{name}(")}
    assert missing == set()
    takes_arrays = {name: value for name, value in members.items() if "ndarray" in str(inspect.get_annotations(value))}
    assert {"FeatureExtractor.full", "Recognizer.posteriors", "Waveform"} <= takes_arrays.keys()
    shape = re.compile(r"\([\w']+(, [\w' +]+)*,?\)(?= |,|;|$)")
    assert {name for name, value in takes_arrays.items() if not shape.search(value.__doc__)} == set()


def test_the_reference_has_each_public_name() -> None:
    page = (Path(__file__).parents[2] / "docs/api.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\.\. (?:auto|py:)\w+:: asrkit\.(\w+)$", page, re.MULTILINE)
    assert sorted(listed) == asrkit.__all__
