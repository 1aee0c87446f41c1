"""Reliability by hand, the analysis on utterances whose classes are known, and its pictures."""

import struct

import numpy as np
import pytest

from asrkit.decoding.confidence import Calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.methods import SearchModels
from asrkit.decoding.tuning import StoredSet, best_point, search_settings
from asrkit.io.json_text import json_text
from asrkit.lang.tokens import TokenTable
from asrkit.reporting.analysis import build_analysis, phone_reliability, render_analysis, wider_points
from asrkit.reporting.calibration import Bin, expected_calibration_error, reliability
from asrkit.reporting.figures import draw_reliability, draw_surface
from asrkit.scoring.protocols import PROTOCOLS

TOKENS = TokenTable(["a", "b"])
# A beam of 1 drops the empty prefix after one frame, and with it the best labelling.
MISLED = np.log([[0.3, 0.4, 0.3], [0.0001, 0.0001, 0.9998]])
SURE = np.log([[0.02, 0.97, 0.01]])


def test_bins_and_error_by_hand():
    confidences, right = np.array([0.1, 0.19, 0.3, 1.0, 0.95]), np.array([0, 1, 0, 1, 1])
    bins = reliability(confidences, right)
    assert [b.number for b in bins] == [0, 2, 0, 1, 0, 0, 0, 0, 0, 2]
    assert (bins[1].confidence, bins[1].accuracy) == pytest.approx((0.145, 0.5))
    assert (bins[9].low, bins[9].high, bins[9].confidence, bins[9].accuracy) == pytest.approx((0.9, 1.0, 0.975, 1.0))
    assert bins[0].confidence is bins[0].accuracy is None
    expected = (2 * 0.355 + 1 * 0.3 + 2 * 0.025) / 5
    assert expected_calibration_error(confidences, right) == pytest.approx(expected)
    assert np.isnan(expected_calibration_error(np.zeros(0), np.zeros(0)))


def test_calibrated_confidences_have_a_small_error_and_others_a_large_one():
    rng = np.random.default_rng(0)
    truth = rng.random(20000)
    right = (rng.random(20000) < truth).astype(float)
    assert expected_calibration_error(truth, right) < 0.02
    assert expected_calibration_error(np.sqrt(truth), right) == pytest.approx(1 / 6, abs=0.01)  # E[sqrt(u)] - E[u]


def test_phones_that_are_not_scored_do_not_count():
    found = phone_reliability(np.array([0.2, 0.9, 0.8]), np.array([0.0, np.nan, 1.0]))
    assert (found["number"], found["accuracy"], found["confidence"]) == (2, 0.5, 0.5)
    assert found["ece"] == pytest.approx(0.2)


@pytest.fixture
def misled():
    refs = {"search": ("b",), "model": ("b",), "right": ("a",), "impossible": ("a", "b", "b")}
    log_probs = {"search": MISLED, "model": SURE, "right": SURE, "impossible": MISLED}
    return StoredSet(log_probs, refs, TOKENS, SearchModels(), PROTOCOLS["as-is"], 1)


def test_each_wrong_utterance_is_in_its_class(misled):
    config = DecodingConfig(beam=1, lm_weight=0.0, insertion_bonus=0.0)
    hyps = misled.search(config)
    found = build_analysis(misled, config, hyps, list(wider_points(misled, config)), None)
    assert {row["utt"]: row["class"] for row in found["utts"]} == {
        "search": "search errors",
        "model": "model errors",
        "impossible": "model errors",
    }
    assert (found["num_utts"], found["num_wrong"], found["num_impossible"]) == (4, 3, 1)
    # "a b" for "b"; "a" for "b"; "a b" for "a b b".
    rows = {row["class"]: (row["num_utts"], row["num_ins"], row["num_sub"], row["num_del"]) for row in found["classes"]}
    assert rows == {"search errors": (1, 1, 0, 0), "model errors": (2, 0, 1, 1)}
    assert sum(row["share"] for row in found["classes"]) == pytest.approx(1)
    scores = {row["utt"]: (row["hyp_score"], row["ref_score"]) for row in found["utts"]}
    assert scores["search"] == pytest.approx((np.log(0.4 * 0.9998), np.log(0.6 * 0.9998 + 0.3 * 0.0001)))
    assert scores["impossible"][1] is None
    assert [row["beam"] for row in found["wider"]] == [2, 4, 8, 16]
    # With all prefixes kept, both of the misled utterances become "b": one error less here, one more there.
    last = found["wider"][-1]
    assert (last["num_changed"], last["num_improved"], last["num_errors"]) == (2, 2, 0)
    assert (last["num_edits"], last["num_phones"]) == (2, 4)
    assert found["confidence"]["phones"]["number"] == 6
    assert found["confidence"]["utterances"]["number"] == 4
    text = render_analysis(found)
    assert "3 of 4 utterances are wrong" in text
    assert "1 references cannot be found" in text
    assert "not calibrated" in text
    json_text(found)


def test_utterance_confidence_is_the_expected_share_of_right_phones(misled):
    config = DecodingConfig(beam=1, lm_weight=0.0, insertion_bonus=0.0)
    calibration = Calibration(odds_weight=0.0, offset=float(np.log(2 / 3)))  # 0.4 for every phone
    found = build_analysis(misled, config, misled.search(config), [], calibration)["confidence"]
    assert found["calibrated"]
    assert (found["utterances"]["confidence"], found["phones"]["confidence"]) == pytest.approx((0.4, 0.4))
    # Right shares: "a b" for "b" 1/2, "a" for "b" 0, "a" 1, "a b" for "a b b" 1.
    assert found["utterances"]["accuracy"] == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    assert found["phones"]["accuracy"] == pytest.approx(4 / 6)


def test_wider_beams_end_where_they_would_take_too_long(misled):
    beams = [point.config.beam for point, _ in wider_points(misled, DecodingConfig(beam=1000, lm_weight=0.0))]
    assert beams == [2000, 4000]
    assert [p.config.beam for p, _ in wider_points(misled, DecodingConfig(beam=5000, lm_weight=0.0))] == [10000]


@pytest.mark.parametrize(("beam", "wider"), [(50_000, [100_000]), (50_001, [100_000]), (100_000, [])])
def test_no_beam_is_wider_than_a_search_may_have(misled, beam, wider):
    config = DecodingConfig(beam=beam, lm_weight=0.0)
    points = list(wider_points(misled, config))
    assert [point.config.beam for point, _ in points] == wider
    hyps = misled.search(config)
    text = render_analysis(build_analysis(misled, config, hyps, points, None))
    assert ("No beam is wider than 100000" in text) == (not wider)


def png_size(path):
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", content[16:24])


def test_pictures_are_drawn_and_do_not_depend_on_the_moment(misled, tmp_path):
    points = list(search_settings(misled, DecodingConfig()))
    winner = best_point(points)
    draw_surface(tmp_path / "curve.png", points, winner)
    assert min(png_size(tmp_path / "curve.png")) > 300
    lm_points = [
        type(winner)(DecodingConfig(lm_weight=weight, insertion_bonus=bonus), winner.counts)
        for weight in (0.0, 0.5)
        for bonus in (0.0, 1.0)
    ]
    draw_surface(tmp_path / "flat.png", lm_points, lm_points[0])
    assert min(png_size(tmp_path / "flat.png")) > 300
    curves = {"phones": reliability(np.array([0.2, 0.7]), np.array([0, 1])), "none": [Bin(0.0, 1.0, 0, None, None)]}
    for name in ("a.png", "b.png"):
        draw_reliability(tmp_path / name, curves)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
