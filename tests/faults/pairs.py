"""Pairs of runs that write the same directory at the same time: one wins, the other is told so, and nothing is mixed.

`python -m tests.faults.pairs --count 200` runs so many pairs, each verb's in turn, and prints what became of them.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.faults.tree import Done, Tree, difference, new_tree

_IN_USE = re.compile(
    r"asrkit [a-z-]+: error: \S+: in use by process [0-9]+ on \S+ since [0-9-]{10} [0-9:]{8} \([a-z-]+\); "
    r"wait for it to end, or end it \(kill [0-9]+\)"
)


@dataclass(frozen=True)
class Outcome:
    """What two runs left, and how each ended; of one that was refused, that it was."""

    contents: dict[str, bytes]
    ends: tuple[str, str]


def commands(tree: Tree) -> dict[str, tuple[list[Any], list[Any]]]:
    """Pairs of commands that would write the same files with different content, by name."""
    data, exp, out = tree.data, tree.exp, tree.work / "out"
    prepare = ["prepare", "own", "--corpus", tree.corpus, "--out", data]
    extract = ["extract", data / "train", "--config", tree.config, "--nj"]
    lm = [
        "train-lm",
        "--train",
        data / "train",
        "--tokens",
        data / "tokens.txt",
        "--out-file",
        data / "lm.arpa",
        "--order",
    ]
    decode, tune = tree.decode("test", "--force"), ["tune", "--model", exp, "--nj", 1, "--force"]
    shared = ["decode", "--model", exp, "--data", data / "test", "--log-probs", out / "log_probs", "--nj", 1]
    tuned_on = {name: ["--data", data / name, "--decode-dir", exp / f"decode_{name}"] for name in ("dev", "test")}
    hyp, other = exp / "decode_test/hyp", exp / "decode_dev/hyp"
    audio = sorted(tree.corpus.glob("test*.wav"))
    transcribe = ["transcribe", "--model", exp, "--nj", 1, "--out", out, *audio]
    align = ["align", "--model", exp, "--data", data / "test", "--out", out]
    other_seed, new = ("--set", "training.seed=2"), ("--out", tree.work / "new", "--resume")
    adapt = ["adapt", "--model", exp, "--data", data / "train", "--out", tree.work / "adapted", "--resume"]
    adapt += ["--set", "training.num_epochs=2"]
    return {
        "prepare": (prepare, [*prepare, "--table", tree.corpus / "table.csv", "--force"]),
        "extract": ([*extract, 1, "--force"], [*extract, 1, "--set", "features.num_ceps=12"]),
        "extract by two processes": (
            [*extract, 2, "--set", "features.dither=1"],
            [*extract, 2, "--set", "features.num_mel_bins=20"],
        ),
        "train-lm": ([*lm, 3], [*lm, 1]),
        "train": (tree.train("--force"), tree.train("--force", *other_seed)),
        "train --resume": (tree.train(*new), tree.train(*new, *other_seed)),
        "adapt": (adapt, [*adapt, "--set", "training.seed=2"]),
        "decode": ([*decode, "--beam", 1], [*decode, "--beam", 8, "--ctm", "--nbest", 2]),
        "decode with shared log-probabilities": (
            [*shared, "--out", out / "a"],
            [*shared, "--out", out / "b", "--cmvn", "utterance"],
        ),
        "tune": ([*tune, *tuned_on["dev"]], [*tune, *tuned_on["test"]]),
        "report": (
            ["report", "--data", data / "test", "--hyp", hyp, "--out", out],
            ["report", "--data", data / "dev", "--hyp", other, "--out", out],
        ),
        "analyze": (tree.analyze("test", "--force"), tree.decode("test", "--beam", 1)),
        "export": (["export", "--model", exp], ["export", "--model", exp, "--dev", data / "dev"]),
        "transcribe": ([*transcribe, "--format", "ctm"], [*transcribe, "--format", "ctm", "--no-lm", "--beam", 1]),
        "align": ([*align, "--format", "lab"], [*align, "--format", "lab", "--optional-silence", "a"]),
        "score": (
            ["score", data / "test/text", hyp, "--json-file", out / "score.json"],
            ["score", data / "dev/text", other, "--json-file", out / "score.json"],
        ),
        "prepare and extract": ([*prepare, "--force"], [*extract, 1, "--set", "features.num_ceps=12"]),
        "train and tune": (
            tree.train("--set", "decoding.beam=3"),
            [*tune, *tuned_on["test"]],
        ),
        "tune and export": ([*tune, *tuned_on["test"]], ["export", "--model", exp]),
    }


class Pairs:
    """The pairs of a tree, with what each run leaves by itself and after the other."""

    def __init__(self, tree: Tree) -> None:
        self.tree = tree
        self.commands = commands(tree)
        self._expected: dict[str, list[Outcome]] = {}
        self._seconds: dict[str, float] = {}

    def faults(self, name: str, rng: random.Random) -> list[str]:
        """Run a pair at once. What is wrong with what it left, a line each."""
        expected = self._expected.get(name) or self._run_in_turn(name)
        self.tree.restore()
        first, second = self.commands[name]
        if rng.random() < 0.5:
            runs = [self.tree.start(first)]
            time.sleep(rng.random() * rng.choice((0, self._seconds[name])))
            runs.append(self.tree.start(second))
        else:
            runs = [self.tree.start(second)]
            time.sleep(rng.random() * rng.choice((0, self._seconds[name])))
            runs.insert(0, self.tree.start(first))
        done = [run.wait() for run in runs]
        found = self._outcome(done)
        if any(found == each for each in expected):
            return []
        nearest = min((difference(found.contents, each.contents) for each in expected), key=len)
        return [f"{name}: ended {found.ends}, differs in {nearest}", *(each.output for each in done)]

    def _run_in_turn(self, name: str) -> list[Outcome]:
        """What is right: one run alone, the other refused; or one after the other."""
        first, second = self.commands[name]
        outcomes = []
        for commands, is_turned in (((first, second), False), ((second, first), True)):
            self.tree.restore()
            began = time.monotonic()
            done = [self.tree.run(commands[0])]
            self._seconds[name] = time.monotonic() - began
            ends = (_end(done[0]), "in use")
            outcomes.append(Outcome(self.tree.contents(hidden=True), ends[::-1] if is_turned else ends))
            done.append(self.tree.run(commands[1]))
            outcomes.append(self._outcome(done[::-1] if is_turned else done))
        assert any(each.ends[0] == "0" for each in outcomes), (name, outcomes[0].ends)
        self._expected[name] = outcomes
        return outcomes

    def _outcome(self, done: Sequence[Done]) -> Outcome:
        return Outcome(self.tree.contents(hidden=True), (_end(done[0]), _end(done[1])))


def _end(done: Done) -> str:
    if done.fault is not None:
        return f"{done.status}: {done.fault}"
    if done.status == 1 and _IN_USE.fullmatch(done.last_line):
        return "in use"
    return str(done.status) if not done.status else f"{done.status}: {done.last_line}"


def run(count: int, seed: int, names: Sequence[str] = ()) -> Counter[str]:
    """Run `count` pairs, of these names or all. Returns how many were tried, right and wrong; prints what was wrong."""
    results: Counter[str] = Counter()
    rng = random.Random(seed)
    with new_tree() as tree:
        pairs = Pairs(tree)
        names = names or list(pairs.commands)
        for number in range(count):
            faults = pairs.faults(names[number % len(names)], rng)
            results.update(["tried", "wrong" if faults else "right"])
            print(*faults, sep="\n", end="\n" if faults else "", file=sys.stderr, flush=True)
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=36)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    results = run(args.count, args.seed)
    print(f"pairs: {results['tried']} tried, {results['right']} right, {results['wrong']} wrong")
    return 1 if results["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
