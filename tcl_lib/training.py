"""`train(config)`: the only way to train."""

import math
import time
from collections import defaultdict

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from tqdm import tqdm

from tcl_lib import checkpoints, runs
from tcl_lib.backbones import SpikingNetwork, build_network
from tcl_lib.compilation import Compilation
from tcl_lib.config import RunConfig
from tcl_lib.data import Data, load_data, training_batches
from tcl_lib.data.batches import steps_per_epoch
from tcl_lib.environment import git_commit, progress_bar, versions
from tcl_lib.evaluation import Evaluation, FiringRates, accuracy_by_step, evaluate, predict
from tcl_lib.interruption import Interruption
from tcl_lib.losses import ce
from tcl_lib.machine import (
    describe,
    fast_precision,
    find_device,
    keep_freed_memory,
    memory_errors,
)
from tcl_lib.step import forward_and_backward


def train(config: RunConfig, *, verbose: bool = True) -> runs.Run:
    """Train the run that the config describes, evaluate it once on the test set, and give it back.

    Says a line an epoch, if verbose.

    A finished run is given back without training; one that was cut off goes on from its last checkpoint, on a
    CPU to the same numbers. SIGTERM and interrupts save one first. Raises ValueError for parameters that do
    not fit the data or the machine, OSError where a file cannot be read or written, RuntimeError for a run
    that another process is training and for a network that falls silent, FloatingPointError for a loss that
    is not finite, MemoryError where the batch does not fit.
    """
    finished = runs.find_finished(config)
    if finished is None:
        device = find_device(config.device)
        keep_freed_memory()
        data = load_data(config)
        Fabric.seed_everything(config.seed, verbose=False)
        network = build_network(config, data.input_shape, len(data.classes))
        network.to(memory_format=torch.channels_last)
        with runs.sole_writer(config):
            mended = not config.overwrite and runs.mend(config.run_path)
            finished = runs.find_finished(config)  # perhaps by another process, meanwhile
            if finished is None:
                with memory_errors(config):
                    _Training(config, data, network, device, mended, verbose).run()
                return runs.load_run(config.run_path)
    if verbose:
        print(f"{finished.path} is finished: nothing to train (overwrite=True trains anew)")
    return finished


