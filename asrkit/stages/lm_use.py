"""Perplexities of language models on a text, and sentences drawn from a model.

N-gram and neural models are possible.
"""

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

_ROUNDS = 50  # of expectation maximisation


@dataclass(frozen=True)
class Perplexities:
    """The perplexities of language models on a text.

    Attributes:
        path: the text.
        num_sentences, num_tokens: of the text; the ends of sentences count as tokens.
        models: the file of each model, with its perplexity.
        weights: the weights of the models in their mixture of lowest perplexity on this text; empty for one model.
        mixed: the perplexity of the mixture; NaN for one model.
    """

    path: Path
    num_sentences: int
    num_tokens: int
    models: Sequence[tuple[Path, float]]
    weights: Sequence[float] = ()
    mixed: float = math.nan

    def lines(self) -> list[str]:
        """A summary of the result, a line per fact."""
        lines = [f"{self.path}: {self.num_sentences} sentences, {self.num_tokens} tokens with their ends"]
        lines += [f"{path}: perplexity {perplexity:.2f}" for path, perplexity in self.models]
        if self.weights:
            shares = " + ".join(
                f"{weight:.2f} {path}" for weight, (path, _) in zip(self.weights, self.models, strict=True)
            )
            lines.append(f"{shares}: perplexity {self.mixed:.2f} (weights chosen on this text)")
        return lines


def perplexities(
    lms: Sequence[str | Path], *, data: str | Path | None = None, plain_text: str | Path | None = None
) -> Perplexities:
    """The perplexity of each model, and of their mixture, on a text.

    The text is the transcripts of the data directory `data`, or the lines of the file `plain_text`. The mixture is
    sum_m w_m P_m(token | all before). Expectation maximisation finds its weights w.

    Raises DataError if a file is missing or faulty, or a neural model does not know a symbol. Raises ConfigError if
    neither or both of `data` and `plain_text` are given.
    """
    if (data is None) == (plain_text is None):
        raise ConfigError("give either data or plain_text")
    path, files = Path(plain_text or "") if data is None else Path(data) / "text", [Path(lm) for lm in lms]
    expect_files({path: PREPARE, **dict.fromkeys(files, TRAIN_LM)})
    sentences: list[Sequence[str]]
    sentences = [*read_lines(path)] if data is None else [*read_transcripts(path).values()]
    found = np.array([np.concatenate(read_lm(lm).token_log_probs(sentences)) for lm in files])  # (M, T)
    each = [(lm, math.exp(-row.mean())) for lm, row in zip(files, found, strict=True)]
    if len(files) == 1:
        return Perplexities(path, len(sentences), found.shape[1], each)
    probabilities = np.exp(found)
    weights = np.full(len(files), 1 / len(files))
    for _ in range(_ROUNDS):
        shares = weights[:, None] * probabilities
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    mixed = math.exp(-np.log(weights @ probabilities).mean())
    return Perplexities(path, len(sentences), found.shape[1], each, weights.tolist(), mixed)


def sample_lm(lm: str | Path, number: int, temperature: float = 1.0, seed: int = 1) -> list[str]:
    """Draw `number` sentences from the model in the file `lm`, token by token.

    The probability of a token is proportional to P(token)^(1 / temperature). Phones have blanks between them,
    characters have not.

    Raises DataError for a faulty file, ConfigError for impossible settings.
    """
    path = Path(lm)
    if not temperature > 0:
        raise ConfigError(f"--temperature {temperature:g}: expected a number above 0")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected a whole number of at least 0")
    expect_files({path: TRAIN_LM})
    model: PhoneLm = read_lm(path)
    if not model.phones:
        raise DataError(f"{location(path)}a model without a phone; give another")
    return [
        spell(each, model.phones) for each in draw(model.automaton, number, temperature, np.random.default_rng(seed))
    ]
