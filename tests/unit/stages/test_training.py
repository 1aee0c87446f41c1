"""When a trained experiment is up to date."""

from asrkit.io.seal import seal
from asrkit.stages.training import _Stamps


def test_a_model_without_a_digest_is_trained_again(tmp_path):
    """One of an earlier version, or cut short: else it would be refused for ever, and training be up to date."""
    stamps = _Stamps(tmp_path, {"seed": 1}, {})
    stamps.write()
    for content, is_trained in ((b"weights", False), (seal(b"weights"), True), (seal(b"weights")[:-1], False)):
        (tmp_path / "final.pt").write_bytes(content)
        assert stamps.is_trained() is is_trained
