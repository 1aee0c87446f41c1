"""An experiment directory: the parts of a trained model, on disk and in memory.

config.yaml      all settings, including defaults
tokens.txt       output classes
checkpoint.pt    state of training, for resuming
best.EPOCH.pt    weights of the epochs of lowest dev PER, as many as training.keep_best
history.csv      loss, PER, learning rate and more of every epoch
learning_curve.png, tensorboard/   the same as pictures
train.log        what training told as it went on, with times
excluded.txt     training utterances that CTC cannot align, when there are any
gradients.csv, gradients.png   norms of gradients, where `asrkit train --log-gradients` asked for them
final.pt         settings, output classes, CMVN statistics, weights, language model and calibration of confidences: all
                 that recognition needs
final.onnx       the same for onnxruntime, with front end and all; written by `asrkit train` and `asrkit tune`
tune/            what `asrkit tune` tried and chose
adapt.json, held_out   of an adapted model: the figures of `asrkit adapt`, and the utterances it held out
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.plain_values import from_plain, is_of_type, shown
from asrkit.config.yaml_config import config_text, dump_config, parse_config, to_dict
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import SearchModels
from asrkit.errors import ConfigError, DataError, ModelError, location
from asrkit.features.cmvn import check_stats
from asrkit.io.lock import is_there
from asrkit.io.stamp import TRAIN_STAMP, expect_right, fingerprint
from asrkit.lang.tokens import TokenTable
from asrkit.lm.automaton import LmAutomaton
from asrkit.lm.ngram import NgramLM, parse_arpa
from asrkit.models.acoustic import AcousticModel
from asrkit.training import checkpoint
from asrkit.types import CorpusInfo, Supplement

_MAX_CONFIG = 2**16  # characters: YAML takes long to read


@dataclass(frozen=True)
class Experiment:
    """A trained model with everything that recognition needs."""

    config: ExperimentConfig
    tokens: TokenTable
    model: AcousticModel
    global_cmvn: np.ndarray  # (2, D + 1) Kaldi statistics of the training set
    lm: NgramLM | None
    calibration: Calibration | None = None
    corpus: CorpusInfo | None = None  # that it was trained on, where it is known

    @property
    def lm_automaton(self) -> LmAutomaton | None:
        """The language model as searches take it."""
        return None if self.lm is None else self.lm.automaton

    @property
    def search_models(self) -> SearchModels:
        """The models that a search of its log-probabilities uses."""
        decoder = self.model.decoder
        return SearchModels(self.lm_automaton, None if decoder is None else decoder.for_search())


def make_model(config: ExperimentConfig, tokens: TokenTable) -> AcousticModel:
    """An untrained network, its weights drawn from the training seed."""
    torch.manual_seed(config.training.seed)
    dim, feat_channels = config.features.dim, config.features.delta_order + 1
    return AcousticModel(config.model, dim, len(tokens), feat_channels)


def save_experiment(
    directory: Path,
    config: ExperimentConfig,
    tokens: TokenTable,
    model: AcousticModel,
    global_cmvn: np.ndarray,
    supplement: Supplement = Supplement(),
) -> None:
    """Write `final.pt`."""
    content = {
        "format": 2,
        "config": config_text(config),
        "phones": list(tokens.phones),
        "global_cmvn": torch.from_numpy(global_cmvn),
        **_parts(supplement),
        "model": model.state_dict(),
    }
    checkpoint.save(directory / "final.pt", content)


def update_decoding(directory: Path, decoding: DecodingConfig, supplement: Supplement = Supplement()) -> None:
    """Replace decoding settings and supplement of a trained experiment; its weights stay."""
    _replace(directory, decoding, {**_parts(supplement), "calibration": None})


def store_tuning(directory: Path, decoding: DecodingConfig, calibration: Calibration) -> None:
    """Put tuned decoding settings, with the calibration of confidences under them, into a trained experiment."""
    config = _replace(directory, decoding, {"calibration": to_dict(calibration)})
    dump_config(config, directory / "config.yaml")


def _parts(supplement: Supplement) -> dict[str, Any]:
    corpus = supplement.corpus
    return {"lm": supplement.lm_text, "corpus": None if corpus is None else asdict(corpus)}


def _replace(directory: Path, decoding: DecodingConfig, parts: dict[str, Any]) -> ExperimentConfig:
    """Write final.pt with other decoding settings and other `parts`; returns its configuration."""
    config = replace(load_experiment(directory).config, decoding=decoding)
    saved = checkpoint.load(directory / "final.pt")
    checkpoint.save(directory / "final.pt", {**saved, "config": config_text(config), **parts})
    return config


def acoustic_digest(experiment: Experiment) -> str:
    """A digest of all that log-probabilities depend on. Decoding settings have no influence."""
    config = to_dict(experiment.config)
    arrays = {"global_cmvn": experiment.global_cmvn}
    arrays |= {name: weights.numpy() for name, weights in experiment.model.state_dict().items()}
    digests = {name: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for name, array in arrays.items()}
    return fingerprint({"features": config["features"], "model": config["model"], "arrays": digests})


def load_experiment(directory: str | Path) -> Experiment:
    """Read a trained experiment.

    Raises:
        ModelError: it is missing, not finished, damaged or of another version.
    """
    directory = Path(directory)
    path = directory / "final.pt"
    if not is_there(path):
        if not directory.is_dir():
            raise ModelError(f"{location(directory)}no such experiment directory; made by stage 3 (asrkit train)")
        raise ModelError(f"{location(path)}not found; training has not finished, run stage 3 (asrkit train)")
    made_by = "asrkit adapt" if (directory / "adapt.json").exists() else "stage 3 (asrkit train --resume)"
    expect_right(directory / TRAIN_STAMP, made_by, [path.name], ModelError)
    return _Saved(path, checkpoint.load(path)).experiment()


def load_lm_text(directory: str | Path) -> str | None:
    """The language model of an experiment in ARPA format, if it has one. Raises ModelError as load_experiment."""
    path = Path(directory) / "final.pt"
    return _Saved(path, checkpoint.load(path)).lm_text


@dataclass(frozen=True)
class _Saved:
    """The content of `final.pt`. All of it is checked before use, because the file may come from a stranger."""

    path: Path
    content: dict[str, Any]

    def experiment(self) -> Experiment:
        """Raises ModelError, naming the file, for what save_experiment did not write."""
        if self.content.get("format") != 2:
            raise self._error(f"expected format 2, found {shown(self.content.get('format'))}")
        try:
            config = parse_config(self._config_text(), ExperimentConfig, "config")
            tokens = TokenTable(self._phones())
            lm_text, values = self.lm_text, self.content.get("calibration")
            calibration = None if values is None else Calibration.from_plain(values)
            about = self.content.get("corpus")
            corpus = None if about is None else from_plain(CorpusInfo, about, "corpus")
            global_cmvn = self._global_cmvn(config.features.num_static)
            lm = None if lm_text is None else parse_arpa(lm_text, tokens.phones, "its language model")
        except (ConfigError, DataError) as error:
            raise self._error(str(error).split("\n")[0]) from None
        return Experiment(config, tokens, self._model(config, tokens), global_cmvn, lm, calibration, corpus)

    @property
    def lm_text(self) -> str | None:
        text: str | None = self._get("lm", str | None)
        return text

    def _model(self, config: ExperimentConfig, tokens: TokenTable) -> AcousticModel:
        with torch.device("meta"):  # takes no memory: settings may describe more than there is, the weights cannot
            described = make_model(config, tokens)
        weights = checkpoint.fitting_weights(self.content.get("model"), described, self.path)
        if bad := [name for name, values in weights.items() if not torch.isfinite(values).all()]:
            raise self._error(f"weights that are not finite ({bad[0]})")
        model = make_model(config, tokens)
        model.load_state_dict(weights)
        return model.eval()

    def _config_text(self) -> str:
        text: str = self._get("config", str)
        if len(text) > _MAX_CONFIG:
            raise self._error(f"config: {len(text)} characters; expected {_MAX_CONFIG} at most")
        return text

    def _phones(self) -> list[str]:
        phones = self.content.get("phones")
        if not isinstance(phones, list) or not all(isinstance(phone, str) for phone in phones):
            raise self._error(f"phones: expected a list of symbols, found {shown(phones)}")
        return phones

    def _global_cmvn(self, dim: int) -> np.ndarray:
        stats = self.content.get("global_cmvn")
        if not checkpoint.is_like(stats, torch.empty((2, dim + 1), dtype=torch.float64, device="meta")):
            raise self._error(f"global_cmvn: expected (2, {dim + 1}) CMVN statistics, float64")
        return check_stats(stats.numpy(), dim)

    def _get(self, key: str, kind: Any) -> Any:
        value = self.content.get(key, self)
        if not is_of_type(value, kind):
            raise self._error(f"{key}: missing or not a text")
        return value

    def _error(self, fault: str) -> ModelError:
        return ModelError(f"{location(self.path)}{fault}; {checkpoint.TRAIN_AGAIN}")
