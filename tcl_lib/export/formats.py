"""A trained network for other software: `to_nir`, `to_onnx` and `to_torch_export`.

NIR (neuroir.org) describes neurons in continuous time, and each library makes its own time steps of them. The
nodes here are those that SpikingJelly 2 and snnTorch 1 read as the neurons of this package: a step of `DT`
seconds, tau = DT / (1 - decay), r = tau / DT, and arrays of the full shape.

Every export is of the network at inference: without its projection head, with batch norm as trained.
`to_onnx` needs `pip install .[export]`. Shapes: T time steps, B batch, C channels, H x W pixels, K classes.
"""

import copy
from itertools import chain

import nir
import numpy as np
import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._pytree import tree_leaves

from tcl_lib.backbones import ResidualBlock, SpikingNetwork
from tcl_lib.neurons import Neuron, Spiking, spiking_layers
from tcl_lib.stepwise import State, StepwiseNetwork, check_network

DT = 1e-4  # seconds in a time step: snnTorch knows no other, and SpikingJelly's default
BATCH = {0: Dim("batch")}


def to_nir(network: SpikingNetwork) -> nir.NIRGraph:
    """Return a network as a graph of NIR, which `nir.write(path, graph)` stores.

    Its input is what the network sees at one step, [C, H, W]: an image at every step, or a frame. Its output
    are the logits of this step, [K]; the answer after t steps is the class with the largest mean. Batch norm
    is folded into the convolution before it. The residual and the shortcut of a block are two edges into one
    layer of neurons, which adds them.

    Raises ValueError that names a layer or neuron without a counterpart, and for another kind of network.
    """
    check_network(network)
    network = copy.deepcopy(network).double().eval()  # folded weights are rounded to float32 once
    graph = _Graph(network.input_shape)
    graph.add(nn.Sequential(network.stem, network.body, network.classifier))
    graph.append("output", nir.Output({"output": np.array(graph.shape)}))
    return nir.NIRGraph(graph.nodes, graph.edges, {"dt": DT, "time_steps": network.time_steps})


def to_onnx(network: SpikingNetwork) -> torch.onnx.ONNXProgram:
    """Return one time step of a network as an ONNX program; `program.save(path)` stores it.

    Inputs: `frame` float32 [B, C, H, W], and the state of every spiking layer, `state_1` and so on, all zeros
    before the first step. Outputs: `logits` of this step [B, K], and `next_state_1` and so on. The answer
    after t steps is the class with the largest mean of the logits.

    Raises ValueError for neurons whose state at rest is not 0, and for another kind of network.
    """
    step = _Step(network)
    for layer in spiking_layers(network):
        if any(part != 0 for part in tree_leaves(layer.neuron.rest)):
            raise ValueError(f"{layer.neuron.step.__name__}: its state at rest is not 0, as ONNX starts with")
    frame = torch.zeros(2, *network.input_shape)
    states = tuple(step.stepwise(frame)[1].neurons)
    names = [f"state_{layer}" for layer in range(1, len(states) + 1)]
    # exported here, as torch.onnx would fix the size of the batch where it finds no other way
    program = torch.export.export(step, (frame, *states), dynamic_shapes=(BATCH, len(states) * (BATCH,)))
    return torch.onnx.export(
        program,
        input_names=["frame", *names],
        output_names=["logits", *(f"next_{name}" for name in names)],
        verbose=False,
    )


def to_torch_export(network: SpikingNetwork, frames: bool = False) -> ExportedProgram:
    """Return a network over all its time steps as a program; `torch.export.save(program, path)` stores it.

    It takes images float32 [B, C, H, W], or with `frames` a frame a step, [T, B, C, H, W], and returns the
    logits [T, B, K]. T is the network's own. Raises ValueError for another kind of network.
    """
    check_network(network)
    sequence = _Sequence(network)
    if frames:
        inputs, batch = torch.zeros(network.time_steps, 2, *network.input_shape), {1: BATCH[0]}
    else:
        inputs, batch = torch.zeros(2, *network.input_shape), BATCH
    return torch.export.export(sequence, (inputs,), dynamic_shapes=(batch,))


