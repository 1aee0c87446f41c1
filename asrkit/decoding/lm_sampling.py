"""Sentences that a language model makes up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from asrkit.decoding.scorer import SearchLm

MOST_SHOWN = 60  # tokens of a sample that training shows
MOST_TOKENS = 1000  # of a sentence that does not end


def draw(
    lm: SearchLm, number: int, temperature: float, rng: np.random.Generator, most: int = MOST_TOKENS
) -> list[tuple[int, ...]]:
    """Draw `number` sentences token by token, with the probability P(token)^(1 / temperature) over its sum.

    Of a sentence that does not end the first `most` tokens are returned. The temperature is above 0: below 1 likely
    tokens get likelier, above 1 all become more alike.
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
    """Tokens as text: characters side by side, phones with blanks between."""
    between = "" if " " in phones else " "
    return between.join(phones[token - 1] for token in tokens)
