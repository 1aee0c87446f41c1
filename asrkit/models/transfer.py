"""Weights that one network takes over from another whose output classes are others.

Legend: V output classes, blank (id 0) included.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkit.models.acoustic import AcousticModel


@torch.no_grad()
def take_over(model: AcousticModel, trained: AcousticModel, sources: Sequence[int | None]) -> None:
    """Give `model` the weights of `trained`, a network of the same shape but for heads and output classes.

    `sources` (V,) has for each class of `model`, in order, the class of `trained` that it goes on from: what leads to
    the class, and what self-conditioning makes of it. None: a class of its own, which keeps its initial weights.
    """
    expected, known = model.state_dict(), trained.state_dict()
    for name, weights in expected.items():
        if name not in known:  # a head that `trained` lacks
            continue
        if name.startswith(("output.", "decoder.output.", "decoder.embedding.")):
            _copy_rows(weights, known[name], sources)
        elif name.startswith("frame_output."):  # without a blank
            _copy_rows(weights, known[name], [None if source is None else source - 1 for source in sources[1:]])
        elif name == "feedback.weight":
            _copy_rows(weights.T, known[name].T, sources)
        else:
            weights.copy_(known[name])


def _copy_rows(weights: Tensor, known: Tensor, sources: Sequence[int | None]) -> None:
    for row, source in enumerate(sources):
        if source is not None:
            weights[row] = known[source]
