"""Transmission of recordings: level, telephone band and codecs. `CODECS` has the codecs by name.

libsndfile encodes and decodes in memory, through soundfile. The result equals, to the bit, the samples that one reads
from an encoded file. If a codec delays the sound, the delay is removed, so that times of phones stay valid.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import soundfile

from asrkit.audio import resample
from asrkit.audio.ogg import without_serial
from asrkit.audio.sndfile import SoundFile
from asrkit.errors import ConfigError
from asrkit.types import Waveform

CodecName = Literal["8khz", "telephone", "mulaw", "gsm", "opus", "mp3"]

_PASSED, _STOPPED = (300.0, 3400.0), (150.0, 3850.0)  # Hz, of a telephone's band
_FULL_SCALE = 32767
_PADDING = 4096  # samples, more than any codec adds
_RINGING = 0.05  # seconds, longer than the band filter rings


@dataclass(frozen=True)
class Codec:
    """A sampling rate, optionally a band limit, and a codec.

    Without `subtype`, samples are rounded to 16 bits as in PCM.

    Attributes:
        sample_rate: in Hz.
        in_band: limit the audio to the telephone band first.
        format, subtype: libsndfile's names.
        kbps: bit rates (kbit/s) at libsndfile's compression levels 0 and 1, for codecs with a choice.
        bitrate_mode: libsndfile's mode for these bit rates.
        delay: samples that decoding adds at the beginning, if the file does not say how many.
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
        """Whether the installed libsndfile can write this codec."""
        return not self.subtype or soundfile.check_format(self.format, self.subtype)

    def __call__(self, waveform: Waveform, kbps: float) -> Waveform:
        """Encode and decode a waveform. Its sampling rate and length stay; samples are on the int16 scale.

        `kbps` is the bit rate in kbit/s, for codecs with a choice.
        """
        sent = resample(waveform, self.sample_rate)
        samples = to_int16(telephone_band(sent) if self.in_band else sent.samples)
        coded = self._code(samples, kbps) if self.subtype else samples.astype(np.float32)
        heard = resample(Waveform(coded, self.sample_rate), waveform.sample_rate).samples
        out = np.zeros(len(waveform.samples), np.float32)
        kept = heard[: len(out)]
        out[: len(kept)] = kept  # resampling can round the length down
        return Waveform(out, waveform.sample_rate)

    def _code(self, samples: np.ndarray, kbps: float) -> np.ndarray:
        """Encode and decode `samples` (n,) int16: float32.

        There can be more samples, if the codec fills its last frame.
        """
        with SoundFile(io.BytesIO(self.encode(samples, kbps))) as file:
            decoded = file.read_block(len(samples) + _PADDING)[:, 0]
        return decoded[self.delay :] if len(decoded) > len(samples) else decoded

    def encode(self, samples: np.ndarray, kbps: float) -> bytes:
        """Encode `samples` (n,) int16, at the codec's sampling rate.

        Returns the file's content, which is always the same for the same samples. `kbps` as for `__call__`.
        """
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
        content = stream.getvalue()
        return without_serial(content) if self.format == "OGG" else content

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
    """Check that libsndfile can write these codecs.

    Raises:
        ConfigError: it cannot write some of them.
    """
    if missing := [name for name in names if not CODECS[name].is_there]:
        raise ConfigError(
            f"training.augment.codecs: libsndfile {soundfile.__libsndfile_version__} cannot write "
            f"{', '.join(missing)}; install a newer soundfile, or leave them out"
        )


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Round `samples` (n,) on the int16 scale, and clip them at full scale, as in a 16-bit file: (n,) int16."""
    return np.clip(np.rint(samples), -32768, 32767).astype(np.int16)


def set_level(samples: np.ndarray, peak_db: float) -> np.ndarray:
    """Scale `samples` (n,) float32 to a peak of `peak_db` dB relative to full scale.

    Above 0 dB they are clipped at full scale. The result is (n,) float32 with whole numbers. Silence stays unchanged.
    """
    peak = np.abs(samples).max(initial=0.0)
    if peak == 0.0:
        return samples
    return to_int16(samples * np.float32(_FULL_SCALE * 10 ** (peak_db / 20) / peak)).astype(np.float32)


def telephone_band(waveform: Waveform) -> np.ndarray:
    """Filter the samples to 300 to 3400 Hz without delay, (n,) float32.

    Nothing below 150 Hz or above 3850 Hz is left.
    """
    num_samples, rate = len(waveform.samples), waveform.sample_rate
    size = 1 << (num_samples + round(_RINGING * rate)).bit_length()
    hz = np.fft.rfftfreq(size, 1 / rate)
    slopes = [(hz - _STOPPED[0]) / (_PASSED[0] - _STOPPED[0]), (_STOPPED[1] - hz) / (_STOPPED[1] - _PASSED[1])]
    gain = np.sin(np.pi / 2 * np.clip(np.minimum(*slopes), 0, 1)) ** 2
    spectrum = np.fft.rfft(waveform.samples, size) * gain.astype(np.float32)
    return np.fft.irfft(spectrum, size)[:num_samples].astype(np.float32)
