"""The training loop. It reads from top to bottom. A run can be killed at any time and resumed.

Legend: N utterances, T frames, D feature dim, T' steps, V output classes.
"""

from __future__ import annotations

import itertools
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, NoReturn, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.greedy import greedy_search
from asrkit.decoding.methods import make_search
from asrkit.device import choose_device
from asrkit.errors import ModelError, location, name_some
from asrkit.io.processes import HOST
from asrkit.lang.tokens import TokenTable
from asrkit.models.acoustic import AcousticModel, with_impossible_blank
from asrkit.models.batching import Batch
from asrkit.models.decoder import NO_DECODER
from asrkit.models.recurrent import RecurrentStack
from asrkit.parallel import progress_stream
from asrkit.scoring.per import score
from asrkit.training.blank_phase import is_blank_phase
from asrkit.training.config import TrainingConfig
from asrkit.training.dataset import TrainingSet, Window
from asrkit.training.gradient_log import GradientLog
from asrkit.training.memory import keep_freed_memory
from asrkit.training.monitor import Monitor
from asrkit.training.optim import clip_gradients, set_rate
from asrkit.training.parallel_step import compute_gradients_of_parts, count, split_batch
from asrkit.training.ranks import ALONE, Ranks
from asrkit.training.schedule import EpochSchedule
from asrkit.training.shards import ShardedSet
from asrkit.training.state import EpochRecord, TrainingState
from asrkit.training.step import (
    LossSum,
    compute_gradients,
    ctc_losses,
    frame_loss,
    num_targets,
    weight_drop,
    weight_noise,
)
from asrkit.training.weights import average

T = TypeVar("T")


