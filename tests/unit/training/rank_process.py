"""One of the processes of test_ranks.py: `python -m tests.unit.training.rank_process NUMBER PORT DIR [JOB...]`.

It is a rank of one job after another, of 1, 2 and 3 ranks, as far as its number allows; without names, of all jobs.
"""

import itertools
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import asrkit.training.ranks as jobs_of_ranks
from asrkit.errors import AsrkitError
from asrkit.training.augment import Augmented
from asrkit.training.loop import TrainingSets, train
from asrkit.training.ranks import ALONE, joined
from asrkit.training.state import TrainingState
from tests.unit.training.test_loop import CONFIG, TOKENS, make_data, make_model

# 17 utterances in batches of 4: the last batch has one, of which three ranks have not one each. 4 * 5 updates.
STILL = replace(CONFIG, num_epochs=4, input_noise=0.0, random_offset=False)
DRAWN = replace(
    STILL, input_noise=0.3, random_offset=True, weight_noise=0.05, weight_drop=0.1, num_views=2, checkpoint_minutes=1e-9
)
# Name, configuration, network. While frames alone are learned from, CTC's output layer has no gradient.
RUNS = (
    ("lstm", STILL, {"cell": "lstm"}),
    ("gru", replace(STILL, pretrain_epochs=1), {"cell": "gru", "head": "both"}),
    ("elman", STILL, {"cell": "elman"}),
    ("drawn", DRAWN, {"cell": "lstm"}),
)
SIZES = (1, 2, 3)
KILLED = 1  # the rank that is killed in the last job
COPIED_AT = 8  # the checkpoint with which the resumed runs begin: within the second epoch


class Augmenter:
    """Other lengths and noise, some joined, and a frame of each view masked: all drawn from the utterance's numbers."""

    join_prob = 0.3

    def __init__(self, feats):
        self.feats = feats

    def __call__(self, utt_id, rng, min_frames):
        feats = self.feats[utt_id][: -int(rng.integers(1, 3))]
        return Augmented(feats + rng.normal(0, 0.1, feats.shape), 1.0)

    def mask(self, feats, rng):
        feats[rng.integers(len(feats))] = 0


def run(config, directory, ranks=ALONE, **settings):
    """Train in float64 without dropout. Returns: the weights, and all figures of the epochs but the time."""
    train_set, dev_set = make_data(17, 1), make_data(33, 2)
    for data in (train_set, dev_set):
        for utt_id, feats in data.feats.items():
            data.feats[utt_id] = feats.astype(np.float64)
    if config.num_views == 2:
        train_set = replace(train_set, frame_labels=None, augmenter=Augmenter(train_set.feats))
    model = make_model(dropout=0.0, **settings).double()
    result = train(model, config, TrainingSets(train_set, dev_set, TOKENS, ranks=ranks), directory, "run")
    rows = [[*vars(replace(record, cpu_seconds=0.0)).values()] for record in result.history]
    return torch.cat([weight.flatten() for weight in model.state_dict().values()]), torch.tensor(
        rows, dtype=torch.double
    )


def jobs():
    """The jobs in turn: name, number of ranks, configuration, network."""
    for size in SIZES:
        yield from ((f"{name}.{size}", size, config, settings) for name, config, settings in RUNS)
    _, config, settings = RUNS[-1]
    yield from ((f"resumed.{size}", size, config, settings) for size in SIZES)
    yield "killed.3", 3, config, settings  # the last


def copy_checkpoint(directory):
    """Copy the directory of `drawn.2` for `resumed.*` as it is when the checkpoint `COPIED_AT` has been made."""
    save, seen = TrainingState.save, []

    def save_and_copy(state):
        save(state)
        if state.ranks.is_first and state.path.parent.name == "drawn.2":
            seen.append(state)
            if len(seen) == COPIED_AT:
                for size in SIZES:
                    shutil.copytree(state.path.parent, directory / f"resumed.{size}")

    TrainingState.save = save_and_copy


def kill_at(call, function):
    """The function, but the process is killed at that call of it."""
    calls = itertools.count(1)

    def killing(*args):
        if next(calls) == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*args)

    return killing


def main():
    number, port, directory, wanted = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
    torch.set_num_threads(1)
    copy_checkpoint(directory)
    os.environ |= {"RANK": str(number), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the store is the test's, as it is torchrun's
    for count, (name, size, config, settings) in enumerate(jobs()):
        if number < size and (not wanted or name in wanted):
            jobs_of_ranks._jobs = itertools.count()  # ranks count the jobs that they have been in
            os.environ |= {"WORLD_SIZE": str(size), "TORCHELASTIC_RESTART_COUNT": str(count)}
            try:
                with joined() as ranks:
                    if name == "killed.3" and number == KILLED:
                        ranks.add_up = kill_at(7, ranks.add_up)
                    found = run(config, directory / name, ranks, **settings)
            except AsrkitError as error:  # as the command does
                sys.exit(f"error: {error}")
            torch.save(found, directory / f"{name}.of.{number}.pt")


if __name__ == "__main__":
    main()
