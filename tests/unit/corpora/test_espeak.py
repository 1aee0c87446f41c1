"""The wrapper around libespeak-ng: pinned phones, the same bits every time, clear refusals."""

from __future__ import annotations

import sys
import time

import pytest

from asrkit.corpora import espeak
from asrkit.errors import DataError, MissingPackageError


@pytest.fixture
def _loader():
    pytest.importorskip("espeakng_loader", reason="the mini corpus's library is an optional extra")


def test_a_missing_library_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(MissingPackageError, match=r"^needs espeakng-loader, .*pip install 'asrkit-phones\[mini\]'$"):
        espeak.library_version()


@pytest.mark.usefixtures("_loader")
def test_an_unknown_variant_is_refused():
    # The library itself would take the plain voice in its place.
    with pytest.raises(DataError, match="no voice variant 'nobody'"):
        espeak.synthesize("fa", "nobody", [espeak.Prompt("s|'A", 175, 50, 50)])


@pytest.mark.usefixtures("_loader")
def test_phones_come_as_asked_with_rising_starts():
    (speech,) = espeak.synthesize("fa", "m1", [espeak.Prompt("k|e|t|'|A|b tS|'A|t|S", 175, 50, 50)])
    names = [name.strip("'") for name, _ in speech.events]
    assert names == ["k", "e", "t", "A", "b", "tS", "A", "t", "S", "_:", "_"]
    starts = [sample for _, sample in speech.events]
    assert starts == sorted(set(starts)) and starts[0] >= 0 and starts[-1] <= len(speech.samples) // 2
    assert 0.5 < len(speech.samples) / 2 / espeak.SAMPLE_RATE < 1.5


@pytest.mark.usefixtures("_loader")
def test_a_breathy_voice_is_the_same_at_another_second():
    # The library seeds the noise of breath by the time of day unless told otherwise.
    prompts = [espeak.Prompt("s|a|l|'A|m", 175, 50, 50)] * 2
    first = espeak.synthesize("fa", "victor", prompts)
    time.sleep(1.1)
    assert espeak.synthesize("fa", "victor", prompts) == first
