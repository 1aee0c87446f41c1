"""Stage 3: training of a network on data directories with features. The result is an experiment directory."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import dump_config, to_dict
from asrkit.decoding.language_models import parse_lm, read_lm_text
from asrkit.device import choose_device
from asrkit.errors import DataError, ModelError, location
from asrkit.features.pipeline import FEATS_STAMP, feats_input, pooled_stats
from asrkit.findings import Findings
from asrkit.formats.corpus_info import read_corpus_info
from asrkit.formats.data_dir import feats_table
from asrkit.formats.shards import expect_plain, shards_of
from asrkit.io.atomic import atomic_write
from asrkit.io.lock import is_there, lock_dir
from asrkit.io.processes import HOST
from asrkit.io.stamp import TRAIN_STAMP, File, Stamp, changing, expect_right, stamp_of, wrong_outputs
from asrkit.io.tell import logged
from asrkit.lang.tokens import TokenTable
from asrkit.stages.exporting import Export, export_trained
from asrkit.stages.inputs import EXTRACT, PREPARE, TRAIN_LM, changing_model
from asrkit.training.ranks import ALONE, Ranks, joined
from asrkit.types import Supplement

if TYPE_CHECKING:
    from asrkit.models.acoustic import AcousticModel
    from asrkit.training.dataset import TrainingSet
    from asrkit.training.loop import TrainingResult, TrainingSets
    from asrkit.training.shards import ShardedSet


# The files that training writes, besides its own state (checkpoints) and those of TensorBoard.
_OUTPUTS = ("config.yaml", "tokens.txt", "excluded.txt", "history.csv", "learning_curve.png", "final.pt", "final.onnx")


# The behaviour of asrkit before these settings existed. A setting with this value is left out of the inputs of a
# training, whatever its default is now. So experiments that are older than the setting stay up to date.
SETTINGS_BEFORE: Mapping[str, Any] = {
    "training.bptt_steps": None,
    "training.augment.cut_prob": 0.0,
    "training.augment.join_prob": 0.0,
    "training.shuffle_window": 100_000,
    "model.decoder.layers": "recurrent",
    "model.decoder.feed_forward_size": 512,
}


def _say_nothing(line: str) -> None:
    """What `report` is by default."""


@dataclass(frozen=True)
class TrainingData:
    """The data that a network is trained on.

    Attributes:
        train: the data directory to train on, with features; it may be sharded. Or several of them, each with its
            weight: how often an utterance comes in an epoch on average.
        dev: the data directory on which the best weights are chosen.
        tokens: the token table: the output classes. A file corpus.json beside it may describe the corpus.
        lm: the phone language model for decoding, an ARPA file or an lm.npz, or None; training does not depend on it.
        log_gradients: whether norms of the gradients of some dev utterances are logged after each epoch; training does
            not depend on it.
    """

    train: Path | Mapping[Path, float]
    dev: Path
    tokens: Path
    lm: Path | None = None
    log_gradients: bool = False

    @property
    def directories(self) -> list[Path]:
        """The plain data directories: those of the corpora, and `dev`. Raises as `shards_of`."""
        return [*(data_dir for data_dirs, _ in self.corpora for data_dir in data_dirs), self.dev]

    @property
    def corpora(self) -> list[tuple[list[Path], float]]:
        """The shards of each directory of `train`, or the directory itself, and the weight. Raises as `shards_of`."""
        weights = self.train if isinstance(self.train, Mapping) else {self.train: 1.0}
        return [(shards_of(data_dir) or [data_dir], weight) for data_dir, weight in weights.items()]

    @property
    def where(self) -> str:
        """The training directories as the beginning of a message."""
        return location(" and ".join(map(str, self.train)) if isinstance(self.train, Mapping) else self.train)

    @classmethod
    def under(cls, root: str | Path) -> TrainingData:
        """The outputs of stages 0 to 2 in a recipe's data directory. `lm` is None if there is no language model."""
        root = Path(root)
        lm = root / "lm.arpa"
        return cls(root / "train", root / "dev", root / "tokens.txt", lm if lm.is_file() else None)


