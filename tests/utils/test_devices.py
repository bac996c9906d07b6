"""What the machine can do, and that a run follows it."""

import json
import math
import platform
import subprocess
import sys

import pytest
import torch

from tcl_lib import load_run, train
from tcl_lib.utils import devices
from tcl_lib.utils.devices import describe, fast_precision, memory_errors, peak_memory

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
    monkeypatch.setattr(devices, "processor", lambda: processor)
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
    assert devices.processor() in line
    assert "\n" not in line


@pytest.mark.soak
def test_memory_that_is_kept_is_not_mapped_anew():
    """Page faults of allocating and filling 80 MB again and again, in processes of their own."""
    script = """
import resource, sys, torch
from tcl_lib.utils.devices import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
for _ in range(10):  # until the heap has its size
    torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.ones(20_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("of glibc")
    faults = {}
    for what in ("keep", "give"):
        command = [sys.executable, "-c", script, what]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        faults[what] = int(done.stdout)
    assert faults["keep"] < faults["give"] / 10


def test_a_run_says_what_precision_it_had_and_keeps_it(tiny, monkeypatch):
    monkeypatch.setattr("tcl_lib.training.fast_precision", lambda device: "bf16-mixed")
    config = tiny(precision="auto", loss="ce", epochs=1)
    run = train(config, verbose=False)
    description = json.loads((run.path / "config.json").read_text())
    assert description["parameters"]["precision"] == "auto"
    assert run.config == config
    assert description["precision"] == run.used.precision == "bf16-mixed"
    assert run.setting.startswith("digits, convnet, T = 2")
    assert "precision bf16-mixed" in run.setting
    # on a machine that is fast in another precision it is still that run
    monkeypatch.setattr("tcl_lib.training.fast_precision", lambda device: "32-true")
    assert train(config, verbose=False).used.precision == "bf16-mixed"
    (run.path / "result.json").unlink()
    assert train(config, verbose=False).used.precision == "bf16-mixed"
    # float32 is what a reader assumes, and not a part of the setting
    single = train(tiny(precision="auto", loss="ce", epochs=1, run_name="single"), verbose=False)
    assert "precision" not in single.setting
    assert load_run(single.path).used.precision == "32-true"


def test_auto_takes_a_run_of_that_name_in_whatever_precision(tiny):
    """Runs made before there was "auto" stay what they are."""
    named = {"loss": "ce", "epochs": 1, "run_name": "one"}
    first = train(tiny(precision="32-true", **named), verbose=False)
    assert train(tiny(precision="auto", **named), verbose=False).path == first.path
    with pytest.raises(ValueError, match="precision='32-true' there, 'bf16-mixed' here"):
        train(tiny(precision="bf16-mixed", **named))


@pytest.mark.soak
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

    peak = peak_memory(step, CPU)
    if math.isnan(peak):
        pytest.skip("the system does not tell")
    assert peak == pytest.approx(120, abs=15)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device")
@pytest.mark.parametrize(
    ("build", "words"),
    [
        (None, r"this torch was built without CUDA: install a build with it and the torchvision made for it"),
        ("13.0", r".*; install NVIDIA's driver for CUDA 13\.0|torch finds no GPU on this machine"),
    ],
)
def test_a_missing_device_is_named_with_its_remedy(tiny, monkeypatch, build, words):
    if build and torch.version.cuda is None:
        pytest.skip("this torch was built without CUDA")
    monkeypatch.setattr(torch.version, "cuda", build)
    config = tiny(device="cuda")
    with pytest.raises(
        ValueError, match=rf"device='cuda': ({words}) \(torch .*\); or use 'auto' or 'cpu'"
    ) as e:
        train(config)
    assert "\n" not in str(e.value)
    assert not config.run_path.exists()


OUT_OF_MEMORY = """
import resource
from tcl_lib import RunConfig, train
import tcl_lib.training.loop
config = RunConfig(runs_dir={folder!r}, time_steps=500, batch_size=512, device="cpu", compile="off")
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1_500_000_000,) * 2)
train(config)
"""


@pytest.mark.skipif(platform.system() != "Linux", reason="needs a limit on memory")
def test_out_of_memory_says_what_was_tried(tmp_path):
    code = OUT_OF_MEMORY.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "MemoryError: out of memory with batch_size=512 in two views and time_steps=500 (convnet,"
        " micro_batches=1): lower batch_size or time_steps, or raise micro_batches"
    )


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 10 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_only_memory_errors_are_named(tiny, error, named):
    with pytest.raises(MemoryError if named else RuntimeError) as caught, memory_errors(tiny(loss="ce")):
        raise error
    expected = "out of memory with batch_size=32 and time_steps=2 (convnet, micro_batches=1): lower"
    assert str(caught.value).startswith(expected if named else "shapes")
