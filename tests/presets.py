"""Every configuration that ships, those of the recipes included."""

from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_FOLDERS = ("conf", "conf/attention", "recipes/*/conf")  # conf/lm is for language models
PRESETS = sorted(path for folder in _FOLDERS for path in ROOT.glob(f"{folder}/*.yaml"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


def each_kind(paths: Iterable[Path]) -> pytest.MarkDecorator:
    """A test of these presets, of which the quick suite takes a network of each kind."""
    kinds = {"conf/blstm_ctc", "conf/conformer_ctc", "conf/joint_ctc_attention", "conf/rnnt_lstm"}
    marked = [path if _name(path) in kinds else pytest.param(path, marks=pytest.mark.slow) for path in paths]
    return pytest.mark.parametrize("path", marked, ids=_name)


EACH_PRESET = pytest.mark.parametrize("path", PRESETS, ids=_name)
