"""Base classes of all datasets: samples with labels, in three disjoint parts.

Shapes: N samples, B batch, V views, C channels, H x W pixels.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from tcl_lib.config import RunConfig
from tcl_lib.data.draws import Draws


@dataclass(frozen=True)
class Split:
    """A subset of the stored samples with its labels; samples are read when they are indexed."""

    stored: Tensor  # [all, ...], in memory or mapped from a file
    indices: Tensor  # int64 [N], the samples of this subset
    labels: Tensor  # int64 [N]
    hashes: Tensor | None = None  # uint8 [all, bytes], of each sample's content; None where it is in memory

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, chosen: Tensor | slice) -> Tensor:
        """Return a copy of the chosen samples as they are stored."""
        return self.stored[self.indices[chosen]]

    def take(self, chosen: Tensor) -> "Split":
        """Return the subset with the chosen samples."""
        return replace(self, indices=self.indices[chosen], labels=self.labels[chosen])

    @property
    def content(self) -> Tensor:
        """What stands for the content of the samples: their hashes, or the samples themselves."""
        return (self.stored if self.hashes is None else self.hashes)[self.indices]


@dataclass(frozen=True)
class Data(ABC):
    """The dataset of a run."""

    train: Split
    validation: Split
    test: Split
    classes: list[str]

    def __str__(self) -> str:
        sizes = [f"{name} {len(getattr(self, name)):,}" for name in ("train", "validation", "test")]
        shape = f"the network's input is {self.input_shape} at each time step"
        return f"samples: {', '.join(sizes)}; {len(self.classes)} classes; {shape}"

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """A hash of each part: its samples, their labels and order, and the names of all classes.

        It is the same on every machine, wherever the files lie: {"train": 16 hexadecimal digits, ...}.
        """
        return {name: self._digest(getattr(self, name)) for name in ("train", "validation", "test")}

    def _digest(self, part: Split) -> str:
        facts = json.dumps([self.classes, part.stored.shape[-3:]])  # [C, H, W], of images and of frames
        digest = hashlib.sha256(facts.encode())
        digest.update(part.labels.numpy().astype("<i8"))
        digest.update(part.content.numpy())
        return digest.hexdigest()[:16]

    @property
    @abstractmethod
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of the network's input at one time step."""

    @abstractmethod
    def inputs(self, stored: Tensor) -> Tensor:
        """Return the network's input for B stored samples without augmentation: float [..., B, C, H, W]."""

    @abstractmethod
    def views(self, stored: Tensor, config: RunConfig, draws: Draws) -> Tensor:
        """Return the network's input for augmented views of the samples: float [..., V*B, C, H, W]."""

    @abstractmethod
    def pictures(self, stored: Tensor) -> np.ndarray:
        """Return B stored samples for the eye: uint8 [B, T, C, H, W], T = 1 for images, C = 1 or 3."""

    @abstractmethod
    def preview(self, config: RunConfig) -> tuple[np.ndarray, list[str]]:
        """Return pictures of the first training samples and their views: uint8 [rows, columns, C, H, W], and
        the names of the rows.
        """


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """Return a random order in which every section has the class proportions: labels [N] -> indices [N].

    The j-th of the n members of a class is placed at the fraction (j + 1/2) / n (Sainte-Lague).
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members)) + 0.5).double() / len(members)
    return shuffled[place[shuffled].argsort(stable=True)]
