"""Between stages 0 and 1, for big corpora: divide a data directory into shards."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from asrkit.audio import AudioAccess
from asrkit.formats.data_dir import load_data_dir
from asrkit.formats.shards import shards_of, write_shards
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import File, Stamp

_TABLES = ("wav.scp", "text", "utt2spk", "segments", "spk2gender", "utt2dur", "phones.ctm")


@dataclass(frozen=True)
class Sharding:
    """The shards of a data directory.

    Attributes:
        shards: the data directories DATA/splitN/1, DATA/splitN/2 and so on.
        up_to_date: whether they were there already.
    """

    shards: tuple[Path, ...]
    up_to_date: bool


def split(data_dir: str | Path, num_shards: int, *, audio_root: Path | None = None, force: bool = False) -> Sharding:
    """Divide a data directory into `num_shards` data directories of about equal size, unless that is done.

    They are written to DATA/splitN/, which is replaced if the tables of DATA have changed. Features are not copied.

    Args:
        data_dir: the data directory.
        num_shards: the number of shards.
        audio_root: the directory where relative paths in wav.scp start; the shards have absolute paths.
        force: write the shards again, without features, even if they are up to date.

    Raises:
        DataError: the data directory has faults, lacks utt2dur, or has too few speakers for so many shards.
        InUseError: another command writes there.
        OSError: the shards cannot be written.
    """
    data_dir = Path(data_dir)
    target = data_dir / f"split{num_shards}"
    root = None if audio_root is None else str(audio_root)
    inputs = {"tables": {name: File(data_dir / name) for name in _TABLES}, "audio_root": root}
    stamp = Stamp(data_dir / f".{target.name}.stamp", inputs)
    if not force and stamp.is_current():
        return Sharding(tuple(shards_of(target)), True)
    data = load_data_dir(data_dir, AudioAccess(audio_root, allow_pipes=True))  # which are copied and not run
    with lock_dir(data_dir, "split"), stamp.making():
        shards = write_shards(data, target, num_shards)
    return Sharding(tuple(shards), False)
