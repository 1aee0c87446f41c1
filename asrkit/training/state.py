"""The state of a training run and its checkpoints."""

from __future__ import annotations

import shutil
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import torch

from asrkit.config.plain_values import is_of_type
from asrkit.errors import ModelError, location
from asrkit.io.tell import tell
from asrkit.models.acoustic import AcousticModel
from asrkit.models.decoder import DecoderTraining
from asrkit.training import checkpoint
from asrkit.training.blank_phase import after_blank_phase
from asrkit.training.config import TrainingConfig
from asrkit.training.optim import make_optimizer, restore_optimizer
from asrkit.training.ranks import ALONE, Ranks
from asrkit.training.schedule import DevResults, EpochSchedule, epoch_schedule
from asrkit.training.step import LossSum
from asrkit.training.weights import BestEpochs, MovingAverage, start_ctc_from_frames

_OLD_MACHINE = {"processes": 0}  # of checkpoints that do not say it: without torchrun
GRADIENT_FILES = ("gradients.csv", "gradients.png")  # of a run that logs gradients


@dataclass(frozen=True)
class EpochRecord:
    """The results of one epoch.

    Attributes:
        epoch: from 1.
        phase: 0 for pre-training on the frame head's loss, 1 for training, 2 for training with weight noise (after
            phase 1 of two_phase).
        train_loss, dev_loss: nats per reference token; in pre-training, nats per labelled step.
        dev_per: per cent, by greedy decoding.
        blank_phase: whether greedy decoding of dev has little to do with the audio.
        learning_rate: that of the last update.
        gradient_norm: mean over the updates, before clipping.
        skipped_batches: batches left out because their loss or gradient was not finite.
        cpu_seconds: CPU time of training so far, without evaluation.
    """

    epoch: int
    phase: int
    train_loss: float
    dev_loss: float
    dev_per: float
    blank_phase: bool
    learning_rate: float
    gradient_norm: float
    skipped_batches: int
    cpu_seconds: float


@dataclass(frozen=True)
class LmEpoch:
    """The results of one epoch of a language model.

    Attributes:
        epoch: from 1.
        train_loss, dev_loss: nats per token; the end of each sentence counts as a token.
        dev_perplexity: of dev.
        learning_rate: that of the last update.
        gradient_norm: mean over the updates, before clipping.
        cpu_seconds: CPU time of training so far, without evaluation.
    """

    epoch: int
    train_loss: float
    dev_loss: float
    dev_perplexity: float
    learning_rate: float
    gradient_norm: float
    cpu_seconds: float


@dataclass
class EpochSums:
    """The sums of the current epoch so far.

    Attributes:
        num_batches: batches done, in the order of the epoch, with skipped ones.
        num_skipped: skipped batches.
        gradient_norm: sum over the updates.
        learning_rate: that of the last update.
    """

    num_batches: int = 0
    num_skipped: int = 0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0


def read_history(directory: Path, identity: str) -> list[EpochRecord]:
    """The epochs in a run's checkpoint. Raises ModelError if it is missing, damaged, or belongs to other inputs."""
    path = directory / "checkpoint.pt"
    try:
        return _read_records(_load(path, identity))
    except (LookupError, TypeError, ArithmeticError):
        raise ModelError(f"{location(path)}made by another version of asrkit; {checkpoint.START_ANEW}") from None


def _load(path: Path, identity: str) -> dict[str, Any]:
    saved = checkpoint.load(path, checkpoint.START_ANEW)
    if saved.get("identity") != identity:
        raise ModelError(
            f"{location(path)}belongs to a run with other settings or data; give another --out, or --force to start "
            "anew"
        )
    return saved


def _read_records(saved: dict[str, Any]) -> list[EpochRecord]:
    """Raises LookupError, TypeError or ArithmeticError if the checkpoint does not hold numbers there."""
    records = [EpochRecord(**record) for record in saved["history"]]
    for value in (value for record in records for value in astuple(record)):
        if not isinstance(value, (int, float)):
            raise TypeError("an epoch's figures are not numbers")
        float(value)  # OverflowError
    return records


