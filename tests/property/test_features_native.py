"""The feature kernel against its NumPy references, on any input: the same result to rounding, or an error."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from asrkit._native import kernel
from asrkit.errors import AsrkitError, AudioError, ConfigError
from asrkit.features import cmvn, deltas, full
from asrkit.features.config import FeatureConfig
from asrkit.features.full import full_features
from asrkit.features.mfcc import FeatureExtractor
from asrkit.features.stream import StaticStream
from asrkit.types import Waveform

native = kernel("_mfcc")
needs_kernel = pytest.mark.skipif(native is None, reason="_mfcc is not built, or ASRKIT_NO_NATIVE is 1")


@contextmanager
def numpy_only() -> Iterator[None]:
    """The NumPy references of CMVN and deltas, beside a kernel that is there."""
    absent = mock.Mock(return_value=None)
    with (
        mock.patch.object(cmvn, "kernel", absent),
        mock.patch.object(deltas, "kernel", absent),
        mock.patch.object(full, "kernel", absent),
    ):
        yield


@st.composite
def configs(draw: st.DrawFn) -> FeatureConfig:
    """Any settings that go together, with frames from a few samples to some thousands."""
    kind = draw(st.sampled_from(["mfcc", "fbank"]))
    num_bins = draw(st.integers(3, 40))
    settings = {
        "kind": kind,
        "sample_rate": draw(st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000])),
        "frame_length_ms": draw(st.sampled_from([5.0, 10.0, 16.0, 20.0, 23.3, 25.0, 32.0, 64.0])),
        "frame_shift_ms": draw(st.sampled_from([1.0, 5.3, 10.0, 12.5, 40.0])),
        "dither": draw(st.sampled_from([0.0, 1.0])),
        "preemphasis": draw(st.sampled_from([0.0, 0.5, 0.97, 1.0])),
        "remove_dc_offset": draw(st.booleans()),
        "window": draw(st.sampled_from(["povey", "hamming", "hanning", "rectangular", "blackman", "sine"])),
        "snip_edges": draw(st.booleans()),
        "use_energy": draw(st.booleans()),
        "raw_energy": draw(st.booleans()),
        "energy_floor": draw(st.sampled_from([0.0, 1.0, 1e6])),
        "num_mel_bins": num_bins,
        "num_ceps": draw(st.integers(1, num_bins)),
        "cepstral_lifter": draw(st.sampled_from([0.0, 22.0])),
        "low_hz": draw(st.sampled_from([0.0, 20.0, 300.0])),
        "high_hz": draw(st.sampled_from([0.0, -500.0])),
        "delta_order": draw(st.integers(0, 3)),
        "delta_window": draw(st.integers(1, 4)),
        "cmvn": draw(st.sampled_from(["utterance", "none"])),
        "norm_vars": draw(st.booleans()),
    }
    try:
        return FeatureConfig(**settings)
    except ConfigError:  # filters too narrow for the FFT
        return FeatureConfig(**{**settings, "num_mel_bins": 3, "num_ceps": min(3, settings["num_ceps"])})


def with_backend(config: FeatureConfig, backend: str) -> FeatureExtractor:
    return FeatureExtractor(FeatureConfig(**{**vars(config), "backend": backend}))


def make_samples(num_samples: int, seed: int, gain: float, offset: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.round(rng.normal(offset, gain, num_samples)).astype(np.float32)


@needs_kernel
@settings(max_examples=150)
@given(configs(), st.integers(0, 9000), st.integers(0, 2**32), st.sampled_from([10, 1000]), st.floats(-1000, 1000))
def test_static_features(config: FeatureConfig, num_samples: int, seed: int, gain: float, offset: float) -> None:
    ours, reference = with_backend(config, "native"), with_backend(config, "numpy")
    waveform = Waveform(make_samples(num_samples, seed, gain, offset), config.sample_rate)
    if ours.num_frames(num_samples) == 0:
        with pytest.raises(AudioError):
            ours(waveform, "utt1")
        return
    feats, expected = ours(waveform, "utt1"), reference(waveform, "utt1")
    assert feats.shape == expected.shape
    # Full pre-emphasis takes the low frequencies away, an offset that is kept drowns them: there rounding is larger.
    np.testing.assert_allclose(feats, expected, atol=2e-2, rtol=1e-4)
    assert np.quantile(np.abs(feats - expected), 0.9) < 2e-3


@settings(max_examples=60)
@given(
    configs(), st.lists(st.integers(0, 3000), max_size=12), st.integers(0, 2**32), st.sampled_from(["auto", "numpy"])
)
def test_a_stream_gives_the_bits_of_the_whole(config: FeatureConfig, sizes: list[int], seed: int, backend: str) -> None:
    extract = with_backend(config, backend)
    samples = make_samples(sum(sizes), seed, 1000, 0)
    stream = StaticStream(extract, "utt1")
    chunks = [stream.accept(part) for part in np.split(samples, np.cumsum(sizes)[:-1])] if sizes else []
    if extract.num_frames(len(samples)) == 0:
        with pytest.raises(AudioError):
            stream.finish()
        return
    whole = extract(Waveform(samples, config.sample_rate), "utt1")
    np.testing.assert_array_equal(np.concatenate([*chunks, stream.finish()]), whole)


@settings(max_examples=60)
@given(configs(), st.integers(1, 9000), st.integers(0, 2**32))
def test_full_features_are_the_steps_in_one(config: FeatureConfig, num_samples: int, seed: int) -> None:
    extract = FeatureExtractor(config)
    waveform = Waveform(make_samples(num_samples, seed, 1000, 0), config.sample_rate)
    if extract.num_frames(num_samples):
        static = extract(waveform, "utt1")
        np.testing.assert_array_equal(extract.full(waveform, "utt1"), full_features(static, None, config))


any_float = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=150)
@given(arrays(np.float32, st.integers(0, 900), elements=any_float, fill=st.just(0.0)), st.booleans(), st.booleans())
def test_any_samples_give_finite_features_or_an_error(samples: np.ndarray, snip_edges: bool, use_energy: bool) -> None:
    config = FeatureConfig(snip_edges=snip_edges, use_energy=use_energy, delta_order=0, cmvn="none")
    results = []
    for backend in ("auto", "numpy"):
        try:
            results.append(with_backend(config, backend).full(Waveform(samples, 16000), "utt1"))
        except AsrkitError:
            results.append(None)
    if not np.isfinite(samples[: 560 if snip_edges else None]).all() and len(samples) >= 560:
        assert results == [None, None]
    for feats in results:
        assert feats is None or np.isfinite(feats).all()
    if results[0] is not None and results[1] is not None and np.abs(samples).max(initial=0) < 1e6:
        # Frames of few large values and digital silence: single precision shows in the empty bands.
        np.testing.assert_allclose(results[0], results[1], atol=0.5)


@needs_kernel
def test_the_logarithm_over_its_whole_range() -> None:
    """Log energies of constant frames: from below Kaldi's floor over denormals to the largest that has a square."""
    config = FeatureConfig(kind="fbank", use_energy=True, remove_dc_offset=False, num_mel_bins=3)
    extract = with_backend(config, "native")
    for exponent in np.arange(-44.0, 17.5, 0.037):
        value = np.float32(10.0**exponent)
        energy = 400 * float(value) ** 2
        feats = extract(Waveform(np.full(400, value, np.float32), 16000))
        expected = np.log(max(energy, 2.0**-23))
        assert abs(feats[0, 0] - expected) <= 1e-6 + 3e-7 * abs(expected)


