"""The tables of settings in docs/ state the defaults that there are."""

import re
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml

from asrkit.decoding.config import DecodingConfig
from asrkit.features.config import FeatureConfig
from asrkit.inference.windows import Windows
from asrkit.models.config import ModelConfig
from asrkit.models.encoders import ENCODERS
from asrkit.training.config import AugmentConfig, TrainingConfig

DOCS = Path(__file__).parents[3] / "docs"
TABLE = re.compile(r"^\| setting \| default \|.*\n\|[-|]+\n((?:\|.*\n)+)", re.MULTILINE)


def documented(page):
    """{setting: default} of the tables that begin with these two columns; a row may hold several, in their order."""
    found = {}
    for table in TABLE.findall((DOCS / page).read_text(encoding="utf-8")):
        for row in table.splitlines():
            names, defaults = (cell.replace("`", "").strip() for cell in row.split("|")[1:3])
            if names != "augment":  # a section of its own
                found |= zip(names.split(", "), yaml.safe_load(f"[{defaults}]"), strict=True)
    return found


@pytest.mark.parametrize(
    ("page", "config", "in_prose"),
    [
        ("decoding.md", DecodingConfig, set()),
        ("features.md", FeatureConfig, set()),
        ("augmentation.md", AugmentConfig, set()),
        ("training.md", TrainingConfig, {"augment", "num_views", "frame_weight", "pretrain_epochs"}),
    ],
)
def test_the_documented_defaults_are_those_of_the_code(page, config, in_prose):
    defaults = {field.name: getattr(config(), field.name) for field in fields(config)}
    expected = {name: [*value] if isinstance(value, tuple) else value for name, value in defaults.items()}
    assert documented(page) == {name: value for name, value in expected.items() if name not in in_prose}


def test_the_documented_defaults_of_attention_are_those_of_the_code():
    names = {"hidden_size", *ENCODERS["conformer"].settings}
    expected = {name: getattr(ModelConfig(), name) for name in names}
    expected |= {f"decoder.{name}": value for name, value in asdict(ModelConfig().decoder).items()}
    assert documented("models.md") == expected


def test_the_documented_windows_are_those_of_the_code():
    text = (DOCS / "transcribe.md").read_text(encoding="utf-8")
    assert f"in windows of {Windows().length:g} s:" in text
    assert f"begins {Windows().context:g} s before each window and ends {Windows().context:g} s after it" in text
