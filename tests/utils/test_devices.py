"""What the machine can do, and that a run follows it."""

import json
import platform
import subprocess
import sys

import pytest
import torch
from conftest import messages

from tcl_lib import load_run, train
from tcl_lib.utils import devices
from tcl_lib.utils.devices import fast_precision, hardware

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
    line = hardware(CPU)
    assert f"{torch.get_num_threads()} thread" in line
    assert devices.processor() in line
    assert "\n" not in line


def test_threads_is_what_the_system_allows(monkeypatch):
    count = torch.get_num_threads()
    assert devices.threads() == count
    with devices.use_threads(3):
        assert devices.threads() == torch.get_num_threads() == 3
        monkeypatch.setenv("OMP_THREAD_LIMIT", "2")  # the library has read it already; for the count alone
        assert devices.threads() == 2
        assert "2 threads" in hardware(CPU)
    assert torch.get_num_threads() == count


@pytest.mark.parametrize(
    ("wanted", "processors", "limit", "warning"),
    [
        (1, 1, "", None),
        (3, 4, "", None),
        (3, 2, "", "3 threads share 2 processor(s): slow, but the numbers stay the same"),
        (3, 4, "2", "3 threads are wanted, 2 allowed here: the numbers will differ a little"),
    ],
)
def test_use_threads_warns_of_what_it_means(monkeypatch, recwarn, wanted, processors, limit, warning):
    monkeypatch.setattr(devices, "cpu_count", lambda: processors)
    monkeypatch.setenv("OMP_THREAD_LIMIT", limit)
    with devices.use_threads(wanted):
        assert torch.get_num_threads() == wanted
    assert messages(recwarn) == ([warning] if warning else [])


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


def test_a_run_with_precision_auto_is_the_run_of_the_precision_it_became(tiny, monkeypatch):
    monkeypatch.setattr(devices, "fast_precision", lambda device: "bf16-mixed")
    config = tiny(precision="auto", loss="ce", epochs=1)
    run = train(config, verbose=False)
    description = json.loads((run.path / "config.json").read_text())
    assert description["parameters"]["precision"] == run.config.precision == "bf16-mixed"
    assert run.config == config == load_run(run.path).config
    assert run.setting.startswith("digits, convnet, T = 2")
    assert "precision bf16-mixed" in run.setting
    assert config.name != tiny(loss="ce", epochs=1).name
    # a machine that is fast in another precision trains another run
    named = {"loss": "ce", "epochs": 1, "run_name": config.name}
    monkeypatch.setattr(devices, "fast_precision", lambda device: "32-true")
    with pytest.raises(ValueError, match="precision='bf16-mixed' there, '32-true' here"):
        train(tiny(precision="auto", **named))
    # float32 is what a reader assumes, and not a part of the setting
    assert "precision" not in tiny(precision="auto", loss="ce", epochs=1).setting


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
