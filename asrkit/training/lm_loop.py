"""The training of a neural language model. It can be killed at any time and resumed.

A batch of sentences is read in pieces. Each piece begins with the states at the end of the piece before, and is one
update: truncated back-propagation through time (Williams and Peng 1990; Mikolov et al. 2010).

Legend: N sentences, T tokens of a piece, V classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from asrkit.device import choose_device
from asrkit.errors import ModelError, location
from asrkit.io.tell import tell
from asrkit.models.language import LanguageModel
from asrkit.models.language_config import END
from asrkit.parallel import progress_stream
from asrkit.training import checkpoint
from asrkit.training.lm_config import LmTrainingConfig
from asrkit.training.memory import keep_freed_memory
from asrkit.training.monitor import write_history
from asrkit.training.optim import clip_gradients, make_optimizer, restore_optimizer, set_rate
from asrkit.training.schedule import DevResults, EpochSchedule, epoch_schedule
from asrkit.training.state import LmEpoch
from asrkit.training.weights import BestEpochs

Sentence = Sequence[int]  # classes, from 1
_POOL = 16  # batches whose sentences are sorted by length, so that there is little padding
_AT_ONCE = 64  # sentences of dev that are computed at once


@dataclass
class _Sums:
    """The sums of the current epoch so far."""

    num_batches: int = 0
    num_updates: int = 0
    num_tokens: int = 0
    loss: float = 0.0
    gradient_norm: float = 0.0
    learning_rate: float = 0.0


@dataclass(frozen=True)
class LmText:
    """The sentences to train on, and those by which the best weights are chosen, as classes."""

    train: Sequence[Sentence]
    dev: Sequence[Sentence]


class LmTraining:
    """Model, optimizer and progress of a run in `directory`. `identity` identifies its inputs.

    The random numbers of a batch depend only on the seed, the epoch and the number of the batch. So a resumed run ends
    with exactly the weights of an uninterrupted one.
    """

    def __init__(self, model: LanguageModel, config: LmTrainingConfig, text: LmText, directory: Path, identity: str):
        """Continue from the checkpoint in `directory`, if there is one.

        Raises ModelError if it belongs to another run, and ConfigError if there is no such device.
        """
        torch.set_num_threads(config.num_threads)
        keep_freed_memory()
        model.to(choose_device(config.device))
        self.model, self.config, self.text, self.identity = model, config, text, identity
        self.directory, self.path = directory, directory / "checkpoint.pt"
        self._general = config.general()
        self._optimizer = make_optimizer(model, self._general)
        self.best = BestEpochs(directory, 1)
        self.history: list[LmEpoch] = []
        self._sums, self._cpu_seconds = _Sums(), 0.0
        self._batches_per_epoch = math.ceil(len(text.train) / config.batch_size)
        if self.path.exists():
            self._restore()
        self.best.tidy()

    def run(self, sample: Callable[[LanguageModel], str]) -> LmEpoch:
        """Train to the end. The model is then on the CPU, with the weights of lowest dev perplexity.

        Returns the epoch of these weights. After each epoch, a line with the result of `sample` for the model is
        printed. Raises ModelError for a loss that is not finite.
        """
        while (schedule := self._schedule()) is not None:
            self._train_epoch(schedule)
            dev_loss = evaluate(self.model, self.text.dev)
            sums, number = self._sums, len(self.history) + 1
            record = LmEpoch(
                number,
                sums.loss / sums.num_tokens,
                dev_loss,
                math.exp(min(dev_loss, 700.0)),
                sums.learning_rate,
                sums.gradient_norm / sums.num_updates,
                self._cpu_seconds,
            )
            tell(
                f"epoch {number}/{self.config.num_epochs}: perplexity {math.exp(min(record.train_loss, 700.0)):.2f}, "
                f"dev perplexity {record.dev_perplexity:.2f}, {record.cpu_seconds:.0f} CPU seconds; "
                f"a sample: {sample(self.model)}"
            )
            self.history.append(record)
            write_history(self.directory / "history.csv", self.history)
            self.best.offer(dev_loss, number, self.model)
            self._sums = _Sums()
            self._save()
            self.best.tidy()
        epoch = self.best.ranking[0][1]
        self.model.cpu().load_state_dict(self.best.weights(epoch, self.model))
        return self.history[epoch - 1]

    def _schedule(self) -> EpochSchedule | None:
        """The learning rates of the next epoch; None at the end of training."""
        losses, patience = [record.dev_loss for record in self.history], self.config.early_stopping
        waited = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        if len(losses) == self.config.num_epochs or (patience is not None and waited >= patience):
            return None
        num_updates = self._batches_per_epoch * self.config.num_epochs
        return epoch_schedule(self._general, num_updates, DevResults(losses, []))

    def _train_epoch(self, schedule: EpochSchedule) -> None:
        """Train on the rest of the epoch's batches."""
        seed, epoch, sums = self.config.seed, len(self.history) + 1, self._sums
        rng = np.random.default_rng((seed, epoch))
        plan = plan_batches([len(each) for each in self.text.train], self.config.batch_size, rng)
        saved, mark = time.monotonic(), time.process_time()
        self.model.train()
        progress = tqdm(
            plan[sums.num_batches :],
            f"epoch {epoch}/{self.config.num_epochs}",
            initial=sums.num_batches,
            total=len(plan),
            leave=False,
            disable=None,
            file=progress_stream(),
            unit="batch",
        )
        for members in progress:
            done = len(self.history) * len(plan) + sums.num_batches
            sums.learning_rate = schedule.rate(done)
            momentum = None if schedule.momentum is None else schedule.momentum(done)
            set_rate(self._optimizer, sums.learning_rate, momentum)
            number = sums.num_batches + 1  # from 1: NumPy takes (seed, epoch, 0) for (seed, epoch)
            torch.manual_seed(int(np.random.default_rng((seed, epoch, number)).integers(2**63)))
            self._train_batch([self.text.train[index] for index in members])
            sums.num_batches += 1
            progress.set_postfix_str(f"perplexity {math.exp(min(sums.loss / sums.num_tokens, 700.0)):.2f}", False)
            if time.monotonic() - saved > 60 * self.config.checkpoint_minutes and sums.num_batches < len(plan):
                self._cpu_seconds += time.process_time() - mark
                self._save()
                saved, mark = time.monotonic(), time.process_time()
        self._cpu_seconds += time.process_time() - mark

    def _train_batch(self, sentences: Sequence[Sentence]) -> None:
        """Make an update for each piece of the sentences."""
        sums, states = self._sums, self.model.first_states(len(sentences))
        for inputs, targets, is_there in pieces(sentences, self.config.bptt_steps, _device_of(self.model)):
            log_probs, states = self.model(inputs, states)
            loss = -log_probs.gather(2, targets[:, :, None])[:, :, 0][is_there].sum()
            num_tokens = int(is_there.sum())
            self.model.zero_grad(set_to_none=True)
            (loss / num_tokens).backward()
            norm = clip_gradients(self.model, self._general)
            if not (math.isfinite(loss.item()) and math.isfinite(norm)):
                raise ModelError(
                    f"epoch {len(self.history) + 1}, batch {sums.num_batches + 1}: loss is {loss.item():.4g}, norm of "
                    f"the gradient is {norm:.4g}; lower training.max_lr"
                )
            self._optimizer.step()
            sums.loss += loss.item()
            sums.num_tokens += num_tokens
            sums.gradient_norm += norm
            sums.num_updates += 1

    def _save(self) -> None:
        content = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "ranking": self.best.ranking,
            "history": [asdict(record) for record in self.history],
            "sums": asdict(self._sums),
            "cpu_seconds": self._cpu_seconds,
        }
        checkpoint.save(self.path, content)

    def _restore(self) -> None:
        saved = checkpoint.load(self.path, checkpoint.START_ANEW)
        if saved.get("identity") != self.identity:
            raise ModelError(
                f"{location(self.path)}belongs to a run with other settings or data; give another --out, or --force to "
                "start anew"
            )
        weights = checkpoint.fitting_weights(saved.get("model"), self.model, self.path, checkpoint.START_ANEW)
        try:
            self._take(saved)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError):
            raise ModelError(
                f"{location(self.path)}made by another version of asrkit; {checkpoint.START_ANEW}"
            ) from None
        self.model.load_state_dict(weights)
        batches = f" and {self._sums.num_batches} batches" if self._sums.num_batches else ""
        tell(f"resuming after epoch {len(self.history)}{batches} of {self.config.num_epochs}")

    def _take(self, saved: dict[str, Any]) -> None:
        restore_optimizer(self._optimizer, saved["optimizer"])
        self.best.ranking = [(float(value), int(epoch)) for value, epoch in saved["ranking"]]
        self.history = [LmEpoch(**record) for record in saved["history"]]
        self._sums, self._cpu_seconds = _Sums(**saved["sums"]), float(saved["cpu_seconds"])
        numbers = [*astuple(self._sums), *(value for record in self.history for value in astuple(record))]
        if not all(isinstance(number, int | float) for number in numbers):
            raise TypeError("an epoch's figures are not numbers")
        places = [(self._sums.num_batches, self._batches_per_epoch)]
        places += [(epoch - 1, len(self.history)) for _, epoch in self.best.ranking]
        if not all(0 <= place < size for place, size in places) or bool(self.history) != bool(self.best.ranking):
            raise ValueError("no such batch or epoch")


