"""Compares systems of the same cost: `python -m tests.bench.systems --data recipes/mini/data --out DIR --cpu 300`.

Each system is trained with each of --seeds, on one thread, for as many epochs as take --cpu seconds. That number is
estimated from two epochs of training and printed as an option, `--epochs SYSTEM=N`, which a later run can be given in
place of the estimate. `--probe` does no more than that. Then search is tuned on dev, and dev and test are decoded with
the settings found. --data are the data directories of a recipe; where a system has other features, they are extracted
in --out. Finished work is not repeated, and a killed run continues. The output is a table in Markdown. Its intervals
are over speakers. Its last columns are the PER on the quarters of the test set with the fewest to the most reference
phones. The real-time factor is the CPU time of decoding test, with reading the model, over the duration of the audio.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import asrkit
from asrkit.config.yaml_config import to_dict
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.stamp import fingerprint
from asrkit.reporting.table import System, read_systems
from asrkit.scoring.per import score
from asrkit.scoring.significance import Interval
from asrkit.stages.inputs import DecodedSet
from asrkit.stages.training import TrainingData
from tests.bench.presets import ROOT, copy_data, read_history, seconds_of

SYSTEMS = {
    "blstm_ctc": "blstm_ctc",
    "one_vector": "attention/fixed",
    "las_blstm": "las_blstm",
    "joint_ctc_attention": "joint_ctc_attention",
    "transformer_ctc": "transformer_ctc",
    "conformer_ctc": "conformer_ctc",
    "rnnt_lstm": "rnnt_lstm",
    "transformer_attention": "transformer_attention",
}


@dataclass(frozen=True)
class Bench:
    """Where data and results are, and what is set for all systems."""

    data: Path
    out: Path
    overrides: Sequence[str] = ()  # of settings, as in asrkit train --set

    def config(self, name: str) -> asrkit.ExperimentConfig:
        return asrkit.load_config(ROOT / "conf" / f"{SYSTEMS[name]}.yaml", self.overrides)

    def training_data(self, config: asrkit.ExperimentConfig) -> TrainingData:
        """The data directories with a system's features."""
        own = self.out / f"data.{fingerprint(to_dict(config.features))[:8]}"
        if not own.exists():
            copy_data(self.data, partial := own.with_suffix(f"{own.suffix}.new"))
            partial.rename(own)
        asrkit.extract([own / name for name in ("train", "dev", "test")], config.features)
        return replace(TrainingData.under(own), lm=TrainingData.under(self.data).lm)

    def fit_epochs(self, name: str, cpu: float) -> int:
        """How many epochs of a system take about `cpu` seconds: at least one."""
        config, probe = self.config(name), self.out / "probes" / name
        training = replace(config.training, num_epochs=2)
        asrkit.train(self.training_data(config), probe, replace(config, training=training), resume=True)
        first, second = (float(epoch["cpu_seconds"]) for epoch in read_history(probe))
        return max(1, 1 + round((cpu - first) / (second - first)))  # the first epoch has the costs of starting in it

    def run(self, name: str, num_epochs: int, seed: int) -> Path:
        """Train, tune, decode and score one system with one seed. Returns its directory."""
        config, exp = self.config(name), self.out / f"{name}.{seed}"
        data = self.training_data(config)
        training = replace(config.training, num_epochs=num_epochs, seed=seed)
        asrkit.train(data, exp, replace(config, training=training), resume=True)
        dev, test = DecodedSet(data.dev, exp / "decode_dev"), DecodedSet(data.dev.parent / "test", exp / "decode_test")
        if not (done := exp / "real_time_factor.json").exists():
            asrkit.decode(exp, dev.data_dir, dev.decode_dir)
            asrkit.tune(exp, dev)
            began = time.process_time()
            asrkit.decode(exp, test.data_dir, test.decode_dir, force=True)
            done.write_text(json.dumps((time.process_time() - began) / seconds_of(test.data_dir)))
        for each in (dev, test):
            asrkit.decode(exp, each.data_dir, each.decode_dir)
            asrkit.report(each.data_dir, each.decode_dir / "hyp", each.decode_dir)
        return exp


