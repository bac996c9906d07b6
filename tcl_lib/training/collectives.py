"""Tensors exchanged between processes, with gradients.

The gradient is that of the sum of what all processes compute from the result: each sends the gradient of its
own to all others.
"""

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def summed(values: Tensor) -> Tensor:
    """Return the sum over the processes: [...] -> [...], the same in all of them."""
    return _Sum.apply(values)


def gathered(values: Tensor) -> Tensor:
    """Return the values of all N processes, which have the same shape: [...] -> [N, ...]."""
    return _Gather.apply(values)


class _Sum(Function):
    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(context, gradient: Tensor) -> Tensor:
        return _Sum.forward(None, gradient)


class _Gather(Function):
    @staticmethod
    def forward(context, values: Tensor) -> Tensor:
        values = values.contiguous()
        parts = [torch.empty_like(values) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, values)
        return torch.stack(parts)

    @staticmethod
    @once_differentiable
    def backward(context, gradient: Tensor) -> Tensor:
        return _Sum.forward(None, gradient)[distributed.get_rank()]
