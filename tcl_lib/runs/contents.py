"""What the files of a run hold. What is read is checked against this before it is used. Imports no torch."""

import io
from functools import cache
from pathlib import Path
from typing import Annotated, Any, NotRequired

import pandas as pd
from annotated_types import Ge, Le, Len
from pandas.api.types import is_numeric_dtype
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import from_json
from typing_extensions import TypedDict

from tcl_lib.config import RunConfig
from tcl_lib.config.rules import NOT_IN_IDENTITY
from tcl_lib.runs import layout
from tcl_lib.utils.checks import AtLeast1, NotNegative
from tcl_lib.utils.files import Damaged

Percent = Annotated[float, Ge(0), Le(100)]

_strict = with_config(ConfigDict(strict=True, allow_inf_nan=False))


@_strict
class Images(TypedDict):
    """The number of samples of each part of the data."""

    train: NotNegative
    validation: NotNegative
    test: NotNegative


@_strict
class Fingerprint(TypedDict):
    """A hash of the samples and labels of each part of the data, in their order."""

    train: str
    validation: str
    test: str


@_strict
class DataDescription(TypedDict):
    """The data of a run."""

    image_shape: Annotated[list[AtLeast1], Len(3, 3)]  # (C, H, W) of what the network sees at a time step
    classes: list[str]
    images: Images
    fingerprint: Fingerprint


@_strict
class Change(TypedDict):
    """What changed where a run was continued."""

    machine: NotRequired[str]


@_strict
class Description(TypedDict):
    """What config.json and checkpoints say of their run, as far as it is read back; they hold more."""

    parameters: dict[str, Any]
    data: DataDescription
    machine: str
    threads: AtLeast1
    continued: NotRequired[list[Change]]


@_strict
class Result(TypedDict):
    """The numbers of result.json: accuracies in percent, of the last epoch unless named otherwise."""

    test_accuracy: Percent
    test_accuracy_t1: Percent
    validation_accuracy: Percent
    validation_accuracy_t1: Percent
    best_epoch: AtLeast1
    best_validation_accuracy: Percent
    energy_uj: float
    ann_energy_uj: float
    seconds: float


# The columns of the tables that are read back; all but those of TEXT are numbers.
COLUMNS = {
    layout.METRICS: [
        *("data", "epoch", "loss", "train_accuracy", "firing_rate_1"),
        *("validation_cross_entropy", "validation_accuracy", "validation_accuracy_t1", "seconds"),
    ],
    layout.ACCURACY: [
        *("data", "time_step", "cumulative", "low", "high", "instantaneous", "calibration_error"),
        "recalibrated",
    ],
    layout.FIRING_RATES: ["data", "layer", "time_step", "firing_rate"],
    layout.OPERATIONS: [
        *("data", "layer", "operation", "time_step", "dense"),
        *("effective_macs", "effective_acs", "energy_uj", "ann_energy_uj"),
    ],
    layout.SIMILARITY: ["data", "measure", "relation", "time_step", "other_step", "value"],
}
TEXT = ("data", "operation", "measure", "relation")


def read_description(path: Path) -> dict[str, Any]:
    """Return the content of config.json, of a finished or unfinished run.

    Raises Damaged where it does not fit its checksum or lacks an entry, FileNotFoundError where it is lost.
    """
    file = path / layout.CONFIG
    sealed = (path / layout.RESULT).exists() and (path / layout.SUMS).exists()
    sealed = sealed and layout.CONFIG in layout.listed_sums(path)
    content = _json(file, layout.read_finished(file) if sealed else layout.read(file))
    _fitting(content, Description, file)
    return content


def read_config(path: Path) -> tuple[RunConfig, dict[str, Any]]:
    """Return the config of a run and the whole content of its config.json.

    Raises what `read_description` and `config_of` raise.
    """
    description = read_description(path)
    return config_of(description, path / layout.CONFIG), description


