"""The peak memory of a function."""

import math

import pytest
import torch

from benchmarks import memory
from benchmarks.memory import peak_memory

CPU = torch.device("cpu")


def step():
    torch.ones(30_000_000)  # 120 MB


def test_memory_is_what_a_step_holds_at_its_peak():
    peak = peak_memory(step, CPU)
    if math.isnan(peak):
        pytest.skip("this system does not report the peak memory")
    assert peak == pytest.approx(120, abs=15)


def test_without_a_peak_the_step_still_runs(monkeypatch):
    def missing(field):
        raise OSError(field)

    monkeypatch.setattr(memory, "_status", missing)
    ran = []
    assert math.isnan(peak_memory(lambda: ran.append(1), CPU))
    assert ran == [1]


def test_an_error_of_the_step_is_raised():
    def fail():
        raise OSError("the step's own")

    with pytest.raises(OSError, match="the step's own"):
        peak_memory(fail, CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_memory_of_a_gpu():
    device = torch.device("cuda", torch.cuda.current_device())
    peak = peak_memory(lambda: torch.ones(30_000_000, device=device), device)
    assert peak == pytest.approx(120, abs=3)
