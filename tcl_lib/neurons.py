"""Leaky integrate-and-fire neurons over a sequence of time steps: Norse's steps, fused over time.

Shapes: T time steps, B batch, n neurons of a batch. The state starts at rest in every call and is not kept.
It is float32 (float64 for float64), whatever precision the current has: bfloat16 inside autocast.

A neuron sees nothing but its own current, so that all of a layer's are one long row, in the order in which
they lie in memory: [T, n]. `_kernels` are written for that row. Run as they are, they make a pass over memory
for every operation; compiled, on a CPU, one pass in all, to the same bits.
"""

import logging
import os
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from tcl_lib.config import CACHE

# What the synaptic current loses a step: Norse's default, tau_syn = 5 ms at steps of 1 ms.
SYNAPTIC_LEAK = 0.2


def lif(
    current: Tensor,
    decay: float = 0.5,
    v_th: float = 1.0,
    *,
    time_steps: int | None = None,
    compiled: bool = False,
) -> Tensor:
    """Spikes of the LIF neuron of this literature: membrane only, hard reset to 0.

        v[t] = decay * v[t-1] * (1 - s[t-1]) + current[t];   s[t] = 1 if v[t] > v_th else 0

    The surrogate gradient is the triangle max(0, 1 - |v - v_th|), and the gradient through the reset is
    kept (TET: Deng et al. 2022, arXiv 2202.11946). It is Norse's LIF box (`lif_box_feed_forward_step`), its
    spikes to the bit, with its two traps disarmed: Norse scales the input by dt * tau_mem_inv = 1 - decay,
    undone here, and multiplies the triangle by alpha = 100. Of all the steps nothing but the current is kept
    for the gradient, which computes the membrane potentials anew.

    Args:
        current: [T, B, ...] input current, in units of the threshold's scale; or [1, B, ...], the same at
            every one of `time_steps` steps.
        decay: share of the membrane potential left after a step, in [0, 1).
        v_th: firing threshold, > 0.
        time_steps: T; the current's own by default.
        compiled: fused into one pass over memory, see `compile_neurons`.

    Returns: [T, B, ...] spikes, 0 or 1. Raises ValueError for a decay or threshold out of range, and for a T
    that is not the current's.
    """
    return _neurons(current, decay, v_th, None, time_steps, compiled)


def lif_synaptic(
    current: Tensor,
    decay: float = 0.5,
    v_th: float = 1.0,
    *,
    time_steps: int | None = None,
    compiled: bool = False,
) -> Tensor:
    """Spikes of Norse's two-state LIF: the input charges a synaptic current, which charges the membrane.

        i = i[t-1] + current[t];   v[t] = decay * v[t-1] * (1 - s[t-1]) + i;   i[t] = 0.8 * i

    `lif_feed_forward_step` with the input scaled and alpha = 1, as in `lif`, whose arguments and results
    these are; the synaptic current loses 0.2 of itself a step (Norse's default).
    """
    return _neurons(current, decay, v_th, SYNAPTIC_LEAK, time_steps, compiled)


def _neurons(
    current: Tensor,
    decay: float,
    v_th: float,
    synaptic_leak: float | None,
    time_steps: int | None,
    compiled: bool,
) -> Tensor:
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay}: must be a number >= 0 and < 1")
    if not v_th > 0:
        raise ValueError(f"v_th={v_th}: must be a number > 0")
    steps = len(current) if time_steps is None else time_steps
    if steps < 1 or len(current) not in (1, steps):
        raise ValueError(f"time_steps={time_steps}: must be >= 1; the current has {len(current)} steps")
    return _Lif.apply(current, (steps, 1.0 - decay, synaptic_leak, v_th), compiled)


class _Lif(torch.autograd.Function):
    """The spikes of a layer, and their gradient."""

    @staticmethod
    def forward(ctx, current: Tensor, constants: tuple, compiled: bool) -> Tensor:
        spikes, ctx.gradient = (_compiled if compiled else _kernels)(*constants)
        row, ctx.shape, ctx.order = _as_row(current)
        ctx.save_for_backward(row)
        return _from_row(spikes(row), ctx.shape, ctx.order)

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        (row,) = ctx.saved_tensors
        upstream = upstream.permute(ctx.order).reshape(len(upstream), -1)  # copied only if it lies otherwise
        return _from_row(ctx.gradient(row, upstream), ctx.shape, ctx.order), None, None


