"""When a run's neurons are compiled, and that its numbers do not change by it."""

import filecmp
import logging
import os
import subprocess
import sys
from collections import Counter

import pytest
import torch
from conftest import too_long

from tcl_lib import train
from tcl_lib.neurons import Spiking, lif_box_neuron, lif_neuron, spiking_layers
from tcl_lib.training import compilation
from tcl_lib.training.compilation import TIMED_STEPS, Compilation, compile_neurons


def compiled_after(config, steps, monkeypatch, seconds_a_step, before=()):
    """Whether a layer is compiled after the first steps of a run of `steps` at this pace."""
    monkeypatch.setattr(compilation, "_uncompiled", Counter(before))
    clock = iter([0.0, seconds_a_step * TIMED_STEPS])
    monkeypatch.setattr(compilation, "perf_counter", lambda: next(clock))
    layer = Spiking(lif_box_neuron())
    watch = Compilation(config, layer, torch.device("cpu"), steps)
    for _ in range(TIMED_STEPS + 1):
        watch.step()
    return layer.compiled


@pytest.mark.parametrize(
    ("steps", "seconds", "long_enough"),
    [(1000, 0.1, True), (1000, 0.05, False), (20, 0.1, False), (TIMED_STEPS + 1, 100.0, False)],
)
def test_auto_compiles_what_takes_long(tiny, monkeypatch, caplog, steps, seconds, long_enough):
    caplog.set_level(logging.INFO)
    config = tiny()  # T = 2: from a minute on
    assert compiled_after(config, steps, monkeypatch, seconds) == long_enough
    said = "min to go at this pace: compiling the neurons first" in caplog.text
    assert said == long_enough


@pytest.mark.parametrize(("before", "compiled"), [({2: 0.0}, False), ({2: 59.0}, True), ({4: 500.0}, False)])
def test_auto_compiles_what_many_runs_of_a_process_share(tiny, monkeypatch, before, compiled):
    assert compiled_after(tiny(), 20, monkeypatch, 0.1, before) == compiled  # it has 1.1 s to go


@pytest.mark.parametrize(("how", "compiled"), [("on", True), ("off", False)])
def test_on_and_off_do_not_ask(tiny, monkeypatch, how, compiled):
    assert compiled_after(tiny(compile=how), 10**6, monkeypatch, 1.0) == compiled


def test_without_a_compiler_the_run_says_so_and_goes_on(tiny, monkeypatch):
    monkeypatch.setattr(compilation, "compile_neurons", lambda network, device: "no compiler")
    with pytest.warns(UserWarning, match="^the neurons run uncompiled: no compiler$"):
        run = train(tiny(compile="on", epochs=1), verbose=False)
    assert run.result["test_accuracy"] > 0


def test_compile_neurons_compiles_a_network_whole():
    network = torch.nn.Sequential(
        Spiking(lif_box_neuron()), torch.nn.Sequential(torch.nn.Linear(3, 3), Spiking(lif_neuron()))
    )
    current = torch.randn(4, 2, 3)
    expected = network(current)
    assert compile_neurons(network, torch.device("cpu")) is None
    assert [layer.compiled for layer in spiking_layers(network)] == [True, True]
    assert torch.equal(network(current), expected)


def test_compile_neurons_without_a_compiler_leaves_the_network_as_it_was(tmp_path):
    script = """
import torch
from tcl_lib.neurons import Spiking, lif_box_neuron
from tcl_lib.training.compilation import compile_neurons
layer = Spiking(lif_box_neuron())
print(compile_neurons(layer, torch.device("cpu")))
print(layer.compiled, layer(torch.full((2, 1), 0.8)).flatten().tolist())
"""
    environment = {"CXX": "/nowhere", "PATH": "/nowhere", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", script]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, cwd=tmp_path, check=True
    )
    reason, after = done.stdout.splitlines()
    assert "compiler" in reason.lower()
    assert after == "False [0.0, 1.0]"


@pytest.mark.parametrize("precision", ["32-true", *too_long("bf16-mixed")])
def test_a_compiled_run_is_the_same_run_to_the_bit(tiny, precision):
    plain = train(tiny(compile="off", precision=precision, loss="tcl", run_name="plain"), verbose=False)
    fused = train(tiny(compile="on", precision=precision, loss="tcl", run_name="fused"), verbose=False)
    columns = [name for name in plain.metrics if name != "seconds"]
    assert plain.metrics[columns].equals(fused.metrics[columns])
    for name in ("accuracy_by_step.csv", "firing_rates.csv", "similarity.csv"):
        assert filecmp.cmp(plain.path / name, fused.path / name, shallow=False)
    states = [run.model().state_dict() for run in (plain, fused)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
