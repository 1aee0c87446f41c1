"""What a tuning has to say of its figures."""

import numpy as np
import pytest

from asrkit.decoding.confidence import NUM_EVIDENCE, Calibration, fit_calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.tuning import Fold, LeftOut
from asrkit.reporting.analysis import phone_reliability
from asrkit.reporting.tuning import CalibrationFit


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "few"),
    [(500, 49, "of 549 phones found 49 are wrong"), (49, 500, "of 549 phones found 49 are right"), (500, 50, None)],
)
def test_a_calibration_on_few_wrong_or_few_right_phones_is_warned_of(num_right, num_wrong, few):
    right = np.repeat([1.0, 0.0, np.nan], [num_right, num_wrong, 100])
    lines = CalibrationFit(Calibration(), [np.zeros((len(right), NUM_EVIDENCE))], [right]).warnings()
    assert [line.split(", and")[0] for line in lines] == ([few] if few else [])
    assert all("takes 50 (10 for each of its 5 weights)" in line for line in lines)


def test_confidences_left_out_are_calibrated_on_the_others():
    rng = np.random.default_rng(0)
    evidence = [rng.normal(2, 3, (num_phones, NUM_EVIDENCE)) for num_phones in (20, 0, 30, 40)]
    right = [(rng.random(len(rows)) < 0.5).astype(float) for rows in evidence]
    config = DecodingConfig()
    left_out = LeftOut("speakers", 2, [Fold((0, 2), config, config), Fold((1, 3), config, config)])
    found = CalibrationFit(Calibration(), evidence, right).left_out(left_out)
    a, b = (
        (np.concatenate([evidence[i] for i in of]), np.concatenate([right[i] for i in of])) for of in ((0, 2), (1, 3))
    )
    confidences = np.concatenate([fit_calibration(*b)(a[0]), fit_calibration(*a)(b[0])])
    assert found == phone_reliability(confidences, np.concatenate([a[1], b[1]]))


def test_a_fit_is_to_other_conditions_too_and_reliability_to_each_alone():
    rng = np.random.default_rng(1)
    evidence, others = ([rng.normal(mean, 3, (40, NUM_EVIDENCE)) for _ in range(3)] for mean in (4, 0))
    right, wrong = ([(rng.random(40) < share).astype(float) for _ in range(3)] for share in (0.9, 0.3))
    counts = np.repeat([1.0, 1 / 3], 120)
    calibration = fit_calibration(np.concatenate([*evidence, *others]), np.concatenate([*right, *wrong]), counts)
    fit = CalibrationFit(calibration, evidence, right, (others, wrong))
    found = fit.to_dict()
    assert found["after"] == phone_reliability(calibration(np.concatenate(evidence)), np.concatenate(right))
    assert found["elsewhere"] == phone_reliability(calibration(np.concatenate(others)), np.concatenate(wrong))
    assert CalibrationFit(calibration, evidence, right).to_dict()["elsewhere"] is None
    config = DecodingConfig()
    left_out = fit.left_out(LeftOut("utterances", 3, [Fold((i,), config, config) for i in range(3)]))
    confidences = []
    for i in range(3):
        kept = [j for j in range(3) if j != i]  # of either part
        parts = [
            np.concatenate([rows[j] for rows in both for j in kept]) for both in ((evidence, others), (right, wrong))
        ]
        confidences.append(fit_calibration(*parts, np.repeat([1.0, 1 / 3], 80))(evidence[i]))
    assert left_out == phone_reliability(np.concatenate(confidences), np.concatenate(right))
