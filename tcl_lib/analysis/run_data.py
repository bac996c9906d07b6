"""The data of a finished run, and whether they are still the same. Loads torch only where data are loaded."""

import json
import logging
from functools import lru_cache
from typing import TYPE_CHECKING

from tcl_lib.config import RunConfig
from tcl_lib.config.registry import DATASETS
from tcl_lib.runs import Run
from tcl_lib.runs.contents import DataDescription, check_same_data

if TYPE_CHECKING:
    from tcl_lib.data import Data

log = logging.getLogger(__name__)

# The parameters that decide which data a run is trained on, and how they are split.
PARAMETERS = (
    *("dataset", "data_root", "train_size", "validation_fraction", "allow_duplicates", "seed", "time_steps"),
    *("frame_by", "frame_size", "count_scale", "split", "sensor_size", "skip_bad_recordings"),
)


def describe_data(data: "Data") -> DataDescription:
    """Return what config.json says of the data."""
    parts = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "image_shape": list(data.input_shape),
        "classes": data.classes,
        "images": {name: len(part) for name, part in parts.items()},
        "fingerprint": data.fingerprint,
    }


def data_of(run: Run) -> "Data":
    """Return the data of a finished run; nothing is downloaded.

    Raises FileNotFoundError where they are not there, ValueError where they are no longer those that the run
    was trained on (not of the digits, see `check_data`).
    """
    from tcl_lib.data import load_data

    data = load_data(run.config, download=False)
    if not _from_packages(run.config):
        check_same_data(run.path, run.description["data"], describe_data(data))
    return data


def check_data(run: Run, config: RunConfig) -> None:
    """Raise ValueError where the data of the config are no longer those that a finished run was trained on.

    Nothing is downloaded: where the data are not there, a log line says that they were not compared. The
    digits, moving or not, are not compared: they come from packages, whose versions config.json records. What
    was found is kept until `forget_data`, so that the data of many runs are loaded once.
    """
    if _from_packages(config):
        return
    try:
        now = _description(json.dumps({name: getattr(config, name) for name in PARAMETERS}))
    except OSError as error:
        log.info("%s was not compared with its data: %s", run.path, error)
        return
    check_same_data(run.path, run.description["data"], now)


def _from_packages(config: RunConfig) -> bool:
    return DATASETS[config.dataset].origin in ("scikit-learn", "simulated")


@lru_cache(maxsize=1)
def _description(parameters: str) -> DataDescription:
    from tcl_lib.data import load_data

    return describe_data(load_data(RunConfig(**json.loads(parameters)), download=False))


def forget_data() -> None:
    """Have the next `check_data` load the data anew."""
    _description.cache_clear()
