"""A table of networks on the same data: what each network is, the cost of its training, its PER, and all differences.

Experiments that differ only in training.seed are runs of one system. The figures of a system are means over its runs.
Intervals are over speakers; the errors of each speaker are averaged over the runs first. So an interval says how the
system would do on other speakers. It does not say what another seed would change. The PER of each run shows that.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np

from asrkit.config.yaml_config import to_dict
from asrkit.errors import DataError
from asrkit.experiment import Experiment, load_experiment
from asrkit.findings import Findings
from asrkit.io.files import read_bytes
from asrkit.io.json_text import read_json
from asrkit.io.numbers import parse_number
from asrkit.io.stamp import expect_right, fingerprint
from asrkit.models.config import ModelConfig
from asrkit.scoring.significance import Comparison, Interval, compare_errors, rate_interval

SETS = ("dev", "test")
NONE = "-"
# Settings in which the two systems of a pair can differ, and their values in words.
ASPECTS = {
    "model.bidirectional": lambda model: "bidirectional" if model.bidirectional else "unidirectional",
    "model.num_layers": lambda model: f"{model.num_layers} layer{'s' if model.num_layers > 1 else ''}",
    "model.cell": lambda model: model.kind_of_layers,
}


@dataclass(frozen=True)
class Scored:
    """The errors of one run on one set."""

    what: str  # references and protocol; the same for all runs of a table
    refs: dict[str, int]  # speaker -> reference tokens
    errors: dict[str, int]  # speaker -> errors

    @property
    def per(self) -> float:
        """PER in percent."""
        return 100.0 * sum(self.errors.values()) / sum(self.refs.values())


@dataclass(frozen=True)
class Run:
    """One trained experiment and its scores."""

    name: str
    seed: int
    model: ModelConfig
    settings: dict[str, Any]  # dotted name -> value, for all settings of the system; "data" is a digest of its data
    num_parameters: int
    cpu_seconds: float  # of training
    scored: dict[str, Scored]  # of dev and test


@dataclass(frozen=True)
class System:
    """Runs that differ only in their seed; at least one. PERs are in percent."""

    runs: tuple[Run, ...]

    @property
    def name(self) -> str:
        """The name of the first run. If there are several runs, the name ends before the seed."""
        run = self.runs[0]
        return run.name if len(self.runs) == 1 else run.name.removesuffix(str(run.seed)).rstrip("._-") or run.name

    @property
    def model(self) -> ModelConfig:
        """The settings of the network, which all runs share."""
        return self.runs[0].model

    @property
    def settings(self) -> dict[str, Any]:
        """All settings that define the system, by dotted name."""
        return self.runs[0].settings

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the training in seconds, as the mean over the runs."""
        return float(np.mean([run.cpu_seconds for run in self.runs]))

    def pers(self, name: str) -> list[float]:
        """The PER of each run on the set `name`."""
        return [run.scored[name].per for run in self.runs]

    @cached_property
    def speakers(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Set -> (errors averaged over runs, reference tokens), both (num_speakers,), with speakers in alphabetical
        order.
        """
        by_set = {}
        for name in SETS:
            refs = self.runs[0].scored[name].refs
            errors = [[run.scored[name].errors[speaker] for speaker in sorted(refs)] for run in self.runs]
            by_set[name] = np.mean(errors, axis=0), np.array([refs[speaker] for speaker in sorted(refs)], float)
        return by_set

    def interval(self, name: str) -> Interval:
        """The 95 % interval over speakers of the mean PER on the set `name`."""
        return rate_interval(*self.speakers[name])

    def minus(self, other: System, name: str) -> Comparison:
        """The mean PER on the set `name` minus that of `other`, with the paired 95 % interval over speakers."""
        errors, refs = self.speakers[name]
        return compare_errors(errors, other.speakers[name][0], refs)


def read_systems(directories: Sequence[Path]) -> list[System]:
    """Read the systems of the experiments in `directories`, from their decode_dev and decode_test, in the same order.

    Raises:
        ModelError: a directory is not a trained experiment.
        DataError: a report is missing or damaged; the reports do not score the same references in the same way; or an
            experiment is given twice. One line for each.
    """
    findings = Findings()
    runs = [run for directory in directories if (run := _read_run(directory, findings)) is not None]
    findings.raise_errors()
    if any(not _alike(run, runs[0]) for run in runs):
        for run in runs:
            findings.error(f"{run.name}: counted over {_over(run)}; expected the same of all rows")
    systems: dict[str, dict[int, Run]] = defaultdict(dict)
    for run in runs:
        of_system = systems[fingerprint(run.settings)]
        if run.seed in of_system:
            twin = of_system[run.seed].name
            findings.error(f"{run.name}: its settings, data and seed are those of {twin}; leave one out")
        of_system[run.seed] = run
    findings.raise_errors()
    return [System(tuple(of_system.values())) for of_system in systems.values()]


def _read_run(directory: Path, findings: Findings) -> Run | None:
    experiment = load_experiment(directory)
    scored = {}
    for name in SETS:
        result = _read_report(directory / f"decode_{name}" / "report.json", findings)
        if result is not None:
            scored[name] = result
    cpu_seconds = _last_cpu_seconds(directory / "history.csv", findings)
    if len(scored) < len(SETS):
        return None
    return Run(
        name=directory.resolve().name,
        seed=experiment.config.training.seed,
        model=experiment.config.model,
        settings=_settings(experiment),
        num_parameters=sum(parameter.numel() for parameter in experiment.model.parameters()),
        cpu_seconds=cpu_seconds,
        scored=scored,
    )


def _settings(experiment: Experiment) -> dict[str, Any]:
    """All settings that the trained weights depend on, except the seed. Threads and device do not matter."""
    config = to_dict(experiment.config)
    del config["decoding"]  # tuning sets it anew for each seed
    for name in ("seed", "num_threads", "utts_at_once", "device", "checkpoint_minutes"):
        del config["training"][name]
    settings = {f"{section}.{name}": value for section, values in config.items() for name, value in values.items()}
    data = hashlib.sha256(experiment.global_cmvn.tobytes()).hexdigest()
    return {**settings, "data": [data, *experiment.tokens.phones]}


def _read_report(path: Path, findings: Findings) -> Scored | None:
    try:
        report = read_json(path)
        refs = {row["spk"]: _count(row["num_ref"]) for row in report["speakers"]}
        errors = {row["spk"]: _count(row["num_errors"]) for row in report["speakers"]}
        what = f"{report['ref']}, {sum(refs.values())} reference tokens, protocol {report['protocol']}"
    except FileNotFoundError:
        findings.error("not found; made by stage 5 (asrkit report)", path)
        return None
    except (OSError, ValueError, LookupError, TypeError):
        findings.error("no report of asrkit; make it again (asrkit report --force)", path)
        return None
    try:
        expect_right(path.with_name(".report.stamp"), "stage 5 (asrkit report)", [path.name])
    except DataError as error:
        findings.error(str(error))
        return None
    if not sum(refs.values()):
        findings.error("no reference tokens, so no rate; score data with phones in its text (asrkit report)", path)
        return None
    return Scored(what, refs, errors)


def _last_cpu_seconds(path: Path, findings: Findings) -> float:
    try:
        rows = list(csv.DictReader(read_bytes(path).decode().splitlines()))
        seconds = parse_number(rows[-1]["cpu_seconds"] or "", low=0.0)
    except (OSError, LookupError, ValueError, csv.Error):
        seconds = None
    if seconds is None:
        findings.error("no history of training with cpu_seconds in it; made by stage 3 (asrkit train)", path)
        return 0.0
    return seconds


def _count(value: object) -> int:
    """A number in a report. Raises TypeError for anything else."""
    if isinstance(value, int) and value >= 0:
        return value
    raise TypeError


def _alike(a: Run, b: Run) -> bool:
    both = [(a.scored[name], b.scored[name]) for name in SETS]
    return all((one.what, one.refs) == (other.what, other.refs) for one, other in both)


def _over(run: Run) -> str:
    return "; ".join(f"{run.scored[name].what}, {len(run.scored[name].refs)} speakers" for name in SETS)


def find_pairs(systems: Sequence[System]) -> list[tuple[str, System, System]]:
    """Pairs of systems that differ only in one setting: first direction, then number of layers, then cell.

    Only neighbouring numbers of layers are paired: with 1, 2 and 3 layers in the table, 2 with 1 and 3 with 2.

    Returns:
        (description, a, b). The description is, for example, `2 layers - 1 layer (lstm, bidirectional, 128 blocks)`.
        The first system is the bidirectional one, the one with more layers, or the cell that comes first in the table.
    """
    pairs = []
    for setting, describe in ASPECTS.items():
        for pair in combinations(systems, 2):
            if _differing(*pair) != {setting}:
                continue
            a, b = pair
            if setting != "model.cell":
                a, b = sorted(pair, key=lambda system: system.settings[setting], reverse=True)
            if setting == "model.num_layers" and any(
                b.model.num_layers < other.model.num_layers < a.model.num_layers and _differing(a, other) == {setting}
                for other in systems
            ):
                continue
            alike = [describe_other(a.model) for other, describe_other in ASPECTS.items() if other != setting]
            what = f"{describe(a.model)} - {describe(b.model)} ({', '.join(alike)}, {a.model.hidden_size} blocks)"
            pairs.append((what, a, b))
    return pairs


def _differing(a: System, b: System) -> set[str]:
    return {name for name, value in a.settings.items() if value != b.settings[name]}


def render_table(systems: Sequence[System]) -> str:
    """The table as text. Lines above it say what was scored, and how.

    Raises:
        DataError: there are no systems.
    """
    if not systems:
        raise DataError("no experiments for a table")
    header = ["experiment", "seeds", "cell", "direction", "layers", "blocks", "parameters", "CPU-seconds"]
    for name in SETS:
        header += [f"{name} PER", "95 %", "by seed"]
    rows = [header]
    for system in systems:
        model = system.model
        rows.append([system.name, str(len(system.runs)), model.kind_of_layers, ASPECTS["model.bidirectional"](model)])
        rows[-1] += [str(model.num_layers), str(model.hidden_size), f"{system.runs[0].num_parameters:,}"]
        rows[-1].append(f"{system.cpu_seconds:.0f}")
        for name in SETS:
            pers = system.pers(name)
            by_seed = f"{min(pers):.2f} to {max(pers):.2f}" if len(pers) > 1 else NONE
            rows[-1] += [f"{np.mean(pers):.2f}", _bracket(system.interval(name)), by_seed]
    scored = systems[0].runs[0].scored
    lines = [
        *(f"{name}: {scored[name].what}, {len(scored[name].refs)} speakers" for name in SETS),
        "PER in per cent and CPU-seconds of training: means over seeds; by seed: lowest and highest",
        "95 %: interval over speakers of that mean (bootstrap-t), none with too few speakers",
        "epochs and tuned settings were chosen on dev, so its PERs are optimistic",
    ]
    return "\n".join([*lines, *_aligned(rows, left=("experiment", "cell", "direction"))])


def render_differences(systems: Sequence[System]) -> str:
    """The differences in PER of all pairs of `find_pairs`, as text. Empty if there are no pairs."""
    header = ["difference in PER"]
    for name in SETS:
        header += [name, "95 %", "not 0", "lower"]
    rows = [header]
    for what, a, b in find_pairs(systems):
        rows.append([what])
        for name in SETS:
            comparison = a.minus(b, name)
            low, high = comparison.interval.low, comparison.interval.high
            not_zero = NONE if low is None or high is None else "yes" if low > 0 or high < 0 else "no"
            pairs = list(product(a.pers(name), b.pers(name)))
            lower = f"{sum(per_a < per_b for per_a, per_b in pairs)} of {len(pairs)}"
            rows[-1] += [f"{comparison.difference:+.2f}", _bracket(comparison.interval), not_zero, lower]
    if len(rows) == 1:
        return ""
    lines = [
        "95 %: paired interval over speakers (bootstrap-t); not 0: whether the difference can be told from 0 by it",
        "lower: of all pairs of a run of the first and a run of the second, those where the first has the lower PER",
    ]
    return "\n".join([*lines, *_aligned(rows, left=("difference in PER",))])


def _bracket(interval: Interval) -> str:
    return NONE if interval.low is None else f"[{interval.low:.2f}, {interval.high:.2f}]"


def _aligned(rows: Sequence[Sequence[str]], left: Sequence[str]) -> list[str]:
    """Align the columns. Columns with a header in `left` are left-aligned. A column without any value is left out."""
    columns = [cells for cells in zip(*rows, strict=True) if set(cells[1:]) != {NONE}]
    padded = []
    for cells in columns:
        width = max(map(len, cells))
        padded.append([cell.ljust(width) if cells[0] in left else cell.rjust(width) for cell in cells])
    return ["  ".join(line).rstrip() for line in zip(*padded, strict=True)]
