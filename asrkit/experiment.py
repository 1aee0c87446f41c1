"""An experiment directory: what a trained model is made of, on disk and in memory.

config.yaml      every setting, defaults included
tokens.txt       output classes
checkpoint.pt    state of training, for resuming
best.EPOCH.pt    weights of the epochs of lowest dev PER, as many as training.keep_best
history.csv      loss, PER, learning rate and more of every epoch
learning_curve.png, tensorboard/   the same as pictures
excluded.txt     training utterances that CTC cannot align, when there are any
final.pt         settings, output classes, CMVN statistics, weights, language model and calibration of confidences: all
                 that recognition needs
final.onnx       the same for onnxruntime, with front end and all; written by `asrkit train` and `asrkit tune`
tune/            what `asrkit tune` tried and chose
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from asrkit.batching import collate
from asrkit.config import config_text, dump_config, parse_config, to_dict
from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.errors import ModelError, at
from asrkit.features.pipeline import finish
from asrkit.io.stamp import fingerprint
from asrkit.lang.tokens import TokenTable
from asrkit.lm.ngram import NgramLM, parse_arpa
from asrkit.models.acoustic import AcousticModel
from asrkit.runtime import Outputs, by_frame, without_speaker
from asrkit.settings import ExperimentConfig
from asrkit.training import checkpoint


@dataclass(frozen=True)
class Experiment:
    """A trained model with everything that recognition needs."""

    config: ExperimentConfig
    tokens: TokenTable
    model: AcousticModel
    global_cmvn: np.ndarray  # (2, D + 1) Kaldi statistics of the training set
    lm: NgramLM | None
    calibration: Calibration | None = None


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
    lm_text: str | None,
) -> None:
    """Write `final.pt`. `lm_text` is the phone language model in ARPA format, if there is one."""
    content = {
        "format": 2,
        "config": config_text(config),
        "phones": list(tokens.phones),
        "global_cmvn": torch.from_numpy(global_cmvn),
        "lm": lm_text,
        "model": model.state_dict(),
    }
    checkpoint.save(directory / "final.pt", content)


def update_decoding(directory: Path, decoding: DecodingConfig, lm_text: str | None) -> None:
    """Put other decoding settings and another language model into a trained experiment; its weights stay."""
    _replace(directory, decoding, {"lm": lm_text, "calibration": None})


def store_tuning(directory: Path, decoding: DecodingConfig, calibration: Calibration) -> None:
    """Put tuned decoding settings, with the calibration of confidences under them, into a trained experiment."""
    config = _replace(directory, decoding, {"calibration": to_dict(calibration)})
    dump_config(config, directory / "config.yaml")


def _replace(directory: Path, decoding: DecodingConfig, parts: dict[str, Any]) -> ExperimentConfig:
    """Write final.pt with other decoding settings and other `parts`; returns its configuration."""
    config = replace(load_experiment(directory).config, decoding=decoding)
    saved = checkpoint.load(directory / "final.pt")
    checkpoint.save(directory / "final.pt", {**saved, "config": config_text(config), **parts})
    return config


def acoustic_digest(experiment: Experiment) -> str:
    """A digest of all that log-probabilities depend on, whatever the decoding settings are."""
    config = to_dict(experiment.config)
    arrays = {"global_cmvn": experiment.global_cmvn}
    arrays |= {name: weights.numpy() for name, weights in experiment.model.state_dict().items()}
    digests = {name: hashlib.sha256(np.ascontiguousarray(array)).hexdigest() for name, array in arrays.items()}
    return fingerprint({"features": config["features"], "model": config["model"], "arrays": digests})


def load_experiment(directory: str | Path) -> Experiment:
    """Read a trained experiment.

    Raises:
        ModelError: it is missing, not finished, damaged or of another version.
    """
    directory = Path(directory)
    path = directory / "final.pt"
    if not path.is_file():
        if not directory.is_dir():
            raise ModelError(f"{at(directory)}no such experiment directory; made by stage 3 (asrkit train)")
        raise ModelError(f"{at(path)}not found; training has not finished, run stage 3 (asrkit train)")
    saved = checkpoint.load(path)
    if saved.get("format") != 2:
        raise ModelError(f"{at(path)}expected format 2, found {saved.get('format')!r}; train again")
    config = parse_config(saved["config"], ExperimentConfig, str(path))
    tokens = TokenTable(saved["phones"])
    model = make_model(config, tokens)
    try:
        model.load_state_dict(saved["model"])
    except RuntimeError:
        raise ModelError(f"{at(path)}weights do not fit the model that its settings describe; train again") from None
    model.eval()
    lm = None if saved["lm"] is None else parse_arpa(saved["lm"], tokens.phones, f"{path}, its language model")
    calibration = Calibration(**saved["calibration"]) if saved.get("calibration") else None
    return Experiment(config, tokens, model, saved["global_cmvn"].numpy(), lm, calibration)


class TorchModel:
    """A trained experiment's network in PyTorch, with what recognizer.Recognizer asks of a runtime.OnnxModel.

    For GPUs, and for many utterances at a time.
    """

    def __init__(self, experiment: Experiment, device: str = "cpu") -> None:
        """Raises ModelError for a device that PyTorch cannot use."""
        config = experiment.config
        self.features, self.config, self.decoding = config.features, config.model, config.decoding
        self.tokens, self.lm, self.calibration = experiment.tokens, experiment.lm, experiment.calibration
        self.global_cmvn = experiment.global_cmvn
        try:
            self.network = experiment.model.to(device)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).split("\n")[0]
            raise ModelError(f"device {device}: PyTorch cannot use it ({reason}); leave it at cpu") from None

    @torch.inference_mode()
    def batch(self, feats: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Finished features, each (T, D), to log-probabilities, each (T', V) float32. Batch size changes nothing."""
        names = [str(i) for i in range(len(feats))]
        batch = collate(names, dict(zip(names, feats, strict=True)))
        log_probs, lens = self.network(batch.feats.to(self._device), batch.feat_lens.to(self._device))
        return [utt[:length].cpu().numpy() for utt, length in zip(log_probs, lens.tolist(), strict=True)]

    def log_probs(self, static: np.ndarray, stats: np.ndarray | None = None) -> np.ndarray:
        """As OnnxModel.log_probs."""
        return self.batch([self._finish(static, stats)])[0]

    @torch.inference_mode()
    def outputs_by_frame(self, static: np.ndarray, stats: np.ndarray | None = None) -> Outputs:
        """As OnnxModel.outputs_by_frame."""
        feats = torch.from_numpy(self._finish(static, stats)).to(self._device)
        phases = torch.arange(self.config.skip, device=self._device)
        lens = torch.full_like(phases, len(feats))
        _, ctc, frames, _ = self.network.outputs(feats.expand(len(phases), -1, -1), lens, phases)
        if ctc is None:
            ctc = torch.nn.functional.pad(frames, (1, 0), value=-torch.inf)
        heads = [[None] * len(phases) if head is None else head.cpu().numpy() for head in (ctc, frames)]
        return by_frame([Outputs(*outputs) for outputs in zip(*heads, strict=True)], len(feats), self.config.stack)

    @property
    def _device(self) -> torch.device:
        return next(self.network.parameters()).device

    def _finish(self, static: np.ndarray, stats: np.ndarray | None) -> np.ndarray:
        if stats is None or self.features.cmvn in ("running", "none"):
            return finish(static, self.global_cmvn, without_speaker(self.features))
        return finish(static, stats, replace(self.features, cmvn="global"))  # whosoever's they are
