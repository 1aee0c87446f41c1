"""Recognition of everyday recordings: `python -m tests.bench.conditions --data DATA --out OUT --model MODEL ...`.

Copies the utterances of a data directory to OUT/CONDITION, a data directory for each condition: with quiet before and
after, at 8 kHz, coded, quieter, clipped, in rooms, in noise. Then each model transcribes each file separately, as
`asrkit transcribe` does. The first table shows the PER, the mean confidence of the phones found, the share of them that
is right, and the difference of the last two. The second table is of recordings in which nobody speaks. It shows in how
many of them a model finds phones other than silence, how many phones, and their mean confidence. The last line is JSON.
Symbols are compared as they are, including silence. --map replaces phones of a corpus by those of a model, for speech
in another language.

Random draws depend only on --seed and the utterances. They differ from those of training.augment. The eight rooms are
new; all images of the source are summed to the end, and the walls fit the reverberation time. The noise is made in
other ways than in training: noise with the mean spectrum of these utterances, babble of eight of them, and pink noise
in gusts. Its level is relative to the whole utterance. The same noise serves for all levels.
"""

from __future__ import annotations

import argparse
import functools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.signal
import soundfile
import soxr

from asrkit.audio import AudioAccess
from asrkit.formats.data_dir import load_data_dir, write_data_dir
from asrkit.inference.recognizer import Recognizer, load_recognizer
from asrkit.scoring.per import score
from asrkit.types import PhoneTime, Utterance
from tests.bench import print_versions

SOUND = 343.0  # m/s
NUM_ROOMS = 8
NUM_TALKERS = 8
QUIETEST = 0.1  # share of an utterance's frames, the quietest, that count as noise of its room
SOFTEST_ROOM = 1.0  # standard deviation, int16 scale
_NOBODY_S, _NUM_NOBODY = 8, 10  # seconds of each recording in which nobody speaks, and their number per kind
_NOBODY_LEVELS = (3.0, 3000.0)  # lowest and highest standard deviation, int16 scale


@dataclass(frozen=True)
class Corpus:
    """Utterances by id: samples (n,) on the int16 scale, all at one rate in Hz; and the seed of random numbers."""

    samples: Mapping[str, np.ndarray]
    rate: int
    seed: int

    @functools.cached_property
    def spectrum(self) -> np.ndarray:
        """Mean power (257,) of the utterances, scaled to equal loudness, from 0 Hz to half the rate."""
        spectra = [
            scipy.signal.welch(samples / max(samples.std(), 1.0), nperseg=min(512, len(samples)), nfft=512)[1]
            for samples in self.samples.values()
        ]
        return np.mean(spectra, axis=0)

    def rng(self, *names: str) -> np.random.Generator:
        """The generator of random numbers for these names."""
        return np.random.default_rng([self.seed, zlib.crc32(" ".join(names).encode())])


@dataclass(frozen=True)
class Condition:
    """A condition: the samples of an utterance change, quiet comes before and after, and a file format is chosen.

    Attributes:
        change: from a corpus and the id of an utterance to samples (n,).
        pad: seconds of quiet at either end.
        quiet: from samples, their rate, a number and a generator to that many samples of quiet.
        file_rate: of the file in Hz; None for that of the corpus.
        file: libsndfile's format and subtype, and compression level.
    """

    change: Callable[[Corpus, str], np.ndarray] = lambda corpus, utt_id: corpus.samples[utt_id]
    pad: float = 0.0
    quiet: Callable[[np.ndarray, int, int, np.random.Generator], np.ndarray] | None = None
    file_rate: int | None = None
    file: tuple[str, str, float | None] = ("WAV", "PCM_16", None)


