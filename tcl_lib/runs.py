"""The run directory: written by training, read by everything else.

    runs/<name>/config.json           parameters, data, versions, commit; written first
    runs/<name>/metrics.csv           a row an epoch
    runs/<name>/checkpoint.pt         network, optimiser and metrics after the last full epoch
    runs/<name>/accuracy_by_step.csv  on the test set, with the calibration error
    runs/<name>/firing_rates.csv      a row a layer and time step
    runs/<name>/operations.csv        synaptic operations and energy, a row a layer and time step
    runs/<name>/similarity.csv        of the representations at every two time steps
    runs/<name>/features.npz          those representations, of a sample of the test set
    runs/<name>/result.json           written last: a run is finished when it is there

Imports no torch until a model or a checkpoint is asked for.
"""

import json
import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tcl_lib.config import REPOSITORY, RunConfig
from tcl_lib.environment import replacing

if TYPE_CHECKING:
    from tcl_lib.backbones import SpikingNetwork

CONFIG, METRICS, CHECKPOINT = "config.json", "metrics.csv", "checkpoint.pt"
ACCURACY, FIRING_RATES = "accuracy_by_step.csv", "firing_rates.csv"
OPERATIONS, SIMILARITY, FEATURES = "operations.csv", "similarity.csv", "features.npz"
RESULT = "result.json"
# What result.json holds at the least.
RESULTS = (
    "test_accuracy",
    "test_accuracy_t1",
    "validation_accuracy",
    "validation_accuracy_t1",
    "best_epoch",
    "best_validation_accuracy",
    "seconds",
)
EVALUATION = (ACCURACY, FIRING_RATES, OPERATIONS, SIMILARITY, FEATURES)
FILES = (RESULT, *EVALUATION, CHECKPOINT, METRICS, CONFIG)  # in the order in which a run is taken apart


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
        result = read_json(self.path / RESULT)
        for name in RESULTS:
            if not isinstance(result.get(name), int | float):
                raise ValueError(
                    f"{self.path / RESULT}: is damaged or was written by an earlier version (no {name});"
                    " overwrite=True trains the run anew"
                )
        return result

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """A row an epoch: data, losses, accuracies in percent, the firing rate of every layer, seconds."""
        return _read_csv(self.path / METRICS)

    @cached_property
    def accuracy_by_step(self) -> pd.DataFrame:
        """On the test set, in percent, a row a time step: data and the columns of
        `evaluation.accuracy_by_step`.
        """
        return _read_csv(self.path / ACCURACY)

    @cached_property
    def firing_rates(self) -> pd.DataFrame:
        """On the test set: columns data, layer, time_step, firing_rate."""
        return _read_csv(self.path / FIRING_RATES)

    @cached_property
    def operations(self) -> pd.DataFrame:
        """Synaptic operations and energy of a test sample, a row a layer and time step: data and the columns
        of `operations.SynapticOperations.table`.
        """
        return _read_csv(self.path / OPERATIONS)

    @cached_property
    def similarity(self) -> pd.DataFrame:
        """Of the `features` at every two time steps: data and the columns of
        `similarity.temporal_similarity`.
        """
        return _read_csv(self.path / SIMILARITY)

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Of a sample of the test set: features float16 [T, N, D], labels [N], samples [N] (their indices).

        Raises FileNotFoundError where they were not kept, ValueError where they are damaged.
        """
        path = self.path / FEATURES
        try:
            with np.load(path, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in ("features", "labels", "samples")}
        except FileNotFoundError:
            raise FileNotFoundError(f"{path}: the run's features were not kept") from None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: is damaged ({error})") from error
        shapes = [array.shape for array in found.values()]
        if len(shapes[0]) != 3 or shapes[1:] != 2 * [shapes[0][1:2]]:
            raise ValueError(f"{path}: is damaged (arrays of shapes {shapes})")
        return found

    @cached_property
    def used(self) -> RunConfig:
        """The config with the precision that was used, where it says "auto"."""
        return replace(self.config, precision=load_precision(self.path))

    @cached_property
    def setting(self) -> str:
        """What runs must have in common to be compared: the config's setting, and how many samples."""
        images = self._data("images")
        return f"{self.used.setting}, {images['train']} training and {images['test']} test samples"

    def _data(self, what: str) -> Any:
        """What config.json says of the data."""
        try:
            return read_json(self.path / CONFIG)["data"][what]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path / CONFIG}: is damaged (no {what} of the data)") from error

    @property
    def classes(self) -> list[str]:
        """The classes' names."""
        return self._data("classes")

    def model(self) -> "SpikingNetwork":
        """The trained network of the last epoch, on the CPU, in evaluation mode.

        It computes in float32; for the numbers of a run in bf16-mixed, use it inside `torch.autocast`.
        Raises FileNotFoundError where the checkpoint was not kept.
        """
        from tcl_lib.backbones import build_network

        network = build_network(self.config, self._data("image_shape"), len(self.classes))
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
    """The finished runs in a folder, as `table` has them.

    A folder that is empty, not finished or damaged is skipped, with a line that names it. A relative root
    starts here or at the repository. Raises FileNotFoundError where there is no such folder.
    """
    root = Path(root).expanduser()
    if not root.is_dir():
        root = REPOSITORY / root
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: is not a folder of runs")
    rows = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            files = [file.name for file in path.iterdir()]
            if files and not any(name.startswith(FILES) for name in files):
                continue  # somebody's figures, or a folder of runs
            rows.append(_row(load_run(path)))
        except (OSError, ValueError) as error:
            print(f"skipped {error}")
    return pd.DataFrame(rows)


