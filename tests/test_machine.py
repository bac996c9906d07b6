"""What the machine can do, and that a run follows it."""

import json
import subprocess
import sys

import pytest
import torch

from tcl_lib import load_run, machine, train
from tcl_lib.machine import describe, fast_precision, peak_memory

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("processor", "bf16", "amx", "precision"),
    [
        ("AMD EPYC 9B14", True, False, "bf16-mixed"),
        ("AMD EPYC 7B13", False, False, "32-true"),
        ("Intel(R) Xeon(R) Platinum 8481C", True, True, "bf16-mixed"),
        ("Intel(R) Xeon(R) Processor", True, False, "32-true"),
        ("Apple M3", False, False, "32-true"),
    ],
)
def test_bf16_where_the_processor_is_fast_in_it(monkeypatch, processor, bf16, amx, precision):
    monkeypatch.setattr(machine, "processor", lambda: processor)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    assert fast_precision(CPU) == precision


@pytest.mark.parametrize(("capability", "precision"), [((7, 5), "32-true"), ((8, 0), "bf16-mixed")])
def test_bf16_on_gpus_from_ampere_on(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert fast_precision(torch.device("cuda", 0)) == precision


def test_the_machine_is_described():
    line = describe(CPU)
    assert f"{torch.get_num_threads()} threads" in line
    assert machine.processor() in line
    assert "\n" not in line


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's")
@pytest.mark.parametrize("keep", [False, True])
def test_memory_that_is_kept_is_not_mapped_anew(keep):
    """Page faults of allocating and filling 80 MB again and again, in a process of its own."""
    script = f"""
import resource, torch
from tcl_lib.machine import keep_freed_memory
if {keep}:
    keep_freed_memory()
torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    faults = int(done.stdout)
    assert faults < 100 if keep else faults > 1000


def test_a_run_says_what_precision_it_had_and_keeps_it(tiny, monkeypatch):
    monkeypatch.setattr("tcl_lib.training.fast_precision", lambda device: "bf16-mixed")
    config = tiny(precision="auto", loss="ce", epochs=1)
    run = train(config, verbose=False)
    description = json.loads((run.path / "config.json").read_text())
    assert description["parameters"]["precision"] == "auto"
    assert description["precision"] == run.config.precision == "bf16-mixed"
    assert run.setting.startswith("digits, convnet, T = 2")
    assert "precision bf16-mixed" in run.setting
    # on a machine that is fast in another precision it is still that run
    monkeypatch.setattr("tcl_lib.training.fast_precision", lambda device: "32-true")
    assert train(config, verbose=False).config.precision == "bf16-mixed"
    (run.path / "result.json").unlink()
    assert train(config, verbose=False).config.precision == "bf16-mixed"
    # float32 is what a reader assumes, and not a part of the setting
    single = train(tiny(precision="auto", loss="ce", epochs=1, run_name="single"), verbose=False)
    assert "precision" not in single.setting
    assert load_run(single.path).config.precision == "32-true"


def test_bf16_does_no_harm_to_accuracy(tiny):
    """Digits, all of them: the mean of two seeds, in either precision."""
    accuracies = {}
    for precision in ("32-true", "bf16-mixed"):
        runs = [
            train(
                tiny(precision=precision, seed=seed, loss="tcl", train_size=None, epochs=6, batch_size=64),
                verbose=False,
            )
            for seed in (0, 1)
        ]
        accuracies[precision] = sum(run.result["test_accuracy"] for run in runs) / 2
    assert accuracies["32-true"] > 90
    assert abs(accuracies["bf16-mixed"] - accuracies["32-true"]) < 2


def test_memory_is_what_a_step_holds_at_its_peak():
    def step():
        torch.ones(30_000_000)  # 120 MB

    assert peak_memory(step, CPU) == pytest.approx(120, abs=15)
