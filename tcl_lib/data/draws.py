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

    def squares(self, height: int, width: int, side: Tensor | int, centre: int = 0) -> Tensor:
        """Return masks with a square each, at a random place and partly outside: bool [rows, H, W].

        Args:
            side: of all squares, or of each, int64 [rows, 1].
            centre: which of its rows and columns is placed inside the image: 0 for the first.
        """

        def covered(size: int) -> Tensor:
            first = self.integers(0, size, 1) - centre
            index = torch.arange(size)
            return (index >= first) & (index < first + side)

        return covered(height)[:, :, None] & covered(width)[:, None, :]
