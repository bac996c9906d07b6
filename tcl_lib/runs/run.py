"""`Run`: a finished run, read from its folder. Imports no torch."""

import io
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcl_lib.config import RunConfig
from tcl_lib.runs import layout
from tcl_lib.runs.layout import read_csv, read_finished
from tcl_lib.utils import paths

# What result.json holds at least.
RESULTS = (
    *("test_accuracy", "test_accuracy_t1", "validation_accuracy", "validation_accuracy_t1"),
    *("best_epoch", "best_validation_accuracy", "seconds"),
)


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
        """The numbers of result.json: accuracies in percent, of the last epoch unless named otherwise."""
        path = self.path / layout.RESULT
        result = layout.parse_json(path, read_finished(path))
        for name in RESULTS:
            if not isinstance(result.get(name), int | float):
                reason = f"is damaged or was written by another version (no {name})"
                raise ValueError(f"{path}: {reason}; {layout.repair(self.path)}")
        return result

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row an epoch: data, losses, accuracies in percent, the firing rate of each layer, seconds."""
        return read_csv(self.path / layout.METRICS)

    @cached_property
    def accuracy_by_step(self) -> pd.DataFrame:
        """On the test set, in percent, one row a time step: data, the columns of
        `analysis.evaluation.stepwise_accuracy`, and `recalibrated`, which older runs lack.
        """
        return read_csv(self.path / layout.ACCURACY)

    @cached_property
    def firing_rates(self) -> pd.DataFrame:
        """On the test set: columns data, layer, time_step, firing_rate."""
        return read_csv(self.path / layout.FIRING_RATES)

    @cached_property
    def operations(self) -> pd.DataFrame:
        """Synaptic operations and energy of a test sample, one row a layer and time step: data and the
        columns of `analysis.activity.SynapticOperations.table`.
        """
        return read_csv(self.path / layout.OPERATIONS)

    @cached_property
    def similarity(self) -> pd.DataFrame:
        """Similarity of the `features` at every two time steps: data and the columns of
        `analysis.similarity.temporal_similarity`.
        """
        return read_csv(self.path / layout.SIMILARITY)

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Of a sample of the test set: features float16 [T, N, D], labels [N], samples [N] (indices).

        Raises FileNotFoundError where they were not kept, ValueError where they are damaged.
        """
        path = self.path / layout.FEATURES
        if not path.exists():
            raise FileNotFoundError(f"{path}: the run's features were not kept")
        content = io.BytesIO(read_finished(path))
        try:
            with np.load(content, allow_pickle=False) as arrays:
                found = {name: arrays[name] for name in ("features", "labels", "samples")}
        except Exception as error:  # what NumPy raises depends on what is wrong
            raise ValueError(
                f"{path}: is damaged ({type(error).__name__}); {layout.repair(self.path)}"
            ) from error
        shapes = [array.shape for array in found.values()]
        if len(shapes[0]) != 3 or shapes[1:] != 2 * [shapes[0][1:2]]:
            raise ValueError(f"{path}: is damaged (arrays of shapes {shapes})")
        return found

    @cached_property
    def setting(self) -> str:
        """What comparable runs have in common: the config's setting and the number of samples."""
        images = self._data("images")
        return f"{self.config.setting}, {images['train']} training and {images['test']} test samples"

    def _data(self, what: str) -> Any:
        """Return an entry of config.json about the data. Raises ValueError where it is missing."""
        try:
            return layout.read_config(self.path)["data"][what]
        except (KeyError, TypeError) as error:
            raise ValueError(f"{self.path / layout.CONFIG}: is damaged (no {what} of the data)") from error

    @property
    def image_shape(self) -> list[int]:
        """(C, H, W) of what the network sees at a time step."""
        return self._data("image_shape")

    def model(self):
        """Return the trained network, see `tcl_lib.load_network`."""
        import tcl_lib

        return tcl_lib.load_network(self)

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self._data("classes")

    def __repr__(self) -> str:
        result = self.result
        return (
            f"{self.name}, data {self.config.data_label}: test accuracy {result['test_accuracy']:.2f} %"
            f" of the last epoch ({self.config.epochs}), validation {result['validation_accuracy']:.2f} %;"
            f" best on validation data: epoch {result['best_epoch']} with"
            f" {result['best_validation_accuracy']:.2f} %"
        )


def load_run(path: str | Path) -> Run:
    """Return the finished run in a folder; a relative path starts here or at `utils.paths.home`.

    Raises FileNotFoundError where there is none, ValueError where it is not finished or not readable.
    """
    path = find_folder(path)
    if not (path / layout.CONFIG).exists():
        raise FileNotFoundError(f"{path}: is not a run, it holds no {layout.CONFIG}")
    if not (path / layout.RESULT).exists():
        raise ValueError(f"{path}: the run is not finished; start it again to continue it")
    read_finished(path / layout.CONFIG)
    return Run(path, layout.saved_config(path))


def find_folder(path: str | Path) -> Path:
    """Return a run's folder; a relative path starts here or at `utils.paths.home`.

    Raises FileNotFoundError where there is no such folder.
    """
    path = Path(os.path.expanduser(path))
    path = path if path.exists() else paths.home() / path
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: is not the folder of a run")
    return path
