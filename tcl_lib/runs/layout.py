"""The files of a run's folder: their names, and how they are written and read.

    runs/<name>/config.json           parameters, data, versions, commit; written first
    runs/<name>/metrics.csv           a row an epoch
    runs/<name>/checkpoint.pt         everything needed to resume the run (`tcl_lib.runs.checkpoints`)
    runs/<name>/checkpoint.previous.pt    the one before it; removed when the run is finished
    runs/<name>/accuracy_by_step.csv  on the test set, also recalibrated, with the calibration error
    runs/<name>/firing_rates.csv      a row a layer and time step
    runs/<name>/operations.csv        synaptic operations and energy, a row a layer and time step
    runs/<name>/similarity.csv        of the representations at every two time steps
    runs/<name>/features.npz          those representations, of a sample of the test set
    runs/<name>/SHA256SUMS            of all of these but the checkpoints, in the format of sha256sum
    runs/<name>/result.json           written last: a run is finished when it is there
    runs/<name>/.lock, .writer        held while a process trains the run, and which process it is

A finished run's files are read only if they fit their checksums. None is executed or unpickled.
Imports no torch.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from tcl_lib.config import PLACEMENT, RunConfig
from tcl_lib.utils import files
from tcl_lib.utils.files import Damaged

CONFIG, METRICS = "config.json", "metrics.csv"
ACCURACY, FIRING_RATES = "accuracy_by_step.csv", "firing_rates.csv"
OPERATIONS, SIMILARITY, FEATURES = "operations.csv", "similarity.csv", "features.npz"
CHECKPOINT, PREVIOUS_CHECKPOINT = "checkpoint.pt", "checkpoint.previous.pt"
SUMS, RESULT = "SHA256SUMS", "result.json"
LOCK, WRITER = ".lock", ".writer"
EVALUATION = (ACCURACY, FIRING_RATES, OPERATIONS, SIMILARITY, FEATURES)
# In the order in which a run is deleted.
FILES = (RESULT, SUMS, *EVALUATION, CHECKPOINT, PREVIOUS_CHECKPOINT, METRICS, CONFIG)


def repair(path: Path) -> str:
    """Return what an error says about the repair of a finished run in a folder."""
    return (
        f"tcl_lib.measure_again({str(path)!r}) writes the run's files again from its checkpoint,"
        " overwrite=True trains the run anew"
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return the content of config.json, of a finished or unfinished run.

    Raises Damaged where it does not fit its checksum or is not JSON, FileNotFoundError where it is missing.
    """
    file = path / CONFIG
    if not file.exists():
        raise FileNotFoundError(f"{file}: is missing")
    sealed = (path / RESULT).exists() and (path / SUMS).exists() and CONFIG in listed_sums(path)
    return parse_json(file, read_finished(file) if sealed else file.read_bytes())


def saved_config(path: Path) -> RunConfig:
    """Return the config a run was started with.

    Raises Damaged where it cannot be read, ValueError where a version with other parameters wrote it; the
    message names them.
    """
    return config_of(read_config(path), path / CONFIG)


def config_of(description: dict[str, Any], file: Path) -> RunConfig:
    """Return the config in a description; errors as in `saved_config`, naming `file`.

    It imports no plugin.
    """
    parameters = description.get("parameters") if isinstance(description, dict) else None
    if not isinstance(parameters, dict):
        raise Damaged(f"{file}: is damaged (no parameters)")
    known = RunConfig().to_dict()
    unknown = [name for name in parameters if name not in known]
    missing = [name for name in known if name not in parameters and name not in PLACEMENT]
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
    first = f"; first call tcl_lib.import_plugin({plugin!r})" if plugin else ""
    try:
        config = RunConfig(**parameters | {"plugin": None})
    except ValueError as error:
        raise ValueError(f"{file}: {error}{first}") from error
    if config.code != description.get("code", {}):
        raise ValueError(f"{file}: was trained with other code of its own loss or backbone than there is now")
    return config


def read_finished(path: Path) -> bytes:
    """Return the content of a finished run's file.

    Raises FileNotFoundError where it is missing, Damaged where it does not fit the run's checksums.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: is missing; {repair(path.parent)}") from None
    if hashlib.sha256(content).hexdigest() != listed_sums(path.parent).get(path.name):
        raise Damaged(f"{path}: is damaged, it does not match {SUMS}; {repair(path.parent)}")
    return content


def listed_sums(path: Path) -> dict[str, str]:
    """Return the checksums of a finished run's files by name."""
    try:
        lines = (path / SUMS).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path / SUMS}: is missing; {repair(path)}") from None
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def write_json(path: Path, content: dict) -> None:
    files.write(path, to_json(content))


def to_json(content: dict) -> str:
    return json.dumps(content, indent=2) + "\n"


def parse_json(path: Path, content: bytes) -> dict[str, Any]:
    """Return the JSON object that a file holds. Raises Damaged that names the file where it is none."""
    try:
        parsed = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path}: is damaged ({error})") from error
    if not isinstance(parsed, dict):
        raise Damaged(f"{path}: is damaged (no JSON object)")
    return parsed


def write_table(path: Path, data_label: str, table: pd.DataFrame) -> None:
    """Write a table of a run as CSV; its first column says which data its numbers are of."""
    labelled = pd.DataFrame({"data": data_label}, table.index).join(table)
    files.write(path, labelled.to_csv(index=False))


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as a compressed .npz file."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write(path, content.getbuffer())


def read_csv(path: Path) -> pd.DataFrame:
    content = read_finished(path)
    try:
        table = pd.read_csv(io.BytesIO(content))
    except ValueError as error:  # EmptyDataError and ParserError are ValueErrors
        raise Damaged(f"{path}: is damaged ({error})") from error
    if "data" not in table:
        raise ValueError(f"{path}: was written by another version; overwrite=True trains the run anew")
    return table