@dataclass(frozen=True)
class Training:
    """A trained experiment on disk.

    Attributes:
        directory: the experiment directory; `asrkit.experiment` says what is in it.
        result: its epochs, and the dev PER of its weights; None if it was up to date.
        export: the exported model; None if it was up to date.
        excluded: training utterances that CTC cannot align, each with its number of steps and the number that it needs.
    """

    directory: Path
    result: TrainingResult | None = None
    export: Export | None = None
    excluded: Mapping[str, tuple[int, int]] | None = None

    def line(self) -> str:
        """A summary of the result."""
        if self.result is None:
            return f"{self.directory}: training is up to date"
        cpu_seconds = self.result.history[-1].cpu_seconds
        return f"{self.directory}: dev PER {self.result.dev_per:.2f} % (greedy), {cpu_seconds:.0f} CPU seconds"


def train(
    data: TrainingData,
    directory: str | Path,
    config: ExperimentConfig | None = None,
    *,
    resume: bool = False,
    force: bool = False,
    report: Callable[[str], None] = _say_nothing,
) -> Training:
    """Train a network and export it, unless the directory has it from the same data and settings.

    Processes that PyTorch's torchrun starts train one network together: each calls this with the same arguments. The
    first one writes; for the others the result has no export, and `report` is not called.

    If only the decoding settings or the language model have changed, they are replaced in the trained experiment.

    Args:
        directory: the experiment directory to write.
        config: all settings; by default those of the best known system.
        resume: continue from the checkpoint of an interrupted run, if there is one.
        force: start again from the beginning, even if the directory has a result or a checkpoint.
        report: is called with lines about the run's progress. In addition, each epoch prints a line to stderr.

    Raises:
        DataError: inputs are missing or faulty, no utterance is long enough, or there is a checkpoint and neither
            `resume` nor `force`.
        ConfigError: the device or the feature backend is not there.
        ModelError: a loss is not finite, or the checkpoint is of other settings or data.
    """
    directory, config = Path(directory), config or ExperimentConfig()
    with joined() as ranks:
        if not ranks.is_first:
            return _help(ranks, data, directory, config)
        _expect_inputs(data, config)
        stamp = Stamp(directory / TRAIN_STAMP, _inputs(data, config))
        tokens = TokenTable.read(data.tokens)
        supplement = Supplement(_read_lm(data.lm, tokens), read_corpus_info(data.tokens.parent))
        decoding = Stamp(directory / ".decoding.stamp", _parts_beside(config, supplement))
        if not force and stamp.is_current() and decoding.is_current():
            return Training(directory)
        with lock_dir(directory, "train"):
            if not force and _is_trained(stamp):
                _remake(stamp, lambda: Run.prepare(data, config, tokens), report)
                if not decoding.is_current():
                    _update_decoding(directory, config, supplement)
                    decoding.write({})
                return Training(directory)
            choose_device(config.training.device)  # before anything is removed or read
            checkpoint = directory / "checkpoint.pt"
            if force:
                checkpoint.unlink(missing_ok=True)
            if checkpoint.exists() and not resume:
                raise DataError(
                    f"{location(checkpoint)}left by an earlier run; give --resume to go on or --force to start anew"
                )
            run = Run.prepare(data, config, tokens, ranks)
            if not checkpoint.exists():  # otherwise the checkpoint must first show that it belongs to this run
                for path in (stamp.path, directory / "final.pt", directory / "adapt.json"):  # the last of `adapt`
                    path.unlink(missing_ok=True)
            with stamp.making(of=_OUTPUTS, is_removed=False), logged(directory / "train.log"):
                trained = _train(run, stamp, supplement, report)
                decoding.write({})
            return trained


