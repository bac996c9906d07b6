"""What every dataset is made of: samples, their classes, and three disjoint parts.

Shapes: N samples, B batch, V views, C channels, H x W pixels.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from tcl_lib.config import RunConfig


@dataclass(frozen=True)
class Split:
    """Samples and their classes: some of those that are stored, read when they are asked for."""

    stored: Tensor  # [all, ...], in memory or mapped from a file
    indices: Tensor  # int64 [N], which of them
    labels: Tensor  # int64 [N]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """The chosen samples as they are stored, copied."""
        return self.stored[self.indices[chosen]]

    def take(self, chosen: Tensor) -> "Split":
        """The part of this one with the chosen samples."""
        return Split(self.stored, self.indices[chosen], self.labels[chosen])


@dataclass(frozen=True)
class Data(ABC):
    """A dataset as a run sees it."""

    train: Split
    validation: Split
    test: Split
    classes: list[str]

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of what a network sees at a time step."""

    @abstractmethod
    def inputs(self, stored: Tensor) -> Tensor:
        """What a network sees of B stored samples, not augmented: float [..., B, C, H, W]."""

    @abstractmethod
    def views(self, stored: Tensor, config: RunConfig, generator: Generator) -> Tensor:
        """The same of augmented views, as a run's parameters have them: float [..., V*B, C, H, W]."""

    @abstractmethod
    def preview(self, config: RunConfig) -> tuple[np.ndarray, list[str]]:
        """The first training samples and their views: uint8 [rows, columns, C, H, W], the rows' names."""


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """A shuffle in which every stretch holds the classes in proportion: labels [N] -> indices [N].

    The j-th of a class's n members stands at the share (j + 1/2) / n of the way (Sainte-Lague).
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members)) + 0.5).double() / len(members)
    return shuffled[place[shuffled].argsort(stable=True)]
