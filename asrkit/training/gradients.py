"""How far back the gradient of a real network reaches: its norm per layer, and by lag in each recurrent layer.

Legend: N utterances, T steps of a recurrent layer, T' of the last one, D input dim, H units of a direction, K
directions, E outputs of the last layer.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from asrkit.models.acoustic import AcousticModel
from asrkit.models.batching import Batch
from asrkit.models.cells.layer import RecurrentLayer
from asrkit.models.decoder import DecoderTraining
from asrkit.models.encoder import Encoder
from asrkit.models.stacking import num_steps
from asrkit.training.step import batch_losses

WEIGHTS, DIRECTIONS = "weights", ("forward", "backward")


class Place(NamedTuple):
    """A place of a gradient in a network.

    Attributes:
        part: a part of the network, such as "layer 1".
        of: WEIGHTS or one of DIRECTIONS.
    """

    part: str
    of: str


Norms = Mapping[Place, np.ndarray]  # (1,) for weights; (L,) for a direction, at lags 0, 1, ... L - 1


def gradient_norms(model: AcousticModel, batch: Batch, frame_weight: float, decoder: DecoderTraining) -> Norms:
    """Norms of the gradient of a batch's mean loss L, in float64 and without noise and dropout.

    The model is not changed.

    For weights: |dL/dw|, over all weights of a part together.

    By lag: |dL(T)/dh(T - lag)|, averaged over the utterances, where h is the output of a direction, and steps are in
    the order of that direction. L(T) is the part of the loss that enters at step T of the last layer: the gradient
    dL/dy(T), held fixed, times y(T). So it is defined for every loss, of CTC and of decoders. T is the step with the
    largest such gradient in the middle third of the utterance. Lags go up to a third of the shortest utterance.

    Args:
        model, batch: the network, and a batch on the CPU.
        frame_weight, decoder: as for batch_losses.
    """
    model = copy.deepcopy(model).cpu().double().eval()
    model.training = True  # not its parts, so no dropout; the losses of lower layers belong to L
    batch = replace(batch, feats=batch.feats.double())
    watched, outputs = list(_watch(model.stack)), list[Tensor]()
    model.stack.register_forward_hook(lambda stack, inputs, found: outputs.append(found[-1]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a decoder can draw at random
        loss = batch_losses(model, batch, None, frame_weight, decoder).mean(frame_weight, decoder.weight)
    (last,) = outputs  # y, (N, T', E)
    names, weights = zip(*model.named_parameters(), strict=True)
    entering, *grads = torch.autograd.grad(
        torch.as_tensor(loss), [last, *weights], retain_graph=bool(watched), allow_unused=True
    )
    squares: dict[Place, float] = {}
    for name, grad in zip(names, grads, strict=True):
        place = Place(_part_of(name), WEIGHTS)
        squares[place] = squares.get(place, 0.0) + (0.0 if grad is None else float(grad.square().sum()))
    norms = {place: np.sqrt([square]) for place, square in squares.items()}
    lens = num_steps(batch.feat_lens, model.config.skip * model.stack.joined)
    return norms | (_by_lag(last, entering, lens, watched) if watched else {})


class Watched(nn.Module):
    """A recurrent layer that runs step by step, and keeps its outputs as part of the graph.

    So the gradient in h(t) contains all effects of h(t): on the layer above, and on the layer's own next step.
    """

    def __init__(self, layer: RecurrentLayer, joined: int) -> None:
        """Wrap a layer. `joined`: steps of this layer per step of the last layer."""
        super().__init__()
        self.layer, self.joined = layer, joined
        self.hiddens: list[Tensor] = []  # (K, N, H) of each step
        self.lens = torch.empty(0)  # (N,) numbers of steps

    def forward(self, inputs: Tensor, reverse: Tensor) -> Tensor:
        """Compute the outputs (N, T, K * H). `inputs` is (N, T, D), and `reverse` (N, T) comes from reversal_index."""
        self.hiddens, self.lens = [], reverse[:, 0] + 1
        states = self.layer.first_states(inputs)
        for frames in zip(*(each.split(1, dim=1) for each in self.layer.directed(inputs, reverse)), strict=True):
            outputs, (_, *others) = self.layer.advance(frames, states)
            hidden = torch.stack([each[:, 0] for each in outputs])
            self.hiddens.append(hidden)
            states = (hidden, *others)
        return self.layer.joined(torch.stack(self.hiddens, dim=2).unbind(), reverse)


def _watch(stack: Encoder) -> Iterator[Watched]:
    """Replace the recurrent layers of an encoder by watched ones; yield these, the lowest first."""
    places = [
        (parent, name, layer)
        for parent in stack.modules()
        for name, layer in parent.named_children()
        if isinstance(layer, RecurrentLayer)
    ]
    for above, (parent, name, layer) in zip(reversed(range(len(places))), places, strict=True):
        watched = Watched(layer, round(stack.joined ** (above / max(len(places) - 1, 1))))
        setattr(parent, name, watched)
        yield watched


def _by_lag(last: Tensor, entering: Tensor, lens: Tensor, watched: list[Watched]) -> dict[Place, np.ndarray]:
    """The norms by lag, from the outputs of the last layer and the gradient of the loss in them, (N, T', E) each."""
    rows, steps = torch.arange(len(last)), torch.arange(last.shape[1])
    thirds = lens // 3
    is_inner = (steps >= thirds[:, None]) & (steps < (lens - thirds)[:, None])
    at = entering.norm(dim=2).masked_fill(~is_inner, -1.0).argmax(dim=1)  # T
    coming_in = torch.zeros_like(last)
    coming_in[rows, at] = entering[rows, at]
    found = iter(torch.autograd.grad(last, [hidden for layer in watched for hidden in layer.hiddens], coming_in))
    norms = {}
    for number, layer in enumerate(watched, start=1):
        each = torch.stack([next(found) for _ in layer.hiddens]).norm(dim=3)  # (T, K, N)
        ahead = torch.minimum((at + 1) * layer.joined, layer.lens) - 1
        lags = torch.arange(int(thirds.min()) * layer.joined + 1)
        for which, place in enumerate([ahead, layer.lens - 1 - at * layer.joined][: each.shape[1]]):
            of_utterances = each[place - lags[:, None], which, rows]
            norms[Place(f"layer {number}", DIRECTIONS[which])] = of_utterances.mean(dim=1).numpy()
    return norms


def _part_of(name: str) -> str:
    """The part of the network to which the weights `name` belong: "layer 1", "output"."""
    first, second, *others = name.split(".")
    if first != "stack":
        return first.replace("_", " ")
    return f"layer {int(others[0]) + 1}" if others[0].isdigit() else f"encoder {second}"
