"""Accuracy with batch norm recalibrated: against plain loops and torch's own, and nothing left behind."""

import copy
import random

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim.swa_utils import update_bn
from torch.testing import assert_close

from tcl_lib.analysis.evaluation import evaluate, recalibrated_accuracy
from tcl_lib.analysis.recalibration import recalibrated
from tcl_lib.backbones import SpikingNetwork, TimeDistributed
from tcl_lib.data import Data, Split
from tcl_lib.data.parts import stratified_order
from tcl_lib.fused import kernels
from tcl_lib.neurons import Spiking, lif, lif_box_neuron, spiking_layers

T = 3
BATCHES = [40, 40, 40]  # samples each


def small(steps=T) -> SpikingNetwork:
    """Two layers of convolution, batch norm and neurons for images of 2x4x4, with statistics of its own."""
    stem = TimeDistributed(nn.Conv2d(2, 5, 1), nn.BatchNorm2d(5))
    hidden = TimeDistributed(nn.Conv2d(5, 6, 1), nn.BatchNorm2d(6))
    body = nn.Sequential(
        Spiking(lif_box_neuron()), hidden, Spiking(lif_box_neuron()), TimeDistributed(nn.Flatten())
    )
    network = SpikingNetwork(stem, body, 6 * 16, 3, (2, 4, 4), time_steps=steps)
    with torch.no_grad():
        for _ in range(30):
            network(torch.randn(16, 2, 4, 4))
    return network


def samples(frames: bool) -> torch.Tensor:
    return torch.randn(*((T,) if frames else ()), sum(BATCHES), 2, 4, 4)


class Made(Data):
    """Normal numbers of three classes: images [N, C, H, W], or frames [N, T, C, H, W]."""

    input_shape = (2, 4, 4)

    def inputs(self, stored):
        return stored.transpose(0, 1) if stored.dim() == 5 else stored

    def views(self, stored, config, generator):
        raise AssertionError("recalibration needs no augmentation")

    preview = pictures = views


def made(frames: bool = False) -> Made:
    stored = torch.randn(210, *((T,) if frames else ()), 2, 4, 4)
    labels = torch.arange(210) % 3
    stored += (labels - 1.0).view(-1, *(1,) * (stored.dim() - 1))  # the classes differ in the mean
    parts = torch.arange(210).split([120, 30, 60])
    return Made(*(Split(stored, part, labels[part]) for part in parts), ["a", "b", "c"])


def by_hand(network: SpikingNetwork, inputs: torch.Tensor, tested: torch.Tensor, steps: int) -> torch.Tensor:
    """The logits of `small` for t steps, with statistics that a plain loop over the batches gathers."""
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]

    def run(x, statistics):
        x = x[:steps] if x.dim() == 5 else x[None]
        for layer, (convolution, norm) in enumerate(zip(convolutions, norms, strict=True)):
            x = convolution(x.flatten(0, 1)).unflatten(0, x.shape[:2])
            mean, variance, scale, shift = (
                values.view(-1, 1, 1) for values in (*statistics(layer, x), norm.weight, norm.bias)
            )
            x = (x - mean) / (variance + norm.eps).sqrt() * scale + shift
            x = lif(x.expand(steps, *x.shape[1:]))
        return network.classifier(x.flatten(2))

    seen = [[], []]

    def of_batch(layer, x):
        channels = x.transpose(0, 2).flatten(1)
        seen[layer].append((channels.mean(1), channels.var(1)))
        return channels.mean(1), channels.var(1, correction=0)

    def estimated(layer, x):
        return [torch.stack(values).mean(0) for values in zip(*seen[layer], strict=True)]

    for batch in inputs.split(BATCHES, dim=-4):
        run(batch, of_batch)
    return run(tested, estimated)


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize("steps", range(1, T + 1))
def test_recalibrated_is_a_plain_loop_over_batches(frames, steps):
    network, inputs, tested = small().eval(), samples(frames), samples(frames)
    first = tested[:steps] if frames else tested
    with torch.no_grad():
        expected = by_hand(network, inputs, tested, steps)
        before = network(first, time_steps=steps).logits
        with recalibrated(network, inputs.split(BATCHES, dim=-4), steps):
            found = network(first, time_steps=steps).logits
    assert_close(found, expected, atol=1e-5, rtol=1e-4)
    assert not torch.allclose(found, before, atol=1e-2)


def test_recalibrated_depends_on_the_number_of_steps():
    network, inputs = small(), samples(frames=False)
    statistics = []
    for steps in (1, T):
        with recalibrated(network, [inputs], steps):
            statistics.append(network.body[1][1].running_mean.clone())
    assert (statistics[0] - statistics[1]).abs().max() > 0.01