@dataclass(frozen=True)
class TrainingSets:
    """The data of a training.

    Attributes:
        train: utterances to train on.
        dev: utterances to choose weights on.
        tokens: the output classes.
        probe: utterances for the log of gradients after each epoch, or None. They do not change the training.
        ranks: the processes that share the utterances.
    """

    train: TrainingSet | ShardedSet
    dev: TrainingSet
    tokens: TokenTable
    probe: TrainingSet | None = None
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training.

    Attributes:
        history: the records of the epochs.
        dev_per: dev PER of the weights that were kept, in percent, with greedy search.
        best: the epochs whose weights are stored in files (training.weights.BestEpochs), best first.
    """

    history: list[EpochRecord]
    dev_per: float
    best: list[int]


def train(
    model: AcousticModel,
    config: TrainingConfig,
    data: TrainingSets,
    directory: Path,
    identity: str,
    begin: Callable[[], None] = lambda: None,
) -> TrainingResult:
    """Train `model` in place. At the end it is on the CPU, with the weights that `config.select` asks for.

    Checkpoints are written to `directory` after each epoch, and every `config.checkpoint_minutes` within an epoch. If
    there is a checkpoint with the same `identity`, the training continues from it. The random numbers of a batch depend
    only on the seed, the epoch and the number of the batch. So on a CPU a resumed run ends with exactly the weights of
    an uninterrupted one.

    Args:
        model: the network.
        config: the settings.
        data: the utterances.
        directory: for checkpoints, history and figures.
        identity: a text that identifies all inputs of the run.
        begin: is called when nothing prevents the run any more.

    Several ranks share the utterances of each batch, whatever their number: the weights differ by rounding alone, and
    by dropout, of which each rank has its own. All ranks end with the same weights and result.

    Raises:
        ModelError: a loss or gradient is not finite (the message names the utterances of the batch), or the checkpoint
            belongs to another run.
        ConfigError: there is no such device.
    """
    ranks = data.ranks
    device = choose_device(config.device)
    if device.type == "cuda":
        ranks.take_gpu(device)
    # On a CPU the threads share a whole step. If operators used threads as well, they would wait for each other.
    torch.set_num_threads(1 if device.type == "cpu" else config.num_threads)
    keep_freed_memory()
    model.to(device)
    for module in model.modules():
        if isinstance(module, RecurrentStack):
            module.bptt_steps = config.bptt_steps
    batches_per_epoch = math.ceil(len(data.train) / config.batch_size)
    state = TrainingState(model, config, batches_per_epoch, directory, identity, ranks)
    ranks.connect(device)
    _expect_same_place(state)
    ranks.spread_weights(model)
    begin()
    monitor = Monitor(directory, state.epoch) if ranks.is_first else None
    gradients = GradientLog(directory, data.probe, state.epoch) if data.probe is not None and ranks.is_first else None
    started, first_epoch = time.monotonic(), state.epoch
    while not state.finished:
        utts_per_second = train_epoch(state, data.train)
        with state.evaluated_weights():
            dev = evaluate(model, data.dev, data.tokens, on_frames=state.phase == 0, ranks=ranks)
        record = _epoch_record(state, dev)
        left = (time.monotonic() - started) / (state.epoch - first_epoch + 1) * (state.last_epoch - state.epoch)
        if monitor:
            monitor.show([*state.history, record], utts_per_second, left, state.last_epoch)
        if monitor and gradients:
            monitor.add_scalars(gradients.add(state), state.epoch)
        state.end_epoch(record)  # comes last: after a kill before it, the epoch is completed again
        if state.num_blank_epochs == max(3, math.ceil(config.num_epochs / 4)) and not state.finished:
            _warn_of_blank_phase(state.num_blank_epochs)
    if monitor:
        monitor.close(state.history)
    if gradients:
        gradients.draw()
    if state.num_blank_epochs:
        _warn_of_blank_phase(state.num_blank_epochs)
    result = _keep_weights(state, data)
    model.cpu()
    return result


def train_epoch(state: TrainingState, train_set: TrainingSet | ShardedSet) -> float:
    """Train on the remaining batches of the epoch. Returns utterances per second.

    Raises:
        ModelError: a loss or gradient is not finite (unless such batches are skipped and others were not); or the frame
            loss is used, and no step has a phone.
    """
    schedule = state.schedule()
    assert schedule is not None, "a run whose schedule has ended is finished"
    state.model.train()
    num_utts, started, saved, cpu_mark = 0, time.monotonic(), time.monotonic(), time.process_time()
    with _progress_bar(state) as progress:
        for share in load_shares(state, train_set):
            loss = _compute_gradients(state, share)
            cpu = time.process_time()
            *sums, cpu_seconds = state.ranks.add_up([*astuple(loss), cpu - cpu_mark], state.model)
            loss, cpu_mark = LossSum.of(sums), cpu
            state.cpu_seconds += cpu_seconds
            norm = clip_gradients(state.model, state.config)
            mean_loss = state.mean_loss(loss)
            if math.isfinite(mean_loss) and math.isfinite(norm):
                _update(state, schedule, loss, norm)
            else:
                _skip_or_stop(state, share.utt_ids, mean_loss, norm)
            state.sums.num_batches += 1
            num_utts += len(share.utt_ids)
            progress.set_postfix_str(_summary(state), refresh=False)
            progress.update()
            is_due = time.monotonic() - saved > 60 * state.config.checkpoint_minutes
            if is_due and state.sums.num_batches < state.batches_per_epoch:
                state.save()
                saved = time.monotonic()
    _expect_progress(state)
    return num_utts / (time.monotonic() - started)


class Share(NamedTuple):
    """One rank's share of a batch.

    Attributes:
        utt_ids: the utterances of the whole batch.
        batch: the utterances of the share; None if it has none.
        rng: for random numbers of the whole batch. A process alone draws all numbers from it.
        rngs: for random numbers of each utterance of the share, which so do not depend on the number of ranks.
    """

    utt_ids: Sequence[str]
    batch: Batch | None
    rng: np.random.Generator
    rngs: Sequence[np.random.Generator]


def load_shares(state: TrainingState, train_set: TrainingSet | ShardedSet) -> Iterator[Share]:
    """This process's shares of the rest of the epoch's batches."""
    num_done = state.sums.num_batches
    windows = train_set.windows(state.config.batch_size, (state.config.seed, state.epoch), num_done)
    shares = itertools.chain.from_iterable(_shares_of(state, window, num_done) for window in windows)
    if state.device.type == "cpu":
        return shares
    return _one_ahead(share._replace(batch=share.batch and _to_device(share.batch, state.device)) for share in shares)


def _shares_of(state: TrainingState, window: Window, num_done: int) -> Iterator[Share]:
    """This process's shares of the batches of a window, but for the first `num_done` of the epoch."""
    seed, epoch, ranks = state.config.seed, state.epoch, state.ranks
    plan, before = window.plan, window.num_before
    done = max(num_done - before, 0)
    load = partial(window.data.load, num_views=state.config.num_views)

    def load_own(number: int) -> Share:
        utt_ids, rng = plan[number - before - 1], np.random.default_rng((seed, epoch, number))
        rows = own_rows([window.data.num_frames[utt_id] for utt_id in utt_ids], ranks, number)
        rngs = [np.random.default_rng((seed, epoch, number, row + 1)) for row in rows]
        own = [utt_ids[row] for row in rows]
        return Share(utt_ids, load(own, rngs) if own else None, rng, rngs)

    # Numbers start at 1, because NumPy treats (seed, epoch, 0) like (seed, epoch).
    numbers = range(before + done + 1, before + len(plan) + 1)
    if ranks.is_job:
        return map(load_own, numbers)
    rngs, same_rngs = itertools.tee(np.random.default_rng((seed, epoch, number)) for number in numbers)
    return map(Share, plan[done:], map(load, plan[done:], rngs), same_rngs, itertools.repeat([]))


