"""Firing rates and synaptic operations of a network, and an estimate of their energy.

The terms are those of NeuroBench (Yik et al. 2025, arXiv 2304.04640), for one sample. `dense` counts the
multiply-accumulates of an ordinary network (ANN) of the same shape. `effective_macs` and `effective_acs`
count the multiply-accumulates and accumulates whose input is not 0.

    energy = 4.6 pJ * effective_macs + 0.9 pJ * effective_acs;   of the ANN: 4.6 pJ * dense

This is an estimate of the arithmetic only. It can compare losses and time steps, but not chips.

Shapes: T time steps, B batch.
"""

from contextlib import ExitStack

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tcl_lib.neurons import spiking_layers

# 32-bit floating point at 45 nm: Horowitz, ISSCC 2014; 4.6 = 3.7 (multiply) + 0.9 (add).
MAC_PJ, AC_PJ = 4.6, 0.9


class SynapticOperations(ExitStack):
    """Context manager that counts the operations of convolutions and linear layers in forward passes.

    The first layer receives pixels or event counts. It needs a multiply-accumulate for each input that is not
    0 and each weight of this input. All later layers receive spikes and need an accumulate for each spike and
    each of its weights. After average pooling, a spike counts as the share that is passed on, so that the
    accumulates of a layer are `rate * dense`, as in the literature. Hardware that does not pool first needs
    more by a factor of the pooling area. An image is the same at every step: the first layer and the ANN
    process it once, at step 1. Frames are processed at every step.

    Not counted: weights on padding, biases, batch norm (part of the weights at inference), the neurons'
    updates, memory access, and the projection head, which inference does not use.
    """

    def __init__(self, network: nn.Module):
        super().__init__()  # closes the hooks
        self._layers = [
            (layer, part is network.stem)
            for part in (network.stem, network.body, network.classifier)
            for layer in part.modules()
            if isinstance(layer, nn.Conv2d | nn.Linear)
        ]
        self._samples = 0
        self._steps = network.time_steps
        self._counts: list[Tensor | int] = [0] * len(self._layers)  # [steps seen] each; see `FiringRates`
        self._fan_out: dict[int, Tensor] = {}
        self.enter_context(network.register_forward_pre_hook(self._see_batch))
        for index, (layer, _) in enumerate(self._layers):
            self.enter_context(
                layer.register_forward_pre_hook(
                    lambda layer, inputs, index=index: self._see_input(index, inputs[0].detach())
                )
            )

    def _see_batch(self, network: nn.Module, inputs: tuple) -> None:
        images = inputs[0]
        self._batch = images.shape[-4]
        self._samples += self._batch
        self._steps = len(images) if images.dim() == 5 else network.time_steps

    def _see_input(self, index: int, x: Tensor) -> None:
        layer, first = self._layers[index]
        shape = x.shape[-3:] if isinstance(layer, nn.Conv2d) else x.shape[-1:]
        if index not in self._fan_out:
            self._fan_out[index] = fan_out(layer, shape)
        steps = x.numel() // (self._batch * shape.numel())  # 1 in the stem of an image
        x = x.reshape(steps, self._batch, *shape)
        arrived = (x != 0 if first else x).sum(1, dtype=torch.float32)  # [steps, *shape]
        self._counts[index] += (arrived * self._fan_out[index]).flatten(1).sum(1).cpu().double()

    def table(self) -> pd.DataFrame:
        """Return a row for each layer and time step, with means over the samples.

        Columns: layer (from 1, in order of depth), operation, time_step (from 1); dense of one pass through
        the layer; effective_macs and effective_acs of this step; energy_uj and ann_energy_uj, the energy of
        this step in microjoules, of the network and of the ANN.
        """
        rows = []
        for index, (layer, first) in enumerate(self._layers):
            dense = self._fan_out[index].cpu().double().sum().item()
            counts = (self._counts[index] / self._samples).tolist()
            counts += [0.0] * (self._steps - len(counts))
            for step, count in enumerate(counts, start=1):
                macs, acs = (count, 0.0) if first else (0.0, count)
                news = step == 1 or len(self._counts[0]) > 1  # the ANN processes an image once
                rows.append(
                    {
                        "layer": index + 1,
                        "operation": _describe(layer),
                        "time_step": step,
                        "dense": dense,
                        "effective_macs": macs,
                        "effective_acs": acs,
                        "energy_uj": (MAC_PJ * macs + AC_PJ * acs) / 1e6,
                        "ann_energy_uj": MAC_PJ * dense * news / 1e6,
                    }
                )
        return pd.DataFrame(rows)


