"""How fast a step of training is, and what memory it takes, beside the field's libraries.

A step is forward, backward and the optimiser's update of a batch of random images. All subjects are built in
one process and take turns, round by round, so that whatever else the machine does meets all of them.
"""

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import nn
from tqdm import tqdm

from benchmarks import peers
from benchmarks.peers import PEERS
from tcl_lib.analysis.evaluation import FiringRates
from tcl_lib.backbones import build_network
from tcl_lib.config import RunConfig
from tcl_lib.neurons import compile_neurons
from tcl_lib.training.loop import build_optimizer
from tcl_lib.training.step import forward_and_backward
from tcl_lib.utils import files, notebooks
from tcl_lib.utils.checks import AtLeast1, AtLeast2, AtLeast4, AtLeast16, Folder, check_fields
from tcl_lib.utils.devices import describe, fast_precision, find_device, keep_freed_memory, peak_memory
from tcl_lib.utils.progress import progress_bar

CLASSES = 10


@dataclass(frozen=True)
class Benchmark:
    """What is measured: the parameters of `benchmark.ipynb`, checked on creation as `RunConfig`'s are."""

    backbone: Literal["convnet", "vggsnn", "resnet19"] = "convnet"
    time_steps: list[AtLeast1] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    long_time_steps: AtLeast4 = 32
    batch_size: AtLeast16 = 32
    image_size: AtLeast2 = 32
    precisions: list[Literal["32-true", "bf16-mixed"]] = field(
        default_factory=lambda: ["32-true", "bf16-mixed"]
    )
    libraries: list[Literal["spikingjelly", "snntorch", "norse"]] = field(default_factory=lambda: list(PEERS))
    rounds: AtLeast2 = 10
    device: Literal["auto", "cpu", "cuda"] = "auto"
    folder: Folder | None = None

    def __post_init__(self):
        check_fields(self)
        for name in ("time_steps", "precisions"):
            if not getattr(self, name):
                raise ValueError(f"{name}=[]: must hold one value at the least")

    @classmethod
    def from_notebook(cls, namespace: dict) -> "Benchmark":
        """That of a notebook's `globals()`, after its parameters cell."""
        names = [parameter.name for parameter in dataclasses.fields(cls)]
        return cls(**notebooks.parameters(namespace, names))

    def config(self, time_steps: int, loss: str = "ce", micro_batches: int = 1) -> RunConfig:
        """A run of which a step is measured."""
        return RunConfig(
            backbone=self.backbone,
            time_steps=time_steps,
            batch_size=self.batch_size,
            loss=loss,
            micro_batches=micro_batches,
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (3, self.image_size, self.image_size)


class Subject(NamedTuple):
    """A network, as somebody writes it, in a precision."""

    name: str
    version: str
    precision: str
    build: Callable[[int], nn.Module]  # of T
    channels_last: bool


def subjects(benchmark: Benchmark) -> list[Subject]:
    """This study and the ReLU limit in every precision, and the libraries that are installed.

    A library runs as its documentation has it, in float32 and PyTorch's default layout; SpikingJelly under
    bf16 autocast too. One that is not installed is named in a line and left out. For a backbone other than
    convnet, SpikingJelly's neurons in the network of this study stand for it.
    """
    shape = benchmark.image_shape
    own = {"tcl_lib": peers.ours, "ReLU": peers.relu, "spikingjelly": peers.spikingjelly_neurons}

    def network_of(name: str) -> Callable[[int], nn.Module]:
        if name in PEERS and benchmark.backbone == "convnet":
            return lambda steps: PEERS[name](steps, shape[0], CLASSES)
        return lambda steps: own[name](benchmark.config(steps), shape, CLASSES)

    found = [
        Subject(
            name,
            metadata.version("torch" if name == "ReLU" else "tcl-lib"),
            precision,
            network_of(name),
            True,
        )
        for precision in benchmark.precisions
        for name in ("tcl_lib", "ReLU")
    ]
    for library in benchmark.libraries:
        try:
            version = metadata.version(library)
        except metadata.PackageNotFoundError:
            print(f"left out {library}: it is not installed (pip install -e '.[benchmark]')")
            continue
        if benchmark.backbone != "convnet" and library not in own:
            print(f"left out {library}: it is measured with backbone='convnet' alone")
            continue
        for precision in ("32-true", "bf16-mixed"):
            if precision == "32-true" or (library == "spikingjelly" and precision in benchmark.precisions):
                found.append(Subject(library, version, precision, network_of(library), False))
    return found


def measure(benchmark: Benchmark) -> pd.DataFrame:
    """Time and memory of a step of every subject at every T: a row each.

    Columns: subject, version, precision, time_steps; median_ms and its quartiles low_ms and high_ms over the
    rounds; images_per_second; x_limit and x_tcl_lib, the median as a multiple of that of the fastest ReLU
    network and of the fastest of this study; peak_memory_mb, what the step needs above what the process held
    before (of a GPU, what torch allocates; else resident memory, on Linux alone); and what all rows share:
    backbone, batch_size, image_size, rounds, machine, torch.
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
    shared = {
        parameter: getattr(benchmark, parameter)
        for parameter in ("backbone", "batch_size", "image_size", "rounds")
    }
    return table.assign(**shared, machine=describe(device), torch=torch.__version__)


def measure_steps(benchmark: Benchmark, configs: dict[str, RunConfig]) -> pd.DataFrame:
    """Time and memory of this study's own step, with its loss and the counting of spikes: a row a config.

    Compiled, in the precision that the machine is fast in. Columns: step, median_ms, low_ms, high_ms,
    peak_memory_mb, as in `measure`; x_time and x_memory, as multiples of the first row's.
    """
    device = _device(benchmark)
    running = [_own_step(config, benchmark, device) for config in configs.values()]
    with progress_bar(len(configs) * benchmark.rounds, name="benchmark") as bar:
        quartiles, memory = _take_turns(running, benchmark.rounds, device, bar)
    table = pd.DataFrame(quartiles, columns=["low_ms", "median_ms", "high_ms"])
    table = table.assign(peak_memory_mb=memory)[["median_ms", "low_ms", "high_ms", "peak_memory_mb"]]
    table.insert(0, "step", list(configs))
    for column, of in (("x_time", "median_ms"), ("x_memory", "peak_memory_mb")):
        table[column] = table[of] / table[of][0]
    return table


def file_name(table: pd.DataFrame) -> str:
    """A name for the files of a benchmark: what was measured, and where."""
    first = table.iloc[0]
    steps = "-".join(map(str, table["time_steps"].unique()))
    words = f"{first['backbone']} B{first['batch_size']} {first['image_size']}px T{steps} {first['machine']}"
    return "-".join("".join(c if c.isalnum() else " " for c in words).split())


def save(table: pd.DataFrame, folder: Path) -> None:
    """Write a benchmark's table into the folder as `file_name`.csv. Raises OSError where that fails."""
    files.make_folder(folder)
    files.write(folder / f"{file_name(table)}.csv", table.to_csv(index=False, float_format="%.6g"))


def exponents(table: pd.DataFrame) -> pd.DataFrame:
    """How time and memory grow with T: the exponent of a power law fitted to each subject's medians.

    Empty for a single T.
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


def _training_step(
    subject: Subject, time_steps: int, benchmark: Benchmark, device: torch.device
) -> Callable[[], None]:
    torch.manual_seed(0)
    layout = torch.channels_last if subject.channels_last else torch.contiguous_format
    network = subject.build(time_steps).to(device, memory_format=layout)
    if subject.name == "tcl_lib":
        reason = compile_neurons(network, device)
        if reason is not None:
            print(f"tcl_lib runs uncompiled: {reason}")
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


def _own_step(config: RunConfig, benchmark: Benchmark, device: torch.device) -> Callable[[], None]:
    torch.manual_seed(0)
    network = build_network(config, benchmark.image_shape, CLASSES)
    network.to(memory_format=torch.channels_last)
    compile_neurons(network, device)
    fabric = Fabric(accelerator=device.type, devices=1, precision=fast_precision(device))
    model, optimizer = fabric.setup(network, build_optimizer(network, config))
    images = torch.randn(config.views * config.batch_size, *benchmark.image_shape, device=device)
    labels = torch.arange(config.batch_size, device=device) % CLASSES

    def step() -> None:
        with FiringRates(model):
            optimizer.zero_grad()
            forward_and_backward(fabric, model, images, labels, config)
            optimizer.step()

    return step


def _device(benchmark: Benchmark) -> torch.device:
    keep_freed_memory()  # for all subjects, as in training here
    device = find_device(benchmark.device)
    return torch.device("cpu") if device.type == "mps" else device  # which nothing here waits for


def _take_turns(
    running: list[Callable[[], None]], rounds: int, device: torch.device, bar: tqdm
) -> tuple[np.ndarray, list[float]]:
    """The quartiles of every step's time in milliseconds, [steps, 3], and its peak memory in megabytes."""
    memory = []
    for step in running:
        step()  # compiles, and lets libraries choose their algorithms
        memory.append(peak_memory(step, device))
        step()
    seconds = np.empty((len(running), rounds))
    for number in range(rounds):
        for index, step in enumerate(running):
            seconds[index, number] = _seconds(step, device)
            bar.update()
    return 1e3 * np.quantile(seconds, [0.25, 0.5, 0.75], axis=1).T, memory


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
