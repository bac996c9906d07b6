"""`StepwiseNetwork` gives the logits of the whole sequence, a step at a call, for the samples left."""

import pytest
import torch
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters
from norse.torch.functional.lif_adex import (
    LIFAdExFeedForwardState,
    LIFAdExParameters,
    lif_adex_feed_forward_step,
)
from norse.torch.functional.lif_refrac import (
    LIFRefracFeedForwardState,
    LIFRefracParameters,
    lif_refrac_feed_forward_step,
)
from torch import nn
from torch.testing import assert_close

from tcl_lib import StepwiseNetwork
from tcl_lib.backbones import SpikingNetwork, TimeDistributed, convnet, resnet19, vggsnn
from tcl_lib.neurons import Neuron, Spiking, lif_box_neuron, lif_neuron

ADEX = Neuron(
    lif_adex_feed_forward_step,
    LIFAdExParameters(method="triangle", alpha=1.0),
    LIFAdExFeedForwardState(*torch.zeros(3)),
    gain=0.02,
)
REFRACTORY = Neuron(
    lif_refrac_feed_forward_step,
    LIFRefracParameters(LIFParameters(method="triangle", alpha=1.0), rho_reset=torch.tensor(1.0)),
    LIFRefracFeedForwardState(LIFFeedForwardState(*torch.zeros(2)), torch.tensor(0.0)),
    gain=0.02,
)
STEPS, BATCH = 4, 6


def network(backbone=convnet, size=8, neuron=None, channels=2):
    """A network whose neurons fire: batch norm has the statistics of a batch."""
    net = backbone(channels, size, neuron=neuron or lif_box_neuron(), time_steps=STEPS)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()(torch.randn(8, channels, size, size))
    return net.eval()


@pytest.mark.parametrize(
    ("backbone", "size", "neuron"),
    [
        (convnet, 8, lif_box_neuron()),
        (convnet, 8, lif_neuron(decay=0.7)),
        (convnet, 8, ADEX),
        (convnet, 8, REFRACTORY),
        (vggsnn, 16, lif_box_neuron()),
        (resnet19, 6, lif_neuron()),
    ],
)
@pytest.mark.parametrize("events", [False, True])
def test_stepwise_network_gives_the_logits_of_the_whole_sequence(backbone, size, neuron, events):
    net = network(backbone, size, neuron)
    inputs = torch.randn(STEPS if events else 1, BATCH, 2, size, size)
    with torch.no_grad():
        whole = net(inputs if events else inputs[0]).logits
    stepwise, state = StepwiseNetwork(net), None
    for step in range(STEPS):
        frame = inputs[step] if events else inputs[0] if step == 0 else None
        logits, state = stepwise(frame, state)
        assert_close(logits, whole[step], atol=1e-5, rtol=0)
    assert whole.std(0).max() > 1e-3  # the steps differ


class Twice(nn.Module):
    """A convolution between two calls of the same neurons."""

    def __init__(self, spiking: Spiking):
        super().__init__()
        self.spiking, self.conv = spiking, TimeDistributed(nn.Conv2d(6, 6, 3, padding=1))

    def forward(self, current):
        return self.spiking(self.conv(self.spiking(current)))


@pytest.mark.parametrize("neuron", [lif_box_neuron(v_th=0.1), lif_neuron(v_th=0.1)])
@pytest.mark.parametrize("kind", ["two names", "two calls"])
def test_stepwise_network_may_use_a_layer_of_neurons_twice(neuron, kind):
    """A layer of neurons has no parameters, so one object may stand in several places."""
    spiking = Spiking(neuron)
    conv = TimeDistributed(nn.Conv2d(6, 6, 3, padding=1))
    layers = [spiking, conv, Twice(Spiking(neuron)) if kind == "two calls" else spiking]
    pool = TimeDistributed(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    stem = TimeDistributed(nn.Conv2d(2, 6, 3, padding=1))
    net = SpikingNetwork(stem, nn.Sequential(*layers, pool), 6, 10, (2, 8, 8), time_steps=STEPS).eval()
    frames = 3 * torch.randn(STEPS, BATCH, 2, 8, 8)
    whole = net(frames).logits
    stepwise, state = StepwiseNetwork(net), None
    for frame, expected in zip(frames, whole, strict=True):
        logits, state = stepwise(frame, state)
        assert_close(logits, expected, atol=1e-5, rtol=0)
    assert whole.std(0).max() > 1e-3  # the steps differ


def test_stepwise_network_goes_on_with_the_samples_that_are_left():
    net = network()
    frames = torch.randn(STEPS, BATCH, 2, 8, 8)
    with torch.no_grad():
        whole = net(frames).logits
    stepwise, state, left = StepwiseNetwork(net), None, torch.arange(BATCH)
    for step, dropped in enumerate((0, 2, 1, 2)):
        keep = torch.arange(len(left)) >= dropped
        left = left[keep]
        state = state and state.take(keep)
        logits, state = stepwise(frames[step, left], state)
        assert_close(logits, whole[step, left], atol=1e-5, rtol=0)
    assert left.tolist() == [5]


def test_stepwise_network_shares_the_weights_and_leaves_the_network_as_it_was():
    net = network().train()
    stepwise = StepwiseNetwork(net)
    assert net.training
    assert not any(module.training for module in stepwise.modules())
    assert {id(p) for p in stepwise.parameters()} == {id(p) for p in net.parameters()}
    with torch.no_grad():
        net.classifier.bias += 1
        net.eval()
        images = torch.randn(3, 2, 8, 8)
        assert_close(stepwise(images)[0], net(images).logits[0])


def test_stepwise_network_starts_anew_without_a_state():
    stepwise, images = StepwiseNetwork(network()), torch.randn(3, 2, 8, 8)
    first, _ = stepwise(images)
    assert_close(stepwise(images)[0], first)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s, state: s(None), "frame=None: the first step needs an image"),
        (
            lambda s, state: s(torch.zeros(3, 1, 8, 8)),
            r"frame of shape \[3, 1, 8, 8\]: must be \[B, 2, 8, 8\]",
        ),
        (lambda s, state: s(torch.zeros(4, 2, 8, 8), state), "frame of 4 samples: the state is of 3"),
    ],
)
def test_stepwise_network_refuses_what_does_not_fit(call, error):
    stepwise = StepwiseNetwork(network())
    _, state = stepwise(torch.randn(3, 2, 8, 8))
    with pytest.raises(ValueError, match=f"^{error}$"):
        call(stepwise, state)