shapes = st.tuples(st.integers(0, 150), st.integers(1, 20))
feats_arrays = shapes.flatmap(lambda shape: arrays(np.float32, shape, elements=st.floats(-100, 100, width=32)))


@needs_kernel
@settings(max_examples=100)
@given(feats_arrays, st.integers(0, 4), st.integers(1, 6), st.booleans())
def test_cmvn_and_deltas(feats: np.ndarray, order: int, window: int, norm_vars: bool) -> None:
    def steps() -> tuple[np.ndarray, ...]:
        stats = cmvn.accumulate(feats)
        plain = deltas.add_deltas(feats, order, window)
        if len(feats) == 0:
            return stats, plain
        # Variances near zero magnify the last bit of the statistics.
        stats[1, :-1] += len(feats)
        config = FeatureConfig(cmvn="speaker", norm_vars=norm_vars, delta_order=order, delta_window=window)
        return stats, plain, cmvn.apply_cmvn(feats, stats, norm_vars), full_features(feats, stats, config)

    ours = steps()
    with numpy_only():
        expected = steps()
    for result, reference in zip(ours, expected, strict=True):
        assert result.dtype == reference.dtype
        np.testing.assert_allclose(result, reference, rtol=1e-5, atol=1e-4)


@needs_kernel
@given(st.sampled_from(["float64", "strided", "unaligned", "read-only", "reversed"]), st.integers(1, 30))
def test_arrays_of_any_layout(layout: str, num_frames: int) -> None:
    plain = np.random.default_rng(num_frames).normal(0, 1, (num_frames, 5)).astype(np.float32)
    if layout == "float64":
        feats = plain.astype(np.float64)
    elif layout == "strided":
        feats = np.repeat(np.repeat(plain, 2, axis=0), 3, axis=1)[::2, ::3]
    elif layout == "unaligned":
        feats = np.frombuffer(b"x" + plain.tobytes(), np.float32, plain.size, 1).reshape(plain.shape)
    elif layout == "read-only":
        feats = plain.copy()
        feats.setflags(write=False)
    else:
        feats = plain[::-1].copy()[::-1]
    np.testing.assert_allclose(cmvn.accumulate(feats), cmvn.accumulate(plain), rtol=1e-12)
    config = FeatureConfig(cmvn="utterance", delta_order=1)
    np.testing.assert_allclose(full_features(feats, None, config), full_features(plain, None, config), atol=1e-5)
    samples = np.resize(feats[:, 0], 4000)
    extract = FeatureExtractor(config)
    np.testing.assert_array_equal(
        extract(Waveform(samples, 16000)), extract(Waveform(samples.astype(np.float32).copy(), 16000))
    )