class TrainingState:
    """Model, optimizer, averages and progress of a run in `directory`; `identity` identifies its inputs.

    Of several `ranks`, all read a checkpoint and have the same state. The first one writes.
    """

    optimizer: torch.optim.Optimizer
    average: MovingAverage | None
    sums: EpochSums
    loss: LossSum

    def __init__(
        self,
        model: AcousticModel,
        config: TrainingConfig,
        batches_per_epoch: int,
        directory: Path,
        identity: str,
        ranks: Ranks = ALONE,
    ):
        self.model = model
        self.ranks = ranks
        self.config = config
        self.batches_per_epoch = batches_per_epoch
        self.path = directory / "checkpoint.pt"
        self.identity = identity
        self.device = next(model.parameters()).device
        self.history: list[EpochRecord] = []
        self.best = BestEpochs(directory, config.keep_best, ranks.is_first)
        self.cpu_seconds = 0.0
        self.second_phase = False
        self.finished = False
        self._start_phase()
        if self.path.exists():
            self._restore()
        elif ranks.is_first:  # what an earlier run left would mix with ours
            shutil.rmtree(directory / "tensorboard", ignore_errors=True)
            for name in GRADIENT_FILES:
                (directory / name).unlink(missing_ok=True)
        self.best.tidy()

    @property
    def epoch(self) -> int:
        """The current epoch, from 1."""
        return len(self.history) + 1

    @property
    def phase(self) -> int:
        """The phase of the current epoch, as in EpochRecord."""
        return 2 if self.second_phase else int(self.epoch > self.config.pretrain_epochs)

    @property
    def last_epoch(self) -> int:
        """The last possible epoch of this phase."""
        return self._phase_start + self.config.num_epochs

    @property
    def num_updates(self) -> int:
        """The number of updates of this phase, unless it ends early."""
        return self.batches_per_epoch * self.config.num_epochs

    @property
    def update(self) -> int:
        """Index of the next update in this phase. Skipped batches count."""
        return (len(self.history) - self._phase_start) * self.batches_per_epoch + self.sums.num_batches

    @property
    def frame_weight(self) -> float:
        """The weight of the frame head's loss in the current epoch."""
        return self.model.config.heads.frame_weight(self.config.frame_weight, is_pretraining=self.phase == 0)

    @property
    def decoder_training(self) -> DecoderTraining:
        """Settings of the decoder's training in the current epoch.

        The share of its own phones grows from epoch to epoch.
        """
        done, last = len(self.history) - self._phase_start, max(self.config.num_epochs - 1, 1)
        weight = self.model.config.heads.decoder_weight(self.config.ctc_weight)
        return DecoderTraining(weight, self.config.label_smoothing, self.config.sampling * done / last)

    def mean_loss(self, loss: LossSum) -> float:
        """The loss that training lowers, with the weights of the current epoch."""
        return float(loss.mean(self.frame_weight, self.decoder_training.weight))

    @property
    def weight_noise(self) -> float:
        """The standard deviation of the noise on weights, in the current epoch."""
        return self.config.weight_noise if self.phase == 2 or not self.config.two_phase else 0.0

    @property
    def num_blank_epochs(self) -> int:
        """The length of the blank phase so far, in epochs; 0 once it is over."""
        records = self._counted()
        return 0 if after_blank_phase(records) else len(records)

    def schedule(self) -> EpochSchedule | None:
        """The learning rates of the current epoch; None if the schedule ends the training."""
        records = self._counted()
        pers = [record.dev_per for record in after_blank_phase(records)]
        dev = DevResults([record.dev_loss for record in records], pers)
        return epoch_schedule(self.config, self.num_updates, dev)

    def evaluated_weights(self) -> AbstractContextManager[None]:
        """Within the block, the model has the weights that are evaluated and kept: its own, or their average."""
        return self.average.in_place(self.model) if self.average else nullcontext()

    def end_epoch(self, record: EpochRecord) -> None:
        """Note a finished epoch, decide what comes next, and make a checkpoint.

        The model must have its own weights again, not those that were evaluated.
        """
        self.history.append(record)
        if record.phase > 0:
            self._offer(record)
        if record.epoch == self.config.pretrain_epochs:
            start_ctc_from_frames(self.model)
            with self.evaluated_weights():  # repeats the same, unless there is an average
                start_ctc_from_frames(self.model)
        self.sums, self.loss = EpochSums(), LossSum()
        if self._is_over():
            if self.config.two_phase and not self.second_phase:
                self.second_phase = True
                self.load_best()
                self._start_phase()
            else:
                self.finished = True
        self.save()
        self.best.tidy()

    def _offer(self, record: EpochRecord) -> None:
        """Compare the last epoch with the best ones: in the blank phase by dev loss, after it by dev PER."""
        listening = after_blank_phase(each for each in self.history if each.phase > 0)
        if listening == [record]:  # the first epoch after the blank phase: earlier epochs no longer count
            self.best.ranking = []
        with self.evaluated_weights():
            self.best.offer(record.dev_per if listening else record.dev_loss, record.epoch, self.model)

    def load_best(self) -> None:
        """Load the weights of the best epoch into the model."""
        if self.ranks.is_first:
            self.model.load_state_dict(self.best.weights(self.best.ranking[0][1], self.model))
        self.ranks.spread_weights(self.model)

    def save(self) -> None:
        """Make a checkpoint. A resumed run continues after the batches that are done."""
        if not self.ranks.is_first:
            return
        content = {
            "identity": self.identity,
            **self._machine,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.state_dict() if self.average else None,
            "ranking": self.best.ranking,
            "history": [asdict(record) for record in self.history],
            "sums": asdict(self.sums),
            "loss": asdict(self.loss),
            "cpu_seconds": self.cpu_seconds,
            "second_phase": self.second_phase,
            "phase_start": self._phase_start,
            "finished": self.finished,
        }
        checkpoint.save(self.path, content)

    @property
    def _machine(self) -> dict[str, Any]:
        """Settings on which the last digits of the weights, or random draws, depend.

        They are stored to report a change.
        """
        processes = self.ranks.size if self.ranks.is_job else 0
        return {"num_threads": self.config.num_threads, "processes": processes, "device": self.device.type}

    def _restore(self) -> None:
        saved = _load(self.path, self.identity)
        try:
            self._take(saved)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError):
            raise ModelError(
                f"{location(self.path)}made by another version of asrkit; go on with that, or --force to start anew"
            ) from None
        batches = f" and {self.sums.num_batches} batches" if self.sums.num_batches else ""
        tell(f"resuming after epoch {len(self.history)}{batches} of {self.last_epoch}")
        before = {**_OLD_MACHINE, **saved}
        now = self._machine.items()
        if changed := [f"{name} {value}, was {before[name]}" for name, value in now if before[name] != value]:
            print(f"warning: {'; '.join(changed)}: weights may differ from an uninterrupted run's", file=sys.stderr)

    def _take(self, saved: dict[str, Any]) -> None:
        """Restore a checkpoint. Raises ModelError or one of Python's errors for a file that `save` did not write."""
        weights = checkpoint.fitting_weights(saved["model"], self.model, self.path, checkpoint.START_ANEW)
        self.model.load_state_dict(weights)
        restore_optimizer(self.optimizer, saved["optimizer"])
        if self.average:
            self.average.load_state_dict(saved["average"])
        self.best.ranking = [(float(value), int(epoch)) for value, epoch in saved["ranking"]]
        self.history = _read_records(saved)
        self.sums, self.loss = EpochSums(**saved["sums"]), LossSum(**saved["loss"])
        for numbers in (asdict(self.sums), asdict(self.loss)):
            float(sum(numbers.values()))  # TypeError where there is anything else
        self.cpu_seconds = float(saved["cpu_seconds"])
        self.second_phase, self._phase_start = bool(saved["second_phase"]), int(saved["phase_start"])
        self.finished = bool(saved["finished"])
        self._expect_possible()
        if not all(is_of_type({**_OLD_MACHINE, **saved}[name], type(value)) for name, value in self._machine.items()):
            raise TypeError("expected numbers of threads and processes, and the name of a device")

    def _expect_possible(self) -> None:
        """Raise ValueError for a state that no training can have."""
        places = [(self.sums.num_batches, self.batches_per_epoch), (self._phase_start, self.epoch)]
        places += [(epoch - 1, len(self.history)) for _, epoch in self.best.ranking]
        if not all(is_of_type(place, int) and 0 <= place < size for place, size in places):
            raise ValueError("no such batch or epoch")
        if self.finished != self._is_over() or (self.finished and not self.best.ranking):
            raise ValueError("a training that should have ended, or should not")

    def _start_phase(self) -> None:
        """Begin a phase, with a new optimizer, schedule and average."""
        self._phase_start = len(self.history)
        self.optimizer = make_optimizer(self.model, self.config)
        decay = self.config.ema_decay  # set if the average is evaluated and kept
        self.average = None if decay is None else MovingAverage(self.model, decay)
        self.sums, self.loss = EpochSums(), LossSum()

    def _counted(self) -> list[EpochRecord]:
        """The epochs of the phase without pre-training, whose dev figures are those of another loss."""
        return [record for record in self.history[self._phase_start :] if record.phase > 0]

    def _is_over(self) -> bool:
        """Whether the phase has had its last epoch."""
        return self.epoch > self.last_epoch or self.schedule() is None or self._has_stopped_improving()

    def _has_stopped_improving(self) -> bool:
        """Whether the last `early_stopping` epochs since the end of the blank phase did not lower dev PER."""
        pers = [record.dev_per for record in after_blank_phase(self._counted())]
        if self.config.early_stopping is None or not pers:
            return False
        return len(pers) - 1 - pers.index(min(pers)) >= self.config.early_stopping
