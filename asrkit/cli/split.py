"""`asrkit split DATA`: divide a big data directory into shards."""

from __future__ import annotations

import argparse
from pathlib import Path

from asrkit.cli.options import add
from asrkit.io.tell import tell
from asrkit.stages.sharding import split

DESCRIPTION = (
    "Divide a big data directory into shards, of which training needs only some in memory at a time. "
    "They are data directories without features: DATA/splitN/1, DATA/splitN/2 and so on."
)
EXAMPLES = (
    "asrkit split DATA/train --shards 100",
    "asrkit extract DATA/train/split100",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments and options of this verb to its parser."""
    parser.add_argument("data_dir", type=Path, metavar="DATA", help="data directory (wav.scp, utt2spk ...)")
    add(parser, "--shards", "The utterances of a speaker stay together", required=True)
    add(parser, "--audio-root", shown="the current directory")
    add(parser, "--force")


def run(args: argparse.Namespace) -> int:
    """Run `asrkit split` with parsed arguments. Returns the exit status: 0."""
    sharding = split(args.data_dir, args.shards, audio_root=args.audio_root, force=args.force)
    state = "are up to date" if sharding.up_to_date else "written"
    tell(f"{sharding.shards[0].parent}: {len(sharding.shards)} shards {state}")
    return 0
