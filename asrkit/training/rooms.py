"""Reverberation: impulse responses of simulated rooms, drawn from a generator and from nothing else.

The walls of a box mirror the source (the image method, Allen and Berkley 1979). The first 50 ms are the sum of these
images. By then there is about one a sample, so the rest is Gaussian noise that falls as the images do on average
(Polack 1988): by 60 dB in the reverberation time. A room costs less than convolving with it, so none is kept.
"""

from __future__ import annotations

import numpy as np

_SOUND = 343.0  # m/s
_EARLY = 0.05  # seconds after the direct sound in which images are summed
_SMALLEST, _LARGEST = (3.0, 2.5, 2.3), (9.0, 7.0, 3.5)  # rooms, in m
_NEAREST, _FARTHEST = 0.2, 3.0  # m between mouth and microphone
_FROM_WALL = 0.3  # m
_DECAY = 6 * np.log(10)  # of energy, over the reverberation time


def room_response(t60: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Impulse response (num_samples,) float32 of a room of reverberation time `t60` in seconds.

    Size of the room, microphone and source are drawn. The direct sound is a 1 at sample 0, whatever its way takes, so
    that speech keeps its times.
    """
    size = rng.uniform(_SMALLEST, _LARGEST)
    microphone = rng.uniform(_FROM_WALL, size - _FROM_WALL)
    direction = rng.standard_normal(3)
    distance = _NEAREST * (_FARTHEST / _NEAREST) ** rng.random()
    source = microphone + distance * direction / np.linalg.norm(direction)
    source = np.clip(source, _FROM_WALL / 2, size - _FROM_WALL / 2)
    direct = float(np.linalg.norm(source - microphone))

    num_samples, num_early = round(t60 * sample_rate), round(_EARLY * sample_rate)
    distances, num_walls = _images(size, source, microphone, direct + _SOUND * _EARLY)
    wall = np.exp(-_DECAY / 2 * _free_path(size) / (_SOUND * t60))  # what is left of the pressure behind each
    delays = np.rint((distances - direct) * sample_rate / _SOUND).astype(int)
    response = np.bincount(delays, direct / distances * wall**num_walls, minlength=num_early)[:num_early]
    response[1:] -= response[1:].mean()  # images are all of one sign; in its place Allen and Berkley have a filter
    seconds = direct / _SOUND + np.arange(num_early, num_samples) / sample_rate
    density = 4 * np.pi * _SOUND * direct**2 / np.prod(size)  # energy a second without walls' loss; direct sound has 1
    late = np.sqrt(density / sample_rate) * np.exp(-_DECAY / 2 / t60 * seconds)
    return np.concatenate([response, late * rng.standard_normal(len(late))])[: max(num_samples, 1)].astype(np.float32)


def _free_path(size: np.ndarray) -> float:
    """Mean way in m between two walls of a room of this size (3,): four volumes over the surface."""
    length, width, height = size
    return float(2 * length * width * height / (length * width + length * height + width * height))


def _images(
    size: np.ndarray, source: np.ndarray, microphone: np.ndarray, farthest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n,) in m from the microphone to the images of the source up to `farthest`, and walls (n,) between."""
    squares, walls = np.zeros(1), np.zeros(1)
    for side, at, ear in zip(size.tolist(), source.tolist(), microphone.tolist(), strict=True):
        rooms = np.arange(-int(farthest / (2 * side)) - 1, int(farthest / (2 * side)) + 2)
        positions = np.concatenate([2 * rooms * side + at, 2 * rooms * side - at])
        passed = np.concatenate([2 * np.abs(rooms), np.abs(rooms) + np.abs(rooms - 1)])
        squares = np.add.outer(squares, (positions - ear) ** 2).ravel()
        walls = np.add.outer(walls, passed).ravel()
        near = squares <= farthest**2
        squares, walls = squares[near], walls[near]
    return np.sqrt(squares), walls


def reverberate(samples: np.ndarray, response: np.ndarray) -> np.ndarray:
    """`samples` (n,) float32 in a room of that impulse response (m,): (n,) float32, as loud as before."""
    size = _fast_size(len(samples) + len(response) - 1)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    power, wet_power = np.mean(samples**2, dtype=np.float64), np.mean(wet**2, dtype=np.float64)
    if wet_power == 0.0:
        return samples
    return (wet * np.sqrt(power / wet_power)).astype(np.float32)


def _fast_size(length: int) -> int:
    """A size of at least `length` that suits the FFT: a power of two times 1, 9/8, 5/4 or 3/2."""
    power = 1 << max(length.bit_length() - 1, 3)
    return next(size for size in (power, power // 8 * 9, power // 4 * 5, power // 2 * 3, 2 * power) if size >= length)