def fan_out(layer: nn.Conv2d | nn.Linear, shape: tuple[int, ...]) -> Tensor:
    """Return the number of weights that use each input of a layer: float32 [*shape], as one sample's input.

    It is the gradient of the sum of the outputs with all inputs and weights 1. Inputs at the border of a
    padded convolution have fewer weights.
    """
    with torch.enable_grad(), torch.autocast(layer.weight.device.type, enabled=False):
        x = torch.ones(1, *shape, device=layer.weight.device, requires_grad=True)
        ones = torch.ones_like(layer.weight, dtype=torch.float32, requires_grad=False)
        if isinstance(layer, nn.Linear):
            output = F.linear(x, ones)
        else:
            output = F.conv2d(x, ones, None, layer.stride, layer.padding, layer.dilation, layer.groups)
        return torch.autograd.grad(output.sum(), x)[0][0]


def _describe(layer: nn.Conv2d | nn.Linear) -> str:
    if isinstance(layer, nn.Linear):
        return f"linear, {layer.in_features} to {layer.out_features}"
    size = "x".join(map(str, layer.kernel_size))
    return f"{size} convolution, {layer.in_channels} to {layer.out_channels}"


def mean_rates(state: dict[str, list]) -> list[float]:
    """Return the mean rate of each layer over all steps, from what `FiringRates.state` counts."""
    totals = zip(state["sums"], state["counts"], strict=True)
    return [(total / count).mean().item() for total, count in totals]


@torch.no_grad()
def size_and_rates(network: nn.Module, images: Tensor) -> str:
    """Return the number of parameters and the firing rate of every spiking layer on a batch, as text."""
    count = sum(parameter.numel() for parameter in network.parameters())
    with FiringRates(network) as firing:
        network(images)
    rates = ", ".join(f"{rate:.3f}" for rate in mean_rates(firing.state()))
    return f"{count:,} parameters; firing rates, layer by layer: {rates}"


class FiringRates(ExitStack):
    """Context manager that counts spikes in forward passes; rates are in spikes per neuron and time step.

    The layers are in order of depth.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        layers = spiking_layers(network)
        # A tensor kept of each batch would lie between the freed activations, and memory would grow.
        self._sums: list[Tensor | int] = [0] * len(layers)  # [T] each
        self._earlier: list[Tensor | int] = [0] * len(layers)  # from `load_state`
        self._counts = [0] * len(layers)  # neurons times samples, at a time step
        for index, layer in enumerate(layers):
            self.enter_context(
                layer.register_forward_hook(
                    lambda module, inputs, spikes, index=index: self._see(index, spikes.detach())
                )
            )

    def _see(self, index: int, spikes: Tensor) -> None:
        # summed without flattening, which would copy tensors in channels-last memory format
        sums = spikes.sum(tuple(range(1, spikes.dim())), dtype=torch.float32)
        self._sums[index] += sums if sums.device.type == "mps" else sums.double()  # mps has no float64
        self._counts[index] += spikes[0].numel()

    def by_step(self) -> pd.DataFrame:
        """Return a row for each layer and time step: layer and time_step (from 1), firing_rate."""
        per_layer = (total / count for total, count in zip(self._totals(), self._counts, strict=True))
        rows = [
            {"layer": layer, "time_step": step, "firing_rate": rate}
            for layer, rates in enumerate(per_layer, start=1)
            for step, rate in enumerate(rates.tolist(), start=1)
        ]
        return pd.DataFrame(rows)

    def state(self) -> dict[str, list]:
        """Return the counts so far, for `load_state`."""
        return {"sums": self._totals(), "counts": list(self._counts)}

    def load_state(self, state: dict[str, list]) -> None:
        """Continue from a saved state; the sums are exact because they count spikes."""
        self._earlier, self._counts = list(state["sums"]), list(state["counts"])

    def _totals(self) -> list[Tensor]:
        """Return the spikes by time step, float64 [T] for each layer."""
        seen = [torch.as_tensor(sums).cpu().double() for sums in self._sums]
        return [earlier + now for earlier, now in zip(self._earlier, seen, strict=True)]
