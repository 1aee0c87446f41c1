"""Few calls lie between a command and its first features, as tools/call_depth.py counts them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "call_depth.py"


def call_depth(*args: object) -> int:
    done = subprocess.run([sys.executable, str(TOOL), *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (depth,) = re.findall(r"^(\d+) calls deep \(at most \d+ until then\) over \d+ files$", done.stdout, re.MULTILINE)
    return int(depth)


@pytest.mark.slow
def test_a_file_is_transcribed_within_10_calls(tones) -> None:
    assert 3 < call_depth("transcribe", "--model", tones / "exp", tones / "audio/test0-0.wav") <= 10


@pytest.mark.slow
def test_training_begins_within_12_calls(tones, tmp_path) -> None:
    """With the default settings, which augment."""
    data = tones / "data"
    sets = "--train", data / "train", "--dev", data / "dev", "--tokens", data / "tokens.txt"
    assert 3 < call_depth("train", *sets, "--out", tmp_path) <= 12


def test_a_command_that_computes_no_features_is_refused(tones) -> None:
    text = tones / "data/test/text"
    done = subprocess.run([sys.executable, str(TOOL), "score", str(text), str(text)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "no features were computed\n")
