"""Training of a neural language model on transcripts, or on the characters of a text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrkit.config.yaml_config import dump_config, to_dict
from asrkit.decoding.lm_sampling import MOST_SHOWN, draw, spell
from asrkit.device import choose_device
from asrkit.errors import DataError, location
from asrkit.findings import Findings
from asrkit.formats.transcripts import read_transcripts
from asrkit.io.lock import lock_dir
from asrkit.io.stamp import TRAIN_STAMP, File, Stamp
from asrkit.io.tell import logged
from asrkit.io.text import read_text
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import train_ngram
from asrkit.models.language_file import write_neural_lm
from asrkit.models.search_language import NeuralLm
from asrkit.stages.inputs import PREPARE, expect_files
from asrkit.stages.lm_training import expect_transcripts
from asrkit.training.lm_config import NeuralLmConfig

if TYPE_CHECKING:
    from asrkit.models.language import LanguageModel
    from asrkit.training.state import LmEpoch

Sentences = Sequence[Sequence[str]]
LM_FILE = "lm.npz"
_NGRAM_ORDER = 5  # of the n-gram model that is trained for comparison
_FEWEST = 3  # smallest number of phones for a picture of the embeddings
_DEV_SHARE = 0.1  # share of dev in the lines of a plain text


@dataclass(frozen=True)
class LmSource:
    """The text for training a language model: transcripts of data directories, or the characters of a text.

    Attributes:
        train, dev, tokens: data directories, and the token table, which is the vocabulary.
        plain_text: a text instead of these. Every line is a sentence, every character a token. The last tenth of the
            lines is dev.
    """

    train: Path | None = None
    dev: Path | None = None
    tokens: Path | None = None
    plain_text: Path | None = None

    @property
    def files(self) -> list[Path]:
        """All files that are read."""
        given = (self.train and self.train / "text", self.dev and self.dev / "text", self.tokens, self.plain_text)
        return [path for path in given if path is not None]

    def read(self) -> LmTexts:
        """Read the text.

        Raises DataError for missing or faulty files, and for phones that are not in the token table.
        """
        if self.plain_text is not None:  # the user's own: no stage makes it
            return _texts_of_lines(read_lines(self.plain_text), self.plain_text)
        expect_files(dict.fromkeys(self.files, PREPARE))
        assert self.train is not None and self.dev is not None and self.tokens is not None
        phones, found = TokenTable.read(self.tokens).phones, []
        for path in (self.train / "text", self.dev / "text"):
            transcripts = read_transcripts(path)
            expect_transcripts(transcripts, phones, path, self.tokens)
            found.append(list(transcripts.values()))
        return LmTexts(phones, *found)


@dataclass(frozen=True)
class LmTexts:
    """The sentences to train on, and those by which the best weights are chosen. Their symbols are `phones`."""

    phones: tuple[str, ...]
    train: Sentences
    dev: Sentences


def read_lines(path: Path) -> list[str]:
    """The lines of a text, without empty ones. Raises DataError if the file is not text or has no line."""
    findings = Findings()
    lines = [line for line in (read_text(path, findings) or "").split("\n") if line]
    if not findings.errors and not lines:
        findings.error("no line of text", path)
    findings.raise_errors()
    return lines


def _texts_of_lines(lines: Sequence[str], path: Path) -> LmTexts:
    num_dev = round(len(lines) * _DEV_SHARE)
    if num_dev == 0:
        raise DataError(f"{location(path)}{len(lines)} lines; expected 5 or more, of which the last tenth is dev")
    sentences = [list(line) for line in lines]
    return LmTexts(tuple(sorted(set("".join(lines)))), sentences[:-num_dev], sentences[-num_dev:])


@dataclass(frozen=True)
class NeuralLmTraining:
    """A neural language model on disk.

    Attributes:
        path: its file.
        epoch: the epoch of its weights; None if the file was up to date.
        ngram_perplexity: the perplexity on dev of a Kneser-Ney 5-gram trained on the same text.
    """

    path: Path
    epoch: LmEpoch | None = None
    ngram_perplexity: float = 0.0

    def line(self) -> str:
        """A summary of the result."""
        if self.epoch is None:
            return f"{self.path}: up to date"
        return (
            f"{self.path}: dev perplexity {self.epoch.dev_perplexity:.2f} (epoch {self.epoch.epoch}); "
            f"a {_NGRAM_ORDER}-gram of the same text has {self.ngram_perplexity:.2f}"
        )


def train_neural_lm(
    source: LmSource,
    directory: str | Path,
    config: NeuralLmConfig | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> NeuralLmTraining:
    """Train a neural language model, unless the directory has it from the same text and settings.

    Args:
        source: the text.
        directory: is created, with lm.npz (the model), config.yaml, history.csv, checkpoint.pt and best.EPOCH.pt. The
            nearest neighbours of each phone are in embeddings.txt, and embeddings.png shows where all phones lie.
        config: all settings.
        resume: continue from the checkpoint of an interrupted run, if there is one.
        force: start again from the beginning, even if the directory has a result or a checkpoint.
        report: is called with lines about the run. In addition, each epoch prints a line to stderr.

    Raises:
        DataError: texts are missing or faulty, or there is a checkpoint and neither `resume` nor `force`.
        ModelError: a loss is not finite, or the checkpoint belongs to other settings or another text.
        ConfigError: the device is not there.
    """
    directory, config = Path(directory), config or NeuralLmConfig()
    texts = source.read()
    stamp = Stamp(directory / TRAIN_STAMP, _inputs(source, config))
    path = directory / LM_FILE
    if not force and stamp.is_current():
        return NeuralLmTraining(path)
    choose_device(config.training.device)  # before anything is removed
    with lock_dir(directory, "train-nlm"):
        checkpoint = directory / "checkpoint.pt"
        if force:
            checkpoint.unlink(missing_ok=True)
        if checkpoint.exists() and not resume:
            raise DataError(
                f"{location(checkpoint)}left by an earlier run; give --resume to go on or --force to start anew"
            )
        names = (LM_FILE, "config.yaml", "history.csv", "embeddings.txt", "embeddings.png")
        with stamp.making(of=names, is_removed=False), logged(directory / "train.log"):
            epoch = _train(texts, config, directory, stamp.made_from, report)
        ngram = train_ngram(texts.train, _NGRAM_ORDER, texts.phones)
        return NeuralLmTraining(path, epoch, ngram.perplexity(texts.dev))


def _train(
    texts: LmTexts, config: NeuralLmConfig, directory: Path, identity: str, report: Callable[[str], None]
) -> LmEpoch:
    import torch  # takes seconds to load

    from asrkit.models.language import LanguageModel
    from asrkit.training.lm_loop import LmText, LmTraining

    torch.manual_seed(config.training.seed)
    model = LanguageModel(config.model, len(texts.phones) + 1)
    ids = {phone: number for number, phone in enumerate(texts.phones, 1)}
    encoded = [[[ids[phone] for phone in each] for each in part] for part in (texts.train, texts.dev)]
    training = LmTraining(model, config.training, LmText(*encoded), directory, identity)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    report(f"{num_parameters} parameters, {len(texts.train)} sentences of {sum(map(len, texts.train))} tokens")

    def sample(model: LanguageModel) -> str:
        rng = np.random.default_rng(config.training.seed)
        (line,) = draw(_for_search(model, config, texts.phones), 1, 1.0, rng, MOST_SHOWN)
        return spell(line, texts.phones)

    epoch = training.run(sample)
    lm = _for_search(model, config, texts.phones)
    write_neural_lm(lm, directory / LM_FILE)
    dump_config(config, directory / "config.yaml")
    _show_embeddings(lm, directory, report)
    return epoch


def _show_embeddings(lm: NeuralLm, directory: Path, report: Callable[[str], None]) -> None:
    from asrkit.reporting.embeddings import draw_embeddings, write_neighbours  # loads matplotlib

    if len(lm.phones) < _FEWEST:
        return
    table, picture = directory / "embeddings.txt", directory / "embeddings.png"
    share, chance = write_neighbours(lm.phones, lm.embeddings[1:], table)
    draw_embeddings(lm.phones, lm.embeddings[1:], picture)
    report(
        f"{picture}, {table}: the nearest neighbour is of the same kind for {share:.0%} of the phones; by chance it "
        f"would be for {chance:.0%}"
    )


def _for_search(model: LanguageModel, config: NeuralLmConfig, phones: Sequence[str]) -> NeuralLm:
    weights = {name: values.detach().cpu().numpy().copy() for name, values in model.state_dict().items()}
    return NeuralLm(config.model, phones, weights)


def _inputs(source: LmSource, config: NeuralLmConfig) -> dict[str, Any]:
    """Everything on which the weights depend."""
    sections = to_dict(config)
    for name in ("num_threads", "device", "checkpoint_minutes"):
        del sections["training"][name]
    return {"config": sections, "files": [File(path) for path in source.files]}
