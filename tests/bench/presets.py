"""Trains every preset of conf/ on the mini corpus: `nice python -m tests.bench.presets`, after recipes/mini/run.sh.

The presets are trained one after another on the data directories of recipes/mini/data. For a preset with other frames,
features are extracted again in --out. Then dev and test are decoded greedily. A preset that would need more than --cpu
seconds gets only the number of epochs that fit, estimated from one epoch on the dev set. Its schedule then covers
exactly these epochs. Finished work is not repeated, and a killed run continues. The output is the table of
docs/models.md.
"""

from __future__ import annotations

import argparse
import csv
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import asrkit

ROOT = Path(__file__).parents[2]
SETS = ("train", "dev", "test")


def copy_data(source: Path, out: Path) -> None:
    """Copy data directories without their features, which are extracted again if frames differ."""
    for name in SETS:
        ignore = shutil.ignore_patterns("feats.*", "cmvn.*", "speech.*", "utt2num_frames", "utt2crc", ".*")
        shutil.copytree(source / name, out / name, ignore=ignore)
    shutil.copy(source / "tokens.txt", out)


def read_history(directory: Path) -> list[dict[str, str]]:
    """The rows of a training's history.csv."""
    with (directory / "history.csv").open(encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def seconds_of(data_dir: Path) -> float:
    """The duration of a data directory's audio, in seconds."""
    return sum(float(line.split()[1]) for line in (data_dir / "utt2dur").read_text(encoding="utf-8").splitlines())


def fit_epochs(config: asrkit.ExperimentConfig, data: asrkit.TrainingData, probe: Path, cpu: float) -> int:
    """The number of the preset's epochs, or of epochs per phase, that fit into `cpu` seconds; at least one."""
    training = replace(config.training, num_epochs=1, pretrain_epochs=0, two_phase=False)
    asrkit.train(replace(data, train=data.dev), probe, replace(config, training=training), resume=True)
    on_dev = float(read_history(probe)[0]["cpu_seconds"])
    each = on_dev * seconds_of(data.train) / seconds_of(data.dev)
    return max(1, min(config.training.num_epochs, int(cpu / each / (1 + config.training.two_phase))))


def train_preset(path: Path, data_dir: Path, out: Path, cpu: float) -> str:
    """Train one preset, decode dev and test. Returns the line of the table."""
    config, directory = asrkit.load_config(path), out / path.stem
    asrkit.extract([data_dir / name for name in SETS], config.features)
    data = asrkit.TrainingData.under(data_dir)
    training = replace(config.training, num_epochs=fit_epochs(config, data, out / "probes" / path.stem, cpu))
    asrkit.train(data, directory, replace(config, training=training), resume=True)
    pers = []
    for name in SETS[1:]:
        hyp = directory / f"greedy_{name}"
        asrkit.decode(directory, data_dir / name, hyp, asrkit.DecodeOptions("greedy"))
        pers.append(asrkit.score(data_dir / name / "text", hyp / "hyp").per)
    rows = read_history(directory)
    epochs = f"{len(rows)} of {config.training.num_epochs * (1 + config.training.two_phase)}"
    return f"| `{path.stem}` | {epochs} | {float(rows[-1]['cpu_seconds']):.0f} | {pers[0]:.2f} | {pers[1]:.2f} |"


def main() -> None:
    """Train the presets with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("presets", nargs="*", metavar="NAME", help="files of conf/ (default: all)")
    parser.add_argument("--data", type=Path, default=ROOT / "recipes/mini/data", help="mini's data directories")
    parser.add_argument("--out", type=Path, default=ROOT / "recipes/mini/exp/presets", help="directory to write")
    parser.add_argument("--cpu", type=float, default=1200, help="CPU-seconds of a training, at most (default: 1200)")
    args = parser.parse_args()
    if not (data_dir := args.out / "data").exists():
        partial = args.out / f"data.{os.getpid()}"
        copy_data(args.data, partial)
        partial.rename(data_dir)
    print("| preset | epochs | CPU-seconds | dev PER | test PER |\n|---|---|---|---|---|", flush=True)
    conf = ROOT / "conf"
    paths = (*conf.glob("*.yaml"), *conf.glob("attention/*.yaml"))
    for name in args.presets or sorted(str(path.relative_to(conf).with_suffix("")) for path in paths):
        print(f"training {name}", file=sys.stderr)
        print(train_preset(conf / f"{name}.yaml", data_dir, args.out, args.cpu), flush=True)


if __name__ == "__main__":
    main()
