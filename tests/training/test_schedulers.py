"""Schedulers: sweeps on Dask's workers and in submitit's jobs equal a serial sweep, whatever ends midway."""

import importlib.util
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import too_long, write_run

from tcl_lib import grid, train_grid
from tcl_lib.runs import layout, load_run
from tcl_lib.training import grids, schedulers
from tcl_lib.training.schedulers import Resubmitting, Scheduler

submitit = pytest.importorskip("submitit", reason="of the extra `cluster`")
pytest.importorskip("distributed", reason="of the extra `cluster`")


@pytest.fixture
def sweep(tiny, tmp_path):
    """A function giving the configs of a number of runs of some seconds, in a folder of that name."""
    shared = {k: v for k, v in tiny(train_size=400).to_dict().items() if k in grids.SHARED}
    shared |= {"projection_dim": [16], "time_steps": [2], "batch_size": [32]}

    def configs(count: int, folder: str):
        named = shared | {"runs_dir": str(tmp_path / folder), "epochs": 4 if count == 1 else 8}
        return grid(losses=["tcl"], seeds=list(range(count)), **named)

    return configs


class Disturbance(threading.Thread):
    """Sends a signal to the first process that has saved a checkpoint, and notes who trained which run."""

    def __init__(self, configs, number: int):
        super().__init__()
        self._configs, self._number = configs, number
        self._over = threading.Event()
        self.disturbed, self.writers = None, {config.name: [] for config in configs}

    def run(self):
        while not self._over.wait(0.02):
            for config in self._configs:
                path = config.run_path
                try:
                    pid = int(re.match(r"process (\d+)", (path / layout.WRITER).read_text())[1])
                except (OSError, TypeError):
                    continue
                if pid not in self.writers[config.name]:
                    self.writers[config.name].append(pid)
                if self.disturbed is None and (path / layout.PREVIOUS_CHECKPOINT).exists():
                    os.kill(pid, self._number)
                    self.disturbed = config.name

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self._over.set()
        self.join()


def assert_equal_to_the_bit(configs, others):
    for config, other in zip(configs, others, strict=True):
        run, twin = load_run(config.run_path), load_run(other.run_path)
        assert run.threads == twin.threads == 1
        pd.testing.assert_frame_equal(
            run.metrics.drop(columns="seconds"), twin.metrics.drop(columns="seconds"), check_exact=True
        )
        with np.load(run.path / layout.FEATURES) as a, np.load(twin.path / layout.FEATURES) as b:
            assert all(np.array_equal(a[name], b[name]) for name in a.files)


def test_a_local_worker_trains_what_is_trained_here(tiny):
    configs, serial = [tiny()], [tiny(runs_dir=tiny().runs_dir + "-serial")]
    with Scheduler("local", workers=1).executor() as executor:
        train_grid(configs, executor)
    train_grid(serial)
    assert_equal_to_the_bit(configs, serial)


@pytest.mark.soak
def test_local_workers_train_what_a_serial_sweep_trains_when_one_is_killed(sweep, caplog):
    count = 12
    caplog.set_level(logging.INFO, logger="tcl_lib.training")
    configs, serial = sweep(count, "dask"), sweep(count, "serial")
    started = time.monotonic()
    expected = train_grid(serial)
    print(f"serial: {time.monotonic() - started:.1f} s")
    caplog.clear()
    with Scheduler("local", workers=2).executor() as executor, Disturbance(configs, signal.SIGKILL) as seen:
        started = time.monotonic()
        table = train_grid(configs, executor)
        print(f"two workers, one killed: {time.monotonic() - started:.1f} s")
    assert seen.disturbed is not None
    assert {name: len(pids) for name, pids in seen.writers.items()} == {
        config.name: 2 if config.name == seen.disturbed else 1 for config in configs
    }
    assert caplog.text.count(" trained in ") == count
    assert "dashboard: http://127.0.0.1:" in caplog.text
    assert table["test_accuracy"].tolist() == expected["test_accuracy"].tolist()
    assert_equal_to_the_bit(configs, serial)


@pytest.mark.parametrize("count", too_long(1, 12))
def test_a_job_that_is_signalled_goes_on_from_its_checkpoint(sweep, tmp_path, count):
    configs, serial = sweep(count, "submitit"), sweep(count, "serial")
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=20)
    with Disturbance(configs, signal.SIGUSR2) as seen:
        train_grid(configs, Resubmitting(executor))
    train_grid(serial)
    assert {name: len(pids) for name, pids in seen.writers.items()} == {
        config.name: 2 if config.name == seen.disturbed else 1 for config in configs
    }
    logs = "".join(path.read_text() for path in (tmp_path / "jobs").glob("*_log.*"))
    assert logs.count("Requeued job") == 1
    assert_equal_to_the_bit(configs, serial)


def test_submitits_debug_executor_trains_here(tiny, tmp_path):
    (row,) = train_grid([tiny()], Resubmitting(submitit.DebugExecutor(tmp_path))).to_dict("records")
    assert row["name"] == tiny().name


def test_a_job_that_fails_is_tried_again_and_named_with_the_last_lines_of_its_error(tiny, tmp_path):
    config = tiny(run_name="mine")
    write_run(tiny(run_name="mine", lr=0.3))
    (config.run_path / layout.RESULT).unlink()
    executor = Resubmitting(submitit.LocalExecutor(tmp_path / "jobs"))
    with pytest.raises(RuntimeError, match="none of the 1 runs"), pytest.warns(match="failed") as warned:
        train_grid([config], executor)
    lines = str(warned[0].message).splitlines()
    assert len(lines) == 3
    assert lines[-1].startswith(f"ValueError: {config.run_path}: holds a run with other parameters")
    assert len(list((tmp_path / "jobs").glob("*_log.out"))) == 2


