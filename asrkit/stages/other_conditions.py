"""A dev set under other acoustic conditions, so that confidences are calibrated on more than clean speech."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from asrkit.device import CPU
from asrkit.features.pipeline import FeatureLoader

if TYPE_CHECKING:
    from asrkit.experiment import Experiment

_BATCH = 16  # utterances that go through the network at once


def log_probs_elsewhere(
    trained: Experiment, data_dir: Path, utt_ids: Sequence[str], device: str = CPU
) -> dict[str, np.ndarray]:
    """Log-probabilities (T', V) of each utterance in a room, in noise, coded, at another level, or at another speed.

    training.augment draws the conditions; they depend only on the id of the utterance. Each utterance is normalised
    separately, like a recording of an unknown speaker. The network runs on `device`.

    Raises:
        DataError: as Augmenter.open.
        ConfigError, ModelError: as TorchModel.
    """
    # PyTorch takes seconds to load.
    from asrkit.inference.torch_model import TorchModel
    from asrkit.training.augment import Augmenter
    from asrkit.training.config import AugmentConfig

    conditions = AugmentConfig(
        speeds=(0.65, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5),  # extreme speeds represent other ways of speaking
        vtlp=0.0,
        noise_prob=0.4,
        noise_snr_db=(0.0, 30.0),
        noises=("white", "pink", "brown", "babble", "hum"),
        reverb_prob=0.3,
        reverb_t60=(0.1, 1.0),
        level_prob=0.3,
        level_db=(-40.0, 12.0),
        codec_prob=0.3,
        codecs=("8khz", "telephone", "mulaw", "gsm"),
        time_masks=0,
    )
    features = trained.config.features
    alone = features.with_normalization(features.normalization.without_speaker)
    augmenter = Augmenter.open(conditions, FeatureLoader(data_dir, alone, trained.global_cmvn), decode_once=False)
    model = TorchModel(trained, device)
    found: dict[str, np.ndarray] = {}
    for first in range(0, len(utt_ids), _BATCH):
        some = utt_ids[first : first + _BATCH]
        feats = [augmenter(utt_id, np.random.default_rng(zlib.crc32(utt_id.encode()))).feats for utt_id in some]
        found |= zip(some, model.batch(feats), strict=True)
    return found