class _Graph:
    """A graph under construction."""

    def __init__(self, shape: tuple[int, ...]):
        self.nodes: dict[str, nir.NIRNode] = {"input": nir.Input({"input": np.array(shape)})}
        self.edges: list[tuple[str, str]] = []
        self.ends = ["input"]  # the nodes whose sum the next node gets
        self.shape = tuple(shape)  # of this sum

    def append(self, name: str, node: nir.NIRNode) -> None:
        self.nodes[name] = node
        self.edges += [(end, name) for end in self.ends]
        self.ends = [name]

    def add(self, module: nn.Module) -> None:
        """Append a module with everything in it."""
        for layer in _layers(module):
            if isinstance(layer, ResidualBlock):
                self._add_residual(layer)
            elif not isinstance(layer, nn.Identity):
                name = f"{type(layer).__name__.lower()}_{len(self.nodes)}"
                self.append(name, _node(layer, self.shape))
                if not isinstance(layer, Spiking):
                    self.shape = tuple(layer(torch.zeros(1, *self.shape).double()).shape[1:])

    def _add_residual(self, block: ResidualBlock) -> None:
        before = self.ends, self.shape
        self.add(block.residual)
        residual = self.ends
        self.ends, self.shape = before
        self.add(block.shortcut)
        self.ends = [*residual, *self.ends]
        self.add(block.neurons)


def _layers(module: nn.Module) -> list[nn.Module]:
    """Return the layers of a module in their order, batch norm folded into the convolution before it."""
    if not isinstance(module, nn.Sequential):
        if parametrize.is_parametrized(module):  # a whitened stem
            parametrize.remove_parametrizations(module, "weight")
        return [module]
    found: list[nn.Module] = []
    for layer in chain.from_iterable(map(_layers, module)):
        if isinstance(layer, nn.BatchNorm2d) and found and isinstance(found[-1], nn.Conv2d):
            found[-1] = fuse_conv_bn_eval(found[-1], layer)
        else:
            found.append(layer)
    return found


def _node(layer: nn.Module, shape: tuple[int, ...]) -> nir.NIRNode:
    """Return the node of a layer that gets tensors of this shape, without time and batch."""
    if isinstance(layer, Spiking):
        return _neurons(layer.neuron, shape)
    if isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros":
        geometry = layer.stride, layer.padding, layer.dilation, layer.groups
        return nir.Conv2d(shape[1:], _array(layer.weight), *geometry, _bias(layer))
    if isinstance(layer, nn.Linear):
        return nir.Affine(_array(layer.weight), _bias(layer))
    if isinstance(layer, nn.AvgPool2d) and not layer.ceil_mode:
        return _pool(layer.kernel_size, layer.stride, layer.padding)
    if isinstance(layer, nn.AdaptiveAvgPool2d) and layer.output_size in (1, (1, 1)):
        return _pool(shape[1:], shape[1:], 0)
    if isinstance(layer, nn.Flatten):
        # counted from the end: snnTorch counts the batch, SpikingJelly does not
        return nir.Flatten({"input": np.array(shape)}, -len(shape), -1)
    raise ValueError(f"{layer}: has no counterpart in NIR that other libraries read")


def _neurons(neuron: Neuron, shape: tuple[int, ...]) -> nir.NIRNode:
    if neuron.fused is None:
        raise ValueError(
            f"{neuron.step.__name__}: only the neurons lif_box and lif have a counterpart in NIR"
        )
    leak, v_th, synaptic_leak = neuron.fused

    def full(value: float) -> np.ndarray:
        return np.full(shape, value, np.float32)

    membrane = {"r": full(1 / leak), "v_leak": full(0), "v_threshold": full(v_th), "v_reset": full(0)}
    if synaptic_leak is None:
        return nir.LIF(tau=full(DT / leak), **membrane)
    synapse = {"tau_syn": full(DT / synaptic_leak), "w_in": full(1 / synaptic_leak)}
    return nir.CubaLIF(tau_mem=full(DT / leak), **synapse, **membrane)


def _pool(kernel_size, stride, padding) -> nir.AvgPool2d:
    pair = (np.broadcast_to(np.array(value), 2) for value in (kernel_size, stride, padding))
    return nir.AvgPool2d(*pair)


def _bias(layer: nn.Conv2d | nn.Linear) -> np.ndarray:
    return np.zeros(len(layer.weight), np.float32) if layer.bias is None else _array(layer.bias)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().float().cpu().numpy()


class _Step(nn.Module):
    """A step with tensors for arguments: (frame, *states) -> (logits, *states)."""

    def __init__(self, network: SpikingNetwork):
        super().__init__()
        self.stepwise = StepwiseNetwork(network)
        self.eval()

    def forward(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        logits, after = self.stepwise(frame, State(frame, list(states)))
        return logits, *after.neurons


class _Sequence(nn.Module):
    """All steps, without the projection head: images or frames -> logits [T, B, K]."""

    def __init__(self, network: SpikingNetwork):
        super().__init__()
        self.network = copy.deepcopy(network)
        self.network.projection = nn.Identity()
        for layer in spiking_layers(self.network):
            layer.compiled = False  # the program is compiled as a whole
        self.eval()

    @torch.no_grad()
    def forward(self, inputs: Tensor) -> Tensor:
        return self.network(inputs).logits
