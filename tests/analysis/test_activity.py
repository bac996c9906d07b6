"""Synaptic operations: by hand, against a plain loop over spikes, and as rates times dense."""

import pytest
import torch
from conftest import too_long
from torch import nn

from tcl_lib import RunConfig, build_network
from tcl_lib.analysis.activity import AC_PJ, MAC_PJ, FiringRates, SynapticOperations, fan_out, mean_rates
from tcl_lib.backbones import SpikingNetwork, TimeDistributed
from tcl_lib.neurons import Spiking, lif_box_neuron


def count(network, *batches):
    with SynapticOperations(network) as operations, torch.no_grad():
        for images in batches:
            network(images)
    return operations.table()


def small(stem_weight=10.0):
    """A 1x1 convolution, neurons, a linear layer: all weights of the first 10, so every pixel > 0.1 fires."""
    stem = TimeDistributed(nn.Conv2d(1, 2, 1, bias=False))
    nn.init.constant_(stem[0].weight, stem_weight)
    body = nn.Sequential(Spiking(lif_box_neuron()), TimeDistributed(nn.Flatten()))
    return SpikingNetwork(stem, body, 8, 3, (1, 2, 2), time_steps=2).eval()


def test_by_hand():
    images = torch.zeros(2, 1, 2, 2)
    images[0, 0, 0, 0] = images[1, 0, 0, 0] = images[1, 0, 1, 1] = 1.0  # 3 pixels in 2 images
    table = count(small(), images)
    assert table["operation"].tolist() == 2 * ["1x1 convolution, 1 to 2"] + 2 * ["linear, 8 to 3"]
    assert table["time_step"].tolist() == [1, 2, 1, 2]
    assert table["dense"].tolist() == [8, 8, 24, 24]
    # a pixel that is not 0 meets two weights, once; each makes two neurons fire at both steps, on 3 synapses
    assert table["effective_macs"].tolist() == [3, 0, 0, 0]
    assert table["effective_acs"].tolist() == [0, 0, 9, 9]
    assert table["energy_uj"].tolist() == pytest.approx([3 * 4.6e-6, 0, 9 * 0.9e-6, 9 * 0.9e-6])
    assert table["ann_energy_uj"].tolist() == pytest.approx([8 * 4.6e-6, 0, 24 * 4.6e-6, 0])
    assert (MAC_PJ, AC_PJ) == (4.6, 0.9)


def test_frames_are_seen_at_every_step():
    frames = torch.zeros(2, 1, 1, 2, 2)
    frames[1, 0, 0, 0, 0] = 1.0  # nothing at the first step
    table = count(small(), frames)
    assert table["effective_macs"].tolist() == [0, 2, 0, 0]
    assert table["effective_acs"].tolist() == [0, 0, 0, 6]
    assert table["ann_energy_uj"].tolist() == pytest.approx([8 * 4.6e-6] * 2 + [24 * 4.6e-6] * 2)


def test_batches_of_other_sizes_make_one_mean():
    torch.manual_seed(1)
    images = torch.rand(7, 1, 2, 2)
    whole, parts = count(small(), images), count(small(), images[:5], images[5:])
    assert whole["effective_acs"].tolist() == pytest.approx(parts["effective_acs"].tolist())


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Conv2d(2, 3, 3, stride=2, padding=1),
        nn.Conv2d(4, 6, (3, 1), padding=(2, 0), dilation=2, groups=2),
        nn.Conv2d(2, 5, 1, stride=2),
    ],
)
def test_fan_out_is_that_of_a_loop_over_inputs(layer):
    shape = (layer.in_channels, 5, 4)
    nn.init.constant_(layer.weight, 1.0)
    found = fan_out(layer, shape)
    for index in torch.cartesian_prod(*map(torch.arange, shape)):
        spike = torch.zeros(1, *shape)
        spike[0, *index] = 1.0
        reached = (layer(spike) - layer(torch.zeros(1, *shape))).detach()
        assert found[*index] == pytest.approx((reached.round() != 0).sum().item())


@pytest.mark.parametrize("backbone", ["convnet", *too_long("vggsnn", "resnet19")])
def test_accumulates_are_rates_times_dense(backbone):
    """Without padding to disturb it: of linear and 1x1 layers, and of wide images nearly everywhere."""
    config = RunConfig(backbone=backbone, loss="ce", time_steps=3)
    network = build_network(config, (3, 32, 32), 10)
    with torch.no_grad():
        for _ in range(30):  # untrained and in evaluation mode it is silent until batch norm knows the data
            network(torch.randn(2, 3, 32, 32))
    network.eval()
    with FiringRates(network) as firing, SynapticOperations(network) as operations, torch.no_grad():
        network(torch.randn(4, 3, 32, 32))
    table = operations.table()
    assert min(mean_rates(firing.state())) > 0.001
    rates = firing.by_step().set_index(["layer", "time_step"])["firing_rate"]
    layers = table["layer"].max()
    last = table[table["layer"] == layers].set_index("time_step")
    assert last["operation"].iloc[0].startswith("linear")
    if backbone != "vggsnn":  # there the classifier sees pooled features, whose mean is the rate as well
        assert last["dense"].iloc[0] in (128 * 10, 256 * 10)
    for step in (1, 2, 3):
        rate = rates[rates.index.get_level_values(0).max(), step]
        assert last.loc[step, "effective_acs"] == pytest.approx(rate * last.loc[step, "dense"], rel=1e-4)
    second = table[(table["layer"] == 2) & (table["time_step"] == 1)].iloc[0]
    assert second["effective_acs"] == pytest.approx(rates[1, 1] * second["dense"], rel=0.1)
    assert table[table["layer"] == 1]["effective_macs"].tolist() == [table["dense"].iloc[0], 0, 0]
    assert (table["effective_acs"] <= table["dense"]).all()
    # every convolution and linear layer that inference runs
    modules = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert layers == len(modules)


def test_the_projection_head_is_left_out():
    network = build_network(RunConfig(loss="tcl"), (1, 8, 8), 10).eval()
    table = count(network, torch.rand(2, 1, 8, 8))
    assert table["operation"].unique().tolist()[-1] == "linear, 128 to 10"
    assert table["layer"].nunique() == 5


def test_counting_changes_nothing_and_ends():
    network = build_network(RunConfig(loss="ce"), (1, 8, 8), 10).eval()
    images = torch.rand(2, 1, 8, 8)
    before = network(images).logits
    with SynapticOperations(network) as operations:
        during = network(images).logits
    table = operations.table()
    network(images)
    assert torch.equal(before, during)
    assert operations.table().equals(table)
    assert not any(module._forward_pre_hooks for module in network.modules())