def digital_silence(samples: np.ndarray, rate: int, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Zeros (num_samples,)."""
    return np.zeros(num_samples)


def room_noise(samples: np.ndarray, rate: int, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with the mean spectrum of the utterance's quietest frames of 25 ms."""
    size = rate // 40
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, (0, size)), size)[:: size // 2]
    frames = frames - frames.mean(axis=1, keepdims=True)
    power = frames.var(axis=1)
    quietest = frames[power <= np.quantile(power[: max(len(power) - 2, 1)], QUIETEST)]
    noise = shaped_noise(np.mean(np.abs(np.fft.rfft(quietest * np.hanning(size))) ** 2, axis=0), num_samples, rng)
    return noise * max(float(np.sqrt(quietest.var())), SOFTEST_ROOM)


def shaped_noise(power: np.ndarray, num_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise (num_samples,) of variance 1 whose spectrum is `power` (bins,), from 0 Hz to half the rate."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    at = np.linspace(0, len(power) - 1, len(spectrum))
    noise = np.fft.irfft(spectrum * np.sqrt(np.interp(at, np.arange(len(power)), power)), num_samples)
    return noise / max(noise.std(), 1e-9)


def noise_for(corpus: Corpus, utt_id: str) -> np.ndarray:
    """Noise of the length of the utterance and of variance 1. It is the same for all levels."""
    rng, num_samples = corpus.rng("noise", utt_id), len(corpus.samples[utt_id])
    kind = rng.integers(3)
    if kind == 0:
        noise = shaped_noise(corpus.spectrum, num_samples, rng)
    elif kind == 1:
        others = [other for other in sorted(corpus.samples) if other != utt_id] or [utt_id]
        talkers = [corpus.samples[others[number]] for number in rng.integers(len(others), size=NUM_TALKERS)]
        noise = sum(
            np.resize(np.roll(talker, rng.integers(len(talker))), num_samples) / max(talker.std(), 1.0)
            for talker in talkers
        )
    else:
        seconds = np.arange(num_samples) / corpus.rate
        gusts = sum(np.sin(2 * np.pi * (rng.uniform(0.3, 3) * seconds + rng.random())) for _ in range(4))
        noise = shaped_noise(1 / np.arange(1, 258), num_samples, rng) * np.exp(gusts / 2)
    return noise / max(np.std(noise), 1e-9)


def in_noise(snr_db: float, corpus: Corpus, utt_id: str) -> np.ndarray:
    """The utterance with noise at this signal-to-noise ratio in dB."""
    samples = corpus.samples[utt_id]
    return samples + samples.std() * 10 ** (-snr_db / 20) * noise_for(corpus, utt_id)


def amplified(gain_db: float, corpus: Corpus, utt_id: str) -> np.ndarray:
    """The utterance, amplified by so many dB."""
    return corpus.samples[utt_id] * 10 ** (gain_db / 20)


def clipped(peak_db: float, corpus: Corpus, utt_id: str) -> np.ndarray:
    """The utterance, amplified until its loudest sample is so many dB above full scale, where the file clips it."""
    samples = corpus.samples[utt_id]
    return samples * (32767 * 10 ** (peak_db / 20) / max(np.abs(samples).max(), 1.0))


def in_a_room(t60: float, corpus: Corpus, utt_id: str) -> np.ndarray:
    """The utterance in one of eight rooms. The direct sound keeps its time, the whole its loudness."""
    samples = corpus.samples[utt_id]
    number = int(corpus.rng("room", utt_id).integers(NUM_ROOMS))
    wet = scipy.signal.fftconvolve(samples, room(t60, corpus.rate, corpus.seed, number))[: len(samples)]
    return wet * (samples.std() / max(wet.std(), 1e-9))


@functools.cache
def room(t60: float, rate: int, seed: int, number: int) -> np.ndarray:
    """Impulse response of a room with equal walls, by the image method (Allen and Berkley 1979).

    Bisection finds the reflection of the walls with which the energy after each time falls from -5 to -35 dB (Schroeder
    1965) as `t60` requires.
    """
    rng = np.random.default_rng([seed, number])
    size = rng.uniform((3.5, 3.0, 2.4), (7.0, 6.0, 3.2))
    microphone, source = rng.uniform(0.5, size - 0.5), rng.uniform(0.5, size - 0.5)
    squares, walls = np.zeros(1), np.zeros(1, int)
    for axis in range(3):
        farthest = SOUND * t60 / (2 * size[axis]) + 2
        order = np.arange(-int(farthest), int(farthest) + 1)
        at = np.stack([2 * order * size[axis] + source[axis], 2 * order * size[axis] - source[axis]])
        hits = np.stack([np.abs(2 * order), np.abs(2 * order - 1)])
        squares = np.add.outer(squares, (at.ravel() - microphone[axis]) ** 2).ravel()
        walls = np.add.outer(walls, hits.ravel()).ravel()
        near = squares < (SOUND * t60 * 1.1) ** 2
        squares, walls = squares[near], walls[near]
    distances = np.sqrt(squares)
    direct = distances.min()
    places = np.rint((distances - direct) * rate / SOUND).astype(int)
    low, high = 0.0, 1.0
    for _ in range(20):
        reflected = (low + high) / 2
        response = np.bincount(places, direct / distances * reflected**walls)
        energy = np.bincount(places, (direct / distances * reflected**walls) ** 2)
        low, high = (reflected, high) if reverberation_time(energy, rate) < t60 else (low, reflected)
    # All images have the same sign. As in the paper, remove the low frequencies that this causes.
    return scipy.signal.sosfilt(scipy.signal.butter(2, 50, "highpass", fs=rate, output="sos"), response)


def reverberation_time(energy: np.ndarray, rate: int) -> float:
    """Seconds of a decay by 60 dB, extrapolated from -5 to -35 dB after the direct sound; `energy` (n,) by samples."""
    left = np.cumsum(energy[:0:-1])[::-1]
    level = 10 * np.log10(np.maximum(left / left[0], 1e-30))
    first, last = np.searchsorted(-level, (5, 35))
    return float(-60 / np.polyfit(np.arange(first, last) / rate, level[first:last], 1)[0])


CONDITIONS = {
    "clean": Condition(),
    "digital silence, 1 s": Condition(pad=1.0, quiet=digital_silence),
    "digital silence, 5 s": Condition(pad=5.0, quiet=digital_silence),
    "room noise, 1 s": Condition(pad=1.0, quiet=room_noise),
    "room noise, 5 s": Condition(pad=5.0, quiet=room_noise),
    "8 kHz": Condition(file_rate=8000),
    "mu-law": Condition(file_rate=8000, file=("WAV", "ULAW", None)),
    "MP3, 48 kbit/s": Condition(file_rate=16000, file=("MP3", "MPEG_LAYER_III", (160 - 48) / (160 - 8))),
    "gain -30 dB": Condition(functools.partial(amplified, -30.0)),
    "clipping": Condition(functools.partial(clipped, 10.0)),
    "reverberation, 0.3 s": Condition(functools.partial(in_a_room, 0.3)),
    "reverberation, 0.8 s": Condition(functools.partial(in_a_room, 0.8)),
    "noise, 20 dB": Condition(functools.partial(in_noise, 20.0)),
    "noise, 10 dB": Condition(functools.partial(in_noise, 10.0)),
    "noise, 5 dB": Condition(functools.partial(in_noise, 5.0)),
}


def chords(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Major and minor triads, each tone with seven partials, which fade."""
    num_samples = round(rng.uniform(0.6, 1.6) * rate)
    seconds = np.arange(num_samples) / rate
    played = []
    for _ in range(_NOBODY_S * rate // num_samples + 1):
        root, third, fade = (
            110 * 2 ** (rng.integers(12) / 12),
            rng.choice([3, 4]),
            np.exp(-seconds * rng.uniform(0.5, 4)),
        )
        tones = [root * 2 ** (step / 12) for step in (0, third, 7, 12)]
        played.append(
            fade * sum(np.sin(2 * np.pi * hz * n * seconds + 6 * rng.random()) / n for hz in tones for n in range(1, 8))
        )
    return np.concatenate(played)[: _NOBODY_S * rate]


def drums(rate: int, rng: np.random.Generator) -> np.ndarray:
    """A bass drum and a snare, with a hi-hat between them."""
    beat = rng.uniform(0.15, 0.4)
    seconds = np.arange(round(beat * rate)) / rate
    bass = 2 * np.exp(-12 * seconds) * np.sin(2 * np.pi * (50 * seconds + 3 * (1 - np.exp(-30 * seconds))))

    def snare() -> np.ndarray:
        return np.exp(-18 * seconds) * (rng.standard_normal(len(seconds)) + np.sin(2 * np.pi * 190 * seconds))

    def hat() -> np.ndarray:
        return np.exp(-50 * seconds) * np.diff(rng.standard_normal(len(seconds) + 1)) / 2

    bars = int(_NOBODY_S / beat / 4) + 1
    return np.concatenate([hit for _ in range(bars) for hit in (bass, hat(), snare(), hat())])[: _NOBODY_S * rate]


def gusts(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Pink noise whose level rises and falls."""
    seconds = np.arange(_NOBODY_S * rate) / rate
    level = sum(np.sin(2 * np.pi * (rng.uniform(0.3, 3) * seconds + rng.random())) for _ in range(4))
    return shaped_noise(1 / np.arange(1, 258), len(seconds), rng) * np.exp(level / 2)


def hum(rate: int, rng: np.random.Generator) -> np.ndarray:
    """Hum of the mains, and a little white noise."""
    seconds = np.arange(_NOBODY_S * rate) / rate
    return sum(np.sin(2 * np.pi * 50 * n * seconds) / n for n in range(1, 20)) + rng.normal(0, 0.01, len(seconds))


NOBODY: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {
    "digital silence": lambda rate, rng: np.zeros(_NOBODY_S * rate),
    "white noise": lambda rate, rng: rng.standard_normal(_NOBODY_S * rate),
    "gusts": gusts,
    "hum": hum,
    "chords": chords,
    "drums": drums,
    "chords and drums": lambda rate, rng: level_one(chords(rate, rng)) + level_one(drums(rate, rng)),
}


def level_one(samples: np.ndarray) -> np.ndarray:
    """Scale samples (n,) to a standard deviation of 1."""
    return samples / max(samples.std(), 1e-9)


def directory_of(name: str) -> str:
    """The name of a condition's directory."""
    return "".join(letter if letter.isalnum() or letter in ".-" else "_" for letter in name).replace("__", "_")


def load_corpus(data: Path, num_utts: int | None, rate: int, seed: int) -> tuple[list[Utterance], Corpus]:
    """The utterances of a data directory, or `num_utts` of them, and their samples."""
    utts = load_data_dir(data).utterances()
    utts = utts[:: max(len(utts) // num_utts, 1)][:num_utts] if num_utts else utts
    access = AudioAccess()
    samples = {
        utt.utt_id: access.load(utt.audio, sample_rate=rate, start=utt.start, end=utt.end).samples for utt in utts
    }
    return utts, Corpus(samples, rate, seed)


def make(name: str, utts: Sequence[Utterance], corpus: Corpus, directory: Path) -> None:
    """Write a data directory with the utterances in a condition. Its audio files are in a folder beside it."""
    condition = CONDITIONS[name]
    audio = directory.with_name(directory.name + "_audio")
    audio.mkdir(parents=True, exist_ok=True)
    made, durations = [], {}
    for utt in utts:
        samples = condition.change(corpus, utt.utt_id)
        if condition.quiet is not None:
            num_samples, rng = round(condition.pad * corpus.rate), corpus.rng("quiet", utt.utt_id)
            ends = [condition.quiet(corpus.samples[utt.utt_id], corpus.rate, num_samples, rng) for _ in range(2)]
            samples = np.concatenate([ends[0], samples, ends[1]])
        durations[utt.utt_id] = len(samples) / corpus.rate
        rate = condition.file_rate or corpus.rate
        if rate != corpus.rate:
            samples = soxr.resample(samples, corpus.rate, rate, quality="HQ")
        path = audio / f"{utt.utt_id.replace('/', '_')}.{condition.file[0].lower()}"
        write_file(path, samples, rate, condition.file)
        times = tuple(
            PhoneTime(time.phone, time.start + condition.pad, time.end + condition.pad) for time in utt.phone_times
        )
        made.append(replace(utt, audio=str(path.absolute()), rec_id=None, start=None, end=None, phone_times=times))
    write_data_dir(directory, made, durations)


def write_file(path: Path, samples: np.ndarray, rate: int, file: tuple[str, str, float | None]) -> None:
    """Write samples (n,) on the int16 scale in a libsndfile format and subtype, with a compression level."""
    kind, subtype, level = file
    whole = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
    mode = None if level is None else "CONSTANT"
    soundfile.write(path, whole, rate, subtype, format=kind, compression_level=level, bitrate_mode=mode)


def measure(recognizer: Recognizer, directory: Path, phone_map: Mapping[str, str]) -> dict[str, float]:
    """The PER of a data directory, and how confidence fits it.

    Returns the PER, the mean confidence of the phones found, the share of right ones among them, and the difference of
    the last two, all in per cent. `phone_map` gives other symbols for phones of the references.
    """
    utts = load_data_dir(directory).utterances()
    found = {utt.utt_id: recognizer.transcribe(utt.audio, utt.utt_id) for utt in utts}
    refs = {utt.utt_id: tuple(phone_map.get(phone, phone) for phone in utt.phones) for utt in utts}
    result = score(refs, {utt_id: each.phones for utt_id, each in found.items()})
    confidences = [value for each in found.values() for value in each.confidences]
    confidence = 100 * float(np.mean(confidences)) if confidences else 0.0
    right = 100 * result.num_hits / max(result.num_hyp, 1)
    return {"per": result.per, "confidence": confidence, "right": right, "excess": confidence - right}


def measure_nobody(recognizer: Recognizer, name: str, rate: int, seed: int) -> dict[str, float]:
    """Results on recordings without speech.

    They are the share with phones other than silence in per cent, the number of these phones, and their mean confidence
    in per cent.
    """
    silent, spoken, confidences = recognizer.timer.silent_phones, [], []
    for number in range(_NUM_NOBODY):
        rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
        samples = level_one(NOBODY[name](rate, rng)) * np.exp(rng.uniform(*np.log(_NOBODY_LEVELS)))
        samples = np.clip(np.rint(samples), -32768, 32767).astype(np.int16)
        found = recognizer.transcribe(samples, f"{name} {number}", sample_rate=rate)
        pairs = zip(found.phones, found.confidences, strict=True)
        spoken.append([confidence for phone, confidence in pairs if phone not in silent])
        confidences += spoken[-1]
    return {
        "heard": 100 * float(np.mean([bool(each) for each in spoken])),
        "phones": len(confidences),
        "confidence": 100 * float(np.mean(confidences)) if confidences else 0.0,
    }


def main() -> None:
    """Run the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data directory, such as recipes/mini/data/test")
    parser.add_argument("--out", type=Path, required=True, help="for the copies (17 MB a minute of audio)")
    parser.add_argument("--model", action="append", default=[], help="a trained model; again for more of them")
    parser.add_argument("--condition", action="append", choices=[*CONDITIONS], help="one of all; again for more")
    parser.add_argument("--utts", type=int, help="so many utterances in place of all")
    parser.add_argument("--map", type=Path, help="lines of a reference's phone and the model's phone for it")
    parser.add_argument("--rate", type=int, default=16000, help="Hz")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print_versions("numpy", "onnxruntime", "soundfile")
    utts, corpus = load_corpus(args.data, args.utts, args.rate, args.seed)
    seconds = sum(map(len, corpus.samples.values())) / corpus.rate
    print(f"{args.data}: {len(utts)} utterances, {seconds:.0f} s")
    names = args.condition or [*CONDITIONS]
    for name in names:
        make(name, utts, corpus, args.out / directory_of(name))
    recognizers = {model: load_recognizer(model) for model in args.model}
    phone_map = dict(line.split() for line in args.map.read_text().splitlines()) if args.map else {}
    heads = "".join(f" {model}: PER % | confidence % | right % | excess |" for model in recognizers)
    print(f"| condition |{heads}")
    print("|---|" + "---|" * 4 * len(recognizers))
    found: dict[str, dict[str, dict[str, float]]] = {model: {} for model in recognizers}
    for name in names:
        row = f"| {name} |"
        for model, recognizer in recognizers.items():
            found[model][name] = figures = measure(recognizer, args.out / directory_of(name), phone_map)
            row += f" {figures['per']:.1f} | {figures['confidence']:.1f} | {figures['right']:.1f} |"
            row += f" {figures['excess']:+.1f} |"
        print(row, flush=True)
    print("\n| nobody speaks |" + "".join(f" {model}: heard % | phones | confidence % |" for model in recognizers))
    print("|---|" + "---|" * 3 * len(recognizers))
    for name in NOBODY:
        row = f"| {name} |"
        for model, recognizer in recognizers.items():
            found[model][f"nobody: {name}"] = figures = measure_nobody(recognizer, name, args.rate, args.seed)
            row += f" {figures['heard']:.0f} | {figures['phones']} | {figures['confidence']:.1f} |"
        print(row, flush=True)
    print(
        json.dumps(
            {m: {n: {k: round(v, 2) for k, v in f.items()} for n, f in rows.items()} for m, rows in found.items()}
        )
    )


if __name__ == "__main__":
    main()