def config_of(description: dict[str, Any], file: Path) -> RunConfig:
    """Return the config in a description, the content of config.json or a part of a checkpoint.

    It imports no plugin. Raises Damaged where an entry is missing, ValueError where a parameter has a value
    that is not allowed, or where a version with other parameters wrote it; the message names file and
    parameters.
    """
    parameters = _fitting(description, Description, file)["parameters"]
    known = RunConfig().to_dict()
    unknown = [name for name in parameters if name not in known]
    missing = [name for name in known if name not in parameters and name not in NOT_IN_IDENTITY]
    differs = [
        f"{words} {', '.join(names)}"
        for words, names in (("unknown here:", unknown), ("missing there:", missing))
        if names
    ]
    if differs:
        raise ValueError(
            f"{file}: was written by another version, with other parameters ({'; '.join(differs)});"
            " give another run_name, or overwrite=True"
        )
    plugin = parameters.get("plugin")
    if plugin:
        first = f"; first call tcl_lib.import_plugin({plugin!r})"
    elif description.get("code"):
        first = "; first register the run's own loss or backbone, as where it was trained"
    else:
        first = layout.repair(file)
    try:
        config = RunConfig(**parameters | {"plugin": None})
    except ValueError as error:
        raise ValueError(f"{file}: {error}{first}") from error
    if config.code != description.get("code", {}):
        raise ValueError(f"{file}: was trained with other code of its own loss or backbone than there is now")
    return config


def data_changes(before: DataDescription, now: DataDescription) -> list[str]:
    """Return, in a few words each, what differs between two descriptions of data."""
    changes = []
    if before["classes"] != now["classes"]:
        other = sorted({*before["classes"]} ^ {*now["classes"]})
        counts = f"{len(before['classes'])} classes, now {len(now['classes'])}"
        changes.append(f"{counts} ({', '.join(other[:3])}{', ...' if len(other) > 3 else ''})")
    if before["image_shape"] != now["image_shape"]:
        changes.append(f"image shape {before['image_shape']}, now {now['image_shape']}")
    for part, name in {"train": "training", "validation": "validation", "test": "test"}.items():
        count, count_now = before["images"][part], now["images"][part]
        if count != count_now:
            changes.append(f"{count} {name} samples, now {count_now}")
        elif before["fingerprint"][part] != now["fingerprint"][part]:
            changes.append(f"other {name} samples")
    return changes


def check_same_data(path: Path, before: DataDescription, now: DataDescription) -> None:
    """Raise ValueError where the data of a run in a folder were others than they are now."""
    changes = data_changes(before, now)
    if changes:
        raise ValueError(
            f"{path}: was trained on other data ({'; '.join(changes)});"
            " give another run_name, or overwrite=True"
        )


def read_result(path: Path) -> dict[str, float]:
    """Return the numbers of result.json. Raises Damaged where one is missing or not a number."""
    file = path / layout.RESULT
    return _fitting(_json(file, layout.read_finished(file)), Result, file)


def read_table(file: Path) -> pd.DataFrame:
    """Return a table of a finished run. Raises Damaged where a column is missing or not of numbers."""
    content = layout.read_finished(file)
    try:
        table = pd.read_csv(io.BytesIO(content))
    except ValueError as error:  # EmptyDataError and ParserError are ValueErrors
        raise Damaged(f"{file}: is damaged ({error}){layout.repair(file)}") from error
    wrong = [
        name
        for name in COLUMNS[file.name]
        if name not in table or is_numeric_dtype(table[name]) == (name in TEXT)
    ]
    if wrong:
        raise Damaged(
            f"{file}: has no proper columns {', '.join(wrong)}, it is damaged or was written by another"
            f" version{layout.repair(file)}"
        )
    return table


def _json(file: Path, content: bytes) -> Any:
    try:
        return from_json(content)
    except ValueError as error:
        raise Damaged(f"{file}: is damaged ({error}){layout.repair(file)}") from error


def _fitting(content: Any, kind: type, file: Path) -> Any:
    """Return the part of a content that a type describes. Raises Damaged that names the first misfit."""
    try:
        return _adapter(kind).validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        entry = ".".join(map(str, first["loc"])) or "content"
        raise Damaged(f"{file}: is damaged ({entry}: {first['msg']}){layout.repair(file)}") from None


@cache
def _adapter(kind: type) -> TypeAdapter:
    return TypeAdapter(kind)
