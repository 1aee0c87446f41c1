"""Jobs of alignment in order, with the faults of each, by a recognizer that notes what it is asked."""

import numpy as np
import pytest

from asrkit.audio.inputs import Input
from asrkit.errors import ConfigError, DataError, ModelError
from asrkit.inference.alignment import AlignmentJob, AlignOptions, align_all, jobs_of_inputs
from asrkit.lang.tokens import TokenTable
from asrkit.types import Waveform


class Recognizer:
    tokens = TokenTable(["a", "#", "pau"])

    def __init__(self):
        self.asked = []

    def expect_alignment(self, optional_silence):
        pass

    def align(self, waveform, phones, name, optional_silence):
        self.asked.append((name, phones, optional_silence))
        return phones


def jobs(*names):
    return [AlignmentJob(name, name, ("a",), lambda: Waveform(np.zeros(800, np.float32), 8000)) for name in names]


@pytest.mark.parametrize("num_threads", [1, 2])
@pytest.mark.parametrize("silence", [None, "#"])
def test_every_job_is_done_and_what_fails_is_told(silence, num_threads):
    recognizer, (first, last) = Recognizer(), jobs("x", "y")
    given = [first, *jobs_of_inputs([Input("audio/z.wav", "z"), Input("f", "", "f: a fault")], {"other": ("a",)}), last]
    found = list(align_all(recognizer, given, AlignOptions("texts.tsv", silence), num_threads))
    assert sorted(recognizer.asked) == [("x", ("a",), silence), ("y", ("a",), silence)]
    assert isinstance(found[1], DataError)
    assert [str(each) for each in found[1:3]] == ["audio/z.wav: no phones for it in texts.tsv", "f: a fault"]
    assert [(result.name, result.duration, result.sample_rate, result.silences) for result in found[::3]] == [
        ("x", 0.1, 8000, {"pau"}),
        ("y", 0.1, 8000, {"pau"}),
    ]


def test_a_silence_that_the_model_does_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"^--optional-silence sil: the model does not have it; it has a # pau$"):
        next(align_all(Recognizer(), jobs("x"), AlignOptions("texts.tsv", "sil")))


def test_a_model_that_cannot_align_is_told_once():
    class Unable(Recognizer):
        def expect_alignment(self, optional_silence):
            raise ModelError(f"cannot align with {optional_silence}")

    recognizer = Unable()
    with pytest.raises(ModelError, match="cannot align with #"):
        list(align_all(recognizer, jobs("x", "y"), AlignOptions("texts.tsv", "#")))
    assert recognizer.asked == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(5, "Input/output error", "b.wav"), "b.wav: cannot be used (Input/output error); the disk "),
        (OSError(24, "Too many open files"), "y: cannot be used (Too many open files); raise the limit "),
        (MemoryError(), "y: not enough memory; end other programs"),
    ],
)
def test_what_the_system_refuses_for_one_recording_does_not_end_the_others(error, said):
    class Refusing(Recognizer):
        def align(self, waveform, phones, name, optional_silence):
            if name == "y":
                raise error
            return super().align(waveform, phones, name, optional_silence)

    first, fault, last = align_all(Refusing(), jobs("x", "y", "z"), AlignOptions("texts.tsv"))
    assert [first.name, last.name] == ["x", "z"]
    assert str(fault).startswith(said)


def test_a_fault_of_the_program_ends_all():
    class Failing(Recognizer):
        def align(self, waveform, phones, name, optional_silence):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(align_all(Failing(), jobs("x"), AlignOptions("texts.tsv")))
