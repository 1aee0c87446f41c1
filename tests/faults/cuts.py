"""Files of a finished recipe that are deleted, cut short or changed: found, and remade as they were.

The stage that made the file is run again, or the stages after it are. Each must end well, or say by which stage or
option the file is made again; with that done, everything must be as it was, to the last byte.

`python -m tests.faults.cuts --count 200` breaks so many files and prints what became of them; 0 stands for all.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.tree import STATE, Done, Tree, difference, new_tree


def _delete(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def _cut_a_line(path: Path) -> None:
    """What is left is a file of the same form, where it is one of lines."""
    content = path.read_bytes().rstrip(b"\n")
    path.write_bytes(content[: content.rfind(b"\n") + 1])


def _change(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], None]] = {
    "deleted": _delete,
    "cut": _cut,
    "cut by a line": _cut_a_line,
    "changed": _change,
}
# Together with a file of the state of a training, one that is made from it.
_WITH_STATE = ("exp/final.pt", "exp/history.csv")


@dataclass(frozen=True)
class Case:
    """Files, below the work, that are damaged at once, and whether their stage is run again, or those after it."""

    files: tuple[str, ...]
    damage: str
    is_run_again: bool

    def __str__(self) -> str:
        return f"{' and '.join(self.files)} {self.damage}, {'run again' if self.is_run_again else 'gone on'}"


class Failure(Exception):
    """Something that is not right."""


class Cuts:
    """The cases of a tree."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.recipe = tree.recipe()
        self.stages = list(self.recipe)
        self.whole = tree.contents()

    def cases(self) -> list[Case]:
        """All there are."""
        found = []
        for file in sorted(self.tree.made_by):
            if "tensorboard/" in file:
                continue
            is_state = any(part in file for part in STATE)
            groups = [(file, other) for other in _WITH_STATE] if is_state else [(file,)]
            # What asrkit prepare wrote may be edited, and the stages after it then take it as it is.
            is_asked_first = is_state or file.endswith(".stamp") or self.tree.made_by[file] == "prepare"
            for files in groups:
                for damage in DAMAGES:
                    found.append(Case(files, damage, is_run_again=True))
                    if not is_asked_first:
                        found.append(Case(files, damage, is_run_again=False))
        return found

    def faults(self, case: Case) -> list[str]:
        """What goes wrong in a case, a line each."""
        self.tree.restore()
        for file in case.files:
            DAMAGES[case.damage](self.tree.work / file)
        first = self.stages.index(self.tree.made_by[case.files[0]])
        try:
            for stage in self.stages[first + (not case.is_run_again) :]:
                self._run(stage)
            if wrong := self._differences(case):
                raise Failure(f"all went well, but these are not as they were: {wrong}")
        except Failure as failure:
            return [f"{case}: {failure}"]
        return []

    def _differences(self, case: Case) -> list[str]:
        found = difference(self.tree.contents(), self.whole)
        return found if case.is_run_again else [name for name in found if name not in case.files]

    def _run(self, stage: str, options: tuple[str, ...] = (), depth: int = 0) -> None:
        """Run a stage, and what its message asks for. Raises Failure."""
        done = self.tree.run([*self.recipe[stage], *options])
        if done.fault is not None:
            raise Failure(f"{stage} {options}: {done.fault}: {done.output}")
        if done.status == 0:
            return
        remedy = _remedy(done)
        if remedy is None or depth > 4:
            raise Failure(f"{stage} {options} ended with {done.status} and no remedy: {done.output}")
        if remedy.startswith("--"):
            self._run(stage, (*options, remedy), depth + 1)
        elif remedy:
            for other in self.stages:
                if self.recipe[other][0] == remedy:
                    self._run(other, (), depth + 1)
            self._run(stage, options, depth + 1)


def _remedy(done: Done) -> str | None:
    """What a message tells to do: a verb to run, an option to give; "" for nothing, None when it does not tell."""
    errors = [line for line in done.output.splitlines() if re.match(r"asrkit [a-z-]+: error: ", line)]
    if done.status != 1 or not errors:
        return None
    for line in errors:
        if match := re.search(r"(?:stage [0-9] \(asrkit ([a-z-]+)|(--resume|--force))", line):
            return match[1] or match[2]
        if "begin after this step" in line:
            return ""
    return None


def run(count: int, seed: int) -> Counter[str]:
    """Run `count` cases, or all for 0. Returns how many were tried, right and wrong; what was wrong is printed."""
    results: Counter[str] = Counter()
    with new_tree() as tree:
        cuts = Cuts(tree)
        cases = cuts.cases()
        random.Random(seed).shuffle(cases)
        for case in cases[: count or None]:
            faults = cuts.faults(case)
            results.update(["tried", "wrong" if faults else "right"])
            print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr, flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    results = run(args.count, args.seed)
    print(f"cuts: {results['tried']} tried, {results['right']} right, {results['wrong']} wrong")
    return 1 if results["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
