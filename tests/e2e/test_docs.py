"""The documentation: its site is built without a warning, and each command of README.md and docs/ is run, or marked
with the reason why not. recipes/*/RESULTS.md are records of measurements and no documentation."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import soundfile

from asrkit.cli.main import _parse, main
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


# What a command of a block begins with.
PROGRAM = re.compile(
    r"(?:\$ )?(?:\w+=\S+ |nice )*(?:asrkit [a-z-]+(?= |$)|pip install|torchrun |sbatch |\S+\.sh\b|\S*python -m)"
)
MARK = re.compile(r"<!-- not run: (?:`(?P<part>[^`]+)`: )?(?P<reason>[^>]+) -->\n\n?\Z")
# Quick on any corpus, so that a page has no reason to leave it out.
CHEAP = re.compile(r"asrkit (?:align|boundaries|compare|info|models|report|score|table|validate)\b")
# What pages leave out, and what the test puts there.
LEFT_OUT = {
    "asrkit train ... ": "asrkit train --train DATA/train --dev DATA/dev --tokens DATA/tokens.txt --out NEW ",
    "EXP...": "EXP",
    "INPUT ...": "speech.wav speech.flac",
    " ...": " --train DATA/train --dev DATA/dev --tokens DATA/tokens.txt --out NEW",
}
# Phones of pages, and those of the tones.
PHONES = {'"sil s a l A m sil"': '"# a ʃ a"'}
# Phones of TIMIT for the tones, for protocols that know no others.
OF_TIMIT = str.maketrans({"a": "aa", "ʃ": "sh", "#": "sil"})
# So that a training takes a second, whatever is in its directory.
SHORT = ("--set", "training.num_epochs=1", "--force")


class Block(NamedTuple):
    """Commands of a page, each on one line, and its mark."""

    commands: list[str]
    is_marked: bool
    part: str  # the mark is for the commands that have this

    @property
    def to_run(self) -> list[str]:
        return [each for each in self.commands if not self.is_marked or self.part not in each]


def blocks(text: str) -> list[Block]:
    fenced = [(match.start("kind"), match["kind"], match["text"]) for match in FENCE.finditer(text)]
    rest = FENCE.sub(lambda match: re.sub(r"[^\n]", "-", match[0]), text)
    indented = [(match.start(), "", match[0]) for match in INDENTED.finditer(rest)]
    found = []
    for start, kind, block in sorted(fenced + indented):
        lines = [line.strip() for line in block.replace("\\\n", " ").splitlines() if line.strip()]
        if any(line.startswith("$ ") for line in lines):  # the others are what is printed
            lines = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        if kind in ("bash", "console", "sh") or (kind == "" and any(map(PROGRAM.match, lines))):
            mark = MARK.search(text[:start].removesuffix("```"))
            found.append(Block(lines, mark is not None, (mark and mark["part"]) or ""))
    return found


def prepare(place: Path, tones: Path) -> None:
    """Give `place` all that the pages' commands name, by their names."""
    copy_recipes(place)
    exp, data = place / "EXP", place / "DATA"
    shutil.copytree(tones / "exp", exp)
    shutil.copytree(tones / "data", data)
    shutil.copytree(data / "test", data, dirs_exist_ok=True)
    for name in ("EXP_A", "EXP_B", "recipes/mini/exp/blstm_ctc"):
        (place / name).parent.mkdir(exist_ok=True)
        (place / name).symlink_to(exp)
    for name in ("adults", "recipes/mini/data"):
        (place / name).symlink_to(data)
    for name, source in {
        **{"CONFIG": tones / "config.yaml", "MODEL": ROOT / "asrkit/pretrained/english-streaming.onnx"},
        **{"REF": data / "test/text", "HYP": exp / "decode_test/hyp", "tokens.txt": data / "tokens.txt"},
        **{"HYP_A": exp / "decode_test/hyp", "HYP_B": exp / "decode_test/hyp", "children": data / "dev"},
    }.items():
        (place / name).symlink_to(source)
    samples, rate = soundfile.read(tones / "audio/test0-0.wav", dtype="int16")
    for name in (
        *("speech.wav", "speech.flac", "hello.wav", "recordings/one.wav", "interviews/two.wav", "talks/three.mp3"),
        "recipes/mini/corpus/wav/s105/s105_454.wav",
    ):
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / name, samples, rate)
    (place / "models").mkdir()
    (place / "models/mini.onnx").symlink_to(ROOT / "asrkit/pretrained/english.onnx")
    (place / "phones.txt").write_text("speech # a\nhello a ʃ\n", encoding="utf-8")
    write_program(place / "bin/ffmpeg", "#!/bin/sh\nexec cat speech.wav\n")
    write_program(place / "bin/arecord", "#!/bin/sh\nexec tail -c +45 speech.wav\n")
    write_program(place / "bin/python", f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    write_program(place / "bin/asrkit", f'#!/bin/sh\nexec "{sys.executable}" -m asrkit "$@"\n')
    write_program(place / ".venv/bin/activate", "")


def run(command: str) -> str | int | None:
    """Run a command of a page in the current directory. Returns its status: 0 or None after success."""
    command = re.sub(r"\[(-[^]]*)\]", r"\1", command)
    for left_out, words in {**LEFT_OUT, **PHONES}.items():
        command = command.replace(left_out, words)
    if not command.startswith("asrkit ") or re.search(r" [|>] |\*", command):
        return subprocess.run(["bash", "-euo", "pipefail", "-c", command], timeout=60).returncode
    arguments = shlex.split(command, comments=True)[1:]
    if arguments[0] == "train" and "--config" in arguments:  # which also says what the features are
        config = arguments[arguments.index("--config") + 1]
        main(["extract", "DATA/train", "DATA/dev", "--config", config, "--quiet"])
    if arguments[0] == "table":  # of what stages 4 and 5 leave
        for name in ("dev", "test"):
            main(["decode", "--model", "EXP", "--data", f"DATA/{name}", "--quiet"])
            main(["report", "--model", "EXP", "--data", f"DATA/{name}", "--quiet"])
    shutil.rmtree("NEW", ignore_errors=True)
    try:
        return main([*arguments, *(SHORT if arguments[0] in ("train", "train-nlm") else ())])
    except SystemExit as end:
        return end.code


DOCUMENTATION = [page for page in PAGES if page == "README.md" or page.startswith("docs/")]


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in DOCUMENTATION if page not in RUN])
def test_each_command_is_run_or_marked(
    page: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    """In a directory with a corpus of tones and an experiment, which have the names that the pages use."""
    found = blocks(PAGES[page].read_text(encoding="utf-8"))
    assert [each for each in found if each.is_marked and each.to_run == each.commands] == []
    assert [each for each in found if each.is_marked and all(map(CHEAP.match, {*each.commands} - {*each.to_run}))] == []
    if not any(each.to_run for each in found):
        return
    commands = [command for each in found for command in each.to_run]
    own, timit = tmp_path / "own", tmp_path / "timit"
    prepare(own, request.getfixturevalue("tones"))
    if any("--protocol" in command for command in commands):
        prepare(timit, request.getfixturevalue("tones"))
        for file in (*timit.glob("DATA/**/text"), *timit.glob("EXP/**/hyp")):
            file.write_text(file.read_text(encoding="utf-8").translate(OF_TIMIT), encoding="utf-8")
    monkeypatch.setenv("PATH", f"{own / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("ASRKIT_MODELS", str(own / "models"))
    failed = {}
    for command in commands:
        monkeypatch.chdir(timit if "--protocol" in command else own)
        if run(command):
            failed[command] = capfd.readouterr().err
    assert failed == {}


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """With each page in its contents: Sphinx warns of others."""
    done = subprocess.run(["tools/build_docs.sh", str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for page in PAGES:
        assert (tmp_path / page).with_suffix(".html").exists()
    assert "asrkit.load_recognizer" in (tmp_path / "docs/api.html").read_text(encoding="utf-8")
