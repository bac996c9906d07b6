"""The neuron against its equation: by hand, against a plain loop, and in its gradient."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from norse.torch.functional.lif import LIFFeedForwardState, LIFParameters, lif_feed_forward_step
from norse.torch.functional.lif_adex import (
    LIFAdExFeedForwardState,
    LIFAdExParameters,
    lif_adex_feed_forward_step,
)
from norse.torch.functional.lif_box import (
    LIFBoxFeedForwardState,
    LIFBoxParameters,
    lif_box_feed_forward_step,
)
from norse.torch.functional.lsnn import LSNNFeedForwardState, LSNNParameters, lsnn_feed_forward_step
from torch.testing import assert_close

from tcl_lib.backbones import convnet
from tcl_lib.neurons import (
    NEURONS,
    Neuron,
    Spiking,
    lif,
    lif_box_neuron,
    lif_synaptic,
    spikes,
    spiking_layers,
    step_by_step,
)


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


def norse_box(current, decay, v_th):
    p = LIFBoxParameters(tau_mem_inv=1 - decay, v_th=v_th, method="triangle", alpha=1.0)
    state = LIFBoxFeedForwardState(v=torch.zeros_like(current[0]))
    spikes = []
    for step in current / (1 - decay):
        spike, state = lif_box_feed_forward_step(step, state, p, dt=1.0)
        spikes.append(spike)
    return torch.stack(spikes)


def norse_synaptic(current, decay, v_th):
    p = LIFParameters(tau_syn_inv=0.2, tau_mem_inv=1 - decay, v_th=v_th, method="triangle", alpha=1.0)
    rest = torch.zeros_like(current[0])
    state = LIFFeedForwardState(v=rest, i=rest)
    spikes = []
    for step in current / (1 - decay):
        spike, state = lif_feed_forward_step(step, state, p, dt=1.0)
        spikes.append(spike)
    return torch.stack(spikes)


NORSE = {"lif_box": norse_box, "lif": norse_synaptic}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("decay", "v_th"), [(0.5, 1.0), (0.9, 0.7), (0.0, 1.3)])
@pytest.mark.parametrize("name", NEURONS)
def test_step_by_step_is_a_loop_of_norse_s_step_bit_for_bit(name, decay, v_th, dtype):
    """Spikes and gradient of `step_by_step`; those of `spikes` are equal to the bit and within rounding."""
    generator = torch.Generator().manual_seed(4)
    values = 1.5 * torch.randn(8, 3, 5, generator=generator, dtype=dtype)
    weight = torch.randn(8, 3, 5, generator=generator, dtype=dtype)
    neuron = NEURONS[name](decay, v_th)
    functions = (
        lambda x: NORSE[name](x, decay, v_th),
        partial(step_by_step, neuron),
        partial(spikes, neuron),
    )
    results = []
    for function in functions:
        current = values.clone().requires_grad_()
        fired = function(current)
        results.append((fired, *torch.autograd.grad((fired * weight).sum(), current)))
    (loop, gradient), (plain, plain_gradient), (written, written_gradient) = results
    assert 0.05 < loop.mean() < 0.95
    assert torch.equal(plain, loop)
    assert torch.equal(plain_gradient, gradient)
    assert torch.equal(written, loop)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
    assert_close(written_gradient, gradient, rtol=tolerance, atol=tolerance)


def test_lif_is_the_loop_of_norse_s_step_at_the_defaults():
    current = torch.randn(6, 4, 3, dtype=torch.float64, requires_grad=True)
    expected = step_by_step(lif_box_neuron(), current)
    assert torch.equal(lif(current), expected)
    found, wanted = (torch.autograd.grad(fired.sum(), current)[0] for fired in (lif(current), expected))
    assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_neuron_whose_first_spikes_have_the_shape_of_the_rest_state_runs():
    rest = LSNNFeedForwardState(*torch.zeros(3))
    neuron = Neuron(lsnn_feed_forward_step, LSNNParameters(method="triangle", alpha=1.0), rest)
    assert step_by_step(neuron, torch.ones(4, 2, 3)).shape == (4, 2, 3)


def adex(**parameters) -> Neuron:
    """Norse's adaptive exponential neuron, which has no fused form."""
    chosen = LIFAdExParameters(method="triangle", alpha=1.0, **parameters)
    return Neuron(lif_adex_feed_forward_step, chosen, LIFAdExFeedForwardState(*torch.zeros(3)))


