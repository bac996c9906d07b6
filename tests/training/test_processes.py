"""Several processes train the run of one: real processes, on the CPU with gloo, real signals."""

import importlib
import multiprocessing
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import time
import warnings
from copy import deepcopy
from datetime import timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import too_long
from torch import distributed, nn
from torch.testing import assert_close

import tcl_lib
from tcl_lib import RunConfig, build_network, load_data, load_run, train
from tcl_lib.data import training_batches
from tcl_lib.runs import checkpoints, layout
from tcl_lib.training import batchnorm, processes
from tcl_lib.training.build import build_optimizer
from tcl_lib.training.processes import Processes
from tcl_lib.training.step import forward_and_backward
from tcl_lib.utils.paths import CHECKOUT

# Processes forked off one that has torch loaded and has computed nothing: they start at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tcl_lib.training.loop"])


def begin(count: int, function, *arguments, context=PROCESSES) -> list[BaseProcess]:
    """Start processes as a launcher does: each knows its number and where the first one is."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [context.Process(target=work, args=(i, port, function, *arguments)) for i in range(count)]
    for number, process in enumerate(started):
        os.environ["PYTHONHASHSEED"] = str(number)  # of processes that start afresh: sets have other orders
        process.start()
    del os.environ["PYTHONHASHSEED"]
    return started


def work(rank: int, port: int, function, *arguments) -> None:
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    os.environ["MASTER_PORT"] = str(port)
    torch.set_num_threads(1)
    function(*arguments)


def end(started: list[BaseProcess], code: int = 0, seconds: float = 180) -> None:
    for process in started:
        process.join(seconds)
    assert [process.exitcode for process in started] == len(started) * [code]


def config_of(folder: Path, **changes) -> RunConfig:
    """A run of a second on real digits."""
    small = {"train_size": 96, "time_steps": 2, "epochs": 3, "batch_size": 32, "loss": "tcl", "device": "cpu"}
    return RunConfig(**small | {"runs_dir": str(folder), "run_name": "run", "compile": "off"} | changes)


# a step


def write_step(config: RunConfig, file: Path, dtype: torch.dtype, norms: bool) -> None:
    """Take a step up to the gradients; the first process writes loss, output and gradients."""
    group = Processes(config)
    data = load_data(config)
    torch.manual_seed(0)
    network = build_network(config, data.input_shape, 10).to(dtype)
    if not norms:
        for layer in network.modules():
            layer.momentum = 1.0  # of batch norm, whose statistics are then those of these images
        network(data.inputs(data.train[:]).to(dtype))
    if group.count > 1 and config.sync_batch_norm:
        network = batchnorm.synchronise(network, group.fabric.device)
    model, _ = group.fabric.setup(network, build_optimizer(network, config))
    model.train(norms)
    images, labels = next(training_batches(data, config, epoch=1, part=group.part))

    def whole(output):
        return group.output(output, config, len(labels))

    output, loss, _ = forward_and_backward(group.fabric, model, images.to(dtype), labels, config, whole=whole)
    if group.is_first:
        gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
        torch.save([loss.detach(), output.logits.detach(), gradients, dict(network.named_buffers())], file)


@pytest.mark.parametrize("count", [2, *too_long(4)])
@pytest.mark.parametrize("dtype", [torch.float64, *too_long(torch.float32)])
@pytest.mark.parametrize(
    ("loss", "changes"),
    [
        ("stcl", {}),
        ("ce", {"train_size": 31}),  # the only batch, which is uneven
        ("tcl", {"micro_batches": 2}),
        pytest.param("stcl", {"train_size": 31}, marks=pytest.mark.soak),
        pytest.param("tsd", {}, marks=pytest.mark.soak),
    ],
)
def test_step_of_several_processes_has_loss_and_gradients_of_one(tmp_path, loss, changes, count, dtype):
    """Of N x B samples: in float64 within 1e-12, in float32 within 1e-5."""
    norms = "micro_batches" not in changes  # batch norm sees other parts, and is fixed
    one = config_of(tmp_path, loss=loss, **changes)
    write_step(one, tmp_path / "one", dtype, norms)
    several = config_of(tmp_path, loss=loss, devices=count, **changes)
    end(begin(count, write_step, several, tmp_path / "several", dtype, norms))
    expected, found = (torch.load(tmp_path / name) for name in ("one", "several"))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5}[dtype]
    assert_close(found, expected, rtol=tolerance, atol=tolerance)
    assert found[2]["stem.0.weight"].abs().max() > 100 * tolerance


NORMS = {
    "BatchNorm1d": (nn.BatchNorm1d(3), (7, 3)),
    "BatchNorm1d in time": (nn.BatchNorm1d(3, affine=False), (7, 3, 5)),
    "mean of all batches": (nn.BatchNorm2d(3, momentum=None), (7, 3, 2, 4)),
    "no running statistics": (nn.BatchNorm2d(3, track_running_stats=False), (7, 3, 2, 4)),
    "BatchNorm3d": (nn.BatchNorm3d(3, momentum=0.3), (7, 3, 2, 1, 2)),
}


def write_norms(config: RunConfig, folder: Path) -> None:
    """Normalise three batches, each process with its part of them, and write output and buffers."""
    group = Processes(config)
    for name, (norm, shape) in NORMS.items():
        layer = batchnorm.synchronise(deepcopy(norm), group.fabric.device)
        generator = torch.Generator().manual_seed(0)
        batches = [10 * torch.randn(shape, generator=generator) + 3 for _ in range(3)]
        parts = [batch.tensor_split([3])[group.fabric.global_rank] for batch in batches]
        outputs = torch.stack([layer(part) for part in parts])
        torch.save([outputs, dict(layer.named_buffers())], folder / f"{name}-{group.fabric.global_rank}")


def test_synchronised_batch_norm_is_that_of_the_whole_batch_whatever_its_options(tmp_path):
    end(begin(2, write_norms, config_of(tmp_path, devices=2), tmp_path))
    for name, (norm, shape) in NORMS.items():
        layer = deepcopy(norm)
        generator = torch.Generator().manual_seed(0)
        expected = torch.stack([layer(10 * torch.randn(shape, generator=generator) + 3) for _ in range(3)])
        (first, buffers), (second, others) = (torch.load(tmp_path / f"{name}-{rank}") for rank in (0, 1))
        assert_close(torch.cat([first, second], dim=1), expected, msg=name)
        assert buffers.keys() == dict(layer.named_buffers()).keys()
        assert_close([buffers, others], 2 * [dict(layer.named_buffers())], msg=name)


def test_step_without_synchronised_batch_norm_is_another(tmp_path):
    """Each process normalises with its own samples, so the number of processes is part of the identity."""
    one = config_of(tmp_path)
    two = config_of(tmp_path, devices=2, sync_batch_norm=False)
    write_step(one, tmp_path / "one", torch.float64, True)
    end(begin(2, write_step, two, tmp_path / "two", torch.float64, True))
    loss, other = (torch.load(tmp_path / name)[0] for name in ("one", "two"))
    assert 1e-6 < (loss - other).abs() < 0.1 * loss
    assert two.identity() == one.identity() | {"processes": 2}
    assert config_of(tmp_path, devices=2).identity() == one.identity()
    assert config_of(tmp_path, devices=2, micro_batches=2).identity()["processes"] == 2


# a run


def assert_alike(path: Path, expected: Path) -> None:
    """The metrics of two runs are equal up to the rounding of three epochs."""
    found, other = (load_run(folder).metrics.drop(columns=["data", "seconds"]) for folder in (path, expected))
    pd.testing.assert_frame_equal(found, other, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def of_one(tmp_path_factory):
    """The run of one process."""
    return train(config_of(tmp_path_factory.mktemp("one")), verbose=False).path


@pytest.mark.parametrize("count", [2, *too_long(4)])
def test_train_in_several_processes_gives_the_metrics_of_one(tmp_path, of_one, count):
    config = config_of(tmp_path, devices=count)
    context = PROCESSES if count == 2 else multiprocessing.get_context("spawn")  # which takes longer
    end(begin(count, train, config, context=context))
    assert_alike(config.run_path, of_one)
    assert {path.name for path in config.run_path.iterdir()} == {path.name for path in of_one.iterdir()}
    assert load_run(config.run_path).description["machine"].startswith(f"{count} x ")


def start_slowly(config: RunConfig, file: Path) -> None:
    """Train; note the process number once the first checkpoint is there, and go on slowly."""
    step = forward_and_backward

    def noted(*arguments, **options):
        time.sleep(0.1)
        if (config.run_path / layout.CHECKPOINT).exists():
            file.with_suffix(f".{os.environ['LOCAL_RANK']}").touch()
        return step(*arguments, **options)

    from tcl_lib.training import loop

    loop.forward_and_backward = noted
    train(config)


def begin_training(config: RunConfig, folder: Path) -> list[BaseProcess]:
    started = begin(2, start_slowly, config, folder / "noted")
    ends = time.monotonic() + 120
    while not all((folder / f"noted.{rank}").exists() for rank in range(2)):
        assert time.monotonic() < ends
        time.sleep(0.02)
    return started


@pytest.mark.parametrize("rank", [1, *too_long(0)])
def test_sigterm_to_one_process_saves_once_and_ends_both(tmp_path, of_one, rank):
    """The run then goes on in one process, to the numbers of the undisturbed one."""
    config = config_of(tmp_path, devices=2)
    started = begin_training(config, tmp_path)
    os.kill(started[rank].pid, signal.SIGTERM)
    end(started, -signal.SIGTERM, seconds=30)
    saved = checkpoints.load(config.run_path / layout.CHECKPOINT)["progress"]
    assert 3 * len(saved["rows"]) + saved["step"] >= 4
    names = {layout.CONFIG, layout.METRICS, layout.CHECKPOINT, layout.PREVIOUS_CHECKPOINT, layout.LOCK}
    assert {path.name for path in config.run_path.iterdir()} - {layout.WRITER} == names
    train(config_of(tmp_path), verbose=False)
    assert_alike(config.run_path, of_one)
    (change,) = load_run(config.run_path).description["continued"]
    assert not change["machine"].startswith("2 x ")


@pytest.mark.parametrize("rank", [0, *too_long(1)])
def test_killed_process_ends_the_other_within_seconds(tmp_path, of_one, rank):
    """The run then goes on in two processes."""
    config = config_of(tmp_path, devices=2)
    started = begin_training(config, tmp_path)
    started[rank].kill()
    end([started[1 - rank]], 1, seconds=processes.GRACE)
    end(begin(2, train, config))
    assert_alike(config.run_path, of_one)


START = """
import sys, tcl_lib
if __name__ == "__main__":
    run = tcl_lib.train(tcl_lib.RunConfig(**eval(sys.argv[1])), verbose=False)
    print(run.result["test_accuracy"])
