"""The middles of steps, in training and in inference, against lists made by hand."""

import numpy as np
import pytest
import torch

from asrkit.inference.model import Outputs, join_phases, steps_of_frames
from asrkit.models.stacking import step_frames

# (stack, skip): the frame in the middle of each step of 9 frames; of an even stack the earlier of the two.
MIDDLES = {
    (1, 1): [0, 1, 2, 3, 4, 5, 6, 7, 8],
    (2, 1): [0, 1, 2, 3, 4, 5, 6, 7, 8],
    (3, 3): [1, 4, 7],
    (4, 3): [1, 4, 7],
    (4, 2): [1, 3, 5, 7, 8],  # the last step's begins with the last frame, which is repeated
    (6, 4): [2, 6, 8],
    (5, 4): [2, 6, 8],
}


@pytest.mark.parametrize(("stack", "skip"), MIDDLES)
def test_the_middle_frame_of_a_step(stack: int, skip: int) -> None:
    assert step_frames(torch.tensor([9]), 9, stack, skip).tolist() == [MIDDLES[stack, skip]]


@pytest.mark.parametrize(("stack", "skip"), MIDDLES)
def test_a_frame_has_the_outputs_of_the_step_whose_middle_it_is(stack: int, skip: int) -> None:
    """Outputs that hold the middle of their step, which is p frames earlier in phase p."""
    num_steps = -(-9 // skip)
    middles = [{1: 0, 2: 0, 3: 1, 4: 1, 5: 2, 6: 2}[stack] + skip * np.arange(num_steps) - p for p in range(skip)]
    phases = [Outputs(middle[:, None], 100 + middle[:, None]) for middle in middles]
    joined = join_phases(phases, 9, stack)
    assert joined.by_frame
    there = [frame for frame in range(9) if any(frame in middle for middle in middles)]
    assert len(there) >= 6
    assert joined.log_probs[there, 0].tolist() == there
    assert (joined.frame_log_probs[there, 0] - 100).tolist() == there


@pytest.mark.parametrize(("stack", "skip"), MIDDLES)
def test_inference_and_training_have_the_same_middles(stack: int, skip: int) -> None:
    for phase in range(skip):
        middles = step_frames(torch.tensor([99]), 99, stack, skip, torch.tensor([phase]))[0].numpy()
        inner = np.flatnonzero((middles > 0) & (middles < 98))
        phase_of, step_of = steps_of_frames(middles[inner], skip, stack)
        assert set(phase_of) == {phase}
        assert step_of.tolist() == inner.tolist()
