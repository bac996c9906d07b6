"""The memory that a function needs."""

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path

import torch


def peak_memory(step: Callable[[], None], device: torch.device) -> float:
    """Return the peak memory of a step above what was held before it, in megabytes.

    On a GPU this is what torch allocates; elsewhere the resident memory of the process, which only Linux
    reports: NaN on other systems.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        _trim()
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        before, _ = _status("VmRSS"), _status("VmHWM")
    except OSError:
        step()
        return float("nan")
    step()
    return (_status("VmHWM") - before) / 1e6


def _trim() -> None:
    """Give freed memory back to the system, where the C library is glibc."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return


def _status(field: str) -> int:
    """Return a field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
