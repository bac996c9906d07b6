"""The same network in several libraries for spiking neural networks, written as their documentation does.

The network is `backbones.convnet`: 64C3-AP2-64C3-AP2-128C3-128C3, global average pooling and a linear layer.
The neuron is `v = 0.5 v + x` with threshold 1 and hard reset. The same weights give the same spikes. The
surrogate gradient is what each library calls a triangle: snnTorch's is not a triangle, and Norse's is twice
as wide here. An image is shown at every step; all networks return the mean of the logits over the steps.

The libraries are dependencies of this package (`pip install -e benchmarks`), imported where they are used.

Shapes: T time steps, B batch, K classes.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from tcl_lib.backbones import SpikingNetwork
from tcl_lib.config import RunConfig
from tcl_lib.neurons import Spiking
from tcl_lib.training.build import build_network

PLAN = (64, "pool", 64, "pool", 128, 128)


def _plain(conv, norm, pool, neuron, channels: int) -> list[nn.Module]:
    """Return the layers of `PLAN`, built with a library's classes."""
    layers: list[nn.Module] = []
    for width in PLAN:
        if width == "pool":
            layers.append(pool(2))
        else:
            layers += [conv(channels, width, 3, padding=1, bias=False), norm(width), neuron()]
            channels = width
    return layers


class _Peer(nn.Module):
    """A library's network, and the function that runs a batch through it: [B, C, H, W] -> [B, K]."""

    def __init__(self, network: nn.Module, run: Callable[[nn.Module, Tensor], Tensor]):
        super().__init__()
        self.network, self.run = network, run

    def forward(self, images: Tensor) -> Tensor:
        return self.run(self.network, images)


def spikingjelly(time_steps: int, channels: int, classes: int) -> nn.Module:
    """Return the network in SpikingJelly's multi-step mode: its layers fold time into the batch."""
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


def spikingjelly_bf16(network: nn.Module, device: torch.device) -> None:
    """Have SpikingJelly's neurons keep bfloat16 in Triton; under plain autocast its torch reference runs."""
    from spikingjelly.activation_based.precision import PrecisionConfig, prepare_model_for_precision

    prepare_model_for_precision(network, device, PrecisionConfig(mode="bf16", neuron_storage="bf16"))


def snntorch(time_steps: int, channels: int, classes: int) -> nn.Module:
    """Return the network in snnTorch, with hidden states and a loop over time around the whole network."""
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
    """Return the network of Norse's own modules, in a loop over time."""
    from norse.torch import LIFBoxCell, LIFBoxParameters, SequentialState

    def lif() -> nn.Module:
        # The neuron halves its input. Half the threshold gives the same spikes, for the same work.
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
    """Return the network of this study."""
    return _MeanLogits(build_network(config, image_shape, classes))


def relu(config: RunConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the limit: the same network with ReLU in the place of its neurons, on T times as many images."""
    network = build_network(config, image_shape, classes)
    _replace_neurons(network, nn.ReLU)
    return _MeanLogits(network, still=False)


def spikingjelly_neurons(config: RunConfig, image_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Return the network of this study with SpikingJelly's neurons."""
    from spikingjelly.activation_based import functional

    network = build_network(config, image_shape, classes)
    _replace_neurons(network, _spikingjelly_lif)
    network.register_forward_pre_hook(lambda module, inputs: functional.reset_net(module))
    return _MeanLogits(network, still=False)


class _MeanLogits(nn.Module):
    """The mean of a network's logits over the steps: [B, C, H, W] -> [B, K].

    With `still=False` every layer computes every step, as it does for frames that differ.
    """

    def __init__(self, network: SpikingNetwork, still: bool = True):
        super().__init__()
        self.network, self.still = network, still

    def forward(self, images: Tensor) -> Tensor:
        if not self.still:
            images = images.expand(self.network.time_steps, *images.shape)
        return self.network(images).logits.mean(0)


class _Neurons(nn.Module):
    """Another library's neurons, with the interface of `Spiking`."""

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
