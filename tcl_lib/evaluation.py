"""What a network does on data: logits, accuracy by time step, firing rates.

Shapes: T time steps, N samples, K classes.
"""

import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor, nn

from tcl_lib.data import Data, Split
from tcl_lib.neurons import Spiking


@torch.no_grad()
def predict(
    network: nn.Module, split: Split, data: Data, batch_size: int, device: torch.device | str
) -> Tensor:
    """Logits of every sample, not augmented, in evaluation mode: float [T, N, K] on the CPU."""
    training = network.training
    network.eval()
    logits = [
        network(data.inputs(split[chosen].to(device))).logits.float().cpu()
        for chosen in torch.arange(len(split)).split(batch_size)
    ]
    network.train(training)
    return torch.cat(logits, dim=1)


def accuracy_by_step(logits: Tensor, labels: Tensor) -> pd.DataFrame:
    """Accuracy when inference stops after t steps, in percent: [T, N, K], [N] -> a row a step.

    Columns: time_step (from 1); cumulative, of the mean of the first t steps' logits; low and high, the ends
    of its 95 % interval for N samples (Wilson 1927, binomial); instantaneous, of step t's logits alone.
    """

    def right(scores: Tensor) -> list[int]:
        return (scores.argmax(-1) == labels).sum(1).tolist()  # [T]

    count = len(labels)
    cumulative = right(logits.double().cumsum(0))
    intervals = [binomtest(correct, count).proportion_ci(method="wilson") for correct in cumulative]
    return pd.DataFrame(
        {
            "time_step": range(1, len(logits) + 1),
            "cumulative": [100 * correct / count for correct in cumulative],
            "low": [100 * float(interval.low) for interval in intervals],
            "high": [100 * float(interval.high) for interval in intervals],
            "instantaneous": [100 * correct / count for correct in right(logits)],
        }
    )


@torch.no_grad()
def firing_rates(network: nn.Module, images: Tensor) -> list[float]:
    """The firing rate of every spiking layer on a batch, in the network's present mode; see `FiringRates`."""
    with FiringRates(network) as firing:
        network(images)
    return firing.mean()


class FiringRates:
    """The firing rate of every spiking layer while this is open, in spikes a neuron and time step.

    Layers come in order of depth. Use it as a context manager, or remove its hooks with `close`.
    """

    def __init__(self, network: nn.Module):
        layers = [module for module in network.modules() if isinstance(module, Spiking)]
        self._means: list[list[Tensor]] = [[] for _ in layers]
        self._hooks = [
            layer.register_forward_hook(
                lambda module, inputs, spikes, means=means: means.append(
                    spikes.detach().mean(dtype=torch.float32)
                )
            )
            for layer, means in zip(layers, self._means, strict=True)
        ]

    def mean(self) -> list[float]:
        """The mean rate of each layer over the forwards so far."""
        return [float(torch.stack(means).mean()) for means in self._means]

    def close(self) -> None:
        for hook in self._hooks:
            hook.remove()

    def __enter__(self) -> "FiringRates":
        return self

    def __exit__(self, *exception) -> None:
        self.close()
