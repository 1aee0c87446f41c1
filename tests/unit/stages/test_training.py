"""When a trained experiment is up to date."""

from asrkit.io.atomic import atomic_write
from asrkit.io.stamp import TRAIN_STAMP, Stamp, changing
from asrkit.stages.training import _is_trained


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


def test_a_stamp_of_an_earlier_version_is_none(tmp_path):
    """Its models had no digest at their end, and would be refused."""
    stamp = Stamp(tmp_path / TRAIN_STAMP, {"seed": 1})
    stamp.path.write_text(stamp.made_from + "\n")
    (tmp_path / "final.pt").write_bytes(b"weights")
    assert not _is_trained(stamp)
