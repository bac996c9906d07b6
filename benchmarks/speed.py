"""Time and memory of a training step, beside the field's libraries.

A step is forward, backward and the optimizer's update for a batch of random images. All subjects are built in
one process and take turns, round by round: other load on the machine then affects all of them alike.
"""

import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from tqdm import tqdm

from benchmarks import peers
from benchmarks.memory import peak_memory
from benchmarks.parameters import Benchmark
from benchmarks.subjects import CLASSES, Subject, subjects
from tcl_lib.analysis.activity import FiringRates
from tcl_lib.config import RunConfig
from tcl_lib.training.build import build_network, build_optimizer
from tcl_lib.training.compilation import compile_neurons
from tcl_lib.training.step import forward_and_backward
from tcl_lib.utils import files
from tcl_lib.utils.devices import (
    fast_precision,
    find_device,
    gpu_settings,
    hardware,
    keep_freed_memory,
)
from tcl_lib.utils.progress import progress_bar

# Most steps have quartiles closer than this, relative to the median: on two idle machines they were 2 and 6 %
# apart (median over 40 steps), up to 50 % for single steps.
BUSY = 0.1


def measure(benchmark: Benchmark) -> pd.DataFrame:
    """Return time and memory of a step, one row for every subject and T.

    Columns:
        subject, version, precision, time_steps: what was measured.
        median_ms, low_ms, high_ms: median and quartiles over the rounds.
        images_per_second: from the median.
        peak_memory_mb: memory of the step above what the process held before; see `peak_memory`.
        x_limit, x_tcl_lib: the median as a multiple of that of the fastest ReLU network, and of the fastest
            network of this study, at the same T.
        backbone, batch_size, image_size, rounds, machine, torch: the same in all rows.
    """
    device = _device(benchmark)
    found = subjects(benchmark)
    rows = []
    with progress_bar(len(benchmark.time_steps) * len(found) * benchmark.rounds, name="benchmark") as bar:
        for steps in benchmark.time_steps:
            running = [_training_step(subject, steps, benchmark, device) for subject in found]
            quartiles, memory = _take_turns(running, benchmark.rounds, device, bar)
            for subject, (low, median, high), peak in zip(found, quartiles, memory, strict=True):
                rows.append(
                    {
                        "subject": subject.name,
                        "version": subject.version,
                        "precision": subject.precision,
                        "time_steps": steps,
                        "median_ms": median,
                        "low_ms": low,
                        "high_ms": high,
                        "images_per_second": 1e3 * benchmark.batch_size / median,
                        "peak_memory_mb": peak,
                    }
                )
    table = pd.DataFrame(rows)
    for column, subject in (("x_limit", "ReLU"), ("x_tcl_lib", "tcl_lib")):
        fastest = table[table["subject"] == subject].groupby("time_steps")["median_ms"].min()
        table[column] = table["median_ms"] / table["time_steps"].map(fastest)
    _warn_if_busy(table)
    shared = {name: getattr(benchmark, name) for name in ("backbone", "batch_size", "image_size", "rounds")}
    return table.assign(**shared, machine=hardware(device), torch=torch.__version__)


def measure_steps(benchmark: Benchmark, configs: dict[str, RunConfig]) -> pd.DataFrame:
    """Return time and memory of this study's own step with its loss and spike counts, one row a config.

    The neurons are compiled; the precision is the one that the machine is fast in. Columns: step (the
    config's name), median_ms, low_ms, high_ms and peak_memory_mb as in `measure`; x_time and x_memory, the
    multiples of the first row's.
    """
    device = _device(benchmark)
    fast = {"precision": fast_precision(device)}
    running = [
        own_step(replace(config, **fast), benchmark.image_shape, device) for config in configs.values()
    ]
    with progress_bar(len(configs) * benchmark.rounds, name="benchmark") as bar:
        quartiles, memory = _take_turns(running, benchmark.rounds, device, bar)
    table = pd.DataFrame(quartiles, columns=["low_ms", "median_ms", "high_ms"])
    table = table.assign(peak_memory_mb=memory)[["median_ms", "low_ms", "high_ms", "peak_memory_mb"]]
    table.insert(0, "step", list(configs))
    _warn_if_busy(table)
    for column, of in (("x_time", "median_ms"), ("x_memory", "peak_memory_mb")):
        table[column] = table[of] / table[of][0]
    return table


