"""Adaptation: train a model further on minutes of your own labelled recordings, so that it is better on them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import config_text, dump_config, parse_config
from asrkit.decoding.language_models import PhoneLm, lm_text
from asrkit.device import choose_device
from asrkit.errors import AsrkitError, ConfigError, DataError, location, raise_if_any
from asrkit.features.pipeline import FEATS_STAMP, differing_settings, feats_input, pooled_stats
from asrkit.findings import Findings
from asrkit.formats.arpa import read_arpa_text
from asrkit.formats.corpus_info import read_corpus_info
from asrkit.formats.data_dir import feats_table
from asrkit.formats.shards import expect_plain
from asrkit.formats.transcripts import read_transcripts
from asrkit.inference.find_model import find_model
from asrkit.io.atomic import atomic_write
from asrkit.io.json_text import read_json, write_json
from asrkit.io.lock import is_there, lock_dir
from asrkit.io.stamp import TRAIN_STAMP, File, Stamp, expect_right
from asrkit.io.tell import logged
from asrkit.lang.phone_map import FoldedTokens, PhoneMap, read_phone_map
from asrkit.lang.symbols import name_symbols
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import NgramLM, train_ngram, write_arpa
from asrkit.models.config import ModelConfig
from asrkit.scoring.per import Counts, pool
from asrkit.scoring.protocols import AS_IS
from asrkit.scoring.significance import Comparison, compare, pool_speakers, to_json
from asrkit.scoring.transcripts import read_utt2spk
from asrkit.stages.exporting import export_trained
from asrkit.stages.inputs import PREPARE
from asrkit.stages.other_conditions import log_probs_elsewhere
from asrkit.stages.training import Run, TrainingData
from asrkit.training.config import AugmentConfig, TrainingConfig
from asrkit.training.held_out import choose, choose_without, hold_out
from asrkit.types import CorpusInfo, Supplement

if TYPE_CHECKING:
    from torch import Tensor

    from asrkit.decoding.tuning import StoredSet
    from asrkit.experiment import Experiment
    from asrkit.training.dataset import PhoneIds, TrainingSet
    from asrkit.training.state import EpochRecord

NUM_EPOCHS = 12  # the largest number of epochs
MAX_LR = 1e-3  # for the phones of the model; a quarter of the rate for training from scratch
PATIENCE = 4  # adaptation ends after so many epochs without a lower PER on the held-out part
_RIVALS = {"before": "as it was before", "scratch": "that was trained from scratch"}
_BATCH_SIZE = 32  # utterances whose log-probabilities are computed together; it changes only the speed
_MADE = ("config.yaml", "tokens.txt", "lm.arpa", "held_out", "excluded.txt", "history.csv", "learning_curve.png")
_OUTPUTS = (*_MADE, "adapt.json", "final.pt", "final.onnx")
_NGRAM_ORDER = 5  # of the language model for new phones, if the old model was a network
_DEVICE = "training.device="  # an override on which the adapted model does not depend
_OWN_CHOICES = ("training.keep_best", "training.select")  # all epochs are kept, and one is chosen


def _joined(before: CorpusInfo | None, own: CorpusInfo | None) -> CorpusInfo | None:
    """The description of the training corpora of a model that was trained on `before` and then adapted."""
    if before is None:
        return own
    if own is None:
        return replace(before, name=f"{before.name}, then own recordings")
    both = (before, own)
    license_name, attribution = (
        "; ".join(dict.fromkeys(text for text in texts if text)) or None
        for texts in ([each.license for each in both], [each.attribution for each in both])
    )
    is_synthetic = all(each.is_synthetic for each in both)
    return CorpusInfo(f"{before.name}, then {own.name}", own.language, license_name, attribution, is_synthetic)


def _say_nothing(line: str) -> None:
    """The default of `report`."""


@dataclass(frozen=True)
class AdaptationData:
    """The model to adapt and the data to adapt it to.

    Attributes:
        model: the directory of a trained experiment, an exported model's file, or a name that `--model` knows.
        data: a data directory with transcripts and with features, which were made with the model's settings.
        phone_map: a file of `symbol phone` lines, which map symbols of the transcripts to phones of the model.
        new_phones: give the model an output layer for the symbols of the transcripts. Symbols that the model knows, or
            that `phone_map` maps to its phones, begin with the weights of these phones.
    """

    model: str | Path
    data: Path
    phone_map: Path | None = None
    new_phones: bool = False


@dataclass(frozen=True)
class Adaptation:
    """An adapted model on disk, as an experiment.

    Attributes:
        directory: the experiment directory; adapt.json in it has the figures.
        kept: the model in it: "adapted", or its rival: "before" or, with new phones, "scratch".
        lines: a summary: the data, the gain on the held-out part, and the kept model.
        is_new: True if it was adapted now, False if it was up to date.
    """

    directory: Path
    kept: str
    lines: Sequence[str]
    is_new: bool

    @classmethod
    def of(cls, figures: Mapping[str, Any], directory: Path, data_dir: Path, *, is_new: bool) -> Adaptation:
        """The result in adapt.json. The file contains no paths, so the directories can be moved."""
        subject, *lines, outcome = figures["lines"]
        lines = [f"{data_dir}: {subject}", *lines, f"{directory}: {outcome}"]
        return cls(directory, figures["kept"], lines, is_new)


def adapt(
    data: AdaptationData,
    directory: str | Path,
    overrides: Sequence[str] = (),
    *,
    resume: bool = False,
    force: bool = False,
    report: Callable[[str], None] = _say_nothing,
) -> Adaptation:
    """Train a model further on your own recordings, and keep the better one: the new model or its rival.

    The rival is the model before adaptation. That model cannot recognise new phones, so with new phones the rival is a
    network that is trained from scratch for as many epochs. A part of the recordings is held out. The phone error rate
    on it decides which epoch and which of the two models is kept.

    Args:
        directory: the experiment directory to write.
        overrides: settings of this training, each `training.SETTING=VALUE`. The log-probabilities that compare the
            models are computed on `training.device`, too.
        resume: continue an interrupted run, if there is one.
        force: start again from the beginning, even if the directory has a result or a checkpoint.
        report: is called with lines about the run's progress. In addition, each epoch prints a line to stderr.

    Raises:
        ConfigError: an override is not valid, or the device is not there.
        DataError: inputs are missing or faulty, features were made with other settings, transcripts have phones that
            the model does not know, there are too few utterances, or there is an unfinished run and neither `resume`
            nor `force` is given.
        ModelError: there is no such model, or its network cannot be trained further.
    """
    directory, model = Path(directory), find_model(data.model)
    _expect_inputs(data, model, directory)
    stamp = Stamp(directory / TRAIN_STAMP, _inputs(data, model, overrides))
    if not force and stamp.is_current():
        return Adaptation.of(read_json(directory / "adapt.json"), directory, data.data, is_new=False)
    with lock_dir(directory, "adapt"):
        plan = _Plan.make(data, model, overrides)
        choose_device(plan.config.training.device)  # before anything is removed
        checkpoint = directory / "checkpoint.pt"
        if force:
            _remove_progress(directory)
        if checkpoint.exists() and not resume:
            raise DataError(
                f"{location(checkpoint)}left by an earlier run; give --resume to go on or --force to start anew"
            )
        for name in ("final.pt", "lm.arpa"):
            (directory / name).unlink(missing_ok=True)
        with stamp.making(of=_OUTPUTS), logged(directory / "train.log"):
            figures = _adapt(plan, directory, stamp.made_from, report)
        _remove_progress(directory)
    return Adaptation.of(figures, directory, data.data, is_new=True)


def _adapt(plan: _Plan, directory: Path, identity: str, report: Callable[[str], None]) -> dict[str, Any]:
    """Train the contestants, keep the better one in `directory`, and return the figures."""
    with atomic_write(directory / "held_out") as stream:
        stream.write("".join(f"{utt_id}\n" for utt_id in sorted(plan.held_out)))
    run = plan.run()
    run.note_excluded(directory, report)
    if not len(run.sets.train):
        raise DataError(f"{location(plan.data.data)}no utterance is left to train on; see {directory / 'excluded.txt'}")
    lm, lm_text = plan.language_model(directory)
    corpus_dir = plan.data.data.parent
    own = read_corpus_info(corpus_dir) if (corpus_dir / "tokens.txt").exists() else None
    adapted = _Contestant.trained(
        "adapted", run, plan.experiment(run, lm, _joined(plan.base.corpus, own)), directory, identity, plan.units
    )
    if plan.data.new_phones:
        report(f"from scratch, for {len(adapted.history)} epochs:")
        new, scratch = plan.run_from_scratch(len(adapted.history)), directory / "scratch"
        scratch.mkdir(exist_ok=True)
        rival = _Contestant.trained("scratch", new, plan.experiment(new, lm, own), scratch, identity, plan.units)
    else:
        dev = plan.open_set(plan.base.global_cmvn).part(plan.held_out)
        weights, device = {0: plan.base.model.state_dict()}, plan.config.training.device
        rival = _Contestant.of("before", plan.base, dev, weights, plan.units, device)
    verdict = _Verdict(adapted, rival, {utt_id: plan.utt2spk[utt_id] for utt_id in plan.held_out})
    figures = verdict.to_dict()
    figures["lines"] = [plan.subject(), *verdict.lines(), verdict.outcome()]
    write_json(directory / "adapt.json", figures)
    _save(verdict.kept, run.sets.dev, lm_text, directory, plan.data.data, report)
    return figures


@dataclass(frozen=True)
class _Plan:
    """An adaptation that is ready to begin.

    Attributes:
        data: the inputs.
        base, base_lm: the model before adaptation, and its language model as text.
        config: settings of the adapted model; its section `training` is that of the adaptation.
        tokens: its output classes.
        sources: for each output class the class of `base` whose weights it begins with, or None.
        phone_ids: the class of each symbol of the transcripts.
        utt2spk: utterance id -> speaker.
        held_out: the utterances that are held out.
    """

    data: AdaptationData
    base: Experiment
    base_lm: str | None
    config: ExperimentConfig
    tokens: TokenTable
    sources: Sequence[int | None]
    phone_ids: PhoneIds
    utt2spk: Mapping[str, str]
    held_out: set[str]

    @classmethod
    def make(cls, data: AdaptationData, model: Path, overrides: Sequence[str]) -> _Plan:
        base, base_lm = _load(model)
        _expect_settings(data, base.config)
        config = _settings(base.config, data, overrides)
        transcripts, text = read_transcripts(data.data / "text"), data.data / "text"
        symbols = sorted({phone for phones in transcripts.values() for phone in phones})
        phone_map = read_phone_map(data.phone_map, base.tokens) if data.phone_map else PhoneMap("", {})
        known = FoldedTokens(base.tokens, phone_map)
        if data.new_phones:
            tokens = TokenTable(symbols)
            sources: list[int | None] = [0, *(known.phone_ids.get(phone) for phone in tokens.phones)]
            phone_ids: PhoneIds = tokens
        else:
            if unknown := [symbol for symbol in symbols if symbol not in known.phone_ids]:
                raise DataError(
                    f"{location(text)}phones that {model} does not know: {name_symbols(unknown, base.tokens.phones)}; "
                    f"give --phone-map FILE, which says which of its phones they are ({' '.join(base.tokens.phones)}), "
                    "or --new-phones for an output layer of their own"
                )
            tokens, sources, phone_ids = base.tokens, [*range(len(base.tokens))], known
        utt2spk = read_utt2spk(data.data / "utt2spk", transcripts, text)
        utt2spk = {utt_id: utt2spk[utt_id] for utt_id in transcripts}
        held_out = hold_out(utt2spk, config.training.seed)
        if not held_out:
            raise DataError(f"{location(text)}{len(transcripts)} utterance; expected two or more, as one is held out")
        return cls(data, base, base_lm, config, tokens, sources, phone_ids, utt2spk, held_out)

    def open_set(self, global_cmvn: np.ndarray, augment: AugmentConfig | None = None) -> TrainingSet:
        from asrkit.training.dataset import TrainingSet

        features, has_frames = self.config.features, self.config.model.heads.has_frames
        return TrainingSet.open(self.data.data, features, global_cmvn, self.phone_ids, augment, has_frames)

    def run(self) -> Run:
        """The adaptation. Its network has the weights with which it begins."""
        from asrkit.models.transfer import take_over

        run = self._run(self.config)
        take_over(run.model, self.base.model, self.sources)
        return run

    def run_from_scratch(self, num_epochs: int) -> Run:
        """A training of a new network on the same utterances."""
        training = scratch_settings(self.config.training, num_epochs)
        return self._run(replace(self.config, training=training))

    def _run(self, config: ExperimentConfig) -> Run:
        from asrkit.experiment import make_model
        from asrkit.training.dataset import split_infeasible
        from asrkit.training.loop import TrainingSets

        model, global_cmvn = make_model(config, self.tokens), pooled_stats(self.data.data, config.features)
        train = self.open_set(global_cmvn, config.training.augment).part(self.utt2spk.keys() - self.held_out)
        excluded: Mapping[str, tuple[int, int]] = {}
        if config.model.heads.has_ctc:
            train, excluded = split_infeasible(train, model)
        dev = self.open_set(global_cmvn).part(self.held_out)
        files = TrainingData(self.data.data, self.data.data, self.data.data / "text")
        return Run(files, config, model, TrainingSets(train, dev, self.tokens), global_cmvn, excluded)

    def language_model(self, directory: Path) -> tuple[PhoneLm | None, str | None]:
        """The language model for decoding, and its text.

        It is the model's own one. For new phones, one is trained on the transcripts of the training part.
        """
        if self.base.lm is None or not self.data.new_phones:
            return self.base.lm, self.base_lm
        transcripts = read_transcripts(self.data.data / "text")
        sentences = [phones for utt_id, phones in transcripts.items() if utt_id not in self.held_out]
        order = self.base.lm.order if isinstance(self.base.lm, NgramLM) else _NGRAM_ORDER
        lm, path = train_ngram(sentences, order, self.tokens.phones), directory / "lm.arpa"
        write_arpa(lm, path)
        return lm, read_arpa_text(path)

    def experiment(self, run: Run, lm: PhoneLm | None, corpus: CorpusInfo | None) -> Experiment:
        """The network of a run, which was trained on `corpus`, as an experiment."""
        from asrkit.experiment import Experiment

        calibration = None if self.data.new_phones else self.base.calibration
        return Experiment(run.config, self.tokens, run.model, run.global_cmvn, lm, calibration, corpus)

    @property
    def units(self) -> dict[str, str]:
        """The speaker of each utterance that is held out. If there is one speaker, each utterance is its own unit."""
        speakers = {utt_id: self.utt2spk[utt_id] for utt_id in sorted(self.held_out)}
        return speakers if len(set(speakers.values())) > 1 else {utt_id: utt_id for utt_id in speakers}

    def subject(self) -> str:
        """The amount of data, and what is held out, in words."""
        speakers = set(self.utt2spk.values())
        held_out = {self.utt2spk[utt_id] for utt_id in self.held_out}
        who = f"of {len(held_out)} of the {len(speakers)} speakers" if len(speakers) > 1 else "of one speaker"
        return f"{len(self.utt2spk)} utterances; held out: {len(self.held_out)} {who}"


@dataclass(frozen=True)
class _Contestant:
    """A trained experiment and its errors on the held-out utterances.

    Attributes:
        name: "adapted", "before" or "scratch".
        experiment: the experiment with the weights of `epoch`.
        epoch: the epoch with the fewest errors; 0 without training.
        counts: utterance id -> errors with these weights.
        left_out: utterance id -> errors with the epoch that is best on the other units, which is a fair figure.
        history: the epochs of the training, if there was one.
    """

    name: str
    experiment: Experiment
    epoch: int
    counts: Mapping[str, Counts]
    left_out: Mapping[str, Counts]
    history: Sequence[EpochRecord] = ()

    @classmethod
    def trained(
        cls, name: str, run: Run, experiment: Experiment, directory: Path, identity: str, units: Mapping[str, str]
    ) -> _Contestant:
        """Train the run's network, which is the experiment's, with checkpoints in `directory`."""
        from asrkit.training import loop
        from asrkit.training.weights import BestEpochs

        result = loop.train(run.model, run.config.training, run.sets, directory, identity)
        best = BestEpochs(directory, len(result.best))
        weights = {epoch: best.weights(epoch, run.model) for epoch in sorted(result.best)}
        found = cls.of(name, experiment, run.sets.dev, weights, units, run.config.training.device)
        return replace(found, history=result.history)

    @classmethod
    def of(
        cls,
        name: str,
        experiment: Experiment,
        dev: TrainingSet,
        weights: Mapping[int, Mapping[str, Tensor]],
        units: Mapping[str, str],
        device: str,
    ) -> _Contestant:
        """Evaluate the experiment with the weights of each epoch on the utterances of `dev`.

        `units` has the unit of each. The network runs on `device`.
        """
        by_epoch, utt_ids = [], list(dev.num_frames)
        for of_epoch in weights.values():
            experiment.model.load_state_dict(of_epoch)
            by_epoch.append(_stored_set(experiment, dev, device).point(experiment.config.decoding).counts)
        errors = np.array([[counts.num_errors for counts in of_epoch] for of_epoch in by_epoch])
        best, without = choose(errors), choose_without(errors, [units[utt_id] for utt_id in utt_ids])
        epoch = list(weights)[best]
        experiment.model.load_state_dict(weights[epoch])
        left_out = [by_epoch[chosen][place] for place, chosen in enumerate(without)]
        best_counts, left_out_counts = (dict(zip(utt_ids, each, strict=True)) for each in (by_epoch[best], left_out))
        return cls(name, experiment, epoch, best_counts, left_out_counts)

    def to_dict(self) -> dict[str, Any]:
        """The results for JSON."""
        return {
            "epoch": self.epoch,
            "num_epochs": len(self.history),
            "total": pool(self.counts.values()).to_dict(),
            "left_out": pool(self.left_out.values()).to_dict(),
        }

    def line(self, unit: str) -> str:
        """The phone error rate, and how the epoch was chosen."""
        if not self.history:
            return f"{self.name}: PER {pool(self.counts.values()).per:.2f} %"
        return (
            f"{self.name}: PER {pool(self.left_out.values()).per:.2f} % ({unit} left out of the choice of the epoch; "
            f"{pool(self.counts.values()).per:.2f} % with epoch {self.epoch}, which was chosen on them)"
        )


@dataclass(frozen=True)
class _Verdict:
    """The comparison of the adapted model and its rival on the held-out utterances."""

    adapted: _Contestant
    rival: _Contestant
    utt2spk: Mapping[str, str]

    @property
    def kept(self) -> _Contestant:
        """The contestant with fewer errors; of equals the rival.

        Errors are those without the bias of choosing the epoch.
        """
        errors = [pool(each.left_out.values()).num_errors for each in (self.adapted, self.rival)]
        return self.adapted if errors[0] < errors[1] else self.rival

    def comparisons(self) -> dict[str, Comparison]:
        """The adapted model's PER minus its rival's, by the unit of the bootstrap."""
        a, b = (each.left_out for each in (self.adapted, self.rival))
        of_speakers = [pool_speakers(counts, self.utt2spk).values() for counts in (a, b)]
        comparisons = {"utterances": compare([*a.values()], [*b.values()])}
        if len(of_speakers[0]) > 1:
            comparisons["speakers"] = compare(*map(list, of_speakers))
        return comparisons

    def lines(self) -> list[str]:
        comparisons = self.comparisons()
        unit = [*comparisons][-1]
        difference = comparisons["utterances"].difference
        return [
            self.rival.line(unit),
            self.adapted.line(unit),
            f"adapted minus {self.rival.name}: {difference:+.2f}",
            *(f"  {comparison.interval.text(unit)}" for unit, comparison in comparisons.items()),
        ]

    def outcome(self) -> str:
        """What was kept, in words."""
        if self.kept is self.adapted:
            return "holds the adapted model"
        return f"adaptation does not help; holds the model {_RIVALS[self.rival.name]}"

    def to_dict(self) -> dict[str, Any]:
        comparisons = self.comparisons()
        return {
            "kept": self.kept.name,
            **{each.name: each.to_dict() for each in (self.adapted, self.rival)},
            "difference": comparisons["utterances"].difference,
            "intervals": to_json({unit: comparison.interval for unit, comparison in comparisons.items()}),
        }


def _stored_set(experiment: Experiment, dev: TrainingSet, device: str) -> StoredSet:
    """The outputs of the experiment's network, on a device, for the utterances of `dev`."""
    from asrkit.decoding.tuning import StoredSet
    from asrkit.inference.torch_model import TorchModel

    experiment.model.eval()
    model = TorchModel(experiment, device)
    log_probs: dict[str, np.ndarray] = {}
    for utt_ids in dev.batches(_BATCH_SIZE):
        log_probs |= zip(utt_ids, model.batch([dev.feats[utt_id] for utt_id in utt_ids]), strict=True)
    refs = {utt_id: experiment.tokens.decode(dev.tokens[utt_id]) for utt_id in dev.num_frames}
    return StoredSet(log_probs, refs, experiment.tokens, experiment.search_models, AS_IS, 1)


