"""`python -m benchmarks.gpu`: what a machine with a GPU should check and measure, part after part.

Each part writes its text to runs/gpu/<part>.txt; a part whose text is there is not done again. `--rehearse`
does every part in small, on any machine, in runs/gpu/rehearsal/.
"""

import argparse
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.profiler import profile

from benchmarks import speed
from benchmarks.parameters import Benchmark
from tcl_lib import RunConfig, load_runs, train
from tcl_lib.config.registry import LOSSES
from tcl_lib.neurons import lif, lif_synaptic
from tcl_lib.utils import files, paths
from tcl_lib.utils.devices import find_device, gpu_settings, hardware
from tcl_lib.utils.provenance import git_commit, versions

MINUTES = 25  # after these the part under way is stopped


class Size(NamedTuple):
    """How much the parts do."""

    neurons: int  # in a layer whose spikes are compared
    losses: list[str]
    digits: dict[str, Any]  # parameters of the runs on digits
    backbones: list[str]
    benchmark: dict[str, Any]
    images: int  # made ones, in six parts: five to train on, one to test with
    epoch: dict[str, Any]  # parameters of the run on them


FULL = Size(
    neurons=10_000_000,
    losses=list(LOSSES),
    digits={},
    backbones=["convnet", "resnet19"],
    benchmark={"batch_size": 128},
    images=60_000,  # as many as CIFAR-10 has
    epoch={"backbone": "resnet19", "batch_size": 128},
)
SMALL = Size(
    neurons=10_000,
    losses=["ce"],
    digits={"epochs": 1, "train_size": 96},
    backbones=["convnet"],
    benchmark={"batch_size": 16, "image_size": 8, "rounds": 2, "precisions": ["32-true"]},
    images=240,
    epoch={"batch_size": 32},
)


def check(folder: Path, size: Size) -> str:
    """The tests marked `gpu`; those that are skipped say why."""
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-W", "ignore", "-m", "gpu"]
    done = subprocess.run(command, cwd=paths.CHECKOUT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stdout)
    return done.stdout


def spikes(folder: Path, size: Size) -> str:
    """The share of spikes in which the compiled neuron differs from the plain one, on a normal current."""
    device, rows = find_device("auto"), []
    for neuron in (lif, lif_synaptic):
        for dtype in (torch.float32, torch.bfloat16):
            generator = torch.Generator(device).manual_seed(0)
            current = 1.5 * torch.randn(4, size.neurons, device=device, generator=generator)
            plain, compiled = (neuron(current.to(dtype), compiled=compiled) for compiled in (False, True))
            differ = int((plain != compiled).sum())
            row = {"neuron": neuron.__name__, "precision": str(dtype), "spikes": int(plain.count_nonzero())}
            rows.append(row | {"differ": differ, "share": differ / plain.numel()})
    return _text(pd.DataFrame(rows))


def digits(folder: Path, size: Size) -> str:
    """Accuracy and time of every loss on digits, plain and compiled."""
    tables = []
    for compiled in ("off", "on"):
        runs_dir = folder / f"digits-{compiled}"
        for loss in size.losses:
            train(
                RunConfig(loss=loss, compile=compiled, runs_dir=str(runs_dir), **size.digits), verbose=False
            )
        tables.append(load_runs(runs_dir).set_index("loss")[["test_accuracy_t1", "test_accuracy", "seconds"]])
    return _text(pd.concat(tables, axis=1, keys=["plain", "compiled"]).reindex(size.losses).reset_index())


def benchmark(folder: Path, size: Size) -> str:
    """Time and memory of a step at T = 4, beside the ReLU limit."""
    return _text(steps(size, []))


def steps(size: Size, libraries: list[str]) -> pd.DataFrame:
    """Return time and memory of a step with every backbone."""
    tables = []
    for backbone in size.backbones:
        parameters = {"backbone": backbone, "time_steps": [4], "libraries": libraries}
        tables.append(speed.measure(Benchmark(**parameters | size.benchmark)))
    columns = ["backbone", "subject", "version", "precision", "median_ms", "low_ms", "high_ms"]
    return pd.concat(tables)[[*columns, "images_per_second", "peak_memory_mb", "x_limit"]]


def spikingjelly(folder: Path, size: Size) -> str:
    """The same step with each of SpikingJelly's neurons for a GPU; CUDA graphs are not public there."""
    if importlib.util.find_spec("spikingjelly") is None:
        return "skipped: SpikingJelly is not installed (pip install -e benchmarks)"
    texts = []
    for name in ("cuda", "triton", "torch"):  # read when SpikingJelly is imported
        only = {} if name == "triton" else {"precisions": ["32-true"]}  # the others compute no bf16
        measured = size._replace(benchmark=size.benchmark | only)
        code = f"from benchmarks.gpu import *; print(spikingjelly_steps({measured!r}))"
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            cwd=paths.CHECKOUT,
            env=os.environ | {"SJ_LIF_CUDA_IMPLEMENTATION": name},
            capture_output=True,
            text=True,
        )
        why = f"skipped: {(done.stderr.strip() or 'no message').splitlines()[-1]}"
        texts.append(f"{name}\n{why if done.returncode else done.stdout}")
    return "\n".join(texts)


