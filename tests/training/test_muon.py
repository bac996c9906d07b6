"""Muon: its orthogonal steps, and the weights that take them."""

import copy

import pytest
import torch

from tcl_lib.config import RunConfig
from tcl_lib.training.build import build_network, build_optimizer
from tcl_lib.training.muon import orthogonal


def polynomial(values):
    for _ in range(3):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return values


def by_decomposition(matrix):
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    return u @ torch.diag(polynomial(s / s.norm())) @ v


@pytest.mark.parametrize("shape", [(5, 5), (4, 30), (30, 4)])
def test_orthogonal_keeps_the_singular_vectors(shape):
    torch.manual_seed(0)
    matrix = 7 * torch.randn(shape, dtype=torch.float64)
    torch.testing.assert_close(orthogonal(matrix), by_decomposition(matrix))


def test_singular_values_are_as_near_one_as_documented():
    for value in torch.linspace(0.021, 0.999, 200, dtype=torch.float64):
        norm_one = torch.diag(torch.stack([value, (1 - value**2).sqrt()]))
        assert 0.68 < orthogonal(norm_one)[0, 0] < 1.21
    assert orthogonal(torch.diag(torch.tensor([1e-6, 1.0])))[0, 0] == pytest.approx(41e-6, rel=0.01)


def test_a_gradient_of_zero_gives_no_step():
    assert orthogonal(torch.zeros(2, 3)).tolist() == [[0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_by_hand(momentum):
    """Three steps: convolutions after the stem by a plain loop, everything else by torch's SGD."""
    torch.manual_seed(0)
    config = RunConfig(optimizer="muon", lr=0.3, momentum=momentum, stem_width=3, weight_decay=0.01)
    network = build_network(config, (1, 8, 8), 10).double().to(memory_format=torch.channels_last)
    optimizer = build_optimizer(network, config)
    optimizer.dtype = torch.float64
    plain = copy.deepcopy(network)
    sgd = build_optimizer(plain, RunConfig(lr=0.3, momentum=momentum, weight_decay=0.01))
    convolutions = {
        name: [parameter.detach().clone(), torch.zeros_like(parameter)]
        for name, parameter in network.named_parameters()
        if parameter.ndim == 4 and name.startswith("body.")
    }
    assert len(convolutions) == 3
    for _ in range(3):
        for parameter, other in zip(network.parameters(), plain.parameters(), strict=True):
            parameter.grad = torch.randn_like(parameter)
            other.grad = parameter.grad.clone()
        for name, (weight, average) in convolutions.items():
            gradient = network.get_parameter(name).grad
            average.copy_(momentum * average + gradient)
            direction = by_decomposition((gradient + momentum * average).flatten(1)).view_as(weight)
            norm = min(weight.flatten(1).shape) ** 0.5
            weight.copy_(weight * norm / weight.norm() - 0.1 * direction)
        optimizer.step()
        sgd.step()
    for (name, parameter), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        expected = convolutions[name][0] if name in convolutions else other
        torch.testing.assert_close(parameter, expected, msg=name)


def test_weights_without_a_gradient_stay():
    config = RunConfig(optimizer="muon")
    network = build_network(config, (1, 8, 8), 10)
    before = copy.deepcopy(network.state_dict())
    build_optimizer(network, config).step()
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize(("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)])
def test_steps_have_the_precision_of_the_run(precision, dtype):
    config = RunConfig(optimizer="muon", precision=precision)
    assert build_optimizer(build_network(config, (1, 8, 8), 10), config).dtype == dtype


def test_convolutions_that_share_a_weight_take_one_step():
    config = RunConfig(optimizer="muon")
    network = build_network(config, (1, 8, 8), 10)
    first, *_, last = [m for m in network.body.modules() if isinstance(m, torch.nn.Conv2d)]
    last.weight = first.weight
    (group,) = [g for g in build_optimizer(network, config).param_groups if g.get("orthogonal")]
    assert sum(weight is first.weight for weight in group["params"]) == 1


def test_a_backbone_without_convolutions_is_refused():
    config = RunConfig(optimizer="muon")
    network = build_network(config, (1, 8, 8), 10)
    network.body = torch.nn.Linear(8, 8)
    with pytest.raises(ValueError, match=r"^optimizer='muon': backbone='convnet' has no convolution"):
        build_optimizer(network, config)
