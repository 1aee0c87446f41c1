"""Many recordings: one that fails does not end the others."""

import numpy as np
import pytest
import soundfile

from asrkit.audio.inputs import Input
from asrkit.inference.transcription import TranscribeOptions, transcribe_all
from asrkit.types import Hypothesis


class Recognizer:
    """Fails for the recording of that name."""

    class timer:
        silent_phones = frozenset()

    def __init__(self, failing, error):
        self._failing, self._error = failing, error

    def transcribe(self, audio, **options):
        if audio.name == self._failing:
            raise self._error
        list(audio.blocks())
        return Hypothesis("", ("a",), 0.0)


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(5, "Input/output error"), "{}: cannot be read (Input/output error)"),
        (OSError(24, "Too many open files", "other"), "other: cannot be used (Too many open files); raise the limit "),
        (MemoryError(), "{}: not enough memory; end other programs"),
        (RuntimeError("std::bad_alloc"), "{}: not enough memory; end other programs"),
    ],
)
def test_what_the_system_refuses_for_one_recording_does_not_end_the_others(tmp_path, num_threads, error, said):
    files = [str(tmp_path / f"{name}.wav") for name in "xyz"]
    for file in files:
        soundfile.write(file, np.zeros(800), 8000)
    inputs = [Input(file, file) for file in files]
    found = [*transcribe_all(Recognizer(files[1], error), inputs, TranscribeOptions(), num_threads)]
    assert [found[0].name, found[2].name] == [files[0], files[2]]
    assert str(found[1]).startswith(said.format(files[1]))


def test_a_fault_of_the_program_ends_all(tmp_path):
    file = str(tmp_path / "x.wav")
    soundfile.write(file, np.zeros(800), 8000)
    with pytest.raises(ZeroDivisionError):
        [*transcribe_all(Recognizer(file, ZeroDivisionError()), [Input(file, file)], TranscribeOptions())]