def test_spikes_of_any_neuron_of_norse_are_those_of_its_loop():
    current = torch.rand(12, 2, 5, dtype=torch.float64, requires_grad=True)
    neuron = adex(v_th=torch.tensor(0.2))
    state, expected = neuron.rest, []
    for x in current:
        fired, state = lif_adex_feed_forward_step(x, state, neuron.parameters, dt=0.001)
        expected.append(fired)
    expected = torch.stack(expected)
    assert 0.02 < expected.mean() < 0.98
    for found in (
        step_by_step(neuron, current),
        spikes(neuron, current),
        spikes(neuron, current, compiled=True),
    ):
        assert torch.equal(found, expected)
        found, wanted = (
            torch.autograd.grad(s.sum(), current, retain_graph=True)[0] for s in (found, expected)
        )
        assert torch.equal(found, wanted)
        assert found.any()


def test_a_convnet_of_another_neuron_spikes_and_learns():
    network = convnet(3, 8, num_classes=5, neuron=adex(v_th=torch.tensor(0.02)), time_steps=6)
    rates = []
    for layer in spiking_layers(network):
        layer.register_forward_hook(lambda module, inputs, output: rates.append(output.mean().item()))
    out = network(torch.rand(4, 3, 8, 8))
    assert out.logits.shape == (6, 4, 5)
    assert len(rates) == 4
    assert all(0 < rate < 1 for rate in rates), rates
    out.logits.square().sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters())
    assert all(parameter.grad.any() for parameter in network.parameters() if parameter.ndim > 1)


# What is compiled takes seconds a variant: every neuron, precision, number of steps and layout once.
PLAIN = [
    (dtype, decay, v_th, steps, layout, False)
    for dtype in (torch.float64, torch.float32, torch.bfloat16)
    for decay, v_th in ((0.5, 1.0), (0.9, 0.7), (0.0, 1.3))
    for steps in (1, 7)
    for layout in (torch.contiguous_format, torch.channels_last)
]
COMPILED = [
    (torch.float32, 0.5, 1.0, 4, torch.channels_last, True),
    *(
        pytest.param(*variant, marks=pytest.mark.soak)
        for variant in (
            (torch.bfloat16, 0.5, 1.0, 4, torch.channels_last, True),
            (torch.float64, 0.3, 1.3, 2, torch.contiguous_format, True),
            (torch.float32, 0.0, 1.0, 1, torch.channels_last, True),
        )
    ),
]