def _elsewhere(
    experiment: Experiment, data_dir: Path, refs: Mapping[str, tuple[str, ...]], report: Callable[[str], None]
) -> StoredSet | None:
    """The outputs for the same utterances in noise and rooms.

    If their audio is not in files, None and a printed line.
    """
    from asrkit.decoding.tuning import StoredSet

    try:
        log_probs = log_probs_elsewhere(experiment, data_dir, list(refs), experiment.config.training.device)
    except AsrkitError as error:
        reason = str(error).split("\n")[0]
        report(f"{data_dir}: confidences are calibrated on what is held out as it is, not in noise: {reason}")
        return None
    return StoredSet(log_probs, refs, experiment.tokens, experiment.search_models, AS_IS, 1)


def _save(
    kept: _Contestant,
    dev: TrainingSet,
    lm_text: str | None,
    directory: Path,
    data_dir: Path,
    report: Callable[[str], None],
) -> None:
    """Write the experiment. For a network that was trained now, calibrate confidences on the held-out part."""
    from asrkit.experiment import save_experiment, store_tuning
    from asrkit.reporting.tuning import CalibrationFit

    experiment, decoding = kept.experiment, kept.experiment.config.decoding
    calibration = experiment.calibration
    if kept.history:
        stored = _stored_set(experiment, dev, experiment.config.training.device)
        fit = CalibrationFit.on(stored, _elsewhere(experiment, data_dir, stored.refs, report), decoding)
        calibration = calibration if fit.warnings() else fit.calibration
    experiment.tokens.write(directory / "tokens.txt")
    parts = experiment.config, experiment.tokens, experiment.model, experiment.global_cmvn
    save_experiment(directory, *parts, Supplement(lm_text, experiment.corpus))
    if calibration is not None:
        store_tuning(directory, decoding, calibration)
    dump_config(experiment.config, directory / "config.yaml")
    export_trained(directory, data_dir)