def _help(ranks: Ranks, data: TrainingData, directory: Path, config: ExperimentConfig) -> Training:
    """Train together with the first process, which checks the inputs, has the lock of the directory, and writes."""
    from asrkit.training import loop  # PyTorch takes seconds to load

    identity = ranks.follow()
    if identity is None:
        return Training(directory)
    if Stamp(directory / TRAIN_STAMP, _inputs(data, config)).made_from != identity:
        raise DataError(
            f"{data.where}the data, or the settings, are not those of rank 0 on this machine ({HOST}); all "
            "machines need the same files, on a shared disk"
        )
    run = Run.prepare(data, config, TokenTable.read(data.tokens), ranks)
    return Training(directory, loop.train(run.model, config.training, run.sets, directory, identity))


def _train(run: Run, stamp: Stamp, supplement: Supplement, report: Callable[[str], None]) -> Training:
    """Train and export into the directory of the stamp, which is locked."""
    from asrkit.training import loop  # PyTorch takes seconds to load

    run.sets.ranks.lead(stamp.made_from)
    directory = stamp.path.parent
    run.note_excluded(directory, report)
    if not len(run.sets.train):
        raise DataError(f"{run.data.where}no utterance is left to train on; see {directory / 'excluded.txt'}")

    def begin() -> None:
        report(f"{run.num_parameters} parameters, {len(run.sets.train)} training utterances")
        if run.sets.probe and run.config.model.has_attention:
            report(f"gradients are logged by layer alone: encoder {run.config.model.encoder} has no recurrent layers")

    result = loop.train(run.model, run.config.training, run.sets, directory, stamp.made_from, begin)
    stamp.path.unlink(missing_ok=True)  # an older one may not fit what follows
    run.save(directory, supplement)
    exported = export_trained(directory, run.data.dev)
    report(f"{exported.path}: {exported.comparison.line()}")
    return Training(directory, result, exported, run.excluded)


def _is_trained(stamp: Stamp) -> bool:
    """Whether the model exists and is intact. A model that another stage was changing counts if it can be loaded."""
    if not stamp.has_inputs():
        return False
    final = stamp.path.parent / "final.pt"
    if final not in wrong_outputs(stamp.path):
        return True
    if final in stamp.outputs():
        return False

    from asrkit.experiment import load_experiment  # loads PyTorch

    try:
        load_experiment(final.parent)
    except ModelError:
        return False
    return True


def _remake(stamp: Stamp, prepare: Callable[[], Run], report: Callable[[str], None]) -> None:
    """Make missing or changed files again: from the model, from the checkpoint, or from the data."""
    directory, wrong = stamp.path.parent, {path.name for path in wrong_outputs(stamp.path)}
    if not wrong:
        return

    # They load PyTorch and matplotlib.
    from asrkit.experiment import load_experiment
    from asrkit.inference.export import export_experiment
    from asrkit.training.curve import draw_learning_curve
    from asrkit.training.monitor import write_history
    from asrkit.training.state import read_history

    with changing(stamp.path, wrong):
        if wrong & {"config.yaml", "tokens.txt"}:
            trained = load_experiment(directory)
            dump_config(trained.config, directory / "config.yaml")
            trained.tokens.write(directory / "tokens.txt")
        if "final.onnx" in wrong:
            export_experiment(directory)
        if lost := sorted(wrong & {"history.csv", "learning_curve.png"}):
            try:
                history = read_history(directory, stamp.made_from)
            except ModelError as error:
                what = f"{location(directory / lost[0])}missing, or not as training wrote it"
                raise ModelError(f"{what}, and cannot be made again: {error}") from None
            write_history(directory / "history.csv", history)
            draw_learning_curve(history, directory / "learning_curve.png")
        if "excluded.txt" in wrong:
            prepare().note_excluded(directory, report)
    for name in sorted(wrong - {"final.pt"}):
        report(f"{directory / name}: made again")


