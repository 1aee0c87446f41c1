import numpy as np
import pytest
import scipy.signal

from asrkit.features.window import frame_view, mirrored, window_function


@pytest.mark.parametrize("name, theirs", [("hanning", "hann"), ("hamming", "hamming"), ("blackman", "blackman")])
def test_windows_of_textbooks(name: str, theirs: str) -> None:
    np.testing.assert_allclose(
        window_function(name, 400), scipy.signal.get_window(theirs, 400, fftbins=False), atol=1e-12
    )


def test_kaldis_own_windows() -> None:
    np.testing.assert_allclose(window_function("povey", 5), [0, 0.5**0.85, 1, 0.5**0.85, 0], atol=1e-12)
    np.testing.assert_allclose(window_function("sine", 5), [0, 0.5**0.5, 1, 0.5**0.5, 0], atol=1e-12)
    np.testing.assert_array_equal(window_function("rectangular", 5), np.ones(5))


def test_edges_are_mirrored() -> None:
    samples = np.arange(6.0)
    # Frames of 5 around samples 1, 3 and 5: the first begins one before the signal, the last ends two after it.
    np.testing.assert_array_equal(mirrored(samples, -1, 8), [0, 0, 1, 2, 3, 4, 5, 5, 4])
    np.testing.assert_array_equal(mirrored(samples, 1, 4), [1, 2, 3])
    np.testing.assert_array_equal(mirrored(samples, 6, 8), [5, 4])
    np.testing.assert_array_equal(mirrored(samples, -3, -1), [2, 1])


def test_reflection_longer_than_the_signal_bounces_back() -> None:
    np.testing.assert_array_equal(mirrored(np.array([1.0, 2.0, 3.0]), -4, 7), [3, 3, 2, 1, 1, 2, 3, 3, 2, 1, 1])


def test_frame_view() -> None:
    samples = np.arange(8.0)
    np.testing.assert_array_equal(frame_view(samples, 3, 4, 2), [[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]])
    with pytest.raises(ValueError):
        frame_view(samples, 4, 4, 2)
