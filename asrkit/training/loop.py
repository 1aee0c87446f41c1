"""The training loop: reads from top to bottom, and can be killed at any time and resumed.

Legend: N utterances, T frames, D feature dim, T' steps, V output classes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from asrkit.decoding.greedy import greedy_search
from asrkit.errors import ConfigError, ModelError
from asrkit.lang.tokens import TokenTable
from asrkit.models.batching import Batch
from asrkit.scoring.per import score
from asrkit.training.config import TrainingConfig
from asrkit.training.dataset import TrainingSet
from asrkit.training.memory import keep_freed_memory
from asrkit.training.monitor import Monitor
from asrkit.training.optim import clip_gradients, set_rate
from asrkit.training.parallel_step import compute_gradients_in_threads
from asrkit.training.schedule import one_cycle_momentum
from asrkit.training.state import EpochRecord, TrainingState
from asrkit.training.step import LossSum, compute_gradients, ctc_losses, frame_loss, weight_drop, weight_noise
from asrkit.training.weights import average


@dataclass(frozen=True)
class TrainingResult:
    """The epochs of a run, and the dev PER (per cent, greedy) of the weights that were kept."""

    history: list[EpochRecord]
    dev_per: float


def train(
    model: nn.Module,
    config: TrainingConfig,
    train_set: TrainingSet,
    dev_set: TrainingSet,
    tokens: TokenTable,
    directory: Path,
    identity: str,
) -> TrainingResult:
    """Train `model` in place, leaving it with the weights that `config.select` asks for.

    Checkpoints in `directory` are made after each epoch and every `config.checkpoint_minutes` within one; when one
    made under the same `identity` (whatever fixes the run's inputs) is there, training goes on from it. The random
    numbers of a batch depend on the seed, the epoch and the batch's number alone, so that on a CPU a resumed run ends
    with bitwise the weights of an uninterrupted one.

    Raises:
        ModelError: a loss or gradient is not finite (the batch's utterances are named), or the checkpoint is another
            run's.
        ConfigError: the device is not there.
    """
    device = choose_device(config.device)
    # On a CPU a whole step's work is shared out; operators that did it again would wait for each other.
    torch.set_num_threads(1 if device.type == "cpu" else config.num_threads)
    keep_freed_memory()
    model.to(device)
    batches_per_epoch = math.ceil(len(train_set) / config.batch_size)
    state = TrainingState(model, config, batches_per_epoch, directory, identity)
    monitor = Monitor(directory, state.epoch)
    started, first_epoch = time.monotonic(), state.epoch
    while not state.finished:
        utts_per_second = train_epoch(state, train_set)
        with state.evaluated_weights():
            dev_loss, dev_per = evaluate(model, dev_set, tokens, on_frames=state.phase == 0)
        record = _epoch_record(state, dev_loss, dev_per)
        left = (time.monotonic() - started) / (state.epoch - first_epoch + 1) * (state.last_epoch - state.epoch)
        monitor.show([*state.history, record], utts_per_second, left, state.last_epoch)
        state.end_epoch(record)  # last: what a kill before it leaves undone is done again
    monitor.close(state.history)

    epochs = [epoch for _, epoch in state.best.ranking]
    if config.select != "average":
        model.load_state_dict(state.best.weights(epochs[0]))
        return TrainingResult(state.history, state.best.ranking[0][0])
    model.load_state_dict(average([state.best.weights(epoch) for epoch in epochs]))
    _, dev_per = evaluate(model, dev_set, tokens)
    return TrainingResult(state.history, dev_per)


def train_epoch(state: TrainingState, train_set: TrainingSet) -> float:
    """Train on the batches of the epoch that are not done yet. Returns: utterances a second.

    Raises ModelError for a loss or gradient that is not finite, unless such batches are to be skipped and others
    were not, and when no step has the phone that the frames' loss needs.
    """
    model, config, sums = state.model, state.config, state.sums
    learning_rate = state.schedule()
    frame_weight = _frame_weight(state)
    noise = config.weight_noise if state.phase == 2 or not config.two_phase else 0.0
    last_per = f", dev PER {state.history[-1].dev_per:.2f} %" if state.history else ""
    progress = tqdm(
        load_batches(state, train_set),
        f"epoch {state.epoch}/{state.last_epoch}",
        state.batches_per_epoch,
        initial=sums.num_batches,
        leave=False,
        disable=None,
        unit="batch",
    )
    model.train()
    num_utts, started, saved, cpu_mark = 0, time.monotonic(), time.monotonic(), time.process_time()
    for batch, rng in progress:
        torch.manual_seed(int(rng.integers(2**63)))
        batch = replace(batch, feats=batch.feats + config.input_noise * torch.randn_like(batch.feats))
        offsets = _offsets(model, batch, config, rng)
        with weight_noise(model, noise), weight_drop(model, config.weight_drop):
            if state.device.type == "cpu" and config.num_threads > 1:
                loss = compute_gradients_in_threads(model, batch, offsets, frame_weight, config.num_threads)
            else:
                loss = compute_gradients(
                    model, batch, offsets, frame_weight, config.bf16 and state.device.type == "cuda"
                )
        norm = clip_gradients(model, config)
        if math.isfinite(loss.mean(frame_weight)) and math.isfinite(norm):
            sums.learning_rate = learning_rate(state.update)
            momentum = None
            if config.schedule == "one_cycle":
                momentum = one_cycle_momentum(state.update, state.num_updates, config.warmup)
            set_rate(state.optimizer, sums.learning_rate, momentum)
            state.optimizer.step()
            if state.average:
                state.average.update(model)
            state.loss.add(loss)
            sums.gradient_norm += norm
        else:
            _skip_or_stop(state, batch, loss.mean(frame_weight), norm)
        sums.num_batches += 1
        num_utts += len(batch.utt_ids) // batch.num_views
        progress.set_postfix_str(f"loss {state.loss.mean(frame_weight):.3f}{last_per}", refresh=False)
        if time.monotonic() - saved > 60 * config.checkpoint_minutes and sums.num_batches < state.batches_per_epoch:
            state.cpu_seconds += time.process_time() - cpu_mark
            state.save()
            saved, cpu_mark = time.monotonic(), time.process_time()
    state.cpu_seconds += time.process_time() - cpu_mark
    if sums.num_skipped == sums.num_batches:
        raise ModelError(
            f"epoch {state.epoch}: no batch has a finite loss and gradient; lower training.max_lr or look at the "
            "features of the training set"
        )
    if frame_weight > 0 and state.loss.num_labels == 0:
        raise ModelError(
            f"epoch {state.epoch}: no step has a phone; phones.ctm of the training set must have its utterances and "
            "the phones of the token table"
        )
    return num_utts / (time.monotonic() - started)


def load_batches(state: TrainingState, train_set: TrainingSet) -> Iterator[tuple[Batch, np.random.Generator]]:
    """The batches of the epoch that are not done yet, each with the generator of its random numbers."""
    seed, epoch, done = state.config.seed, state.epoch, state.sums.num_batches
    plan = train_set.batches(state.config.batch_size, np.random.default_rng((seed, epoch)))

    def load() -> Iterator[tuple[Batch, np.random.Generator]]:
        for number in range(done + 1, len(plan) + 1):  # from 1: NumPy takes (seed, epoch, 0) for (seed, epoch)
            rng = np.random.default_rng((seed, epoch, number))
            yield _to_device(train_set.load(plan[number - 1], rng, state.config.num_views), state.device), rng

    return load() if state.device.type == "cpu" else _one_ahead(load())


@torch.inference_mode()
def evaluate(model: nn.Module, data: TrainingSet, tokens: TokenTable, on_frames: bool = False) -> tuple[float, float]:
    """Loss and greedy PER (per cent, over all utterances) of the model's CTC head.

    The loss is in nats a token, over the utterances that CTC can align. With `on_frames`, and for a model without that
    head, both are the frames' head's: cross entropy in nats a labelled step, and runs of one phone taken for a phone.
    """
    model.eval()
    device = next(model.parameters()).device
    on_frames = on_frames or not model.config.heads.has_ctc
    loss, refs, hyps = LossSum(), {}, {}
    for utt_ids in data.batches(32):
        batch = _to_device(data.load(utt_ids), device)
        output = model.outputs(batch.feats, batch.feat_lens)
        if on_frames:
            labels = model.frame_labels_to_steps(batch.frame_labels, batch.feat_lens)
            frames_sum = frame_loss(output.frame_log_probs, labels).item()
            loss.add(LossSum(frames=frames_sum, num_labels=int((labels > 0).sum())))
            log_probs = nn.functional.pad(output.frame_log_probs, (1, 0), value=-math.inf)
        else:
            log_probs = output.ctc_log_probs
            losses = ctc_losses(log_probs, output.log_prob_lens, batch).cpu()
            aligned = losses != math.inf
            loss.add(LossSum(losses[aligned].sum().item(), int(batch.token_lens[aligned].sum())))
        for row, utt_id in enumerate(batch.utt_ids):
            refs[utt_id] = tokens.decode(batch.tokens[row, : batch.token_lens[row]].tolist())
            utt_log_probs = log_probs[row, : output.log_prob_lens[row]].cpu().numpy()
            hyps[utt_id] = tokens.decode(greedy_search(utt_log_probs)[0])
    return loss.mean(float(on_frames)), score(refs, hyps).per


def choose_device(name: str) -> torch.device:
    """The device that `training.device` asks for; "auto" is a GPU when there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("training.device cuda: PyTorch finds no such device; give cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def _frame_weight(state: TrainingState) -> float:
    return state.model.config.heads.frame_weight(state.config.frame_weight, is_pretraining=state.phase == 0)


def _offsets(model: Any, batch: Batch, config: TrainingConfig, rng: np.random.Generator) -> Tensor | None:
    if not config.random_offset or model.config.skip == 1:
        return None
    offsets = rng.integers(0, model.config.skip, len(batch.utt_ids) // batch.num_views)
    # An utterance's views have one offset, for their steps are compared.
    return torch.from_numpy(offsets.repeat(batch.num_views)).to(batch.feats.device)


def _skip_or_stop(state: TrainingState, batch: Batch, loss: float, norm: float) -> None:
    if state.config.on_nonfinite == "stop":
        raise ModelError(
            f"epoch {state.epoch}, batch {state.sums.num_batches + 1}: loss is {loss:.4g}, norm of the gradient is "
            f"{norm:.4g}; lower training.max_lr, set training.on_nonfinite to skip, or look at the utterances of this "
            f"batch: {' '.join(batch.utt_ids[:: batch.num_views])}"
        )
    state.sums.num_skipped += 1


def _epoch_record(state: TrainingState, dev_loss: float, dev_per: float) -> EpochRecord:
    sums = state.sums
    return EpochRecord(
        state.epoch,
        state.phase,
        state.loss.mean(_frame_weight(state)),
        dev_loss,
        dev_per,
        sums.learning_rate,
        sums.gradient_norm / (sums.num_batches - sums.num_skipped),
        sums.num_skipped,
        state.cpu_seconds,
    )


def _to_device(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    tensors = ("feats", "feat_lens", "tokens", "frame_labels")  # CTC takes the tokens' lengths from the CPU
    moved = {name: value.to(device) for name in tensors if (value := getattr(batch, name)) is not None}
    return replace(batch, **moved)


def _one_ahead(items: Iterator[Any]) -> Iterator[Any]:
    """The same items, the next one being made in a thread while one is used."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, items, None)
        while (item := future.result()) is not None:
            future = thread.submit(next, items, None)
            yield item
