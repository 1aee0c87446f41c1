import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from asrkit.errors import ConfigError, DataError
from asrkit.features.cmvn import accumulate, apply_cmvn
from asrkit.features.config import FeatureConfig
from asrkit.features.deltas import add_deltas
from asrkit.features.full import full_features
from asrkit.features.pipeline import FeatureLoader, feats_input, pooled_stats
from asrkit.io.ark import ArkWriter
from asrkit.io.scp import write_table
from asrkit.io.stamp import Product, fingerprint

UTT2SPK = {"a-1": "a", "a-2": "a", "b-1": "b"}
CONFIG = FeatureConfig(cmvn="speaker")


def make_static(utt: str, num_frames: int = 30) -> np.ndarray:
    rng = np.random.default_rng(list(utt.encode()))
    return rng.normal(rng.normal(0, 20, 13), 5, (num_frames, 13)).astype(np.float32)


STATIC = {utt: make_static(utt, 30 + 10 * n) for n, utt in enumerate(UTT2SPK)}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    write_table(tmp_path / "utt2spk", UTT2SPK)
    with ArkWriter(tmp_path / "feats.1.ark", tmp_path / "feats.scp") as writer:
        for utt, static in STATIC.items():
            writer.write(utt, static)
    with ArkWriter(tmp_path / "cmvn.ark", tmp_path / "cmvn.scp") as writer:
        writer.write("a", accumulate(STATIC["a-1"]) + accumulate(STATIC["a-2"]))
        writer.write("b", accumulate(STATIC["b-1"]))
    return tmp_path


def test_what_counts_of_features_of_another_tool(data_dir: Path) -> None:
    """The content of archives and what is found where in them; neither places nor times."""
    before = fingerprint({"feats": feats_input(data_dir)})
    moved = data_dir / "moved"
    moved.mkdir()
    for name in ("feats.1.ark", "cmvn.ark"):
        (data_dir / name).rename(moved / name)
    for name in ("feats.scp", "cmvn.scp"):
        text = (data_dir / name).read_text()
        (data_dir / name).write_text(text.replace(f"{data_dir}/", f"{moved}/"))
    os.utime(moved / "feats.1.ark", (0, 0))
    assert fingerprint({"feats": feats_input(data_dir)}) == before
    rows = (data_dir / "feats.scp").read_text().splitlines()
    swapped = [f"a-1 {rows[1].split()[1]}", f"a-2 {rows[0].split()[1]}", rows[2], ""]
    (data_dir / "feats.scp").write_text("\n".join(swapped))
    assert fingerprint({"feats": feats_input(data_dir)}) != before
    (data_dir / "feats.scp").write_text("\n".join([*rows, ""]))
    assert fingerprint({"feats": feats_input(data_dir)}) == before
    content = bytearray((moved / "cmvn.ark").read_bytes())
    content[-1] ^= 1
    (moved / "cmvn.ark").write_bytes(content)
    assert fingerprint({"feats": feats_input(data_dir)}) != before


def test_features_that_have_a_stamp_are_known_by_it(data_dir: Path) -> None:
    (data_dir / ".feats.stamp").touch()
    assert feats_input(data_dir) == Product(data_dir / ".feats.stamp")


def test_cmvn_comes_before_deltas() -> None:
    static = STATIC["a-1"]
    stats = accumulate(static)
    feats = full_features(static, stats, CONFIG)
    assert feats.shape == (30, 39)
    assert feats.dtype == np.float32
    np.testing.assert_array_equal(feats[:, :13], apply_cmvn(static, stats))
    # Deltas are linear: those of normalised features are those of the static ones over the standard deviation.
    np.testing.assert_allclose(feats[:, 13:], (add_deltas(static) / np.tile(static.std(axis=0), 3))[:, 13:], atol=1e-4)


@pytest.mark.parametrize(("order", "window"), [(0, 2), (1, 2), (1, 3), (2, 1), (2, 3), (3, 2)])
def test_the_settings_of_deltas_are_followed(data_dir: Path, order: int, window: int) -> None:
    """By the loader too. Away from the edges: slopes of the least-squares lines through 2 * window + 1 frames."""
    config = FeatureConfig(cmvn="none", delta_order=order, delta_window=window)
    expected = [STATIC["a-1"].astype(np.float64)]
    offsets = np.arange(-window, window + 1)
    for _ in range(order):
        expected.append(sum(np.roll(expected[-1], -offset, axis=0) * offset for offset in offsets) / (offsets**2).sum())
    inner = slice(order * window, 30 - order * window)
    for feats in (full_features(STATIC["a-1"], None, config), FeatureLoader(data_dir, config)["a-1"]):
        assert feats.shape == (30, 13 * (order + 1))
        np.testing.assert_allclose(feats[inner], np.hstack(expected)[inner], atol=1e-4)


