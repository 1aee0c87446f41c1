"""The settings of features. They mean the same as the options of Kaldi's compute-mfcc-feats, add-deltas, apply-cmvn."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import numpy as np

from asrkit.errors import ConfigError, raise_if_any
from asrkit.features.backends import BACKENDS, BackendChoice, backend_class
from asrkit.features.cmvn import NORMALIZATIONS, CmvnMode, Normalization
from asrkit.features.framing import Framing
from asrkit.features.mel import mel_filters
from asrkit.features.window import Window

Kind = Literal["mfcc", "fbank"]
_MAX_FILTERS = 2**23  # twice the number of entries in the matrix of mel filters
_MAX_DIM = 10_000
_NOT_STATIC = ("delta_order", "delta_window", "cmvn", "norm_vars", "backend")


@dataclass(frozen=True)
class FeatureConfig:
    """The settings of features. Raises ConfigError if values are impossible; it names them all."""

    kind: Kind = "mfcc"  # or "fbank": log mel energies
    sample_rate: int = 16000
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    dither: float = 0.0  # standard deviation of the noise that is added to samples, on the int16 scale
    preemphasis: float = 0.97
    remove_dc_offset: bool = True
    window: Window = "povey"
    snip_edges: bool = True
    use_energy: bool = False  # mfcc: log energy replaces C0; fbank: log energy is put before the first bin
    raw_energy: bool = True  # compute the energy before pre-emphasis and windowing
    energy_floor: float = 0.0  # 0: no floor
    num_mel_bins: int = 23
    low_hz: float = 20.0
    high_hz: float = 0.0  # 0 or negative: relative to half the sampling rate
    num_ceps: int = 13
    cepstral_lifter: float = 22.0  # 0: no lifter
    delta_order: int = 2
    delta_window: int = 2
    cmvn: CmvnMode = "speech_speaker"
    norm_vars: bool = True
    backend: BackendChoice = "auto"  # computes static features; auto: native if it is built, otherwise numpy

    def __post_init__(self) -> None:
        faults: list[str] = []

        def expect(name: str, good: bool, expected: str) -> None:
            if not good:
                faults.append(f"features.{name}: {getattr(self, name)!r}; expected {expected}")

        backends = ("auto", *BACKENDS)
        expect("kind", self.kind in get_args(Kind), f"one of {', '.join(get_args(Kind))}")
        expect("window", self.window in get_args(Window), f"one of {', '.join(get_args(Window))}")
        expect("cmvn", self.cmvn in get_args(CmvnMode), f"one of {', '.join(get_args(CmvnMode))}")
        expect("backend", self.backend in backends, f"one of {', '.join(backends)}")
        expect("sample_rate", 1000 <= self.sample_rate <= 1_000_000, "a sampling rate in Hz, such as 16000")
        expect("frame_length_ms", 0.0 < self.frame_length_ms <= 1000.0, "milliseconds, above 0 and at most 1000")
        expect("frame_shift_ms", 0.0 < self.frame_shift_ms <= 1000.0, "milliseconds, above 0 and at most 1000")
        expect("dither", 0.0 <= self.dither <= 32768.0, "0 to 32768")
        expect("preemphasis", 0.0 <= self.preemphasis <= 1.0, "0 to 1")
        expect("energy_floor", 0.0 <= self.energy_floor < np.inf, "0 or more")
        expect("num_mel_bins", 3 <= self.num_mel_bins <= 1000, "3 to 1000")
        expect("cepstral_lifter", 0.0 <= self.cepstral_lifter < np.inf, "0 or more")
        expect("delta_order", 0 <= self.delta_order <= 100, "0 to 100")
        expect("delta_window", 1 <= self.delta_window <= 1000, "1 to 1000")
        if self.kind == "mfcc":
            expect("num_ceps", 1 <= self.num_ceps <= self.num_mel_bins, f"1 to num_mel_bins ({self.num_mel_bins})")
        raise_if_any(faults, ConfigError)

        nyquist = self.sample_rate / 2
        expect("frame_length_ms", self.frame_length >= 2, f"two samples or more at {self.sample_rate} Hz")
        expect("frame_shift_ms", self.frame_shift >= 1, f"one sample or more at {self.sample_rate} Hz")
        expect("low_hz", 0.0 <= self.low_hz < nyquist, f"0 or more, below half the sampling rate ({nyquist:g} Hz)")
        top = f"above low_hz ({self.low_hz:g}) and at most half the sampling rate ({nyquist:g} Hz)"
        expect("high_hz", self.low_hz < self.top_hz <= nyquist, f"{top}; 0 or less is added to that half")
        raise_if_any(faults, ConfigError)

        expect("num_mel_bins", self.num_mel_bins * self.fft_size <= _MAX_FILTERS, "fewer for frames of that length")
        expect("delta_window", self.delta_order * self.delta_window <= 1000, "less: deltas over 1000 frames at most")
        expect("delta_order", self.dim <= _MAX_DIM, f"less: {self.dim} features per frame are above {_MAX_DIM}")
        raise_if_any(faults, ConfigError)

        filters = mel_filters(self.num_mel_bins, self.fft_size, self.sample_rate, self.low_hz, self.top_hz)
        empty = int((filters.max(axis=0) == 0.0).sum())
        expect("num_mel_bins", not empty, f"fewer: {empty} of the filters have no FFT bin (FFT size {self.fft_size})")
        raise_if_any(faults, ConfigError)

    @property
    def frame_length(self) -> int:
        """The frame length in samples, rounded down."""
        return _to_samples(self.sample_rate, self.frame_length_ms)

    @property
    def frame_shift(self) -> int:
        """The frame shift in samples, rounded down."""
        return _to_samples(self.sample_rate, self.frame_shift_ms)

    @property
    def fft_size(self) -> int:
        """The size of the FFT: the frame length in samples, rounded up to a power of two."""
        return 1 << (self.frame_length - 1).bit_length()

    @property
    def top_hz(self) -> float:
        """The upper end of the highest mel filter, in Hz."""
        return self.high_hz if self.high_hz > 0.0 else self.sample_rate / 2 + self.high_hz

    @property
    def num_static(self) -> int:
        """The dimension of the static features, which are stored."""
        return self.num_ceps if self.kind == "mfcc" else self.num_mel_bins + self.use_energy

    @property
    def dim(self) -> int:
        """The dimension of the full features, with deltas."""
        return self.num_static * (self.delta_order + 1)

    @property
    def normalization(self) -> Normalization:
        """The mode of CMVN that `cmvn` and `norm_vars` select."""
        return NORMALIZATIONS[self.cmvn](self.norm_vars, backend_class(self.backend).level_scale(self))

    def with_normalization(self, normalization: Normalization) -> FeatureConfig:
        """These settings with another mode of CMVN."""
        return replace(self, cmvn=normalization.name, norm_vars=normalization.norm_vars)

    @property
    def framing(self) -> Framing:
        """How a signal is cut into frames."""
        framing_class = backend_class(self.backend).framing_class
        return framing_class(self.frame_length, self.frame_shift, self.fft_size, self.snip_edges, self.sample_rate)

    def with_streaming_backend(self) -> FeatureConfig:
        """These settings with a backend for streams that gives the same features; unchanged if there is none."""
        backend, default = backend_class(self.backend), backend_class("auto")
        if not backend.takes_streams and backend.definition == default.definition:
            return replace(self, backend="auto")
        return self

    def static_settings(self) -> dict[str, object]:
        """The settings on which stored features depend: all except CMVN and deltas, and the backend's definition.

        All backends except librosa follow Kaldi's definitions. Their results differ only by rounding.
        """
        settings = {name: value for name, value in asdict(self).items() if name not in _NOT_STATIC}
        return {"definition": backend_class(self.backend).definition, **settings}


def _to_samples(sample_rate: int, milliseconds: float) -> int:
    # Kaldi keeps milliseconds in single precision and multiplies in this order. A product just below a whole number
    # must be below it here, too.
    return int(sample_rate * 0.001 * float(np.float32(milliseconds)))
