"""Learning-rate schedules. Each is a function of settings and of the dev results so far, so it has no state to save.

The learning rate depends on the index of the update within the training, or is constant within an epoch.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from asrkit.training.config import ScheduleName, TrainingConfig


@dataclass(frozen=True)
class EpochSchedule:
    """The schedule of one epoch.

    Attributes:
        rate: index of an update (0 is the first one of the training) -> learning rate.
        momentum: index of an update -> AdamW's decay of the gradients' mean. None leaves it unchanged.
    """

    rate: Callable[[int], float]
    momentum: Callable[[int], float] | None = None


@dataclass(frozen=True)
class DevResults:
    """The dev results of the finished epochs, in order.

    Attributes:
        losses: the losses of all epochs, in nats.
        pers: the PERs after the blank phase, in percent. Within the phase, a schedule that follows PERs would cut the
            rate, and the network would never leave the phase.
    """

    losses: Sequence[float]
    pers: Sequence[float]


def epoch_schedule(config: TrainingConfig, num_updates: int, dev: DevResults) -> EpochSchedule | None:
    """The configured schedule of the epoch after those in `dev`, or None if the schedule ends the training.

    It ends it after newbob's last epoch, or if the rate would fall below `min_lr`. `num_updates` is the number of
    updates of the whole training.
    """
    return SCHEDULES[config.schedule](config, num_updates, dev)


def _one_cycle_schedule(config: TrainingConfig, num_updates: int, dev: DevResults) -> EpochSchedule:
    return EpochSchedule(
        lambda update: one_cycle(update, num_updates, config.max_lr, config.warmup),
        lambda update: one_cycle_momentum(update, num_updates, config.warmup),
    )


def _noam_schedule(config: TrainingConfig, num_updates: int, dev: DevResults) -> EpochSchedule:
    return EpochSchedule(lambda update: noam(update, max(1, round(config.warmup * num_updates)), config.max_lr))


def _constant_schedule(config: TrainingConfig, num_updates: int, dev: DevResults) -> EpochSchedule:
    return EpochSchedule(lambda update: config.max_lr)


def _plateau_schedule(config: TrainingConfig, num_updates: int, dev: DevResults) -> EpochSchedule | None:
    return _after_cuts(config, plateau_cuts(_metrics(config, dev), config.lr_patience))


def _newbob_schedule(config: TrainingConfig, num_updates: int, dev: DevResults) -> EpochSchedule | None:
    cuts = newbob_cuts(_metrics(config, dev), config.newbob_threshold)
    return None if cuts is None else _after_cuts(config, cuts)


SCHEDULES: dict[ScheduleName, Callable[[TrainingConfig, int, DevResults], EpochSchedule | None]] = {
    "one_cycle": _one_cycle_schedule,
    "plateau": _plateau_schedule,
    "newbob": _newbob_schedule,
    "noam": _noam_schedule,
    "constant": _constant_schedule,
}


def _metrics(config: TrainingConfig, dev: DevResults) -> Sequence[float]:
    """The dev result that must fall, by epoch."""
    return dev.pers if config.schedule_metric == "per" else dev.losses


def _after_cuts(config: TrainingConfig, cuts: int) -> EpochSchedule | None:
    rate = config.max_lr * config.lr_factor**cuts
    return None if rate < config.min_lr else EpochSchedule(lambda update: rate)


def one_cycle(update: int, num_updates: int, max_lr: float, warmup: float) -> float:
    """Half a cosine from max_lr / 25 up to max_lr, then half a cosine down to max_lr / 25000 (Smith 2018).

    These are the values of PyTorch's OneCycleLR with the default `div_factor`, and a `final_div_factor` of 1000.
    """
    top, last = warmup * num_updates - 1, num_updates - 1
    if update <= top:
        return _cosine(max_lr / 25, max_lr, update / top if top else 1.0)
    return _cosine(max_lr, max_lr / 25 / 1000, (update - top) / (last - top))


def one_cycle_momentum(update: int, num_updates: int, warmup: float) -> float:
    """Momentum between 0.95 and 0.85, which falls while the rate rises (Smith 2018; OneCycleLR's `cycle_momentum`)."""
    top, last = warmup * num_updates - 1, num_updates - 1
    if update <= top:
        return _cosine(0.95, 0.85, update / top if top else 1.0)
    return _cosine(0.85, 0.95, (update - top) / (last - top))


def noam(update: int, warmup_updates: int, max_lr: float) -> float:
    """A linear rise to `max_lr` within `warmup_updates`, then a fall with 1/sqrt(updates) (Vaswani et al. 2017).

    In the paper the peak is d_model**-0.5 * warmup_updates**-0.5. Here it is given.
    """
    number = update + 1
    return max_lr * min(number / warmup_updates, math.sqrt(warmup_updates / number))


def plateau_cuts(metrics: Sequence[float], patience: int) -> int:
    """How often the rate has been cut. A cut follows more than `patience` epochs in a row without a new minimum."""
    cuts, waited, best = 0, 0, math.inf
    for metric in metrics:
        if metric < best:
            best, waited = metric, 0
        else:
            waited += 1
        if waited > patience:
            cuts, waited = cuts + 1, 0
    return cuts


def newbob_cuts(metrics: Sequence[float], threshold: float) -> int | None:
    """How often the rate has been cut, or None at the end (newbob of ICSI's QuickNet).

    The rate is constant until an epoch improves dev by less than `threshold` times the previous value. From then on it
    is cut after every epoch. The next epoch with such a small improvement ends the training. QuickNet uses an absolute
    threshold, half a percent of frames. Here it is relative, so that it also suits losses.
    """
    cuts = 0
    for before, now in itertools.pairwise(metrics):
        if not before - now >= threshold * before:  # also true if one is NaN
            if cuts:
                return None
            cuts = 1
        elif cuts:
            cuts += 1
    return cuts


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)
