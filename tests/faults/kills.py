"""Processes that are killed: the same command run again ends well, and leaves what an undisturbed run leaves.

    python -m tests.faults kills                # before each change of a file that each verb makes, and at random times
    python -m tests.faults kills --part 2/4     # a part of them
    python -m tests.faults kills --count 20     # so many, chosen by the seed

Every verb that writes is killed, in directories that are empty and in those that hold other results already, and the
stages of run.sh. Right is a run afterwards that ends with status 0 within the limits of limits.py, says nothing that an
undisturbed run does not say, and leaves the same files with the same bytes; none under a temporary name, also in the
directory for those. What depends on the time is left out: the state of a training, and seconds.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from unittest import mock

from asrkit.corpora import mini
from tests.faults import pairs
from tests.faults.forked import Changes, main_with_changes
from tests.faults.limits import add_part
from tests.faults.tree import Done, Tree, difference, new_tree
from tests.recipe_tree import copy_recipes

SMALL_PLAN = {
    name: replace(plan, variants=plan.variants[:1], speakers_per_variant=1, num_utts=2)
    for name, plan in mini.PLAN.items()
}
_STAGES = range(7)  # of run.sh


@dataclass(frozen=True)
class Scenario:
    """A command, and the saved state of the work that it is run in. `by_time`: it is killed at random times only."""

    name: str
    command: tuple[str, ...]
    before: str
    by_time: bool = False


@dataclass(frozen=True)
class Trial:
    """A kill before a change of a file, or for 0 up to three at times that depend on `seed`."""

    scenario: Scenario
    at: int
    seed: str

    def __str__(self) -> str:
        return f"{self.scenario.name}, killed {f'before change {self.at}' if self.at else f'by time ({self.seed})'}"


@dataclass
class Undisturbed:
    """What a run that nobody kills makes: changes, seconds, files; and the lines that it, and one more, may say."""

    changes: int
    seconds: float
    contents: dict[str, bytes]
    lines: set[str] = field(default_factory=set)


def scenarios(tree: Tree) -> list[Scenario]:
    """All commands: those of the recipe, each in the work before it, and others that write over that of all."""
    found = []
    for name, command in tree.recipe().items():
        found.append(Scenario(name, (*command, *(("--resume",) if name == "train" else ())), name))
    decoded = tree.exp / "decode_test"
    over = {name: command for name, (_, command) in pairs.commands(tree).items()}
    over["boundaries"] = [
        "boundaries",
        "--ref",
        decoded,
        "--hyp",
        decoded / "phones.ctm",
        "--json-file",
        tree.work / "json",
    ]
    for name, command in over.items():
        words = tuple(map(str, command))
        if all(words != other.command for other in found):
            found.append(Scenario(f"{name}, again", words, "saved"))
    if importlib.util.find_spec("espeakng_loader"):
        words = ("prepare", "mini", "--corpus", f"{tree.work}/mini", "--out", f"{tree.work}/mini-data")
        found.append(Scenario("prepare mini", words, "saved"))
    copy_recipes(tree.root)
    run = (f"{tree.root}/recipes/template/run.sh", "--corpus", f"{tree.corpus}", "--config", f"{tree.config}")
    run += ("--data-root", f"{tree.data}", "--exp", f"{tree.exp}", "--nj", "2", "--stop-stage")
    for stage in _STAGES:
        words = (*run, f"{stage}", "--stage", f"{stage}")
        found.append(Scenario(f"run.sh --stage {stage}", words, f"run.sh {stage}", by_time=True))
    return found


class Kills:
    """The trials of a tree."""

    def __init__(self, tree: Tree, names: Sequence[str] = ()) -> None:
        """Of the commands of these names, or all."""
        self.tree = tree
        self.changes = Changes(tree.root)
        self.scenarios = [each for each in scenarios(tree) if not names or each.name in names]
        self._undisturbed: dict[Scenario, Undisturbed] = {}

    def trials(self, num_by_time: int, seed: int) -> Iterator[Trial]:
        """All of them, scenario by scenario; those of one are made when its turn comes."""
        for scenario in self.scenarios:
            if not scenario.by_time:
                for at in range(1, self.undisturbed(scenario).changes + 1):
                    yield Trial(scenario, at, "")
            for number in range(num_by_time):
                yield Trial(scenario, 0, f"{seed} {number}")

    def some(self, count: int, seed: int) -> Iterator[Trial]:
        """So many, chosen by a seed."""
        rng = random.Random(seed)
        chosen = sorted(rng.choices(range(len(self.scenarios)), k=count))
        for number, scenario in enumerate(self.scenarios[place] for place in chosen):
            is_by_time = scenario.by_time or rng.random() < 0.2
            at = 0 if is_by_time else rng.randint(1, self.undisturbed(scenario).changes)
            yield Trial(scenario, at, f"{seed} {number}")

    def undisturbed(self, scenario: Scenario) -> Undisturbed:
        """What the command does when nobody kills it."""
        if scenario not in self._undisturbed:
            self._undisturbed[scenario] = self._run_undisturbed(scenario)
        return self._undisturbed[scenario]

    def _run_undisturbed(self, scenario: Scenario) -> Undisturbed:
        if scenario.by_time and not (self.tree.root / "states" / scenario.before).exists():
            self._make_states()
        self.tree.restore(scenario.before)
        began = time.monotonic()
        with self.changes.counted() as count:
            done = self.tree.run(scenario.command)
        found = Undisturbed(count.value, time.monotonic() - began, self.tree.contents(hidden=True))
        again = self.tree.run(scenario.command)
        found.lines = lines_of(done) | lines_of(again)
        assert done.status == again.status == 0 and not done.fault and not again.fault, (scenario, done, again)
        assert not (wrong := difference(self.tree.contents(hidden=True), found.contents)), (scenario, wrong)
        return found

    def _make_states(self) -> None:
        """The work before each stage of run.sh."""
        self.tree.restore("prepare")
        for scenario in self.scenarios:
            if scenario.by_time:
                self.tree.save(scenario.before)
                done = self.tree.run(scenario.command)
                assert done.status == 0, (scenario, done)

    def faults(self, trial: Trial) -> list[str]:
        """What goes wrong in a trial, a line each."""
        scenario = trial.scenario
        expected = self.undisturbed(scenario)
        self.tree.restore(scenario.before)
        found = []
        if trial.at:
            with self.changes.counted(kill_at=trial.at):
                killed = [self.tree.run(scenario.command)]
            if killed[0].status == 0:
                found.append("it was not killed")
        else:
            killed = list(self._kill_by_time(scenario, expected.seconds, random.Random(trial.seed)))
        found += [f"the killed run: {done.fault}: {done.output}" for done in killed if done.fault is not None]
        done = self.tree.run(scenario.command)
        if done.status or done.fault is not None:
            found.append(f"it ended with {done.status}, {done.fault}: {done.output}")
        if strange := sorted(lines_of(done) - expected.lines):
            found.append(f"it says {strange}")
        if wrong := difference(self.tree.contents(hidden=True), expected.contents):
            found.append(f"these files are not as they should be: {wrong}")
        if left := os.listdir(self.tree.temporary):
            found.append(f"temporary files are left: {left}")
            shutil.rmtree(self.tree.temporary)
            self.tree.temporary.mkdir()
        return [f"{trial}: {fault}" for fault in found]

    def _kill_by_time(self, scenario: Scenario, seconds: float, rng: random.Random) -> Iterator[Done]:
        for _ in range(rng.randint(1, 3)):
            run = self.tree.start(scenario.command)
            time.sleep(rng.random() * seconds)
            run.kill(with_workers=scenario.by_time or rng.random() < 0.5)
            yield run.wait()


def lines_of(done: Done) -> set[str]:
    """What a run says, without numbers; nor that it goes on with what a killed one left, or is slow today."""
    lines = re.sub(r"[0-9]+([.:][0-9]+)*(e-[0-9]+)?", "0", done.output).splitlines()
    return {line for line in lines if not re.match(r"resuming after epoch |.+: 0(/0)? after 0 s$", line)}


def run(args: argparse.Namespace) -> Counter[str]:
    """Run the trials. Returns how many were tried, right and wrong; what was wrong is printed."""
    results: Counter[str] = Counter()
    part, num_parts = args.part
    with new_tree() as tree, mock.patch.object(mini, "PLAN", SMALL_PLAN):
        kills = Kills(tree, args.command)
        trials = kills.some(args.count, args.seed) if args.count else kills.trials(args.by_time, args.seed)
        print(f"{'command':40} {'tried':>5} {'wrong':>5} {'seconds':>7}", flush=True)
        for scenario, of_scenario in groupby(islice(trials, part - 1, None, num_parts), lambda trial: trial.scenario):
            began, before = time.monotonic(), Counter(results)
            for trial in of_scenario:
                faults = kills.faults(trial)
                results.update(["tried", "wrong" if faults else "right"])
                print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr, flush=True)
            tried, wrong = (results[key] - before[key] for key in ("tried", "wrong"))
            print(f"{scenario.name:40} {tried:5} {wrong:5} {time.monotonic() - began:7.1f}", flush=True)
    return results


def _main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults kills", description=__doc__)
    parser.add_argument("--count", type=int, default=0, help="so many, chosen by the seed (default: all)")
    parser.add_argument(
        "--command", action="append", default=[], metavar="NAME", help="this command, as the table has it"
    )
    parser.add_argument("--by-time", type=int, default=5, metavar="N", help="at random times, of each command")
    parser.add_argument("--seed", type=int, default=0, help="for the times, and what --count chooses")
    add_part(parser, "kills")
    results = run(parser.parse_args())
    print(f"kills: {results['tried']} tried, {results['right']} right, {results['wrong']} wrong")
    return 1 if results["wrong"] else 0


def main() -> int:
    return main_with_changes(_main, "tests.faults.kills")


if __name__ == "__main__":
    sys.exit(main())