def _expect_inputs(data: TrainingData, config: ExperimentConfig) -> None:
    """Raise DataError with a line for each missing file, or if dev is sharded."""
    expect_plain(data.dev, "the development set")
    findings = Findings()
    for path, step in _made_by(data).items():
        if not is_there(path):
            findings.error(f"not found; made by {step}", path)
    findings.raise_errors()
    for data_dir in data.directories:
        expect_right(data_dir / FEATS_STAMP, EXTRACT)
    if data.lm is not None:
        expect_right(stamp_of(data.lm), TRAIN_LM)
    if config.model.heads.has_frames:
        for data_dir in data.directories:
            if (data_dir / "text").is_file() and not (data_dir / "phones.ctm").is_file():
                findings.error(
                    f"not found; model.head {config.model.head} learns from phone times; give data that has them, or "
                    "take head ctc",
                    data_dir / "phones.ctm",
                )
    findings.raise_errors()


def _made_by(data: TrainingData) -> dict[Path, str]:
    """The files that training reads, each with the stage that makes it."""
    made_by = {data.tokens: PREPARE}
    for data_dir in data.directories:
        made_by |= {data_dir / "text": PREPARE, feats_table(data_dir): EXTRACT, data_dir / "cmvn.scp": EXTRACT}
    return made_by if data.lm is None else {**made_by, data.lm: TRAIN_LM}


def _read_lm(path: Path | None, tokens: TokenTable) -> str | None:
    """The text of a language model. Checking it now finds a fault before hours of training."""
    if path is None:
        return None
    text = read_lm_text(path)
    parse_lm(text, tokens.phones, str(path))
    return text


def _inputs(data: TrainingData, config: ExperimentConfig) -> dict[str, Any]:
    """Everything on which the trained weights depend.

    Threads and device are left out: changing them only gives a warning.
    """
    names = ["text", "utt2spk", *(["phones.ctm"] if config.model.heads.has_frames else [])]
    files = [data.tokens, *(data_dir / name for data_dir in data.directories for name in names)]
    sections = {name: section for name, section in to_dict(config).items() if name != "decoding"}
    for name in ("num_threads", "utts_at_once", "device", "checkpoint_minutes"):
        del sections["training"][name]
    for setting, value in SETTINGS_BEFORE.items():
        *places, name = setting.split(".")
        section = functools.reduce(operator.getitem, places, sections)
        if section[name] == value:
            del section[name]
    inputs = {
        "config": sections,
        "files": [File(path) for path in files],
        "feats": [feats_input(data_dir) for data_dir in data.directories],
    }
    weights = [(len(data_dirs), weight) for data_dirs, weight in data.corpora]
    return inputs if weights == [(1, 1.0)] else {**inputs, "corpora": weights}


def _parts_beside(config: ExperimentConfig, supplement: Supplement) -> dict[str, Any]:
    """The parts of a trained experiment that do not influence its weights."""
    parts = {"decoding": to_dict(config.decoding), "lm": supplement.lm_text}
    return parts if supplement.corpus is None else {**parts, "corpus": asdict(supplement.corpus)}


def _update_decoding(directory: Path, config: ExperimentConfig, supplement: Supplement) -> None:
    from asrkit.experiment import update_decoding
    from asrkit.inference.export import export_experiment

    with changing_model(directory):
        update_decoding(directory, config.decoding, supplement)
        export_experiment(directory)
        dump_config(config, directory / "config.yaml")


def _probe(dev_set: TrainingSet, model: AcousticModel, data: TrainingData) -> TrainingSet:
    """The utterances of dev whose gradients can be logged."""
    from asrkit.training.dataset import split_infeasible

    probe = split_infeasible(dev_set, model)[0] if model.config.heads.has_ctc else dev_set
    if not len(probe):
        raise DataError(
            f"{location(data.dev)}every utterance is too short for CTC, so no gradients can be logged; give longer "
            "ones, or leave out --log-gradients"
        )
    return probe


