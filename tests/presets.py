"""Every configuration that ships, those of the recipes included."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_FOLDERS = ("conf", "conf/attention", "recipes/*/conf")  # conf/lm is for language models
PRESETS = sorted(path for folder in _FOLDERS for path in ROOT.glob(f"{folder}/*.yaml"))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT).with_suffix(""))


EACH_PRESET = pytest.mark.parametrize("path", PRESETS, ids=_name)
# A network of each kind; the whole suite takes the others, too.
_KINDS = {"conf/blstm_ctc", "conf/conformer_ctc", "conf/joint_ctc_attention", "conf/rnnt_lstm"}
EACH_KIND_OF_PRESET = pytest.mark.parametrize(
    "path",
    [path if _name(path) in _KINDS else pytest.param(path, marks=pytest.mark.slow) for path in PRESETS],
    ids=_name,
)
