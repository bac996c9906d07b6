"""The machine: its devices, the precision it is fast in, its memory and its name."""

import ctypes
import logging
import multiprocessing
import os
import platform
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from joblib import cpu_count
from lightning_fabric import Fabric

IMPORTED_BY = os.getpid()  # in a forked process still its parent's
# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def find_device(name: str) -> torch.device:
    """Return the device of a name (auto, cpu, cuda, mps). Raises ValueError where the machine has none."""
    usable = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not usable.get(name, True):
        reason = _no_cuda() if name == "cuda" else "torch finds none on this machine"
        raise ValueError(f"device={name!r}: {reason} (torch {torch.__version__}); or use 'auto' or 'cpu'")
    logging.getLogger("lightning_fabric").setLevel(
        logging.WARNING
    )  # it would log the device that was asked for
    return Fabric(accelerator=name, devices=1).device


def _no_cuda() -> str:
    """Return why torch finds no NVIDIA GPU, and what helps."""
    if torch.version.cuda is None:
        return "this torch was built without CUDA: install a build with it and the torchvision made for it"
    try:
        torch.cuda.init()
        return "torch finds no GPU on this machine"
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        return f"{reason}; install NVIDIA's driver for CUDA {torch.version.cuda}"


def fast_precision(device: torch.device) -> str:
    """Return "bf16-mixed" where the hardware is faster in bfloat16 than in float32, else "32-true".

    NVIDIA GPUs from Ampere on are; so are processors with AMX, and AMD's with AVX-512 bf16. Intel's with
    AVX-512 bf16 and without AMX are not: a convolution took 1.8 times as long as in float32 (oneDNN, Emerald
    Rapids with AMX masked). On an AMD EPYC it took half as long.
    """
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    elif device.type == "cpu":
        bf16, amx = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()
        fast = amx or (bf16 and "Intel" not in processor())
    else:
        fast = False
    return "bf16-mixed" if fast else "32-true"


def keep_freed_memory() -> None:
    """Have the C library keep freed memory for its next use (Linux with glibc; elsewhere nothing happens).

    By default large activations go back to the system when freed, and every page of the next is mapped and
    cleared again.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_MAX, 0)
    mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def threads() -> int:
    """Return the number of threads that torch computes with on a CPU."""
    count = torch.get_num_threads()
    limit = os.environ.get("OMP_THREAD_LIMIT", "")  # which torch does not count
    return min(count, int(limit)) if limit.isdigit() and int(limit) else count


def check_fork() -> None:
    """Raise RuntimeError in a fork of the process that loaded torch: there, its threads may wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid == IMPORTED_BY and threads() > 1:
        raise RuntimeError(
            f"a forked process cannot train with {threads()} threads: start it afresh, as by"
            " ProcessPoolExecutor(mp_context=multiprocessing.get_context('spawn'))"
        )


@contextmanager
def use_threads(count: int) -> Iterator[None]:
    """While open, torch computes on a CPU with this number of threads; warn where that is slow or impossible.

    The number decides how sums are split, and so how they are rounded.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    if threads() < count:
        warnings.warn(
            f"{count} threads are wanted, {threads()} allowed here: the numbers will differ a little",
            stacklevel=3,
        )
    elif count > before and count > cpu_count():
        warnings.warn(
            f"{count} threads share {cpu_count()} processor(s): slow, but the numbers stay the same",
            stacklevel=3,
        )
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def gpu_settings(device: torch.device, tf32: bool) -> Iterator[None]:
    """While open, an NVIDIA GPU computes convolutions by what is fastest for their shapes, and with `tf32`
    rounds the factors of float32 products to 10 bits; elsewhere nothing happens.
    """
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=tf32):
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(before)


def to_device(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """Return a tensor on a device. A copy to an NVIDIA GPU starts from pinned memory; nobody waits for it."""
    device = torch.device(device)
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def hardware(device: torch.device) -> str:
    """Return the hardware in one line: processor and number of threads, or GPU."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    capability = torch.backends.cpu.get_cpu_capability()
    count = threads()
    return f"{processor()}, {count} thread{'s' if count > 1 else ''}, {capability}, {platform.system()}"


def processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
