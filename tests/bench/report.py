"""The cost of a report on many utterances, compared with scoring: `python -m tests.bench.report --exp EXP --data DATA`.

DATA must be decoded to EXP/decode_SET with --ctm, where SET is its name. Its utterances are repeated under new names,
up to the number of --utts. Each command is a separate process. The commands run in turn, round after round. CPU seconds
and peak memory are medians. So are the ratios of a round's CPU seconds to those of scoring in the same round.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

TIMES, OTHERS = "phones.ctm", ("config.yaml", "tokens.txt", "history.csv")


def repeat(source: Path, target: Path, number: int) -> None:
    """Repeat a table of utterances until it has `number` of them."""
    groups: dict[str, list[str]] = {}
    for line in source.read_text().splitlines():
        utt, _, rest = line.partition(" ")
        groups.setdefault(utt, []).append(rest)
    names = list(groups)
    with target.open("w") as stream:
        for place in range(number):
            copy, which = divmod(place, len(names))
            for rest in groups[names[which]]:
                stream.write(f"{copy:05}_{names[which]} {rest}\n")


def make_sets(experiment: Path, data: Path, root: Path, number: int) -> dict[str, tuple[Path, Path]]:
    """Experiments with data of `number` utterances, by their content: only transcripts, or times of both sides."""
    sets, decoded = {}, experiment / f"decode_{data.name}"
    for name, files in (("transcripts", ()), ("times", (TIMES,))):
        exp, many = root / name / "exp", root / name / data.name
        out = exp / decoded.name
        for directory in (out, many):
            directory.mkdir(parents=True)
        for file in OTHERS:
            shutil.copy(experiment / file, exp)
        for file in ("text", "utt2spk", "wav.scp", *files):
            repeat(data / file, many / file, number)
        for file in ("hyp", *files):
            repeat(decoded / file, out / file, number)
        sets[name] = exp, many
    return sets


def measure(arguments: Sequence[str]) -> tuple[float, float]:
    """CPU seconds and peak memory in MiB of an asrkit command."""
    process = subprocess.Popen([sys.executable, "-m", "asrkit", *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"asrkit {' '.join(arguments)} failed")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def commands(sets: dict[str, tuple[Path, Path]]) -> Iterator[tuple[str, list[str]]]:
    """Name and arguments of the measured commands; scoring comes first."""
    exp, data = sets["transcripts"]
    hyp = exp / f"decode_{data.name}" / "hyp"
    yield "score --utt2spk", ["score", "--utt2spk", f"{data / 'utt2spk'}", f"{data / 'text'}", f"{hyp}"]
    for (exp, data), audio, name in (
        (sets["times"], "none", "report, times of both sides"),
        (sets["transcripts"], "none", "report, hypotheses alone"),
        (sets["transcripts"], "200", "report, hypotheses alone, 200 to be heard"),
    ):
        yield name, ["report", "--model", f"{exp}", "--data", f"{data}", "--audio", audio, "--force"]


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--utts", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        runs = dict(commands(make_sets(args.exp, args.data, Path(root), args.utts)))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
        for _ in range(args.rounds):
            for name, arguments in runs.items():
                found[name].append(measure(arguments))
    first = next(iter(found.values()))
    print(f"{args.utts} utterances, medians of {args.rounds} rounds")
    for name, rows in found.items():
        seconds, memory = (statistics.median(column) for column in zip(*rows, strict=True))
        ratio = statistics.median(row[0] / base[0] for row, base in zip(rows, first, strict=True))
        print(f"{name}: {seconds:.1f} CPU-seconds, {ratio:.2f} times scoring, {memory:.0f} MiB")


if __name__ == "__main__":
    main()
