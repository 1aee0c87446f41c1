"""`asrkit decode`: a data directory's features through a trained experiment to hypotheses and log-probabilities."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrkit.cli.options import add_force, add_nj, finite_float, positive_int
from asrkit.config.yaml_config import dump_config
from asrkit.decoding.methods import SEARCHES, make_search
from asrkit.decoding.search import BeamResult, Search
from asrkit.errors import ConfigError, DataError, location, raise_if_any
from asrkit.features.cmvn import NORMALIZATIONS
from asrkit.features.pipeline import FeatureLoader, feats_identity
from asrkit.formats.ctm import write_ctm
from asrkit.inference.frame_clock import frame_clock
from asrkit.inference.hypothesis import add_times, make_hypothesis
from asrkit.inference.model import Outputs
from asrkit.inference.phone_timer import PhoneTimer, Stretch
from asrkit.io.ark import ArkReader, ArkWriter
from asrkit.io.atomic import atomic_write
from asrkit.io.scp import write_table
from asrkit.io.stamp import file_digest, is_current, write_stamp
from asrkit.parallel import map_ordered
from asrkit.types import Hypothesis

if TYPE_CHECKING:
    from asrkit.experiment import Experiment
    from asrkit.inference.torch_model import TorchModel


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="EXP", help="experiment directory")
    parser.add_argument("--data", type=Path, required=True, metavar="DATA", help="data directory with features")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="directory to write: hyp, decoding.yaml")
    parser.add_argument(
        "--log-probs",
        type=Path,
        metavar="DIR",
        help="directory of log_probs.ark and .scp, which are written unless they are up to date (default: --out)",
    )
    parser.add_argument("--method", choices=list(SEARCHES), help="search (default: the experiment's)")
    parser.add_argument("--beam", type=positive_int, metavar="N", help="beam in place of the experiment's")
    parser.add_argument("--lm-weight", type=finite_float, metavar="X", help="weight of the language model, likewise")
    parser.add_argument("--insertion-bonus", type=finite_float, metavar="X", help="nats for every phone, likewise")
    parser.add_argument(
        "--blank-penalty", type=finite_float, metavar="X", help="nats taken off the blank in greedy search, likewise"
    )
    parser.add_argument(
        "--nbest", type=positive_int, metavar="N", help="also write the N best with their scores to DIR/nbest.jsonl"
    )
    parser.add_argument("--ctm", action="store_true", help="also write times and confidences to DIR/phones.ctm")
    parser.add_argument(
        "--cmvn",
        choices=tuple(NORMALIZATIONS),
        help="normalisation in place of the experiment's; `utterance` is what transcribe does",
    )
    parser.add_argument("--batch-size", type=positive_int, default=32, metavar="N", help="changes speed alone")
    add_nj(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    needed = {args.dir / "final.pt": "stage 3 (asrkit train)", args.data / "feats.scp": "stage 1 (asrkit extract)"}
    raise_if_any([f"{location(path)}not found; made by {step}" for path, step in needed.items() if not path.is_file()])
    log_prob_dir = args.log_probs or args.out
    inputs = _inputs(args)
    stamp, hyp, nbest, ctm = (args.out / name for name in (".decode.stamp", "hyp", "nbest.jsonl", "phones.ctm"))
    outputs = [hyp, args.out / "decoding.yaml", log_prob_dir / "log_probs.scp"]
    outputs += [*([nbest] if args.nbest else []), *([ctm] if args.ctm else [])]
    if not args.force and is_current(stamp, inputs, outputs):
        print(f"{args.out}: decoding is up to date", file=sys.stderr)
        return 0

    # PyTorch takes seconds to load, and these modules need it.
    from asrkit.experiment import load_experiment
    from asrkit.inference.torch_model import TorchModel

    experiment = load_experiment(args.dir)
    features, model = experiment.config.features, experiment.config.model
    if args.cmvn:
        features = replace(features, cmvn=args.cmvn)
    names = ("method", "beam", "lm_weight", "insertion_bonus", "blank_penalty")
    given = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    config = replace(experiment.config.decoding, **given)
    search = make_search(config, experiment.lm_automaton)
    if (args.nbest or 1) > search.max_results:
        raise ConfigError(f"--nbest {args.nbest}: {config.method} search keeps fewer; give --method beam --beam N")
    if unused := given.keys() - search.settings - {"method"}:
        options = " ".join(f"--{name.replace('_', '-')}" for name in names if name in unused)
        other = next(name for name, method in SEARCHES.items() if unused & method.settings)
        raise ConfigError(
            f"{options}: {config.method} search has no such setting; leave it out or give --method {other}"
        )
    if args.lm_weight and experiment.lm is None:
        raise ConfigError(f"--lm-weight {args.lm_weight:g}: {args.dir} has no language model; give it one (train --lm)")
    for old in (stamp, hyp, nbest, ctm):  # a killed run shall leave nothing to score
        old.unlink(missing_ok=True)
    feats = FeatureLoader(args.data, features, experiment.global_cmvn)
    log_prob_inputs = log_prob_identity(experiment, args.data, args.cmvn)
    log_prob_stamp = log_prob_dir / ".log_probs.stamp"
    if args.force or not is_current(log_prob_stamp, log_prob_inputs, [log_prob_dir / "log_probs.scp"]):
        log_prob_stamp.unlink(missing_ok=True)
        _write_log_probs(TorchModel(experiment), feats, log_prob_dir, args.batch_size, args.nj)
        write_stamp(log_prob_stamp, log_prob_inputs)

    stored = ArkReader(log_prob_dir / "log_probs.scp")
    search_stored = _SearchStored(search, stored, args.nbest or 1)
    found = dict(zip(stored, map_ordered(search_stored, list(stored), args.nj, description="decoding"), strict=True))
    decode = experiment.tokens.decode
    if args.nbest:
        with atomic_write(nbest) as stream:
            for utt_id, results in found.items():
                stream.writelines(_nbest_lines(utt_id, results, decode))
    if args.ctm:
        timer = PhoneTimer(experiment.tokens, frame_clock(features, model), search.scorer, experiment.calibration)
        times = _TimeFound(timer, stored, feats, {utt_id: results[0] for utt_id, results in found.items()})
        write_ctm(ctm, map_ordered(times, list(stored), args.nj, description="times"))
    dump_config(config, args.out / "decoding.yaml")
    write_table(hyp, {utt_id: " ".join(decode(results[0].tokens)) for utt_id, results in found.items()})
    write_stamp(stamp, inputs)
    return 0


def log_prob_identity(experiment: Experiment, data_dir: Path, cmvn: str | None = None) -> dict[str, Any]:
    """All that the log-probabilities of a data directory depend on. `cmvn` takes the place of the experiment's."""
    # Imported here because PyTorch takes seconds to load.
    from asrkit.experiment import acoustic_digest

    utt2spk = data_dir / "utt2spk"
    return {
        "model": acoustic_digest(experiment),
        "feats": feats_identity(data_dir),
        "utt2spk": file_digest(utt2spk) if utt2spk.exists() else None,
        "cmvn": cmvn or experiment.config.features.cmvn,
    }