"""


@pytest.mark.soak
def test_train_starts_the_processes_and_waits_for_them(tmp_path, of_one):
    """From a script: to the end, and when one of them is killed."""
    script = tmp_path / "script.py"
    script.write_text(START)
    config = config_of(tmp_path, devices=2)
    command = [sys.executable, str(script), str(config.to_dict())]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    ends = time.monotonic() + 180
    while not (config.run_path / layout.CHECKPOINT).exists():
        assert time.monotonic() < ends
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    trained = [pid for pid in children if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(int(trained[-1]), signal.SIGKILL)
    _, errors = process.communicate(timeout=3 * processes.GRACE)
    assert "was ended by SIGKILL; start the run again to continue it" in errors
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(done.stdout.split()[-1]) == load_run(of_one).result["test_accuracy"]
    assert_alike(config.run_path, of_one)


def wait_for_the_first(config: RunConfig) -> None:
    distributed.distributed_c10d.default_pg_timeout = timedelta(seconds=0.5)
    assert Processes(config).first(lambda: time.sleep(1.5) or 3) == 3


def test_first_is_waited_for_longer_than_for_a_step(tmp_path):
    """Such as a download, or the evaluation of a large test set."""
    end(begin(2, wait_for_the_first, config_of(tmp_path, devices=2)))


STOP = START.replace("import sys,", "import os, signal, sys, threading,").replace(
    "    run =",
    """\
    def stop():
        while len(open(f"/proc/self/task/{os.getpid()}/children").read().split()) < 3:  # and a tracker
            pass
        os.kill(os.getpid(), int(sys.argv[2]))
    threading.Thread(target=stop, daemon=True).start()
    run =""",
)


@pytest.mark.soak
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signal_before_the_processes_train_ends_all_within_seconds(tmp_path, number):
    """They hold the pipes until then."""
    script = tmp_path / "script.py"
    script.write_text(STOP)
    command = [sys.executable, str(script), str(config_of(tmp_path, devices=2).to_dict()), str(int(number))]
    done = subprocess.run(command, capture_output=True, timeout=60 + 2 * processes.GRACE)
    assert done.returncode == -number


@pytest.mark.soak
def test_start_says_that_another_process_does_not_know_a_loss(tmp_path, own_names):
    def mine(logits):
        return logits.var()

    tcl_lib.register_loss("mine", label="Mine", temporal_term=mine)
    with pytest.raises(ValueError, match=r"loss='mine': must be .*another process knows .* by `plugin`"):
        train(config_of(tmp_path, devices=2, loss="mine"))


@pytest.mark.soak
def test_start_names_the_status_of_a_process_that_did_not_begin(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(START.replace('if __name__ == "__main__":', "if True:"))
    command = [sys.executable, str(script), str(config_of(tmp_path, devices=2).to_dict())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert re.search(r"process [12] of 2 ended with status 1; start", done.stderr.splitlines()[-1])


@pytest.mark.soak
def test_start_raises_what_a_process_raised(tmp_path):
    missing = config_of(tmp_path, devices=2, dataset="folder", data_root=str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="nowhere"):
        processes.start(missing, load_data, missing)


# the command


def run_command(
    *arguments: str, launcher: tuple[str, ...] = ("-m",), **options
) -> subprocess.CompletedProcess:
    command = [sys.executable, *launcher, "tcl_lib.train", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=CHECKOUT, timeout=300, **options)


SMALL = (
    "{train_size: 96, time_steps: 2, epochs: 3, batch_size: 32, compile: 'off', device: cpu, run_name: run}"
)


def test_command_takes_files_and_parameters_as_papermill_does(tmp_path, of_one, monkeypatch, capsys):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # the command sets another
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("loss: ce\nseed: 3\n")
    folder = str(tmp_path / "runs")
    given = ["-f", str(recipe), "-y", SMALL, "-p", "loss", "tcl", "-p", "seed", "0", "-p", "runs_dir", folder]
    monkeypatch.setattr(sys, "argv", ["train", *given])
    runpy.run_module("tcl_lib.train", run_name="__main__")
    assert "epoch   3/3" in capsys.readouterr().out
    assert_alike(tmp_path / "runs" / "run", of_one)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["-p", "sede", "3"], "unknown parameter sede, did you mean seed?"),
        (["-p", "batch_size", "64", "-p", "devices", "3"], "batch_size=64: must be a multiple of"),
        (["-f", "nothing.yaml"], "nothing.yaml"),
        (["-y", "3"], "-y '3': must hold parameters"),
        (["-f", "empty.yaml"], "empty.yaml: must hold parameters"),
        (["-f", "broken.yaml"], "broken.yaml: mapping values are not allowed here"),
    ],
)
def test_command_refuses_bad_parameters_in_one_line(monkeypatch, tmp_path, arguments, error):
    monkeypatch.chdir(tmp_path)
    Path("empty.yaml").touch()
    Path("broken.yaml").write_text("loss: ce\n  seed: 3\n")
    monkeypatch.setattr(sys, "argv", ["train", *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("tcl_lib.train", run_name="__main__")
    assert ended.value.code.startswith("error: ")
    assert "\n" not in ended.value.code
    assert error in ended.value.code
    with pytest.raises(ImportError, match="is a command"):
        importlib.import_module("tcl_lib.train")


@pytest.mark.soak
def test_command_under_torchrun_trains_in_all_of_its_processes(tmp_path, of_one):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")
    given = ("-y", SMALL, "-p", "loss", "tcl", "-p", "runs_dir", str(tmp_path))
    done = run_command(*given, launcher=launcher)
    assert done.returncode != 0
    line = "error: devices=1, num_nodes=1: torchrun started 2 processes; devices is for each node"
    assert done.stderr.count(line) == 1
    done = run_command(*given, "-p", "devices", "2", launcher=launcher)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch   3/3") == 1
    assert_alike(tmp_path / "run", of_one)


# what does not fit


def test_train_refuses_devices_where_it_may_start_no_process(tmp_path, monkeypatch):
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # as in a worker of Dask
    with pytest.raises(ValueError, match=r"devices=2: a worker of Dask may not start .*; use devices=1"):
        train(config_of(tmp_path, devices=2))


def test_check_refuses_devices_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(
        ValueError, match="num_nodes=2: start a run on several machines with torchrun or srun"
    ):
        train(config_of(tmp_path, num_nodes=2))
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "here")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="devices=2, num_nodes=1: torchrun started 4 processes"):
        train(config_of(tmp_path, devices=2))
    monkeypatch.delenv("TORCHELASTIC_RUN_ID")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    with pytest.raises(ValueError, match="devices=2, num_nodes=1: srun started 4 processes"):
        train(config_of(tmp_path, devices=2))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"devices": 3}, r"batch_size=32: must be a multiple of devices \* num_nodes \(3\)"),
        ({"devices": 32}, "devices=32, num_nodes=1: must leave each process at least two samples"),
        ({"sync_batch_norm": False}, "sync_batch_norm=False: has no effect with devices=1 and num_nodes=1"),
        ({"strategy": "ddp"}, "strategy='ddp': has no effect with devices=1 and num_nodes=1"),
        ({"devices": 0}, "devices=0: must be greater than or equal to 1"),
    ],
)
def test_config_refuses_devices_that_do_not_fit(tmp_path, changes, error):
    with pytest.raises(ValueError, match=error):
        config_of(tmp_path, **changes)
