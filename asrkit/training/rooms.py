"""Reverberation: impulse responses of simulated rooms, made only from a random generator.

The walls of a box mirror the source (the image method, Allen and Berkley 1979). The first 50 ms are the sum of these
images. After that there is about one image per sample. So the rest is Gaussian noise that decays like the images do on
average, by 60 dB in the reverberation time (Polack 1988). A room costs less than the convolution with it, so rooms are
not stored.
"""

from __future__ import annotations

import numpy as np

_SOUND = 343.0  # m/s
_EARLY = 0.05  # seconds after the direct sound, made from images
_SMALLEST, _LARGEST = (3.0, 2.5, 2.3), (9.0, 7.0, 3.5)  # sizes of rooms, m
_NEAREST, _FARTHEST = 0.2, 3.0  # distance between mouth and microphone, m
_FROM_WALL = 0.3  # distance of the microphone from the walls, m
_DECAY = 6 * np.log(10)  # decay of the energy over the reverberation time, nats


def room_response(t60: float, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """Make the impulse response of a room, (num_samples,) float32. `t60` is its reverberation time in seconds.

    The size of the room, and the places of microphone and source, are random. The direct sound is a 1 at sample 0 (its
    travel time is left out), so that times of phones stay valid.
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
    wall = np.exp(-_DECAY / 2 * _free_path(size) / (_SOUND * t60))  # share of the pressure that a wall reflects
    delays = np.rint((distances - direct) * sample_rate / _SOUND).astype(int)
    response = np.bincount(delays, direct / distances * wall**num_walls, minlength=num_early)[:num_early]
    response[1:] -= response[1:].mean()  # images all have one sign; Allen and Berkley filter the offset out
    seconds = direct / _SOUND + np.arange(num_early, num_samples) / sample_rate
    density = 4 * np.pi * _SOUND * direct**2 / np.prod(size)  # energy per second without losses; the direct sound has 1
    late = np.sqrt(density / sample_rate) * np.exp(-_DECAY / 2 / t60 * seconds)
    return np.concatenate([response, late * rng.standard_normal(len(late))])[: max(num_samples, 1)].astype(np.float32)


def _free_path(size: np.ndarray) -> float:
    """Mean distance in m between two reflections in a room of this size (3,): four volumes over the surface."""
    length, width, height = size
    return float(2 * length * width * height / (length * width + length * height + width * height))


def _images(
    size: np.ndarray, source: np.ndarray, microphone: np.ndarray, farthest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Distances (n,) in m of the images of the source up to `farthest`, and the number of reflections (n,) of each."""
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
    """Convolve `samples` (n,) float32 with the impulse `response` (m,): (n,) float32 with the same loudness."""
    size = _fast_size(len(samples) + len(response) - 1)
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)[: len(samples)]
    power, wet_power = np.mean(samples**2, dtype=np.float64), np.mean(wet**2, dtype=np.float64)
    if wet_power == 0.0:
        return samples
    return (wet * np.sqrt(power / wet_power)).astype(np.float32)


def _fast_size(length: int) -> int:
    """A size of at least `length` that is fast for the FFT: a power of two times 1, 9/8, 5/4 or 3/2."""
    power = 1 << max(length.bit_length() - 1, 3)
    return next(size for size in (power, power // 8 * 9, power // 4 * 5, power // 2 * 3, 2 * power) if size >= length)
