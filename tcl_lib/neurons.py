"""Leaky integrate-and-fire neurons over a sequence of time steps: Norse's functional steps.

Shapes: T time steps, B batch. Every function takes and returns [T, B, ...]; the state starts at rest in
every call and is not kept. The membrane potential has the input's precision: bfloat16 inside autocast.
"""

import torch
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, lif_feed_forward_step
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

# Norse's default synapse: tau_syn = 5 ms at steps of 1 ms.
SYNAPTIC_LEAK = 0.2


def lif(current: Tensor, decay: float = 0.5, v_th: float = 1.0) -> Tensor:
    """Spikes of the LIF neuron of this literature: membrane only, hard reset to 0.

        v[t] = decay * v[t-1] * (1 - s[t-1]) + current[t];   s[t] = 1 if v[t] > v_th else 0

    The surrogate gradient is the triangle max(0, 1 - |v - v_th|), and the gradient through the reset is
    kept (TET: Deng et al. 2022, arXiv 2202.11946). It is Norse's LIF box (`lif_box_feed_forward_step`), its
    spikes to the bit, with its two traps disarmed: Norse scales the input by dt * tau_mem_inv = 1 - decay,
    undone here, and multiplies the triangle by alpha = 100. The gradient is written out, so that of all the
    steps nothing but the membrane potentials is kept for it.

    Args:
        current: [T, B, ...] input current, in units of the threshold's scale.
        decay: share of the membrane potential left after a step, in [0, 1).
        v_th: firing threshold, > 0.

    Returns: [T, B, ...] spikes, 0 or 1. Raises ValueError for a decay or threshold out of range.
    """
    return _Lif.apply(current, _leak(decay, v_th), v_th)


class _Lif(torch.autograd.Function):
    """`lif` and its gradient."""

    @staticmethod
    def forward(ctx, current: Tensor, leak: float, v_th: float) -> Tensor:
        potentials, spikes = _empty_like(current), _empty_like(current)
        v = torch.zeros_like(current[0])
        for x, potential, spike in zip(current, potentials, spikes, strict=True):
            torch.add(v, (x / leak).sub_(v).mul_(leak), out=potential)  # in the order of Norse's step
            torch.gt(potential, v_th, out=spike)
            v = potential.masked_fill(spike.bool(), 0)
        ctx.save_for_backward(potentials)
        ctx.leak, ctx.v_th = leak, v_th
        return spikes

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor):
        """With the triangle s'[t] = max(0, 1 - |v[t] - v_th|), from the last step to the first:

        dv[t] = ds[t] * s'[t] + dv[t+1] * decay * (1 - s[t] - v[t] * s'[t]);   dcurrent[t] = dv[t]
        """
        (potentials,) = ctx.saved_tensors
        result = _empty_like(potentials)
        later = None
        for t in reversed(range(len(potentials))):
            v, out = potentials[t], result[t]
            triangle = (v - ctx.v_th).abs_().neg_().add_(1).clamp_(min=0)
            torch.mul(gradient[t], triangle, out=out)
            if later is not None:
                kept = triangle.mul_(v).neg_().add_(v <= ctx.v_th)
                out.addcmul_(later, kept, value=1 - ctx.leak)
            later = out
        return result, None, None


def _empty_like(current: Tensor) -> Tensor:
    """Uninitialised [T, B, ...], every step in the memory layout (channels last) of the current's."""
    step = torch.empty_like(current[0], device="meta")
    return current.new_empty_strided((len(current), *step.shape), (step.numel(), *step.stride()))


def lif_synaptic(current: Tensor, decay: float = 0.5, v_th: float = 1.0) -> Tensor:
    """Spikes of Norse's two-state LIF: the input charges a synaptic current, which charges the membrane.

        i = i[t-1] + current[t];   v[t] = decay * v[t-1] * (1 - s[t-1]) + i;   i[t] = 0.8 * i

    Args and returns as `lif`; the synaptic current loses 0.2 of itself a step (Norse's default).
    """
    leak = _leak(decay, v_th)
    p = LIFParameters(tau_syn_inv=SYNAPTIC_LEAK, tau_mem_inv=leak, v_th=v_th, method="triangle", alpha=1.0)
    rest = torch.zeros_like(current[0])
    state = LIFFeedForwardState(v=rest, i=rest)
    return _integrate(lif_feed_forward_step, current / leak, state, p)


def _leak(decay: float, v_th: float) -> float:
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay}: must be a number >= 0 and < 1")
    if not v_th > 0:
        raise ValueError(f"v_th={v_th}: must be a number > 0")
    return 1.0 - decay


def _integrate(step, current: Tensor, state, p) -> Tensor:
    spikes = []
    for step_current in current:
        spike, state = step(step_current, state, p, dt=1.0)
        spikes.append(spike)
    # cat, not stack: it keeps the memory layout (channels last) of the steps
    return torch.cat(spikes).unflatten(0, current.shape[:2])  # [T, B, ...]


NEURONS = {"lif_box": lif, "lif": lif_synaptic}


class Spiking(nn.Module):
    """A layer of neurons without parameters: [T, B, ...] current -> [T, B, ...] spikes.

    A module and not a function so that a forward hook can read a layer's spikes by its name.
    """

    def __init__(self, neuron: str = "lif_box", decay: float = 0.5, v_th: float = 1.0):
        super().__init__()
        self.neuron, self.decay, self.v_th = neuron, decay, v_th

    def forward(self, current: Tensor) -> Tensor:
        return NEURONS[self.neuron](current, self.decay, self.v_th)

    def extra_repr(self) -> str:
        return f"{self.neuron}, decay={self.decay}, v_th={self.v_th}"
