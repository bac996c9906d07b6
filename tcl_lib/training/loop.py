"""`train(config)` trains one run, from its data to its result."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from tcl_lib.analysis import run_data
from tcl_lib.analysis.activity import FiringRates, mean_rates
from tcl_lib.analysis.evaluation import evaluate, predict, stepwise_accuracy
from tcl_lib.config import RunConfig
from tcl_lib.data import load_data, training_batches
from tcl_lib.data.batches import part_of, placed, steps_per_epoch
from tcl_lib.losses import ce
from tcl_lib.runs import Run, checkpoints, contents, layout, life, load_run
from tcl_lib.training import batchnorm, health, processes, records
from tcl_lib.training.build import build_network, build_optimizer, learning_rate
from tcl_lib.training.compilation import Compilation
from tcl_lib.training.interruption import Interruption
from tcl_lib.training.processes import Processes
from tcl_lib.training.state import Progress, State
from tcl_lib.training.step import forward_and_backward
from tcl_lib.training.sums import Sums
from tcl_lib.training.whitening import SAMPLES, fit_whitening
from tcl_lib.utils import paths
from tcl_lib.utils.devices import find_device, gpu_settings, keep_freed_memory, threads, use_threads
from tcl_lib.utils.files import Damaged
from tcl_lib.utils.progress import progress_bar

log = logging.getLogger(__name__)


def train(config: RunConfig, *, verbose: bool = True) -> Run:
    """Train the run that the config describes, evaluate it once on the test set, and return it.

    A finished run is returned without training; its data are compared, where they are there. One that was
    interrupted continues from its last checkpoint, on a CPU to the same numbers. SIGTERM, SIGUSR1, SIGUSR2
    and interrupts save a checkpoint first. `verbose` prints a line an epoch.

    Raises ValueError for parameters that do not fit the data or the machine, for data that are not those the
    run began with and for damaged files, OSError where a file cannot be read or written, RuntimeError for a
    run that another process trains, for a network that falls silent and in a forked process with several
    threads, FloatingPointError for a loss that is not finite, MemoryError where the batch does not fit,
    TypeError for anything but a config.
    """
    if not isinstance(config, RunConfig):
        shown = f"{config!r:.80}"
        raise TypeError(f"config={shown}: must be a RunConfig, as in tcl_lib.train(RunConfig(loss='tcl'))")
    if config.device == "auto" and (kind := find_device("auto").type) != "cpu":
        config = replace(config, device=kind)  # on a GPU, `compile` is part of a run's identity
    if config.processes > 1 and processes.environment() is None:
        if finished := life.find_finished(config):
            return _shown(finished, config, verbose)
        processes.start(config, train, config)
        return load_run(config.run_path)
    group = Processes(config)
    with group.entered(life.opened(config)) as found:
        if found.finished is not None:
            return _shown(found.finished, config, verbose)
        with _open(config, config.run_path, found.checkpoint, verbose, group) as run:
            run.train()
            group.first(run.finish)
            accuracy = run.progress.rows[-1]["validation_accuracy"]
            health.warn_of_chance(accuracy, run.data.validation.labels, config)
    return load_run(config.run_path)


def _shown(finished: Run, config: RunConfig, verbose: bool) -> Run:
    """Compare a finished run with its data and return it."""
    run_data.forget_data()
    run_data.check_data(finished, config)
    if verbose:
        kept = (finished.path / layout.CHECKPOINT).exists()
        log.info(
            "%s is finished: nothing to train (overwrite=True trains anew)%s",
            finished.path,
            "" if kept else "; its checkpoint was not kept",
        )
    return finished


def measure_again(path: str | Path) -> Run:
    """Evaluate a finished run from its checkpoint and write its other files again; return it.

    This is the repair of a run whose files were lost or damaged. Raises FileNotFoundError where there is no
    checkpoint, ValueError where it is damaged or of another run, or where the run is not finished.
    """
    path = paths.existing(path, "the folder of a run")
    file = path / layout.CHECKPOINT
    checkpoint = checkpoints.load(file)
    config = contents.config_of(checkpoint["description"], file)
    here = replace(config, devices=1, num_nodes=1, strategy="auto", sync_batch_norm=True)
    with suppress(FileNotFoundError, Damaged):  # that is one of the files that are written again
        saved, description = contents.read_config(path)
        life.check_checkpoint(file, checkpoint, saved, description["data"])
    with life.lock(path), _open(here, path, checkpoint, False, Processes(here)) as run:
        if len(run.progress.rows) < config.epochs:
            raise ValueError(f"{path}: the run is not finished; start it again to continue it")
        run.finish()
    return load_run(path)


@contextmanager
def _open(
    config: RunConfig, path: Path, checkpoint: dict[str, Any] | None, verbose: bool, group: Processes
) -> Iterator["_Training"]:
    """Open a run, new or at a checkpoint; it goes on with the number of threads that it was begun with."""
    here = threads()
    count = checkpoint["description"]["threads"] if checkpoint else here
    if count != here:
        log.info("%s was begun with %d thread(s) and goes on with them, not with %d", path, count, here)
    device = group.fabric.device
    with health.memory_errors(config), use_threads(count), gpu_settings(device, config.tf32):
        yield _Training(config, path, checkpoint, verbose and group.is_first, group)


class _Training:
    """A run from its data to its result, in one of the processes of the group."""

    def __init__(
        self, config: RunConfig, path: Path, checkpoint: dict | None, verbose: bool, group: Processes
    ):
        self.group, self.fabric = group, group.fabric
        device = self.fabric.device
        keep_freed_memory()
        data = group.in_turn(partial(load_data, config))
        group.check_samples(len(data.train), len(data.validation))
        Fabric.seed_everything(config.seed, verbose=False)
        network = build_network(config, data.input_shape, len(data.classes))
        if config.whitened_stem:
            fit_whitening(network.stem, data.inputs(data.train[:SAMPLES]))
        network.to(memory_format=torch.channels_last)
        if group.count > 1 and config.sync_batch_norm:
            network = batchnorm.synchronise(network, device)
        self.model, optimizer = self.fabric.setup(network, build_optimizer(network, config))
        self.config, self.data, self.verbose = config, data, verbose
        self.samples = placed(data.train, device, config.data_on_device)
        self.steps = steps_per_epoch(data, config)
        self.batch_size = config.batch_size // group.count  # in this process
        self.firing: FiringRates | None = None  # of the epoch under way, as the sums are
        self.sums: Sums | None = None
        self.validation: Tensor | None = None  # logits of the last epoch
        description = records.description(config, data, network, device)
        self.state = State(path, description, network, optimizer)
        if checkpoint is not None:
            self.state.restore(checkpoint)
            log.info("continuing %s after %s, on %s", path, str(self.progress), description["machine"])
        else:
            group.first(partial(life.clear, path))  # an earlier run goes only after the data have loaded
            if verbose:
                log.info("training %s on %s", path, description["machine"])
        group.first(partial(layout.write_json, path / layout.CONFIG, self.state.description))
        self.saved = time.monotonic()

    @property
    def progress(self) -> Progress:
        return self.state.progress

    def train(self) -> None:
        """Train the epochs that are left."""
        done = len(self.progress.rows) * self.steps + self.progress.step
        total = self.config.epochs * self.steps
        compilation = Compilation(self.config, self.state.network, self.fabric.device, total - done)
        agree = self.group.agree if self.group.count > 1 else None
        with (
            Interruption(self._save_interrupted, agree) as interruption,
            progress_bar(total, done, "step", self.config.name, hidden=not self.group.is_first) as bar,
        ):
            while len(self.progress.rows) < self.config.epochs:
                epoch = len(self.progress.rows) + 1
                means = self._train_epoch(epoch, interruption, compilation, bar)
                means |= self._validate(epoch)
                health.check_epoch(self.state.network, means, epoch, self.config)
                with interruption.held():
                    self.state.count_time()
                    row = {"epoch": epoch} | means | {"seconds": self.progress.seconds}
                    self.firing = None
                    self.progress.start_epoch(row)
                    self._save()
                    self.group.first(self._write_metrics)
                if self.verbose:
                    tqdm.write(records.line(row, self.config))

    def _train_epoch(
        self, epoch: int, interruption: Interruption, compilation: Compilation, bar: tqdm
    ) -> dict[str, float]:
        """Train what is left of an epoch; return its mean losses, accuracy and firing rates."""
        progress, device = self.progress, self.fabric.device
        self.model.train()
        self.sums = Sums(progress.sums, progress.last_loss, device)
        with FiringRates(self.model) as firing:
            if progress.spikes is not None and self.group.is_first:  # they are those of all processes
                firing.load_state(progress.spikes)
            self.firing = firing
            for images, labels in training_batches(
                self.data, self.config, epoch, device, progress.step, self.group.part, self.samples
            ):
                with interruption.held():
                    self._train_step(epoch, images, labels)
                    if self._checkpoint_due():
                        self._save()
                if epoch == progress.step == 1:
                    rates = mean_rates(self.group.sum(firing.state()))
                    health.report_firing(rates, self.config, self.verbose)
                compilation.step()
                bar.update()
            rates = mean_rates(self.group.sum(firing.state()))
        self._read_sums(epoch)
        means = {name: total / self.steps for name, total in progress.sums.items()}
        rates = {f"firing_rate_{layer}": mean for layer, mean in enumerate(rates, start=1)}
        return means | {"lr": learning_rate(epoch * self.steps - 1, self.steps, self.config)} | rates

    def _train_step(self, epoch: int, images: Tensor, labels: Tensor) -> None:
        config, progress, optimizer = self.config, self.progress, self.state.optimizer
        rate = learning_rate((epoch - 1) * self.steps + progress.step, self.steps, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        whole = partial(self.group.output, config=config, batch=len(labels))
        output, loss, terms = forward_and_backward(
            self.fabric, self.model, images, labels, config, self._time_steps(epoch), whole
        )
        optimizer.step()

        correct = output.logits.mean(0).argmax(-1) == labels.repeat(config.num_views)
        numbers = {"loss": loss} | terms | {"train_accuracy": 100 * correct.float().mean()}
        progress.step += 1
        self.sums.add(numbers, progress.step)
        if self.fabric.device.type == "cpu":  # elsewhere every reading waits for the device
            self._read_sums(epoch)

    def _read_sums(self, epoch: int) -> None:
        """Have the progress hold the sums of the epoch's steps; a loss that was not finite stops the run."""
        progress = self.progress
        progress.sums, progress.last_loss, failed = self.sums.read()
        if failed is not None:
            step, loss = failed
            raise FloatingPointError(
                f"the loss is {loss} in epoch {epoch}, step {step} of {self.steps}; its last finite value was"
                f" {progress.last_loss}. Try a lower lr ({self.config.lr})"
            )

    def _time_steps(self, epoch: int) -> int | None:
        return 1 if epoch <= self.config.one_step_epochs else None

    def _validate(self, epoch: int) -> dict[str, float]:
        """Evaluate on validation data with the time steps of the epoch; every process has a share."""
        data, labels, device = self.data, self.data.validation.labels, self.fabric.device
        self.group.overwrite(self.state.network.buffers())  # running statistics
        rows = torch.arange(len(labels))[part_of(len(labels), *self.group.part)]
        samples = data.validation.take(rows)
        share = predict(self.model, samples, data, self.batch_size, device, self._time_steps(epoch))
        self.validation = logits = self.group.joined(share.to(device), 1, len(labels)).cpu()
        accuracy = stepwise_accuracy(logits, labels)["cumulative"]
        return {
            "validation_cross_entropy": ce(logits, labels).item(),
            "validation_accuracy": float(accuracy.iloc[-1]),
            "validation_accuracy_t1": float(accuracy.iloc[0]),
        }

    def _checkpoint_due(self) -> bool:
        due = time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes
        return self.group.agree(due)

    def _save(self) -> None:
        if self.firing is not None:
            self._read_sums(len(self.progress.rows) + 1)
            self.progress.spikes = self.group.sum(self.firing.state())
        self.group.first(self.state.save)
        self.saved = time.monotonic()

    def _save_interrupted(self) -> None:
        self._save()
        log.info("interrupted: %s saved, start the run again to continue", str(self.progress))

    def _write_metrics(self) -> None:
        path = self.state.path / layout.METRICS
        layout.write_table(path, self.config.data_label, pd.DataFrame(self.progress.rows))

    def finish(self) -> None:
        """Evaluate on the test set and write everything that is measured; last of all the result."""
        with batchnorm.alone(self.state.network):
            evaluation = evaluate(self.model, self.data, self.batch_size, self.fabric.device, self.validation)
        self._write_metrics()  # the run may have been killed before it was written
        path = self.state.path
        for name, content in zip(layout.EVALUATION, evaluation, strict=True):
            if name.endswith(".npz"):
                layout.write_arrays(path / name, content)
            else:
                layout.write_table(path / name, self.config.data_label, content)
        life.finish(path, records.result(self.config, self.progress.rows, evaluation))
