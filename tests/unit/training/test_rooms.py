"""Simulated rooms: how sound decays, what is direct, where the images are."""

import itertools

import numpy as np
import pytest
import scipy.signal

from asrkit.training.rooms import _images, reverberate, room_response


def measured_t60(response: np.ndarray, rate: int) -> float:
    """From Schroeder's backward integral without the direct sound, -5 to -35 dB (T30 of ISO 3382)."""
    energy = np.cumsum(response[:0:-1].astype(np.float64) ** 2)[::-1]
    level = 10 * np.log10(energy / energy[0])
    first, last = np.searchsorted(-level, (5, 35))
    return -60 / float(np.polyfit(np.arange(first, last) / rate, level[first:last], 1)[0])


@pytest.mark.parametrize("rate", [8000, 16000])
@pytest.mark.parametrize(("t60", "tolerance"), [(0.1, 0.15), (0.3, 0.1), (0.5, 0.05), (0.8, 0.03)])
def test_sound_decays_in_the_reverberation_time(rate: int, t60: float, tolerance: float) -> None:
    rng = np.random.default_rng(1)
    found = [measured_t60(room_response(t60, rate, rng), rate) for _ in range(40)]
    assert np.median(found) == pytest.approx(t60, rel=tolerance)
    if t60 >= 0.5:
        assert found == pytest.approx([t60] * len(found), rel=0.1)


def test_the_direct_sound_comes_at_once_and_first() -> None:
    rng, direct_to_rest = np.random.default_rng(2), []
    for _ in range(100):
        response = room_response(rng.uniform(0.05, 3.0), 16000, rng)
        assert response[0] == pytest.approx(1.0)
        assert np.isfinite(response).all()
        assert response.sum() == pytest.approx(1, abs=6 * float(np.linalg.norm(response[800:])) + 1e-3)  # no drift
        direct_to_rest.append(-10 * np.log10(np.sum(response[1:] ** 2)))
    assert min(direct_to_rest) < -5  # far from the mouth, and close to it
    assert max(direct_to_rest) > 10


def test_the_late_sound_is_as_loud_as_images_are() -> None:
    """Images alone, counted to the end, against what stands for them after 50 ms."""
    rate, t60 = 8000, 0.6
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    for _ in range(5):
        response = room_response(t60, rate, rng)
        size = again.uniform((3.0, 2.5, 2.3), (9.0, 7.0, 3.5))
        microphone = again.uniform(0.3, size - 0.3)
        direction = again.standard_normal(3)
        source = microphone + 0.2 * 15 ** again.random() * direction / np.linalg.norm(direction)
        source = np.clip(source, 0.15, size - 0.15)
        again.standard_normal(len(response) - 400)
        direct = np.linalg.norm(source - microphone)
        distances, walls = _images(size, source, microphone, direct + 343 * 0.2)
        surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
        absorbed = np.exp(-6 * np.log(10) * 4 * np.prod(size) / surface / (343 * t60))  # Eyring
        seconds = (distances - direct) / 343
        energy = (direct / distances) ** 2 * absorbed**walls
        expected = energy[(seconds > 0.05) & (seconds < 0.1)].sum()
        found = np.sum(response[400:800] ** 2)
        assert abs(10 * np.log10(found / expected)) < 2  # dB
        early = energy[seconds < 0.05].sum()
        assert abs(10 * np.log10(np.sum(response[:400] ** 2) / early)) < 3  # some fall on one sample


def test_images_by_reflecting_step_by_step() -> None:
    """Each wall mirrors each image: breadth first, an image counts once, with its fewest walls."""
    size, source, microphone = np.array([3.0, 4.0, 2.5]), np.array([1.0, 3.1, 0.4]), np.array([2.3, 0.7, 1.9])
    images = {tuple(source): 0}
    edge = [tuple(source)]
    for walls in range(1, 9):
        following = []
        for image in edge:
            for axis, wall in itertools.product(range(3), (0.0, 1.0)):
                mirrored = list(image)
                mirrored[axis] = round(2 * wall * size[axis] - image[axis], 9)
                if tuple(mirrored) not in images:
                    images[tuple(mirrored)] = walls
                    following.append(tuple(mirrored))
        edge = following
    expected = sorted(
        (round(float(np.linalg.norm(np.array(image) - microphone)), 6), walls) for image, walls in images.items()
    )
    expected = [pair for pair in expected if pair[0] < 9.0]
    distances, walls = _images(size, source, microphone, 9.0)
    assert sorted(zip(distances.round(6).tolist(), walls.astype(int).tolist(), strict=True)) == expected
    assert len(expected) > 50


def test_speech_in_a_room_by_plain_convolution() -> None:
    rng = np.random.default_rng(4)
    for num_samples in (1, 7, 400, 5000, 33333):
        samples = (1000 * rng.standard_normal(num_samples)).astype(np.float32)
        response = room_response(0.3, 16000, rng)
        expected = scipy.signal.fftconvolve(samples.astype(float), response.astype(float))[:num_samples]
        expected *= np.sqrt(np.mean(samples.astype(float) ** 2) / np.mean(expected**2))
        found = reverberate(samples, response)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=0.02)
    silence = np.zeros(100, np.float32)
    np.testing.assert_array_equal(reverberate(silence, response), silence)


def test_speech_keeps_its_times() -> None:
    rng = np.random.default_rng(5)
    samples = (1000 * rng.standard_normal(8000)).astype(np.float32)
    for _ in range(20):
        heard = reverberate(samples, room_response(rng.uniform(0.1, 0.8), 16000, rng))
        correlation = scipy.signal.correlate(heard, samples)
        assert np.argmax(np.abs(correlation)) == len(samples) - 1
