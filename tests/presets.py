"""Every configuration that ships, those of the recipes included."""

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRESETS = sorted([*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("recipes/*/conf/*.yaml")])
EACH_PRESET = pytest.mark.parametrize("path", PRESETS, ids=lambda path: str(path.relative_to(ROOT).with_suffix("")))