def _open_train(
    data: TrainingData, config: ExperimentConfig, tokens: TokenTable, model: AcousticModel
) -> tuple[TrainingSet | ShardedSet, np.ndarray, dict[str, tuple[int, int]]]:
    """The training set, its pooled statistics, and the utterances that CTC cannot align, which it does not have."""
    from asrkit.training.dataset import TrainingSet, split_infeasible
    from asrkit.training.shards import Reading, ShardedSet

    heads, augment = config.model.heads, config.training.augment
    if len(data.directories) > 2 or data.corpora[0][1] != 1.0:
        reading = Reading(config.features, tokens, augment, heads.has_frames)
        sharded = ShardedSet(data.corpora, reading, config.training.shuffle_window)
        return sharded, sharded.global_cmvn, sharded.split_infeasible(model) if heads.has_ctc else {}
    train_dir = data.directories[0]
    global_cmvn = pooled_stats(train_dir, config.features)
    train_set = TrainingSet.open(train_dir, config.features, global_cmvn, tokens, augment, heads.has_frames)
    if not heads.has_ctc:
        return train_set, global_cmvn, {}
    train_set, excluded = split_infeasible(train_set, model)
    return train_set, global_cmvn, excluded


@dataclass(frozen=True)
class Run:
    """A training that is ready to begin: the untrained network and everything that its training needs.

    Attributes:
        data, config: inputs and settings.
        model: the untrained network.
        sets: the utterances.
        global_cmvn: (2, D + 1) Kaldi statistics of the training set.
        excluded: training utterances that CTC cannot align, each with its number of steps and the number that it needs.
    """

    data: TrainingData
    config: ExperimentConfig
    model: AcousticModel
    sets: TrainingSets
    global_cmvn: np.ndarray
    excluded: Mapping[str, tuple[int, int]]

    @classmethod
    def prepare(cls, data: TrainingData, config: ExperimentConfig, tokens: TokenTable, ranks: Ranks = ALONE) -> Run:
        """Make the network and open the data. Raises DataError for faulty data, ConfigError for impossible settings."""
        from asrkit.experiment import make_model
        from asrkit.training.dataset import TrainingSet
        from asrkit.training.loop import TrainingSets

        model, heads = make_model(config, tokens), config.model.heads
        train_set, global_cmvn, excluded = _open_train(data, config, tokens, model)
        dev_set = TrainingSet.open(data.dev, config.features, global_cmvn, tokens, with_frame_labels=heads.has_frames)
        probe = _probe(dev_set, model, data) if data.log_gradients else None
        sets = TrainingSets(train_set, dev_set, tokens, probe, ranks)
        return cls(data, config, model, sets, global_cmvn, excluded)

    def note_excluded(self, directory: Path, report: Callable[[str], None]) -> None:
        """List the utterances that CTC cannot align in excluded.txt, and report them."""
        path = directory / "excluded.txt"
        if not self.excluded:
            path.unlink(missing_ok=True)
            return
        lines = [f"{utt_id}: {steps} steps, needs {needed}" for utt_id, (steps, needed) in self.excluded.items()]
        with atomic_write(path) as stream:
            stream.write("".join(line + "\n" for line in lines))
        report(f"{self.data.where}{len(lines)} utterances left out, too short for CTC (also in {path}):")
        for line in lines:
            report(f"  {line}")

    @property
    def num_parameters(self) -> int:
        """The number of the network's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def save(self, directory: Path, supplement: Supplement) -> None:
        """Write the trained network, with everything that recognition needs, and the settings and tokens."""
        from asrkit.experiment import save_experiment

        dump_config(self.config, directory / "config.yaml")
        self.sets.tokens.write(directory / "tokens.txt")
        save_experiment(directory, self.config, self.sets.tokens, self.model, self.global_cmvn, supplement)
