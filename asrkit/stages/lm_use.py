"""What language models of either kind say of a text, and the sentences that they make up."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asrkit.decoding.language_models import PhoneLm, read_lm
from asrkit.decoding.lm_sampling import draw, spell
from asrkit.errors import ConfigError, DataError, location
from asrkit.formats.transcripts import read_transcripts
from asrkit.stages.inputs import PREPARE, TRAIN_LM, expect_files
from asrkit.stages.neural_lm import read_lines

_ROUNDS = 50  # of the search for weights


@dataclass(frozen=True)
class Perplexities:
    """How well language models know a text.

    Attributes:
        path: the text.
        num_sentences, num_tokens: of the text; the ends of sentences are tokens.
        models: each model's file, with its perplexity.
        weights: of the models in their mixture, those of the lowest perplexity on this very text; none for one model.
        mixed: the perplexity of the mixture.
    """

    path: Path
    num_sentences: int
    num_tokens: int
    models: Sequence[tuple[Path, float]]
    weights: Sequence[float] = ()
    mixed: float = math.nan

    def lines(self) -> list[str]:
        """A line per fact."""
        lines = [f"{self.path}: {self.num_sentences} sentences, {self.num_tokens} tokens with their ends"]
        lines += [f"{path}: perplexity {perplexity:.2f}" for path, perplexity in self.models]
        if self.weights:
            shares = " + ".join(
                f"{weight:.2f} {path}" for weight, (path, _) in zip(self.weights, self.models, strict=True)
            )
            lines.append(f"{shares}: perplexity {self.mixed:.2f} (weights chosen on this text)")
        return lines


def perplexities(lms: Sequence[Path], *, data: Path | None = None, plain_text: Path | None = None) -> Perplexities:
    """The perplexity of each model on the transcripts of a data directory, or on the lines of a text, and mixed.

    A mixture has the probability sum_m w_m P_m(token | all before). Its weights are found by expectation maximisation.

    Raises DataError for missing or faulty files, or symbols that a neural model does not know.
    """
    path = plain_text if data is None else data / "text"
    assert path is not None, "callers give one of both"
    expect_files({path: PREPARE, **dict.fromkeys(lms, TRAIN_LM)})
    sentences: list[Sequence[str]]
    sentences = [*read_lines(path)] if data is None else [*read_transcripts(path).values()]
    found = np.array([np.concatenate(read_lm(lm).token_log_probs(sentences)) for lm in lms])  # (M, T)
    each = [(lm, math.exp(-row.mean())) for lm, row in zip(lms, found, strict=True)]
    if len(lms) == 1:
        return Perplexities(path, len(sentences), found.shape[1], each)
    probabilities = np.exp(found)
    weights = np.full(len(lms), 1 / len(lms))
    for _ in range(_ROUNDS):
        shares = weights[:, None] * probabilities
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    mixed = math.exp(-np.log(weights @ probabilities).mean())
    return Perplexities(path, len(sentences), found.shape[1], each, weights.tolist(), mixed)


def sample_lm(lm: Path, number: int, temperature: float = 1.0, seed: int = 1) -> list[str]:
    """Sentences that a model makes up. Raises DataError for a faulty file, ConfigError for the temperature."""
    if not temperature > 0:
        raise ConfigError(f"--temperature {temperature:g}: expected a number above 0")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected a whole number of at least 0")
    expect_files({lm: TRAIN_LM})
    model: PhoneLm = read_lm(lm)
    if not model.phones:
        raise DataError(f"{location(lm)}a model without a phone; give another")
    return [
        spell(each, model.phones) for each in draw(model.automaton, number, temperature, np.random.default_rng(seed))
    ]
