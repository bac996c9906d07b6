"""The processes that train a run together, a device each: who starts them, and what they tell each other.

torchrun and srun start them themselves; otherwise `start` does, on this machine. Every process then calls
`train`, which makes a `Processes`.
"""

import logging
import os
import pickle
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from joblib import cpu_count
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import (
    ClusterEnvironment,
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning_fabric.strategies import DDPStrategy
from torch import Tensor, distributed, multiprocessing
from torch.distributed.nn.functional import all_gather

from tcl_lib.backbones import NetworkOutput
from tcl_lib.config import RunConfig
from tcl_lib.data.batches import part_of
from tcl_lib.training.interruption import Interruption
from tcl_lib.utils import notebooks
from tcl_lib.utils.devices import check_fork, find_device, threads

T = TypeVar("T")

# Seconds that the others have to end by themselves after one process has ended, and again after a SIGTERM.
GRACE = 10


def environment() -> ClusterEnvironment | None:
    """Return what started this process as one of several: torchrun, srun or `start`; None for nobody."""
    if TorchElasticEnvironment.detect():
        return TorchElasticEnvironment()
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1:
        return SLURMEnvironment()
    return LightningEnvironment() if "LOCAL_RANK" in os.environ else None


def check(config: RunConfig) -> None:
    """Raise ValueError where the machine, or what started this process, does not fit `devices`.

    Raises RuntimeError in a fork that would wait for ever (`check_fork`).
    """
    check_fork()
    given = f"devices={config.devices}, num_nodes={config.num_nodes}"
    started, by = environment(), None
    if isinstance(started, TorchElasticEnvironment):
        by = "torchrun"
    elif isinstance(started, SLURMEnvironment) and config.processes > 1:  # else tasks that train a run each
        by = "srun"
    if by and started.world_size() != config.processes:
        raise ValueError(f"{given}: {by} started {started.world_size()} processes; devices is for each node")
    if config.processes == 1:
        return
    if started is None and config.num_nodes > 1:
        raise ValueError(f"{given}: start a run on several machines with torchrun or srun (docs/scaling.md)")
    kind = find_device(config.device).type
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(kind)
    if there is not None and config.devices > there:
        raise ValueError(f"{given}: this machine has {there} device(s) of kind {kind}")
    if there is None and config.devices > cpu_count():
        warnings.warn(
            f"devices={config.devices}: so many processes share {cpu_count()} processor(s)", stacklevel=3
        )


def start(config: RunConfig, function: Callable, *arguments: Any) -> None:
    """Start the processes of a run on this machine, have each call the function, and wait for them.

    They share the threads of this one, and start afresh: whatever this process has done on a GPU is not in
    the way. A signal to this process is passed on. Raises what the first of them to fail raised, RuntimeError
    where one was killed (the others then end within 2 * `GRACE` seconds), ValueError in a worker of Dask.
    """
    check(config)
    if multiprocessing.current_process().daemon:
        raise ValueError(
            f"devices={config.devices}: a worker of Dask may not start the processes of a run; use devices=1,"
            " or scheduler='slurm' or None"
        )
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    shares = max(1, threads() // config.devices)
    shown = bool(logging.getLogger("tcl_lib").handlers)
    work = pickle.dumps((function, arguments))
    port = LightningEnvironment().main_port
    given = port, shares, shown, errors, work
    failures = multiprocessing.ProcessExitedException, multiprocessing.ProcessRaisedException

    def wait() -> None:
        while not workers.join(grace_period=GRACE):
            pass

    def stop() -> None:
        os.kill(workers.pids()[0], signal.SIGTERM)  # the others learn of it from the first
        with suppress(*failures):  # or are ended, where it had no time to tell them
            wait()

    try:
        with Interruption(stop) as interruption:
            with interruption.held():
                workers = multiprocessing.start_processes(_work, given, config.devices, join=False)
            wait()
    except failures as failure:
        codes = [process.exitcode for process in workers.processes]
        killed = [number for number, code in enumerate(codes) if code == -signal.SIGKILL]
        if not killed and not errors.empty():
            raise pickle.loads(errors.get()) from None
        number = (killed or [failure.error_index])[0]
        code = codes[number]
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise RuntimeError(
            f"{config.run_path}: process {number + 1} of {config.devices} {how};"
            " start the run again to continue it"
        ) from None


def _work(rank: int, port: int, count: int, shown: bool, errors, work: bytes) -> None:
    if not multiprocessing.parent_process().is_alive():  # a later death is signalled
        return
    os.environ |= {"LOCAL_RANK": str(rank), "NODE_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(count)
    if shown:
        notebooks.show_messages()
    try:
        function, arguments = _unpickled(work)
        function(*arguments)
    except Exception as error:
        try:
            errors.put(pickle.dumps(error))
        except (TypeError, AttributeError, pickle.PicklingError):
            errors.put(pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}")))
        raise


def _unpickled(work: bytes) -> tuple[Callable, tuple]:
    try:
        return pickle.loads(work)
    except ValueError as error:
        raise ValueError(
            f"{error} (another process knows your losses and backbones only by `plugin`)"
        ) from None


class Processes:
    """The processes of a run; every method is called by all of them, at the same place.

    Of one process, nothing is sent anywhere.
    """

    def __init__(self, config: RunConfig):
        check(config)
        self._config, self.count = config, config.processes
        self.part, self.is_first = (0, self.count), True
        if self.count > 1:
            self.fabric.launch()
            # Between processors: no GPU is waited for. What the first does alone may take longer than torch
            # lets the others wait: a download, or the evaluation of a large test set.
            self._control = distributed.new_group(backend="gloo")
            self._patient = distributed.new_group(timeout=timedelta(days=30), backend="gloo")
            self.part = self.fabric.global_rank, self.count
            self.is_first = self.fabric.is_global_zero
            if not self.is_first:
                logging.getLogger("tcl_lib").setLevel(logging.ERROR)
                warnings.simplefilter("ignore")

    @cached_property
    def fabric(self) -> Fabric:
        """Lightning's, with the device of this process."""
        config, options = self._config, {"devices": 1}
        if self.count > 1:
            unused = config.strategy == "ddp_find_unused_parameters_true"
            options = {"devices": config.devices, "num_nodes": config.num_nodes, "plugins": [environment()]}
            # Buffers, which are those of batch norm, are shared once an epoch (`overwrite`).
            options["strategy"] = DDPStrategy(broadcast_buffers=False, find_unused_parameters=unused)
        kind = find_device(config.device).type
        return Fabric(accelerator=kind, precision=config.precision, **options)

    def check_samples(self, train: int, validation: int) -> None:
        """Raise ValueError where there are too few samples for each process to have some."""
        if min(train, validation) < self.count:
            raise ValueError(
                f"{train} training and {validation} validation samples: too few for {self.count} processes"
            )

    def first(self, function: Callable[[], T]) -> T:
        """Call a function in the first process; return its result, or raise its error, in all of them."""
        result = error = None
        if self.is_first:
            try:
                result = function()
            except Exception as raised:
                error = raised
        if self.count > 1:
            sent = [(result, error)]
            distributed.broadcast_object_list(sent, group=self._patient)
            result, error = (result, error) if self.is_first else sent[0]
        if error is not None:
            raise error
        return result

    @contextmanager
    def entered(self, context: AbstractContextManager[T]) -> Iterator[T]:
        """Open a context in the first process; what it gives, or its error, is for all of them."""
        with ExitStack() as stack:
            yield self.first(lambda: stack.enter_context(context))

    def in_turn(self, function: Callable[[], T]) -> T:
        """Call a function in the first process and then in the others; return what it gave in this one."""
        mine = []
        self.first(lambda: mine.append(function()))
        return mine[0] if mine else function()

    def overwrite(self, tensors: Iterable[Tensor]) -> None:
        """Replace the tensors of all processes by those of the first."""
        if self.count > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)

    def agree(self, number: int) -> int:
        """Return the largest of the processes' numbers."""
        return (
            self._reduced(torch.tensor(number), distributed.ReduceOp.MAX).item() if self.count > 1 else number
        )

    def sum(self, counts: dict[str, list]) -> dict[str, list]:
        """Return the sums over the processes of what `FiringRates.state` counts."""
        if self.count == 1:
            return counts
        sums = self._reduced(torch.stack(counts["sums"]), distributed.ReduceOp.SUM)
        number = self._reduced(torch.tensor(counts["counts"]), distributed.ReduceOp.SUM)
        return {"sums": list(sums), "counts": number.tolist()}

    def _reduced(self, values: Tensor, how) -> Tensor:
        distributed.all_reduce(values, how, group=self._control)
        return values

    def joined(self, part: Tensor, dim: int, size: int) -> Tensor:
        """Return the whole of this size along an axis, of which every process has its part, with gradient."""
        if self.count == 1:
            return part
        rows = [part_of(size, *which) for which in ((i, self.count) for i in range(self.count))]
        sizes = [of.stop - of.start for of in rows]
        # All have to send equally many: those that have one less add zeros.
        padding = [0, 0] * (part.dim() - 1 - dim) + [0, max(sizes) - part.shape[dim]]
        parts = all_gather(F.pad(part, padding))
        return torch.cat([of.narrow(dim, 0, size) for of, size in zip(parts, sizes, strict=True)], dim)

    def output(self, part: NetworkOutput, config: RunConfig, batch: int) -> NetworkOutput:
        """Return the output for the whole batch, of which this process has a part, as the loss uses it.

        Each process then has the whole loss. Its gradient with respect to a part reaches the part's process
        from all of them, and `DDP` averages over the processes: the result is the gradient of one process.
        """
        if self.count == 1:
            return part
        # In one order in all processes; that of a set differs from process to process.
        used = ["logits", *(["embeddings"] if "embeddings" in config.arguments else [])]
        views = config.num_views

        def whole(values: Tensor) -> Tensor:  # [T, V*b, D] -> [T, V*B, D]
            return self.joined(values.unflatten(1, (views, -1)), 2, batch).flatten(1, 2)

        return part._replace(**{name: whole(getattr(part, name)) for name in used})