wrong = st.one_of(
    st.none(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=9),
    arrays(
        st.sampled_from([np.float32, np.float64, np.int16, np.bool_, np.complex64]), st.sampled_from([0, 1, 4, 400])
    ),
    arrays(
        st.sampled_from([np.float32, np.float64, np.int32]),
        st.sampled_from([(0, 0), (1, 13), (2, 13), (2, 14), (3, 0), (2, 2, 2), (23, 256), (13, 23), (5, 39)]),
    ),
)


def good_arguments(name: str) -> list[object]:
    filters, dct = np.ones((23, 256), np.float32), np.ones((13, 23), np.float32)
    plan = [160, 512, 0.03, True, 0, 0.0, np.ones(400, np.float32), filters, dct]
    samples, feats, stats = np.ones(2000, np.float32), np.ones((5, 13), np.float32), np.ones((2, 14))
    return {
        "plan": plan,
        "static": [native.plan(*plan), samples, 0, feats],
        "full_features": [feats, stats, True, 2, 2, np.ones((5, 39), np.float32)],
        "accumulate": [feats, stats],
        "full": [native.plan(*plan), samples, 0, True, True, stats, 2, 2, np.ones((5, 39), np.float32)],
    }[name]


@needs_kernel
@settings(max_examples=400)
@given(st.sampled_from(["plan", "static", "full_features", "accumulate", "full"]), st.data())
def test_wrong_calls_never_crash(name: str, data: st.DataObject) -> None:
    arguments = good_arguments(name)
    getattr(native, name)(*arguments)
    for place in data.draw(st.sets(st.integers(0, len(arguments) - 1), min_size=1, max_size=3)):
        arguments[place] = data.draw(wrong)
    arguments = arguments[: data.draw(st.integers(len(arguments) - 1, len(arguments)))]
    try:
        result = getattr(native, name)(*arguments)
    except (TypeError, ValueError, OverflowError, MemoryError, BufferError):
        return
    if name == "plan":  # one that was accepted has to work
        window, _, dct = arguments[6:]
        dim = 23 if dct is None else len(dct)
        out = np.empty((3, dim + (dct is None and arguments[4] != 0)), np.float32)
        native.static(result, np.ones(len(window) + 1, np.float32), -3, out)


@needs_kernel
@pytest.mark.parametrize("first", [-(2**62), -(2**40), -1000, 2000, 2**40, 2**62])
def test_frames_far_outside_the_samples(first: int) -> None:
    arguments = good_arguments("static")
    arguments[2] = first
    try:
        assert native.static(*arguments) in (True, False)
    except ValueError as error:
        assert "out of reach" in str(error)
