"""The weights of a training: the best epochs' weights, their mean, a moving average, and the start of CTC."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from asrkit.models.acoustic import AcousticModel
from asrkit.training import checkpoint


class MovingAverage:
    """Exponential moving average (EMA) of a model's parameters.

    After n updates the factor is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage. So the
    random initial weights are forgotten early.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.decay = decay
        self.num_updates = 0
        self._weights = [weight.detach().clone() for weight in model.parameters()]

    def update(self, model: nn.Module) -> None:
        """Include the model's weights in the average. Call this after each update of the weights."""
        self.num_updates += 1
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        torch._foreach_lerp_(self._weights, [weight.detach() for weight in model.parameters()], 1 - decay)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Give the model the averaged weights during a `with` block."""
        self._swap(model)
        try:
            yield
        finally:
            self._swap(model)

    def _swap(self, model: nn.Module) -> None:
        with torch.no_grad():
            for weight, average in zip(model.parameters(), self._weights, strict=True):
                own = weight.clone()
                weight.copy_(average)
                average.copy_(own)

    def state_dict(self) -> dict[str, Any]:
        """The state, for a checkpoint."""
        return {"num_updates": self.num_updates, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state. Raises ValueError if it belongs to another model."""
        weights = state["weights"]
        if len(weights) != len(self._weights) or not all(map(checkpoint.is_like, weights, self._weights)):
            raise ValueError("the average belongs to another model's weights")
        self.num_updates = int(state["num_updates"])
        for average, saved in zip(self._weights, weights, strict=True):
            average.copy_(saved)


class BestEpochs:
    """The epochs with the lowest dev PER or loss, at most `size`, best first. Of equals the later epoch is better.

    The weights of each are stored once, in a file `best.EPOCH.pt`. Of several processes, the one with `writes` stores
    them.

    Attributes:
        ranking: (dev PER or loss, epoch).
    """

    def __init__(self, directory: Path, size: int, writes: bool = True):
        self.directory, self.size, self._writes = directory, size, writes
        self.ranking: list[tuple[float, int]] = []  # (dev PER or loss, epoch)

    def offer(self, value: float, epoch: int, model: nn.Module) -> None:
        """Store the model's weights if the epoch is among the best. An epoch with NaN as its value is the worst."""
        value = math.inf if math.isnan(value) else value
        ranking = sorted([*self.ranking, (value, epoch)], key=lambda item: (item[0], -item[1]))[: self.size]
        if self._writes and (value, epoch) in ranking:
            checkpoint.save(self._path(epoch), {"model": model.state_dict()})
        self.ranking = ranking

    def weights(self, epoch: int, model: nn.Module) -> dict[str, Tensor]:
        """Load the weights of an epoch: name -> tensor, each with the shape of the model's parameter.

        Raises:
            ModelError: the file does not contain weights of this model.
        """
        path = self._path(epoch)
        saved = checkpoint.load(path, checkpoint.START_ANEW)
        return checkpoint.fitting_weights(saved.get("model"), model, path, checkpoint.START_ANEW)

    def tidy(self) -> None:
        """Delete the files of epochs that are no longer among the best."""
        if not self._writes:
            return
        kept = {self._path(epoch) for _, epoch in self.ranking}
        for path in self.directory.glob("best.*.pt"):
            if path not in kept:
                path.unlink()

    def _path(self, epoch: int) -> Path:
        return self.directory / f"best.{epoch}.pt"


@torch.no_grad()
def start_ctc_from_frames(model: AcousticModel) -> None:
    """Copy the output weights of the frame-wise head to the phones of CTC. The blank keeps its weights.

    A path that names the phone at every step is a valid CTC path. So the network begins near a solution, and not with
    blanks only. The model must have both heads.
    """
    assert model.output is not None and model.frame_output is not None
    model.output.weight[1:] = model.frame_output.weight
    model.output.bias[1:] = model.frame_output.bias


def average(all_weights: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The mean of the weights of several models, tensor by tensor.

    `all_weights`: name -> tensor of any shape, per model.
    """
    return {
        name: torch.stack([weights[name].double() for weights in all_weights]).mean(0).to(first.dtype)
        for name, first in all_weights[0].items()
    }
