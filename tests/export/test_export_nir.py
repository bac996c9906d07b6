"""`to_nir`: its values by hand, and the spikes of SpikingJelly and snnTorch that read the graph."""

import nir
import numpy as np
import pytest
import torch
from test_stepwise import ADEX, network
from torch import nn
from torch.testing import assert_close

from tcl_lib.backbones import convnet, resnet19, vggsnn
from tcl_lib.export.formats import DT, to_nir
from tcl_lib.neurons import Spiking, lif_box_neuron, lif_neuron, spiking_layers
from tcl_lib.training.whitening import add_whitening, fit_whitening

STEPS = 4


def read_by(library, graph):
    if library == "spikingjelly":
        return pytest.importorskip("spikingjelly.activation_based.nir_exchange").import_from_nir(graph)
    return pytest.importorskip("snntorch.import_nir").import_from_nir(graph)


def spikes_and_potentials(net, images):
    """The spikes of every spiking layer, and the potentials before the reset by a plain loop: [T, B, ...]."""
    seen = []
    layers = spiking_layers(net)
    for layer in layers:
        layer.register_forward_hook(
            lambda layer, given, spikes: seen.append((layer.neuron.fused, given[0], spikes))
        )
    with torch.no_grad():
        logits = net(images, STEPS).logits
    found = []
    for (leak, _, synaptic), current, spikes in seen:
        v = j = torch.zeros_like(current[0])
        potentials = []
        for step, spike in enumerate(spikes):
            x = current[min(step, len(current) - 1)]
            j = x if synaptic is None else (1 - synaptic) * j + x
            v = (1 - leak) * v + j
            potentials.append(v)
            v = v * (1 - spike)
        found.append((spikes, torch.stack(potentials)))
    return logits, found


def spikes_of_reader(reader, images):
    layers = [module for name, module in reader.named_children() if name.startswith("spiking")]
    seen = [[] for _ in layers]
    for layer, spikes in zip(layers, seen, strict=True):
        layer.register_forward_hook(
            lambda layer, given, out, spikes=spikes: spikes.append(out[0] if isinstance(out, tuple) else out)
        )
    state, logits = None, []
    with torch.no_grad():
        for _ in range(STEPS):
            out, state = reader(images, state)
            logits.append(out)
    return torch.stack(logits), [torch.stack(spikes) for spikes in seen]


@pytest.mark.parametrize("library", ["spikingjelly", "snntorch"])
@pytest.mark.parametrize(
    ("backbone", "size", "neuron"),
    [
        (convnet, 8, lif_box_neuron()),
        (convnet, 8, lif_neuron()),
        (convnet, 8, lif_box_neuron(0.75, 0.6)),
        (resnet19, 4, lif_box_neuron()),
        pytest.param(vggsnn, 34, lif_box_neuron(), marks=pytest.mark.soak),
        pytest.param(resnet19, 16, lif_neuron(), marks=pytest.mark.soak),
    ],
)
def test_to_nir_gives_other_libraries_the_same_spikes(library, backbone, size, neuron, tmp_path):
    """Of the first spikes that differ, the potential is within rounding of the threshold."""
    net = network(backbone, size, neuron)
    images = torch.randn(4, 2, size, size)
    nir.write(tmp_path / "network.nir", to_nir(net))
    logits, ours = spikes_and_potentials(net, images)
    read_logits, theirs = spikes_of_reader(read_by(library, nir.read(tmp_path / "network.nir")), images)
    assert sum(spikes.sum() for spikes, _ in ours) > 500
    for (spikes, potentials), read in zip(ours, theirs, strict=True):
        differ = (spikes != read).flatten(1).any(1)
        if differ.any():
            step = int(differ.int().argmax())
            off = potentials[step][spikes[step] != read[step]] - neuron.fused.v_th
            assert off.abs().max() < 1e-5
            return
    assert_close(read_logits, logits, atol=1e-5, rtol=0)


def test_to_nir_folds_batch_norm_and_writes_full_float32_arrays():
    net = network(neuron=lif_box_neuron(0.75, 0.6))
    nodes = list(to_nir(net).nodes.values())
    conv, norm = net.stem
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    assert_close(torch.from_numpy(nodes[1].weight), (conv.weight * scale.view(-1, 1, 1, 1)).detach())
    assert_close(torch.from_numpy(nodes[1].bias), (norm.bias - norm.running_mean * scale).detach())
    neurons = nodes[2]
    assert isinstance(neurons, nir.LIF)
    expected = {"tau": 4 * DT, "r": 4, "v_leak": 0, "v_threshold": 0.6, "v_reset": 0}
    for name, value in expected.items():
        array = getattr(neurons, name)
        assert (array.shape, array.dtype) == ((64, 8, 8), np.float32)
        assert array == pytest.approx(value, rel=1e-6)


def test_to_nir_writes_the_synapse_of_two_state_neurons():
    (node,) = {type(n): n for n in to_nir(network(neuron=lif_neuron())).nodes.values()
               if isinstance(n, nir.CubaLIF)}.values()  # fmt: skip
    values = {name: getattr(node, name).flat[0] for name in ("tau_syn", "w_in", "tau_mem", "r")}
    assert values == pytest.approx({"tau_syn": 5 * DT, "w_in": 5, "tau_mem": 2 * DT, "r": 2})


def test_to_nir_adds_a_shortcut_as_a_second_edge_into_the_neurons():
    graph = to_nir(network(resnet19, 4))
    into = {}
    for source, target in graph.edges:
        into.setdefault(target, []).append(graph.nodes[source])
    sums = [sources for sources in into.values() if len(sources) > 1]
    assert [len(sources) for sources in sums] == [2] * 8
    kinds = [{type(source) for source in sources} for sources in sums]
    # a block that changes the size or the width has a convolution in its shortcut
    assert kinds == [{nir.Conv2d}, *2 * [{nir.Conv2d, nir.LIF}]] * 2 + [
        {nir.Conv2d},
        {nir.Conv2d, nir.LIF},
    ]


def test_to_nir_writes_the_weights_of_a_whitened_stem():
    net = network()
    add_whitening(net.stem)
    fit_whitening(net.stem, torch.randn(500, 2, 8, 8))
    plain = network()
    with torch.no_grad():
        plain.load_state_dict(
            {k: v for k, v in net.state_dict().items() if "parametrizations" not in k}
            | {"stem.0.weight": net.stem[0].weight}
        )
    ours, theirs = (list(to_nir(of).nodes.values())[1].weight for of in (net, plain))
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert len(net.stem[0].parametrizations.weight) == 1  # still there


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda net: setattr(net.body, "1", nn.MaxPool2d(2)), r"MaxPool2d\(.*\): has no counterpart in NIR"),
        (lambda net: setattr(net.body, "0", Spiking(ADEX)), "lif_adex_feed_forward_step: only the neurons"),
    ],
)
def test_to_nir_names_what_it_cannot_write(change, error):
    net = network()
    change(net)
    with pytest.raises(ValueError, match=f"^{error}"):
        to_nir(net)


def test_spikingjelly_reads_no_decay_of_zero():
    """docs/export.md says so."""
    graph = to_nir(network(neuron=lif_box_neuron(decay=0.0)))
    with pytest.raises(ValueError, match="tau / dt must be finite and greater than 1"):
        read_by("spikingjelly", graph)
    read_by("snntorch", graph)