@pytest.mark.parametrize("training", [True, False])
def test_recalibrated_leaves_everything_as_it_was(training):
    network = small()
    network.dropout = nn.Dropout()
    network.train(training)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    neurons = spiking_layers(network)
    norms[0].momentum = 0.3
    neurons[0].compiled = True
    batches = samples(frames=False).split(BATCHES)

    def state():
        generators = torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), random.getstate()
        modules = [module.training for module in network.modules()]
        return generators, modules, [norm.momentum for norm in norms], [layer.compiled for layer in neurons]

    tensors, before = copy.deepcopy(network.state_dict()), state()
    with recalibrated(network, batches, 2):
        assert not any(module.training for module in network.modules())
    with pytest.raises(KeyboardInterrupt), recalibrated(network, batches, 2):
        raise KeyboardInterrupt
    assert state() == before
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in tensors.items())


def test_recalibrated_trains_batch_norm_alone():
    network = small()
    network.body.append(dropout := nn.Dropout())
    seen = set()
    for layer in (dropout, network.stem[1], network):
        layer.register_forward_hook(lambda layer, *_: seen.add((type(layer).__name__, layer.training)))
    with recalibrated(network, [samples(frames=False)], T):
        pass
    assert seen == {("BatchNorm2d", True), ("Dropout", False), ("SpikingNetwork", False)}


class Stopped(nn.Module):
    """A copy of a network that stops after t steps, as a module from inputs to logits."""

    def __init__(self, network, steps):
        super().__init__()
        self.network, self.steps = copy.deepcopy(network), steps

    def forward(self, x):
        return self.network(x[: self.steps] if x.dim() == 5 else x, time_steps=self.steps).logits


@pytest.mark.parametrize("frames", [False, True])
def test_recalibrated_accuracy_is_that_of_torch_s_update_bn(frames):
    data, network = made(frames), small()
    found = recalibrated_accuracy(network, data, 50, "cpu", T)
    batches = stratified_order(data.train.labels, seed=0).split(40)  # 120 samples: three batches of 40
    expected = []
    for steps in range(1, T + 1):
        stopped = Stopped(network, steps)
        update_bn([data.inputs(data.train[batch]) for batch in batches], stopped)
        answers = stopped.eval()(data.inputs(data.test[:])).mean(0).argmax(-1)
        expected.append(100 * (answers == data.test.labels).double().mean().item())
    assert found == pytest.approx(expected)
    assert len(set(found)) > 1


@pytest.mark.parametrize("frames", [False, True])
def test_recalibrated_accuracy_without_batch_norm_is_the_plain_one(frames):
    stem = TimeDistributed(nn.Flatten(), nn.Linear(32, 64))
    network = SpikingNetwork(stem, nn.Sequential(Spiking(lif_box_neuron())), 64, 3, (2, 4, 4), time_steps=T)
    table = evaluate(network, made(frames), 50, "cpu").accuracy_by_step
    assert table["recalibrated"].tolist() == table["cumulative"].tolist()
    assert table["cumulative"].nunique() > 1


def test_recalibrated_accuracy_sees_the_same_few_samples_as_stored(monkeypatch):
    monkeypatch.setattr("tcl_lib.analysis.evaluation.RECALIBRATION_SAMPLES", 30)
    data, network, seen = made(), small(), []
    network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    for seed in (0, 1):
        torch.manual_seed(seed)
        recalibrated_accuracy(network, data, 20, "cpu", 1)
    one, other = seen[:5], seen[5:]
    assert [len(batch) for batch in one] == [15, 15, 20, 20, 20]  # two to recalibrate, three to test
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    chosen = stratified_order(data.train.labels, seed=0)[:30]
    assert torch.equal(torch.cat(one[:2]), data.train[chosen])


def test_recalibrated_accuracy_keeps_to_the_run_s_precision():
    model = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed").setup(small())
    seen = set()
    for layer in model.modules():
        if isinstance(layer, Spiking):
            layer.register_forward_hook(lambda layer, _, x: seen.add(x.dtype))
    recalibrated_accuracy(model, made(), 50, "cpu", T)
    assert seen == {torch.bfloat16}


def test_recalibrated_accuracy_runs_compiled_neurons_for_all_steps_alone(monkeypatch):
    monkeypatch.setattr("tcl_lib.fused._compiled", kernels)  # what is compiled, without the wait
    data, network, seen = made(), small(), set()
    expected = recalibrated_accuracy(network, data, 50, "cpu", T)
    for layer in network.modules():
        if isinstance(layer, Spiking):
            layer.compiled = True
            layer.register_forward_hook(lambda layer, _, x: seen.add((layer.compiled, len(x))))
    assert recalibrated_accuracy(network, data, 50, "cpu", T) == expected
    assert seen == {(True, T), *((False, steps) for steps in range(1, T + 1))}
