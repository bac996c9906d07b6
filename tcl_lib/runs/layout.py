"""The files of a run's folder: their names, and how they are written and read.

    runs/<name>/config.json           parameters, data, versions, commit; written first
    runs/<name>/metrics.csv           a row an epoch
    runs/<name>/checkpoint.pt         everything needed to resume the run (`tcl_lib.runs.checkpoints`)
    runs/<name>/checkpoint.previous.pt    the one before it; removed when the run is finished
    runs/<name>/weights.safetensors   the trained network's weights; written by `tcl_lib.save_weights`
    runs/<name>/accuracy_by_step.csv  on the test set, also recalibrated, with the calibration error
    runs/<name>/firing_rates.csv      a row a layer and time step
    runs/<name>/operations.csv        synaptic operations and energy, a row a layer and time step
    runs/<name>/similarity.csv        of the representations at every two time steps
    runs/<name>/features.npz          those representations, of a sample of the test set
    runs/<name>/logits.npz            of every step, of the validation and test samples
    runs/<name>/SHA256SUMS            of all of these, in the format of sha256sum
    runs/<name>/result.json           written last: a run is finished when it is there
    runs/<name>/.lock, .writer        held while a process trains the run, and which process it is

A finished run's files are read only if they fit their checksums; a checkpoint has one more at its end. None
is executed or unpickled. Imports no torch.
"""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd

from tcl_lib.utils import files
from tcl_lib.utils.files import Damaged

CONFIG, METRICS = "config.json", "metrics.csv"
ACCURACY, FIRING_RATES = "accuracy_by_step.csv", "firing_rates.csv"
OPERATIONS, SIMILARITY = "operations.csv", "similarity.csv"
FEATURES, LOGITS = "features.npz", "logits.npz"
CHECKPOINT, PREVIOUS_CHECKPOINT = "checkpoint.pt", "checkpoint.previous.pt"
WEIGHTS = "weights.safetensors"
SUMS, RESULT = "SHA256SUMS", "result.json"
LOCK, WRITER = ".lock", ".writer"
EVALUATION = (ACCURACY, FIRING_RATES, OPERATIONS, SIMILARITY, FEATURES, LOGITS)
# In the order in which a run is deleted.
FILES = (RESULT, SUMS, *EVALUATION, WEIGHTS, CHECKPOINT, PREVIOUS_CHECKPOINT, METRICS, CONFIG)


def repair(file: Path) -> str:
    """Return what an error about a run's file adds: how to repair a finished run, or "".

    What an unfinished run lost is made again when it continues, except a checkpoint that is not its own.
    """
    anew = "overwrite=True trains the run anew"
    if file.name == CHECKPOINT:
        return f"; {anew}"
    if not (file.parent / RESULT).exists():
        return ""
    if not (file.parent / CHECKPOINT).is_file():
        return f"; {anew}"
    if file.name == WEIGHTS:
        again = f"tcl_lib.save_weights({str(file.parent)!r}) writes it again from the run's checkpoint"
    else:
        again = (
            f"tcl_lib.measure_again({str(file.parent)!r}) writes the run's files again from its checkpoint"
        )
    return f"; {again}, {anew}"


def read_finished(file: Path) -> bytes:
    """Return the content of a finished run's file.

    Raises Damaged where it does not fit the run's checksums or, for a table, where it was lost;
    FileNotFoundError where it was never there or was left out, as features and logits may be.
    """
    try:
        content = read(file)
    except FileNotFoundError as error:
        if file.suffix == ".csv" and file.name in listed_sums(file.parent):
            raise Damaged(str(error)) from None
        raise
    if hashlib.sha256(content).hexdigest() != listed_sums(file.parent).get(file.name):
        raise Damaged(f"{file}: is damaged, it does not match {SUMS}{repair(file)}")
    return content


def listed_sums(path: Path) -> dict[str, str]:
    """Return the checksums of a finished run's files by name."""
    lines = read(path / SUMS).decode(errors="replace").splitlines()
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def write_sums(path: Path, sums: dict[str, str]) -> None:
    """Write the checksums of a run's files."""
    files.write(path / SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))


def read(file: Path) -> bytes:
    """Return the content of a run's file. Raises OSError that names it where it cannot be read."""
    try:
        return files.read(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{file}: is missing{repair(file)}") from None


def write_json(path: Path, content: dict) -> None:
    files.write(path, to_json(content))


def to_json(content: dict) -> str:
    return json.dumps(content, indent=2) + "\n"


def write_table(path: Path, data_label: str, table: pd.DataFrame) -> None:
    """Write a table of a run as CSV; its first column says which data its numbers are of."""
    labelled = pd.DataFrame({"data": data_label}, table.index).join(table)
    files.write(path, labelled.to_csv(index=False))


def write_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays as a compressed .npz file."""
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    files.write(path, content.getbuffer())