def own_rows(num_frames: Sequence[int], ranks: Ranks, number: int) -> list[int]:
    """The utterances of batch `number` that this rank takes. Every rank gets about as many utterances and frames.

    If the numbers are not equal, ranks take turns from batch to batch.
    """
    by_length = sorted(range(len(num_frames)), key=lambda row: -num_frames[row])
    return sorted(by_length[(ranks.rank + number) % ranks.size :: ranks.size])


def _compute_gradients(state: TrainingState, share: Share) -> LossSum:
    """Compute the share's part of the batch's gradients, with the noise of the settings."""
    model, config, decoder, ranks = state.model, state.config, state.decoder_training, state.ranks
    torch.manual_seed(int(share.rng.integers(2**63)))
    batch, offsets = share.batch, None
    if batch is not None:
        noise = _noise(batch, share.rngs) if ranks.is_job else torch.randn_like(batch.feats)
        batch = replace(batch, feats=batch.feats + config.input_noise * noise)
        offsets = _offsets(state, batch, share)
    with weight_noise(model, state.weight_noise), weight_drop(model, config.weight_drop):
        num_threads = config.num_threads if state.device.type == "cpu" else 1
        bf16 = config.bf16 and state.device.type == "cuda"
        num_utts = len(share.rngs if ranks.is_job else share.utt_ids)
        num_parts = num_threads * math.ceil(num_utts / (config.utts_at_once or max(num_utts, 1)))
        if batch is not None and num_parts == 1 and not ranks.is_job:
            return compute_gradients(model, batch, offsets, state.frame_weight, bf16, decoder)
        parts = [] if batch is None else split_batch(batch, offsets, num_parts)
        whole = LossSum() if batch is None else count(model, (batch, offsets), state.frame_weight)
        whole = LossSum.of(ranks.add_up(astuple(whole)))
        if share.rngs:  # dropout, unlike the noise on weights, is an utterance's own
            torch.manual_seed(int(share.rngs[0].integers(2**63)))
        with torch.autocast(state.device.type, torch.bfloat16, enabled=bf16):
            return compute_gradients_of_parts(model, parts, whole, state.frame_weight, num_threads, decoder)


