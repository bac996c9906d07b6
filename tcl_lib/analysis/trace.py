"""What happens inside a network while it sees a batch: input, spikes, membrane potentials, logits.

Shapes: T time steps, B batch, K classes, P projection.
"""

from contextlib import ExitStack
from typing import NamedTuple

import torch
from torch import Tensor

from tcl_lib.backbones import SpikingNetwork
from tcl_lib.neurons import Neuron, Spiking, one_step, spiking_layers


class Layer(NamedTuple):
    """One spiking layer during a forward pass, [T, B, ...] each."""

    spikes: Tensor  # 0 or 1
    potentials: Tensor  # of the membrane, before the reset: where one is above the threshold there is a spike


class Trace(NamedTuple):
    """A forward pass, step by step."""

    layers: list[Layer]  # in order of depth
    logits: Tensor  # [T, B, K]
    embeddings: Tensor  # [T, B, P], not normalised


@torch.no_grad()
def trace(network: SpikingNetwork, images: Tensor) -> Trace:
    """Return what the network does with a batch of its inputs, in its current mode."""
    layers: list[Layer] = []

    def see(layer: Spiking, arguments: tuple, spikes: Tensor) -> None:
        current = arguments[0]
        layers.append(Layer(spikes, membrane_potentials(layer.neuron, current, len(spikes))))

    with ExitStack() as hooks:
        for layer in spiking_layers(network):
            hooks.enter_context(layer.register_forward_hook(see))
        output = network(images)
    return Trace(layers, output.logits, output.embeddings)


def membrane_potentials(neuron: Neuron, current: Tensor, time_steps: int) -> Tensor:
    """Return the membrane potential at every step, after the input and before the reset.

    Args:
        neuron: a feed-forward step of Norse whose state has a membrane potential `v`.
        current: [T, B, ...], or [1, B, ...] for the same current at each of `time_steps` steps.

    Returns: [T, B, ...]. Norse's step returns the potential after the reset. The same step with a threshold
    that is never reached returns it before.
    """
    silent = neuron._replace(parameters=neuron.parameters._replace(v_th=torch.tensor(torch.inf)))
    state, potentials = neuron.rest, []
    for x in current if len(current) == time_steps else time_steps * [current[0]]:
        _, before = one_step(silent, x, state)
        _, state = one_step(neuron, x, state)
        potentials.append(before.v)
    return torch.stack(potentials)
