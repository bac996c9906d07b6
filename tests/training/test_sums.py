"""Sums on the device against Python's, and the first loss that was not finite."""

import math

import pytest
import torch

from tcl_lib.training.sums import Sums

CPU = torch.device("cpu")


def test_sums_equal_those_of_python_to_the_bit():
    """Of float32 numbers, also where they start from the sums of a checkpoint."""
    losses, accuracies = torch.randn(2, 1000)
    python = {"loss": 0.1, "accuracy": 1e-9}
    sums = Sums(python, 3.0, CPU)
    fresh = Sums({}, None, CPU)
    for step in range(1000):
        numbers = {"loss": losses[step], "accuracy": accuracies[step]}
        python = {name: python[name] + value.item() for name, value in numbers.items()}
        sums.add(numbers, step + 1)
        fresh.add(numbers, step + 1)
    assert sums.read() == (python, losses[-1].item(), None)
    assert list(fresh.read()[0]) == ["loss", "accuracy"]
    assert fresh.read()[0]["loss"] == sum(losses.tolist())


def test_sums_before_the_first_step_are_those_they_start_from():
    assert Sums({}, None, CPU).read() == ({}, None, None)
    assert Sums({"loss": 2.5}, 0.5, CPU).read() == ({"loss": 2.5}, 0.5, None)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_sums_name_the_first_loss_that_is_not_finite(bad):
    sums = Sums({}, None, CPU)
    for step, loss in enumerate([1.5, 2.5, bad, math.nan, 3.5], start=1):
        sums.add({"loss": torch.tensor(loss)}, step)
    _, last, (step, failed) = sums.read()
    assert (last, step) == (2.5, 3)
    assert str(failed) == str(bad)