def spikingjelly_steps(size: Size) -> str:
    """Return the rows of `steps` that are SpikingJelly's, and which neuron it took."""
    from spikingjelly.activation_based.functional import neuron_implementation

    taken = neuron_implementation("lif", find_device("auto"))
    table = steps(size, ["spikingjelly"])
    return f"{taken}\n{_text(table[table['subject'] == 'spikingjelly'])}"


def epoch(folder: Path, size: Size) -> str:
    """The second epoch of a run on made images of CIFAR-10's size, and what its steps spend time on."""
    root = folder / "images"
    _make_images(root, size.images)
    device, rows = find_device("auto"), []
    for precision in Benchmark(**size.benchmark).precisions:
        config = RunConfig(
            dataset="folder",
            data_root=str(root),
            loss="tcl",
            epochs=2,
            precision=precision,
            runs_dir=str(folder / "epoch"),
            overwrite=True,  # a part that was stopped measures all of it again
            **size.epoch,
        )
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        run = train(config, verbose=False)
        images = run.description["data"]["images"]["train"] // config.batch_size * config.batch_size
        seconds = run.metrics["seconds"].iloc[1]
        peak = torch.cuda.max_memory_allocated() / 1e9 if device.type == "cuda" else np.nan
        row = {"precision": precision, "images": images, "seconds": seconds}
        row |= {"images_per_second": images / seconds, "peak_memory_gb": peak}
        rows.append(row | {"share_of_convolutions": _share_of_convolutions(config, device)})
    shutil.rmtree(root)
    return f"{size.epoch}, T = 4, validation included\n{_text(pd.DataFrame(rows))}"


def _make_images(root: Path, count: int) -> None:
    """Write noise in ten classes, each around a brightness of its own."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = root / ("test" if number % 6 == 0 else "train") / str(number // 6 % 10) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = random.integers(0, 100, (32, 32, 3)) + 15 * (number // 6 % 10)
        Image.fromarray(noise.astype(np.uint8)).save(path, compress_level=0)


def _share_of_convolutions(config: RunConfig, device: torch.device) -> float:
    """Return the share of the time of training steps in which the device computes convolutions."""
    step = speed.own_step(config, (3, 32, 32), device)
    steps = range(10)
    with gpu_settings(device, config.tf32):
        for _ in steps:
            step()
        whole = sum(speed.seconds(step, device) for _ in steps)  # without the profiler, which slows steps
        with profile(acc_events=True) as profiler:
            for _ in steps:
                step()
    of_device = "self_device_time_total" if device.type == "cuda" else "self_cpu_time_total"
    events = [event for event in profiler.key_averages() if re.match("aten::.*conv", event.key)]
    return sum(getattr(event, of_device) for event in events) / 1e6 / whole


PARTS: dict[str, Callable[[Path, Size], str]] = {
    part.__name__: part for part in (check, spikes, digits, benchmark, epoch, spikingjelly)
}


def _text(table: pd.DataFrame) -> str:
    return table.to_string(index=False, float_format="{:.6g}".format)


def main(arguments: list[str] | None = None) -> int:
    """Do the parts that are not done, each in a process of its own; return 0 if all of them are, else 1."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="do every part in small, on any machine")
    parser.add_argument("--part", choices=PARTS, help="do this part alone")
    options = parser.parse_args(arguments)
    if not options.rehearse and not torch.cuda.is_available():
        print("no GPU: nothing is measured here; `make gpu ARGS=--rehearse` does every part in small")
        return 1
    folder = paths.absolute("runs/gpu/rehearsal" if options.rehearse else "runs/gpu")
    files.make_folder(folder)
    if options.part:
        return int(not do(options.part, folder, SMALL if options.rehearse else FULL))
    ends = time.monotonic() + 60 * MINUTES
    size = ["--rehearse"] if options.rehearse else []
    command = [sys.executable, "-m", "benchmarks.gpu", *size, "--part"]
    for name in PARTS:
        left = ends - time.monotonic()
        if (folder / f"{name}.txt").exists():
            print(f"{name}: done before", flush=True)
        elif left > 0:  # what one part does to the GPU, or to its process, is not in the way of the next
            with subprocess.Popen([*command, name], cwd=paths.CHECKOUT, start_new_session=True) as process:
                try:
                    process.wait(left)
                except subprocess.TimeoutExpired:
                    print(f"{name}: stopped, {MINUTES} minutes are over; start again", flush=True)
                finally:
                    with suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)  # with what it started
        else:
            print(f"{name}: skipped, {MINUTES} minutes are over; start again", flush=True)
    return int(not all((folder / f"{name}.txt").exists() for name in PARTS))


def do(name: str, folder: Path, size: Size) -> bool:
    """Do a part and write its text; return whether it succeeded."""
    part = PARTS[name]
    print(f"{name}: {part.__doc__}", flush=True)
    began = time.monotonic()
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", UserWarning)
            text = part(folder, size)
    except Exception as error:
        print(f"{name}: failed, {type(error).__name__}: {error}", flush=True)
        return False
    notes = dict.fromkeys(str(warning.message) for warning in warned if warning.category is UserWarning)
    made = f"{hardware(find_device('auto'))}; commit {git_commit()}; {versions()}"
    took = f"took {time.monotonic() - began:.0f} s"
    text = "\n".join([part.__doc__, "", text, "", *(f"warning: {note}" for note in notes), made, took, ""])
    files.write(folder / f"{name}.txt", text)
    print(text, flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
