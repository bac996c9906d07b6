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

from tcl_lib.analysis.activity import FiringRates, SynapticOperations
from tcl_lib.analysis.similarity import temporal_similarity
from tcl_lib.backbones import NetworkOutput
from tcl_lib.data import Data, Split
from tcl_lib.data.parts import stratified_order

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
        stepwise_accuracy(logits, data.test.labels),
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


def stepwise_accuracy(logits: Tensor, labels: Tensor) -> pd.DataFrame:
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
    # Torchmetrics, which computes in float32, would put a confidence of 1 into a bin of its own.
    probabilities = logits.softmax(-1).clamp(max=np.nextafter(np.float32(1), np.float32(0)).item())
    return multiclass_calibration_error(
        probabilities, labels, num_classes=logits.shape[-1], n_bins=CALIBRATION_BINS, norm="l1"
    ).item()
