"""The training loop: reads from top to bottom, and can be killed at any time and resumed.

Legend: N utterances, T frames, D feature dim, U tokens, V output classes.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from asrkit.batching import Batch, bucket, iterate
from asrkit.decoding.greedy import greedy_search
from asrkit.errors import ModelError, at
from asrkit.io.atomic import atomic_write
from asrkit.lang.tokens import TokenTable
from asrkit.scoring.per import score
from asrkit.training import checkpoint
from asrkit.training.config import TrainingConfig
from asrkit.training.dataset import TrainingSet
from asrkit.training.optim import make_optimizer


@dataclass(frozen=True)
class EpochRecord:
    """What one epoch gave. Losses are in nats a reference token."""

    epoch: int
    train_loss: float
    dev_loss: float
    dev_per: float  # per cent, greedy decoding
    cpu_seconds: float  # spent on training so far, evaluation left out


def ctc_loss(log_probs: Tensor, log_prob_lens: Tensor, batch: Batch) -> Tensor:
    """-log p(tokens | features) of each utterance (N,), in nats. `log_probs` is (N, T', V)."""
    return nn.functional.ctc_loss(
        log_probs.transpose(0, 1), batch.tokens, log_prob_lens, batch.token_lens, reduction="none"
    )


def train(
    model: nn.Module,
    config: TrainingConfig,
    train_set: TrainingSet,
    dev_set: TrainingSet,
    tokens: TokenTable,
    directory: Path,
    identity: str,
) -> list[EpochRecord]:
    """Train `model` in place, leaving it with the weights of the epoch of lowest dev PER.

    After each epoch `directory/checkpoint.pt` is replaced; when one made under the same `identity` (whatever
    fixes the run's inputs) is there, training goes on from it. Random numbers depend on the seed and the epoch
    alone, so a resumed run repeats what an uninterrupted one does.

    Raises:
        ModelError: the loss is not finite (the batch's utterances are named), or the checkpoint is another run's.
    """
    torch.set_num_threads(config.num_threads)
    batches_per_epoch = math.ceil(len(train_set.num_frames) / config.batch_size)
    optimizer, schedule = make_optimizer(model, config, batches_per_epoch * config.num_epochs)
    history: list[EpochRecord] = []
    best_weights: dict[str, Tensor] = {}

    checkpoint_path = directory / "checkpoint.pt"
    if checkpoint_path.exists():
        saved = checkpoint.load(checkpoint_path)
        if saved.get("identity") != identity:
            raise ModelError(
                f"{at(checkpoint_path)}belongs to a run with other settings or data; give another --dir, or --force to "
                "start anew"
            )
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        schedule.load_state_dict(saved["schedule"])
        best_weights = saved["best_weights"]
        history = [EpochRecord(**record) for record in saved["history"]]
        print(f"resuming after epoch {len(history)} of {config.num_epochs}", file=sys.stderr)

    cpu_seconds = history[-1].cpu_seconds if history else 0.0
    started, first_epoch = time.monotonic(), len(history) + 1
    for epoch in range(first_epoch, config.num_epochs + 1):
        rng = np.random.default_rng((config.seed, epoch))
        torch.manual_seed(int(rng.integers(2**63)))
        cpu_before = time.process_time()
        model.train()
        loss_sum, num_tokens, epoch_started = 0.0, 0, time.monotonic()
        last_per = f", dev PER {history[-1].dev_per:.2f} %" if history else ""
        batches = iterate(bucket(train_set.num_frames, config.batch_size, rng), train_set.feats, train_set.tokens)
        progress = tqdm(
            batches, f"epoch {epoch}/{config.num_epochs}", batches_per_epoch, leave=False, disable=None, unit="batch"
        )
        for batch in progress:
            feats = batch.feats + config.input_noise * torch.randn_like(batch.feats)
            log_probs, log_prob_lens = model(feats, batch.feat_lens, _offsets(model, batch, config, rng))
            loss = ctc_loss(log_probs, log_prob_lens, batch).sum()
            if not torch.isfinite(loss):
                raise ModelError(
                    f"epoch {epoch}: loss is {loss.item()}; lower training.max_lr or look at the utterances of "
                    f"this batch: {' '.join(batch.utt_ids)}"
                )
            optimizer.zero_grad()
            num_batch_tokens = int(batch.token_lens.sum())
            (loss / max(num_batch_tokens, 1)).backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
            optimizer.step()
            schedule.step()
            loss_sum += loss.item()
            num_tokens += num_batch_tokens
            progress.set_postfix_str(f"loss {loss_sum / max(num_tokens, 1):.3f}{last_per}", refresh=False)
        cpu_seconds += time.process_time() - cpu_before
        utts_per_second = len(train_set.num_frames) / (time.monotonic() - epoch_started)

        dev_loss, dev_per = evaluate(model, dev_set, tokens)
        history.append(EpochRecord(epoch, loss_sum / num_tokens, dev_loss, dev_per, cpu_seconds))
        if dev_per <= min(record.dev_per for record in history):
            best_weights = {name: weights.clone() for name, weights in model.state_dict().items()}
        left = (time.monotonic() - started) / (epoch - first_epoch + 1) * (config.num_epochs - epoch)
        print(
            f"epoch {epoch}/{config.num_epochs}: loss {history[-1].train_loss:.3f}, dev loss {dev_loss:.3f}, "
            f"dev PER {dev_per:.2f} %, {utts_per_second:.0f} utterances/s, {cpu_seconds:.0f} CPU seconds, "
            f"{left:.0f} s left",
            file=sys.stderr,
        )
        _write_history(directory / "history.csv", history)
        checkpoint.save(
            checkpoint_path,
            {
                "identity": identity,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "schedule": schedule.state_dict(),
                "best_weights": best_weights,
                "history": [asdict(record) for record in history],
            },
        )
    model.load_state_dict(best_weights)
    return history


@torch.inference_mode()
def evaluate(model: nn.Module, data: TrainingSet, tokens: TokenTable) -> tuple[float, float]:
    """Loss (nats a token, over the utterances that CTC can align) and greedy PER (per cent, over all)."""
    model.eval()
    loss_sum, num_tokens, refs, hyps = 0.0, 0, {}, {}
    for batch in iterate(bucket(data.num_frames, 32), data.feats, data.tokens):
        log_probs, log_prob_lens = model(batch.feats, batch.feat_lens)
        losses = ctc_loss(log_probs, log_prob_lens, batch)
        finite = torch.isfinite(losses)
        loss_sum += losses[finite].sum().item()
        num_tokens += int(batch.token_lens[finite].sum())
        for utt_id, utt_log_probs, length in zip(batch.utt_ids, log_probs, log_prob_lens, strict=True):
            refs[utt_id] = tokens.decode(data.tokens[utt_id])
            hyps[utt_id] = tokens.decode(greedy_search(utt_log_probs[:length].numpy())[0])
    result = score(refs, hyps)
    return loss_sum / max(num_tokens, 1), result.per


def _offsets(model: Any, batch: Batch, config: TrainingConfig, rng: np.random.Generator) -> Tensor | None:
    if not config.random_offset or model.config.skip == 1:
        return None
    return torch.from_numpy(rng.integers(0, model.config.skip, len(batch.utt_ids)))


def _write_history(path: Path, history: Sequence[EpochRecord]) -> None:
    with atomic_write(path) as stream:
        stream.write("epoch,train_loss,dev_loss,dev_per,cpu_seconds\n")
        for record in history:
            stream.write(
                f"{record.epoch},{record.train_loss:.4f},{record.dev_loss:.4f},{record.dev_per:.3f},"
                f"{record.cpu_seconds:.1f}\n"
            )
