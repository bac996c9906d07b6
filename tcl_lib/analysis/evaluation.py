"""Evaluation of a trained network on data: logits, accuracy and calibration by time step, and `evaluate`.

Shapes: T time steps, B batch, N samples, K classes, D features.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from tcl_lib.analysis.activity import FiringRates, SynapticOperations
from tcl_lib.analysis.recalibration import compiled_layers, first_steps, recalibrated
from tcl_lib.analysis.similarity import temporal_similarity
from tcl_lib.backbones import NetworkOutput
from tcl_lib.data import Data, Split
from tcl_lib.data.parts import stratified_order
from tcl_lib.runs import Run

# The most feature vectors that are kept: T for each sample.
KEPT_FEATURES = 1000
CALIBRATION_BINS = 15
# The most training samples that batch norm is recalibrated on. The standard error of a channel's mean is then
# at most 1 / sqrt(2048), 2 %, of the channel's standard deviation.
RECALIBRATION_SAMPLES = 2048


class Evaluation(NamedTuple):
    """The measurements that are stored with a run; figures need no model."""

    accuracy_by_step: pd.DataFrame
    firing_rates: pd.DataFrame
    operations: pd.DataFrame
    similarity: pd.DataFrame
    features: dict[str, np.ndarray]
    logits: dict[str, np.ndarray]


def evaluate(
    network: nn.Module,
    data: Data,
    batch_size: int,
    device: torch.device | str,
    validation: Tensor | None = None,
) -> Evaluation:
    """Return all measurements on the test set, with `recalibrated_accuracy` in a column `recalibrated`.

    Features are kept of a stratified subset of at most `KEPT_FEATURES` / T test samples, the same for every
    network. The similarity is that of these features. The logits are of all samples; those of the validation
    part are predicted where `validation`, float [T, N, K], does not give them.
    """
    if validation is None:
        validation = predict(network, data.validation, data, batch_size, device)
    with FiringRates(network) as firing, SynapticOperations(network) as operations:
        logits = predict(network, data.test, data, batch_size, device)
    chosen = stratified_order(data.test.labels, seed=0)[: max(1, KEPT_FEATURES // len(logits))]
    outputs = _outputs(network, data.test.take(chosen), data, batch_size, device)
    features = torch.cat([output.features.float().cpu() for output in outputs], dim=1).half().numpy()
    labels = data.test.labels[chosen].numpy()
    accuracy = recalibrated_accuracy(network, data, batch_size, device, len(logits))
    return Evaluation(
        stepwise_accuracy(logits, data.test.labels).assign(recalibrated=accuracy),
        firing.by_step(),
        operations.table(),
        temporal_similarity(features, labels),
        {"features": features, "labels": labels, "samples": chosen.numpy()},
        stored_logits(validation, logits, data),
    )


def stored_logits(validation: Tensor, test: Tensor, data: Data) -> dict[str, np.ndarray]:
    """Return logits [T, N, K] of the validation and test samples in the form of `Run.logits`."""
    return {
        "validation": validation.numpy(),
        "validation_labels": data.validation.labels.numpy(),
        "test": test.numpy(),
        "test_labels": data.test.labels.numpy(),
    }


def predict(
    network: nn.Module,
    split: Split,
    data: Data,
    batch_size: int,
    device: torch.device | str,
    time_steps: int | None = None,
) -> Tensor:
    """Return the logits of all samples as stored, in evaluation mode: float [T, N, K] on the CPU.

    The network runs for `time_steps`, by default for its own or those of the frames.
    """
    outputs = _outputs(network, split, data, batch_size, device, time_steps)
    return torch.cat([output.logits.float().cpu() for output in outputs], dim=1)


def predict_again(run: Run, network: nn.Module, split: Split, data: Data) -> Tensor:
    """Return what `predict` gives for a run's network, on a CPU and in the precision of its training."""
    with torch.autocast("cpu", torch.bfloat16, enabled=run.config.precision == "bf16-mixed"):
        return predict(network, split, data, run.config.batch_size, "cpu")


