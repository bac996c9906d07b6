"""Leaky integrate-and-fire (LIF) neurons over a sequence of time steps: Norse's step in a loop.

Shapes: T time steps, B batch. The state starts at rest in every call and is not kept.

`step_by_step` is the reference: a functional step of Norse (https://github.com/norse/norse) in a loop. The
neurons of the study run the same loop with a hand-written gradient that needs less memory (`spikes`), or
compiled into one pass over memory (`fused.py`).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, lif_feed_forward_step
from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tcl_lib.fused import Constants, LIFFunction

# Share of the synaptic current lost in a step: Norse's default, tau_syn = 5 ms at steps of 1 ms.
SYNAPTIC_LEAK = 0.2


class Neuron(NamedTuple):
    """A neuron of Norse: a feed-forward step, its parameters, and the state it starts in.

    Example: `Neuron(lif_adex_feed_forward_step, LIFAdExParameters(method="triangle", alpha=1.0),
    LIFAdExFeedForwardState(*torch.zeros(3)))` from `norse.torch.functional.lif_adex`.
    """

    step: Callable  # (input, state, parameters, dt) -> (spikes, state)
    parameters: NamedTuple
    rest: NamedTuple  # the state before the first step, of 0-d tensors
    dt: float = 0.001  # seconds
    gain: float = 1.0  # what the step multiplies its input by; `step_by_step` divides by it
    fused: Constants | None = None  # constants of the same neuron in `fused.py`


# Hard reset to 0; surrogate gradient alpha * max(0, 1 - |v - v_th|), where Norse's default alpha is 100.
_SHARED = {"v_leak": 0.0, "v_reset": 0.0, "method": "triangle", "alpha": 1.0}


def lif_box_neuron(decay: float = 0.5, v_th: float = 1.0) -> Neuron:
    """Return the LIF neuron of this literature: membrane only, hard reset to 0.

        v[t] = decay * v[t-1] * (1 - s[t-1]) + current[t];   s[t] = 1 if v[t] > v_th else 0

    The gradient through the reset is kept (TET: Deng et al. 2022, arXiv 2202.11946). The step is Norse's
    `lif_box_feed_forward_step`; it multiplies its input by dt * tau_mem_inv = 1 - decay, which `gain` undoes.

    Args:
        decay: share of the membrane potential left after a step, in [0, 1).
        v_th: firing threshold, > 0, in units of the current.

    Raises ValueError for a decay or threshold out of range.
    """
    leak = _leak(decay, v_th)
    parameters = LIFBoxParameters(tau_mem_inv=leak, v_th=v_th, **_SHARED)
    rest = LIFBoxFeedForwardState(v=torch.tensor(0.0))
    return Neuron(lif_box_feed_forward_step, parameters, rest, 1.0, leak, Constants(leak, v_th))


def lif_neuron(decay: float = 0.5, v_th: float = 1.0) -> Neuron:
    """Return Norse's two-state LIF: the input charges a synaptic current, which charges the membrane.

        j[t] = i[t-1] + current[t];   v[t] = decay * v[t-1] * (1 - s[t-1]) + j[t];   i[t] = 0.8 * j[t]

    The step is Norse's `lif_feed_forward_step`. Arguments and errors as in `lif_box_neuron`.
    """
    leak = _leak(decay, v_th)
    parameters = LIFParameters(tau_syn_inv=SYNAPTIC_LEAK, tau_mem_inv=leak, v_th=v_th, **_SHARED)
    rest = LIFFeedForwardState(v=torch.tensor(0.0), i=torch.tensor(0.0))
    constants = Constants(leak, v_th, SYNAPTIC_LEAK)
    return Neuron(lif_feed_forward_step, parameters, rest, 1.0, leak, constants)


def _leak(decay: float, v_th: float) -> float:
    """Return dt * tau_mem_inv of a decay."""
    if not 0 <= decay < 1:
        raise ValueError(f"decay={decay}: must be a number >= 0 and < 1")
    if not v_th > 0:
        raise ValueError(f"v_th={v_th}: must be a number > 0")
    return 1.0 - decay


NEURONS = {"lif_box": lif_box_neuron, "lif": lif_neuron}


def step_by_step(neuron: Neuron, current: Tensor, time_steps: int | None = None) -> Tensor:
    """Run a neuron step by step, with autograd's own gradient.

    Args:
        neuron: any feed-forward step of Norse with its parameters.
        current: [T, B, ...] input current, or [1, B, ...] for the same at every one of `time_steps` steps.
        time_steps: T; the current's own by default.

    Returns: [T, B, ...] spikes in the current's precision. The state is float32 at least. Raises ValueError
    for a T that does not fit the current.
    """
    steps = _steps(current, time_steps)
    state, spikes = neuron.rest, []
    for x in current if len(current) == steps else steps * [current[0]]:
        z, state = one_step(neuron, x, state)
        spikes.append(z)
    return torch.stack(spikes)


def one_step(neuron: Neuron, current: Tensor, state: NamedTuple) -> tuple[Tensor, NamedTuple]:
    """Return a step's spikes and the state after it: [B, ...] current -> [B, ...], each part [B, ...]."""
    dtype = torch.promote_types(current.dtype, torch.float32)
    spikes, state = neuron.step(current.to(dtype) / neuron.gain, state, neuron.parameters, neuron.dt)
    # of some neurons, the first spikes and states have the shape of the state at rest
    return spikes.to(current.dtype).expand_as(current), tree_map(lambda x: x.expand_as(current), state)


