from pathlib import Path

import numpy as np
import pytest

from asrkit.config.experiment_config import ExperimentConfig
from asrkit.config.yaml_config import load_config, parse_config
from asrkit.errors import ConfigError
from asrkit.features.config import FeatureConfig
from asrkit.features.mfcc import FeatureExtractor
from asrkit.types import Waveform


@pytest.mark.parametrize(
    "sample_rate, length_ms, shift_ms, length, shift, fft_size",
    [
        (16000, 25.0, 10.0, 400, 160, 512),
        (8000, 25.0, 10.0, 200, 80, 256),
        (16000, 16.0, 8.0, 256, 128, 256),
        (16000, 32.0, 10.0, 512, 160, 512),
        (22050, 25.0, 10.0, 551, 220, 1024),
        (44100, 25.0, 10.0, 1102, 441, 2048),
        (48000, 25.0, 12.5, 1200, 600, 2048),
    ],
)
def test_sizes(sample_rate: int, length_ms: float, shift_ms: float, length: int, shift: int, fft_size: int) -> None:
    config = FeatureConfig(sample_rate=sample_rate, frame_length_ms=length_ms, frame_shift_ms=shift_ms)
    assert (config.frame_length, config.frame_shift, config.fft_size) == (length, shift, fft_size)


def test_dimensions() -> None:
    assert (FeatureConfig().num_static, FeatureConfig().dim) == (13, 39)
    assert FeatureConfig(delta_order=0).dim == 13
    assert FeatureConfig(kind="fbank", num_mel_bins=40).dim == 120
    assert FeatureConfig(kind="fbank", num_mel_bins=40, use_energy=True).dim == 123
    assert FeatureConfig(use_energy=True).num_static == 13


def test_all_impossible_values_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        FeatureConfig(window="kaiser", num_ceps=24, dither=float("nan"))
    assert str(caught.value).split("\n") == [
        "features.window: 'kaiser'; expected one of povey, hamming, hanning, rectangular, blackman, sine",
        "features.dither: nan; expected 0 to 32768",
        "features.num_ceps: 24; expected 1 to num_mel_bins (23)",
    ]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"sample_rate": 0}, "sample_rate: 0; expected a sampling rate in Hz, such as 16000"),
        ({"frame_shift_ms": -1.0}, "frame_shift_ms: -1.0; expected milliseconds, above 0 and at most 1000"),
        ({"frame_shift_ms": 0.01}, "frame_shift_ms: 0.01; expected one sample or more at 16000 Hz"),
        ({"low_hz": 8000.0}, "low_hz: 8000.0; expected 0 or more, below half the sampling rate (8000 Hz)"),
        ({"high_hz": 9000.0}, "high_hz: 9000.0; expected above low_hz (20) and at most half the sampling rate"),
        ({"high_hz": -8000.0}, "high_hz: -8000.0; expected above low_hz (20)"),
        ({"num_mel_bins": 200}, "num_mel_bins: 200; expected fewer: "),
        ({"num_mel_bins": 2, "num_ceps": 1}, "num_mel_bins: 2; expected 3 to 1000"),
        (
            {"cmvn": "sliding"},
            "cmvn: 'sliding'; expected one of speaker, utterance, global, running, speech_speaker, speech_utterance, "
            "speech_global, speech_running, none",
        ),
        ({"delta_window": 0}, "delta_window: 0; expected 1 to 1000"),
        ({"preemphasis": 1.5}, "preemphasis: 1.5; expected 0 to 1"),
        (
            {"sample_rate": 10**6, "frame_length_ms": 1000.0, "num_mel_bins": 1000},
            "num_mel_bins: 1000; expected fewer for frames of that length",
        ),
        ({"delta_order": 20, "delta_window": 51}, "delta_window: 51; expected less: deltas over 1000 frames at most"),
        (
            {"kind": "fbank", "num_mel_bins": 100, "delta_order": 100, "frame_length_ms": 100.0},
            "delta_order: 100; expected less: 10100 features per frame are above 10000",
        ),
    ],
)
def test_impossible_value(settings: dict, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FeatureConfig(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("name", "lowest", "highest", "others"),
    [
        ("sample_rate", 1000, 1_000_000, {"num_mel_bins": 3}),
        ("frame_length_ms", None, 1000.0, {}),
        ("frame_shift_ms", None, 1000.0, {}),
        ("preemphasis", 0.0, 1.0, {}),
        ("num_mel_bins", 3, 1000, {"frame_length_ms": 500.0}),
        ("delta_order", 0, 100, {}),
        ("delta_window", 1, 1000, {"delta_order": 1}),
    ],
)
def test_both_ends_are_possible_and_nothing_beyond(name: str, lowest: float, highest: float, others: dict) -> None:
    for bound, beyond in ((lowest, -1), (highest, 1)):
        if bound is not None:
            FeatureConfig(kind="fbank", **others, **{name: bound})
            with pytest.raises(ConfigError, match=rf"^features\.{name}: {bound + beyond}"):
                FeatureConfig(kind="fbank", **others, **{name: bound + beyond})


def test_values_that_another_kind_ignores_are_allowed() -> None:
    FeatureConfig(kind="fbank", num_mel_bins=10)  # num_ceps 13 is more than 10, but there are no cepstra


def test_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "features.yaml"
    path.write_text("sample_rate: 8000\nwindow: hammming\n")
    with pytest.raises(ConfigError, match=r"features\.yaml:2: window: .*did you mean 'hamming'"):
        load_config(path, FeatureConfig)
    path.write_text("sample_rate: 8000\nsnip_edges: no\nframe_length_ms: 2e1\n")
    assert load_config(path, FeatureConfig) == FeatureConfig(sample_rate=8000, snip_edges=False, frame_length_ms=20.0)


def test_an_impossible_value_is_reported_at_its_line() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_config("features:\n  kind: mfcc\n  dither: -1\n", ExperimentConfig, "c.yaml")
    assert str(caught.value) == "c.yaml:3: features.dither: -1.0; expected 0 to 32768"


def test_stored_features_do_not_depend_on_cmvn_and_deltas() -> None:
    other = FeatureConfig(cmvn="none", norm_vars=False, delta_order=0, delta_window=3)
    assert other.static_settings() == FeatureConfig().static_settings()
    assert FeatureConfig(num_ceps=12).static_settings() != FeatureConfig().static_settings()


@pytest.mark.parametrize("snip_edges", [True, False])
def test_the_center_of_a_frame_is_where_an_impulse_shows_most(snip_edges: bool) -> None:
    config = FeatureConfig(
        kind="fbank", snip_edges=snip_edges, preemphasis=0.0, remove_dc_offset=False, backend="numpy"
    )
    for frame in (5, 20):
        samples = np.zeros(8000, np.float32)
        samples[round(config.framing.centers(30)[frame] * 16000)] = 1e4
        assert FeatureExtractor(config)(Waveform(samples, 16000)).sum(axis=1).argmax() == frame


def test_the_mel_filters_fit_in_memory():
    FeatureConfig(sample_rate=1_000_000, num_mel_bins=128)
    with pytest.raises(ConfigError, match="num_mel_bins: 1000; expected fewer for frames of that length"):
        FeatureConfig(sample_rate=1_000_000, frame_length_ms=1000, num_mel_bins=1000)
