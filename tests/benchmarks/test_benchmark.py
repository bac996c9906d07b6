"""The benchmark measures equal networks, and reports what it measures."""

from contextlib import nullcontext
from importlib import metadata

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks import peers, speed
from benchmarks import subjects as of_subjects
from benchmarks.parameters import Benchmark
from benchmarks.speed import exponents, measure, measure_steps
from benchmarks.subjects import subjects
from tcl_lib.config import RunConfig


def installed(library):
    try:
        metadata.version(library)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{library} is not installed")


def same_weights(network, other):
    """Give `other` the weights of `network`, layer by layer."""
    kinds = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)
    pairs = ([m for m in net.modules() if isinstance(m, kinds)] for net in (network, other))
    for ours, theirs in zip(*pairs, strict=True):
        theirs.load_state_dict(ours.state_dict())


def settled(network, images):
    """In evaluation mode, batch norm's statistics those of a batch: all neurons fire."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    network(images)
    return network.eval()


@pytest.mark.parametrize("library", peers.PEERS)
def test_a_library_s_network_is_the_same(library):
    installed(library)
    torch.manual_seed(0)
    config = RunConfig(time_steps=5, loss="ce")
    images = torch.randn(4, 3, 16, 16)
    ours = settled(peers.ours(config, (3, 16, 16), 10), images)
    theirs = peers.PEERS[library](5, 3, 10).eval()
    same_weights(ours, theirs)
    count = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert count[0] == count[1]
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)


@pytest.mark.parametrize("backbone", ["convnet", "resnet19"])
def test_spikingjelly_s_neurons_in_our_network_fire_as_ours(backbone):
    installed("spikingjelly")
    torch.manual_seed(0)
    config = RunConfig(time_steps=3, loss="ce", backbone=backbone)
    images = torch.randn(4, 3, 16, 16)
    ours = settled(peers.ours(config, (3, 16, 16), 10), images)
    theirs = peers.spikingjelly_neurons(config, (3, 16, 16), 10).eval()
    same_weights(ours, theirs)
    # in float64: in float32, a current within rounding of the threshold fires in one of them alone
    ours, theirs, images = ours.double(), theirs.double(), images.double()
    with torch.no_grad():
        assert torch.allclose(ours(images), theirs(images), atol=1e-5)


def test_the_limit_is_the_same_network_on_every_step():
    config = RunConfig(time_steps=3, loss="ce")
    network = peers.relu(config, (3, 8, 8), 10)
    seen = []
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    for convolution in convolutions:
        convolution.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    network(torch.randn(4, 3, 8, 8))
    assert seen == [3 * 4] * 4
    assert sum(isinstance(module, nn.ReLU) for module in network.modules()) == 4
    ours = peers.ours(config, (3, 8, 8), 10)
    assert [p.shape for p in network.parameters()] == [p.shape for p in ours.parameters()]


def test_what_is_not_installed_is_left_out_and_named(monkeypatch):
    def missing(name):
        if name in peers.PEERS:
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(of_subjects.metadata, "version", missing)
    with pytest.warns(UserWarning, match="is left out") as caught:
        found = subjects(Benchmark())
    assert [(s.name, s.precision) for s in found] == [
        (name, precision) for precision in ("32-true", "bf16-mixed") for name in ("tcl_lib", "ReLU")
    ]
    assert [str(warning.message) for warning in caught] == [
        f"{library} is left out: it is not installed (pip install -e benchmarks)" for library in peers.PEERS
    ]


def test_another_backbone_has_spikingjelly_s_neurons_alone(monkeypatch):
    monkeypatch.setattr(of_subjects.metadata, "version", lambda name: "1")
    with pytest.warns(UserWarning, match="is left out") as caught:
        found = subjects(Benchmark(backbone="vggsnn", precisions=["32-true"]))
    assert [s.name for s in found] == ["tcl_lib", "ReLU", "spikingjelly"]
    assert [str(warning.message) for warning in caught] == [
        f"{library} is left out: it is only measured with backbone='convnet'"
        for library in ("snntorch", "norse")
    ]


def test_only_spikingjelly_runs_in_bf16_too(monkeypatch):
    monkeypatch.setattr(of_subjects.metadata, "version", lambda name: "1")
    for precisions, expected in (
        (["32-true", "bf16-mixed"], ["32-true", "bf16-mixed"]),
        (["32-true"], ["32-true"]),
    ):
        found = subjects(Benchmark(precisions=precisions))
        assert [s.precision for s in found if s.name == "spikingjelly"] == expected
        assert [s.precision for s in found if s.name in ("snntorch", "norse")] == ["32-true"] * 2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"time_steps": []}, "time_steps=[]: must have at least one item"),
        ({"precisions": []}, "precisions=[]: must have at least one item"),
        ({"time_steps": [0]}, "time_steps=[0]: item 0 must be greater than or equal to 1"),
        (
            {"libraries": ["bindsnet"]},
            "libraries=['bindsnet']: item 0 must be 'spikingjelly', 'snntorch' or 'norse'",
        ),
        ({"precisions": "bf16-mixed"}, "precisions='bf16-mixed': must be a valid list"),
        ({"rounds": 1}, "rounds=1: must be greater than or equal to 2"),
        ({"batch_size": 15}, "batch_size=15: must be greater than or equal to 16"),
        ({"long_time_steps": 3}, "long_time_steps=3: must be greater than or equal to 4"),
        ({"backbone": "resnet18"}, "backbone='resnet18': must be 'convnet', 'vggsnn' or 'resnet19'"),
    ],
)
def test_invalid_parameters_are_refused(parameters, message):
    with pytest.raises(ValueError, match="must") as caught:
        Benchmark(**parameters)
    assert str(caught.value) == message


@pytest.mark.soak
def test_a_table_of_a_small_benchmark():
    small = Benchmark(time_steps=[1, 2], batch_size=16, image_size=8, rounds=2, libraries=[], device="cpu")
    table = measure(small)
    assert table.groupby(["subject", "precision"]).size().tolist() == [2] * 4
    assert (table["low_ms"] <= table["median_ms"]).all()
    assert (table["median_ms"] <= table["high_ms"]).all()
    assert np.allclose(table["images_per_second"], 16000 / table["median_ms"])
    for _, rows in table.groupby("time_steps"):
        assert rows[rows["subject"] == "ReLU"]["x_limit"].min() == 1
        assert rows[rows["subject"] == "tcl_lib"]["x_tcl_lib"].min() == 1
    assert not (table["peak_memory_mb"] <= 0).any()
    assert table["machine"].str.contains("thread").all()
    assert speed.file_name(table).startswith("convnet-B16-8px-T1-2-")


def test_the_exponent_of_a_power_law():
    steps = np.array([1, 2, 4, 8])
    table = pd.DataFrame({"time_steps": steps, "median_ms": 3.0 * steps, "peak_memory_mb": 5 * steps**0.5})
    found = exponents(table.assign(subject="ours", precision="32-true"))
    assert found.loc[0, ["time", "memory"]].tolist() == pytest.approx([1.0, 0.5])
    untold = table.assign(subject="ours", precision="32-true", peak_memory_mb=0.0)
    assert np.isnan(exponents(untold).loc[0, "memory"])
    assert exponents(table[:1].assign(subject="ours", precision="32-true")).empty


def test_measure_steps_gives_multiples_of_the_first_and_reports_uncompiled_neurons(monkeypatch):
    settings = []
    monkeypatch.setattr(
        speed, "gpu_settings", lambda *given, **named: settings.append(named) or nullcontext()
    )
    monkeypatch.setattr(speed, "compile_neurons", lambda network, device: "no compiler")
    small = Benchmark(batch_size=16, image_size=8, rounds=2, device="cpu")
    configs = {"one": small.config(1), "two": small.config(1, "stcl", micro_batches=2)}
    with pytest.warns(UserWarning, match="the neurons of tcl_lib run uncompiled: no compiler"):
        table = measure_steps(small, configs)
    assert settings == [{"tf32": False}]  # a GPU computes as it does in training
    assert table["step"].tolist() == ["one", "two"]
    assert table["x_time"].tolist() == pytest.approx((table["median_ms"] / table["median_ms"][0]).tolist())
