"""When a trained experiment is up to date."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.errors import DataError
from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import TRAIN_STAMP, Stamp, changing
from asrkit.models.acoustic import AcousticModel
from asrkit.models.config import ModelConfig
from asrkit.stages.training import TrainingData, _inputs, _is_trained, _probe, train
from asrkit.training.dataset import TrainingSet


def test_a_model_that_is_not_as_training_left_it_is_trained_again(tmp_path):
    stamp, final = Stamp(tmp_path / TRAIN_STAMP, {"seed": 1}), tmp_path / "final.pt"
    assert not _is_trained(stamp)
    with stamp.making(), atomic_write(final, "wb") as stream:
        stream.write(b"weights")
    assert _is_trained(stamp)
    assert not _is_trained(Stamp(stamp.path, {"seed": 2}))
    for content, is_trained in ((b"weight", False), (b"weighty", False), (b"weights", True)):
        final.write_bytes(content)
        assert _is_trained(stamp) is is_trained
    with changing(stamp.path, ["final.pt"]):
        assert not _is_trained(stamp)  # it cannot be loaded
        final.unlink()
    assert not _is_trained(stamp)


def test_a_sharded_development_set_is_one_line(tmp_path):
    for number in "12":
        (tmp_path / "dev/split2" / number).mkdir(parents=True)
        (tmp_path / "dev/split2" / number / "text").touch()
    data = TrainingData(tmp_path / "train", tmp_path / "dev", tmp_path / "tokens.txt")
    with pytest.raises(
        DataError, match=r"dev: 2 shards, .*; the development set needs a data directory in one piece; "
    ):
        train(data, tmp_path / "exp")


def test_a_stamp_of_an_earlier_version_is_none(tmp_path):
    """Its models had no digest at their end, and would be refused."""
    stamp = Stamp(tmp_path / TRAIN_STAMP, {"seed": 1})
    stamp.path.write_text(stamp.made_from + "\n")
    (tmp_path / "final.pt").write_bytes(b"weights")
    assert not _is_trained(stamp)


def make_data(root):
    for name in ("train", "dev"):
        (root / name).mkdir(parents=True)
        (root / name / "text").write_text("a1 a\n")
        (root / name / "utt2spk").write_text("a1 a\n")
    (root / "tokens.txt").write_text("<blk> 0\na 1\n")
    return TrainingData(root / "train", root / "dev", root / "tokens.txt")


def test_experiments_older_than_a_setting_stay_up_to_date(tmp_path):
    """The stamp of an experiment from before a setting has no such setting, if what was done then is its default."""
    data, config = make_data(tmp_path), ExperimentConfig()
    before = _inputs(data, config)
    settings = before["config"]["training"]
    assert "bptt_steps" not in settings
    assert settings["num_epochs"] == 43
    assert Stamp(tmp_path / "a", before).made_from == Stamp(tmp_path / "b", {**before}).made_from
    model = replace(config.model, bidirectional=False)
    cut = ExperimentConfig(model=model, training=replace(config.training, bptt_steps=50))
    assert _inputs(data, cut)["config"]["training"]["bptt_steps"] == 50
    assert not {"layers", "feed_forward_size"} & before["config"]["model"]["decoder"].keys()
    decoder = replace(config.model.decoder, layers="transformer", feed_forward_size=99)
    settings = _inputs(data, ExperimentConfig(model=replace(config.model, decoder=decoder)))["config"]["model"]
    assert (settings["decoder"]["layers"], settings["decoder"]["feed_forward_size"]) == ("transformer", 99)
    whole = _inputs(data, ExperimentConfig(model=model))
    assert Stamp(tmp_path / "a", _inputs(data, cut)).made_from != Stamp(tmp_path / "a", whole).made_from


def test_no_setting_makes_experiments_out_of_date_unnoticed(tmp_path):
    """A new setting changes what all experiments are taken to depend on, unless SETTINGS_BEFORE says what was before.

    Give it its row there. Where nothing was before that is like one of its values, put the new digest here.
    """
    sections = _inputs(make_data(tmp_path), ExperimentConfig())["config"]
    names = sorted(names_in(sections))
    assert (len(names), hashlib.sha256(" ".join(names).encode()).hexdigest()[:8]) == (114, "9ecdb9da")


def names_in(settings, prefix=""):
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from names_in(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_gradients_are_logged_of_what_ctc_can_align(tmp_path):
    data = make_data(tmp_path)
    feats = {"long": np.zeros((40, 4), np.float32), "short": np.zeros((3, 4), np.float32)}
    dev = TrainingSet(feats, {key: len(value) for key, value in feats.items()}, {key: [1, 2, 1] for key in feats})
    config = ModelConfig(num_layers=1, hidden_size=4)
    assert [*_probe(dev, AcousticModel(config, 4, 3), data).num_frames] == ["long"]
    assert len(_probe(dev, AcousticModel(replace(config, head="frames", self_conditioning=False), 4, 3), data)) == 2
    with pytest.raises(DataError, match=r"dev: every utterance is too short for CTC, so no gradients can be logged"):
        _probe(dev.part(["short"]), AcousticModel(config, 4, 3), data)