def _expect_inputs(data: AdaptationData, model: Path, directory: Path) -> None:
    """Raise DataError with a line for each missing file, for shards, and if another model would be overwritten."""
    expect_plain(data.data, "adaptation")
    findings = Findings()
    extract = _extract_command(data)
    made_by = {"text": PREPARE, "utt2spk": PREPARE, feats_table(data.data).name: extract, "cmvn.scp": extract}
    for name, step in made_by.items():
        if not is_there(data.data / name):
            findings.error(f"not found; made by {step}", data.data / name)
    if (directory / "final.pt").exists() and not (directory / "adapt.json").exists():
        findings.error("there is a model that asrkit adapt did not make; give another --out", directory)
    elif directory.resolve() == model.resolve():
        findings.error("is the model to adapt; give another --out", directory)
    findings.raise_errors()
    expect_right(data.data / FEATS_STAMP, extract)


def _expect_settings(data: AdaptationData, config: ExperimentConfig) -> None:
    """Raise DataError, with one line, if the features were made with other settings than the model's."""
    path = data.data / "feats.json"
    try:
        made_with = dict(read_json(path))
    except (OSError, ValueError, TypeError):
        return  # made by another tool, or reported when the features are opened
    if differing := differing_settings(made_with, config.features):
        settings = ", ".join(f"{name} {made_with.get(name)!r} for {value!r}" for name, value in differing.items())
        raise DataError(
            f"{location(path)}features were made with other settings than the model's: {settings}; make them with its "
            f"settings: {_extract_command(data)}"
        )


