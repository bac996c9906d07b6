"""Losses and accuracies of an epoch's steps, summed on the device: no step waits for a number to be read."""

import torch
from torch import Tensor


class Sums:
    """Sums over steps of some numbers, of which the first is the loss; they start from `sums`.

    The first loss that is not finite is kept with its step, and the last one before it.
    """

    def __init__(self, sums: dict[str, float], last_loss: float | None, device: torch.device):
        if device.type == "mps":  # has no float64, in which the sums are those of Python
            device = torch.device("cpu")
        self._names, self._device = list(sums), device
        self._sums = self._tensor(list(sums.values()))
        self._last = self._tensor(torch.nan if last_loss is None else last_loss)
        self._failed, self._step = self._tensor(0.0), self._tensor(0.0)  # a loss and its step; none yet

    def _tensor(self, values: list[float] | float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self._device)

    def add(self, numbers: dict[str, Tensor], step: int) -> None:
        """Add the numbers of a step, counted from 1, the loss first."""
        values = torch.stack(list(numbers.values())).detach().to(self._device, torch.float64)
        self._sums = self._sums + values if self._names else values
        self._names = list(numbers)
        loss, fine = values[0], values[0].isfinite()
        new = ~fine & (self._step == 0)
        self._failed = torch.where(new, loss, self._failed)
        self._step = torch.where(new, float(step), self._step)
        self._last = torch.where(fine & (self._step == 0), loss, self._last)

    def read(self) -> tuple[dict[str, float], float | None, tuple[int, float] | None]:
        """Return the sums, the last finite loss, and the step and value of the first that was not finite."""
        *sums, last, step, failed = torch.cat(
            [self._sums, torch.stack([self._last, self._step, self._failed])]
        ).tolist()
        return (
            dict(zip(self._names, sums, strict=True)),
            None if last != last else last,
            (int(step), failed) if step else None,
        )