def slurm_answers() -> bool:
    return bool(shutil.which("sinfo")) and subprocess.run(["sinfo"], capture_output=True).returncode == 0


@pytest.mark.soak
@pytest.mark.skipif(not slurm_answers(), reason="needs SLURM")
def test_jobs_of_slurm_that_are_preempted_or_at_their_limit_go_on(sweep, tmp_path, monkeypatch):
    monkeypatch.setenv("TCL_HOME", str(tmp_path))
    configs, serial = sweep(2, "slurm"), sweep(2, "serial")
    options = {"cpus-per-task": 1}
    with Scheduler("slurm", slurm_gpus=0, slurm_options=options).executor() as executor:
        jobs = tmp_path / "runs" / "slurm"
        submit = threading.Thread(target=train_grid, args=(configs, executor))
        submit.start()
        for number, command in enumerate((["scontrol", "requeue"], ["scancel", "--signal=USR2"])):
            while not (configs[number].run_path / layout.PREVIOUS_CHECKPOINT).exists():
                time.sleep(0.1)
            (job,) = {path.name.split("_")[0] for path in jobs.glob("*_submitted.pkl")}
            subprocess.run([*command, f"{job}_{number}"], check=True)
        submit.join()
    train_grid(serial)
    assert_equal_to_the_bit(configs, serial)
    assert "Requeued job" in (jobs / f"{job}_1_0_log.out").read_text()


@pytest.fixture
def sbatch(tmp_path, monkeypatch):
    """A stand-in for SLURM's sbatch, which only takes the script that submitit wrote."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sbatch", "srun"):
        (folder / name).write_text(f"#!/bin/sh\ncp $1 {tmp_path}/script.sh\necho Submitted batch job 7\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("TCL_HOME", str(tmp_path))
    return tmp_path / "script.sh"


def test_slurm_gets_one_array_of_jobs_that_is_capped_and_signalled(sweep, sbatch, tmp_path):
    scheduler = Scheduler(
        "slurm",
        workers=3,
        slurm_partition="gpu",
        slurm_minutes=90,
        slurm_gpus=2,
        slurm_options={"account": "snn", "cpus-per-task": 8},
    )
    with scheduler.executor() as executor:
        with executor.batch():
            jobs = [executor.submit(print, config) for config in sweep(5, "runs")]
        assert [job.job_id for job in jobs] == [f"7_{number}" for number in range(5)]
    options = dict(re.findall(r"^#SBATCH --([a-z-]+)=(.*)$", sbatch.read_text(), re.MULTILINE))
    assert options["array"] == "0-4%3"
    assert options["partition"] == "gpu"
    assert options["time"] == "90"
    assert options["gpus-per-node"] == "2"
    assert options["account"] == "snn"
    assert options["cpus-per-task"] == "8"
    assert options["signal"] == "USR2@90"
    assert Path(options["output"]).parent == tmp_path / "runs" / "slurm"
    function, (config,) = jobs[4].submission().function, jobs[4].submission().args
    assert function.checkpoint(config).args == (config,) == (sweep(5, "runs")[4],)


def test_without_a_scheduler_the_grid_trains_here():
    with Scheduler().executor() as executor:
        assert executor is None


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"scheduler": "condor"}, "scheduler='condor': must be 'local', 'slurm' or the address of a Dask"),
        ({"scheduler": 8786}, "scheduler=8786: must be a valid string, or None"),
        ({"workers": 0}, "workers=0: must be greater than or equal to 1, or None"),
        ({"slurm_minutes": 4}, "slurm_minutes=4: must be greater than or equal to 5"),
        ({"slurm_gpus": -1}, "slurm_gpus=-1: must be greater than or equal to 0"),
        ({"slurm_options": ["mem"]}, r"slurm_options=\['mem'\]: must be a valid dictionary"),
        ({"scheduler": "tcp://127.0.0.1:1"}, "no Dask scheduler answers there within 5 s .*refused"),
        ({"scheduler": "tcp://127.0.0.1:99999"}, "'tcp://127.0.0.1:99999': no Dask scheduler answers there"),
        ({"scheduler": "tcp://127.0.0.1"}, "scheduler='tcp://127.0.0.1': must be 'local', 'slurm' or"),
    ],
)
def test_scheduler_refuses_in_one_line(parameters, words):
    with pytest.raises((ValueError, ConnectionError), match=words) as caught:
        Scheduler(**parameters)
    assert "\n" not in str(caught.value)


def test_scheduler_refuses_slurm_where_there_is_none(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="scheduler='slurm': this machine has no sbatch and srun"):
        Scheduler("slurm")


def test_scheduler_does_not_wait_for_a_silent_address(monkeypatch):
    monkeypatch.setattr(schedulers, "SECONDS", 1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"tcp://127.0.0.1:{silent.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(ConnectionError, match=f"scheduler='{address}': no Dask scheduler answers"):
            Scheduler(address)
    assert time.monotonic() - started < 5


def test_scheduler_refuses_the_address_of_another_server():
    def greet():
        with suppress(OSError):  # when the server is closed
            while True:
                connection, _ = server.accept()
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                greeted.append(connection)

    greeted = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=greet, daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=f"scheduler='{address}': no Dask scheduler answers"):
            Scheduler(address)
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(("scheduler", "package"), [("local", "distributed"), ("slurm", "submitit")])
def test_scheduler_names_the_extra_of_a_package_that_is_missing(monkeypatch, scheduler, package):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=rf"needs {package}, .* \(pip install 'tcl-lib\[cluster\]'\)"):
        Scheduler(scheduler)
