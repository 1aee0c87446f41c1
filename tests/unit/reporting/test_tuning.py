"""What a tuning has to say of its figures."""

import numpy as np
import pytest

from asrkit.decoding.confidence import Calibration
from asrkit.reporting.tuning import CalibrationFit


@pytest.mark.parametrize(
    ("num_right", "num_wrong", "few"),
    [(500, 29, "of 529 phones found 29 are wrong"), (29, 500, "of 529 phones found 29 are right"), (500, 30, None)],
)
def test_a_calibration_on_few_wrong_or_few_right_phones_is_warned_of(num_right, num_wrong, few):
    right = np.repeat([1.0, 0.0, np.nan], [num_right, num_wrong, 100])
    lines = CalibrationFit(Calibration(), np.zeros((len(right), 2)), right).warnings()
    assert [line.split(", and")[0] for line in lines] == ([few] if few else [])
    assert all("takes 30 (10 for each of its 3 weights)" in line for line in lines)
