"""`StepwiseNetwork`: a trained network that takes one time step at a call and hands its state back.

Shapes: B batch, K classes.
"""

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from tcl_lib.backbones import SpikingNetwork
from tcl_lib.neurons import Neuron, Spiking, one_step


class State(NamedTuple):
    """What a network keeps between two steps: the batch is the first dimension of each tensor."""

    current: Tensor  # [B, ...], the stem's output, which is the same at every step of an image
    neurons: list[Tensor]  # [B, ...] each, of the spiking layers in the order in which they are run

    def take(self, chosen: Tensor) -> "State":
        """Return the state of the chosen samples: a mask bool [B], or indices."""
        return State(self.current[chosen], [part[chosen] for part in self.neurons])


def check_network(network: SpikingNetwork) -> None:
    """Raise ValueError for anything but a `SpikingNetwork`."""
    if not isinstance(network, SpikingNetwork):
        raise ValueError(
            f"network: must be a SpikingNetwork, as load_network returns it, got a {type(network).__name__}"
        )


class StepwiseNetwork(nn.Module):
    """A network for inference, one time step at a call; its logits equal those of the whole sequence.

    It shares the weights of the network, is in evaluation mode and computes no gradients.

        stepwise = StepwiseNetwork(network)
        logits, state = stepwise(images)  # the first step
        undecided = logits.softmax(-1).amax(-1) < 0.9
        logits, state = stepwise(None, state.take(undecided))  # the next, for the samples that are left

    Raises ValueError for another kind of network.
    """

    def __init__(self, network: SpikingNetwork):
        super().__init__()
        check_network(network)
        shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
        self.network = copy.deepcopy(network, shared)
        self._memory = _Memory()
        for parent in list(self.network.modules()):
            for name, layer in parent._modules.items():  # one layer may have two names
                if isinstance(layer, Spiking):
                    setattr(parent, name, _Stepping(layer.neuron, self._memory))
        self.eval()

    @torch.no_grad()
    def forward(self, frame: Tensor | None, state: State | None = None) -> tuple[Tensor, State]:
        """Run one time step.

        Args:
            frame: float [B, C, H, W], an image or the frame of this step; None for the image of the step
                before, whose stem is not computed again.
            state: after the step before, None for the first step.

        Returns: the step's own logits [B, K], and the state. Raises ValueError for another shape, and for a
        state of other samples.
        """
        if frame is None:
            if state is None:
                raise ValueError("frame=None: the first step needs an image")
            current = state.current
        else:
            shape = self.network.input_shape
            if frame.dim() != 4 or tuple(frame.shape[1:]) != shape:
                raise ValueError(
                    f"frame of shape {list(frame.shape)}: must be [B, {', '.join(map(str, shape))}]"
                )
            current = self.network.stem(frame[None])[0]
            if state is not None and state.current.shape[0] != frame.shape[0]:
                raise ValueError(f"frame of {len(frame)} samples: the state is of {len(state.current)}")
        self._memory.before = None if state is None else list(state.neurons)
        self._memory.after = []
        features = self.network.body(current[None])
        return self.network.classifier(features)[0], State(current, self._memory.after)


class _Memory:
    """The states of all layers: each call takes its own from `before` and adds the next to `after`."""

    before: list[Tensor] | None  # [B, ...] each; None where all neurons are at rest
    after: list[Tensor]


class _Stepping(Spiking):
    """A layer of neurons for one time step: [1, B, ...] current -> [1, B, ...] spikes."""

    def __init__(self, neuron: Neuron, memory: _Memory):
        super().__init__(neuron)
        self._memory = memory

    def forward(self, current: Tensor, time_steps: int | None = None) -> Tensor:
        state, before = self.neuron.rest, self._memory.before
        if before is not None:
            rest, form = tree_flatten(state)
            state = tree_unflatten([before.pop(0) for _ in rest], form)
        spikes, state = one_step(self.neuron, current[0], state)
        self._memory.after += tree_leaves(state)
        return spikes[None]
