"""Sharded data directories: big ones, of which only a part needs to be in memory at a time.

The shards are data directories themselves: SPLIT/1, SPLIT/2 and so on, as Kaldi's utils/split_data.sh makes them in
DATA/split4 for four shards of DATA.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from asrkit.errors import DataError, location
from asrkit.formats.data_dir import DataDir, feats_table, write_data_dir
from asrkit.io.atomic import atomic_dir
from asrkit.io.numbers import parse_whole
from asrkit.types import Utterance

_SPLIT = re.compile(r"split([0-9]+)(utt)?")


def shards_of(directory: Path) -> list[Path]:
    """The shards of a sharded data directory, in the order of their numbers; none for any other directory.

    `directory` is SPLIT itself, or it has no features and holds one directory `split*/` with shards.

    Raises DataError if a shard is missing, or if there are several directories `split*/`.
    """
    if shards := _numbered(directory):
        return shards
    if feats_table(directory).exists():
        return []
    found = [shards for path in sorted(directory.glob("split*")) if (shards := _numbered(path))]
    if len(found) > 1:
        names = " and ".join(shards[0].parent.name for shards in found)
        raise DataError(f"{location(directory)}sharded more than once, as {names}; give one of them")
    return found[0] if found else []


def expect_plain(directory: Path, purpose: str) -> None:
    """Raise DataError if a data directory is sharded. `purpose` is what takes only one without shards."""
    if shards := shards_of(directory):
        raise DataError(
            f"{location(directory)}{len(shards)} shards, which only training takes; {purpose} needs a data directory "
            "in one piece; give the one that was split, after asrkit extract on it"
        )


def _numbered(directory: Path) -> list[Path]:
    """The data directories in `directory` whose names are numbers. Raises DataError if one of them is missing."""
    found = (parse_whole(path.parent.name, 1) for path in directory.glob("[1-9]*/text"))
    numbers = {number for number in found if number is not None}
    named = _SPLIT.fullmatch(directory.name)
    last = max([*numbers, (parse_whole(named[1]) or 0) if named and numbers else 0], default=0)
    missing = next((number for number in range(1, last + 1) if number not in numbers), None)
    if missing is not None:
        raise DataError(f"{location(directory / str(missing))}not found; expected data directories 1 to {last}")
    return [directory / str(number) for number in range(1, last + 1)]


def write_shards(data: DataDir, directory: Path, num_shards: int) -> list[Path]:
    """Divide a data directory into shards `directory`/1, `directory`/2 and so on of about equal size. They are written
    atomically.

    The order of the utterances, by id, stays. Two neighbours of the same speaker come into the same shard, so a
    speaker has only one where ids begin with that of the speaker.

    Raises DataError if there are not enough speakers, or utt2dur is missing.
    """
    utts = data.utterances()
    bounds = _bounds(utts, num_shards)
    if len(bounds) <= num_shards:
        raise DataError(
            f"{location(data.path)}{len(bounds) - 1} shards at most, as a speaker's utterances stay together; expected "
            f"{num_shards}; give fewer"
        )
    if not data.utt2dur:
        raise DataError(f"{location(data.path / 'utt2dur')}not found; write the length of each utterance, in seconds")
    with atomic_dir(directory) as new:
        for number, (begin, end) in enumerate(pairwise(bounds), 1):
            write_data_dir(new / str(number), utts[begin:end], data.utt2dur)
    return [directory / str(number) for number in range(1, num_shards + 1)]


def _bounds(utts: Sequence[Utterance], num_shards: int) -> list[int]:
    """The index at which each shard begins, and the number of utterances; fewer where there are not enough speakers."""
    changes = [row for row in range(1, len(utts)) if utts[row].spk_id != utts[row - 1].spk_id]
    bounds, begin = [0], 0
    for number in range(1, num_shards):
        end = len(changes) - (num_shards - 1 - number)  # leaves a change for each of the bounds behind this one
        wanted = len(utts) * number // num_shards
        place = bisect_left(changes, wanted, begin, max(end, begin))
        nearest = [near for near in (place - 1, place) if begin <= near < end]
        if nearest:
            begin = min(nearest, key=lambda near: abs(changes[near] - wanted)) + 1
            bounds.append(changes[begin - 1])
    return [*bounds, len(utts)]
