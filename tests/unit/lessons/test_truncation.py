"""The gradients of lesson 3, against differences of the loss."""

import numpy as np

from asrkit.lessons.truncation import NUM_HIDDEN, NUM_STEPS, Task, cut_at, random_cuts


def loss(task: Task, start: int, state: np.ndarray) -> float:
    h = state
    for x in task.inputs[start:]:
        h = np.tanh(task.recurrent @ h + task.inner @ x)
    return 0.5 * float(((h - task.target) ** 2).sum())


def states(task: Task) -> list[np.ndarray]:
    h = [np.zeros(NUM_HIDDEN)]
    for x in task.inputs:
        h.append(np.tanh(task.recurrent @ h[-1] + task.inner @ x))
    return h


def by_differences(task: Task, tau: int) -> np.ndarray:
    """The gradient when the state of `tau` steps before the end counts as a constant."""
    start = NUM_STEPS - tau
    state = states(task)[start]
    gradient = []
    for row in range(NUM_HIDDEN):
        for weights in (task.recurrent, task.inner):
            for column in range(weights.shape[1]):
                kept, ends = weights[row, column], []
                for change in (1e-6, -1e-6):
                    weights[row, column] = kept + change
                    ends.append(loss(task, start, state))
                weights[row, column] = kept
                gradient.append((ends[0] - ends[1]) / 2e-6)
    return np.array(gradient)


def test_full_and_truncated_gradients() -> None:
    task = Task(seed=1, singular_value=0.97)
    full = task.gradient(np.ones((1, NUM_STEPS)))[0]
    np.testing.assert_allclose(full, by_differences(task, NUM_STEPS), rtol=1e-5, atol=1e-8)
    for tau in (1, 5, 20):
        np.testing.assert_allclose(task.gradient(cut_at(tau))[0], by_differences(task, tau), rtol=1e-5, atol=1e-8)


def test_random_cuts_are_one_on_average() -> None:
    xi = random_cuts(0.75, 20_000, np.random.default_rng(0))
    assert {*np.unique(xi)} == {0.0, 1 / 0.75}
    assert abs(xi.mean() - 1) < 0.003
