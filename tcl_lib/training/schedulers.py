"""Where the runs of a grid are trained: here, by the workers of Dask, or in jobs of SLURM.

Dask and submitit queue the runs, share out processors and GPUs, and go on where a worker or a job is lost.
Both are optional: `pip install 'tcl-lib[cluster]'`.
"""

import dataclasses
import importlib.util
import logging
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any

import psutil
from annotated_types import Ge
from joblib import cpu_count

from tcl_lib.utils import paths
from tcl_lib.utils.checks import AtLeast1, NotNegative, Rule, check_fields

log = logging.getLogger(__name__)

MEMORY = 4 * 2**30  # bytes that a run on a CPU may need; decides how many train side by side
SECONDS = 5  # in which a scheduler has to answer
TIME_OUTS = 1000  # after which SLURM does not start a job again


def _known(value: str) -> str:
    if value not in ("local", "slurm") and not re.fullmatch(r"tcp://.+:\d{1,5}", value):
        raise ValueError("must be 'local', 'slurm' or the address of a Dask scheduler, 'tcp://host:8786'")
    return value


@dataclass(frozen=True)
class Scheduler:
    """What trains the runs of a grid. Values are checked on creation, as those of `RunConfig` are.

    Args:
        scheduler: None trains here, one run after the other; "local" on this machine, by a worker a GPU or,
            on a CPU, by as many as memory and processors allow; "slurm" in an array of jobs; else the address
            of a Dask scheduler, as "tcp://host:8786", whose workers see the same files.
        workers: most runs at the same time; None for as many as fit ("local") or 256 ("slurm").
        slurm_partition: partition of the jobs; None for the cluster's default.
        slurm_minutes: time limit of a job; a run that needs longer goes on in another job.
        slurm_gpus: GPUs of a job; 0 for none.
        slurm_options: further options of sbatch, as {"account": "x", "mem": "32G"}.

    Raises ValueError where a value is not allowed, a package is missing, or the machine has no SLURM;
    ConnectionError where the Dask scheduler does not answer.
    """

    scheduler: Annotated[str, Rule(_known)] | None = None
    workers: AtLeast1 | None = None
    slurm_partition: str | None = None
    slurm_minutes: Annotated[int, Ge(5)] = 1440  # SLURM's signal comes 90 s before the end
    slurm_gpus: NotNegative = 1
    slurm_options: dict[str, str | int] = field(default_factory=dict)

    def __post_init__(self):
        check_fields(self)
        if self.scheduler is None:
            return
        package = "submitit" if self.scheduler == "slurm" else "distributed"
        if importlib.util.find_spec(package) is None:
            raise ValueError(
                f"scheduler={self.scheduler!r}: needs {package}, which is not installed"
                " (pip install 'tcl-lib[cluster]')"
            )
        if self.scheduler == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise ValueError(
                "scheduler='slurm': this machine has no sbatch and srun; start from a cluster's login node"
            )
        if "://" in self.scheduler:
            self._connect().close()

    @contextmanager
    def executor(self) -> Iterator[Executor | None]:
        """Open what `train_grid` takes as its executor; local workers end with it, SLURM's jobs do not."""
        if self.scheduler is None:
            yield None
        elif self.scheduler == "slurm":
            yield Resubmitting(self._slurm())
        elif self.scheduler == "local":
            with _local_cluster(self.workers) as cluster, cluster.get_client() as client:
                yield _dask_executor(client)
        else:
            with self._connect() as client:
                yield _dask_executor(client)

    def _connect(self) -> Any:
        from distributed import Client

        host, port = self.scheduler.removeprefix("tcp://").rsplit(":", 1)
        try:
            with socket.create_connection((host.strip("[]"), int(port)), SECONDS) as connection:
                connection.recv(1)  # Dask speaks first; its client waits for ever for one that never speaks
            return Client(self.scheduler, timeout=SECONDS)
        except Exception as error:  # what Dask raises depends on what answers there
            raise ConnectionError(
                f"scheduler={self.scheduler!r}: no Dask scheduler answers there within {SECONDS} s"
                f" ({(str(error) or type(error).__name__).splitlines()[0]})"
            ) from None

    def _slurm(self) -> Any:
        from submitit import AutoExecutor

        executor = AutoExecutor(paths.absolute("runs/slurm"), "slurm", slurm_max_num_timeout=TIME_OUTS)
        executor.update_parameters(
            name="tcl",
            timeout_min=self.slurm_minutes,
            gpus_per_node=self.slurm_gpus,
            slurm_partition=self.slurm_partition,
            slurm_array_parallelism=self.workers or 256,
            slurm_additional_parameters=self.slurm_options,
        )
        return executor


PARAMETERS = [parameter.name for parameter in dataclasses.fields(Scheduler)]


def _local_cluster(workers: int | None) -> Any:
    """Return a Dask cluster of this machine: a worker a GPU, else one for every `MEMORY` and processor."""
    import torch
    from distributed import LocalCluster

    from tcl_lib.utils.devices import threads

    gpus = torch.cuda.device_count()  # leaves the GPUs to the workers
    if gpus > 1:
        try:
            from dask_cuda import LocalCUDACluster
        except ImportError:
            raise ValueError(
                f"scheduler='local': {gpus} GPUs need dask-cuda, which is not installed"
                " (pip install dask-cuda)"
            ) from None
        return LocalCUDACluster(n_workers=workers and min(workers, gpus), memory_limit=None)
    fitting = 1 if gpus else max(1, min(cpu_count(), psutil.virtual_memory().available // MEMORY))
    count = workers or fitting
    share = max(1, threads() // count)
    return LocalCluster(
        n_workers=count,
        threads_per_worker=1,  # a process trains one run at a time
        memory_limit=None,  # Dask's limits are for data that it holds
        dashboard_address=":0",
        silence_logs=logging.ERROR,  # at the end it warns that busy workers do not end at once
        env={"OMP_NUM_THREADS": share, "MKL_NUM_THREADS": share},
    )


def _dask_executor(client: Any) -> Executor:
    count = len(client.scheduler_info(n_workers=-1)["workers"])
    log.info("%d worker(s); Dask's dashboard: %s", count, client.dashboard_link)
    return client.get_executor(pure=False)  # a run that failed may succeed when it is trained again


class Resubmitting:
    """An executor of submitit whose jobs are queued again when they are preempted or their time is over."""

    def __init__(self, executor: Any):
        self.batch = executor.batch
        self._submit = executor.submit

    def submit(self, function: Callable, *arguments: Any) -> Any:
        return self._submit(_Resumable(function), *arguments)


class _Resumable(partial):
    """A function that submitit may call again where its job was ended: it goes on from what it saved."""

    def __call__(self, *arguments: Any) -> Any:
        if os.environ.get("SUBMITIT_EXECUTOR") == "slurm":
            signal.signal(signal.SIGTERM, _await_the_end)
        return super().__call__(*arguments)

    def checkpoint(self, *arguments: Any) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, *arguments)


def _await_the_end(number: int, frame: Any) -> None:
    """Wait to be killed: SLURM queues a preempted job again only if it did not end within its grace time."""
    while True:
        time.sleep(60)
