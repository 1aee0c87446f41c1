"""Settings of a training run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from asrkit.errors import ConfigError, raise_if_any


@dataclass(frozen=True)
class AugmentConfig:
    """What training utterances go through, each drawn anew in every epoch. The default is nothing.

    `speeds` and `vtlp` compute features from the audio again; masks are laid over full features.
    """

    speeds: tuple[float, ...] = ()  # factors of tempo and pitch, one drawn an utterance: 0.9, 1.0, 1.1
    vtlp: float = 0.0  # vocal tract length perturbation: warp factors from 1 - vtlp to 1 + vtlp
    noise_prob: float = 0.0  # share of utterances that get noise added to their samples
    noise_snr_db: tuple[float, ...] = (10.0, 30.0)  # lowest and highest signal-to-noise ratio of that noise
    time_masks: int = 0  # stretches of frames set to 0, the mean after CMVN, an utterance
    time_mask_frames: int = 20  # longest such stretch
    time_mask_share: float = 0.2  # most of an utterance that all of them together may cover
    coefficient_masks: int = 0  # groups of neighbouring coefficients set to 0 with their deltas, an utterance
    coefficient_mask_size: int = 3  # largest such group

    def __post_init__(self) -> None:
        faults = [
            f"training.augment.{name} must not be negative, found {value}"
            for name in ("time_masks", "coefficient_masks")
            if (value := getattr(self, name)) < 0
        ]
        faults += [
            f"training.augment.{name} must be at least 1, found {value}"
            for name in ("time_mask_frames", "coefficient_mask_size")
            if (value := getattr(self, name)) < 1
        ]
        faults += [
            f"training.augment.{name} must be from 0 to 1, found {value}"
            for name in ("noise_prob", "time_mask_share")
            if not 0 <= (value := getattr(self, name)) <= 1
        ]
        if not 0 <= self.vtlp <= 0.5:
            faults.append(f"training.augment.vtlp must be from 0 to 0.5, found {self.vtlp}")
        if bad := [speed for speed in self.speeds if not 0.5 <= speed <= 2]:
            faults.append(f"training.augment.speeds must be from 0.5 to 2, found {', '.join(map(str, bad))}")
        if len(self.noise_snr_db) != 2 or self.noise_snr_db[0] > self.noise_snr_db[-1]:
            faults.append(f"training.augment.noise_snr_db must be two values, low and high, found {self.noise_snr_db}")
        raise_if_any(faults, ConfigError)


@dataclass(frozen=True)
class TrainingConfig:
    """Optimiser, schedule, noise, and which weights of a run are kept."""

    num_epochs: int = 17  # at most; of each phase when there are two
    batch_size: int = 8
    optimizer: Literal["adamw", "sgd"] = "adamw"
    momentum: float = 0.9  # sgd only
    weight_decay: float = 0.01
    schedule: Literal["one_cycle", "plateau", "newbob", "noam", "constant"] = "one_cycle"
    max_lr: float = 3e-3  # highest rate of one_cycle and noam; first rate of the others
    warmup: float = 0.12  # one_cycle and noam: share of all updates in which the rate rises
    schedule_metric: Literal["loss", "per"] = "loss"  # plateau and newbob: what of dev has to fall
    lr_factor: float = 0.5  # plateau and newbob: what the rate is multiplied by
    lr_patience: int = 2  # plateau: epochs without improvement that are put up with
    newbob_threshold: float = 0.005  # newbob: relative improvement an epoch below which the rate starts to fall
    min_lr: float = 0.0  # plateau and newbob: training ends when the rate would fall below
    clip_norm: float | None = 5.0  # of all gradients together
    clip_value: float | None = None  # of each gradient by itself
    input_noise: float = 0.3  # standard deviation of Gaussian noise added to the features
    weight_noise: float = 0.0  # standard deviation of Gaussian noise on the weights, drawn for every update
    weight_drop: float = 0.0  # share of the recurrent weights left out of an update (DropConnect)
    two_phase: bool = False  # without weight noise until early stopping, then on from the best epoch with it
    random_offset: bool = True  # vary the phase of frame skipping from utterance to utterance
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    num_views: int = 1  # 2: each utterance twice in a batch, with other masks, noise and dropout, to come out alike
    frame_weight: float = 0.3  # head both: weight of the frames' loss, below 1; CTC's has the rest
    pretrain_epochs: int = 0  # head both: first epochs on the frames' loss alone
    early_stopping: int | None = None  # end after so many epochs without a lower dev PER, once it is below 100 %
    select: Literal["best", "average", "ema"] = "best"  # the epoch of lowest dev PER, the mean of the best, or EMA
    keep_best: int = 1  # epochs of lowest dev PER whose weights are kept; `average` takes their mean
    ema_decay: float | None = None  # select ema only: factor of the exponential moving average, an update
    on_nonfinite: Literal["stop", "skip"] = "stop"  # a loss or gradient that is not finite: end, or leave the batch out
    checkpoint_minutes: float = 2.0  # a checkpoint within an epoch after so much time, besides one after each
    seed: int = 1
    num_threads: int = 1  # CPU threads
    device: Literal["auto", "cpu", "cuda"] = "cpu"
    bf16: bool = False  # cuda only: autocast to bfloat16

    def __post_init__(self) -> None:
        faults = [
            f"training.{name} must be at least 1, found {value}"
            for name in ("num_epochs", "batch_size", "num_threads", "keep_best")
            if (value := getattr(self, name)) < 1
        ]
        faults += [
            f"training.{name} must be above 0, found {value}"
            for name in ("max_lr", "clip_norm", "clip_value", "checkpoint_minutes")
            if (value := getattr(self, name)) is not None and value <= 0
        ]
        not_negative = ("weight_decay", "input_noise", "weight_noise", "seed", "lr_patience", "newbob_threshold")
        faults += [
            f"training.{name} must not be negative, found {value}"
            for name in (*not_negative, "min_lr", "pretrain_epochs")
            if (value := getattr(self, name)) < 0
        ]
        faults += [
            f"training.{name} must be in [0, 1), found {value}"
            for name in ("momentum", "weight_drop", "ema_decay")
            if (value := getattr(self, name)) is not None and not 0 <= value < 1
        ]
        if self.num_views not in (1, 2):
            faults.append(f"training.num_views must be 1 or 2, found {self.num_views}")
        if self.seed >= 2**63:
            faults.append(f"training.seed must be below 2**63, found {self.seed}")
        for name in ("warmup", "lr_factor"):
            if not 0 < (value := getattr(self, name)) < 1:
                faults.append(f"training.{name} must be between 0 and 1, found {value}")
        if not 0 <= self.frame_weight < 1:
            faults.append(f"training.frame_weight must be in [0, 1), found {self.frame_weight}")
        if self.early_stopping is not None and self.early_stopping < 1:
            faults.append(f"training.early_stopping must be at least 1, found {self.early_stopping}")
        if self.two_phase and not (self.early_stopping and self.weight_noise):
            faults.append("training.two_phase needs early_stopping and weight_noise; set both")
        if (self.select == "ema") != (self.ema_decay is not None):
            faults.append("training.select ema and ema_decay go together; set both, ema_decay to 0.999 for example")
        if self.select == "average" and self.keep_best == 1:
            faults.append("training.select average needs keep_best above 1, found 1")
        if self.pretrain_epochs >= self.num_epochs >= 1:
            faults.append(f"training.pretrain_epochs must be below num_epochs, found {self.pretrain_epochs}")
        if self.min_lr > self.max_lr > 0:
            faults.append(f"training.min_lr must be at most max_lr, found {self.min_lr}")
        if self.bf16 and self.device == "cpu":
            faults.append("training.bf16 is for device cuda or auto; found cpu")
        raise_if_any(faults, ConfigError)
