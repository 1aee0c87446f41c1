"""A finished recipe that is moved, copied or touched is up to date; after a change, what depends on it is redone."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.faults.tree import Tree

pytestmark = pytest.mark.slow
SETS = ("train", "dev", "test")
# Which files say where others are.
PLACES = {
    "data/.prepare.stamp",
    *(f"data/{name}/{file}" for name in SETS for file in ("wav.scp", "feats.scp", "cmvn.scp", ".feats.stamp")),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    tree = Tree(tmp_path_factory.mktemp("recipe"))
    tree.make()
    return tree


@pytest.fixture
def tree(finished, tmp_path):
    """A copy of it, all of whose files are new, beside the place that its tables name."""
    shutil.copytree(finished.root, tmp_path / "copy", copy_function=shutil.copy)
    return Tree(tmp_path / "copy")


def written(tree, commands):
    """What commands write, by the command that writes it."""
    by_command = {}
    for name, command in commands.items():
        before = _states(tree.work)
        done = tree.run(command)
        assert done.status == 0, (command, done)
        by_command[name] = {file for file, state in _states(tree.work).items() if before.get(file) != state}
    return by_command


def _states(directory: Path):
    files = [path for path in directory.rglob("*") if path.is_file() and path.name != ".asrkit.lock"]
    return {path.relative_to(directory).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def replace_audio(path: Path, seed: int):
    """Other audio of the same length, size and time."""
    status = path.stat()
    audio, rate = soundfile.read(path, dtype="int16")
    soundfile.write(path, np.random.default_rng(seed).permutation(audio), rate)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size


def test_a_copy_is_up_to_date_and_then_tells_where_it_is(tree, finished):
    commands = tree.recipe()
    of_places = {"prepare": {file for file in PLACES if file.startswith("data/.prepare") or file.endswith("wav.scp")}}
    of_places["extract"] = PLACES - of_places["prepare"]
    assert written(tree, commands) == {name: of_places.get(name, set()) for name in commands}
    assert written(tree, commands) == {name: set() for name in commands}
    before, after = finished.contents(hidden=True), tree.contents(hidden=True)
    assert before.keys() == after.keys()
    assert {file for file in before if before[file] != after[file]} == PLACES
    old, new = (f"{root}/".encode() for root in (finished.root, tree.root))
    for file in PLACES:
        if not file.endswith(".stamp"):
            assert after[file] == before[file].replace(old, new)


def test_a_moved_and_touched_tree_is_up_to_date_without_what_it_was_made_from(tree, tmp_path):
    written(tree, tree.recipe())
    moved = Tree(tree.root.rename(tmp_path / "moved"))
    for path in moved.root.rglob("*"):
        os.utime(path, (0, 0))
    commands = moved.recipe()
    late = {name: command for name, command in commands.items() if name not in ("prepare", "extract")}
    assert written(moved, late) == {name: set() for name in late}  # also before the tables are corrected
    assert set().union(*written(moved, commands).values()) == PLACES


def test_what_depends_on_a_changed_file_is_redone(tree):
    commands = tree.recipe()
    written(tree, commands)
    replace_audio(tree.corpus / "test1-2.wav", 1)
    redone = written(tree, commands)
    names = {name for name, files in redone.items() if files}
    assert names - {"report"} == {"extract", "decode test", "analyze"}  # a report depends on hypotheses alone
    assert all(file.startswith("data/test/") for file in redone["extract"])
    assert all(file.startswith("exp/decode_test/") for file in redone["decode test"])
    assert written(tree, commands) == {name: set() for name in commands}

    weights = (tree.exp / "final.pt").read_bytes()
    replace_audio(tree.corpus / "train0-1.wav", 2)
    extracted = written(tree, {name: commands[name] for name in ("prepare", "extract")})
    assert extracted["prepare"] == set()
    assert extracted["extract"] and all(file.startswith("data/train/") for file in extracted["extract"])
    assert tree.run(commands["train"]).status == 1  # it replaces nothing unasked
    assert (tree.exp / "final.pt").read_bytes() == weights
    assert tree.run(tree.train("--force")).status == 0
    assert (tree.exp / "final.pt").read_bytes() != weights
