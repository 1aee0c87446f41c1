"""The loss of the transducer (Graves 2012): -log P(tokens | audio), summed over all alignments of tokens with steps.

An alignment is a path through nodes (t, u): at step t, u tokens have been emitted. At each node the path either emits
the next token and goes to (t, u + 1), or emits a blank and goes to (t + 1, u). It starts at (0, 0) and ends with the
blank of (T - 1, U).

Legend: N utterances, T steps, U tokens, V classes (0 is the blank), R nodes of all utterances. An utterance has T (U +
1) nodes, in the order of steps, and within a step in the order of tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from asrkit._native import kernel
from asrkit.errors import ModelError


class Targets(NamedTuple):
    """The targets of the utterances of a batch, int64.

    Attributes:
        num_steps: (N,) numbers of steps, at least 1.
        tokens: (sum of U,) tokens of all utterances, one after the other, from 1 to V - 1.
        num_tokens: (N,) numbers of tokens.
    """

    num_steps: np.ndarray
    tokens: np.ndarray
    num_tokens: np.ndarray


def transducer_losses(logits: np.ndarray, targets: Targets, grads: np.ndarray | None = None) -> np.ndarray:
    """-log p(tokens | audio) of each utterance in nats, (N,) float64.

    If no alignment is possible, the loss is infinite. If logits are not numbers, the loss is NaN. In both cases
    gradients are NaN.

    Args:
        logits: (R, V) unnormalised log-probabilities, float32 or float64. Sums are float64.
        targets: the tokens.
        grads: (R, V) array that receives the gradient of each utterance's loss in its logits, or None.

    Raises:
        ModelError: the shapes do not fit each other.
    """
    num_nodes = int((targets.num_steps * (targets.num_tokens + 1)).sum())
    if num_nodes != len(logits) or targets.num_tokens.sum() != len(targets.tokens):
        raise ModelError(f"a transducer's output has {len(logits)} nodes; expected {num_nodes}")
    native = kernel("_transducer")
    losses = np.empty(len(targets.num_steps))
    (reference_losses if native is None else native.losses)(logits, *targets, losses, grads)
    return losses


def reference_losses(
    logits: np.ndarray,
    num_steps: np.ndarray,
    tokens: np.ndarray,
    num_tokens: np.ndarray,
    losses: np.ndarray,
    grads: np.ndarray | None,
) -> None:
    """The kernel's function `losses` in NumPy. It is used without the kernel, and the tests compare the kernel with it.

    Args:
        logits, grads: (R, V), as for `transducer_losses`.
        num_steps, tokens, num_tokens: the fields of Targets, (N,), (sum of U,) and (N,).
        losses: (N,) array that receives the losses.
    """
    for n, (rows, some) in enumerate(_utterances(Targets(num_steps, tokens, num_tokens))):
        shape = (num_steps[n], num_tokens[n] + 1, logits.shape[1])
        x = logits[rows].reshape(shape).astype(np.float64)
        with np.errstate(invalid="ignore"):
            log_probs = x - np.logaddexp.reduce(x, axis=2, keepdims=True)
        lattice = Lattice.of(log_probs, tokens[some]) if np.isfinite(log_probs).any(axis=2).all() else None
        losses[n] = np.nan if lattice is None else -lattice.log_prob
        if grads is None:
            continue
        if lattice is None or not np.isfinite(losses[n]):
            grads[rows] = np.nan
            continue
        found = np.exp(log_probs) * lattice.passed[:, :, None]
        found[:, :, 0] -= lattice.blank
        steps, places = np.indices(lattice.token.shape)
        found[steps, places, tokens[some]] -= lattice.token
        grads[rows] = found.reshape(-1, shape[2])


def _utterances(targets: Targets) -> Iterator[tuple[slice, slice]]:
    """Yield for each utterance its rows of logits and its tokens."""
    row = token = 0
    for steps, number in zip(targets.num_steps.tolist(), targets.num_tokens.tolist(), strict=True):
        yield slice(row, row + steps * (number + 1)), slice(token, token + number)
        row, token = row + steps * (number + 1), token + number


@dataclass(frozen=True)
class Lattice:
    """The alignments of one utterance: their total probability, and the posterior probability of each emission.

    Attributes:
        log_prob: natural log of the total probability.
        blank: (T, U + 1) posterior probability of the blank at each node.
        token: (T, U) posterior probability of the next token at each node.
    """

    log_prob: float
    blank: np.ndarray
    token: np.ndarray

    @property
    def passed(self) -> np.ndarray:
        """Posterior probability that the alignment passes each node, (T, U + 1)."""
        return self.blank + np.pad(self.token, ((0, 0), (0, 1)))

    @classmethod
    def of(cls, log_probs: np.ndarray, tokens: np.ndarray, allowed: np.ndarray | None = None) -> Lattice:
        """Compute the lattice. If no alignment is possible, `log_prob` is -inf and everything else NaN.

        Args:
            log_probs: (T, U + 1, V) natural-log probabilities.
            tokens: (U,).
            allowed: (T, U) at which steps each token can be emitted; None: at all steps.
        """
        num_steps, width = log_probs.shape[:2]
        steps, places = np.indices((num_steps, width))
        blank, token = np.full((2, num_steps + width, width), -np.inf)  # stored by diagonal t + u, see _transducer.c
        blank[steps + places, places] = log_probs[:, :, 0]
        emitted = log_probs[steps[:, :-1], places[:, :-1], tokens]
        token[(steps + places)[:, :-1], places[:, :-1]] = (
            emitted if allowed is None else np.where(allowed, emitted, -np.inf)
        )
        before, after = np.full((2, num_steps + width, width), -np.inf)
        before[0, 0] = after[-1, -1] = 0.0
        for d in range(1, num_steps + width):
            before[d] = before[d - 1] + blank[d - 1]
            before[d, 1:] = np.logaddexp(before[d, 1:], before[d - 1, :-1] + token[d - 1, :-1])
        total = before[-1, -1]
        for d in reversed(range(num_steps + width - 1)):
            after[d] = after[d + 1] + blank[d]
            after[d, :-1] = np.logaddexp(after[d, :-1], after[d + 1, 1:] + token[d, :-1])
        with np.errstate(invalid="ignore"):
            blanks = np.exp(before[:-1] + blank[:-1] + after[1:] - total)
            emissions = np.exp(before[:-1, :-1] + token[:-1, :-1] + after[1:, 1:] - total)
        places = places[:, :-1]
        return cls(
            float(total), blanks[steps + np.arange(width), np.arange(width)], emissions[steps[:, :-1] + places, places]
        )
