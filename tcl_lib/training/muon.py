"""Muon: steps along orthogonal matrices (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon/)."""

import torch
from torch import Tensor


class Muon(torch.optim.SGD):
    """SGD with Nesterov momentum; groups with `orthogonal=True` take Muon's steps, with a third of the rate.

    There the weight [C, ...] of a convolution is a matrix with C rows. It keeps the norm of an orthogonal
    matrix, as batch norm makes its scale meaningless.

    Args:
        dtype: number format in which steps are made orthogonal.
    """

    def __init__(self, groups: list[dict], lr: float, momentum: float, dtype: torch.dtype):
        super().__init__(groups, lr=lr, momentum=momentum, nesterov=momentum > 0)
        self.dtype = dtype

    @torch.no_grad()
    def step(self) -> None:
        """Take a step; groups with `orthogonal=True` have no gradients afterwards."""
        for group in self.param_groups:
            for weight in group["params"] if group.get("orthogonal") else []:
                if weight.grad is not None:
                    self._step(weight, group["lr"] / 3, group["momentum"])
                    weight.grad = None  # so that SGD leaves it alone
        super().step()

    def _step(self, weight: Tensor, lr: float, momentum: float) -> None:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        average = state["momentum_buffer"].mul_(momentum).add_(weight.grad)
        matrix = (weight.grad + momentum * average).flatten(1)
        direction = orthogonal(matrix.to(self.dtype)).to(weight.dtype)
        weight.mul_(min(matrix.shape) ** 0.5 / weight.norm())
        weight.sub_(lr * direction.view_as(weight))


def orthogonal(matrix: Tensor) -> Tensor:
    """Return a matrix with the same singular vectors and singular values near 1.

    Args:
        matrix: [M, N].

    Three Newton-Schulz iterations with the polynomial of Jordan et al. Singular values above 0.02 times the
    norm of the matrix become 0.68 to 1.21, and smaller ones grow by up to 41.
    """
    if len(matrix) > matrix.shape[1]:  # `square` is as small as it can be
        return orthogonal(matrix.T).T
    x = matrix / matrix.norm().clamp_min(1e-7)
    for _ in range(3):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x
