"""A step in parts against the whole batch's."""

import dataclasses

import pytest
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, train
from tcl_lib.config.registry import LOSSES
from tcl_lib.training.build import loss_terms, total_loss
from tcl_lib.training.step import forward_and_backward

FABRIC = Fabric(accelerator="cpu", devices=1)


def prepared(config, *, norms: bool):
    """A network in float64, with batch norm as it is or settled and fixed."""
    torch.manual_seed(0)
    network = build_network(config, (2, 8, 8), 5).double()
    if not norms:
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        network(torch.randn(16, 2, 8, 8, dtype=torch.float64))
        network.eval()
    return network


def batch(config, frames: bool):
    generator = torch.Generator().manual_seed(1)
    shape = (*([config.time_steps] if frames else []), config.batch_size * config.num_views, 2, 8, 8)
    images = torch.randn(shape, generator=generator, dtype=torch.float64)
    return images, torch.randint(0, 5, (config.batch_size,), generator=generator)


def gradients(network, config, images, labels):
    network.zero_grad()
    output, loss, terms = forward_and_backward(FABRIC, FABRIC.setup_module(network), images, labels, config)
    assert torch.equal(loss, total_loss(terms, config))
    return output, terms, {name: p.grad.clone() for name, p in network.named_parameters()}


@pytest.mark.parametrize("frames", [False, True])
@pytest.mark.parametrize(
    ("loss", "micro_batches"), [*((loss, 3) for loss in LOSSES), ("stcl", 2), ("stcl", 4)]
)
def test_parts_have_the_gradient_of_the_whole(loss, micro_batches, frames):
    """Where batch norm does not join the samples of a batch: of all anchors, across the parts."""
    options = {"projection_dim": 8} if loss in ("tcl", "stcl") else {}
    config = RunConfig(loss=loss, time_steps=3, batch_size=10, **options)
    network = prepared(config, norms=False)
    images, labels = batch(config, frames)
    whole = gradients(network, config, images, labels)
    split = dataclasses.replace(config, micro_batches=micro_batches)
    parts = gradients(network, split, images, labels)
    assert_close(parts[0].logits, whole[0].logits)
    assert parts[1].keys() == whole[1].keys()
    for name in whole[1]:
        assert_close(parts[1][name], whole[1][name])
    for name in whole[2]:
        assert_close(parts[2][name], whole[2][name], rtol=1e-9, atol=1e-12)


def test_batch_norm_sees_a_part_at_a_time():
    """Against a plain loop over the parts with the whole loss, and running statistics counted once each."""
    config = RunConfig(loss="tcl", time_steps=2, batch_size=8, projection_dim=8, micro_batches=2)
    images, labels = batch(config, frames=False)
    network, plain = prepared(config, norms=True), prepared(config, norms=True)
    _, _, found = gradients(network, config, images, labels)
    outputs = [plain(part) for part in images.chunk(2)]
    joined = [torch.cat(of, dim=1) for of in zip(*outputs, strict=True)]
    total_loss(loss_terms(type(outputs[0])(*joined), labels, config), config).backward()
    for name, parameter in plain.named_parameters():
        assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-12)
    for kept, expected in zip(network.buffers(), plain.buffers(), strict=True):
        assert_close(kept, expected)
    assert all(m.track_running_stats for m in network.modules() if isinstance(m, nn.BatchNorm2d))


def test_batch_norm_without_running_statistics_stays_so():
    config = RunConfig(loss="tcl", time_steps=2, batch_size=8, projection_dim=8, micro_batches=2)
    network = prepared(config, norms=True)
    first, *others = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    first.track_running_stats = False
    gradients(network, config, *batch(config, frames=False))
    assert not first.track_running_stats
    assert others
    assert all(norm.track_running_stats for norm in others)


@pytest.mark.parametrize(("batch_size", "micro_batches"), [(10, 4), (64, 24), (3, 3), (9, 2)])
def test_no_part_is_of_one_image(batch_size, micro_batches):
    config = RunConfig(loss="ce", batch_size=max(batch_size, 2 * micro_batches), micro_batches=micro_batches)
    network = build_network(config, (2, 8, 8), 5)
    seen = []
    network.register_forward_hook(lambda module, inputs, output: seen.append(len(inputs[0])))
    images, labels = torch.randn(batch_size, 2, 8, 8), torch.arange(batch_size) % 5
    forward_and_backward(FABRIC, FABRIC.setup_module(network), images, labels, config)
    assert min(seen) >= 2
    assert sum(seen) == 2 * batch_size
    assert all(p.grad.isfinite().all() for p in network.parameters())


def test_parts_under_bf16_autocast():
    fabric = Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")
    whole = RunConfig(loss="tcl", time_steps=3, batch_size=10, projection_dim=8)
    split = RunConfig(loss="tcl", time_steps=3, batch_size=10, projection_dim=8, micro_batches=3)
    network = prepared(whole, norms=False).float()
    images, labels = batch(whole, frames=False)
    found = []
    for config in (whole, split):
        network.zero_grad()
        forward_and_backward(fabric, fabric.setup_module(network), images.float(), labels, config)
        found.append(torch.cat([p.grad.flatten() for p in network.parameters()]))
    assert torch.nn.functional.cosine_similarity(*found, dim=0) > 0.99


def test_parts_too_small_are_refused():
    with pytest.raises(ValueError, match="micro_batches=5: must leave at least two samples of a batch"):
        RunConfig(batch_size=8, micro_batches=5)


def test_a_run_in_parts_learns_and_is_another_run(tiny):
    whole, parts = tiny(loss="tcl", epochs=3), tiny(loss="tcl", epochs=3, micro_batches=4)
    assert whole.identity() != parts.identity()
    losses = train(parts, verbose=False).metrics["loss"]
    assert losses.iloc[-1] < losses.iloc[0]