@torch.no_grad()
def _outputs(
    network: nn.Module,
    split: Split,
    data: Data,
    batch_size: int,
    device: torch.device | str,
    time_steps: int | None = None,
) -> Iterator[NetworkOutput]:
    training = network.training
    network.eval()
    for chosen in torch.arange(len(split)).split(batch_size):
        yield first_steps(network, data.inputs(split[chosen].to(device)), time_steps)
    network.train(training)


def recalibrated_accuracy(
    network: nn.Module, data: Data, batch_size: int, device: torch.device | str, time_steps: int
) -> list[float]:
    """Return the test accuracy in percent when inference stops after t = 1 to T steps, recalibrated to t.

    The running statistics of batch norm are estimated again at each t, from a stratified subset of at most
    `RECALIBRATION_SAMPLES` training samples without augmentation, the same for every network.
    """
    chosen = stratified_order(data.train.labels, seed=0)[:RECALIBRATION_SAMPLES]
    batches = chosen.tensor_split(-(-len(chosen) // batch_size))  # of equal size, within one
    compiled = compiled_layers(network)
    accuracies = []
    for steps in range(1, time_steps + 1):
        inputs = (data.inputs(data.train[batch].to(device)) for batch in batches)
        # Compiled neurons run all T steps: for another number they would wait for the compiler.
        run = time_steps if compiled else steps
        with recalibrated(network, inputs, steps):
            logits = predict(network, data.test, data, batch_size, device, run)[:steps]
        right = logits.double().mean(0).argmax(-1) == data.test.labels
        accuracies.append(100 * right.sum().item() / len(right))
    return accuracies


def stepwise_accuracy(logits: Tensor, labels: Tensor) -> pd.DataFrame:
    """Return the accuracy in percent when inference stops after t steps: [T, N, K], [N] -> a row per step.

    Columns:
        time_step: t, from 1.
        cumulative: accuracy of the mean of the first t steps' logits.
        low, high: ends of its 95 % interval for N samples (Wilson 1927, binomial).
        instantaneous: accuracy of step t's logits alone.
        calibration_error: expected calibration error of the cumulative answer in percent, with 15 bins of
            confidence (Guo et al. 2017, arXiv 1706.04599, eq. 3). A confidence of 1 is in the last bin.
    """

    def right(scores: Tensor) -> list[int]:
        return (scores.argmax(-1) == labels).sum(1).tolist()  # [T]

    count = len(labels)
    steps = torch.arange(1, len(logits) + 1)[:, None, None]
    means = logits.double().cumsum(0) / steps  # [T, N, K]
    cumulative = right(means)
    low, high = _wilson_interval(cumulative, count)
    return pd.DataFrame(
        {
            "time_step": steps.flatten().tolist(),
            "cumulative": [100 * correct / count for correct in cumulative],
            "low": 100 * low,
            "high": 100 * high,
            "instantaneous": [100 * correct / count for correct in right(logits)],
            "calibration_error": [100 * _calibration_error(mean, labels) for mean in means],
        }
    )


def _wilson_interval(correct: Sequence[int], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % interval of each share correct / count."""
    right, z2 = np.array(correct), 1.959963984540054**2  # scipy.stats would take a second to import
    middle = (right + z2 / 2) / (count + z2)
    half = np.sqrt(z2 * (right * (count - right) / count + z2 / 4)) / (count + z2)
    return (middle - half).clip(min=0), (middle + half).clip(max=1)


def _calibration_error(logits: Tensor, labels: Tensor) -> float:
    """Return the expected calibration error: |confidence - accuracy| of a bin, mean over the samples.

    It is NaN where a logit is.
    """
    confidence, answers = logits.softmax(-1).max(-1)
    bins = (CALIBRATION_BINS * confidence.nan_to_num()).long().clamp(max=CALIBRATION_BINS - 1)
    gaps = torch.bincount(bins, confidence - (answers == labels).double())
    return gaps.abs().sum().item() / len(labels)
