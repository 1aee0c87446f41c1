"""What a tuning has to say of its figures."""

import numpy as np
import pytest

from asrkit.decoding.confidence import Calibration, fit_calibration
from asrkit.decoding.config import DecodingConfig
from asrkit.decoding.tuning import Fold, LeftOut
from asrkit.reporting.analysis import phone_reliability
from asrkit.reporting.tuning import CalibrationFit


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "few"),
    [(500, 29, "of 529 phones found 29 are wrong"), (29, 500, "of 529 phones found 29 are right"), (500, 30, None)],
)
def test_a_calibration_on_few_wrong_or_few_right_phones_is_warned_of(num_right, num_wrong, few):
    right = np.repeat([1.0, 0.0, np.nan], [num_right, num_wrong, 100])
    lines = CalibrationFit(Calibration(), [np.zeros((len(right), 2))], [right]).warnings()
    assert [line.split(", and")[0] for line in lines] == ([few] if few else [])
    assert all("takes 30 (10 for each of its 3 weights)" in line for line in lines)


def test_confidences_left_out_are_calibrated_on_the_others():
    rng = np.random.default_rng(0)
    evidence = [rng.normal(2, 3, (num_phones, 2)) for num_phones in (20, 0, 30, 40)]
    right = [(rng.random(len(rows)) < 0.5).astype(float) for rows in evidence]
    config = DecodingConfig()
    left_out = LeftOut("speakers", 2, [Fold((0, 2), config, config), Fold((1, 3), config, config)])
    found = CalibrationFit(Calibration(), evidence, right).left_out(left_out)
    a, b = (
        (np.concatenate([evidence[i] for i in of]), np.concatenate([right[i] for i in of])) for of in ((0, 2), (1, 3))
    )
    confidences = np.concatenate([fit_calibration(*b)(a[0]), fit_calibration(*a)(b[0])])
    assert found == phone_reliability(confidences, np.concatenate([a[1], b[1]]))