def _steps(current: Tensor, time_steps: int | None) -> int:
    steps = len(current) if time_steps is None else time_steps
    if steps < 1 or len(current) not in (1, steps):
        raise ValueError(f"time_steps={time_steps}: must be >= 1; the current has {len(current)} steps")
    return steps


def spikes(neuron: Neuron, current: Tensor, time_steps: int | None = None, compiled: bool = False) -> Tensor:
    """Return what `step_by_step` returns, with less memory where the neuron has a fused form.

    `compiled` also fuses the computation into one pass over memory; it needs a compiler.
    """
    if neuron.fused is None:
        return step_by_step(neuron, current, time_steps)
    steps = _steps(current, time_steps)
    # Autograd through Norse's steps keeps about ten tensors per step. The hand-written gradient keeps the
    # current alone and equals autograd's within rounding.
    return LIFFunction.apply(current, steps, neuron.fused, compiled)


def lif(current: Tensor, decay: float = 0.5, v_th: float = 1.0, **options) -> Tensor:
    """Return the `spikes` of `lif_box_neuron(decay, v_th)`: [T, B, ...] current -> [T, B, ...]."""
    return spikes(lif_box_neuron(decay, v_th), current, **options)


def lif_synaptic(current: Tensor, decay: float = 0.5, v_th: float = 1.0, **options) -> Tensor:
    """Return the `spikes` of `lif_neuron(decay, v_th)`: [T, B, ...] current -> [T, B, ...]."""
    return spikes(lif_neuron(decay, v_th), current, **options)


class Spiking(nn.Module):
    """A layer of neurons without parameters: [T, B, ...] current -> [T, B, ...] spikes.

    It is a module so that a forward hook can read the layer's spikes.
    """

    def __init__(self, neuron: Neuron):
        super().__init__()
        self.neuron = neuron
        self.compiled = False

    def forward(self, current: Tensor, time_steps: int | None = None) -> Tensor:
        """`time_steps` is T of a current that is the same at every step, [1, B, ...]."""
        return spikes(self.neuron, current, time_steps, self.compiled)

    def extra_repr(self) -> str:
        return f"{self.neuron.step.__name__}, {self.neuron.parameters}"


def spiking_layers(network: nn.Module) -> list[Spiking]:
    """Return the spiking layers of a network in order of depth."""
    return [module for module in network.modules() if isinstance(module, Spiking)]
