"""How fast a step of training is, and what memory it takes, beside the field's libraries.

A step is forward, backward and the optimiser's update of a batch of random images. All subjects are built in
one process and take turns, round by round, so that whatever else the machine does meets all of them.
"""

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn

from tcl_lib import peers
from tcl_lib.config import RunConfig
from tcl_lib.environment import progress_bar
from tcl_lib.machine import describe, keep_freed_memory
from tcl_lib.neurons import compile_neurons

CLASSES = 10
CHANNELS = 3


@dataclass(frozen=True)
class Subject:
    """What is measured: a network, as somebody writes it, in a precision."""

    name: str
    version: str
    precision: str
    build: Callable[[RunConfig, tuple[int, int, int]], nn.Module]
    channels_last: bool = True


def subjects(backbone: str, precisions: Sequence[str], libraries: Sequence[str]) -> list[Subject]:
    """This study and the ReLU limit in every precision, and the libraries that are installed.

    A library runs as its documentation has it, in float32 and PyTorch's default layout; SpikingJelly under
    bf16 autocast too. Those that are not installed are named in a line and left out. For a backbone other
    than convnet, SpikingJelly's neurons in the network of this study stand for it.

    Raises ValueError for an unknown library.
    """
    for library in libraries:
        if library not in peers.PEERS:
            raise ValueError(f"libraries={list(libraries)}: must be any of {list(peers.PEERS)}")
    found = []
    for precision in precisions:
        found += [
            Subject("tcl_lib", "", precision, lambda config, shape: peers.ours(config, shape, CLASSES)),
            Subject("ReLU", "", precision, lambda config, shape: peers.relu(config, shape, CLASSES)),
        ]
    for library in libraries:
        try:
            version = metadata.version(library)
        except metadata.PackageNotFoundError:
            print(f"left out {library}: it is not installed (pip install -e '.[benchmark]')")
            continue
        if backbone == "convnet":
            network = peers.PEERS[library]

            def build(config: RunConfig, shape: tuple[int, int, int], network=network) -> nn.Module:
                return network(config.time_steps, shape[0], CLASSES)

        elif library == "spikingjelly":

            def build(config: RunConfig, shape: tuple[int, int, int]) -> nn.Module:
                return peers.spikingjelly_neurons(config, shape, CLASSES)

        else:
            print(f"left out {library}: it is measured with backbone='convnet' alone")
            continue
        found.append(Subject(library, version, "32-true", build, channels_last=False))
        if library == "spikingjelly" and "bf16-mixed" in precisions:
            found.append(Subject(library, version, "bf16-mixed", build, channels_last=False))
    return found


def measure(
    found: Sequence[Subject],
    *,
    backbone: str = "convnet",
    time_steps: Sequence[int] = (1, 2, 4, 8, 16),
    batch_size: int = 32,
    image_size: int = 32,
    rounds: int = 10,
    device: str = "auto",
) -> pd.DataFrame:
    """Time and memory of a step of every subject at every T: a row each.

    Columns: subject, version, precision, backbone, batch_size, image_size, time_steps; rounds, median_ms and
    its quartiles low_ms and high_ms; images_per_second; x_limit, the median over that of the fastest ReLU
    network; peak_memory_mb, what the step needs above what the process held before (of a GPU, what torch
    allocates; else resident memory, Linux alone); machine, torch.
    """
    keep_freed_memory()  # of all subjects, as in training here
    device = Fabric(accelerator=device, devices=1).device
    tables = []
    with progress_bar(len(time_steps) * len(found) * rounds, name="benchmark") as bar:
        for steps in time_steps:
            config = RunConfig(backbone=backbone, time_steps=steps, loss="ce")
            running = [_training_step(s, config, batch_size, image_size, device) for s in found]
            memory = []
            for step in running:
                step()  # compiles, and lets libraries choose their algorithms
                memory.append(_peak_memory(step, device))
                step()
            times: list[list[float]] = [[] for _ in found]
            for _ in range(rounds):
                for step, seconds in zip(running, times, strict=True):
                    seconds.append(_seconds(step, device))
                    bar.update()
            tables.append(_rows(found, config, batch_size, image_size, times, memory))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(machine=describe(device), torch=torch.__version__)


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """How time and memory grow with T: the exponent of a power law fitted to each subject's medians."""
    rows = []
    for (subject, precision), rest in table.groupby(["subject", "precision"], sort=False):
        logs = np.log(rest[["time_steps", "median_ms", "peak_memory_mb"]].to_numpy(float))
        time, memory = (np.polyfit(logs[:, 0], logs[:, column], 1)[0] for column in (1, 2))
        rows.append({"subject": subject, "precision": precision, "time": time, "memory": memory})
    return pd.DataFrame(rows)


def _training_step(
    subject: Subject, config: RunConfig, batch_size: int, image_size: int, device: torch.device
) -> Callable[[], None]:
    torch.manual_seed(0)
    shape = (CHANNELS, image_size, image_size)
    network = subject.build(config, shape)
    layout = torch.channels_last if subject.channels_last else torch.contiguous_format
    network.to(device, memory_format=layout)
    if subject.name == "tcl_lib":
        reason = compile_neurons(network, device)
        if reason is not None:
            print(f"tcl_lib runs uncompiled: {reason}")
    fabric = Fabric(accelerator=device.type, devices=1, precision=subject.precision)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    model, optimizer = fabric.setup(network, optimizer)
    images = torch.randn(batch_size, *shape, device=device).contiguous(memory_format=layout)
    labels = torch.arange(batch_size, device=device) % CLASSES

    def step() -> None:
        loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()

    return step


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def _peak_memory(step: Callable[[], None], device: torch.device) -> float:
    """In megabytes; NaN where the system does not tell."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e6
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
        before = _status("VmRSS")
        step()
        return (_status("VmHWM") - before) / 1e6
    except OSError:
        return float("nan")


def _status(field: str) -> int:
    """A field of /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _rows(
    found: Sequence[Subject],
    config: RunConfig,
    batch_size: int,
    image_size: int,
    times: list[list[float]],
    memory: list[float],
) -> pd.DataFrame:
    limit = min(
        statistics.median(seconds) for s, seconds in zip(found, times, strict=True) if s.name == "ReLU"
    )
    rows = []
    for subject, seconds, peak in zip(found, times, memory, strict=True):
        low, median, high = np.quantile(seconds, [0.25, 0.5, 0.75])
        rows.append(
            {
                "subject": subject.name,
                "version": subject.version,
                "precision": subject.precision,
                "backbone": config.backbone,
                "batch_size": batch_size,
                "image_size": image_size,
                "time_steps": config.time_steps,
                "rounds": len(seconds),
                "median_ms": 1e3 * median,
                "low_ms": 1e3 * low,
                "high_ms": 1e3 * high,
                "images_per_second": batch_size / median,
                "x_limit": median / limit,
                "peak_memory_mb": peak,
            }
        )
    return pd.DataFrame(rows)