def _as_row(current: Tensor) -> tuple[Tensor, torch.Size, list[int]]:
    """[T, B, ...] as [T, n] in the order of memory; a step's shape; the dimensions in that order."""
    order = [0, *sorted(range(1, current.dim()), key=current.stride, reverse=True)]
    return current.permute(order).reshape(len(current), -1), current.shape[1:], order


def _from_row(row: Tensor, shape: torch.Size, order: list[int]) -> Tensor:
    """[T, n] as [T, B, ...] with steps of that shape, in the same memory."""
    shape = (len(row), *shape)
    back = sorted(range(len(order)), key=order.__getitem__)
    return row.view([shape[d] for d in order]).permute(back)


def _kernels(
    steps: int, leak: float, synaptic_leak: float | None, v_th: float
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """Of [T, n]: current -> spikes, and current, gradient of the spikes -> gradient of the current.

    The current is [T, n], or [1, n] and the same at every step; so is its gradient, then summed over them.
    """

    def membrane(current: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Of every step the potential before its reset, and whether it fires: Norse's step by step."""
        v = torch.zeros_like(current[0], dtype=torch.promote_types(current.dtype, torch.float32))
        kept = None  # of the synaptic current
        result = []
        for x in current if len(current) == steps else steps * [current[0]]:
            i = x.to(v.dtype) / leak
            if synaptic_leak is not None:
                i = i if kept is None else kept + i
                kept = i - synaptic_leak * i
            v = v + leak * (i - v)
            fires = v > v_th
            result.append((v, fires))
            v = torch.where(fires, 0.0, v)
        return result

    def spikes(current: Tensor) -> Tensor:
        return torch.stack([torch.where(fires, 1.0, 0.0).to(current.dtype) for _, fires in membrane(current)])

    def gradient(current: Tensor, upstream: Tensor) -> Tensor:
        """With the triangle s'[t] = max(0, 1 - |v[t] - v_th|), from the last step to the first:

        dv[t] = ds[t] * s'[t] + dv[t+1] * decay * (1 - s[t] - v[t] * s'[t])
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
def _compiled(
    steps: int, leak: float, synaptic_leak: float | None, v_th: float
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]:
    """The same, each fused into one pass over memory when it is first called."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(CACHE / "compiled"))
    # its warning that there is a CUDA compiler and no GPU
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    # every T, precision, decay and threshold is a variant of the same two functions: torch gives up at eight
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        setattr(torch._dynamo.config, limit, max(4096, getattr(torch._dynamo.config, limit)))
    spikes, gradient = _kernels(steps, leak, synaptic_leak, v_th)
    return tuple(torch.compile(kernel, dynamic=True, fullgraph=True) for kernel in (spikes, gradient))


NEURONS = {"lif_box": lif, "lif": lif_synaptic}


class Spiking(nn.Module):
    """A layer of neurons without parameters: [T, B, ...] current -> [T, B, ...] spikes.

    A module and not a function so that a forward hook can read a layer's spikes by its name.
    """

    def __init__(self, neuron: str = "lif_box", decay: float = 0.5, v_th: float = 1.0):
        super().__init__()
        self.neuron, self.decay, self.v_th = neuron, decay, v_th
        self.compiled = False  # see `compile_neurons`

    def forward(self, current: Tensor, time_steps: int | None = None) -> Tensor:
        """`time_steps`: T of a current that is the same at every step, [1, B, ...]."""
        neurons = NEURONS[self.neuron]
        return neurons(current, self.decay, self.v_th, time_steps=time_steps, compiled=self.compiled)

    def extra_repr(self) -> str:
        return f"{self.neuron}, decay={self.decay}, v_th={self.v_th}"


def compile_neurons(network: nn.Module, device: torch.device | str = "cpu") -> str | None:
    """Have all spiking layers of a network run compiled from now on; None, or why they cannot.

    The first batch of every T and precision then waits for the compiler, seconds to minutes, unless its work
    lies in `data/cache/compiled` from before. Where no compiler is found the network is left as it was, and
    the answer says in one line what is missing.
    """
    try:
        current = torch.ones(1, 1, 2, device=device, requires_grad=True)
        lif(current, compiled=True).sum().backward()
    except Exception as error:  # of whatever stands between torch and a compiler on this machine
        return " ".join([type(error).__name__, *str(error).split("\n")[:1]])
    for module in network.modules():
        if isinstance(module, Spiking):
            module.compiled = True
    return None