def table(found: Iterable[Run]) -> pd.DataFrame:
    """A row a run: name, path, data, setting, variant, every parameter and every result.

    Runs of one setting may be compared; those of one variant in it differ in the seed alone, and may be
    averaged. How many samples there were is part of the setting.
    """
    return pd.DataFrame([_row(run) for run in found])


def _row(run: Run) -> dict:
    labels = {"name": run.name, "path": str(run.path), "data": run.config.data_label}
    labels |= {"setting": run.setting, "variant": run.config.variant}
    return labels | run.used.to_dict() | run.result


def one_setting(table: pd.DataFrame) -> str:
    """The setting of all rows of a table. Raises ValueError where they are not to be compared."""
    settings = sorted(table["setting"].unique()) if len(table) else []
    if len(settings) != 1:
        raise ValueError(
            f"runs of {len(settings)} settings, {'; '.join(settings)}:"
            " only runs of one can be averaged or compared"
        )
    return settings[0]


def gather(table: pd.DataFrame, what: str | Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
    """One table of every run of a table of runs, below each other: "metrics", "accuracy_by_step" and so on.

    Or what a function makes of each run. In front stands what a reader tells runs apart by: run, setting,
    variant, seed, time_steps and events. A run whose table is missing or damaged is left out, with a
    line that names it.
    """
    tables = []
    for row in table.itertuples():
        labels = {"run": row.name, "setting": row.setting, "variant": row.variant}
        labels |= {"seed": row.seed, "time_steps": row.time_steps}
        try:
            run = load_run(row.path)
            rows = getattr(run, what) if isinstance(what, str) else what(run)
        except (OSError, ValueError) as error:
            print(f"skipped {error}")
            continue
        labels["events"] = run.config.events
        tables.append(pd.DataFrame(labels, rows.index).join(rows))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def saved_config(path: Path) -> RunConfig:
    """The config a run was started with. Raises ValueError where it is damaged or has unknown parameters."""
    parameters = read_json(path / CONFIG).get("parameters")
    if not isinstance(parameters, dict):
        raise ValueError(f"{path / CONFIG}: is damaged (no parameters)")
    try:
        return RunConfig.from_dict(parameters)
    except ValueError as error:
        raise ValueError(f"{path / CONFIG}: {error}") from error


def load_precision(path: Path) -> str:
    """The precision that a run was started in. Raises ValueError where config.json is damaged."""
    saved = read_json(path / CONFIG).get("precision", saved_config(path).precision)
    if saved not in ("auto", "32-true", "bf16-mixed"):
        raise ValueError(f"{path / CONFIG}: is damaged (precision {saved!r})")
    return saved


def find_finished(config: RunConfig) -> Run | None:
    """The finished run of this config, or None if there is none or it is to be overwritten.

    Raises ValueError where the run's folder belongs to a run with other parameters.
    """
    path = config.run_path
    if config.overwrite or not (path / CONFIG).exists():
        return None
    saved, given = saved_config(path).identity(), config.identity()
    if config.precision == "auto":
        given["precision"] = saved["precision"]  # whichever it was
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


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path, "wb") as file:
        np.savez_compressed(file, **arrays)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: is missing; overwrite=True trains the run anew") from None
    except ValueError as error:  # EmptyDataError and ParserError are ValueErrors
        raise ValueError(f"{path}: is damaged ({error})") from error
    if "data" not in table:
        raise ValueError(f"{path}: was written by an earlier version; overwrite=True trains the run anew")
    return table
