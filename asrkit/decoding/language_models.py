"""Reads language models of both kinds from their files: n-grams (ARPA) and networks (lm.npz)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path

from asrkit.errors import DataError, location
from asrkit.formats.arpa import BOS, EOS, UNK, arpa_text, read_arpa_text
from asrkit.formats.arpa import parse_arpa as parse_ngrams
from asrkit.io.files import open_file, read_bytes
from asrkit.lang.symbols import name_symbols
from asrkit.lm.automaton import LmAutomaton
from asrkit.lm.ngram import NgramLM, ngram_of, parse_arpa
from asrkit.models.language_file import MARK, neural_lm_content, parse_neural_lm
from asrkit.models.search_language import NeuralLm

PhoneLm = NgramLM | NeuralLm
StoredLm = LmAutomaton | NeuralLm  # the same in the form for searches
_NEURAL = "neural language model "  # begins the text of a network; the bytes of its file follow in base 64


def read_lm(path: str | Path) -> PhoneLm:
    """The model in a file, over all phones that it knows. Raises DataError for a file of neither kind."""
    text = read_lm_text(path)
    if is_network(text):
        return parse_neural_lm(read_bytes(path), str(path))
    symbols = {symbol for (symbol,) in parse_ngrams(text, str(path))[0]}
    return parse_arpa(text, sorted(symbols - {BOS, EOS, UNK}), str(path))


def read_lm_text(path: str | Path) -> str:
    """The text that an experiment stores for the model in a file: its ARPA text, or a network in base 64.

    Raises DataError for a file that cannot be read.
    """
    with open_file(path) as stream:
        is_neural = stream.read(len(MARK)) == MARK
    return _text_of_network(read_bytes(path)) if is_neural else read_arpa_text(path)


def lm_text(lm: PhoneLm) -> str:
    """The text that an experiment stores for a model."""
    return _text_of_network(neural_lm_content(lm)) if isinstance(lm, NeuralLm) else arpa_text(lm.ngrams)


def phone_lm(lm: StoredLm, phones: Sequence[str]) -> PhoneLm:
    """The model over `phones` whose form for searches is `lm`. Raises DataError as ngram_of."""
    return lm if isinstance(lm, NeuralLm) else ngram_of(lm, phones)


def is_network(text: str) -> bool:
    """Whether the text that an experiment stores is that of a network."""
    return text.startswith(_NEURAL)


def _text_of_network(content: bytes) -> str:
    return _NEURAL + base64.b64encode(content).decode()


def parse_lm(text: str, phones: Sequence[str], name: str) -> PhoneLm:
    """The model of a text from read_lm_text or lm_text. `phones` are those of the token table, in order.

    `name` stands for the file in messages. Raises DataError for a faulty text, or if the model has other phones.
    """
    if not is_network(text):
        return parse_arpa(text, phones, name)
    try:
        content = base64.b64decode(text.removeprefix(_NEURAL), validate=True)
    except (binascii.Error, ValueError):
        raise DataError(f"{location(name)}not the text of a neural language model; train it again") from None
    lm = parse_neural_lm(content, name)
    if lm.phones != tuple(phones):
        others = name_symbols(sorted({*lm.phones} ^ {*phones}), phones) or "the same in another order"
        raise DataError(f"{location(name)}its phones are not those of the token table ({others}); train it with that")
    return lm
