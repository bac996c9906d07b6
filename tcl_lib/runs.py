"""The run directory: written by training, read by everything else.

    runs/<name>/config.json           parameters, data, versions, commit; written first
    runs/<name>/metrics.csv           a row an epoch
    runs/<name>/checkpoint.pt         network, optimiser and metrics after the last full epoch
    runs/<name>/accuracy_by_step.csv  on the test set
    runs/<name>/result.json           written last: a run is finished when it is there

Imports no torch until a model or a checkpoint is asked for.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tcl_lib.config import REPOSITORY, RunConfig
from tcl_lib.environment import replacing

if TYPE_CHECKING:
    from tcl_lib.backbones import SpikingNetwork

CONFIG, METRICS, CHECKPOINT = "config.json", "metrics.csv", "checkpoint.pt"
ACCURACY, RESULT = "accuracy_by_step.csv", "result.json"
FILES = (RESULT, ACCURACY, CHECKPOINT, METRICS, CONFIG)  # in the order in which a run is taken apart


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    path: Path
    config: RunConfig

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def result(self) -> dict[str, Any]:
        """The numbers of result.json: accuracies in percent, of the last epoch if not said otherwise."""
        return read_json(self.path / RESULT)

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row an epoch: data, losses, accuracies in percent, the firing rate of every layer, seconds."""
        return _read_csv(self.path / METRICS)

    @cached_property
    def accuracy_by_step(self) -> pd.DataFrame:
        """On the test set, in percent: columns data, time_step, cumulative, low, high, instantaneous."""
        return _read_csv(self.path / ACCURACY)

    def model(self) -> "SpikingNetwork":
        """The trained network of the last epoch, on the CPU, in evaluation mode.

        It computes in float32; for the numbers of a run in bf16-mixed, use it inside `torch.autocast`.
        Raises FileNotFoundError where the checkpoint was not kept.
        """
        from tcl_lib.backbones import build_network

        data = read_json(self.path / CONFIG)["data"]
        network = build_network(self.config, data["image_shape"], len(data["classes"]))
        network.load_state_dict(load_checkpoint(self.path)["network"])
        return network.eval()

    def __repr__(self) -> str:
        result = self.result
        return (
            f"{self.name}, data {self.config.data_label}: test accuracy {result['test_accuracy']:.2f} %"
            f" of the last epoch ({self.config.epochs}), validation {result['validation_accuracy']:.2f} %;"
            f" best on validation data: epoch {result['best_epoch']} with"
            f" {result['best_validation_accuracy']:.2f} %"
        )


def load_run(path: str | Path) -> Run:
    """Read a finished run from its folder; a relative path starts here or at the repository.

    Raises FileNotFoundError where there is none, ValueError where it is not finished or not readable.
    """
    path = Path(path).expanduser()
    if not path.exists():
        path = REPOSITORY / path
    if not (path / CONFIG).exists():
        raise FileNotFoundError(f"{path}: is not a run, it holds no {CONFIG}")
    if not (path / RESULT).exists():
        raise ValueError(f"{path}: the run is not finished; start it again to continue it")
    return Run(path, saved_config(path))


def load_runs(root: str | Path = "runs") -> pd.DataFrame:
    """The finished runs in a folder: a row each, with its name, path, every parameter and every result.

    A folder that is no finished run is skipped, with a line that names it. A relative root starts here or at
    the repository. Raises FileNotFoundError where there is no such folder.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        root = REPOSITORY / root
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: is not a folder of runs")
    rows = []
    for path in sorted(folder.parent for folder in root.glob(f"*/{CONFIG}")):
        try:
            run = load_run(path)
            label = {"name": run.name, "path": str(path), "data": run.config.data_label}
            rows.append(label | run.config.to_dict() | run.result)
        except ValueError as error:
            print(f"skipped {error}")
    return pd.DataFrame(rows)


def saved_config(path: Path) -> RunConfig:
    """The config a run was started with. Raises ValueError where it is damaged or has unknown parameters."""
    parameters = read_json(path / CONFIG).get("parameters")
    if not isinstance(parameters, dict):
        raise ValueError(f"{path / CONFIG}: is damaged (no parameters)")
    try:
        return RunConfig.from_dict(parameters)
    except ValueError as error:
        raise ValueError(f"{path / CONFIG}: {error}") from error


def find_finished(config: RunConfig) -> Run | None:
    """The finished run of this config, or None if there is none or it is to be overwritten.

    Raises ValueError where the run's folder belongs to a run with other parameters.
    """
    path = config.run_path
    if config.overwrite or not (path / CONFIG).exists():
        return None
    saved, given = saved_config(path).identity(), config.identity()
    changes = [
        f"{key}={saved.get(key)!r} there, {given.get(key)!r} here"
        for key in given | saved
        if saved.get(key) != given.get(key)
    ]
    if changes:
        raise ValueError(
            f"{path}: holds a run with other parameters ({'; '.join(changes)});"
            " give another run_name, or overwrite=True"
        )
    return load_run(path) if (path / RESULT).exists() else None


def prepare_folder(config: RunConfig) -> None:
    """Make the run's folder, without the files of a run that is to be overwritten or has lost its config."""
    path = config.run_path
    path.mkdir(parents=True, exist_ok=True)
    if config.overwrite or not (path / CONFIG).exists():
        for name in FILES:
            (path / name).unlink(missing_ok=True)


def save_checkpoint(path: Path, state: dict) -> None:
    """Put checkpoint.pt in place, complete or not at all."""
    import torch

    with replacing(path / CHECKPOINT, "wb") as file:
        torch.save(state, file)


def load_checkpoint(path: Path) -> dict:
    """Read checkpoint.pt onto the CPU; it holds tensors and plain values and can run no code.

    Raises FileNotFoundError where there is none, ValueError where it is damaged.
    """
    import torch

    if not (path / CHECKPOINT).exists():
        raise FileNotFoundError(f"{path / CHECKPOINT}: the run's checkpoint was not kept")
    try:
        return torch.load(path / CHECKPOINT, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on where the damage is
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        raise ValueError(f"{path / CHECKPOINT}: is damaged ({reason}); overwrite=True trains anew") from error


def write_json(path: Path, content: dict) -> None:
    with replacing(path) as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def read_json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path}: is damaged ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: is damaged (no JSON object)")
    return content


def write_table(config: RunConfig, name: str, table: pd.DataFrame) -> None:
    """Write a table of a run, its first column saying what data its numbers are of."""
    labelled = pd.DataFrame({"data": config.data_label}, table.index).join(table)
    with replacing(config.run_path / name) as file:
        labelled.to_csv(file, index=False)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # EmptyDataError and ParserError are ValueErrors
        raise ValueError(f"{path}: is damaged ({error})") from error
    if "data" not in table:
        raise ValueError(f"{path}: was written by an earlier version; overwrite=True trains the run anew")
    return table
