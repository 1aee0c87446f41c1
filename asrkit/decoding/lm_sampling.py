"""Sentences drawn from a language model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asrkit.decoding.scorer import SearchLm

MOST_SHOWN = 60  # tokens of the samples that training shows
MOST_TOKENS = 1000  # of a sentence without an end


def draw(
    lm: SearchLm, number: int, temperature: float, rng: np.random.Generator, most: int = MOST_TOKENS
) -> list[tuple[int, ...]]:
    """Draw `number` sentences token by token.

    The probability of a token is proportional to P(token)^(1 / temperature). Below 1, the temperature makes likely
    tokens likelier. Above 1, it makes all tokens more alike.

    Args:
        lm: the language model.
        number: of sentences.
        temperature: above 0.
        rng: source of random numbers.
        most: tokens after which a sentence is cut off if it has not ended.

    Returns:
        The tokens of each sentence.
    """
    contexts = lm.begin()
    sentences: list[list[int]] = [[] for _ in range(number)]
    going_on, current = np.arange(number), np.full(number, contexts.start)
    while len(going_on) and len(sentences[going_on[0]]) < most:
        log_probs = contexts.rows(current) / temperature
        log_probs[:, 0] = contexts.ends(current) / temperature
        shares = np.exp(log_probs - log_probs.max(axis=1, keepdims=True)).cumsum(axis=1)
        tokens = (shares < rng.random(len(shares))[:, None] * shares[:, -1:]).sum(axis=1)
        is_live = tokens > 0
        going_on, current, tokens = going_on[is_live], current[is_live], tokens[is_live]
        for sentence, token in zip(going_on.tolist(), tokens.tolist(), strict=True):
            sentences[sentence].append(token)
        current = contexts.after(current, tokens)
    return [tuple(sentence) for sentence in sentences]


def spell(tokens: Sequence[int], phones: Sequence[str]) -> str:
    """Tokens as text. Characters are joined directly; other symbols have blanks between them."""
    between = "" if " " in phones else " "
    return between.join(phones[token - 1] for token in tokens)
