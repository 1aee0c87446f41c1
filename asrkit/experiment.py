"""The experiment directory: the parts of a trained model, on disk and in memory.

config.yaml      all settings, including defaults
tokens.txt       the output classes
checkpoint.pt    the state of training, to resume it
best.EPOCH.pt    the weights of the epochs with the lowest dev PER; their number is training.keep_best
history.csv      loss, PER, learning rate and more, per epoch
learning_curve.png, tensorboard/   the same as pictures
train.log        the progress messages of training, with times
excluded.txt     training utterances that CTC cannot align, if there are any
gradients.csv, gradients.png   norms of gradients (`asrkit train --log-gradients`)
final.pt         all that recognition needs: settings, output classes, CMVN statistics, weights, language model and
                 calibration of confidences
final.onnx       the same for onnxruntime, including the front end; written by `asrkit train` and `asrkit tune`
tune/            the values that `asrkit tune` tried and chose
adapt.json, held_out   for an adapted model: the results of `asrkit adapt`, and the held-out utterances
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
from asrkit.decoding.language_models import PhoneLm, StoredLm, parse_lm
from asrkit.decoding.methods import SearchModels
from asrkit.errors import ConfigError, DataError, ModelError, location
from asrkit.features.cmvn import check_stats
from asrkit.io.lock import is_there
from asrkit.io.stamp import TRAIN_STAMP, expect_right, fingerprint
from asrkit.lang.tokens import TokenTable
from asrkit.models.acoustic import AcousticModel
from asrkit.training import checkpoint
from asrkit.types import CorpusInfo, Supplement

_MAX_CONFIG = 2**16  # characters, because YAML is slow to read


@dataclass(frozen=True)
class Experiment:
    """A trained model with everything that recognition needs.

    `global_cmvn`: (2, D + 1) float64, the CMVN statistics of the training set in Kaldi's layout, for D static features.
    `lm`: the phone language model, or None. `calibration`: that of the confidences, or None. `corpus`: the training
    corpus, or None if unknown.
    """

    config: ExperimentConfig
    tokens: TokenTable
    model: AcousticModel
    global_cmvn: np.ndarray
    lm: PhoneLm | None
    calibration: Calibration | None = None
    corpus: CorpusInfo | None = None

    @property
    def lm_automaton(self) -> StoredLm | None:
        """The language model in the form that searches use; None without one."""
        return None if self.lm is None else self.lm.automaton

    @property
    def search_models(self) -> SearchModels:
        """The models that a search uses besides the log-probabilities: language model and attention decoder."""
        decoder = self.model.decoder
        return SearchModels(self.lm_automaton, None if decoder is None else decoder.for_search())


def make_model(config: ExperimentConfig, tokens: TokenTable) -> AcousticModel:
    """An untrained network. Its weights are drawn at random with the seed of `config.training`."""
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
    """Write `final.pt`. `global_cmvn` is (2, D + 1) float64, as in `Experiment`.

    Raises OSError if the file cannot be written.
    """
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
    """Replace the decoding settings and the supplement of a trained experiment. Its weights stay.

    Raises ModelError as `load_experiment`, and OSError if the file cannot be written.
    """
    _replace(directory, decoding, {**_parts(supplement), "calibration": None})


def store_tuning(directory: Path, decoding: DecodingConfig, calibration: Calibration) -> None:
    """Store tuned decoding settings, and the calibration of confidences for them, in a trained experiment.

    Raises ModelError as `load_experiment`, and OSError if a file cannot be written.
    """
    config = _replace(directory, decoding, {"calibration": to_dict(calibration)})
    dump_config(config, directory / "config.yaml")


def _parts(supplement: Supplement) -> dict[str, Any]:
    corpus = supplement.corpus
    return {"lm": supplement.lm_text, "corpus": None if corpus is None else asdict(corpus)}


def _replace(directory: Path, decoding: DecodingConfig, parts: dict[str, Any]) -> ExperimentConfig:
    """Write final.pt with new decoding settings and `parts`; returns its configuration."""
    config = replace(load_experiment(directory).config, decoding=decoding)
    saved = checkpoint.load(directory / "final.pt")
    checkpoint.save(directory / "final.pt", {**saved, "config": config_text(config), **parts})
    return config


def acoustic_digest(experiment: Experiment) -> str:
    """The SHA-256 digest of everything that log-probabilities depend on. Decoding settings have no influence."""
    config = to_dict(experiment.config)
    arrays = {"global_cmvn": experiment.global_cmvn}
    arrays |= {name: weights.numpy() for name, weights in experiment.model.state_dict().items()}
    digests = {name: hashlib.sha256(np.ascontiguousarray(array).data).hexdigest() for name, array in arrays.items()}
    return fingerprint({"features": config["features"], "model": config["model"], "arrays": digests})


def load_experiment(directory: str | Path) -> Experiment:
    """Read a trained experiment.

    Raises ModelError if the experiment is missing, not finished, damaged or of another version.
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
    """The language model of an experiment in ARPA format; None if it has none. Raises ModelError if damaged."""
    path = Path(directory) / "final.pt"
    return _Saved(path, checkpoint.load(path)).lm_text


@dataclass(frozen=True)
class _Saved:
    """The content of `final.pt`. All of it is checked before use, because the file may come from anyone."""

    path: Path
    content: dict[str, Any]

    def experiment(self) -> Experiment:
        """The experiment. Raises ModelError, with the name of the file, if `save_experiment` did not write it."""
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
            lm = None if lm_text is None else parse_lm(lm_text, tokens.phones, "its language model")
        except (ConfigError, DataError) as error:
            raise self._error(str(error).split("\n")[0]) from None
        return Experiment(config, tokens, self._model(config, tokens), global_cmvn, lm, calibration, corpus)

    @property
    def lm_text(self) -> str | None:
        text: str | None = self._get("lm", str | None)
        return text

    def _model(self, config: ExperimentConfig, tokens: TokenTable) -> AcousticModel:
        with torch.device("meta"):  # takes no memory: the settings of a faulty file may describe a network of any size
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