def _noise(batch: Batch, rngs: Sequence[np.random.Generator]) -> Tensor:
    """Standard normal noise of the features' shape (N, T, D), from each utterance's generator; 0 in padding."""
    noise = torch.zeros(batch.feats.shape, dtype=batch.feats.dtype)
    for row, num_frames in enumerate(batch.feat_lens.tolist()):
        drawn = rngs[row // batch.num_views].standard_normal((num_frames, noise.shape[2]), np.float32)
        noise[row, :num_frames] = torch.from_numpy(drawn)
    return noise.to(batch.feats.device)


def _offsets(state: TrainingState, batch: Batch, share: Share) -> Tensor | None:
    skip = state.model.config.skip
    if not state.config.random_offset or skip == 1:
        return None
    if state.ranks.is_job:
        offsets = np.array([rng.integers(0, skip) for rng in share.rngs])
    else:
        offsets = share.rng.integers(0, skip, len(share.utt_ids))
    # The views of an utterance share an offset, because their steps are compared.
    return torch.from_numpy(offsets.repeat(batch.num_views)).to(batch.feats.device)


def _update(state: TrainingState, schedule: EpochSchedule, loss: LossSum, norm: float) -> None:
    """Update the weights. `norm` is the norm of the gradients before clipping."""
    state.sums.learning_rate = schedule.rate(state.update)
    momentum = None if schedule.momentum is None else schedule.momentum(state.update)
    set_rate(state.optimizer, state.sums.learning_rate, momentum)
    state.optimizer.step()
    if state.average:
        state.average.update(state.model)
    state.loss.add(loss)
    state.sums.gradient_norm += norm


def _skip_or_stop(state: TrainingState, utt_ids: Sequence[str], loss: float, norm: float) -> None:
    if state.config.on_nonfinite == "stop":
        raise ModelError(
            f"epoch {state.epoch}, batch {state.sums.num_batches + 1}: loss is {loss:.4g}, norm of the gradient is "
            f"{norm:.4g}; lower training.max_lr, set training.on_nonfinite to skip, or look at the utterances of this "
            f"batch: {name_some(utt_ids)}"
        )
    state.sums.num_skipped += 1


def _expect_progress(state: TrainingState) -> None:
    """Raise ModelError if the network could not learn from any batch of the epoch."""
    if state.sums.num_skipped == state.sums.num_batches:
        raise ModelError(
            f"epoch {state.epoch}: no batch has a finite loss and gradient; lower training.max_lr or look at the "
            "features of the training set"
        )
    if state.frame_weight > 0 and state.loss.num_labels == 0:
        raise ModelError(
            f"epoch {state.epoch}: no step has a phone; phones.ctm of the training set must have its utterances and "
            "the phones of the token table"
        )


def _progress_bar(state: TrainingState) -> tqdm[NoReturn]:
    return tqdm(
        desc=f"epoch {state.epoch}/{state.last_epoch}",
        total=state.batches_per_epoch,
        initial=state.sums.num_batches,
        leave=False,
        disable=None,
        file=progress_stream(),
        unit="batch",
    )


def _summary(state: TrainingState) -> str:
    last_per = f", dev PER {state.history[-1].dev_per:.2f} %" if state.history else ""
    return f"loss {state.mean_loss(state.loss):.3f}{last_per}"


def _epoch_record(state: TrainingState, dev: Evaluation) -> EpochRecord:
    sums = state.sums
    return EpochRecord(
        state.epoch,
        state.phase,
        state.mean_loss(state.loss),
        dev.loss,
        dev.per,
        dev.is_blank_phase,
        sums.learning_rate,
        sums.gradient_norm / (sums.num_batches - sums.num_skipped),
        sums.num_skipped,
        state.cpu_seconds,
    )


def _warn_of_blank_phase(num_epochs: int) -> None:
    print(
        f"warning: after {num_epochs} epoch{'s' * (num_epochs > 1)} the output on dev has little to do with the audio "
        "(the blank phase); "
        "check that transcripts belong to their audio; then make training.batch_size smaller, num_epochs or max_lr "
        "larger, or, where phone times are known, set model.head both and training.pretrain_epochs",
        file=sys.stderr,
    )


def _keep_weights(state: TrainingState, data: TrainingSets) -> TrainingResult:
    """Give the model the weights of the best epoch, or the mean of the best epochs, as the settings say."""
    epochs = [epoch for _, epoch in state.best.ranking]
    if not state.config.selection.keeps_mean:
        state.load_best()
        return TrainingResult(state.history, state.history[epochs[0] - 1].dev_per, epochs)
    if state.ranks.is_first:
        state.model.load_state_dict(average([state.best.weights(epoch, state.model) for epoch in epochs]))
    state.ranks.spread_weights(state.model)
    return TrainingResult(state.history, evaluate(state.model, data.dev, data.tokens, ranks=state.ranks).per, epochs)


def _expect_same_place(state: TrainingState) -> None:
    """Raise ModelError if ranks continue from different checkpoints, as on machines without a shared directory."""
    place = (state.epoch, state.sums.num_batches)
    first = state.ranks.spread(place)
    if first != place:
        raise ModelError(
            f"{location(state.path)}epoch {place[0]}, {place[1]} batches done, on this machine ({HOST}); rank 0 finds "
            f"epoch {first[0]}, {first[1]} batches done; all machines need the same --out, on a shared disk"
        )


# The losses of a batch, its utterances, their tokens and those that were found.
_Result = tuple[LossSum, Sequence[str], list[list[int]], list[list[int]]]


class Evaluation(NamedTuple):
    """The result of greedy search on a set.

    Attributes:
        loss: nats per token, over the utterances that CTC can align; for a frame-wise head nats per labelled step; for
            a decoder nats per token and end.
        per: phone error rate in percent, over all utterances.
        is_blank_phase: whether the output hardly depends on the audio.
    """

    loss: float
    per: float
    is_blank_phase: bool


@torch.inference_mode()
def evaluate(
    model: AcousticModel, data: TrainingSet, tokens: TokenTable, on_frames: bool = False, ranks: Ranks = ALONE
) -> Evaluation:
    """Evaluate the model's decoder, or its CTC head if it has none. Several ranks share the batches."""
    model.eval()
    device, heads = next(model.parameters()).device, model.config.heads
    on_frames = on_frames or not (heads.has_ctc or heads.has_decoder)
    measure = _frame_results if on_frames else _decoder_results if heads.has_decoder else _ctc_results
    plan, own = data.batches(32), []
    for number in range(ranks.rank, len(plan), ranks.size):
        batch = _to_device(data.load(plan[number]), device)
        loss, found = measure(model, batch)
        said = [batch.tokens[row, :length].tolist() for row, length in enumerate(batch.token_lens.tolist())]
        own.append((loss, batch.utt_ids, said, found))
    return ranks.spread(_together(ranks.gather(own), tokens, (float(on_frames), float(heads.has_decoder))))


def _together(
    results: Sequence[Sequence[_Result]] | None, tokens: TokenTable, weights: tuple[float, float]
) -> Evaluation | None:
    """The evaluation of the results of all ranks; None for a rank without results.

    `weights` are those of LossSum.mean.
    """
    if results is None:
        return None
    loss = LossSum()
    refs: dict[str, Sequence[str]] = {}
    hyps: dict[str, Sequence[str]] = {}
    in_order = itertools.chain.from_iterable(itertools.zip_longest(*results))
    for batch_loss, utt_ids, said, found in filter(None, in_order):
        loss.add(batch_loss)
        refs.update(zip(utt_ids, map(tokens.decode, said), strict=True))
        hyps.update(zip(utt_ids, map(tokens.decode, found), strict=True))
    return Evaluation(float(loss.mean(*weights)), score(refs, hyps).per, is_blank_phase(refs, hyps))


def _decoder_results(model: AcousticModel, batch: Batch) -> tuple[LossSum, list[list[int]]]:
    """The loss of the decoder without label smoothing, and its greedy labellings."""
    output = model.outputs(batch.feats, batch.feat_lens)
    assert output.steps is not None and model.decoder is not None
    source = model.decoder.source(output.steps, output.log_prob_lens)
    losses = model.decoder.losses(source, batch.tokens, batch.token_lens, NO_DECODER)
    loss = LossSum(decoder=losses.sum().item(), num_targets=num_targets(batch))
    search = make_search(DecodingConfig(method="greedy"), None, model.decoder.for_search())
    steps = output.steps.float().cpu().numpy()
    found = search.decode_all([utt[:length] for utt, length in zip(steps, output.log_prob_lens.tolist(), strict=True)])
    return loss, [list(results[0].tokens) for results in found]


def _ctc_results(model: AcousticModel, batch: Batch) -> tuple[LossSum, list[list[int]]]:
    """The loss of the utterances that CTC can align, and greedy labellings of all."""
    output = model.outputs(batch.feats, batch.feat_lens)
    log_probs, lens = output.log_probs, output.log_prob_lens
    losses = ctc_losses(log_probs, lens, batch).cpu()
    aligned = losses != math.inf
    return LossSum(losses[aligned].sum().item(), int(batch.token_lens[aligned].sum())), _greedy(log_probs, lens)


def _frame_results(model: AcousticModel, batch: Batch) -> tuple[LossSum, list[list[int]]]:
    """The loss of the frame-wise head, and greedy labellings from it with a blank of probability 0."""
    output = model.outputs(batch.feats, batch.feat_lens)
    assert output.frame_log_probs is not None and batch.frame_labels is not None
    labels = model.frame_labels_to_steps(batch.frame_labels, batch.feat_lens)
    loss = LossSum(frames=frame_loss(output.frame_log_probs, labels).item(), num_labels=int((labels > 0).sum()))
    return loss, _greedy(with_impossible_blank(output.frame_log_probs), output.log_prob_lens)


def _greedy(log_probs: Tensor, lens: Tensor) -> list[list[int]]:
    """The greedy labellings of log-probabilities (N, T', V) with `lens` (N,) steps."""
    return [greedy_search(utt[:length].cpu().numpy())[0] for utt, length in zip(log_probs, lens, strict=True)]


def _to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch on a device, except for the lengths of tokens, which CTC needs on the CPU."""
    return replace(
        batch,
        feats=batch.feats.to(device),
        feat_lens=batch.feat_lens.to(device),
        tokens=batch.tokens.to(device),
        frame_labels=None if batch.frame_labels is None else batch.frame_labels.to(device),
    )


def _one_ahead(items: Iterator[T]) -> Iterator[T]:
    """Yield the same items. A thread makes the next item while the caller uses one."""
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(next, items, None)
        while (item := future.result()) is not None:
            future = thread.submit(next, items, None)
            yield item