@pytest.mark.parametrize(("neuron", "norse"), [(lif, norse_box), (lif_synaptic, norse_synaptic)])
@pytest.mark.parametrize(("dtype", "decay", "v_th", "steps", "layout", "compiled"), PLAIN + COMPILED)
def test_equals_norse_forward_and_gradient(neuron, norse, dtype, decay, v_th, steps, layout, compiled):
    generator = torch.Generator().manual_seed(2)
    values = 1.5 * torch.randn(steps * 4, 3, 5, 7, generator=generator)
    values = values.to(dtype).contiguous(memory_format=layout).unflatten(0, (steps, 4))
    weight = torch.randn(values.shape, generator=generator).to(dtype)
    current = values.clone().requires_grad_()
    spikes = neuron(current, decay, v_th, compiled=compiled)
    (spikes * weight).sum().backward()
    # the state is float32 at the least
    exact = torch.promote_types(dtype, torch.float32)
    norse_current = values.to(exact).requires_grad_()
    expected = norse(norse_current, decay, v_th)
    (expected * weight.to(exact)).sum().backward()
    assert spikes.dtype == current.grad.dtype == dtype
    assert torch.equal(spikes.to(exact), expected)
    # the same sum in another order, and rounded to the current's precision
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2**-8}[dtype]
    assert_close(current.grad.to(exact), norse_current.grad, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", [(4, 3, 1, 1), (4, 2, 3, 5, 7), (4, 2, 16, 4, 4), (4, 33)])
@pytest.mark.parametrize("still", [False, pytest.param(True, marks=pytest.mark.soak)])
@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
def test_compiled_and_plain_agree_to_the_bit(neuron, still, shape):
    values = 1.5 * torch.randn(shape)
    weight = torch.randn(shape)
    results = []
    for compiled in (False, True):
        current = values[: 1 if still else None].clone().requires_grad_()
        spikes = neuron(current, time_steps=4, compiled=compiled)
        results.append((spikes, *torch.autograd.grad((spikes * weight).sum(), current)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_steps_in_bf16_compiled_agree_to_the_bit():
    current = (1.5 * torch.randn(4, 3, 5)).bfloat16()
    weight = torch.randn(4, 3, 5).bfloat16()
    results = []
    for compiled in (False, True):
        x = current.clone().requires_grad_()
        spikes = lif(x, 0.9, compiled=compiled)
        results.append((spikes, *torch.autograd.grad((spikes * weight).sum(), x)))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="of a GPU")
@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
def test_compiled_on_a_gpu(neuron):
    """To rounding: its compiler may join a product and a sum."""
    current = 1.5 * torch.randn(4, 2, 16, 4, 4, device="cuda")
    results = []
    for compiled in (False, True):
        x = current.clone().requires_grad_()
        spikes = neuron(x, 0.9, compiled=compiled)
        results.append((spikes, *torch.autograd.grad(spikes.sum(), x)))
    same = (results[0][0] == results[1][0]).float().mean()
    assert same > 0.999
    assert (results[0][1] - results[1][1]).abs().mean() < 1e-3


@pytest.mark.soak
def test_another_process_finds_what_was_compiled(tmp_path):
    script = """
import torch
from torch._dynamo.utils import counters
from tcl_lib.neurons import lif
lif(torch.ones(2, 3), compiled=True)
print(counters["inductor"]["fxgraph_cache_hit"], counters["inductor"]["fxgraph_cache_miss"])
"""
    environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    counts = [
        subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert counts == [["0", "1"], ["1", "0"]]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
def test_the_gradient_needs_the_current_alone(neuron, compiled):
    def saved(current):
        tensors = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: tensors.append(x) or x, lambda x: x):
            neuron(current, time_steps=4, compiled=compiled)
        return sum(tensor.untyped_storage().nbytes() for tensor in tensors)

    assert saved(torch.randn(4, 2, 3, requires_grad=True)) == 4 * 4 * 2 * 3
    assert saved(torch.randn(1, 2, 3, requires_grad=True)) == 4 * 2 * 3


@pytest.mark.parametrize("neuron", [lif, lif_synaptic])
def test_a_current_that_stays_is_that_current_at_every_step(neuron):
    current = torch.randn(1, 2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(6, 2, 3, 4, 5, dtype=torch.float64)
    results = []
    for fired in (neuron(current, time_steps=6), neuron(current.expand(6, 2, 3, 4, 5))):
        results.append((fired, *torch.autograd.grad((fired * weight).sum(), current)))
    assert torch.equal(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 2, 4])
def test_other_time_steps_than_the_current_has_are_refused(steps):
    with pytest.raises(ValueError, match=f"time_steps={steps}: must be >= 1; the current has 3 steps"):
        lif(torch.zeros(3, 1), time_steps=steps)


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
    neuron = NEURONS[name](0.7, 0.8)
    layer = Spiking(neuron)
    assert torch.equal(layer(current), spikes(neuron, current))
    assert repr(layer).startswith(f"Spiking({neuron.step.__name__}, ")
    assert not list(layer.parameters())
    assert not layer.state_dict()