def by_time_steps(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Return a column of `measure`'s table: a row for each subject and precision, a column for each T."""
    wide = table.pivot_table(column, ["subject", "precision"], "time_steps", sort=False)
    return wide.rename(columns="T = {}".format).rename_axis(columns=None).reset_index()


def file_name(table: pd.DataFrame) -> str:
    """Return a name for the folder of a benchmark: the network, the batch, T and the machine."""
    first = table.iloc[0]
    steps = "-".join(map(str, table["time_steps"].unique()))
    words = f"{first['backbone']} B{first['batch_size']} {first['image_size']}px T{steps} {first['machine']}"
    return "-".join("".join(c if c.isalnum() else " " for c in words).split())


def save(table: pd.DataFrame, folder: Path) -> Path:
    """Write a benchmark's table to speed.csv in a folder named after it, in `folder`; return that folder.

    Raises OSError where that fails.
    """
    path = folder / file_name(table)
    files.make_folder(path)
    files.write(path / "speed.csv", table.to_csv(index=False, float_format="%.6g"))
    return path


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """Return how time and memory grow with T: the exponent of a power law fitted to each subject's medians.

    The table is empty for a single T.
    """
    rows = []
    if table["time_steps"].nunique() < 2:
        return pd.DataFrame(rows)
    for (subject, precision), rest in table.groupby(["subject", "precision"], sort=False):
        row = {"subject": subject, "precision": precision}
        for what, column in (("time", "median_ms"), ("memory", "peak_memory_mb")):
            measured = rest[rest[column] > 0]
            logs = np.log(measured["time_steps"]), np.log(measured[column])
            row[what] = np.polyfit(*logs, 1)[0] if len(measured) > 1 else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _warn_if_busy(table: pd.DataFrame) -> None:
    """Warn where the rounds of most steps differ as they do not on an idle machine."""
    apart = ((table["high_ms"] - table["low_ms"]) / table["median_ms"]).median()
    if apart > BUSY:
        warnings.warn(
            f"the quartiles of a step are {apart:.0%} of its median apart (2 to 6% on an idle machine):"
            " something else is running, measure again",
            stacklevel=3,
        )


def _training_step(
    subject: Subject, time_steps: int, benchmark: Benchmark, device: torch.device
) -> Callable[[], None]:
    torch.manual_seed(0)
    layout = torch.channels_last if subject.channels_last else torch.contiguous_format
    network = subject.build(time_steps).to(device, memory_format=layout)
    if subject.name == "tcl_lib":
        _compile(network, device)
    if subject.name == "spikingjelly" and subject.precision == "bf16-mixed" and device.type == "cuda":
        peers.spikingjelly_bf16(network, device)
    fabric = Fabric(accelerator=device.type, devices=1, precision=subject.precision)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    model, optimizer = fabric.setup(network, optimizer)
    images = torch.randn(benchmark.batch_size, *benchmark.image_shape, device=device)
    images = images.contiguous(memory_format=layout)
    labels = torch.arange(benchmark.batch_size, device=device) % CLASSES

    def step() -> None:
        loss = F.cross_entropy(model(images).float(), labels)
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()

    return step


def own_step(
    config: RunConfig, image_shape: tuple[int, int, int], device: torch.device
) -> Callable[[], None]:
    """Return a function that trains this study's network on a batch of noise, in the config's precision."""
    torch.manual_seed(0)
    network = build_network(config, image_shape, CLASSES)
    network.to(memory_format=torch.channels_last)
    _compile(network, device)
    fabric = Fabric(accelerator=device.type, devices=1, precision=config.precision)
    model, optimizer = fabric.setup(network, build_optimizer(network, config))
    images = torch.randn(config.num_views * config.batch_size, *image_shape, device=device)
    labels = torch.arange(config.batch_size, device=device) % CLASSES

    def step() -> None:
        with FiringRates(model):
            optimizer.zero_grad()
            forward_and_backward(fabric, model, images, labels, config)
            optimizer.step()

    return step


def _compile(network: torch.nn.Module, device: torch.device) -> None:
    reason = compile_neurons(network, device)
    if reason is not None:
        warnings.warn(f"the neurons of tcl_lib run uncompiled: {reason}", stacklevel=3)


def _device(benchmark: Benchmark) -> torch.device:
    keep_freed_memory()  # for all subjects, as in training
    device = find_device(benchmark.device)
    # a measurement has to wait for the device, which is not implemented for MPS here
    return torch.device("cpu") if device.type == "mps" else device


def _take_turns(
    running: list[Callable[[], None]], rounds: int, device: torch.device, bar: tqdm
) -> tuple[np.ndarray, list[float]]:
    """Return the quartiles of every step's time in milliseconds, [steps, 3], and its peak memory in MB."""
    memory = []
    times = np.empty((len(running), rounds))
    with gpu_settings(device, tf32=False):  # as in training
        for step in running:
            step()  # compiles, and lets libraries choose their algorithms
            memory.append(peak_memory(step, device))
            step()
        for number in range(rounds):
            for index, step in enumerate(running):
                times[index, number] = seconds(step, device)
                bar.update()
    return 1e3 * np.quantile(times, [0.25, 0.5, 0.75], axis=1).T, memory


def seconds(step: Callable[[], None], device: torch.device) -> float:
    """Return the time that a step takes, until the device has done it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
