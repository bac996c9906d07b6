"""A run that is killed, interrupted, starved or damaged goes on, to the numbers of the undisturbed one.

Real processes, real signals, real limits. `make soak` does the same for longer, at other moments.
"""

import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import too_long

from tcl_lib import RunConfig, load_run, measure_again, train
from tcl_lib.data.folder import load_folder
from tcl_lib.runs import Run, checkpoints, contents, layout
from tcl_lib.utils import files, notebooks
from tcl_lib.utils.files import Damaged
from tcl_lib.utils.paths import CHECKOUT

# Processes forked off one that has torch loaded and has computed nothing: they start at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tcl_lib.training.loop"])


def often(few: int, many: int):
    """How often a fault is caused: in the tests, and in `make soak`."""
    return pytest.mark.parametrize("times", [few, *too_long(many)])


def wait(condition: Callable[[], bool]) -> None:
    """Until it holds, three minutes at the most."""
    ends = time.monotonic() + 180
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)


# what runs in the other process


def run_training(config: RunConfig, log: Path, event: int | None = None, what: str = "kill") -> None:
    """Train; at the so-manieth time that a file of a run is touched, be killed or have the disk be full."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(output, stream)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    events = 0

    def watch(name: str, arguments: tuple) -> None:
        nonlocal events
        if name in ("open", "os.rename", "os.remove") and str(config.run_path) in str(arguments[0]):
            events += 1
            if events == event and what == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if events == event and what == "full":
                resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))

    sys.addaudithook(watch)
    if what == "full":
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the log is on the disk, too
    notebooks.show_messages()
    try:
        train(config)
    except OSError as error:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.write(output, str(error).encode())
        raise


def start(config: RunConfig, log: Path, *arguments) -> BaseProcess:
    process = PROCESSES.Process(target=run_training, args=(config, log, *arguments))
    process.start()
    return process


def finish(config: RunConfig, log: Path) -> None:
    process = start(config, log)
    process.join()
    assert process.exitcode == 0, log.read_text()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The run that nothing happens to, in a process of its own as all the others."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for name in ("first", "run"):  # the first one waits for the forkserver
        config = disturbed(folder, run_name=name, checkpoint_minutes=60)
        began = time.monotonic()
        finish(config, folder / "log")
    return load_run(config.run_path), time.monotonic() - began


def disturbed(folder: Path, **changes) -> RunConfig:
    """A run of seconds that writes a checkpoint after every step."""
    small = {"train_size": 128, "time_steps": 2, "epochs": 3, "batch_size": 32, "projection_dim": 16}
    small |= {"loss": "tcl", "device": "cpu", "precision": "32-true", "checkpoint_minutes": 1e-9}
    return RunConfig(**(small | {"runs_dir": str(folder), "run_name": "run"} | changes))


def assert_same(path: Path, expected: Run) -> None:
    """The numbers of a finished run are those of the other to the last bit, its own time aside."""
    run = load_run(path)
    for name in ("accuracy_by_step", "firing_rates", "operations", "similarity"):
        pd.testing.assert_frame_equal(getattr(run, name), getattr(expected, name), check_exact=True)
    metrics, others = (r.metrics.drop(columns="seconds") for r in (run, expected))
    pd.testing.assert_frame_equal(metrics, others, check_exact=True)
    assert contents.read_description(path)["data"] == contents.read_description(expected.path)["data"]
    assert {**run.result, "seconds": 0} == {**expected.result, "seconds": 0}
    assert all((run.features[key] == value).all() for key, value in expected.features.items())
    weights, other = (checkpoints.load(r.path / checkpoints.LAST)["network"] for r in (run, expected))
    assert weights.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in weights.items())
    # killed behind its result, it may leave who was at it, and the checkpoint before the last
    assert {file.name for file in path.iterdir()} <= {*layout.FILES, layout.LOCK, layout.WRITER}


# killed


@often(4, 200)
@pytest.mark.parametrize("where", ["at a file", *too_long("anywhere")])
def test_killed_at_random_moments(undisturbed, tmp_path, where, times):
    """Wherever the run is, or while it touches a file of its folder."""
    expected, seconds = undisturbed
    random = np.random.default_rng(times)
    kills = 0
    for number in range(1000):
        config = disturbed(tmp_path / str(number))
        log = tmp_path / f"{number}.log"
        while not (config.run_path / layout.RESULT).exists() and kills < times:
            if where == "anywhere":
                process = start(config, log)
                process.join(timeout=random.uniform(0.1, 1) * seconds)
                process.kill()
            else:
                process = start(config, log, int(random.integers(1, 100)))
            process.join()
            assert process.exitcode in (0, -signal.SIGKILL), log.read_text()
            kills += process.exitcode != 0
        finish(config, log)
        assert_same(config.run_path, expected)
        if kills == times:
            break
    assert kills == times


# asked to stop


@often(1, 40)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_saves_first(undisturbed, tmp_path, number, times):
    expected, seconds = undisturbed
    random = np.random.default_rng(times)
    for index in range(times):
        # no checkpoint but the one that the signal asks for, and those after an epoch
        config = disturbed(tmp_path / str(index), checkpoint_minutes=60, epochs=3)
        log = tmp_path / f"{index}.log"
        process = start(config, log)
        wait(lambda log=log: log.exists() and "firing rates" in log.read_text())
        time.sleep(random.uniform(0, 0.3) * seconds)
        if not process.is_alive() or (config.run_path / layout.RESULT).exists():
            continue
        os.kill(process.pid, number)
        process.join()
        said = log.read_text()
        if process.exitcode:
            assert process.exitcode == (1 if number == signal.SIGINT else -number)
            position = said.partition("interrupted: ")[2].partition(" saved")[0] or "epoch 3"
            finish(config, log)
            assert f"continuing {config.run_path} after {position}" in log.read_text()
        assert_same(config.run_path, expected)


@pytest.mark.soak
def test_papermill_stopped_by_a_scheduler_saves_first(tmp_path):
    """SIGTERM to papermill alone ends it at once; the kernel saves all the same."""
    small = {"runs_dir": tmp_path, "epochs": 200, "batch_size": 4, "time_steps": 2}
    options = [part for name, value in small.items() for part in ("-p", name, str(value))]
    notebook = CHECKOUT / "notebooks" / "train.ipynb"
    command = [sys.executable, "-m", "papermill", "--no-progress-bar", "--kernel", "python3", notebook]
    for name in ("run", "again"):  # should the signal come between two epochs, 1 in 300
        arguments = [*command, tmp_path / "out.ipynb", *options, "-p", "run_name", name]
        process = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        path = tmp_path / name
        wait((path / checkpoints.LAST).exists)
        process.terminate()
        process.wait()
        wait(lambda path=path: files.try_lock(path / layout.LOCK) is not None)  # its kernel is gone as well
        # within an epoch nothing but the signal makes a checkpoint: five minutes are not over
        if checkpoints.load_last(path)["progress"]["step"] > 0:
            return
    raise AssertionError("nothing was saved")


# no space


@often(2, 80)
def test_a_full_disk_loses_nothing(undisturbed, tmp_path, times):
    expected, _ = undisturbed
    random = np.random.default_rng(times)
    failed = 0
    for index in range(times):
        config = disturbed(tmp_path / str(index))
        log = tmp_path / f"{index}.log"
        process = start(config, log, int(random.integers(1, 150)), "full")
        process.join()
        if process.exitcode:
            failed += 1
            last = log.read_text()
            assert "bytes are needed and" in last, last
            assert str(config.run_path) in last
            assert "File too large" in last
        finish(config, log)
        assert_same(config.run_path, expected)
    assert failed


def test_a_file_system_that_is_full(undisturbed, tmp_path):
    """A real one, of 3 MB: it takes some checkpoints and not the others."""
    expected, _ = undisturbed
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", small]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("this process may mount nothing")
    try:
        config = disturbed(small)
        with pytest.raises(OSError, match=r"cannot be written, [\d,]+ bytes are needed and [\d,]+ are free"):
            train(config)
        saved = checkpoints.load_last(config.run_path)
        assert saved is None or saved["progress"]["step"] + len(saved["progress"]["rows"]) > 0
        subprocess.run(["mount", "-o", "remount,size=50m", small], check=True)
        finish(config, tmp_path / "log")
        assert_same(config.run_path, expected)
    finally:
        subprocess.run(["umount", small], check=True)


# damaged


@pytest.fixture(scope="module")
def cut_off(undisturbed, tmp_path_factory):
    """A run that was killed in its second epoch, with both its checkpoints."""
    folder = tmp_path_factory.mktemp("cut-off")
    config = disturbed(folder)
    process = start(config, folder / "log")
    wait((config.run_path / layout.METRICS).exists)
    process.kill()
    process.join()
    assert (config.run_path / checkpoints.PREVIOUS).exists()
    return config.run_path


def damage(path: Path, random: np.random.Generator) -> str:
    """Flip a bit of a file, or cut it off, or empty it."""
    content = bytearray(path.read_bytes())
    place = int(random.integers(len(content)))
    kind = random.choice(["flip", "cut", "empty"])
    if kind == "flip":
        content[place] ^= 1 << int(random.integers(8))
    path.write_bytes({"flip": content, "cut": content[:place], "empty": b""}[kind])
    return f"{path.name}: {kind} at {place}"


@often(3, 100)
@pytest.mark.parametrize("state", ["cut off", "finished"])
def test_damaged_files(undisturbed, cut_off, tmp_path, state, times):
    """What is damaged is named, and made again from a checkpoint that is sound."""
    expected, _ = undisturbed
    source = cut_off if state == "cut off" else expected.path
    names = [path.name for path in source.iterdir() if path.name in layout.FILES]
    random = np.random.default_rng(times)
    for index in range(times):
        config = disturbed(tmp_path / str(index))
        shutil.copytree(source, config.run_path)
        name = random.choice(names)
        what = damage(config.run_path / name, random)
        log = tmp_path / f"{index}.log"
        process = start(config, log)
        process.join()
        if process.exitcode and state == "finished":
            assert f"{config.run_path}/" in log.read_text().splitlines()[-1], what
            assert "tcl_lib.measure_again(" in log.read_text().splitlines()[-1], what
            measure_again(config.run_path)
            assert_same(config.run_path, expected)
        elif process.exitcode:
            # a flipped bit can make the config of an unfinished run, which has no checksum yet, another run's
            assert (state, name) == ("cut off", layout.CONFIG), (what, log.read_text())
            assert f"{config.run_path}" in log.read_text().splitlines()[-1], what
        elif (state, name) == ("finished", checkpoints.LAST):
            # it is shown without its checkpoint, and its model is refused
            with pytest.raises(Damaged, match=r"checkpoint\.pt: is damaged"):
                load_run(config.run_path).model()
        else:
            assert_same(config.run_path, expected)


@pytest.mark.parametrize("times", [50])
def test_damaged_images_are_decoded_anew(image_folder, tmp_path, times):
    cache = tmp_path / "cache"
    *expected, classes = load_folder(image_folder, cache)
    (path,) = cache.glob("*/images")
    random = np.random.default_rng(0)
    for _ in range(times):
        what = damage(path, random)
        with pytest.warns(UserWarning, match=f"{path}: (is )?damaged"):
            *again, same = load_folder(image_folder, cache)
        assert same == classes
        for part, right in zip(again, expected, strict=True):
            assert torch.equal(part[:], right[:]), what
            assert torch.equal(part.content, right.content), what


# two at once


def test_a_second_process_is_told_who_is_at_it(undisturbed, tmp_path):
    expected, _ = undisturbed
    config = disturbed(tmp_path)
    process = start(config, tmp_path / "log")
    wait((config.run_path / checkpoints.LAST).exists)
    os.kill(process.pid, signal.SIGSTOP)
    holder = rf"run: process {process.pid} on \S+ \(since .*\) is training this run; wait for it, or give"
    with pytest.raises(RuntimeError, match=holder):
        train(config)
    process.kill()
    process.join()
    assert (config.run_path / layout.WRITER).exists()
    finish(config, tmp_path / "log")  # what a dead process held is free
    assert_same(config.run_path, expected)