def build_optimizer(network: nn.Module, config: RunConfig) -> Optimizer:
    """SGD with Nesterov momentum, or AdamW; no weight decay on norms and biases."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    nesterov = config.momentum > 0
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)


def learning_rate(step: int, steps_per_epoch: int, config: RunConfig) -> float:
    """The rate of a step (from 0): up linearly over the warm-up epochs, then down to 0 as a cosine."""
    warmup, total = (epochs * steps_per_epoch for epochs in (config.warmup_epochs, config.epochs))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


class _Training:
    """A run under way: a network, its optimizer, and how far they are."""

    def __init__(
        self,
        config: RunConfig,
        data: Data,
        network: SpikingNetwork,
        device: torch.device,
        mended: bool,
        verbose: bool,
    ):
        goes_on = runs.prepare_folder(config, mended)
        precision = _precision(config, device, goes_on)
        self.config, self.data, self.network, self.verbose = config, data, network, verbose
        self.fabric = Fabric(accelerator=device.type, devices=1, precision=precision)
        self.model, self.optimizer = self.fabric.setup(network, build_optimizer(network, config))
        self.steps = steps_per_epoch(data, config)  # of an epoch
        self.rows: list[dict] = []  # metrics of the epochs that are done
        self.step = 0  # steps that are done of the epoch under way
        self.sums: dict[str, float] = defaultdict(float)  # of their losses and accuracies
        self.firing: FiringRates | None = None  # which counts their spikes
        self.spikes: dict[str, list] | None = None  # what it is to start from
        self._start_clock(0.0)
        self.last_loss: float | None = None  # that was finite
        self.description = _description(config, data, network, precision, device)
        state = checkpoints.load_last(config.run_path) if goes_on else None
        if state is not None:
            self._restore(state)
        runs.write_json(config.run_path / runs.CONFIG, self.description)
        self.saved = time.monotonic()

    def run(self) -> None:
        """Train what is left, and evaluate."""
        done = len(self.rows) * self.steps + self.step
        total = self.config.epochs * self.steps
        compilation = Compilation(self.config, self.network, self.fabric.device, total - done, self.verbose)
        with (
            Interruption(self._save_interrupted) as interruption,
            progress_bar(total, done, "step", self.config.name) as bar,
        ):
            while len(self.rows) < self.config.epochs:
                means = self._train_epoch(interruption, compilation, bar)
                means |= _validate(self.fabric, self.model, self.data, self.config)
                epoch = len(self.rows) + 1
                _check_health(self.network, means, epoch, self.config)
                with interruption.held():
                    row = {"epoch": epoch} | means | {"seconds": self._seconds()}
                    self.rows.append(row)
                    self.step, self.sums, self.firing, self.spikes = 0, defaultdict(float), None, None
                    self._start_clock(0.0)
                    self.save()
                    runs.write_table(self.config, runs.METRICS, pd.DataFrame(self.rows))
                if self.verbose:
                    tqdm.write(_line(row, self.config))
            evaluation = evaluate(self.model, self.data, self.config.batch_size, self.fabric.device)
        _finish(self.config, evaluation, self.rows)

    def _train_epoch(
        self, interruption: Interruption, compilation: Compilation, bar: tqdm
    ) -> dict[str, float]:
        """What is left of a pass over the training part; its mean losses, accuracy and firing rates."""
        self.model.train()
        epoch = len(self.rows) + 1
        with FiringRates(self.model) as firing:
            if self.spikes is not None:
                firing.load_state(self.spikes)
            self.firing = firing
            for images, labels in training_batches(
                self.data, self.config, epoch, self.fabric.device, self.step
            ):
                with interruption.held():
                    self._train_step(images, labels)
                    if time.monotonic() - self.saved > 60 * self.config.checkpoint_minutes:
                        self.save()
                if epoch == self.step == 1:
                    _report_firing(firing.mean(), self.config, self.verbose)
                compilation.step()
                bar.update()
            rates = {f"firing_rate_{layer}": mean for layer, mean in enumerate(firing.mean(), start=1)}
        means = {name: total / self.steps for name, total in self.sums.items()}
        return means | {"lr": learning_rate(epoch * self.steps - 1, self.steps, self.config)} | rates

    def _train_step(self, images: Tensor, labels: Tensor) -> None:
        epoch, config = len(self.rows) + 1, self.config
        rate = learning_rate((epoch - 1) * self.steps + self.step, self.steps, config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        output, terms = forward_and_backward(self.fabric, self.model, images, labels, config)
        self.optimizer.step()

        right = output.logits.mean(0).argmax(-1) == labels.repeat(config.views)
        numbers = {"loss": sum(terms.values())} | terms | {"train_accuracy": 100 * right.float().mean()}
        # all at once: on a GPU, to ask for a number is to wait for it
        values = torch.stack(list(numbers.values())).tolist()
        self.step += 1
        if not math.isfinite(values[0]):
            raise FloatingPointError(
                f"the loss is {values[0]} in epoch {epoch}, step {self.step} of {self.steps}; its last finite"
                f" value was {self.last_loss}. Try a lower lr ({config.lr})"
            )
        self.last_loss = values[0]
        for name, value in zip(numbers, values, strict=True):
            self.sums[name] += value

    def save(self) -> None:
        """Write a checkpoint."""
        progress = {
            "rows": self.rows,
            "step": self.step,
            "sums": dict(self.sums),
            "spikes": self.spikes if self.firing is None else self.firing.state(),
            "seconds": self._seconds(),
            "last_loss": self.last_loss,
        }
        state = {
            "description": self.description,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": progress,
            "random": checkpoints.random_states(),
        }
        checkpoints.save(self.config.run_path, state)
        self.saved = time.monotonic()

    def _save_interrupted(self) -> None:
        self.save()
        tqdm.write(f"interrupted: {self._position()} saved, start the run again to go on")

    def _restore(self, state: dict) -> None:
        """Go back to where a run was when it was cut off."""
        path = self.config.run_path
        before, now = state["description"]["data"], self.description["data"]
        changed = [name for name in now if now[name] != before[name]]
        if changed:
            raise ValueError(
                f"{path}: was begun with other data ({before[changed[0]]} {changed[0]} and not"
                f" {now[changed[0]]}); give another run_name, or overwrite=True"
            )
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
            progress = state["progress"]
            self.rows, self.step, self.spikes = progress["rows"], progress["step"], progress["spikes"]
            self.sums = defaultdict(float, progress["sums"])
            self.last_loss = progress["last_loss"]
            self._start_clock(progress["seconds"])
            checkpoints.set_random_states(state["random"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{path / checkpoints.LAST}: does not fit this run; overwrite=True trains it anew"
            ) from error
        print(f"continuing {path} after {self._position()}")
        self._describe_change(state["description"])

    def _describe_change(self, description: dict) -> None:
        """Write down where the run goes on in other surroundings than it was started in."""
        before = description
        for entry in description.get("continued", []):
            before = before | entry
        surroundings = ("versions", "git_commit", "device", "machine")
        changed = {key: self.description[key] for key in surroundings if self.description[key] != before[key]}
        self.description = description
        if changed:
            print(f"with other {', '.join(changed)} than before, which {runs.CONFIG} says")
            entry = {"after": self._position()} | changed
            description["continued"] = [*description.get("continued", []), entry]

    def _position(self) -> str:
        step = f", step {self.step} of {self.steps} of the next" if self.step else ""
        return f"epoch {len(self.rows)}{step}"

    def _start_clock(self, seconds: float) -> None:
        """`seconds` were spent on the epoch under way."""
        self._began = time.perf_counter() - seconds

    def _seconds(self) -> float:
        return time.perf_counter() - self._began


def _validate(fabric: Fabric, model: nn.Module, data: Data, config: RunConfig) -> dict[str, float]:
    labels = data.validation.labels
    logits = predict(model, data.validation, data, config.batch_size, fabric.device)
    accuracy = accuracy_by_step(logits, labels)["cumulative"]
    return {
        "validation_cross_entropy": ce(logits, labels).item(),
        "validation_accuracy": float(accuracy.iloc[-1]),
        "validation_accuracy_t1": float(accuracy.iloc[0]),
    }


def _check_health(network: nn.Module, means: dict[str, float], epoch: int, config: RunConfig) -> None:
    """Stop a run that cannot come to anything any more.

    A weight that is not a number makes its neuron silent and not the loss infinite: it has to be looked for.
    """
    finite = all(parameter.isfinite().all() for parameter in network.parameters())
    if not finite or not math.isfinite(means["validation_cross_entropy"]):
        raise FloatingPointError(
            f"the weights or logits are no longer finite after epoch {epoch}, whose mean loss was"
            f" {means['loss']:.4g}. Try a lower lr ({config.lr})"
        )
    rates = _rates(means)
    if rates[-1] == 0:
        raise RuntimeError(
            f"the network is dead: layer {len(rates)} of {len(rates)} fired no spike in epoch {epoch}"
            f" (v_th={config.v_th}, decay={config.decay}, lr={config.lr})"
        )


def _rates(means: dict[str, float]) -> list[float]:
    return [rate for name, rate in means.items() if name.startswith("firing_rate_")]


def _report_firing(rates: list[float], config: RunConfig, verbose: bool) -> None:
    """Say how alive the network is before time is spent on it; if not verbose, only where it is not."""
    listed = ", ".join(f"{rate:.3f}" for rate in rates)
    if verbose:
        tqdm.write(f"firing rates in the first step, layer 1 to {len(rates)}: {listed}")
    silent = [layer for layer, rate in enumerate(rates, start=1) if rate == 0]
    if silent:
        tqdm.write(
            f"warning: layers {silent} fired no spike in the first step and may never do;"
            f" a lower v_th ({config.v_th}) or a higher decay ({config.decay}) helps"
        )


def _line(row: dict[str, float], config: RunConfig) -> str:
    rates = _rates(row)
    return (
        f"epoch {row['epoch']:3d}/{config.epochs}  loss {row['loss']:6.3f}"
        f"  train {row['train_accuracy']:5.1f} %  validation {row['validation_accuracy']:5.1f} %"
        f" (t=1: {row['validation_accuracy_t1']:5.1f} %)  firing rate {sum(rates) / len(rates):.3f}"
        f"  {row['seconds']:.1f} s"
    )


def _precision(config: RunConfig, device: torch.device, goes_on: bool) -> str:
    """The precision of "auto": that of the run which goes on, or what the machine is fast in."""
    if config.precision != "auto":
        return config.precision
    saved = runs.load_precision(config.run_path) if goes_on else "auto"
    return fast_precision(device) if saved == "auto" else saved


def _description(
    config: RunConfig, data: Data, network: SpikingNetwork, precision: str, device: torch.device
) -> dict:
    """What config.json holds."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "parameters": config.to_dict(),
        "data": {
            "image_shape": list(data.input_shape),
            "classes": data.classes,
            "images": {name: len(part) for name, part in parts.items()},
        },
        "network_parameters": sum(p.numel() for p in network.parameters()),
        "versions": versions(),
        "git_commit": git_commit(),
        "precision": precision,
        "device": str(device),
        "machine": describe(device),
    }


def _finish(config: RunConfig, evaluation: Evaluation, rows: list[dict[str, float]]) -> None:
    runs.write_table(config, runs.METRICS, pd.DataFrame(rows))  # it may have been cut off before
    for name, content in zip(runs.EVALUATION, evaluation, strict=True):
        if name == runs.FEATURES:
            runs.write_arrays(config.run_path / name, content)
        else:
            runs.write_table(config, name, content)
    accuracy = evaluation.accuracy_by_step["cumulative"]
    best = max(rows, key=lambda row: row["validation_accuracy"])
    result = {
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
    runs.write_result(config.run_path, result)
