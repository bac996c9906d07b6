"""The same network in each of the field's libraries, as its documentation has a user write it.

64C3-AP2-64C3-AP2-128C3-128C3, global average pooling, a linear layer (`backbones.convnet`), with the neuron
`v = 0.5 v + x`, threshold 1, hard reset: the same spikes from the same weights. The surrogate gradient is
what each library calls a triangle (snnTorch's is none, Norse's is twice as wide here). An image is shown at
every step; all give the mean of the logits over the steps, [B, K].

These are optional dependencies (`pip install -e ".[benchmark]"`), imported where they are used.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tcl_lib.backbones import SpikingNetwork, build_network
from tcl_lib.config import RunConfig
from tcl_lib.neurons import Spiking

PLAN = (64, "pool", 64, "pool", 128, 128)


def _plain(conv, norm, pool, neuron, channels: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for width in PLAN:
        if width == "pool":
            layers.append(pool(2))
        else:
            layers += [conv(channels, width, 3, padding=1, bias=False), norm(width), neuron()]
            channels = width
    return layers


class _Peer(nn.Module):
    """A library's network, and how a batch goes through it: [B, C, H, W] -> [B, K]."""

    def __init__(self, network: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.network, self.run = network, run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self.network, images)


def spikingjelly(time_steps: int, channels: int, classes: int) -> nn.Module:
    """SpikingJelly, multi-step: its layers fold time into the batch."""
    from spikingjelly.activation_based import functional, layer

    layers = _plain(layer.Conv2d, layer.BatchNorm2d, layer.AvgPool2d, _spikingjelly_lif, channels)
    network = nn.Sequential(
        *layers, layer.AdaptiveAvgPool2d(1), layer.Flatten(), layer.Linear(PLAN[-1], classes)
    )
    functional.set_step_mode(network, "m")

    def run(network: nn.Module, images: Tensor) -> Tensor:
        functional.reset_net(network)
        return network(images.unsqueeze(0).repeat(time_steps, 1, 1, 1, 1)).mean(0)

    return _Peer(network, run)


def _spikingjelly_lif() -> nn.Module:
    from spikingjelly.activation_based import neuron, surrogate

    triangle = surrogate.PiecewiseQuadratic(alpha=1.0)
    return neuron.LIFNode(tau=2.0, decay_input=False, surrogate_function=triangle, step_mode="m")


def snntorch(time_steps: int, channels: int, classes: int) -> nn.Module:
    """snnTorch: hidden states, a loop over time around the whole network."""
    import snntorch
    from snntorch import surrogate, utils

    def lif() -> nn.Module:
        return snntorch.Leaky(
            beta=0.5, init_hidden=True, reset_mechanism="zero", spike_grad=surrogate.triangular()
        )

    layers = _plain(nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, lif, channels)
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(PLAN[-1], classes))

    def run(network: nn.Module, images: Tensor) -> Tensor:
        utils.reset(network)
        return torch.stack([network(images) for _ in range(time_steps)]).mean(0)

    return _Peer(network, run)


def norse(time_steps: int, channels: int, classes: int) -> nn.Module:
    """Norse's own modules, its parameters as `neurons.lif` has them; a loop over time."""
    from norse.torch import LIFBoxCell, LIFBoxParameters, SequentialState

    def lif() -> nn.Module:
        # its membrane takes half of its input: the threshold is halved instead, which is the same work
        return LIFBoxCell(LIFBoxParameters(tau_mem_inv=0.5, v_th=0.5, method="triangle", alpha=1.0), dt=1.0)

    layers = _plain(nn.Conv2d, nn.BatchNorm2d, nn.AvgPool2d, lif, channels)
    network = SequentialState(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(PLAN[-1], classes))

    def run(network: nn.Module, images: Tensor) -> Tensor:
        state, logits = None, []
        for _ in range(time_steps):
            output, state = network(images, state)
            logits.append(output)
        return torch.stack(logits).mean(0)

    return _Peer(network, run)


PEERS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "spikingjelly": spikingjelly,
    "snntorch": snntorch,
    "norse": norse,
}


def ours(config: RunConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of this study."""
    return _MeanLogits(build_network(config, image_shape, classes))


def relu(config: RunConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The limit: the same network of T times as many images with ReLU for its neurons."""
    network = build_network(config, image_shape, classes)
    _replace_neurons(network, nn.ReLU)
    return _MeanLogits(network, still=False)


def spikingjelly_neurons(config: RunConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """The network of this study with SpikingJelly's neurons, for backbones that it does not have."""
    from spikingjelly.activation_based import functional

    network = build_network(config, image_shape, classes)
    _replace_neurons(network, _spikingjelly_lif)
    network.register_forward_pre_hook(lambda module, inputs: functional.reset_net(module))
    return _MeanLogits(network, still=False)


class _MeanLogits(nn.Module):
    """[B, C, H, W] -> [B, K]. Not `still`: every step is computed, as of frames that differ."""

    def __init__(self, network: SpikingNetwork, still: bool = True):
        super().__init__()
        self.network, self.still = network, still

    def forward(self, images: Tensor) -> Tensor:
        if not self.still:
            images = images.expand(self.network.time_steps, *images.shape)
        return self.network(images).logits.mean(0)


class _Neurons(nn.Module):
    """Others' neurons in the place of `Spiking`."""

    def __init__(self, neurons: nn.Module):
        super().__init__()
        self.neurons = neurons

    def forward(self, current: Tensor, time_steps: int | None = None) -> Tensor:
        return self.neurons(current)


def _replace_neurons(module: nn.Module, neurons: Callable[[], nn.Module]) -> None:
    for name, child in module.named_children():
        if isinstance(child, Spiking):
            setattr(module, name, _Neurons(neurons()))
        else:
            _replace_neurons(child, neurons)
