"""Copy the weights of a trained network to a network with other output classes.

Legend: V output classes, blank (id 0) included.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from asrkit.models.acoustic import AcousticModel


@torch.no_grad()
def take_over(model: AcousticModel, trained: AcousticModel, sources: Sequence[int | None]) -> None:
    """Copy the weights of `trained` to `model`. Both have the same shape, except for heads and output classes.

    Args:
        model, trained: the networks.
        sources: for each of the V classes of `model`, in order, the class of `trained` whose weights it gets: in output
            layers, and in the feedback of self-conditioning. None: the class keeps its initial weights.
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
