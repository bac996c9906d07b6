"""Random draws for the samples of a batch, the same for a sample whichever process holds it."""

import torch
from torch import Generator, Tensor


class Draws:
    """Draws numbers for every sample of a batch from a CPU generator; gives out those of `rows`.

    A process that holds a part of a batch draws for all of it, so that the samples are augmented in the same
    way whatever the number of processes.
    """

    def __init__(self, generator: Generator, batch: int, rows: slice = slice(None)):
        self.generator, self.batch, self.rows = generator, batch, rows

    def integers(self, low: int, high: int, *shape: int) -> Tensor:
        """Return whole numbers from low to high - 1: int64 [rows, *shape]."""
        return torch.randint(low, high, (self.batch, *shape), generator=self.generator)[self.rows]

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1): float [rows, *shape]."""
        return torch.rand(self.batch, *shape, generator=self.generator)[self.rows]
