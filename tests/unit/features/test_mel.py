import numpy as np
import pytest
import scipy.fft

from asrkit.errors import ConfigError
from asrkit.features.mel import dct_matrix, hz_to_mel, lifter_coefficients, mel_filters, mel_to_hz, warp_hz


def test_mel_scale() -> None:
    np.testing.assert_allclose(hz_to_mel(np.array([0.0, 700.0])), [0, 1127 * np.log(2)])
    assert abs(hz_to_mel(1000.0) - 1000) < 0.1  # the scale is meant to meet Hz there


def test_neighbouring_filters_add_up_to_one() -> None:
    filters = mel_filters(23, 512, 16000, 20.0, 8000.0)
    assert filters.shape == (256, 23)
    mel = hz_to_mel(np.arange(256) * 16000 / 512)
    centres = np.linspace(hz_to_mel(20.0), hz_to_mel(8000.0), 25)[1:-1]
    between = (mel >= centres[0]) & (mel <= centres[-1])
    np.testing.assert_allclose(filters[between].sum(axis=1), 1, atol=1e-12)
    assert ((filters > 0).sum(axis=1) <= 2).all()


def test_filters_keep_to_their_band() -> None:
    hz = np.arange(256) * 16000 / 512
    filters = mel_filters(15, 512, 16000, 300.0, 3400.0)
    assert not filters[(hz <= 300) | (hz >= 3400)].any()
    assert filters[(hz > 400) & (hz < 3200)].any(axis=1).all()


def test_dct_is_orthonormal() -> None:
    np.testing.assert_allclose(dct_matrix(23, 23) @ dct_matrix(23, 23).T, np.eye(23), atol=1e-12)
    signal = np.random.default_rng(0).standard_normal(23)
    np.testing.assert_allclose(dct_matrix(13, 23) @ signal, scipy.fft.dct(signal, norm="ortho")[:13], atol=1e-12)


def test_lifter() -> None:
    np.testing.assert_allclose(lifter_coefficients(12, 22.0)[[0, 11]], [1, 12], atol=1e-12)
    np.testing.assert_array_equal(lifter_coefficients(4, 0.0), np.ones(4))


def test_mel_scale_and_back() -> None:
    hz = np.linspace(0, 8000, 50)
    np.testing.assert_allclose(mel_to_hz(hz_to_mel(hz)), hz, atol=1e-9)


@pytest.mark.parametrize("warp", [0.5, 0.9, 1.0, 1.1, 1.5])
def test_warped_frequencies(warp: float) -> None:
    hz = np.linspace(20, 8000, 500)
    warped = warp_hz(hz, warp, 16000, 20.0, 8000.0)
    assert (np.diff(warped) > 0).all()
    np.testing.assert_allclose(warped[[0, -1]], [20, 8000])
    middle = (hz > 150) & (hz < 7500 * min(1, warp))
    np.testing.assert_allclose(warped[middle], hz[middle] / warp)


def test_a_band_too_narrow_to_warp() -> None:
    with pytest.raises(ConfigError, match="a band of 300 to 500 Hz is too narrow"):
        warp_hz(np.array([400.0]), 0.7, 16000, 300.0, 500.0)
