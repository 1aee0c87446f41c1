"""What the package is called, where it is named, and what stands beside it for those who contribute."""

import configparser
import re
from pathlib import Path

import yaml

import asrkit
from asrkit.extras import DISTRIBUTION

ROOT = Path(__file__).parents[2]
# What pip would take for the other project: its name behind `pip install`, or with an extra of ours.
WRONG_NAME = re.compile(
    r"pip install\b[^\n`]*?(?<![\w./-])asrkit(?![\w.-])|(?<![\w./-])asrkit\\?\[(train|web|mini|microphone|test)"
)


def texts() -> list[Path]:
    folders = ("asrkit", "docs", "examples", "recipes", "tests", "tools", ".github")
    paths = [*ROOT.glob("*"), *(path for folder in folders for path in (ROOT / folder).rglob("*"))]
    return [path for path in paths if path.suffix in (".md", ".py", ".sh", ".cfg", ".toml", ".yml", ".ipynb", ".txt")]


def test_pip_is_told_the_name_that_the_package_has() -> None:
    """`asrkit` on PyPI is another project, which nobody should be led to."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert config["metadata"]["name"] == DISTRIBUTION == "asrkit-phones"
    for found, wrong in {
        "pip install asrkit": True,
        "pip install -U 'asrkit[train]'": True,
        r"pip install 'asrkit\[web]'": True,
        "pip install 'asrkit-phones[train]'": False,
        "pip install ./asrkit": False,
    }.items():
        assert bool(WRONG_NAME.search(found)) == wrong, found
    paths = texts()
    assert len(paths) > 500
    named = {
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in paths
        if path != Path(__file__)
        for match in WRONG_NAME.finditer(path.read_text(encoding="utf-8"))
    }
    assert named == {"README.md: pip install asrkit"}  # where it is said what that is
    said = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert "`pip install asrkit` does not install this toolkit" in said


def test_the_citation_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "license"} <= citation.keys()
    assert citation["version"] == asrkit.__version__
    assert citation["license"] == "Apache-2.0"


def test_each_hook_runs_what_the_tests_run() -> None:
    """Programs of `.venv`, so that their versions stand in one place."""
    configured = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = configured["repos"]
    assert repository["repo"] == "local"
    script = (ROOT / "tools/run_tests.sh").read_text(encoding="utf-8")
    for hook in repository["hooks"]:
        program = hook["entry"].removeprefix(".venv/bin/python -m ").removeprefix(".venv/bin/").split()[0]
        assert re.search(rf"\.venv/bin/(python -m )?{program}\b", script), hook["id"]


def test_issue_templates_are_what_the_site_reads() -> None:
    folder = ROOT / ".github/ISSUE_TEMPLATE"
    forms = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")]
    assert len(forms) == 2
    for form in forms:
        assert form["name"] and form["description"]
        ids = [part["id"] for part in form["body"] if part["type"] != "markdown"]
        assert ids and len(ids) == len(set(ids))
        assert {part["type"] for part in form["body"]} <= {"markdown", "textarea", "input", "dropdown", "checkboxes"}
