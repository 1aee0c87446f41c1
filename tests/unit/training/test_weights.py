"""Averages of weights against their sums, and the files of the best epochs."""

import pytest
import torch

from asrkit.training.weights import BestEpochs, MovingAverage, average


def test_the_moving_average_is_its_sum():
    """With n updates done the factor is min(decay, (1 + n) / (10 + n)): 2/11, 3/12, then 0.3."""
    torch.manual_seed(1)
    model = torch.nn.Linear(3, 2)
    values = [model.weight.detach().clone()]
    ema = MovingAverage(model, 0.3)
    for _ in range(4):
        with torch.no_grad():
            model.weight.add_(torch.randn(2, 3))
        values.append(model.weight.detach().clone())
        ema.update(model)
    expected = values[0]
    for value, factor in zip(values[1:], [2 / 11, 3 / 12, 0.3, 0.3], strict=True):
        expected = factor * expected + (1 - factor) * value
    own, bias = model.weight.detach().clone(), model.bias.detach().clone()
    with pytest.raises(ZeroDivisionError), ema.in_place(model):
        torch.testing.assert_close(model.weight.detach(), expected)
        assert torch.equal(model.bias, bias)
        1 / 0  # noqa: B018
    assert torch.equal(model.weight, own)

    other = MovingAverage(torch.nn.Linear(3, 2), 0.3)
    other.load_state_dict(ema.state_dict())
    for each in (ema, other):
        each.update(model)
    with other.in_place(model):
        of_other = model.weight.detach().clone()
    with ema.in_place(model):
        assert torch.equal(model.weight, of_other)


def test_the_best_epochs_have_files(tmp_path):
    best, model = BestEpochs(tmp_path, 2), torch.nn.Linear(1, 1)
    for epoch, dev_per in enumerate([50.0, 40.0, 60.0, 40.0, 30.0], start=1):
        torch.nn.init.constant_(model.weight, epoch)
        best.offer(dev_per, epoch, model)
        best.tidy()
    assert best.ranking == [(30.0, 5), (40.0, 4)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.4.pt", "best.5.pt"]
    assert [best.weights(epoch, model)["weight"].item() for epoch in (4, 5)] == [4, 5]


def test_a_file_goes_only_when_it_is_told_to(tmp_path):
    """A checkpoint made before an epoch's end may still name the epoch that it drives out."""
    best, model = BestEpochs(tmp_path, 1), torch.nn.Linear(1, 1)
    best.offer(50.0, 1, model)
    best.offer(40.0, 2, model)
    best.offer(45.0, 3, model)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.1.pt", "best.2.pt"]


def test_the_mean_of_weights():
    torch.manual_seed(1)
    sets = [{"a": torch.randn(4, 3), "b": torch.randn(2)} for _ in range(3)]
    found = average(sets)
    for name in ("a", "b"):
        assert found[name].dtype == torch.float32
        expected = sum(weights[name].numpy().astype("float64") for weights in sets) / 3
        torch.testing.assert_close(found[name].double(), torch.from_numpy(expected), rtol=1e-6, atol=1e-7)
