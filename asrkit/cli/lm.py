"""`asrkit train-lm DATA_DIR`: a phone n-gram language model from a data directory's transcripts, in ARPA format."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from asrkit.cli.options import add_force, positive_int
from asrkit.errors import ConfigError, location, raise_if_any
from asrkit.io.stamp import file_digest, is_current, write_stamp
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram, write_arpa
from asrkit.lm.smoothing import EPSILONS, SMOOTHINGS
from asrkit.scoring.per import read_transcripts


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR", help="data directory whose `text` is learnt from")
    parser.add_argument("--tokens", type=Path, required=True, metavar="FILE", help="token table: the vocabulary")
    parser.add_argument("--order", type=positive_int, default=3, metavar="N", help="n-gram order (default: 3)")
    parser.add_argument(
        "--smoothing", choices=SMOOTHINGS, default="kneser_ney", help="how seen n-grams share with unseen ones"
    )
    parser.add_argument(
        "--epsilon",
        type=_epsilons,
        metavar="E1,E2,...",
        help="epsilons of --smoothing laplace, from unigrams on; the last one also holds for higher orders "
        f"(default: {','.join(map(str, EPSILONS))})",
    )
    parser.add_argument("--dev", type=Path, metavar="DATA_DIR", help="print the perplexity of this one's `text`, too")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the ARPA file to write")
    add_force(parser)


def run(args: argparse.Namespace) -> int:
    if args.epsilon and args.smoothing != "laplace":
        raise ConfigError(f"--epsilon has no meaning for --smoothing {args.smoothing}; give --smoothing laplace")
    text, dev_text = args.data_dir / "text", args.dev and args.dev / "text"
    files = [file for file in (text, args.tokens, dev_text) if file]
    raise_if_any(
        [f"{location(file)}not found; made by stage 0 (asrkit prepare)" for file in files if not file.exists()]
    )
    stamp = args.out.with_name(f".{args.out.name}.stamp")
    epsilons = args.epsilon or EPSILONS
    inputs = {
        "text": file_digest(text),
        "tokens": file_digest(args.tokens),
        "dev": file_digest(dev_text) if dev_text else None,
        "order": args.order,
        "smoothing": args.smoothing,
        "epsilons": list(epsilons) if args.smoothing == "laplace" else None,
    }
    if not args.force and is_current(stamp, inputs, [args.out]):
        print(f"{args.out}: up to date")
        return 0
    phones, transcripts = TokenTable.read(args.tokens).phones, read_transcripts(text)
    faults = []
    for utt, transcript in transcripts.items():
        unknown = sorted(set(transcript) - set(phones))
        if unknown:
            faults.append(f"{location(text)}{utt}: phones not in {args.tokens}: {' '.join(unknown)}")
        elif not transcript:
            faults.append(f"{location(text)}{utt}: empty transcript; give its phones or remove it")
    raise_if_any(faults)
    held_out = read_transcripts(dev_text).values() if dev_text else ()
    lm = train_ngram(transcripts.values(), args.order, phones, args.smoothing, epsilons)
    sizes = ", ".join(f"{len(ngrams)} {n}-grams" for n, ngrams in enumerate(lm.ngrams, 1))
    report = [f"{args.out}: {sizes}; perplexity of its own text {lm.perplexity(transcripts.values()):.2f}"]
    if dev_text:
        num_phones, num_unknown = sum(map(len, held_out)), sum(phone not in phones for t in held_out for phone in t)
        report.append(
            f"{dev_text}: perplexity {lm.perplexity(held_out):.2f}; "
            f"{num_unknown} of {num_phones} phones outside the vocabulary"
        )
    write_arpa(lm, args.out)
    write_stamp(stamp, inputs)
    print("\n".join(report))
    return 0


def _epsilons(text: str) -> tuple[float, ...]:
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    if not values or not all(0 < value < math.inf for value in values):
        raise argparse.ArgumentTypeError(f"expected positive numbers with commas between, found {text!r}")
    return values
