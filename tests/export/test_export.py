"""`to_onnx` and `to_torch_export`: the same logits without this package, for any batch size."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from test_stepwise import network
from torch.testing import assert_close

from tcl_lib import StepwiseNetwork
from tcl_lib.backbones import convnet, resnet19
from tcl_lib.export import to_nir, to_onnx, to_torch_export
from tcl_lib.neurons import Neuron, lif_box_neuron, lif_neuron

STEPS = 4


@pytest.mark.parametrize(
    ("backbone", "size", "neuron"),
    [
        (convnet, 4, lif_box_neuron()),
        pytest.param(convnet, 8, lif_neuron(), marks=pytest.mark.soak),
        pytest.param(resnet19, 6, lif_neuron(), marks=pytest.mark.soak),
    ],
)
def test_to_onnx_gives_the_logits_of_every_step_in_onnxruntime(backbone, size, neuron, tmp_path):
    """Of the first spikes that differ, the potential is within rounding of the threshold."""
    onnxruntime = pytest.importorskip("onnxruntime")
    net = network(backbone, size, neuron)
    to_onnx(net).save(tmp_path / "step.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "step.onnx")
    frames = torch.randn(STEPS, 5, 2, size, size)
    shapes = {given.name: [5, *given.shape[1:]] for given in session.get_inputs()}
    assert shapes.pop("frame") == [5, 2, size, size]
    states = [np.zeros(shape, np.float32) for shape in shapes.values()]
    stepwise, state, seen = StepwiseNetwork(net), None, []
    for frame in frames:
        logits, *states = session.run(
            None, {"frame": frame.numpy(), **dict(zip(shapes, states, strict=True))}
        )
        expected, state = stepwise(frame, state)
        for ours, theirs in zip(state.neurons, map(torch.from_numpy, states), strict=True):
            differ = ~torch.isclose(ours, theirs, rtol=1e-4, atol=1e-4)
            if differ.any():  # of a spike, the potential was reset
                kept, reset = torch.stack([ours, theirs])[:, differ].sort(0, descending=True).values
                assert (kept - neuron.fused.v_th).abs().max() < 1e-4
                assert (reset == 0).all()
                return
        assert_close(torch.from_numpy(logits), expected, atol=1e-5, rtol=0)
        seen.append(logits)
    assert np.std(seen, 0).max() > 1e-3  # the steps differ


@pytest.mark.parametrize("export", [StepwiseNetwork, to_nir, to_onnx, to_torch_export])
def test_exports_refuse_another_kind_of_network(export):
    with pytest.raises(ValueError, match=r"^network: must be a SpikingNetwork, .* got a Linear$"):
        export(torch.nn.Linear(2, 2))


def test_to_onnx_refuses_neurons_that_do_not_rest_at_zero():
    box = lif_box_neuron()
    neuron = Neuron(box.step, box.parameters, type(box.rest)(torch.tensor(0.5)), box.dt, box.gain)
    with pytest.raises(ValueError, match=r"^lif_box_feed_forward_step: its state at rest is not 0"):
        to_onnx(network(neuron=neuron))


@pytest.mark.soak
def test_to_torch_export_gives_the_logits_in_a_process_without_this_package(tmp_path):
    net = network()
    images = torch.randn(5, 2, 8, 8)
    torch.export.save(to_torch_export(net), tmp_path / "net.pt2")
    torch.save(images, tmp_path / "images.pt")
    code = (
        "import sys, torch; program = torch.export.load('net.pt2').module();"
        "torch.save(program(torch.load('images.pt')), 'logits.pt');"
        "assert not [name for name in sys.modules if name.startswith(('tcl_lib.', 'norse'))]"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, cwd=tmp_path)
    with torch.no_grad():
        assert_close(torch.load(tmp_path / "logits.pt"), net(images).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize("frames", [False, True])
def test_to_torch_export_gives_the_logits_of_images_and_of_frames(frames):
    net = network(neuron=lif_neuron())
    inputs = torch.randn(STEPS, 3, 2, 8, 8) if frames else torch.randn(3, 2, 8, 8)
    logits = to_torch_export(net, frames).module()(inputs)
    with torch.no_grad():
        assert_close(logits, net(inputs).logits, atol=1e-5, rtol=0)
