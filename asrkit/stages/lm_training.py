"""Training of a phone n-gram language model on a data directory's transcripts."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from asrkit.errors import ConfigError
from asrkit.findings import Findings
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.lock import lock_file
from asrkit.io.stamp import File, Stamp, stamp_of
from asrkit.lang.symbols import name_symbols, symbol_warnings
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram, write_arpa
from asrkit.lm.smoothing import EPSILONS
from asrkit.stages.inputs import PREPARE, expect_files


@dataclass(frozen=True)
class LmConfig:
    """The settings of a language model. Raises ConfigError for epsilons with a smoothing that has none.

    Attributes:
        order: the length of its longest n-grams.
        smoothing: how probability is given to unseen n-grams, one of lm.smoothing.SMOOTHINGS.
        epsilons: those of "laplace" smoothing, beginning with unigrams; the last also applies to higher orders. None:
            EPSILONS.
    """

    order: int = 3
    smoothing: str = "kneser_ney"
    epsilons: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.epsilons and self.smoothing != "laplace":
            raise ConfigError(f"--epsilon has no meaning for --smoothing {self.smoothing}; give --smoothing laplace")


@dataclass(frozen=True)
class HeldOut:
    """The model's perplexity on another text, and how many phones of the text it does not know."""

    path: Path
    perplexity: float
    num_phones: int
    num_unknown: int


@dataclass(frozen=True)
class LmTraining:
    """A language model on disk.

    Attributes:
        path: its ARPA file.
        num_ngrams: its number of n-grams per order, beginning with unigrams; empty if the file was up to date.
        perplexity: on the text it was trained on; None if the file was up to date.
        dev: its perplexity on the dev set's text, if one was given.
        warnings: a line for each pair of symbols that look alike but differ.
    """

    path: Path
    num_ngrams: Sequence[int] = ()
    perplexity: float | None = None
    dev: HeldOut | None = None
    warnings: Sequence[str] = ()

    def lines(self) -> list[str]:
        """A summary of the result, a line per fact."""
        if self.perplexity is None:
            return [f"{self.path}: up to date"]
        sizes = ", ".join(f"{count} {order}-grams" for order, count in enumerate(self.num_ngrams, 1))
        lines = [f"{self.path}: {sizes}; perplexity of its own text {self.perplexity:.2f}"]
        if self.dev:
            lines.append(
                f"{self.dev.path}: perplexity {self.dev.perplexity:.2f}; "
                f"{self.dev.num_unknown} of {self.dev.num_phones} phones outside the vocabulary"
            )
        return lines


def train_lm(
    data_dir: str | Path,
    tokens: str | Path,
    out: str | Path,
    config: LmConfig = LmConfig(),
    *,
    dev: str | Path | None = None,
    force: bool = False,
) -> LmTraining:
    """Train a language model on `data_dir`/text and write it to `out` in ARPA format, unless that is up to date.

    Args:
        tokens: the token table, which is the model's vocabulary.
        dev: a data directory on whose `text` the model's perplexity is measured.
        force: train even if `out` is up to date.

    Raises:
        DataError: a file is missing or faulty, a transcript is empty or has phones that are not in the token table.
    """
    tokens, out = Path(tokens), Path(out)
    text, dev_text = Path(data_dir) / "text", None if dev is None else Path(dev) / "text"
    expect_files({file: PREPARE for file in (text, tokens, dev_text) if file})
    epsilons = config.epsilons or EPSILONS
    inputs = {
        "text": File(text),
        "tokens": File(tokens),
        "dev": File(dev_text) if dev_text else None,
        "order": config.order,
        "smoothing": config.smoothing,
        "epsilons": list(epsilons) if config.smoothing == "laplace" else None,
    }
    stamp = Stamp(stamp_of(out), inputs)
    if not force and stamp.is_current():
        return LmTraining(out)
    with lock_file(out, "train-lm"), stamp.making():
        phones, transcripts = TokenTable.read(tokens).phones, read_transcripts(text)
        expect_transcripts(transcripts, phones, text, tokens)
        held_out = None if dev_text is None else read_transcripts(dev_text)
        symbols_of = {str(tokens): set(phones)}
        if held_out is not None:
            symbols_of[str(dev_text)] = {phone for transcript in held_out.values() for phone in transcript}
        warnings = symbol_warnings(symbols_of)
        lm = train_ngram(transcripts.values(), config.order, phones, config.smoothing, epsilons)
        perplexity = lm.perplexity(transcripts.values())
        on_dev = None
        if dev_text is not None and held_out is not None:
            on_dev = HeldOut(dev_text, lm.perplexity(held_out.values()), *_count(held_out.values(), phones))
        write_arpa(lm, out)
    return LmTraining(out, [len(ngrams) for ngrams in lm.ngrams], perplexity, on_dev, warnings)


def expect_transcripts(
    transcripts: Mapping[str, Sequence[str]], phones: Sequence[str], text: Path, tokens: Path
) -> None:
    """Raise DataError with a line for each transcript, of the table `text`, that is empty or has other phones."""
    findings = Findings()
    known = set(phones)
    for utt, transcript in transcripts.items():
        unknown = sorted(set(transcript) - known)
        if unknown:
            findings.error(f"{utt}: phones not in {tokens}: {name_symbols(unknown, phones)}", text)
        elif not transcript:
            findings.error(f"{utt}: empty transcript; give its phones or remove it", text)
    findings.raise_errors()


def _count(transcripts: Iterable[Sequence[str]], known: Container[str]) -> tuple[int, int]:
    """The number of phones, and the number of unknown ones among them."""
    phones = [phone for transcript in transcripts for phone in transcript]
    return len(phones), sum(phone not in known for phone in phones)
