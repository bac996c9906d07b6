"""`Run`: a finished run, read from its folder. Imports no torch."""

import io
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcl_lib.config import RunConfig
from tcl_lib.runs import contents, layout
from tcl_lib.runs.contents import read_table
from tcl_lib.utils import paths
from tcl_lib.utils.files import Damaged

# The part of `utils.devices.hardware` that is no kind of processor.
THREADS = re.compile(r" (\d{1,6}) threads?,")


@dataclass(frozen=True)
class Run:
    """A finished run, read from its folder."""

    path: Path
    config: RunConfig
    description: dict[str, Any]  # the content of config.json
    result: contents.Result  # the numbers of result.json

    @property
    def name(self) -> str:
        return self.path.name

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """One row an epoch: data, losses, accuracies in percent, the firing rate of each layer, seconds."""
        return read_table(self.path / layout.METRICS)

    @cached_property
    def accuracy_by_step(self) -> pd.DataFrame:
        """On the test set, in percent, one row a time step: data, the columns of
        `analysis.evaluation.stepwise_accuracy`, and `recalibrated`.
        """
        return read_table(self.path / layout.ACCURACY)

    @cached_property
    def firing_rates(self) -> pd.DataFrame:
        """On the test set: columns data, layer, time_step, firing_rate."""
        return read_table(self.path / layout.FIRING_RATES)

    @cached_property
    def operations(self) -> pd.DataFrame:
        """Synaptic operations and energy of a test sample, one row a layer and time step: data and the
        columns of `analysis.activity.SynapticOperations.table`.
        """
        return read_table(self.path / layout.OPERATIONS)

    @cached_property
    def similarity(self) -> pd.DataFrame:
        """Similarity of the `features` at every two time steps: data and the columns of
        `analysis.similarity.temporal_similarity`.
        """
        return read_table(self.path / layout.SIMILARITY)

    @cached_property
    def features(self) -> dict[str, np.ndarray]:
        """Of a sample of the test set: features float16 [T, N, D], labels [N], samples [N] (indices).

        Raises FileNotFoundError where they were not kept, ValueError where they are damaged.
        """
        return _arrays(self.path / layout.FEATURES, ["features", "labels", "samples"])

    @cached_property
    def logits(self) -> dict[str, np.ndarray]:
        """Of every step: validation and test float32 [T, N, K], validation_labels and test_labels [N].

        Raises FileNotFoundError where they were not kept, ValueError where they are damaged.
        """
        path = self.path / layout.LOGITS
        parts = [_arrays(path, [part, f"{part}_labels"]) for part in ("validation", "test")]
        return parts[0] | parts[1]

    @property
    def setting(self) -> str:
        """What comparable runs have in common: the config's setting and the number of samples."""
        images = self.description["data"]["images"]
        return f"{self.config.setting}, {images['train']} training and {images['test']} test samples"

    @property
    def image_shape(self) -> list[int]:
        """(C, H, W) of what the network sees at a time step."""
        return self.description["data"]["image_shape"]

    @property
    def classes(self) -> list[str]:
        """The names of the classes."""
        return self.description["data"]["classes"]

    @property
    def fingerprint(self) -> str:
        """The fingerprints of the training, validation and test data."""
        parts = self.description["data"]["fingerprint"]
        return " ".join(parts[name] for name in ("train", "validation", "test"))

    @property
    def threads(self) -> int | str:
        """The number of CPU threads of the training, "4 and 2" if it was continued with others."""
        found = [int(one[1]) for machine in self._machines if (one := THREADS.search(machine))]
        one, *others = dict.fromkeys([self.description["threads"], *found])
        return " and ".join(map(str, [one, *others])) if others else one

    @property
    def processor(self) -> str:
        """The kind of processor or GPU that the run was trained on; both if it was continued on another.

        For a CPU, it ends with the vector instructions that torch uses and the system.
        """
        return " and ".join(dict.fromkeys(THREADS.sub("", machine) for machine in self._machines))

    @property
    def _machines(self) -> list[str]:
        entries = (self.description, *self.description.get("continued", []))
        return [entry["machine"] for entry in entries if "machine" in entry]

    def model(self):
        """Return the trained network, see `tcl_lib.load_network`."""
        import tcl_lib

        return tcl_lib.load_network(self)

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
    path = paths.existing(path, "the folder of a run")
    if not (path / layout.CONFIG).exists():
        raise FileNotFoundError(f"{path}: is not a run, it holds no {layout.CONFIG}")
    if not (path / layout.RESULT).exists():
        raise ValueError(f"{path}: the run is not finished; start it again to continue it")
    config, description = contents.read_config(path)
    return Run(path, config, description, contents.read_result(path))


def _arrays(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Return arrays of a run's .npz file: the first [T, N, ...], the others [N]."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: the run's {path.stem} were not kept")
    content = io.BytesIO(layout.read_finished(path))
    try:
        with np.load(content, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in names}
    except Exception as error:  # what NumPy raises depends on what is wrong
        raise Damaged(f"{path}: is damaged ({type(error).__name__}){layout.repair(path)}") from error
    first, *others = [array.shape for array in found.values()]
    if len(first) != 3 or any(shape != first[1:2] for shape in others):
        raise Damaged(f"{path}: is damaged (arrays of shapes {[first, *others]}){layout.repair(path)}")
    return found
