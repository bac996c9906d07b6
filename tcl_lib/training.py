"""`train(config)`: the only way to train."""

import math
import time
from collections import defaultdict

import pandas as pd
import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from tqdm import tqdm

from tcl_lib import runs
from tcl_lib.backbones import SpikingNetwork, build_network
from tcl_lib.compilation import Compilation
from tcl_lib.config import RunConfig
from tcl_lib.data import Data, load_data, training_batches
from tcl_lib.data.batches import steps_per_epoch
from tcl_lib.environment import git_commit, progress_bar, versions
from tcl_lib.evaluation import Evaluation, FiringRates, accuracy_by_step, evaluate, predict
from tcl_lib.losses import ce
from tcl_lib.machine import describe, fast_precision, find_device, keep_freed_memory
from tcl_lib.step import forward_and_backward


def train(config: RunConfig, *, verbose: bool = True) -> runs.Run:
    """Train the run that the config describes, evaluate it once on the test set, and give it back.

    Says a line an epoch, if verbose.

    A finished run is given back without training; one that was cut off goes on after its last full epoch, on
    a CPU to the same numbers. Raises ValueError for parameters that do not fit the data or the machine,
    RuntimeError for a network that falls silent, FloatingPointError for a loss that is not finite.
    """
    device = find_device(config.device)
    finished = runs.find_finished(config)
    if finished is not None:
        if verbose:
            print(f"{finished.path} is finished: nothing to train (overwrite=True trains anew)")
        return finished

    keep_freed_memory()
    precision = _precision(config, device)
    fabric = Fabric(accelerator=device.type, devices=1, precision=precision)
    data = load_data(config)
    fabric.seed_everything(config.seed, verbose=False)
    network = build_network(config, data.input_shape, len(data.classes))
    network.to(memory_format=torch.channels_last)
    model, optimizer = fabric.setup(network, build_optimizer(network, config))
    runs.prepare_folder(config)
    rows = _continue(config, network, optimizer)
    if not rows:
        runs.write_json(config.run_path / runs.CONFIG, _description(config, data, network, precision, device))

    steps, done = steps_per_epoch(data, config), len(rows)
    left = (config.epochs - done) * steps
    compilation = Compilation(config, network, fabric.device, left, verbose)
    with progress_bar(config.epochs * steps, done * steps, "step", config.name) as bar:
        for epoch in range(done + 1, config.epochs + 1):
            started = time.perf_counter()
            last_loss = rows[-1]["loss"] if rows else None
            means = _train_epoch(
                fabric, model, optimizer, data, config, epoch, last_loss, compilation, bar, verbose
            )
            means |= _validate(fabric, model, data, config)
            _check_health(network, means, epoch, config)
            rows.append({"epoch": epoch} | means | {"seconds": time.perf_counter() - started})
            _save(config, network, optimizer, rows)
            if verbose:
                tqdm.write(_line(rows[-1], config))

    _finish(config, evaluate(model, data, config.batch_size, fabric.device), rows)
    return runs.load_run(config.run_path)


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


def _train_epoch(
    fabric: Fabric,
    model: nn.Module,
    optimizer: Optimizer,
    data: Data,
    config: RunConfig,
    epoch: int,
    last_loss: float | None,
    compilation: Compilation,
    bar: tqdm,
    verbose: bool,
) -> dict[str, float]:
    """One pass over the training part; the means of its losses, accuracy and firing rates."""
    model.train()
    steps = steps_per_epoch(data, config)
    sums: dict[str, float] = defaultdict(float)
    with FiringRates(model) as firing:
        batches = training_batches(data, config, epoch, fabric.device)
        for step, (images, labels) in enumerate(batches, start=1):
            rate = learning_rate((epoch - 1) * steps + step - 1, steps, config)
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad()
            output, terms = forward_and_backward(fabric, model, images, labels, config)
            optimizer.step()

            right = output.logits.mean(0).argmax(-1) == labels.repeat(config.views)
            numbers = {"loss": sum(terms.values())} | terms | {"train_accuracy": 100 * right.float().mean()}
            # all at once: on a GPU, to ask for a number is to wait for it
            values = torch.stack(list(numbers.values())).tolist()
            if not math.isfinite(values[0]):
                raise FloatingPointError(
                    f"the loss is {values[0]} in epoch {epoch}, step {step} of {steps}; its last finite value"
                    f" was {last_loss}. Try a lower lr ({config.lr})"
                )
            last_loss = values[0]
            for name, value in zip(numbers, values, strict=True):
                sums[name] += value
            if epoch == step == 1:
                _report_firing(firing.mean(), config, verbose)
            compilation.step()
            bar.update()
        rates = {f"firing_rate_{layer}": mean for layer, mean in enumerate(firing.mean(), start=1)}
    return {name: total / steps for name, total in sums.items()} | {"lr": rate} | rates


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


def _precision(config: RunConfig, device: torch.device) -> str:
    """The precision of "auto": that of the run which is continued, or what the machine is fast in."""
    if config.precision != "auto":
        return config.precision
    files = (config.run_path / name for name in (runs.CONFIG, runs.CHECKPOINT))
    continued = all(file.exists() for file in files) and not config.overwrite
    saved = runs.load_precision(config.run_path) if continued else "auto"
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


def _continue(config: RunConfig, network: nn.Module, optimizer: Optimizer) -> list[dict]:
    """Go back to the last full epoch of a run that was cut off; the metrics so far."""
    if not (config.run_path / runs.CHECKPOINT).exists():
        return []  # a new run
    state = runs.load_checkpoint(config.run_path)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    print(f"continuing {config.run_path} after epoch {len(state['rows'])}")
    return state["rows"]


def _save(config: RunConfig, network: nn.Module, optimizer: Optimizer, rows: list[dict[str, float]]) -> None:
    state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "rows": rows}
    runs.save_checkpoint(config.run_path, state)
    runs.write_table(config, runs.METRICS, pd.DataFrame(rows))


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
    runs.write_json(config.run_path / runs.RESULT, result)
