"""Batch-norm statistics for fewer time steps than the network was trained with.

Training gathers the running statistics of batch norm over all T steps. A network that stops after t < T steps
is normalised with them all the same. Here they are estimated again for t steps, with all weights as they are.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tcl_lib.neurons import Spiking, spiking_layers


@contextmanager
def recalibrated(network: nn.Module, batches: Iterable[Tensor], time_steps: int) -> Iterator[None]:
    """While open, batch norm has running statistics of these inputs at so many time steps.

    They are the mean over the batches (of equal weight) of the statistics that a training step would see.
    Nothing else is in training mode. Afterwards everything is as it was, to the bit.

    Args:
        network: takes what `SpikingNetwork` takes.
        batches: images float [B, C, H, W], or frames float [T, B, C, H, W] of which the first t are used.
        time_steps: t.
    """
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    saved = [(norm.momentum, [buffer.clone() for buffer in norm.buffers()]) for norm in norms]
    training = network.training
    try:
        network.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the mean over the batches
        with torch.no_grad(), _uncompiled(network):  # every t would wait for the compiler
            for inputs in batches:
                first_steps(network, inputs, time_steps)
        network.eval()
        yield
    finally:
        for norm, (momentum, buffers) in zip(norms, saved, strict=True):
            norm.momentum = momentum
            for buffer, value in zip(norm.buffers(), buffers, strict=True):
                buffer.copy_(value)
        network.train(training)


@contextmanager
def _uncompiled(network: nn.Module) -> Iterator[None]:
    layers = compiled_layers(network)
    try:
        for layer in layers:
            layer.compiled = False
        yield
    finally:
        for layer in layers:
            layer.compiled = True


def compiled_layers(network: nn.Module) -> list[Spiking]:
    """Return the spiking layers whose neurons are compiled."""
    return [layer for layer in spiking_layers(network) if layer.compiled]


def first_steps(network: nn.Module, inputs: Tensor, time_steps: int | None = None):
    """Return the network's output for the first t steps of images [B, ...] or frames [T, B, ...]."""
    return network(inputs[:time_steps]) if inputs.dim() == 5 else network(inputs, time_steps=time_steps)
