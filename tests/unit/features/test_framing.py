import numpy as np
import pytest

from asrkit.features.config import FeatureConfig
from asrkit.features.framing import Framing


def framing_of(length: int, shift: int, snip_edges: bool) -> Framing:
    return Framing(length, shift, fft_size=1024, snip_edges=snip_edges, sample_rate=16000)


@pytest.mark.parametrize("num_samples, snipped, rounded", [(0, 0, 0), (4, 0, 0), (5, 1, 1), (9, 1, 1), (15, 2, 2)])
def test_num_frames(num_samples: int, snipped: int, rounded: int) -> None:
    length, shift = 5, 10
    assert framing_of(length, shift, snip_edges=True).num_frames(num_samples) == snipped
    assert framing_of(length, shift, snip_edges=False).num_frames(num_samples) == rounded


@pytest.mark.parametrize("length, shift", [(25, 10), (10, 10), (7, 13), (551, 220)])
def test_snipped_frames_are_those_that_fit(length: int, shift: int) -> None:
    for num_samples in range(3 * length):
        fitting = len(range(0, num_samples - length + 1, shift))
        assert framing_of(length, shift, snip_edges=True).num_frames(num_samples) == fitting


@pytest.mark.parametrize("length, shift, start", [(5, 2, -1), (400, 160, -120), (551, 220, -165), (100, 300, 100)])
def test_frames_are_centered_on_the_middle_of_each_shift(length: int, shift: int, start: int) -> None:
    assert framing_of(length, shift, snip_edges=False).first_start == start
    assert framing_of(length, shift, snip_edges=True).first_start == 0


@pytest.mark.parametrize(
    ("settings", "first_center"),
    [
        ({}, 200 / 16000),
        ({"snip_edges": False}, 80 / 16000),
        ({"backend": "librosa"}, 256 / 16000),
        ({"backend": "librosa", "snip_edges": False}, 0.0),
        ({"frame_length_ms": 23.0, "frame_shift_ms": 12.5, "sample_rate": 22050}, 253.5 / 22050),
    ],
)
def test_times_of_frames(settings: dict, first_center: float) -> None:
    """A frame stands for what is around its middle, without gaps and whatever cuts the frames."""
    config = FeatureConfig(**settings)
    framing = config.framing
    shift = config.frame_shift / config.sample_rate
    np.testing.assert_allclose(framing.centers(3), first_center + shift * np.arange(3), rtol=1e-12)
    assert (framing.shift_seconds, framing.first_stretch_start) == pytest.approx((shift, first_center - shift / 2))


@pytest.mark.parametrize("snip_edges", [True, False])
def test_librosas_frames_are_in_the_middle_of_their_windows(snip_edges: bool) -> None:
    """As librosa documents frames: the window padded to the FFT's length; `center` pads the signal by half of that."""
    config = FeatureConfig(backend="librosa", snip_edges=snip_edges, frame_length_ms=20.0)
    length, shift, fft_size = 320, 160, 512
    window = np.pad(np.hanning(length + 1)[:length], (fft_size - length) // 2)  # periodic
    places = np.arange(fft_size) - (0 if snip_edges else fft_size // 2)
    middles = [window @ (frame * shift + places) / window.sum() for frame in range(4)]
    np.testing.assert_allclose(config.framing.centers(4) * 16000, middles, atol=1e-6)
