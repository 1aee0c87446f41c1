"""With which settings a model is adapted."""

import pytest

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.errors import ConfigError, DataError
from asrkit.models.config import ModelConfig
from asrkit.stages.adaptation import (
    MAX_LR,
    NUM_EPOCHS,
    AdaptationData,
    _settings,
    adapt,
    adaptation_settings,
    scratch_settings,
)
from asrkit.training.config import AugmentConfig, TrainingConfig


def test_the_rate_is_low_for_the_same_phones_and_that_of_a_new_network_for_others() -> None:
    trained = TrainingConfig(max_lr=0.1, optimizer="sgd", schedule="newbob", min_lr=0.01, batch_size=3)
    same, new = (adaptation_settings(trained, new_phones) for new_phones in (False, True))
    assert (same.max_lr, new.max_lr) == (MAX_LR, TrainingConfig().max_lr)
    assert same.max_lr < new.max_lr
    for settings in (same, new):
        assert (settings.optimizer, settings.schedule, settings.min_lr) == ("adamw", "one_cycle", 0)


def test_how_often_a_model_was_adapted_changes_no_setting() -> None:
    once = adaptation_settings(TrainingConfig(num_epochs=99), new_phones=False)
    assert adaptation_settings(once, new_phones=False) == once


def test_the_device_is_that_of_this_machine_and_not_of_the_models_training(tmp_path) -> None:
    trained, data = (
        ExperimentConfig(training=TrainingConfig(device="cuda:1", bf16=True)),
        AdaptationData("exp", tmp_path),
    )
    assert _settings(trained, data, []).training.device == "cpu"
    on_gpu = _settings(trained, data, ["training.device=cuda", "training.bf16=true"]).training
    assert (on_gpu.device, on_gpu.bf16) == ("cuda", True)
    assert scratch_settings(on_gpu, 3).device == "cuda"  # the rival, with new phones


def test_shards_are_one_line(tmp_path) -> None:
    for number in "12":
        (tmp_path / "data/split2" / number).mkdir(parents=True)
        (tmp_path / "data/split2" / number / "text").touch()
    for given in (tmp_path / "data", tmp_path / "data/split2"):
        with pytest.raises(
            DataError, match=rf"^{given}: 2 shards, .*; adaptation needs a data directory in one piece; "
        ):
            adapt(AdaptationData("english", given), tmp_path / "out")


def test_one_phase_keeps_the_weights_of_all_its_epochs() -> None:
    trained = TrainingConfig(
        two_phase=True, weight_noise=0.1, early_stopping=9, select="ema", ema_decay=0.9, seed=7, input_noise=0.5
    )
    settings = adaptation_settings(trained, new_phones=False)
    assert settings.num_epochs == settings.keep_best == NUM_EPOCHS
    assert not settings.two_phase and settings.early_stopping < NUM_EPOCHS
    assert (settings.select, settings.ema_decay) == ("best", None)
    assert (settings.weight_noise, settings.seed, settings.input_noise) == (0.1, 7, 0.5)
    assert settings.augment == AugmentConfig()


def test_single_settings_of_training_can_be_given(tmp_path) -> None:
    data = AdaptationData("exp", tmp_path)
    settings = _settings(ExperimentConfig(), data, ["training.max_lr=0.003", "training.num_epochs=20"])
    assert (settings.training.max_lr, settings.training.num_epochs, settings.training.keep_best) == (0.003, 20, 20)
    with pytest.raises(ConfigError, match=r"^--set features.num_ceps=9: expected training.SETTING=VALUE; the others"):
        _settings(ExperimentConfig(), data, ["features.num_ceps=9"])
    for override in ("training.select=average", "training.keep_best=2"):
        with pytest.raises(ConfigError, match=f"^--set {override}: adaptation keeps all epochs and chooses one itself"):
            _settings(ExperimentConfig(), data, [override])


def test_a_head_that_learns_from_phone_times_needs_them(tmp_path) -> None:
    data = AdaptationData("exp", tmp_path)
    heads = {}
    for known in (False, True):
        if known:
            (tmp_path / "phones.ctm").touch()
        for head in ("ctc", "both"):
            config = ExperimentConfig(model=ModelConfig(head=head))
            heads[head, known] = _settings(config, data, []).model.head
    assert heads == {("ctc", False): "ctc", ("both", False): "ctc", ("ctc", True): "ctc", ("both", True): "both"}
    (tmp_path / "phones.ctm").unlink()
    frames = ExperimentConfig(model=ModelConfig(head="frames"))
    with pytest.raises(DataError, match=r"phones\.ctm: not found; the model learns from phone times; give data that"):
        _settings(frames, data, [])
