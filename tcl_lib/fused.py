"""Norse's LIF equations for all time steps at once, in a form that torch.compile fuses into one pass.

`neurons.py` has the definition. This file computes the same spikes to the bit; compiled for a GPU,
rounding may differ.

A neuron sees only its own current, so all neurons of a layer form one row in the order of memory: [T, n].
The state is float32 (float64 for float64) whatever precision the current has: bfloat16 inside autocast.
"""

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class Constants(NamedTuple):
    """The constants of a LIF neuron with a hard reset to 0 and a triangular surrogate gradient."""

    leak: float  # share of the membrane potential lost in a step: dt * tau_mem_inv
    v_th: float  # firing threshold
    synaptic_leak: float | None = None  # share of the synaptic current lost in a step; None without one


Kernels = tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]


class LIFFunction(torch.autograd.Function):
    """Spikes of a layer, [T or 1, B, ...] -> [T, B, ...]. Only the current is kept for the gradient."""

    @staticmethod
    def forward(ctx, current: Tensor, steps: int, constants: Constants, compiled: bool) -> Tensor:
        spikes, ctx.gradient = (_compiled if compiled else kernels)(steps, constants)
        row, ctx.shape, ctx.order = _as_row(current)
        ctx.save_for_backward(row)
        return _from_row(spikes(row), ctx.shape, ctx.order)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        (row,) = ctx.saved_tensors
        # copied if its memory layout differs
        upstream = upstream.permute(ctx.order).reshape(len(upstream), -1)
        return _from_row(ctx.gradient(row, upstream), ctx.shape, ctx.order), None, None, None


def _as_row(current: Tensor) -> tuple[Tensor, torch.Size, list[int]]:
    """Return [T, B, ...] as [T, n] in the order of memory, a step's shape, and the dimensions' order."""
    order = [0, *sorted(range(1, current.dim()), key=current.stride, reverse=True)]
    return current.permute(order).reshape(len(current), -1), current.shape[1:], order


def _from_row(row: Tensor, shape: torch.Size, order: list[int]) -> Tensor:
    """Return [T, n] as [T, B, ...] with steps of that shape, in the same memory."""
    shape = (len(row), *shape)
    back = sorted(range(len(order)), key=order.__getitem__)
    return row.view([shape[d] for d in order]).permute(back)


def kernels(steps: int, constants: Constants) -> Kernels:
    """Return two functions of rows: current -> spikes; current, gradient of the spikes -> its gradient.

    The current is [T, n], or [1, n] for the same at every step; then its gradient is summed over the steps.
    """
    leak, v_th, synaptic_leak = constants

    def membrane(current: Tensor, keep_v: bool = True) -> list[tuple[Tensor | None, Tensor]]:
        """Return for every step the potential before the reset, if kept, and whether the neuron fires."""
        v = torch.zeros_like(current[0], dtype=torch.promote_types(current.dtype, torch.float32))
        kept = None  # what is left of the synaptic current
        result = []
        for x in current if len(current) == steps else steps * [current[0]]:
            i = x.to(v.dtype) / leak
            if synaptic_leak is not None:
                i = i if kept is None else kept + i
                kept = i - synaptic_leak * i
            v = v + leak * (i - v)
            fires = v > v_th
            result.append((v if keep_v else None, fires))
            v = torch.where(fires, 0.0, v)
        return result

    def spikes(current: Tensor) -> Tensor:
        found = membrane(current, keep_v=False)
        return torch.stack([torch.where(fires, 1.0, 0.0).to(current.dtype) for _, fires in found])

    def gradient(current: Tensor, upstream: Tensor) -> Tensor:
        """With the triangle s'[t] = max(0, 1 - |v[t] - v_th|), from the last step to the first:

        dv[t] = ds[t] * s'[t] + dv[t+1] * (1 - leak) * (1 - s[t] - v[t] * s'[t])
        dcurrent[t] = dv[t] + dcurrent[t+1] * (1 - synaptic_leak)
        """
        dv = di = 0.0
        result = []
        for (v, fires), ds in reversed(list(zip(membrane(current), upstream, strict=True))):
            triangle = (1 - (v - v_th).abs()).clamp(min=0)
            carried = (1 - leak) * (torch.where(fires, 0.0, 1.0) - v * triangle)
            dv = ds.to(v.dtype) * triangle + dv * carried
            di = dv if synaptic_leak is None else dv + di * (1 - synaptic_leak)
            result.insert(0, di)
        if len(current) < steps:
            result = [sum(result)]
        return torch.stack([di.to(current.dtype) for di in result])

    return spikes, gradient


@lru_cache
def _compiled(steps: int, constants: Constants) -> Kernels:
    """Return `kernels`, each compiled when it is first called."""
    # torch warns where there is a CUDA compiler and no GPU
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # Every T, precision, decay and threshold recompiles the same two functions; torch's default limit is 8.
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        setattr(torch._dynamo.config, limit, max(4096, getattr(torch._dynamo.config, limit)))
    return tuple(torch.compile(kernel, dynamic=True, fullgraph=True) for kernel in kernels(steps, constants))
