"""The inside of a forward pass, against the neuron's equation in a plain loop."""

import pytest
import torch
from torch.testing import assert_close

from tcl_lib.analysis.trace import membrane_potentials, trace
from tcl_lib.backbones import convnet, resnet19
from tcl_lib.neurons import SYNAPTIC_LEAK, lif_box_neuron, lif_neuron, spikes, spiking_layers


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("static", [False, True])
def test_membrane_potentials_are_those_of_the_equation(decay, static):
    current = torch.randn(1 if static else 6, 2, 5, dtype=torch.float64) + 0.5
    found = membrane_potentials(lif_box_neuron(decay, v_th=0.8), current, 6)
    v = s = torch.zeros(2, 5, dtype=torch.float64)
    for t in range(6):
        v = decay * v * (1 - s) + current[0 if static else t]
        s = (v > 0.8).double()
        assert_close(found[t], v)


def test_membrane_potentials_of_a_neuron_with_a_synaptic_current():
    current = torch.randn(6, 2, 5, dtype=torch.float64)
    found = membrane_potentials(lif_neuron(0.5, 1.0), current, 6)
    v = s = i = torch.zeros(2, 5, dtype=torch.float64)
    for t in range(6):
        j = i + current[t]
        v = 0.5 * v * (1 - s) + j
        s, i = (v > 1).double(), (1 - SYNAPTIC_LEAK) * j
        assert_close(found[t], v)


@pytest.mark.parametrize("neuron", [lif_box_neuron, lif_neuron])
def test_a_potential_above_the_threshold_is_a_spike(neuron):
    current = torch.randn(8, 3, 20) * 2
    found = membrane_potentials(neuron(0.5, 1.3), current, 8)
    assert_close((found > 1.3).float(), spikes(neuron(0.5, 1.3), current))


@pytest.mark.parametrize("build", [convnet, resnet19])
def test_trace_sees_every_layer_and_changes_nothing(build):
    network = build(1, 8).eval()
    images = torch.randn(3, 1, 8, 8)
    expected = network(images)
    seen = trace(network, images)
    assert_close(seen.logits, expected.logits, rtol=0, atol=0)
    assert_close(seen.embeddings, expected.embeddings, rtol=0, atol=0)
    layers = spiking_layers(network)
    assert len(seen.layers) == len(layers) > 3
    for layer in seen.layers:
        assert layer.spikes.shape == layer.potentials.shape
        assert layer.spikes.shape[:2] == (4, 3)
        assert_close((layer.potentials > 1).float(), layer.spikes)
    assert not any(layer._forward_hooks for layer in layers)


def test_trace_takes_frames():
    network = convnet(2, 8).eval()
    seen = trace(network, torch.rand(5, 1, 2, 8, 8))
    assert [tuple(layer.spikes.shape[:3]) for layer in seen.layers] == [
        (5, 1, channels) for channels in (64, 64, 128, 128)
    ]
