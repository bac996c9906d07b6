"""Out of memory: whatever torch raises, the error says what was tried."""

import platform
import subprocess
import sys

import pytest
import torch

from tcl_lib import RunConfig
from tcl_lib.training.health import memory_errors, warn_of_chance

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
@pytest.mark.soak
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
        (RuntimeError("FIND was unable to find an engine to execute this computation"), True),
        (MemoryError(), True),
        (RuntimeError("shapes do not match"), False),
    ],
)
def test_only_memory_errors_are_named(tiny, error, named):
    with pytest.raises(MemoryError if named else RuntimeError) as caught, memory_errors(tiny(loss="ce")):
        raise error
    expected = "out of memory with batch_size=32 and time_steps=2 (convnet, micro_batches=1): lower"
    assert str(caught.value).startswith(expected if named else "shapes")


@pytest.mark.parametrize(
    ("labels", "accuracy", "warned"),
    [
        (100 * [0] + 100 * [1], 50.0, True),
        (100 * [0] + 100 * [1], 57.0, True),  # within two standard errors
        (100 * [0] + 100 * [1], 58.0, False),
        ([0, 1], 100.0, False),  # of two samples, guessing gets both in every fourth case
        ([0, 1], 50.0, True),
        (9 * [0] + [1], 100.0, False),
        (9 * [0] + [1], 90.0, True),
    ],
)
def test_an_accuracy_of_guessing_is_warned_of(recwarn, labels, accuracy, warned):
    warn_of_chance(accuracy, torch.tensor(labels), RunConfig())
    assert len(recwarn) == warned