def _extract_command(data: AdaptationData) -> str:
    return f"asrkit extract {data.data} --model {data.model}"


def _load(model: Path) -> tuple[Experiment, str | None]:
    """Load a trained experiment, or an exported model as one, and its language model in ARPA format."""
    from asrkit.experiment import load_experiment, load_lm_text  # loads PyTorch
    from asrkit.inference.from_export import load_exported

    path = _model_file(model)
    if path.name == "final.pt":
        return load_experiment(model), load_lm_text(model)
    experiment = load_exported(path)
    return experiment, None if experiment.lm is None else lm_text(experiment.lm)


def _model_file(model: Path) -> Path:
    """The file with the weights of a model."""
    if model.is_file():
        return model
    return model / ("final.onnx" if not (model / "final.pt").is_file() else "final.pt")


def _inputs(data: AdaptationData, model: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """Everything on which the adapted model depends."""
    files = [_model_file(model), *(data.data / name for name in ("text", "utt2spk", "phones.ctm"))]
    return {
        "adapt": [NUM_EPOCHS, MAX_LR, PATIENCE],
        "files": [File(path) for path in [*files, *([data.phone_map] if data.phone_map else [])]],
        "feats": feats_input(data.data),
        "new_phones": data.new_phones,
        "overrides": [each for each in overrides if not each.startswith(_DEVICE)],
    }


def _settings(trained: ExperimentConfig, data: AdaptationData, overrides: Sequence[str]) -> ExperimentConfig:
    """The settings of an adaptation: those of the model, except for its training."""
    raise_if_any(
        [
            f"--set {each}: expected training.SETTING=VALUE; the others are the model's"
            if not each.startswith("training.")
            else f"--set {each}: adaptation keeps all epochs and chooses one itself; leave that out"
            for each in overrides
            if not each.startswith("training.") or each.partition("=")[0] in _OWN_CHOICES
        ],
        ConfigError,
    )
    training = adaptation_settings(trained.training, data.new_phones)
    config = replace(trained, model=_supported(trained.model, data.data), training=training)
    config = parse_config(config_text(config), ExperimentConfig, "the model's settings", overrides)
    return replace(config, training=replace(config.training, keep_best=config.training.num_epochs))


def adaptation_settings(trained: TrainingConfig, new_phones: bool) -> TrainingConfig:
    """The training settings of an adaptation: noise and batches of the model's own training, but another schedule.

    For new phones, the learning rates are those of a new network. The device is the default one, because the model may
    be from another machine; bfloat16 is for GPUs alone.
    """
    default = TrainingConfig()
    training = replace(
        scratch_settings(trained, NUM_EPOCHS), early_stopping=PATIENCE, device=default.device, bf16=default.bf16
    )
    return training if new_phones else replace(training, max_lr=MAX_LR)


def scratch_settings(trained: TrainingConfig, num_epochs: int) -> TrainingConfig:
    """The training settings for a training from scratch of this many epochs, at the default rates.

    The weights of all epochs are kept.
    """
    default = TrainingConfig()
    return replace(
        trained,
        num_epochs=num_epochs,
        optimizer=default.optimizer,
        weight_decay=default.weight_decay,
        schedule=default.schedule,
        max_lr=default.max_lr,
        min_lr=default.min_lr,
        warmup=default.warmup,
        pretrain_epochs=0,
        two_phase=False,
        early_stopping=None,
        select="best",
        ema_decay=None,
        keep_best=num_epochs,
    )


def _supported(model: ModelConfig, data_dir: Path) -> ModelConfig:
    """The settings of the model, without a frame-wise head if the data has no phone times (own recordings often have
    none).

    Raises DataError if the model has no other head.
    """
    if not model.heads.has_frames or (data_dir / "phones.ctm").is_file():
        return model
    if not model.heads.has_ctc:
        raise DataError(
            f"{location(data_dir / 'phones.ctm')}not found; the model learns from phone times; give data that has them"
        )
    return replace(model, head="ctc")


def _remove_progress(directory: Path) -> None:
    """Delete the files that only an unfinished run needs."""
    shutil.rmtree(directory / "scratch", ignore_errors=True)
    for path in (directory / "checkpoint.pt", *directory.glob("best.*.pt")):
        path.unlink(missing_ok=True)
