"""Trained networks with what they answer to the test samples, computed once.

Shapes: T time steps, N test samples, K classes, P projection, L layers.
"""

import logging
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from tcl_lib.analysis.policies import POLICIES, mean_logits, stopping_steps
from tcl_lib.analysis.run_data import data_of
from tcl_lib.analysis.trace import Trace, trace
from tcl_lib.backbones import SpikingNetwork
from tcl_lib.data import Data
from tcl_lib.data.parts import stratified_order
from tcl_lib.neurons import spiking_layers
from tcl_lib.runs import Run, layout, load_run
from tcl_lib.runs.names import data_title
from tcl_lib.training.build import load_network

log = logging.getLogger(__name__)

# Of a larger test set, a stratified part is shown, the same for every network.
MOST_SAMPLES = 500
BATCH = 100
# Policies and their thresholds: a probability, and a number of steps with the same answer.
STOPS = {"confidence": 0.9, "agreement": 2}


@dataclass(frozen=True)
class Samples:
    """The test samples that are shown."""

    pictures: np.ndarray  # uint8 [N, T or 1, C, H, W]
    labels: Tensor  # int64 [N]
    numbers: Tensor  # int64 [N], their places in the test set
    classes: list[str]

    def picture(self, sample: int, step: int) -> np.ndarray:
        """Return what the network sees of a sample at a step, from 1: uint8 [H, W, 3]."""
        pixels = self.pictures[sample, min(step, self.pictures.shape[1]) - 1].transpose(1, 2, 0)
        return pixels.repeat(3, axis=2) if pixels.shape[2] == 1 else pixels


@dataclass(frozen=True, eq=False)
class Model:
    """A trained network, its answers to all samples shown, and its inside for one."""

    run: Run
    name: str  # loss, seed and what else tells it from the others
    network: SpikingNetwork
    samples: Samples
    inputs: Tensor  # as the run normalises them: [N, C, H, W] or [T, N, C, H, W]
    logits: Tensor  # [T, N, K]
    embeddings: Tensor  # [T, N, P], of length 1

    @property
    def time_steps(self) -> int:
        return len(self.logits)

    @property
    def layers(self) -> int:
        """The number of spiking layers."""
        return len(spiking_layers(self.network))

    @cached_property
    def means(self) -> Tensor:
        """The mean of the first t steps' logits, which the answer after t steps follows from: [T, N, K]."""
        return torch.from_numpy(mean_logits(self.logits.numpy()))

    @cached_property
    def right(self) -> Tensor:
        """Whether the answer after t steps is right: bool [T, N]."""
        return self.means.argmax(-1) == self.samples.labels

    @cached_property
    def stops(self) -> dict[str, np.ndarray]:
        """The step, from 1, at which each of `STOPS` stops: [N] by its policy."""
        means = self.means.numpy()
        return {policy: stopping_steps(POLICIES[policy](means), at) for policy, at in STOPS.items()}

    def neighbours(self, sample: int, count: int = 6) -> list[int]:
        """Return the samples whose embeddings at step T are nearest to this sample's at step 1 (cosine)."""
        nearness = self.embeddings[-1] @ self.embeddings[0, sample]
        return nearness.topk(min(count, len(nearness))).indices.tolist()

    def trace(self, sample: int) -> Trace:
        """Return what the network does with a sample."""
        return trace(self.network, self.inputs[..., sample : sample + 1, :, :, :])


def load_models(table: pd.DataFrame) -> dict[str, list[Model]]:
    """Return the networks of a table of runs, by the title of their data, in the table's order.

    Runs without a network, and runs whose data are not there or others now, are left out with a message.
    Raises ValueError where no two networks of the same data are left.
    """
    found: dict[str, list[Model]] = {}
    samples: dict[str, Samples] = {}
    left_out: Counter[str] = Counter()  # why -> runs
    for row in table.itertuples():
        run = load_run(row.path)
        if not any((run.path / name).exists() for name in (layout.CHECKPOINT, layout.WEIGHTS)):
            left_out[f"neither {layout.WEIGHTS} nor {layout.CHECKPOINT}"] += 1
            continue
        try:
            network = load_network(run)
            data = data_of(run)
            title = f"{data_title(row.data)}, T = {run.config.time_steps}"
            if title not in samples:
                samples[title] = _samples(data)
            found.setdefault(title, []).append(_model(run, network, data, samples[title], row.variant))
        except (FileNotFoundError, ValueError) as error:
            left_out[str(error)] += 1
    for why, count in left_out.items():
        log.info("left out %d run(s): %s", count, why)
    found = {title: models for title, models in found.items() if len(models) > 1}
    if not found:
        raise ValueError(
            "no two runs of the same data have a network to show: train some with train.ipynb, or"
            " choose others with select"
        )
    return found


def _samples(data: Data) -> Samples:
    test = data.test
    numbers = torch.arange(len(test))
    if len(test) > MOST_SAMPLES:
        numbers = stratified_order(test.labels, seed=0)[:MOST_SAMPLES].sort().values
    return Samples(data.pictures(test[numbers]), test.labels[numbers], numbers, data.classes)


@torch.no_grad()
def _model(run: Run, network: SpikingNetwork, data: Data, samples: Samples, variant: str) -> Model:
    inputs = data.inputs(data.test[samples.numbers])
    outputs = [network(part) for part in inputs.split(BATCH, dim=-4)]
    logits = torch.cat([output.logits for output in outputs], dim=1)
    embeddings = torch.cat([output.embeddings for output in outputs], dim=1)
    name = f"{variant}, seed {run.config.seed}"
    return Model(run, name, network, samples, inputs, logits, F.normalize(embeddings, dim=-1))
