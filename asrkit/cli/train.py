"""`asrkit train`: from data directories with features to a trained experiment."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asrkit.cli.options import add_config, add_force
from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import dump_config, load_config, to_dict
from asrkit.errors import DataError, location, raise_if_any
from asrkit.features.pipeline import feats_identity
from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import file_digest, fingerprint, is_current, write_stamp
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import parse_arpa, read_arpa_text
from asrkit.stages.exporting import export_trained


def configure(parser: argparse.ArgumentParser) -> None:
    add_config(parser)
    parser.add_argument("--train", type=Path, required=True, metavar="DIR", help="data directory to train on")
    parser.add_argument("--dev", type=Path, required=True, metavar="DIR", help="data directory to choose weights on")
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE", help="token table")
    parser.add_argument("--lm", type=Path, metavar="FILE", help="phone language model (ARPA) for decoding")
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory to write")
    parser.add_argument("--resume", action="store_true", help="go on from EXP's checkpoint, if there is one")
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    config = load_config(args.config, ExperimentConfig, args.overrides)
    _expect_inputs(args, config)
    tokens = TokenTable.read(args.tokens)
    lm_text = None
    if args.lm:
        lm_text = read_arpa_text(args.lm)
        parse_arpa(lm_text, tokens.phones, str(args.lm))  # better refused now than after hours of training
    identity, decoding_identity = _identity(args, config), {"decoding": to_dict(config.decoding), "lm": lm_text}
    decoding_stamp = args.dir / ".decoding.stamp"
    stamp, checkpoint, final = (args.dir / name for name in (".train.stamp", "checkpoint.pt", "final.pt"))
    if args.force:
        checkpoint.unlink(missing_ok=True)
    if not args.force and is_current(stamp, identity, [final]):
        if not is_current(decoding_stamp, decoding_identity):
            from asrkit.experiment import update_decoding
            from asrkit.inference.export import export_experiment

            update_decoding(args.dir, config.decoding, lm_text)
            export_experiment(args.dir)
            dump_config(config, args.dir / "config.yaml")
            write_stamp(decoding_stamp, decoding_identity)
        print(f"{args.dir}: training is up to date", file=sys.stderr)
        return 0
    if checkpoint.exists() and not args.resume:
        raise DataError(
            f"{location(checkpoint)}left by an earlier run; give --resume to go on or --force to start anew"
        )

    # PyTorch takes seconds to load, and these modules need it.
    from asrkit.experiment import make_model, save_experiment
    from asrkit.features.pipeline import pooled_stats
    from asrkit.training.dataset import TrainingSet, split_infeasible
    from asrkit.training.loop import train

    global_cmvn = pooled_stats(args.train)

    model = make_model(config, tokens)
    by_frames = config.model.heads.has_frames
    train_set = TrainingSet.open(
        args.train, config.features, global_cmvn, tokens, config.training.augment, with_frame_labels=by_frames
    )
    dev_set = TrainingSet.open(args.dev, config.features, global_cmvn, tokens, with_frame_labels=by_frames)
    excluded = {}
    if config.model.heads.has_ctc:
        train_set, excluded = split_infeasible(train_set, model)
    args.dir.mkdir(parents=True, exist_ok=True)
    if not checkpoint.exists():  # else train() refuses another run's before anything of it is touched
        for path in (stamp, final):
            path.unlink(missing_ok=True)
    _report_excluded(excluded, args.dir / "excluded.txt", args.train)
    if not len(train_set):
        raise DataError(f"{location(args.train)}no utterance is left to train on; see {args.dir / 'excluded.txt'}")
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{num_parameters} parameters, {len(train_set)} training utterances", file=sys.stderr)
    result = train(model, config.training, train_set, dev_set, tokens, args.dir, fingerprint(identity))
    dump_config(config, args.dir / "config.yaml")
    tokens.write(args.dir / "tokens.txt")
    save_experiment(args.dir, config, tokens, model, global_cmvn, lm_text)
    exported = export_trained(args.dir, args.dev)
    print(f"{exported.path}: {exported.comparison.line()}", file=sys.stderr)
    write_stamp(decoding_stamp, decoding_identity)
    write_stamp(stamp, identity)
    cpu_seconds = result.history[-1].cpu_seconds
    print(f"{args.dir}: dev PER {result.dev_per:.2f} % (greedy), {cpu_seconds:.0f} CPU seconds", file=sys.stderr)
    return 0


def _expect_inputs(args: argparse.Namespace, config: ExperimentConfig) -> None:
    made_by = {args.tokens: "stage 0 (asrkit prepare)"}
    for data_dir in (args.train, args.dev):
        made_by |= {data_dir / "text": "stage 0 (asrkit prepare)"}
        made_by |= {data_dir / name: "stage 1 (asrkit extract)" for name in ("feats.scp", "cmvn.scp")}
    if args.lm:
        made_by[args.lm] = "stage 2 (asrkit train-lm)"
    faults = [f"{location(path)}not found; made by {step}" for path, step in made_by.items() if not path.is_file()]
    if config.model.heads.has_frames:
        faults += [
            f"{location(path)}not found; model.head {config.model.head} learns from phone times; give "
            "data that has them, or "
            "take head ctc"
            for data_dir in (args.train, args.dev)
            if (data_dir / "text").is_file() and not (path := data_dir / "phones.ctm").is_file()
        ]
    raise_if_any(faults)


def _identity(args: argparse.Namespace, config: ExperimentConfig) -> dict[str, Any]:
    """All that the trained weights depend on, but for threads and device, which only warn when they change."""
    names = ["text", "utt2spk", *(["phones.ctm"] if config.model.heads.has_frames else [])]
    files = [args.tokens, *(data_dir / name for data_dir in (args.train, args.dev) for name in names)]
    sections = {name: section for name, section in to_dict(config).items() if name != "decoding"}
    for name in ("num_threads", "device", "checkpoint_minutes"):
        del sections["training"][name]
    feats = [feats_identity(data_dir) for data_dir in (args.train, args.dev)]
    return {
        "config": sections,
        "files": [file_digest(path) if path.exists() else None for path in files],
        "feats": feats,
    }


def _report_excluded(excluded: Mapping[str, tuple[int, int]], path: Path, data_dir: Path) -> None:
    """Name the utterances that CTC cannot align, on stderr and in a file."""
    if not excluded:
        path.unlink(missing_ok=True)
        return
    lines = [f"{utt_id}: {steps} steps, needs {needed}" for utt_id, (steps, needed) in excluded.items()]
    with atomic_write(path) as stream:
        stream.write("".join(line + "\n" for line in lines))
    print(f"{data_dir}: {len(lines)} utterances left out, too short for CTC (also in {path}):", file=sys.stderr)
    for line in lines:
        print(f"  {line}", file=sys.stderr)
