"""`asrkit decode`: recognise the utterances of a data directory with a trained experiment."""

from __future__ import annotations

import argparse

from asrkit.cli.options import add, add_device, add_executor, add_nj, experiment_dir
from asrkit.decoding.methods import SEARCHES
from asrkit.features.cmvn import NORMALIZATIONS
from asrkit.io.tell import tell
from asrkit.stages.decoding import DecodeOptions, decode
from asrkit.stages.inputs import decode_dir

_OWN = "the experiment's"

DESCRIPTION = (
    "Recognise the utterances of a data directory with a trained experiment. "
    "The output directory gets hyp (the phones), decoding.yaml (the settings) and the log-probabilities. "
    "An option of the search takes the place of the experiment's setting."
)
EXAMPLES = (
    "asrkit decode --model EXP --data DATA/test",
    "asrkit decode --model mini --data DATA/dev --out greedy --method greedy --log-probs EXP/decode_dev",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    add(parser, "--model", "This verb needs an experiment directory", required=True)
    add(parser, "--data", "It needs features", required=True)
    add(parser, "--out", shown="MODEL/decode_SET; SET is the name of DATA")
    add(parser, "--log-probs", "They are written there unless they are up to date", shown="the directory of --out")
    add(parser, "--method", choices=SEARCHES, shown=_OWN)
    add(parser, "--beam", shown=_OWN)
    add(parser, "--lm-weight", shown=_OWN)
    add(parser, "--insertion-bonus", shown=_OWN)
    add(parser, "--blank-penalty", shown=_OWN)
    add(parser, "--ctc-weight", shown=_OWN)
    add(parser, "--coverage-weight", shown=_OWN)
    add(parser, "--nbest", "They go to nbest.jsonl, with their scores", shown="none")
    add(parser, "--ctm")
    add(
        parser,
        "--cmvn",
        "asrkit transcribe uses speech_utterance in place of speech_speaker, and utterance in place of speaker",
        choices=NORMALIZATIONS,
        shown=_OWN,
    )
    add(parser, "--batch-size", default=32)
    add_nj(parser)
    add_executor(parser)
    add_device(parser, "With --executor, each worker uses its own. Searches run on the CPU")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit decode` with parsed arguments. Returns the exit status: 0."""
    experiment = experiment_dir(args.model)
    options = DecodeOptions(
        method=args.method,
        beam=args.beam,
        lm_weight=args.lm_weight,
        insertion_bonus=args.insertion_bonus,
        blank_penalty=args.blank_penalty,
        ctc_weight=args.ctc_weight,
        coverage_weight=args.coverage_weight,
        cmvn=args.cmvn,
        nbest=args.nbest,
        ctm=args.ctm,
        log_probs=args.log_probs,
        batch_size=args.batch_size,
        device=args.device,
    )
    decoding = decode(
        experiment,
        args.data,
        args.out or decode_dir(experiment, args.data),
        options,
        num_jobs=args.nj,
        force=args.force,
    )
    tell(f"{decoding.out}: {'written' if decoding.is_new else 'decoding is up to date'}")
    return 0
