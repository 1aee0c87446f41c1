"""Settings of a training run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Literal

from asrkit.config.ranges import (
    BelowOne,
    InsideUnit,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Range,
    Share,
    between,
    range_faults,
)
from asrkit.device import CPU, is_device_or_auto
from asrkit.errors import ConfigError, raise_if_any
from asrkit.training.codecs import CodecName
from asrkit.training.noise import NoiseName
from asrkit.training.selection import SELECTIONS, Selection, SelectName

_Warp = Annotated[float, between(0, 0.5)]
_LIMITS = {
    "noise_snr_db": (-math.inf, math.inf),
    "reverb_t60": (0.05, 3.0),
    "level_db": (-80.0, 20.0),
    "codec_kbps": (12.0, 128.0),
}


OptimizerName = Literal["adamw", "sgd"]
ScheduleName = Literal["one_cycle", "plateau", "newbob", "noam", "constant"]


@dataclass(frozen=True)
class AugmentConfig:
    """Augmentation of training utterances, drawn anew in every epoch.

    All kinds except cuts, pauses, joins and masks compute features from the audio again. Masks are applied to the
    complete features. With speeds [], and with 0 for `vtlp`, the shares and the masks, nothing changes. Raises
    ConfigError for impossible values.
    """

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)  # factors of tempo and pitch; each utterance gets one
    vtlp: _Warp = 0.1  # vocal tract length perturbation: factors from 1 - vtlp to 1 + vtlp
    nobody_prob: Share = 0.0  # share of utterances replaced by music, beats or wind, without phones
    noise_prob: Share = 0.0  # share of utterances with noise added to their samples
    noise_snr_db: tuple[float, ...] = (10.0, 30.0)  # lowest and highest signal-to-noise ratio of that noise in dB
    noises: tuple[NoiseName, ...] = ("white", "pink", "babble")  # each of these utterances gets one
    reverb_prob: Share = 0.0  # share of utterances with the reverberation of a room
    reverb_t60: tuple[float, ...] = (0.1, 0.8)  # its shortest and longest reverberation time in seconds
    level_prob: Share = 0.0  # share of utterances with another level
    level_db: tuple[float, ...] = (-40.0, 6.0)  # of the loudest sample, against full scale; above it, clipped
    codec_prob: Share = 0.0  # share of utterances that go through a codec
    codecs: tuple[CodecName, ...] = ("8khz", "telephone", "mulaw", "gsm", "opus", "mp3")  # each gets one
    codec_kbps: tuple[float, ...] = (12.0, 48.0)  # lowest and highest bit rate of opus and mp3
    cut_prob: Share = 0.0  # share of utterances whose quiet beginning and end are cut off
    pause_prob: Share = 0.0  # share of the others with pauses of 0.2 to 5 s added before and after
    join_prob: Share = 0.0  # share of utterances that come right after another one, as in a stream
    time_masks: NonNegativeInt = 2  # stretches of frames per utterance that are set to 0, the mean after CMVN
    time_mask_frames: PositiveInt = 20  # longest such stretch
    time_mask_share: Share = 0.2  # largest share of an utterance that all of them together can cover
    coefficient_masks: NonNegativeInt = 0  # groups per utterance of neighbouring coefficients set to 0, deltas too
    coefficient_mask_size: PositiveInt = 3  # largest such group

    def __post_init__(self) -> None:
        faults = range_faults(self, "training.augment")
        if bad := [speed for speed in self.speeds if not 0.5 <= speed <= 2]:
            faults.append(f"training.augment.speeds must be from 0.5 to 2, found {', '.join(map(str, bad))}")
        for name, (lowest, highest) in _LIMITS.items():
            values = getattr(self, name)
            if len(values) != 2 or not lowest <= values[0] <= values[1] <= highest:
                limits = f" from {lowest:g} to {highest:g}" if highest < math.inf else ""
                faults.append(f"training.augment.{name} must be two values, low and high{limits}, found {values}")
        for name in ("noises", "codecs"):
            if not getattr(self, name):
                faults.append(f"training.augment.{name} must name one or more, found none")
        raise_if_any(faults, ConfigError)


_NumViews = Annotated[int, Range("must be 1 or 2", lambda value: value in (1, 2))]
_Seed = Annotated[NonNegativeInt, Range("must be below 2**63", lambda value: value < 2**63)]
Device = Annotated[str, Range("must be auto, cpu, cuda or cuda:N", is_device_or_auto)]


@dataclass(frozen=True)
class TrainingConfig:
    """Optimizer, schedule, noise, and the choice of weights that are kept. Raises ConfigError for impossible values."""

    num_epochs: PositiveInt = 43  # at most; of each phase when there are two
    batch_size: PositiveInt = 8
    optimizer: OptimizerName = "adamw"
    momentum: BelowOne = 0.9  # sgd only
    weight_decay: NonNegative = 0.2
    schedule: ScheduleName = "one_cycle"
    max_lr: Positive = 4e-3  # highest rate of one_cycle and noam; first rate of the others
    warmup: InsideUnit = 0.05  # one_cycle and noam: share of all updates in which the rate rises
    schedule_metric: Literal["loss", "per"] = "loss"  # plateau and newbob: the dev figure that must fall
    lr_factor: InsideUnit = 0.5  # plateau and newbob: factor by which the rate falls
    lr_patience: NonNegativeInt = 2  # plateau: epochs without improvement before the rate falls
    newbob_threshold: NonNegative = 0.005  # newbob: relative improvement per epoch below which the rate starts to fall
    min_lr: NonNegative = 0.0  # plateau and newbob: training ends when the rate would fall below
    clip_norm: Positive | None = 5.0  # of all gradients together
    clip_value: Positive | None = None  # of each gradient separately
    bptt_steps: PositiveInt | None = None  # steps that gradients go back through recurrent states; none: all
    input_noise: NonNegative = 0.3  # standard deviation of Gaussian noise added to the features
    weight_noise: NonNegative = 0.0  # standard deviation of Gaussian noise on the weights, drawn for every update
    weight_drop: BelowOne = 0.0  # share of the recurrent weights left out of an update (DropConnect)
    two_phase: bool = False  # first without weight noise until early stopping, then with it from the best epoch on
    random_offset: bool = True  # vary the phase of frame skipping from utterance to utterance
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    num_views: _NumViews = (
        1  # 2: each utterance is twice in a batch, with different masks, noise and dropout; outputs should agree
    )
    frame_weight: BelowOne = 0.3  # head both: weight of the frame head's loss; CTC's loss has the rest
    pretrain_epochs: NonNegativeInt = 0  # head both: first epochs on the frame head's loss alone
    ctc_weight: Share = 0.3  # heads joint and joint_transducer: weight of CTC's loss; the decoder's loss has the rest
    label_smoothing: BelowOne = 0.1  # heads attention and joint: share of the target spread evenly over all classes
    sampling: BelowOne = 0.0  # the same heads: share of previous phones from the decoder's output; grows from 0 to this
    early_stopping: PositiveInt | None = (
        None  # end after so many epochs without a lower dev PER, once the blank phase is over
    )
    select: SelectName = "best"  # the epoch of lowest dev PER, the mean of the best, or EMA
    keep_best: PositiveInt = 1  # epochs of lowest dev PER whose weights are kept; `average` takes their mean
    ema_decay: BelowOne | None = None  # select ema only: factor of the exponential moving average, per update
    on_nonfinite: Literal["stop", "skip"] = "stop"  # if a loss or gradient is not finite: end, or leave out the batch
    checkpoint_minutes: Positive = 2.0  # time between checkpoints within an epoch; each epoch also ends with one
    shuffle_window: PositiveInt = 100_000  # sharded data only: utterances that are mixed at a time
    seed: _Seed = 1
    num_threads: PositiveInt = 1  # CPU threads
    utts_at_once: PositiveInt | None = None  # most that a process computes at a time of its share of a batch; none: all
    device: Device = CPU
    bf16: bool = False  # cuda only: autocast to bfloat16

    def __post_init__(self) -> None:
        raise_if_any([*range_faults(self, "training"), *self._contradictions()], ConfigError)

    def _contradictions(self) -> Iterator[str]:
        """Faults of settings that are valid each by itself, but not together."""
        if self.two_phase and not (self.early_stopping and self.weight_noise):
            yield "training.two_phase needs early_stopping and weight_noise; set both"
        if self.selection.evaluates_average != (self.ema_decay is not None):
            yield "training.select ema and ema_decay go together; set both, ema_decay to 0.999 for example"
        if self.selection.keeps_mean and self.keep_best == 1:
            yield f"training.select {self.select} needs keep_best above 1, found 1"
        if self.pretrain_epochs >= self.num_epochs >= 1:
            yield f"training.pretrain_epochs must be below num_epochs, found {self.pretrain_epochs}"
        if self.min_lr > self.max_lr > 0:
            yield f"training.min_lr must be at most max_lr, found {self.min_lr}"
        if self.bf16 and self.device == CPU:
            yield "training.bf16 is for device cuda or auto; found cpu"

    @property
    def selection(self) -> Selection:
        """The selection that `select` names."""
        return SELECTIONS[self.select]
