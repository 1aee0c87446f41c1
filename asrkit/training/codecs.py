"""Transmission of recordings: level, telephone band, codecs. `CODECS` has the codecs by name.

libsndfile encodes and decodes (through soundfile, in memory). The result equals, to the bit, what reading an encoded
file gives. If a codec delays the sound, the delay is removed, so that speech keeps its times.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soundfile

from asrkit.audio import resample
from asrkit.audio.sndfile import SoundFile
from asrkit.errors import ConfigError
from asrkit.types import Waveform

CodecName = Literal["8khz", "telephone", "mulaw", "gsm", "opus", "mp3"]

_PASSED, _STOPPED = (300.0, 3400.0), (150.0, 3850.0)  # Hz, of a telephone's band
_FULL_SCALE = 32767
_PADDING = 4096  # samples: more than any codec adds
_RINGING = 0.05  # seconds for which the band's filter rings, at most


@dataclass(frozen=True)
class Codec:
    """A rate, a band, a codec. Without `subtype` samples are whole numbers of 16 bits, as in any file of PCM.

    Attributes:
        sample_rate: in Hz.
        in_band: limit the audio to a telephone's band first.
        format, subtype: libsndfile's.
        kbps: bit rates at libsndfile's compression levels 0 and 1, for codecs that have a choice.
        bitrate_mode: libsndfile's, where those are the rates of one mode.
        delay: samples that decoding brings before the first, where the file does not tell how many they are.
    """

    sample_rate: int
    in_band: bool = False
    format: str = "WAV"
    subtype: str = ""
    kbps: tuple[float, float] | None = None
    bitrate_mode: str | None = None
    delay: int = 0

    @property
    def is_there(self) -> bool:
        """Whether this machine's libsndfile can write it."""
        return not self.subtype or soundfile.check_format(self.format, self.subtype)

    def __call__(self, waveform: Waveform, kbps: float) -> Waveform:
        """The waveform after it was coded, at the rate and of the length that it had; int16 scale.

        `kbps`: the bit rate, for codecs that have a choice.
        """
        sent = resample(waveform, self.sample_rate)
        samples = to_int16(telephone_band(sent) if self.in_band else sent.samples)
        coded = self._code(samples, kbps) if self.subtype else samples.astype(np.float32)
        heard = resample(Waveform(coded, self.sample_rate), waveform.sample_rate).samples
        out = np.zeros(len(waveform.samples), np.float32)
        kept = heard[: len(out)]
        out[: len(kept)] = kept  # a change of the rate may round the length down
        return Waveform(out, waveform.sample_rate)

    def _code(self, samples: np.ndarray, kbps: float) -> np.ndarray:
        """`samples` (n,) int16 coded and decoded, float32; there may be more, where a codec fills its last frame."""
        with SoundFile(io.BytesIO(self.encode(samples, kbps))) as file:
            decoded = file.read_block(len(samples) + _PADDING)[:, 0]
        return decoded[self.delay :] if len(decoded) > len(samples) else decoded

    def encode(self, samples: np.ndarray, kbps: float) -> bytes:
        """The file of `samples` (n,) int16 at the codec's rate."""
        stream = io.BytesIO()
        with SoundFile(
            stream,
            "w",
            self.sample_rate,
            1,
            self.subtype,
            format=self.format,
            compression_level=self._compression_level(kbps),
            bitrate_mode=self.bitrate_mode,
        ) as file:
            file.write(samples)
        return stream.getvalue()

    def _compression_level(self, kbps: float) -> float | None:
        if self.kbps is None:
            return None
        best, least = self.kbps
        return min(max((kbps - best) / (least - best), 0.0), 1.0)


CODECS: dict[CodecName, Codec] = {
    "8khz": Codec(8000),
    "telephone": Codec(8000, in_band=True, subtype="ULAW"),
    "mulaw": Codec(8000, subtype="ULAW"),
    "gsm": Codec(8000, in_band=True, subtype="GSM610"),
    "opus": Codec(16000, format="OGG", subtype="OPUS", kbps=(256, 6)),
    "mp3": Codec(16000, format="MP3", subtype="MPEG_LAYER_III", kbps=(160, 8), bitrate_mode="CONSTANT", delay=1105),
}


def check_codecs(names: Iterable[CodecName]) -> None:
    """Raise ConfigError when libsndfile cannot write one of them."""
    if missing := [name for name in names if not CODECS[name].is_there]:
        raise ConfigError(
            f"training.augment.codecs: libsndfile {soundfile.__libsndfile_version__} cannot write "
            f"{', '.join(missing)}; install a newer soundfile, or leave them out"
        )


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Samples on the int16 scale as a file of 16 bits has them: whole numbers, cut at full scale."""
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def set_level(samples: np.ndarray, peak_db: float) -> np.ndarray:
    """A recording whose loudest sample is at `peak_db` dB of full scale, and cut there when that is above 0.

    `samples` (n,) float32 to (n,) float32, whole numbers. Silence stays as it is.
    """
    peak = np.abs(samples).max(initial=0.0)
    if peak == 0.0:
        return samples
    return to_int16(samples * np.float32(_FULL_SCALE * 10 ** (peak_db / 20) / peak)).astype(np.float32)


def telephone_band(waveform: Waveform) -> np.ndarray:
    """The samples (n,) float32 of 300 to 3400 Hz alone, without delay: nothing below 150 Hz or above 3850 Hz."""
    num_samples, rate = len(waveform.samples), waveform.sample_rate
    size = 1 << (num_samples + round(_RINGING * rate)).bit_length()
    hz = np.fft.rfftfreq(size, 1 / rate)
    slopes = [(hz - _STOPPED[0]) / (_PASSED[0] - _STOPPED[0]), (_STOPPED[1] - hz) / (_STOPPED[1] - _PASSED[1])]
    gain = np.sin(np.pi / 2 * np.clip(np.minimum(*slopes), 0, 1)) ** 2
    spectrum = np.fft.rfft(waveform.samples, size) * gain.astype(np.float32)
    return np.fft.irfft(spectrum, size)[:num_samples].astype(np.float32)