def read_log_probs(
    experiment: Experiment, data_dir: Path, directory: Path, refs: Iterable[str]
) -> dict[str, np.ndarray]:
    """The stored log-probabilities (T, V) of the utterances `refs`, as `asrkit decode` left them in `directory`.

    Raises DataError when they are missing, or were made from other features or weights.
    """
    scp = directory / "log_probs.scp"
    stamp = directory / ".log_probs.stamp"
    if not any(is_current(stamp, log_prob_identity(experiment, data_dir, cmvn), [scp]) for cmvn in NORMALIZATIONS):
        fault = "not of this experiment and data as they are now" if scp.exists() else "not found"
        raise DataError(f"{location(scp)}{fault}; made by stage 4 (asrkit decode --data {data_dir} --out {directory})")
    stored = ArkReader(scp)
    raise_if_any(
        [f"{location(scp)}no utterance {utt_id}, which {data_dir}/text has" for utt_id in refs if utt_id not in stored]
    )
    return {utt_id: stored[utt_id] for utt_id in refs}


def _write_log_probs(model: TorchModel, feats: FeatureLoader, out: Path, batch_size: int, num_threads: int) -> None:
    import torch

    from asrkit.models.batching import bucket

    torch.set_num_threads(num_threads)
    batches = bucket({utt_id: feats.num_frames(utt_id) for utt_id in feats}, batch_size)
    with ArkWriter(out / "log_probs.ark", out / "log_probs.scp") as writer:
        for utt_ids in batches:
            for utt_id, log_probs in zip(utt_ids, model.batch([feats[u] for u in utt_ids]), strict=True):
                writer.write(utt_id, log_probs)


@dataclass(frozen=True)
class _SearchStored:
    """A search with the archive it reads from, for worker processes."""

    search: Search
    stored: ArkReader
    num_best: int

    def __call__(self, utt_id: str) -> list[BeamResult]:
        return self.search.decode(self.stored[utt_id], self.num_best)


@dataclass(frozen=True)
class _TimeFound:
    """The same, with features and what was found, for times and confidences."""

    timer: PhoneTimer
    stored: ArkReader
    feats: Mapping[str, np.ndarray]
    found: Mapping[str, BeamResult]

    def __call__(self, utt_id: str) -> Hypothesis:
        best, feats = self.found[utt_id], self.feats[utt_id]
        outputs = Outputs(self.stored[utt_id], None)
        timed = self.timer.time(outputs, feats, best.tokens, Stretch(utt_id, len(feats)))
        hypothesis = make_hypothesis(utt_id, self.timer.tokens, [best])
        return add_times(hypothesis, timed.times, self.timer.confidences(timed.evidence))


def _nbest_lines(utt_id: str, results: list[BeamResult], decode: Callable[..., tuple[str, ...]]) -> Iterator[str]:
    for rank, result in enumerate(results, 1):
        row = {
            "utt": utt_id,
            "rank": rank,
            "phones": decode(result.tokens),
            "score": round(result.score, 6),
            "ctc_log_prob": round(result.ctc_log_prob, 6),
            "lm_log_prob": round(result.lm_log_prob, 6),
        }
        yield json.dumps(row, ensure_ascii=False) + "\n"


def _inputs(args: argparse.Namespace) -> dict[str, Any]:
    """All that the hypotheses depend on."""
    files = [args.dir / "final.pt", args.data / "utt2spk"]
    digests = [file_digest(path) if path.exists() else None for path in files]
    names = ("method", "beam", "lm_weight", "insertion_bonus", "blank_penalty", "nbest", "ctm", "cmvn", "log_probs")
    return {"files": digests, "feats": feats_identity(args.data), **{name: getattr(args, name) for name in names}}
