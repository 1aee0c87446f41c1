"""Standard input, pipes and features go to temporary files: all of them, or it is an error."""

import subprocess
import sys

import pytest

from asrkit.audio import AudioAccess, read_audio
from tests.audio_bytes import RATE, encode, speechlike

# A limit on the size of files is met as a full disk is: a write ends early, the next one fails.
LIMITED = """
import resource, sys
from asrkit.audio import AudioAccess, open_audio
from asrkit.errors import AudioError
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
try:
    if len(sys.argv) > 2:
        print(len(AudioAccess(allow_pipes=True).load(sys.argv[2]).samples))
    else:
        with open_audio(sys.stdin.buffer) as audio:
            print(sum(map(len, audio.blocks())))
except AudioError as error:
    print(error)
"""


@pytest.fixture
def wav(tmp_path):
    path = tmp_path / "x.wav"
    content = encode(speechlike(5 * RATE), "WAV")
    path.write_bytes(content[:40] + b"\xff\xff\xff\xff" + content[44:])  # as from a pipe: no size would tell
    return path


def run(limit, wav, *entry):
    with open(wav, "rb") as content:
        done = subprocess.run([sys.executable, "-c", LIMITED, str(limit), *entry], stdin=content, capture_output=True)
    assert done.stderr == b""
    return done.stdout.decode().strip()


def test_no_room(wav):
    expected = "no temporary file can be written for it in "
    for limit in (100_000, 160_043):
        assert run(limit, wav).startswith(f"standard input: {expected}")
    command = f"trap '' PIPE; cat {wav} 2>/dev/null; true |"  # says nothing of it, and succeeds
    assert run(100_000, wav, command).startswith(f"{command}: {expected}")


def test_room_enough(wav):
    assert len(read_audio(wav).samples) == 5 * RATE
    assert run(10**6, wav) == run(10**6, wav, f"cat {wav} |") == str(5 * RATE)


def test_much_on_standard_error_is_no_dead_lock(wav):
    access = AudioAccess(allow_pipes=True)
    command = f"head -c 1000000 /dev/zero >&2; cat {wav} |"
    assert len(access.load(command).samples) == 5 * RATE


FEATURES = """
import resource, sys
import numpy as np
from asrkit.errors import AudioError
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.inference import windows
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
windows._IN_MEMORY = 1000
blocks = np.random.default_rng(0).normal(size=(10, 16000)).astype(np.float32)
try:
    with windows.StaticFeatures(blocks, FeatureExtractor(FeatureConfig()), "x") as static:
        print(static.read(0, 10**6).shape[0])
except AudioError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [20_000, 51_000, 10**6])
def test_features_of_long_recordings(limit):
    """998 frames of 13 features, 51896 bytes; the last of them are written when the file is read."""
    done = subprocess.run([sys.executable, "-c", FEATURES, str(limit)], capture_output=True, text=True)
    assert done.stderr == ""
    expected = "998" if limit == 10**6 else "x: no temporary file can be written for it in "
    assert done.stdout.startswith(expected)
