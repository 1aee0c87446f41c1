"""What an utterance is put through for the sake of honest confidences depends on nothing but the utterance."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.errors import DataError
from asrkit.experiment import Experiment, make_model
from asrkit.features.config import FeatureConfig
from asrkit.features.extract import extract_data_dir
from asrkit.features.pipeline import FeatureLoader, pooled_stats
from asrkit.formats.data_dir import write_data_dir
from asrkit.inference.torch_model import TorchModel
from asrkit.lang.tokens import TokenTable
from asrkit.models.config import ModelConfig
from asrkit.stages.other_conditions import log_probs_elsewhere
from asrkit.types import Utterance

RATE, NUM_UTTS = 16000, 20


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Utterances that are all of the same samples, of one speaker."""
    directory, seconds = tmp_path_factory.mktemp("elsewhere"), np.arange(RATE // 2) / RATE
    samples = 3000 * np.sin(2 * np.pi * 300 * seconds) * np.sin(9 * seconds) + 5 * np.sin(40000 * seconds**2)
    utts = []
    for number in range(NUM_UTTS):
        soundfile.write(directory / f"{number}.wav", samples.astype(np.int16), RATE)
        utts.append(Utterance(f"spk-{number:02}", "spk", str(directory / f"{number}.wav"), ("a", "b")))
    write_data_dir(directory / "data", utts, {utt.utt_id: 0.5 for utt in utts})
    extract_data_dir(directory / "data", FeatureConfig(), num_jobs=1)
    return directory / "data"


@pytest.fixture(scope="module")
def trained(data_dir: Path) -> Experiment:
    config, tokens = ExperimentConfig(model=ModelConfig(num_layers=1, hidden_size=8)), TokenTable(["a", "b"])
    return Experiment(config, tokens, make_model(config, tokens).eval(), pooled_stats(data_dir, config.features), None)


def test_an_utterance_goes_through_the_same_in_any_company(data_dir: Path, trained: Experiment) -> None:
    utt_ids = [*FeatureLoader(data_dir, trained.config.features, trained.global_cmvn)]
    together = log_probs_elsewhere(trained, data_dir, utt_ids)
    assert list(together) == utt_ids
    (alone,) = log_probs_elsewhere(trained, data_dir, utt_ids[7:8]).values()
    np.testing.assert_allclose(together[utt_ids[7]], alone, atol=1e-4)


def test_utterances_go_through_other_things_and_few_through_nothing(data_dir: Path, trained: Experiment) -> None:
    feats = FeatureLoader(data_dir, trained.config.features, trained.global_cmvn)
    clean = TorchModel(trained).batch([feats["spk-00"]])[0]
    found = [*log_probs_elsewhere(trained, data_dir, [*feats]).values()]
    assert len({each.tobytes() for each in found}) > 0.7 * NUM_UTTS
    assert {len(each) for each in found} > {len(clean)}  # slower and faster ones, too
    same = [len(each) == len(clean) and np.allclose(each, clean, atol=1e-4) for each in found]
    assert sum(same) < 0.4 * NUM_UTTS


def test_audio_that_is_gone_is_said(data_dir: Path, trained: Experiment) -> None:
    audio = data_dir.parent / "3.wav"
    audio.rename(audio.with_suffix(".gone"))
    try:
        with pytest.raises(DataError, match=r"spk-03: .*3\.wav: no such file"):
            log_probs_elsewhere(trained, data_dir, ["spk-00"])
    finally:
        audio.with_suffix(".gone").rename(audio)
