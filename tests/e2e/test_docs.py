"""The documentation: its site is built without a warning, its commands are what the programs take, and the pages for
newcomers are run as they stand."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import _parse
from asrkit.corpora.espeak import SAMPLE_RATE, Prompt, synthesize
from tests.recipe_tree import copy_recipes, write_program

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/*.md", "docs/*/*.md", "recipes/*/*.md", "examples/*.md")
PAGES = {str(path.relative_to(ROOT)): path for pattern in PATTERNS for path in sorted(ROOT.glob(pattern))}
RUN = ("docs/first-steps.md", "docs/tutorial.md")  # in this order, in one directory
FENCE = re.compile(r"(?:<!-- (?P<note>.*?) -->\n)?^```(?P<kind>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?<=\n\n)(?: {4}.*\n)+")
# What a line leaves to the reader.
OPEN = re.compile(r"\.\.\.|\[-")


def commands(text: str) -> Iterator[str]:
    """Each `asrkit VERB ...` of a page's blocks, on one line."""
    fenced = [match["text"] for match in FENCE.finditer(text) if match["kind"] in ("", "bash", "console", "sh")]
    for block in [*fenced, *INDENTED.findall(FENCE.sub("", text))]:
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"\s(?:\||&&|>)\s", line):
                if match := re.match(r"\s*(?:\$ )?(asrkit [a-z-]+(?: .*|$))", part):
                    yield match[1]


def test_each_whole_command_is_one_that_the_program_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """It has all that it needs, and values that can be. tests/unit/cli/test_command_line.py looks at names alone."""
    wrong, num_commands = [], 0
    for page, path in PAGES.items():
        for command in commands(path.read_text(encoding="utf-8")):
            if OPEN.search(command):
                continue
            num_commands += 1
            arguments = shlex.split(command, comments=True)[1:]
            try:
                _parse(arguments[0], arguments)
            except SystemExit:
                wrong.append((page, command, capsys.readouterr()))
    assert [each for each in wrong if "--help" not in each[1] and "--version" not in each[1]] == []
    assert num_commands > 50


def test_each_message_in_troubleshooting_is_one_that_is_printed() -> None:
    """Its parts between dots, that is, are in some program's texts."""
    programs = [ROOT / "tools/setup.sh", *(ROOT / "asrkit").rglob("*.py")]
    written = "\n".join(path.read_text(encoding="utf-8") for path in programs)
    said = re.sub(r'"\n\s*f?"', "", written)  # texts that go on in the next line
    rows = re.findall(r"^\| `(.+?)` \|", PAGES["docs/troubleshooting.md"].read_text(encoding="utf-8"), re.MULTILINE)
    of_others = {"asrkit: command not found", "No module named 'asrkit'"}
    parts = {part.strip() for row in {*rows} - of_others for part in row.split("...")} - {""}
    assert len(parts) >= 40
    assert {part for part in parts if part not in said} == set()


def steps(page: str) -> Iterator[tuple[str, str]]:
    """The scripts of a page to run (`bash`), and the files that it has the reader save (`NAME`), in order."""
    for match in FENCE.finditer(PAGES[page].read_text(encoding="utf-8")):
        note = match["note"] or ""
        if note.startswith("save as "):
            yield note.removeprefix("save as "), match["text"]
        elif match["kind"] == "bash" and not note.startswith("not run: "):
            yield "bash", match["text"]


@pytest.mark.slow
def test_a_newcomer_gets_through_first_steps_and_tutorial(tmp_path: Path) -> None:
    """In an empty directory, with a recording of a synthesised voice."""
    sources, place = tmp_path / "sources", tmp_path / "try"
    place.mkdir()
    copy_recipes(sources)
    write_program(sources / ".venv/bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (speech,) = synthesize("en-us", "Andy", [Prompt("m'A:k Iz g'oUIN t@ s'i: 'ElIf@nt", 150, 50, 50)])
    soundfile.write(place / "speech.wav", np.frombuffer(speech.samples, np.int16), SAMPLE_RATE)
    path = f"{sources / '.venv/bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "ASRKIT": str(sources), "PYTHONPATH": str(ROOT)}
    printed = ""
    for page in RUN:
        for kind, text in steps(page):
            if kind != "bash":
                (place / kind).write_text(text, encoding="utf-8")
                continue
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", text], cwd=place, env=environment, capture_output=True, text=True
            )
            assert done.returncode == 0, (page, text, done.stderr)
            printed += done.stdout
    assert "speech.wav" in printed
    assert {"speech.TextGrid"} == {path.name for path in (place / "grids").iterdir()}
    for match in FENCE.finditer(PAGES["docs/tutorial.md"].read_text(encoding="utf-8")):
        if match["kind"] == "text" and "%PER" not in match["text"]:  # which depends on the processor
            assert match["text"] in printed
    (errors,) = re.findall(r"^%PER [\d.]+ \[ (\d+) / 60,", printed, re.MULTILINE)[-1:]
    assert 0 < int(errors) < 30
    assert (place / "exp/decode_test/report.html").exists()


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """With each page in its contents: Sphinx warns of others."""
    done = subprocess.run(["tools/build_docs.sh", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        assert (tmp_path / page).with_suffix(".html").exists()
    assert "asrkit.load_recognizer" in (tmp_path / "docs/api.html").read_text(encoding="utf-8")
