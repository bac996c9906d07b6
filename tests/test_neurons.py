"""The neuron against its equation: by hand, against a plain loop, and in its gradient."""

import pytest
import torch
from norse.torch.functional.lif_box import (
    LIFBoxFeedForwardState,
    LIFBoxParameters,
    lif_box_feed_forward_step,
)
from torch.testing import assert_close

from tcl_lib.neurons import NEURONS, Spiking, lif, lif_synaptic


class Triangle(torch.autograd.Function):
    """A step whose gradient is the triangle of half-width 1, written anew."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx, gradient):
        (x,) = ctx.saved_tensors
        return gradient * (1 - x.abs()).clamp(min=0)


def plain_lif(current, decay, v_th):
    v = s = torch.zeros_like(current[0])
    spikes = []
    for x in current:
        v = decay * v * (1 - s) + x
        s = Triangle.apply(v - v_th)
        spikes.append(s)
    return torch.stack(spikes)


def plain_lif_synaptic(current, decay, v_th):
    v = s = i = torch.zeros_like(current[0])
    spikes = []
    for x in current:
        i = i + x
        v = decay * v * (1 - s) + i
        s = Triangle.apply(v - v_th)
        i = 0.8 * i
        spikes.append(s)
    return torch.stack(spikes)


def test_trajectory_by_hand():
    current = torch.tensor([0.8, 0.8, 0.5, 0.5, 0.5, 1.5, 0.2]).view(7, 1)
    # v = 0.8; 1.2 fires; 0.5 from rest; 0.75; 0.875; 1.9375 fires; 0.2 from rest
    assert lif(current).flatten().tolist() == [0, 1, 0, 0, 0, 1, 0]
    # with decay 0.75, v = 0.8; 1.4 fires; 0.5; 0.875; 1.15625 fires; 1.5 fires; 0.2
    assert lif(current, decay=0.75).flatten().tolist() == [0, 1, 0, 0, 1, 1, 0]


def test_a_potential_at_the_threshold_does_not_fire():
    current = torch.tensor([[1.0, 1.0 + 1e-6, 0.25, 0.5]])
    assert lif(current).tolist() == [[0, 1, 0, 0]]
    assert lif(current, v_th=0.25).tolist() == [[1, 1, 0, 1]]


def test_gradient_by_hand():
    current = torch.tensor([[0.8], [0.9]], dtype=torch.float64, requires_grad=True)
    lif(current)[1].sum().backward()
    # v1 = 0.8, silent; v2 = 0.5 * 0.8 + 0.9 = 1.3, surrogate 1 - 0.3; surrogate at v1: 1 - 0.2
    # ds2/dx1 = 0.7 * 0.5 * (1 - s1 - v1 * 0.8) = 0.7 * 0.5 * (1 - 0.64)
    assert_close(current.grad, torch.tensor([[0.7 * 0.5 * 0.36], [0.7]], dtype=torch.float64))


@pytest.mark.parametrize("decay", [0.0, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("v_th", [0.5, 1.0, 1.7])
@pytest.mark.parametrize(("neuron", "plain"), [(lif, plain_lif), (lif_synaptic, plain_lif_synaptic)])
def test_equals_the_equation_forward_and_gradient(neuron, plain, decay, v_th):
    generator = torch.Generator().manual_seed(1)
    values = 1.5 * torch.randn(9, 4, 3, 5, generator=generator, dtype=torch.float64)
    weight = torch.randn(9, 4, 3, 5, generator=generator, dtype=torch.float64)
    results = []
    for function in (neuron, plain):
        current = values.clone().requires_grad_()
        spikes = function(current, decay, v_th)
        (spikes * weight).sum().backward()
        results.append((spikes, current.grad))
    (spikes, gradient), (expected, expected_gradient) = results
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(spikes, expected)
    assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("decay", "v_th"), [(0.5, 1.0), (0.9, 0.7), (0.0, 1.3)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_equals_norse_forward_and_gradient(dtype, decay, v_th, layout):
    generator = torch.Generator().manual_seed(2)
    values = 1.5 * torch.randn(7 * 4, 3, 5, 6, generator=generator)
    values = values.to(dtype).contiguous(memory_format=layout).unflatten(0, (7, 4))
    weight = torch.randn(7, 4, 3, 5, 6, generator=generator).to(dtype)
    p = LIFBoxParameters(tau_mem_inv=1 - decay, v_th=v_th, method="triangle", alpha=1.0)
    norse_current, current = values.clone().requires_grad_(), values.clone().requires_grad_()
    state = LIFBoxFeedForwardState(v=torch.zeros_like(values[0]))
    expected = []
    for step in norse_current / (1 - decay):
        spike, state = lif_box_feed_forward_step(step, state, p, dt=1.0)
        expected.append(spike)
    (torch.stack(expected) * weight).sum().backward()
    spikes = lif(current, decay, v_th)
    (spikes * weight).sum().backward()
    assert torch.equal(spikes, torch.stack(expected))
    # the same sum in another order; bfloat16 has 8 bits
    exact = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2}[dtype]
    assert_close(current.grad, norse_current.grad, rtol=exact, atol=exact)


def test_the_gradient_needs_the_membrane_potentials_alone():
    saved = []
    current = torch.randn(5, 2, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: saved.append(x) or x, lambda x: x):
        lif(current)
    (potentials,) = saved
    assert potentials.shape == current.shape


@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
@pytest.mark.parametrize("shape", [(1, 1), (3, 2), (2, 3, 4), (4, 2, 3, 5, 7)])
def test_any_shape_with_time_in_front(neuron, shape):
    current = torch.randn(shape)
    assert neuron(current).shape == shape
    # every neuron is for itself, whatever stands beside it
    alone = neuron(current.flatten(1)[:, :1])
    assert torch.equal(neuron(current).flatten(1)[:, :1], alone)


@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
def test_state_is_fresh_in_every_call_and_steps_see_only_the_past(neuron):
    current = torch.randn(6, 2, 3)
    spikes = neuron(current)
    assert torch.equal(neuron(current), spikes)
    assert torch.equal(neuron(current[:4]), spikes[:4])


@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
def test_the_caller_s_tensor_is_left_alone(neuron):
    current = torch.randn(3, 2)
    before = current.clone()
    neuron(current)
    assert torch.equal(current, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_dtype_and_channels_last(dtype):
    step = torch.randn(2, 8, 4, 4, dtype=dtype).contiguous(memory_format=torch.channels_last)
    spikes = lif(step.expand(3, *step.shape))
    assert spikes.dtype == dtype
    assert spikes.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
@pytest.mark.parametrize(("decay", "v_th"), [(1.0, 1.0), (-0.1, 1.0), (0.5, 0.0), (float("nan"), 1.0)])
def test_out_of_range_is_refused(neuron, decay, v_th):
    with pytest.raises(ValueError, match="must be"):
        neuron(torch.zeros(1, 1), decay, v_th)


@pytest.mark.parametrize("name", NEURONS)
def test_the_module_is_the_function(name):
    current = torch.randn(4, 2, 3)
    layer = Spiking(name, decay=0.7, v_th=0.8)
    assert torch.equal(layer(current), NEURONS[name](current, 0.7, 0.8))
    assert not list(layer.parameters())
    assert not layer.state_dict()
