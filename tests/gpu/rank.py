"""One of the processes that torchrun starts for test_ranks.py: `python -m tests.gpu.rank DEVICE FILE`.

It trains for an epoch with the others. The first process writes the weights, (n,), to FILE.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch


def main() -> None:
    """Train as one of the ranks."""
    importlib.import_module("tests.gpu.conftest")  # it replaces packages that are missing, which asrkit would load
    from asrkit.device import choose_device
    from asrkit.training.loop import train_epoch
    from asrkit.training.ranks import joined
    from tests.gpu.test_resume import make_data, new_state, weights_of

    device, file = choose_device(sys.argv[1]), Path(sys.argv[2])
    with TemporaryDirectory() as directory, joined() as ranks:
        if device.type != "cpu":
            ranks.take_gpu(device)
        state = new_state(Path(directory) / "state", device, is_drawn=False)
        state.ranks = ranks
        ranks.connect(device)
        ranks.spread_weights(state.model)
        train_epoch(state, make_data())
        if ranks.is_first:
            torch.save(weights_of(state), file)


if __name__ == "__main__":
    main()
