"""The life of a run's folder: new, to be resumed, finished, damaged, or another run's.

`opened` decides it once, before a run is trained. Imports no torch.
"""

import hashlib
import logging
import os
import platform
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from tcl_lib.config import RunConfig
from tcl_lib.runs import checkpoints, contents, layout
from tcl_lib.runs.run import Run, load_run
from tcl_lib.utils import files
from tcl_lib.utils.files import Damaged

log = logging.getLogger(__name__)


class Found(NamedTuple):
    """What a run's folder holds: the finished run, or a checkpoint to resume from, or nothing: a new run."""

    finished: Run | None = None
    checkpoint: dict[str, Any] | None = None


@contextmanager
def opened(config: RunConfig) -> Iterator[Found]:
    """Lock the folder of a run that is to be trained; a finished run is read without the lock.

    Raises ValueError where the folder or its checkpoint belongs to a run with other parameters, Damaged where
    it holds a finished run whose files do not fit their checksums, RuntimeError where another process trains
    the run, OSError where the folder cannot be written to.
    """
    finished = find_finished(config)
    if finished is not None:
        if (finished.path / layout.WRITER).exists():  # its process was killed behind the last file
            with suppress(OSError, RuntimeError), lock(finished.path):
                pass
        yield Found(finished)
        return
    with lock(config.run_path):
        finished = find_finished(config)  # another process may have finished it before the lock was free
        yield Found(finished) if finished else Found(checkpoint=_checkpoint(config))


def find_finished(config: RunConfig) -> Run | None:
    """Return the finished run of this config, None where it is not finished or is to be overwritten.

    A checkpoint that is damaged or of another run is named in a warning. Raises ValueError where the folder
    belongs to a run with other parameters, Damaged or FileNotFoundError where another file is not whole.
    """
    path = config.run_path
    if config.overwrite:
        return None
    finished = (path / layout.RESULT).exists()
    try:
        saved, _ = contents.read_config(path)
    except (FileNotFoundError, Damaged):
        if not finished:
            return None  # a new run, or `_checkpoint` restores the file
        raise
    changes = _changes(saved, config)
    if changes:
        raise ValueError(
            f"{path}: holds a run with other parameters ({'; '.join(changes)});"
            " give another run_name, or overwrite=True"
        )
    if not finished:
        return None
    listed = layout.listed_sums(path)
    for name in (layout.CONFIG, layout.METRICS, *layout.EVALUATION, layout.RESULT):
        # features.npz and logits.npz may be deleted
        if (path / name).exists() or (name in listed and not name.endswith(".npz")):
            layout.read_finished(path / name)
    checkpoint = path / layout.CHECKPOINT
    if checkpoint.exists() and layout.CHECKPOINT in listed:  # it may be deleted, too
        try:
            layout.read_finished(checkpoint)
        except (OSError, Damaged):
            warnings.warn(
                f"{checkpoint}: is damaged or of another run, so the run's network cannot be loaded; all"
                " other files are whole, overwrite=True trains the run anew",
                stacklevel=3,
            )
    return load_run(path)


def check_checkpoint(
    file: Path, state: dict[str, Any], config: RunConfig, data: contents.DataDescription | None = None
) -> None:
    """Raise ValueError where a checkpoint belongs to another run: one with other parameters or other data."""
    description = state["description"]
    changes = _changes(contents.config_of(description, file), config)
    if data is not None:
        changes += contents.data_changes(description["data"], data)
    if changes:
        raise ValueError(
            f"{file}: belongs to another run ({'; '.join(changes)}); put the run's own file there,"
            " or overwrite=True trains the run anew"
        )


def _changes(saved: RunConfig, config: RunConfig) -> list[str]:
    """Return the parameters in which the identity of a saved run is not that of a config."""
    there, here = saved.identity(), config.identity()
    return [
        f"{name}={there.get(name)!r} there, {here.get(name)!r} here"
        for name in here | there
        # `compile` belongs to the identity on a GPU alone; a run may be looked at anywhere
        if there.get(name) != here.get(name)
        and not (name == "compile" and name not in here.keys() & there.keys())
    ]


def clear(path: Path) -> None:
    """Delete a run's files; other files in its folder stay."""
    for name in layout.FILES:
        files.delete(path / name)


def _checkpoint(config: RunConfig) -> dict[str, Any] | None:
    """Return the checkpoint to resume a run from, None for a new run.

    A lost or damaged config.json is restored from the checkpoint.
    """
    path = config.run_path
    state = checkpoints.load_last(path) if config.resume and not config.overwrite else None
    if state is None:
        return None
    check_checkpoint(path / layout.CHECKPOINT, state, config)
    try:
        contents.read_config(path)
    except (FileNotFoundError, Damaged) as error:
        log.info("%s; restored from the checkpoint", error)
        layout.write_json(path / layout.CONFIG, state["description"])
    return state


@contextmanager
def lock(path: Path) -> Iterator[None]:
    """Lock a run's folder, which is made where there is none, against every other process.

    Raises RuntimeError that says which process holds it, OSError where the folder cannot be written to.
    """
    files.make_folder(path)
    held = files.try_lock(path / layout.LOCK)
    if held is None:
        try:
            holder = (path / layout.WRITER).read_text(errors="replace")
        except OSError:
            holder = "another process"
        raise RuntimeError(f"{path}: {holder} is training this run; wait for it, or give another run_name")
    try:
        files.remove_leftovers(path)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        files.write(path / layout.WRITER, f"process {os.getpid()} on {platform.node()} (since {since})")
        yield
    finally:
        try:
            files.delete(path / layout.WRITER)
            if [file.name for file in path.iterdir()] == [layout.LOCK]:  # nothing was written
                (path / layout.LOCK).unlink()
                path.rmdir()
        finally:
            held.release()


def finish(path: Path, result: dict[str, Any]) -> None:
    """Finish a run whose other files are written: write their checksums, and last its result."""
    text = layout.to_json(result)
    sums = {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in (layout.CONFIG, layout.METRICS, *layout.EVALUATION, layout.WEIGHTS, layout.CHECKPOINT)
        if (path / name).exists()
    }
    sums[layout.RESULT] = hashlib.sha256(text.encode()).hexdigest()
    layout.write_sums(path, sums)
    files.delete(path / layout.PREVIOUS_CHECKPOINT)
    files.write(path / layout.RESULT, text)
