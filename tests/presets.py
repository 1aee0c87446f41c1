"""Every configuration that ships, those of the recipes included."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
_FOLDERS = ("conf", "conf/attention", "recipes/*/conf")  # conf/lm is for language models
PRESETS = sorted(path for folder in _FOLDERS for path in ROOT.glob(f"{folder}/*.yaml"))
EACH_PRESET = pytest.mark.parametrize("path", PRESETS, ids=lambda path: str(path.relative_to(ROOT).with_suffix("")))
