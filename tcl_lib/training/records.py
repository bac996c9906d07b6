"""What a run under way writes and prints: its description, its result, a line an epoch."""

import torch

from tcl_lib.analysis import run_data
from tcl_lib.analysis.evaluation import Evaluation
from tcl_lib.backbones import SpikingNetwork
from tcl_lib.config import RunConfig
from tcl_lib.data import Data
from tcl_lib.training import health
from tcl_lib.utils.devices import hardware, threads
from tcl_lib.utils.provenance import git_commit, versions


def description(config: RunConfig, data: Data, network: SpikingNetwork, device: torch.device) -> dict:
    """Return the content of config.json."""
    return {
        "parameters": config.to_dict(),
        "code": config.code,
        "data": run_data.describe_data(data),
        "network_parameters": sum(p.numel() for p in network.parameters()),
        "versions": versions(),
        "git_commit": git_commit(),
        "device": str(device),
        "machine": f"{config.processes} x {hardware(device)}" if config.processes > 1 else hardware(device),
        "threads": threads(),
    }


def result(config: RunConfig, rows: list[dict[str, float]], evaluation: Evaluation) -> dict[str, float]:
    """Return the content of result.json; accuracies are those of the last epoch unless named otherwise.

    The best epoch is one with all time steps.
    """
    accuracy = evaluation.accuracy_by_step["cumulative"]
    best = max(rows[config.one_step_epochs :], key=lambda row: row["validation_accuracy"])
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


def line(row: dict[str, float], config: RunConfig) -> str:
    rates = health.firing_rates(row)
    return (
        f"epoch {row['epoch']:3d}/{config.epochs}  loss {row['loss']:6.3f}"
        f"  train {row['train_accuracy']:5.1f} %  validation {row['validation_accuracy']:5.1f} %"
        f" (t=1: {row['validation_accuracy_t1']:5.1f} %)  firing rate {sum(rates) / len(rates):.3f}"
        f"  {row['seconds']:.1f} s"
    )
