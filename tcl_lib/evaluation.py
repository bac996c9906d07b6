"""What a network does on data: logits, accuracy and calibration by time step, firing rates, and all of it.

Shapes: T time steps, B batch, N samples, K classes, D features.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.stats import binomtest
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_calibration_error

from tcl_lib.backbones import NetworkOutput
from tcl_lib.data import Data, Split
from tcl_lib.data.parts import stratified_order
from tcl_lib.neurons import Spiking
from tcl_lib.operations import SynapticOperations
from tcl_lib.similarity import temporal_similarity

# Features are kept of so many vectors at the most, all time steps of a sample or none.
KEPT_FEATURES = 1000
CALIBRATION_BINS = 15


class Evaluation(NamedTuple):
    """What is stored of a trained network, so that figures need no model."""

    accuracy_by_step: pd.DataFrame
    firing_rates: pd.DataFrame
    operations: pd.DataFrame
    similarity: pd.DataFrame
    features: dict[str, np.ndarray]


def evaluate(network: nn.Module, data: Data, batch_size: int, device: torch.device | str) -> Evaluation:
    """Everything that is measured on the test set.

    Similarity is that of the features that are kept, those of a fixed stratified sample of at most
    `KEPT_FEATURES` / T test samples: the same samples whatever the network.
    """
    with FiringRates(network) as firing, SynapticOperations(network) as operations:
        logits = predict(network, data.test, data, batch_size, device)
    chosen = stratified_order(data.test.labels, seed=0)[: max(1, KEPT_FEATURES // len(logits))]
    outputs = _outputs(network, data.test.take(chosen), data, batch_size, device)
    features = torch.cat([output.features.float().cpu() for output in outputs], dim=1).half().numpy()
    labels = data.test.labels[chosen].numpy()
    return Evaluation(
        accuracy_by_step(logits, data.test.labels),
        firing.by_step(),
        operations.table(),
        temporal_similarity(features, labels),
        {"features": features, "labels": labels, "samples": chosen.numpy()},
    )


def predict(
    network: nn.Module, split: Split, data: Data, batch_size: int, device: torch.device | str
) -> Tensor:
    """Logits of every sample, not augmented, in evaluation mode: float [T, N, K] on the CPU."""
    outputs = _outputs(network, split, data, batch_size, device)
    return torch.cat([output.logits.float().cpu() for output in outputs], dim=1)


@torch.no_grad()
def _outputs(
    network: nn.Module, split: Split, data: Data, batch_size: int, device: torch.device | str
) -> Iterator[NetworkOutput]:
    training = network.training
    network.eval()
    for chosen in torch.arange(len(split)).split(batch_size):
        yield network(data.inputs(split[chosen].to(device)))
    network.train(training)


def accuracy_by_step(logits: Tensor, labels: Tensor) -> pd.DataFrame:
    """Accuracy when inference stops after t steps, in percent: [T, N, K], [N] -> a row a step.

    Columns: time_step (from 1); cumulative, of the mean of the first t steps' logits; low and high, the ends
    of its 95 % interval for N samples (Wilson 1927, binomial); instantaneous, of step t's logits alone;
    calibration_error, the expected one of the cumulative answer: the mean distance of accuracy and confidence
    over 15 bins of confidence (Guo et al. 2017, arXiv 1706.04599, eq. 3), in percent too.
    """

    def right(scores: Tensor) -> list[int]:
        return (scores.argmax(-1) == labels).sum(1).tolist()  # [T]

    count = len(labels)
    steps = torch.arange(1, len(logits) + 1)[:, None, None]
    means = logits.double().cumsum(0) / steps  # [T, N, K]
    cumulative = right(means)
    intervals = [binomtest(correct, count).proportion_ci(method="wilson") for correct in cumulative]
    return pd.DataFrame(
        {
            "time_step": steps.flatten().tolist(),
            "cumulative": [100 * correct / count for correct in cumulative],
            "low": [100 * float(interval.low) for interval in intervals],
            "high": [100 * float(interval.high) for interval in intervals],
            "instantaneous": [100 * correct / count for correct in right(logits)],
            "calibration_error": [100 * _calibration_error(mean, labels) for mean in means],
        }
    )


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    return multiclass_calibration_error(
        logits.softmax(-1), labels, num_classes=logits.shape[-1], n_bins=CALIBRATION_BINS, norm="l1"
    ).item()


@torch.no_grad()
def firing_rates(network: nn.Module, images: Tensor) -> list[float]:
    """The firing rate of every spiking layer on a batch, in the network's present mode; see `FiringRates`."""
    with FiringRates(network) as firing:
        network(images)
    return firing.mean()


class FiringRates:
    """The firing rate of every spiking layer while this is open, in spikes a neuron and time step.

    Layers come in order of depth. Use it as a context manager around forwards.
    """

    def __init__(self, network: nn.Module):
        layers = [module for module in network.modules() if isinstance(module, Spiking)]
        self._sums: list[list[Tensor]] = [[] for _ in layers]  # [T] each
        self._earlier: list[Tensor | int] = [0] * len(layers)  # what `load_state` brought
        self._counts = [0] * len(layers)  # neurons and samples seen, at a time step
        self._hooks = [
            layer.register_forward_hook(
                lambda module, inputs, spikes, index=index: self._see(index, spikes.detach())
            )
            for index, layer in enumerate(layers)
        ]

    def _see(self, index: int, spikes: Tensor) -> None:
        # over all dimensions but the first, not flattened: that would copy the memory of channels last
        self._sums[index].append(spikes.sum(tuple(range(1, spikes.dim())), dtype=torch.float32))
        self._counts[index] += spikes[0].numel()

    def by_step(self) -> pd.DataFrame:
        """Of all forwards so far, a row a layer and time step: layer and time_step (from 1), firing_rate."""
        rows = [
            {"layer": layer, "time_step": step, "firing_rate": rate}
            for layer, rates in enumerate(self._rates(), start=1)
            for step, rate in enumerate(rates.tolist(), start=1)
        ]
        return pd.DataFrame(rows)

    def mean(self) -> list[float]:
        """The mean rate of each layer over the steps of all forwards so far."""
        return [rates.mean().item() for rates in self._rates()]

    def state(self) -> dict[str, list]:
        """All that was seen so far, for `load_state`."""
        return {"sums": self._totals(), "counts": list(self._counts)}

    def load_state(self, state: dict[str, list]) -> None:
        """Count on from what another one has seen. Spikes are whole numbers: their sums have one value."""
        self._earlier, self._counts = list(state["sums"]), list(state["counts"])

    def _rates(self) -> list[Tensor]:
        return [total / count for total, count in zip(self._totals(), self._counts, strict=True)]

    def _totals(self) -> list[Tensor]:
        """Spikes by time step, float64 [T] for each layer."""
        seen = [torch.stack(sums).cpu().double().sum(0) if sums else 0 for sums in self._sums]
        return [earlier + now for earlier, now in zip(self._earlier, seen, strict=True)]

    def __enter__(self) -> "FiringRates":
        return self

    def __exit__(self, *exception) -> None:
        for hook in self._hooks:
            hook.remove()
