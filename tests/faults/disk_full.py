"""Disks that are full: a verb says so in one line and names the file; run again with space, it ends well.

    python -m tests.faults disk-full                # at each change of a file that takes space, of every verb
    python -m tests.faults disk-full --part 2/4     # some of the verbs
    python -m tests.faults disk-full --count 20     # so many points, chosen by the seed

From one change of a file on, each that takes space fails as on a full disk (forked.py). So every place in the code is
reached, of which a real disk would reach a few. Real ones follow where the system lets a file system be mounted, which
the superuser may, and on most systems everyone in a namespace of their own: a tmpfs that has room for a part of what
the verb writes. There a write may end in the middle.

Right is a run that ends with status 1 within the limits of limits.py and says what an undisturbed run says, and besides
that the disk is full: a line for each data directory, or one, with the name of the file that had no space. (A lock
holds without its owner's name in it; that is no error.) It leaves no temporary files, and of others those that were
there before or an undisturbed run leaves. The same command, run again with space, ends with status 0 and leaves the
same files with the same bytes as an undisturbed one. What depends on the time is left out: the state of a training,
and seconds.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from asrkit.corpora import mini
from asrkit.io.atomic import LOCK_NAME
from tests.faults.forked import main_with_changes
from tests.faults.kills import SMALL_PLAN, Kills, Scenario, lines_of
from tests.faults.limits import add_part
from tests.faults.tree import Done, Tree, difference, new_tree

_FULL = re.compile(
    r"asrkit [a-z-]+: error: (.+): cannot be used \(No space left on device\); the disk is full; make room on it, then "
    "run the same command again"
)
_OTHERS_AFTER = re.compile(r"asrkit [a-z-]+: [0-9]+ of [0-9]+ (files|recordings|directories) failed")
_TEMPORARY = re.compile(r"\.([^/]+)\.tmp-[^/]+")
# Whole files that an undisturbed run writes, too, and later again, or removes: of an epoch, or a part of a step.
_ON_THE_WAY = re.compile(r"(exp|new)/(history\.csv|learning_curve\.png)|.*\.stamp|.*/\.feats\.jobs/.*")
_PAGE = 4096
_LARGE = 2**31  # bytes, of the file system that is not full
_SHARES = (0.0, 0.3, 0.6, 0.9)  # of the space that a verb needs


@dataclass(frozen=True)
class Trial:
    """A disk that is full from change `at` on, or that has room for so many `pages`."""

    scenario: Scenario
    at: int = 0
    pages: int = 0

    def __str__(self) -> str:
        where = f"full at change {self.at}" if self.at else f"with {self.pages} pages"
        return f"{self.scenario.name}, {where}"


class FullDisks:
    """The trials of a tree; `mount` is the file system of its own on which it lies, None without one."""

    def __init__(self, tree: Tree, mount: Path | None, names: Sequence[str] = ()) -> None:
        """Of the commands of these names, or all."""
        self.tree, self.mount = tree, mount
        self.kills = Kills(tree, names)
        self.scenarios = [scenario for scenario in self.kills.scenarios if not scenario.by_time]

    def trials(self, scenario: Scenario) -> Iterator[tuple[Trial, list[str]]]:
        """Each disk that is full, and what goes wrong with it, a line each."""
        at = 1
        while (faults := self.try_one(Trial(scenario, at))) is not None:
            yield Trial(scenario, self.failed), faults
            at = self.failed + 1
        if self.mount is not None:
            needed = self._pages_needed(scenario)
            for pages in sorted({int(share * needed) for share in _SHARES}):
                faults = self.try_one(Trial(scenario, pages=pages))
                if faults is not None:
                    yield Trial(scenario, pages=pages), faults

    def some(self, count: int, seed: int) -> Iterator[tuple[Trial, list[str]]]:
        """So many, chosen by a seed."""
        rng = random.Random(seed)
        done = 0
        while done < count:
            scenario = rng.choice(self.scenarios)
            if self.mount is not None and rng.random() < 0.2:
                trial = Trial(scenario, pages=int(rng.random() * self._pages_needed(scenario)))
            else:
                trial = Trial(scenario, at=rng.randint(1, self.kills.undisturbed(scenario).changes))
            if (faults := self.try_one(trial)) is not None:
                done += 1
                yield trial, faults

    def try_one(self, trial: Trial) -> list[str] | None:
        """What goes wrong, a line each; None where the disk had room for all."""
        scenario, expected = trial.scenario, self.kills.undisturbed(trial.scenario)
        self.tree.restore(scenario.before)
        before = self.tree.contents(hidden=True)
        if trial.at:
            with self.kills.changes.counted(fail_at=trial.at, error=errno.ENOSPC) as count:
                done = self.tree.run(scenario.command)
            self.failed, files = count.failed, count.files
        else:
            assert self.mount is not None
            with _room(self.mount, trial.pages):
                done = self.tree.run(scenario.command)
            self.failed, files = int(done.status != 0), []
        if not self.failed:
            return None
        if any(file.endswith(LOCK_NAME) for file in files):  # it holds all the same; what comes next is not known
            files = []
        found = [*self._faults_of_run(done, files, expected.lines)]
        left = self.tree.contents(hidden=True)
        found += [
            f"{name} is neither as it was nor as it should be"
            for name, content in left.items()
            if content not in (before.get(name), expected.contents.get(name)) and not _ON_THE_WAY.fullmatch(name)
        ]
        found += [f"{name} is left" for name in left if ".tmp-" in name]
        again = self.tree.run(scenario.command)
        if again.status or again.fault is not None:
            found.append(f"then it ended with {again.status}, {again.fault}: {again.output}")
        if strange := sorted(lines_of(again) - expected.lines):
            found.append(f"then it says {strange}")
        if wrong := difference(self.tree.contents(hidden=True), expected.contents):
            found.append(f"then these files are not as they should be: {wrong}")
        if temporary := os.listdir(self.tree.temporary):
            found.append(f"temporary files are left: {temporary}")
            shutil.rmtree(self.tree.temporary)
            self.tree.temporary.mkdir()
        return found

    def _faults_of_run(self, done: Done, files: Sequence[str], usual: set[str]) -> Iterator[str]:
        """What is wrong with the end of a run whose processes first had no space for `files`; none: not known which."""
        if done.status != 1 or done.fault is not None:
            yield f"ended with {done.status}, {done.fault}: {done.output}"
        others = [line for line in done.output.splitlines() if not _FULL.fullmatch(line)]
        named = [match[1] for line in done.output.splitlines() if (match := _FULL.fullmatch(line))]
        if not named or len(named) > len(set(named)):
            yield f"{len(named)} lines say that the disk is full: {done.output}"
        if files and not {_TEMPORARY.sub(r"\1", file) for file in files} & {*named}:
            yield f"{files} had no space, but it names {named}"
        if any(_TEMPORARY.search(name) or not name.startswith(str(self.tree.root)) for name in named):
            yield f"it names {named}"
        strange = lines_of(Done(0, "\n".join(line for line in others if not _OTHERS_AFTER.fullmatch(line)), 0)) - usual
        if strange:
            yield f"it says {sorted(strange)}"

    def _pages_needed(self, scenario: Scenario) -> int:
        """Those that a run fills, at its end."""
        self.tree.restore(scenario.before)
        before = _pages_used(self.tree.root)
        self.tree.run(scenario.command)
        return max(_pages_used(self.tree.root) - before, 4)


def _pages_used(directory: Path) -> int:
    status = os.statvfs(directory)
    return status.f_blocks - status.f_bfree


@contextlib.contextmanager
def _room(mount: Path, pages: int) -> Iterator[None]:
    """A block in which a mounted file system has so many free pages."""
    try:
        _resize(mount, (_pages_used(mount) + pages) * _PAGE)
        yield
    finally:
        _resize(mount, _LARGE)


def _resize(mount: Path, size: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(mount)], check=True)


@contextlib.contextmanager
def _mounted() -> Iterator[Path | None]:
    """A directory with a file system of its own; None where none may be mounted."""
    with tempfile.TemporaryDirectory(prefix="asrkit-faults-") as directory:
        command = ["mount", "-t", "tmpfs", "-o", f"size={_LARGE}", "asrkit-faults", directory]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            yield None
            return
        try:
            yield Path(directory)
        finally:
            subprocess.run(["umount", directory], check=True)


def _namespace() -> list[str]:
    """The command in front of one that may mount file systems, which nobody else sees; none where that is not to be."""
    for command in (["unshare", "--mount"], ["unshare", "--mount", "--map-root-user"]):
        if shutil.which("unshare") and not subprocess.run([*command, "true"], capture_output=True).returncode:
            return command
    return []


def run(args: argparse.Namespace) -> Counter[str]:
    """Run the trials. Returns how many were tried, right and wrong; what was wrong is printed."""
    results: Counter[str] = Counter()
    part, num_parts = args.part

    def note(trial: Trial, faults: list[str], row: Counter[str]) -> None:
        row.update(["real" if not trial.at else "made", *(["wrong"] if faults else [])])
        results.update(["tried", "wrong" if faults else "right"])
        for fault in faults:
            print(f"{trial}: {fault}", file=sys.stderr, flush=True)

    with _mounted() as mount, new_tree(mount) as tree, mock.patch.object(mini, "PLAN", SMALL_PLAN):
        disks = FullDisks(tree, mount, args.command)
        if mount is None:
            print("no file system can be mounted here: without those that are full in earnest", flush=True)
        if args.count:
            row: Counter[str] = Counter()
            for trial, faults in disks.some(args.count, args.seed):
                note(trial, faults, row)
            return results
        print(f"{'command':40} {'by change':>9} {'tmpfs':>5} {'wrong':>5} {'seconds':>7}", flush=True)
        for scenario in disks.scenarios[part - 1 :: num_parts]:
            row, began = Counter(), time.monotonic()
            for trial, faults in disks.trials(scenario):
                note(trial, faults, row)
            seconds = time.monotonic() - began
            print(f"{scenario.name:40} {row['made']:9} {row['real']:5} {row['wrong']:5} {seconds:7.1f}", flush=True)
    return results


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults disk-full", description=__doc__)
    parser.add_argument("--count", type=int, default=0, help="so many, chosen by the seed (default: all)")
    parser.add_argument(
        "--command", action="append", default=[], metavar="NAME", help="this command, as the table has it"
    )
    parser.add_argument("--seed", type=int, default=0, help="what --count chooses")
    add_part(parser, "verbs")
    results = run(parser.parse_args())
    print(f"disk-full: {results['tried']} tried, {results['right']} right, {results['wrong']} wrong")
    return 1 if results["wrong"] else 0


def main() -> int:
    return main_with_changes(_main, "tests.faults.disk_full", _namespace())


if __name__ == "__main__":
    sys.exit(_main())