def plan_batches(lens: Sequence[int], batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """The indices (n,) of the sentences of each batch, which have similar lengths. The batches are in random order.

    At most one batch has fewer than `batch_size` sentences.
    """
    order = rng.permutation(len(lens))
    pool, batches = _POOL * batch_size, []
    for start in range(0, len(order), pool):
        some = order[start : start + pool]
        some = some[np.argsort(np.array(lens)[some], kind="stable")]
        batches += [some[first : first + batch_size] for first in range(0, len(some), batch_size)]
    return [batches[number] for number in rng.permutation(len(batches))]


def pieces(
    sentences: Sequence[Sentence], num_steps: int, device: torch.device | None = None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Inputs, targets and a mask (N, T) for each piece of at most `num_steps` tokens, from the beginning on.

    The inputs of a sentence are END and its tokens; the targets are its tokens and END. The mask is False in padding.
    They are made on the CPU and moved to `device`.
    """
    length = max(map(len, sentences)) + 1
    padded = torch.full((len(sentences), length + 1), END)
    for row, sentence in zip(padded, sentences, strict=True):
        row[1 : len(sentence) + 1] = torch.as_tensor(sentence, dtype=torch.long)
    is_there = torch.arange(length) <= torch.tensor([len(sentence) for sentence in sentences])[:, None]
    for start in range(0, length, num_steps):
        part = slice(start, start + num_steps)
        yield (
            padded[:, :-1][:, part].to(device),
            padded[:, 1:][:, part].to(device),
            is_there[:, part].to(device),
        )


def _device_of(model: LanguageModel) -> torch.device:
    return model.output.weight.device


@torch.no_grad()
def evaluate(model: LanguageModel, sentences: Sequence[Sentence]) -> float:
    """The loss in nats per token; the end of each sentence counts as a token."""
    model.eval()
    total, number = 0.0, 0
    order = sorted(range(len(sentences)), key=lambda index: len(sentences[index]))
    for start in range(0, len(order), _AT_ONCE):
        batch = [sentences[index] for index in order[start : start + _AT_ONCE]]
        ((inputs, targets, is_there),) = pieces(batch, max(map(len, batch)) + 1, _device_of(model))
        log_probs, _ = model(inputs, model.first_states(len(batch)))
        found = log_probs.gather(2, targets[:, :, None])[:, :, 0][is_there]
        total, number = total - float(found.double().sum()), number + len(found)
    return total / number
