"""Seconds of a training step on several devices: all of it, its compute alone, and each exchange alone.

    torchrun --nproc-per-node 2 benchmarks/scaling.py --backbone resnet19 --batch 16 --device cpu

Images are random, of 32x32 pixels. `docs/scaling.md` has numbers and what follows from them.
"""

import argparse
import os
from collections.abc import Callable
from functools import partial
from statistics import quantiles
from time import perf_counter

import torch
from torch import distributed
from torch.distributed.nn.functional import all_gather, all_reduce

from tcl_lib import RunConfig, build_network
from tcl_lib.training import batchnorm
from tcl_lib.training.build import build_optimizer
from tcl_lib.training.processes import Processes
from tcl_lib.training.step import forward_and_backward
from tcl_lib.utils.devices import gpu_settings


def seconds(function: Callable[[], object], rounds: int, device: torch.device) -> list[float]:
    """Return the quartiles of the time that a function takes, without the first two rounds."""
    times = []
    for _ in range(rounds + 2):
        distributed.barrier()
        started = perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(perf_counter() - started)
    return quantiles(times[2:], n=4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="convnet")
    parser.add_argument("--loss", default="tcl")
    parser.add_argument("--batch", type=int, default=128, help="samples on all devices together")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="32-true")
    parser.add_argument("--devices", type=int, default=None, help="on each node; all processes by default")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    count = int(os.environ["WORLD_SIZE"])  # set by torchrun
    devices = options.devices or count
    config = RunConfig(
        backbone=options.backbone,
        loss=options.loss,
        batch_size=options.batch,
        device=options.device,
        precision=options.precision,
        devices=devices,
        num_nodes=count // devices,
    )
    group = Processes(config)
    device = group.fabric.device
    network = batchnorm.synchronise(build_network(config, (3, 32, 32), 10), device)
    network.to(memory_format=torch.channels_last)
    model, optimizer = group.fabric.setup(network, build_optimizer(network, config))
    share = config.num_views * config.batch_size // count
    images = torch.randn(share, 3, 32, 32, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(10, (config.batch_size,), device=device)
    whole = partial(group.output, config=config, batch=config.batch_size)

    def step() -> None:
        optimizer.zero_grad()
        forward_and_backward(group.fabric, model, images, labels, config, whole=whole)
        optimizer.step()
        group.agree(0)

    def compute() -> None:
        """Nothing is exchanged; the loss is that of the samples here."""
        optimizer.zero_grad()
        with group.fabric.no_backward_sync(model), batchnorm.alone(network):
            here = labels[: config.batch_size // count]
            forward_and_backward(group.fabric, model, images, here, config)
        optimizer.step()

    output = torch.randn(config.time_steps, share, 10 + config.projection_dim, device=device)
    gradients = torch.randn(sum(p.numel() for p in network.parameters()), device=device)
    norms = [m for m in network.modules() if isinstance(m, batchnorm.SyncBatchNorm | torch.nn.SyncBatchNorm)]
    moments = [torch.randn(2 * norm.num_features + 1, device=device) for norm in norms]
    parts = {
        "step": step,
        "compute": compute,
        "gather": lambda: (all_gather(output), distributed.all_reduce(output.repeat(count, 1, 1))),
        "gradients": lambda: distributed.all_reduce(gradients),
        "batch norm": lambda: [all_reduce(of) for of in 2 * moments],
        "signals": lambda: (group.agree(0), group.agree(0)),
    }
    with gpu_settings(device, config.tf32):
        for name, function in parts.items():
            low, middle, high = seconds(function, options.rounds, device)
            if group.is_first:
                print(f"{name:10} {1e3 * middle:9.2f} ms ({1e3 * low:.2f} to {1e3 * high:.2f})", flush=True)


if __name__ == "__main__":
    main()
