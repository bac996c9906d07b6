"""A run's checkpoints: the last, and the one before it until the run is finished.

A checkpoint is a torch file of tensors and plain values with its checksum appended. A new one is written
beside the others, read back, and only then renamed: whenever a process is killed, a sound one exists. Imports
no torch until one is written or read.
"""

import errno
import io
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from tcl_lib.runs.layout import CHECKPOINT as LAST
from tcl_lib.runs.layout import PREVIOUS_CHECKPOINT as PREVIOUS
from tcl_lib.utils import files
from tcl_lib.utils.files import Damaged

NEW = f"{LAST}.tmp"
# The content of a checkpoint: that of config.json, weights and buffers, the optimizer, the progress of the
# run, and the random generators.
STATE = ("description", "network", "optimizer", "progress", "random")


def save(folder: Path, state: dict[str, Any]) -> None:
    """Write the last checkpoint; the one before it becomes the previous.

    Raises OSError that names the file and the space it needs; both are then unchanged.
    """
    import torch

    content = io.BytesIO()
    torch.save(state, content)
    new = folder / NEW
    files.write_sealed(new, content.getbuffer())
    try:
        files.read_sealed(new)
    except Damaged as error:
        new.unlink(missing_ok=True)
        raise OSError(errno.EIO, "did not arrive on the disk as it was written", str(new)) from error
    with files.named(folder / LAST):
        if (folder / LAST).exists():
            files.replace(folder / LAST, folder / PREVIOUS)
        files.replace(new, folder / LAST)


def load_last(folder: Path) -> dict[str, Any] | None:
    """Return the last sound checkpoint, on the CPU, or None. A damaged one is named in a warning.

    A damaged one is deleted, so that the next `save` does not replace a sound one by it. Raises ValueError or
    OSError for one that fits its checksum and cannot be loaded.
    """
    for path in (folder / LAST, folder / PREVIOUS):
        if not path.exists():
            continue
        try:
            state = load(path)
        except Damaged as error:
            path.unlink()
            there = (folder / PREVIOUS).exists()
            remedy = "the one before it is used" if there else "the run starts from its beginning"
            warnings.warn(f"{error}; {remedy}", stacklevel=2)
            continue
        if path.name == PREVIOUS:
            files.replace(path, folder / LAST)
        return state
    return None


def load(path: Path) -> dict[str, Any]:
    """Return a checkpoint, on the CPU; loading it runs no code.

    Raises FileNotFoundError where there is none, Damaged where it does not fit its checksum, ValueError where
    it does and is none of this version's, OSError where it cannot be read.
    """
    import torch

    if not path.exists():
        raise FileNotFoundError(f"{path}: the run's checkpoint was not kept")
    content = files.read_sealed(path)
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on what is wrong
        raise ValueError(f"{path}: cannot be loaded ({type(error).__name__})") from error
    if not isinstance(state, dict) or set(state) != set(STATE):
        raise ValueError(f"{path}: is not a checkpoint, or was written by another version")
    return state


def random_states() -> dict[str, Any]:
    """Return the states of all global random generators in a form that a checkpoint can hold."""
    import torch

    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Set the states of all global random generators."""
    import torch

    random.setstate(states["python"])
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count() and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
