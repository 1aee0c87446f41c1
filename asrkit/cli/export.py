"""`asrkit export`: a trained experiment as one ONNX file, compared with PyTorch; on request with 8-bit weights."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from asrkit.errors import ConfigError, ModelError, location
from asrkit.features.pipeline import FeatureLoader
from asrkit.inference.find_model import find_model
from asrkit.io.atomic import atomic_write
from asrkit.parallel import track
from asrkit.scoring.per import PerResult, score
from asrkit.scoring.transcripts import read_references

if TYPE_CHECKING:
    from asrkit.inference.export import Utterance
    from asrkit.inference.onnx_model import OnnxModel

TOLERANCE = 1e-4  # between an export's log-probabilities and PyTorch's
_NUM_COMPARED = 20  # utterances after training


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dir", metavar="EXP", help="experiment directory, or the name of a recipe that has one")
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="file to write (default: EXP/final.onnx, or EXP/final.int8.onnx)"
    )
    parser.add_argument(
        "--ref",
        type=Path,
        metavar="DATA",
        help="data directory with features: the export is compared with PyTorch on all of it, and 8-bit weights are "
        "judged by their phone error rate there",
    )
    parser.add_argument("--int8", action="store_true", help="8-bit weights: a smaller file, faster; needs --ref")


def run(args: argparse.Namespace) -> int:
    if args.int8 and args.ref is None:
        raise ConfigError("--int8 changes what is recognised; give --ref DATA (a dev set) to measure by how much")

    # PyTorch takes seconds to load.
    import torch

    from asrkit.inference.export import export_model, int8_model, load_for_export, made_up_utterances, max_difference
    from asrkit.inference.onnx_model import OnnxModel

    torch.set_num_threads(1)  # one utterance at a time has too little in it for more
    directory = find_model(args.dir)
    if directory.is_file():
        raise ModelError(
            f"{location(directory)}an exported file; expected the experiment directory that it was made from"
        )
    experiment, digest = load_for_export(directory)
    content = export_model(experiment, digest)
    exact = OnnxModel(content)
    utterances, where = made_up_utterances(experiment), "made-up features; give --ref DATA to compare on real audio"
    if args.ref is not None:
        feats = FeatureLoader(args.ref, experiment.config.features, experiment.global_cmvn)
        utterances, where = _stored(feats, "comparing"), f"{len(feats)} utterances of {args.ref}"
    difference = max_difference(experiment, exact, utterances)
    if not difference < TOLERANCE:
        raise ModelError(f"{location(directory)}the export's log-probabilities differ by {difference:.1e}, on {where}")
    print(f"log-probabilities differ from PyTorch's by {difference:.1e} at most, on {where}")
    path = args.out or directory / ("final.int8.onnx" if args.int8 else "final.onnx")
    if args.int8:
        small = int8_model(content)
        after = _score(OnnxModel(small), feats, args.ref, "int8")
        before = _score(exact, feats, args.ref, "float32")
        cost, sizes = after.per - before.per, f"{_megabytes(small)} in place of {_megabytes(content)}"
        print(f"int8: {after.line()}", f"float32: {before.line()}", sep="\n")
        print(f"8-bit weights cost {cost:+.2f} % PER; the file has {sizes}")
        content = small
    with atomic_write(path, "wb") as stream:
        stream.write(content)
    print(f"{path}: {_megabytes(content)}", file=sys.stderr)
    return 0


def export_trained(directory: Path, dev: Path) -> None:
    """Write the `final.onnx` of an experiment; say how far it is from PyTorch on some utterances of `dev`."""
    from asrkit.inference.export import export_experiment, load_for_export, max_difference
    from asrkit.inference.onnx_model import OnnxModel

    experiment, _ = load_for_export(directory)
    path = export_experiment(directory)
    feats = FeatureLoader(dev, experiment.config.features, experiment.global_cmvn)
    utterances = list(islice(_stored(feats), _NUM_COMPARED))
    difference = max_difference(experiment, OnnxModel(path), utterances)
    where = f"{len(utterances)} utterances of {dev}"
    print(f"{path}: log-probabilities differ from PyTorch's by {difference:.1e} at most, on {where}", file=sys.stderr)


def _stored(feats: FeatureLoader, description: str | None = None) -> Iterator[Utterance]:
    """The static features and CMVN statistics of a data directory's utterances."""
    for utt_id in feats if description is None else track(list(feats), description):
        yield feats.static(utt_id), feats.stats(utt_id)


def _score(model: OnnxModel, feats: FeatureLoader, data_dir: Path, name: str) -> PerResult:
    from asrkit.inference.recognizer import Recognizer

    search = Recognizer(model).search
    refs = read_references(data_dir / "text")
    log_probs = (model.log_probs(*utterance) for utterance in _stored(feats, f"decoding, {name}"))
    best = (search.decode(each)[0].tokens for each in log_probs)
    hyps = {utt_id: model.tokens.decode(tokens) for utt_id, tokens in zip(feats, best, strict=True)}
    return score(refs, hyps, ref_name=str(data_dir / "text"), hyp_name="what was recognised")


def _megabytes(content: bytes) -> str:
    return f"{len(content) / 1e6:.1f} MB"
