"""Each schedule against PyTorch's, a closed form or a sequence computed by hand."""

import math

import pytest
import torch

from asrkit.errors import ConfigError
from asrkit.training.config import TrainingConfig
from asrkit.training.schedule import (
    DevResults,
    epoch_schedule,
    newbob_cuts,
    noam,
    one_cycle,
    one_cycle_momentum,
    plateau_cuts,
)


@pytest.mark.parametrize(("num_updates", "warmup"), [(1, 0.12), (2, 0.5), (4, 0.12), (50, 0.12), (333, 0.3)])
def test_one_cycle_is_that_of_pytorch(num_updates, warmup):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.AdamW([weight], lr=1.0)
    settings = {"pct_start": warmup, "div_factor": 25, "final_div_factor": 1000}
    if (num_updates, warmup) == (2, 0.5):  # PyTorch divides by zero here
        assert [one_cycle(update, 2, 0.003, warmup) for update in (0, 1)] == pytest.approx([0.003, 0.003 / 25000])
        return
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.003, total_steps=num_updates, **settings)
    for update in range(num_updates):
        (group,) = optimizer.param_groups
        assert one_cycle(update, num_updates, 0.003, warmup) == group["lr"]
        assert one_cycle_momentum(update, num_updates, warmup) == group["betas"][0]
        optimizer.step()
        if update + 1 < num_updates:
            theirs.step()


def test_noam_rises_linearly_and_falls_with_the_square_root():
    """Vaswani et al. 2017, eq. 3: d**-0.5 * min(s**-0.5, s * w**-1.5), here scaled to a peak of 1."""
    size, warmup = 512, 40
    theirs = [size**-0.5 * min(s**-0.5, s * warmup**-1.5) for s in range(1, 301)]
    ours = [noam(update, warmup, max_lr=1.0) for update in range(300)]
    assert ours == pytest.approx([rate / max(theirs) for rate in theirs])
    assert ours[warmup - 1] == max(ours) == 1.0


def test_plateau_is_that_of_pytorch():
    metrics = [5.0, 4.0, 4.0, 4.5, 4.2, 3.9, 3.9, 3.9, 3.9, 3.9, 3.9, 3.9, math.nan, 3.0, 2.0, 2.1, 2.2, 2.3, 2.4]
    for patience in (0, 1, 2, 5):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, "min", 0.5, patience, threshold=0.0)
        for number, metric in enumerate(metrics, start=1):
            theirs.step(metric)
            assert 0.5 ** plateau_cuts(metrics[:number], patience) == optimizer.param_groups[0]["lr"]
    assert plateau_cuts(metrics, 2) == 4


def test_newbob_by_hand():
    """Threshold 1 %: 10 -> 9.95 starts the fall, 9.5 goes on, 9.45 is the end."""
    metrics = [20.0, 10.0, 9.95, 9.5, 8.0, 7.95]
    assert [newbob_cuts(metrics[:number], 0.01) for number in range(7)] == [0, 0, 0, 1, 2, 3, None]
    assert newbob_cuts([2.0, 3.0], 0.0) == 1  # worse
    assert newbob_cuts([2.0, 2.0], 0.0) == 0  # no improvement is not below a threshold of 0
    assert newbob_cuts([2.0, math.nan, math.nan], 0.0) is None


def rates(losses, pers, **settings):
    """The constant rate of each epoch, as far as the schedule goes."""
    config, found = TrainingConfig(max_lr=1.0, **settings), []
    for number in range(len(losses) + 1):
        schedule = epoch_schedule(config, 100, DevResults(losses[:number], pers[:number]))
        if schedule is None:
            break
        assert schedule.rate(0) == schedule.rate(99)
        assert schedule.momentum is None
        found.append(schedule.rate(0))
    return found


LOSSES = [9.0, 8.0, 8.0, 8.0, 8.0, 8.0]
PERS = [100.0, 100.0, 100.0, 90.0, 90.0, 90.0]


def test_plateau_and_newbob_follow_what_they_are_told_to():
    assert rates(LOSSES, PERS, schedule="plateau", lr_patience=1) == [1, 1, 1, 1, 0.5, 0.5, 0.25]
    assert rates(LOSSES, PERS, schedule="newbob", lr_factor=0.25) == [1, 1, 1, 0.25]
    assert rates(LOSSES, PERS, schedule="constant") == [1] * 7


def test_they_follow_per_when_they_are_told_to():
    assert rates(LOSSES, PERS, schedule="plateau", lr_patience=0, schedule_metric="per")[:4] == [1, 1, 0.5, 0.25]
    assert rates(LOSSES, PERS, schedule="newbob", schedule_metric="per") == [1, 1, 0.5]


def test_a_rate_below_the_lowest_ends_training():
    settings = {"schedule": "plateau", "lr_patience": 0}
    assert rates([1.0] * 6, PERS, min_lr=0.25, **settings) == [1, 1, 0.5, 0.25]
    assert rates([1.0] * 6, PERS, min_lr=0.26, **settings) == [1, 1, 0.5]


def test_rates_of_the_schedules_by_update():
    config = TrainingConfig(schedule="noam", max_lr=2.0, warmup=0.1)
    schedule = epoch_schedule(config, 50, DevResults([1.0], [50.0]))
    assert [schedule.rate(update) for update in (0, 4, 19)] == pytest.approx([0.4, 2.0, 1.0])
    schedule = epoch_schedule(TrainingConfig(max_lr=2.0, warmup=0.12), 50, DevResults([], []))
    assert schedule.rate(5) == one_cycle(5, 50, 2.0, 0.12)
    assert schedule.momentum(5) == one_cycle_momentum(5, 50, 0.12)


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"min_lr": 0.1}, "training.min_lr must be at most max_lr, found 0.1"),
        ({"pretrain_epochs": 43}, "training.pretrain_epochs must be below num_epochs, found 43"),
        ({"select": "ema"}, "training.select ema and ema_decay go together"),
        ({"ema_decay": 0.9}, "training.select ema and ema_decay go together"),
        ({"select": "average"}, "training.select average needs keep_best above 1"),
        ({"two_phase": True, "early_stopping": 2}, "training.two_phase needs early_stopping and weight_noise"),
        ({"bf16": True}, "training.bf16 is for device cuda or auto"),
    ],
)
def test_settings_that_do_not_fit_each_other_are_refused(settings, fault):
    with pytest.raises(ConfigError) as error:
        TrainingConfig(**settings)
    assert str(error.value).startswith(fault)
