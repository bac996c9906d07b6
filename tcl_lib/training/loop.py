"""`train(config)` trains one run, from its data to its result."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from tcl_lib.analysis.activity import FiringRates
from tcl_lib.analysis.evaluation import Evaluation, evaluate, predict, stepwise_accuracy
from tcl_lib.backbones import SpikingNetwork
from tcl_lib.config import RunConfig
from tcl_lib.data import Data, load_data, training_batches
from tcl_lib.data.batches import steps_per_epoch
from tcl_lib.losses import ce
from tcl_lib.runs import Run, checkpoints, contents, layout, life, load_run
from tcl_lib.runs.run import find_folder
from tcl_lib.training import comparison, health
from tcl_lib.training.build import build_network, build_optimizer, learning_rate
from tcl_lib.training.compilation import Compilation
from tcl_lib.training.interruption import Interruption
from tcl_lib.training.state import State
from tcl_lib.training.step import forward_and_backward
from tcl_lib.training.whitening import SAMPLES, fit_whitening
from tcl_lib.utils.devices import describe, find_device, keep_freed_memory, threads, use_threads
from tcl_lib.utils.files import Damaged
from tcl_lib.utils.progress import progress_bar
from tcl_lib.utils.provenance import git_commit, versions

log = logging.getLogger(__name__)


def train(config: RunConfig, *, verbose: bool = True) -> Run:
    """Train the run that the config describes, evaluate it once on the test set, and return it.

    A finished run is returned without training; its data are compared, where they are there. One that was
    interrupted continues from its last checkpoint, on a CPU to the same numbers. SIGTERM, SIGUSR1, SIGUSR2
    and interrupts save a checkpoint first. `verbose` prints a line an epoch.

    Raises ValueError for parameters that do not fit the data or the machine, for data that are not those the
    run began with and for damaged files, OSError where a file cannot be read or written, RuntimeError for a
    run that another process trains and for a network that falls silent, FloatingPointError for a loss that is
    not finite, MemoryError where the batch does not fit.
    """
    if config.device == "auto" and (kind := find_device("auto").type) != "cpu":
        config = replace(config, device=kind)  # on a GPU, `compile` is part of a run's identity
    with life.opened(config) as found:
        if found.finished is not None:
            comparison.forget_data()
            comparison.check_data(found.finished, config)
            if verbose:
                kept = (found.finished.path / layout.CHECKPOINT).exists()
                log.info(
                    "%s is finished: nothing to train (overwrite=True trains anew)%s",
                    found.finished.path,
                    "" if kept else "; its checkpoint was not kept",
                )
            return found.finished
        with _training(config, config.run_path, found.checkpoint, verbose) as run:
            run.train()
            run.finish()
            accuracy = run.progress.rows[-1]["validation_accuracy"]
            health.warn_of_chance(accuracy, run.data.validation.labels, config)
    return load_run(config.run_path)


def measure_again(path: str | Path) -> Run:
    """Evaluate a finished run from its checkpoint and write its other files again; return it.

    This is the repair of a run whose files were lost or damaged. Raises FileNotFoundError where there is no
    checkpoint, ValueError where it is damaged or of another run, or where the run is not finished.
    """
    path = find_folder(path)
    file = path / layout.CHECKPOINT
    checkpoint = checkpoints.load(file)
    config = contents.config_of(checkpoint["description"], file)
    with suppress(FileNotFoundError, Damaged):  # that is one of the files that are written again
        description = contents.read_description(path)
        saved = contents.config_of(description, path / layout.CONFIG)
        life.check_checkpoint(file, checkpoint, saved, description["data"])
    with life.lock(path), _training(config, path, checkpoint, verbose=False) as run:
        if len(run.progress.rows) < config.epochs:
            raise ValueError(f"{path}: the run is not finished; start it again to continue it")
        run.finish()
    return load_run(path)


@contextmanager
def _training(
    config: RunConfig, path: Path, checkpoint: dict[str, Any] | None, verbose: bool
) -> Iterator["_Training"]:
    """Open a run, new or at a checkpoint; it goes on with the number of threads that it was begun with."""
    here = count = threads()
    if checkpoint is not None:
        count = checkpoint["description"].get("threads", here)  # early versions wrote none
    if count != here:
        log.info("%s was begun with %d thread(s) and goes on with them, not with %d", path, count, here)
    with health.memory_errors(config), use_threads(count):
        yield _Training(config, path, checkpoint, verbose)


class _Training:
    """A run from its data to its result."""

    def __init__(self, config: RunConfig, path: Path, checkpoint: dict | None, verbose: bool):
        device = find_device(config.device)
        keep_freed_memory()
        data = load_data(config)
        Fabric.seed_everything(config.seed, verbose=False)
        network = build_network(config, data.input_shape, len(data.classes))
        if config.whitened_stem:
            fit_whitening(network.stem, data.inputs(data.train[:SAMPLES]))
        network.to(memory_format=torch.channels_last)
        self.fabric = Fabric(accelerator=device.type, devices=1, precision=config.precision)
        self.model, optimizer = self.fabric.setup(network, build_optimizer(network, config))
        self.config, self.data, self.verbose = config, data, verbose
        self.steps = steps_per_epoch(data, config)
        self.firing: FiringRates | None = None  # open during an epoch
        description = _description(config, data, network, device)
        self.state = State(path, description, network, optimizer)
        if checkpoint is not None:
            self.state.restore(checkpoint)
            log.info("continuing %s after %s, on %s", path, str(self.progress), description["machine"])
        else:
            life.clear(path)  # delete an earlier run only after the data have loaded
            if verbose:
                log.info("training %s on %s", path, description["machine"])
        layout.write_json(path / layout.CONFIG, self.state.description)
        self.saved = time.monotonic()

    @property
    def progress(self):
        return self.state.progress

    def train(self) -> None:
        """Train the epochs that are left."""
        done = len(self.progress.rows) * self.steps + self.progress.step
        total = self.config.epochs * self.steps
        compilation = Compilation(self.config, self.state.network, self.fabric.device, total - done)
        with (
            Interruption(self._save_interrupted) as interruption,
            progress_bar(total, done, "step", self.config.name) as bar,
        ):
            while len(self.progress.rows) < self.config.epochs:
                epoch = len(self.progress.rows) + 1
                means = self._train_epoch(epoch, interruption, compilation, bar)
                means |= self._validate()
                health.check_epoch(self.state.network, means, epoch, self.config)
                with interruption.held():
                    self.state.count_time()
                    row = {"epoch": epoch} | means | {"seconds": self.progress.seconds}
                    self.firing = None
                    self.progress.start_epoch(row)
                    self._save()
                    self._write_metrics()
                if self.verbose:
                    tqdm.write(_line(row, self.config))

    def _train_epoch(
        self, epoch: int, interruption: Interruption, compilation: Compilation, bar: tqdm
    ) -> dict[str, float]:
        """Train what is left of an epoch; return its mean losses, accuracy and firing rates."""
        self.model.train()
        with FiringRates(self.model) as firing:
            if self.progress.spikes is not None:
                firing.load_state(self.progress.spikes)
            self.firing = firing
            for images, labels in training_batches(
                self.data, self.config, epoch, self.fabric.device, self.progress.step
            ):
                with interruption.held():
                    self._train_step(epoch, images, labels)
                    if time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes:
                        self._save()
                if epoch == self.progress.step == 1:
                    health.report_firing(firing.mean(), self.config, self.verbose)
                compilation.step()
                bar.update()
            rates = {f"firing_rate_{layer}": mean for layer, mean in enumerate(firing.mean(), start=1)}
        means = {name: total / self.steps for name, total in self.progress.sums.items()}
        return means | {"lr": learning_rate(epoch * self.steps - 1, self.steps, self.config)} | rates

    def _train_step(self, epoch: int, images: Tensor, labels: Tensor) -> None:
        config, progress, optimizer = self.config, self.progress, self.state.optimizer
        rate = learning_rate((epoch - 1) * self.steps + progress.step, self.steps, config)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        time_steps = 1 if epoch <= config.one_step_epochs else None
        output, loss, terms = forward_and_backward(
            self.fabric, self.model, images, labels, config, time_steps
        )
        optimizer.step()

        correct = output.logits.mean(0).argmax(-1) == labels.repeat(config.num_views)
        numbers = {"loss": loss} | terms | {"train_accuracy": 100 * correct.float().mean()}
        # Read all numbers at once: on a GPU every reading waits for the device.
        values = dict(zip(numbers, torch.stack(list(numbers.values())).tolist(), strict=True))
        progress.step += 1
        place = f"epoch {epoch}, step {progress.step} of {self.steps}"
        health.check_loss(values["loss"], place, progress.last_loss, config)
        progress.last_loss = values["loss"]
        for name, value in values.items():
            progress.sums[name] = progress.sums.get(name, 0.0) + value

    def _validate(self) -> dict[str, float]:
        data, labels = self.data, self.data.validation.labels
        logits = predict(self.model, data.validation, data, self.config.batch_size, self.fabric.device)
        accuracy = stepwise_accuracy(logits, labels)["cumulative"]
        return {
            "validation_cross_entropy": ce(logits, labels).item(),
            "validation_accuracy": float(accuracy.iloc[-1]),
            "validation_accuracy_t1": float(accuracy.iloc[0]),
        }

    def _save(self) -> None:
        if self.firing is not None:
            self.progress.spikes = self.firing.state()
        self.state.save()
        self.saved = time.monotonic()

    def _save_interrupted(self) -> None:
        self._save()
        log.info("interrupted: %s saved, start the run again to continue", str(self.progress))

    def _write_metrics(self) -> None:
        path = self.state.path / layout.METRICS
        layout.write_table(path, self.config.data_label, pd.DataFrame(self.progress.rows))

    def finish(self) -> None:
        """Evaluate on the test set and write everything that is measured; last of all the result."""
        evaluation = evaluate(self.model, self.data, self.config.batch_size, self.fabric.device)
        self._write_metrics()  # the run may have been killed before it was written
        path = self.state.path
        for name, content in zip(layout.EVALUATION, evaluation, strict=True):
            if name.endswith(".npz"):
                layout.write_arrays(path / name, content)
            else:
                layout.write_table(path / name, self.config.data_label, content)
        life.finish(path, _result(self.progress.rows, evaluation))


def _description(config: RunConfig, data: Data, network: SpikingNetwork, device: torch.device) -> dict:
    """Return the content of config.json."""
    return {
        "parameters": config.to_dict(),
        "code": config.code,
        "data": comparison.describe_data(data),
        "network_parameters": sum(p.numel() for p in network.parameters()),
        "versions": versions(),
        "git_commit": git_commit(),
        "device": str(device),
        "machine": describe(device),
        "threads": threads(),
    }


def _result(rows: list[dict[str, float]], evaluation: Evaluation) -> dict[str, float]:
    """Return the content of result.json; accuracies are those of the last epoch unless named otherwise."""
    accuracy = evaluation.accuracy_by_step["cumulative"]
    best = max(rows, key=lambda row: row["validation_accuracy"])
    return {
        "test_accuracy": float(accuracy.iloc[-1]),
        "test_accuracy_t1": float(accuracy.iloc[0]),
        "validation_accuracy": rows[-1]["validation_accuracy"],
        "validation_accuracy_t1": rows[-1]["validation_accuracy_t1"],
        "best_epoch": best["epoch"],
        "best_validation_accuracy": best["validation_accuracy"],
        "energy_uj": float(evaluation.operations["energy_uj"].sum()),
        "ann_energy_uj": float(evaluation.operations["ann_energy_uj"].sum()),
        "seconds": sum(row["seconds"] for row in rows),
    }


def _line(row: dict[str, float], config: RunConfig) -> str:
    rates = health.firing_rates(row)
    return (
        f"epoch {row['epoch']:3d}/{config.epochs}  loss {row['loss']:6.3f}"
        f"  train {row['train_accuracy']:5.1f} %  validation {row['validation_accuracy']:5.1f} %"
        f" (t=1: {row['validation_accuracy_t1']:5.1f} %)  firing rate {sum(rates) / len(rates):.3f}"
        f"  {row['seconds']:.1f} s"
    )
