"""Training on a GPU: tensors with a device and no numbers stand for it; for real where there is one."""

import dataclasses

import pytest
import torch
from conftest import too_long
from lightning_fabric import Fabric
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, load_data, train
from tcl_lib.analysis.activity import FiringRates
from tcl_lib.config.registry import LOSSES
from tcl_lib.data import training_batches
from tcl_lib.data.batches import placed
from tcl_lib.neurons import lif, lif_synaptic
from tcl_lib.runs import layout
from tcl_lib.training.build import build_optimizer, loss_terms, total_loss
from tcl_lib.training.step import forward_and_backward
from tcl_lib.training.sums import Sums
from tcl_lib.utils import devices
from tcl_lib.utils.devices import gpu_settings

CUDA = torch.device("cuda", 0)
WITH_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
# The processor is there so that the tests themselves are tested everywhere.
everywhere = pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=WITH_GPU)])


def config_of(**changes) -> RunConfig:
    return RunConfig(**{"time_steps": 2, "train_size": 96, "batch_size": 32, "compile": "off"} | changes)


@pytest.mark.parametrize("dataset", ["digits", *too_long("moving_digits")])
def test_step_on_a_gpu_mixes_no_devices_and_reads_no_number(monkeypatch, dataset):
    """From the samples to the sums; without the gradient, as autograd asks for the GPU itself."""
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    config = config_of(dataset=dataset, loss="stcl", cutout=2 if dataset == "digits" else 0)
    data = load_data(config)
    if dataset == "digits":
        assert len(data.mean_and_std) == 2  # counted once a run, from the samples in main memory
    with FakeTensorMode(allow_non_fake_inputs=True):
        stored = data.train[:].to(CUDA)
        there = dataclasses.replace(data.train, stored=stored, indices=torch.arange(96, device=CUDA))
        with CUDA:
            network = build_network(config, data.input_shape, 10)
        sums = Sums({}, None, CUDA)
        with FiringRates(network):
            images, labels = next(training_batches(data, config, 1, CUDA, samples=there))
            output = network(images)
            for loss in LOSSES if dataset == "digits" else ["stcl"]:
                terms = loss_terms(output, labels, config_of(loss=loss, views=2))
            sums.add({"loss": total_loss(terms, config)} | terms, 1)
    assert images.device == labels.device == output.logits.device == CUDA


@pytest.mark.parametrize(
    ("device", "loss"), [("cpu", "stcl"), *(pytest.param("cuda", loss, marks=WITH_GPU) for loss in LOSSES)]
)
def test_step_on_a_gpu_has_loss_and_gradients_of_the_cpu(device, loss):
    config = config_of(loss=loss)
    images, labels = next(training_batches(load_data(config), config, epoch=1))
    found = []
    for kind in ("cpu", device):
        torch.manual_seed(0)
        fabric = Fabric(accelerator=kind, devices=1)
        model = fabric.setup_module(build_network(config, (1, 8, 8), 10).double())
        there = (tensor.to(fabric.device) for tensor in (images.double(), labels))
        _, value, _ = forward_and_backward(fabric, model, *there, config)
        found.append([value.detach().cpu(), *(parameter.grad.cpu() for parameter in model.parameters())])
    assert_close(found[1], found[0], rtol=1e-6, atol=1e-9)


@everywhere
@pytest.mark.parametrize("kept", [True, False])
def test_steps_wait_for_nothing(device, kept):
    config = config_of(loss="stcl")
    fabric, data = Fabric(accelerator=device, devices=1), load_data(config)
    network = build_network(config, data.input_shape, 10)
    model, optimizer = fabric.setup(network, build_optimizer(network, config))
    samples, sums = placed(data.train, fabric.device, kept), Sums({}, None, fabric.device)
    with gpu_settings(fabric.device, False), FiringRates(model):
        for epoch in (1, 2):  # the first chooses algorithms
            batches = training_batches(data, config, epoch, fabric.device, samples=samples)
            for step, (images, labels) in enumerate(batches, start=1):
                optimizer.zero_grad()
                _, loss, terms = forward_and_backward(fabric, model, images, labels, config)
                optimizer.step()
                sums.add({"loss": loss} | terms, step)
                if device == "cuda" and epoch == 2:
                    torch.cuda.set_sync_debug_mode("error")
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    assert sums.read()[0]["loss"] > 0


@everywhere
def test_train_on_a_gpu_learns_and_goes_on_from_its_checkpoint(tiny, device):
    config = tiny(device=device, compile="off" if device == "cpu" else "on", epochs=3)
    run = train(config, verbose=False)
    assert run.metrics["loss"].iloc[-1] < run.metrics["loss"].iloc[0]
    (config.run_path / layout.RESULT).unlink()
    again = train(config, verbose=False)
    assert again.result["test_accuracy"] == pytest.approx(run.result["test_accuracy"], abs=1)


@everywhere
def test_train_names_the_step_of_a_loss_that_is_not_finite(tiny, device):
    with pytest.raises(FloatingPointError, match="the loss is inf in epoch 1, step 1 of 3"):
        train(tiny(device=device, loss="tcl", temporal_weight=1e38), verbose=False)


@everywhere
def test_train_stops_for_weights_too_large_to_compute_with(tiny, device):
    """Where the losses stay finite, as on an H100, the weights or the validation logits do not."""
    with pytest.raises(FloatingPointError, match="epoch 1"):
        train(tiny(device=device, lr=1e20, warmup_epochs=0), verbose=False)


@everywhere
@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
def test_compiled_spikes_differ_only_within_rounding_of_the_threshold(neuron, device):
    current = 1.5 * torch.randn(4, 10_000, device=device)
    plain, compiled = (neuron(current, 0.9, compiled=how) for how in (False, True))
    low, high = (neuron(current, 0.9, v_th=1 + apart) for apart in (-1e-5, 1e-5))
    sure = (low == high).all(0)
    assert sure.float().mean() > 0.99
    assert torch.equal(plain[:, sure], compiled[:, sure])


def test_gpu_settings_are_those_asked_for_and_then_those_of_before():
    """They can be read without a GPU."""

    def settings():
        cudnn = torch.backends.cudnn
        return cudnn.enabled, cudnn.benchmark, cudnn.allow_tf32, torch.get_float32_matmul_precision()

    before = settings()
    for tf32 in (True, False):
        with devices.gpu_settings(CUDA, tf32):
            assert settings() == (True, True, tf32, "high" if tf32 else "highest")
        assert settings() == before