def quarters(refs: Mapping[str, Sequence[str]]) -> list[list[str]]:
    """The utterances by number of reference phones, in four parts of equal size, the shortest first."""
    order = sorted(refs, key=lambda utt: (len(refs[utt]), utt))
    return [[order[i] for i in part] for part in np.array_split(np.arange(len(order)), 4)]


def quarter_rates(exps: Sequence[Path], refs: Mapping[str, Sequence[str]]) -> list[float]:
    """The PER on each quarter of the test set, the mean over experiments."""
    found = [score(refs, read_transcripts(exp / "decode_test/hyp")).per_utt for exp in exps]
    rates = []
    for utts in quarters(refs):
        num_ref = sum(len(refs[utt]) for utt in utts)
        rates.append(100 * float(np.mean([sum(each[utt].num_errors for utt in utts) for each in found])) / num_ref)
    return rates


def bracket(interval: Interval) -> str:
    return "" if interval.low is None else f" [{interval.low:.1f}, {interval.high:.1f}]"


def line(name: str, system: System, exps: Sequence[Path], refs: Mapping[str, Sequence[str]]) -> str:
    """The table's line for one system."""
    factor = np.mean([json.loads((exp / "real_time_factor.json").read_text()) for exp in exps])
    cells = [name, f"{len(read_history(exps[0]))}", f"{system.runs[0].num_parameters:,}", f"{system.cpu_seconds:.0f}"]
    cells.append(f"{factor:.4f}")
    cells += [f"{np.mean(system.pers(each)):.2f}{bracket(system.interval(each))}" for each in ("dev", "test")]
    return f"| {' | '.join([*cells, *(f'{rate:.1f}' for rate in quarter_rates(exps, refs))])} |"


def header(refs: Mapping[str, Sequence[str]]) -> str:
    """The table's head, with the number of reference phones of each quarter."""
    lens = [[len(refs[utt]) for utt in utts] for utts in quarters(refs)]
    names = ["system", "epochs", "parameters", "CPU-seconds", "real-time factor", "dev PER", "test PER"]
    names += [f"{each[0]} to {each[-1]} phones" for each in lens]
    return f"| {' | '.join(names)} |\n|{'---|' * len(names)}"


def parse_epochs(text: str) -> tuple[str, int]:
    """SYSTEM=N as a pair. Raises ArgumentTypeError for anything else."""
    name, _, number = text.partition("=")
    if name not in SYSTEMS or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}; expected SYSTEM=N with a system of {', '.join(SYSTEMS)}")
    return name, int(number)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"{', '.join(SYSTEMS)} (default: all)")
    parser.add_argument("--data", type=Path, required=True, help="data directories train, dev and test, and lm.arpa")
    parser.add_argument("--out", type=Path, required=True, help="directory to write")
    parser.add_argument("--cpu", type=float, default=300, help="CPU-seconds of a training, about (default: 300)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="(default: 1)")
    parser.add_argument("--epochs", type=parse_epochs, action="append", default=[], metavar="SYSTEM=N")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.SETTING=VALUE", help="for all systems")
    parser.add_argument("--probe", action="store_true", help="only estimate the numbers of epochs")
    args = parser.parse_args()
    if unknown := sorted(set(args.systems) - SYSTEMS.keys()):
        parser.error(f"no such system: {unknown[0]}; expected some of {', '.join(SYSTEMS)}")
    bench, epochs = Bench(args.data, args.out, args.set), dict(args.epochs)
    names = args.systems or list(SYSTEMS)
    for name in names:
        if name not in epochs:
            epochs[name] = bench.fit_epochs(name, args.cpu)
            print(f"--epochs {name}={epochs[name]}", file=sys.stderr, flush=True)
    if args.probe:
        return
    refs = read_transcripts(args.data / "test/text")
    print(header(refs))
    for name in names:
        exps = [bench.run(name, epochs[name], seed) for seed in args.seeds]
        (system,) = read_systems(exps)
        print(line(name, system, exps, refs), flush=True)


if __name__ == "__main__":
    main()
