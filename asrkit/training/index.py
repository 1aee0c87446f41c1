"""The index of a shard: all that training reads of its tables, as arrays in a file that is mapped into memory.

A shard whose tables have not changed is opened without reading a line of them. The index takes about 100 bytes of disk
for each utterance, most of it for its tokens. Memory is needed only for the utterances that are used.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np

from asrkit.features.config import FeatureConfig
from asrkit.features.pipeline import FeatureLoader, feats_input, pooled_stats
from asrkit.formats.data_dir import FEATS, SPEECH
from asrkit.io.columns import Columns, read_columns, write_columns
from asrkit.io.lock import lock_file
from asrkit.io.stamp import File, Stamp
from asrkit.training.dataset import PhoneIds, TokenIds, TrainingSet, min_steps

INDEX = ".index"
_TABLES = (FEATS, SPEECH, "cmvn.scp", "utt2num_frames", "utt2spk", "feats.json", "text")


def make_index(data_dir: Path, config: FeatureConfig, tokens: PhoneIds) -> Columns:
    """The index of a data directory that has features; it is written if there is none, or if its sources have changed.

    Besides the `columns()` of the features and tokens, it has `num_steps` (n,), the steps that CTC needs for each
    utterance, and `stats` (2, D + 1), the `pooled_stats`.

    Raises:
        DataError: as TrainingSet.open.
        OSError: the index cannot be written.
    """
    path, stamp = data_dir / INDEX, index_stamp(data_dir, config, tokens)
    if not stamp.is_current():
        with lock_file(path, "train", wait=True):  # of several processes on the same data, only one makes it
            if not stamp.is_current():
                with stamp.making():
                    write_columns(path, _columns(data_dir, config, tokens))
    return read_columns(path)


def index_stamp(data_dir: Path, config: FeatureConfig, tokens: PhoneIds) -> Stamp:
    """The stamp of the index of a data directory with its present tables and features."""
    inputs = {
        "tables": {name: File(data_dir / name) for name in _TABLES},
        "feats": feats_input(data_dir),
        "features": asdict(config),
        "tokens": dict(tokens.phone_ids),
    }
    return Stamp(data_dir / f"{INDEX}.stamp", inputs)


def _columns(data_dir: Path, config: FeatureConfig, tokens: PhoneIds) -> dict[str, np.ndarray]:
    stats = pooled_stats(data_dir, config)
    data = TrainingSet.open(data_dir, config, stats, tokens)
    assert isinstance(data.feats, FeatureLoader) and isinstance(data.tokens, TokenIds)
    num_steps = (min_steps(data.tokens[utt_id]) for utt_id in data.num_frames)
    return {
        **data.feats.columns(),
        **data.tokens.columns(),
        "num_steps": np.fromiter(num_steps, np.int32, len(data)),
        "stats": stats,
    }