def test_cmvn_of_the_utterance_needs_no_statistics() -> None:
    config = FeatureConfig(cmvn="utterance")
    expected = full_features(STATIC["a-1"], accumulate(STATIC["a-1"]), CONFIG)
    np.testing.assert_array_equal(full_features(STATIC["a-1"], None, config), expected)
    np.testing.assert_array_equal(full_features(STATIC["a-1"], accumulate(STATIC["b-1"]), config), expected)


def test_no_cmvn() -> None:
    config = FeatureConfig(cmvn="none", delta_order=0)
    np.testing.assert_array_equal(full_features(STATIC["a-1"], None, config), STATIC["a-1"])


@pytest.mark.parametrize("mode", ["speaker", "global"])
def test_missing_statistics(mode: str) -> None:
    with pytest.raises(ConfigError, match="without statistics"):
        full_features(STATIC["a-1"], None, FeatureConfig(cmvn=mode))


def test_loader_uses_the_speakers_statistics(data_dir: Path) -> None:
    loader = FeatureLoader(data_dir, CONFIG)
    assert list(loader) == list(UTT2SPK)
    assert len(loader) == 3
    assert "a-1" in loader and "a" not in loader
    assert [loader.num_frames(utt) for utt in loader] == [30, 40, 50]
    both = np.concatenate([loader["a-1"], loader["a-2"]])[:, :13]
    np.testing.assert_allclose(both.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(both.std(axis=0), 1, atol=1e-4)
    assert np.abs(loader["a-1"][:, :13].mean(axis=0)).max() > 0.01


def test_loader_gives_writable_arrays_that_are_no_part_of_the_file(data_dir: Path) -> None:
    loader = FeatureLoader(data_dir, FeatureConfig(cmvn="none", delta_order=0))
    feats = loader["a-1"]
    feats[:] = 0
    np.testing.assert_array_equal(loader["a-1"], STATIC["a-1"])


def test_global_statistics_are_those_given(data_dir: Path) -> None:
    config = FeatureConfig(cmvn="global")
    total = pooled_stats(data_dir, CONFIG)
    np.testing.assert_allclose(total, accumulate(np.concatenate(list(STATIC.values()))), rtol=1e-9)
    loader = FeatureLoader(data_dir, config, total)
    np.testing.assert_array_equal(loader["b-1"], full_features(STATIC["b-1"], total, config))
    with pytest.raises(ConfigError, match="training set"):
        FeatureLoader(data_dir, config)


def test_statistics_that_cannot_be_are_told_with_their_file(data_dir: Path) -> None:
    with ArkWriter(data_dir / "cmvn.ark", data_dir / "cmvn.scp") as writer:
        writer.write("a", np.zeros((2, 14)))
        writer.write("b", accumulate(STATIC["b-1"]) / 100)
    told = rf"^{data_dir}/cmvn\.scp: CMVN statistics of 0.* frames, .*; made by stage 1 \(asrkit extract\)$"
    with pytest.raises(DataError, match=told):
        pooled_stats(data_dir, CONFIG)
    with pytest.raises(DataError, match=told):
        FeatureLoader(data_dir, CONFIG)["a-1"]


def test_statistics_of_speech_are_made_from_the_features(data_dir: Path) -> None:
    (data_dir / "cmvn.scp").unlink()
    config = FeatureConfig(cmvn="speech_speaker")
    mode = config.normalization
    own = {utt: mode.statistics(static) for utt, static in STATIC.items()}
    total = pooled_stats(data_dir, config)
    with pytest.raises(ConfigError, match="training set"):
        FeatureLoader(data_dir, config)
    loader = FeatureLoader(data_dir, config, total)
    for utt, stats in {"a-1": own["a-1"] + own["a-2"], "a-2": own["a-1"] + own["a-2"], "b-1": own["b-1"]}.items():
        assert stats[0, -1] < 100
        filled = stats + (100 - stats[0, -1]) / total[0, -1] * total
        np.testing.assert_allclose(loader.stats(utt), filled, rtol=1e-12)
        np.testing.assert_array_equal(loader[utt], full_features(STATIC[utt], loader.stats(utt), config))
    config = FeatureConfig(cmvn="speech_global")
    total = pooled_stats(data_dir, config)
    np.testing.assert_allclose(total, sum(own.values()), rtol=1e-12)
    feats = FeatureLoader(data_dir, config, total)["b-1"]
    np.testing.assert_array_equal(feats, full_features(STATIC["b-1"], total, config))
    assert FeatureLoader(data_dir, FeatureConfig(cmvn="utterance"), total).stats("b-1") is None  # takes none
    config = FeatureConfig(cmvn="speech_utterance")
    own = config.normalization.filled(own["b-1"], total)
    expected = full_features(STATIC["b-1"], own, FeatureConfig(cmvn="speech_global"))
    np.testing.assert_array_equal(FeatureLoader(data_dir, config, total)["b-1"], expected)


def test_loader_survives_the_way_to_another_process(data_dir: Path) -> None:
    loader = FeatureLoader(data_dir, CONFIG)
    copy = pickle.loads(pickle.dumps(loader))
    np.testing.assert_array_equal(copy["a-2"], loader["a-2"])


@pytest.mark.parametrize("mode, needed", [("speaker", True), ("utterance", False), ("none", False)])
def test_only_what_is_needed_must_be_there(data_dir: Path, mode: str, needed: bool) -> None:
    (data_dir / "cmvn.scp").unlink()
    (data_dir / "utt2spk").unlink()
    if needed:
        with pytest.raises(DataError) as caught:
            FeatureLoader(data_dir, FeatureConfig(cmvn=mode))
        assert str(caught.value) == f"{data_dir}/cmvn.scp: not found; made by stage 1 (asrkit extract)"
    else:
        assert FeatureLoader(data_dir, FeatureConfig(cmvn=mode))["a-1"].shape == (30, 39)


def test_no_features(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        FeatureLoader(tmp_path, CONFIG)
    assert str(caught.value).split("\n") == [
        f"{tmp_path}/feats.scp: not found; made by stage 1 (asrkit extract)",
        f"{tmp_path}/cmvn.scp: not found; made by stage 1 (asrkit extract)",
    ]
    with pytest.raises(DataError, match=r"cmvn\.scp: not found"):
        pooled_stats(tmp_path, CONFIG)


def test_utterances_without_speakers_and_speakers_without_statistics(data_dir: Path) -> None:
    write_table(data_dir / "utt2spk", {"a-1": "a", "b-1": "c"})
    with pytest.raises(DataError) as caught:
        FeatureLoader(data_dir, CONFIG)
    assert [line.removeprefix(f"{data_dir}/") for line in str(caught.value).split("\n")] == [
        "utt2spk: no line for a-2, which feats.scp has; repeat stage 1 (asrkit extract)",
        "cmvn.scp: no line for speaker c; repeat stage 1 (asrkit extract)",
    ]


def test_features_of_another_dimension(data_dir: Path) -> None:
    loader = FeatureLoader(data_dir, FeatureConfig(num_ceps=12, cmvn="none"))
    with pytest.raises(DataError, match=r"a-1 has shape \(30, 13\); expected 12 columns"):
        loader["a-1"]


def test_features_made_with_other_settings(data_dir: Path) -> None:
    made_with = {**FeatureConfig(low_hz=40.0, backend="librosa").static_settings(), "backend": "librosa"}
    (data_dir / "feats.json").write_text(json.dumps(made_with))
    with pytest.raises(DataError) as caught:
        FeatureLoader(data_dir, CONFIG)
    remedy = "as the feature settings say; repeat stage 1 (asrkit extract) with them"
    assert str(caught.value).split("\n") == [
        f"{data_dir}/feats.json: features were made with definition 'librosa'; expected 'kaldi' {remedy}",
        f"{data_dir}/feats.json: features were made with low_hz 40.0; expected 20.0 {remedy}",
    ]
    (data_dir / "feats.json").write_text(json.dumps({**CONFIG.static_settings(), "backend": "numpy"}))
    assert FeatureLoader(data_dir, CONFIG)["a-1"].shape == (30, 39)
    for damaged in ("{", "3", "\xff"):
        (data_dir / "feats.json").write_text(damaged, encoding="latin-1")
        with pytest.raises(DataError, match=r"feats\.json: cannot be read"):
            FeatureLoader(data_dir, CONFIG)


@pytest.mark.parametrize(
    ("speakers", "found"),
    [
        ([], "none"),
        ([(2, 14), (2, 15)], r"\(2, 14\), \(2, 15\)"),
        ([(2, 14), (1, 14)], r"\(1, 14\), \(2, 14\)"),
        ([(3, 14)], r"\(3, 14\)"),
        ([(2, 1)], r"\(2, 1\)"),
        ([(28,)], r"\(28,\)"),
    ],
)
def test_pooled_statistics_are_of_one_dimension(tmp_path: Path, speakers: list[tuple[int, ...]], found: str) -> None:
    with ArkWriter(tmp_path / "cmvn.ark", tmp_path / "cmvn.scp") as writer:
        for number, shape in enumerate(speakers):
            writer.write(f"s{number}", np.ones(shape))
    with pytest.raises(DataError, match=rf"cmvn.scp: statistics of shapes {found}; expected one"):
        pooled_stats(tmp_path, CONFIG)
