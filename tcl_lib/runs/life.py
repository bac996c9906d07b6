"""The life of a run's folder: new, to be resumed, finished, damaged, or another run's.

`take` decides it once, before a run is trained. Imports no torch.
"""

import hashlib
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tcl_lib.config import RunConfig
from tcl_lib.runs import checkpoints, layout
from tcl_lib.runs.run import Run, load_run
from tcl_lib.utils import files
from tcl_lib.utils.files import Damaged

log = logging.getLogger(__name__)


class Taken(NamedTuple):
    """What `take` found: a finished run, or a checkpoint to resume from, or nothing: a new run."""

    finished: Run | None = None
    checkpoint: dict[str, Any] | None = None


@contextmanager
def take(config: RunConfig) -> Iterator[Taken]:
    """Hold the folder of a run that is to be trained; a finished run is read without holding it.

    Raises ValueError where the folder belongs to a run with other parameters, Damaged where it holds a
    finished run whose files do not fit their checksums, RuntimeError where another process trains the run,
    OSError where the folder cannot be written to.
    """
    finished = find_finished(config)
    if finished is not None:
        yield Taken(finished)
        return
    with hold(config.run_path):
        finished = find_finished(config)  # another process may have finished it before the lock was free
        yield Taken(finished) if finished else Taken(checkpoint=_checkpoint(config))


def find_finished(config: RunConfig) -> Run | None:
    """Return the finished run of this config, None where it is not finished or is to be overwritten.

    Raises ValueError where the folder belongs to a run with other parameters, Damaged where a file of the
    finished run does not fit its checksum.
    """
    path = config.run_path
    if config.overwrite:
        return None
    finished = (path / layout.RESULT).exists()
    try:
        saved = layout.saved_config(path).identity()
    except FileNotFoundError:
        if not finished:
            return None
        raise Damaged(f"{path / layout.CONFIG}: is missing; {layout.repair(path)}") from None
    except Damaged:
        if not finished:
            return None  # `_checkpoint` restores it from the checkpoint
        raise
    _compare(path, saved, config)
    if not finished:
        return None
    listed = layout.listed_sums(path)
    for name in (layout.CONFIG, layout.METRICS, *layout.EVALUATION, layout.RESULT):
        # features.npz may be deleted
        if (path / name).exists() or (name in listed and name != layout.FEATURES):
            layout.read_finished(path / name)
    return load_run(path)


def _compare(path: Path, saved: dict, config: RunConfig) -> None:
    """Raise ValueError where a saved identity is not the config's."""
    given = config.identity()
    changes = [
        f"{key}={saved.get(key)!r} there, {given.get(key)!r} here"
        for key in given | saved
        # `compile` belongs to the identity on a GPU alone; a run may be looked at anywhere
        if saved.get(key) != given.get(key)
        and not (key == "compile" and key not in given.keys() & saved.keys())
    ]
    if changes:
        raise ValueError(
            f"{path}: holds a run with other parameters ({'; '.join(changes)});"
            " give another run_name, or overwrite=True"
        )


def clear(path: Path) -> None:
    """Delete a run's files; other files in its folder stay."""
    for name in layout.FILES:
        (path / name).unlink(missing_ok=True)


def _checkpoint(config: RunConfig) -> dict[str, Any] | None:
    """Return the checkpoint to resume a run from, None for a new run.

    A lost or damaged config.json is restored from the checkpoint.
    """
    path = config.run_path
    state = checkpoints.load_last(path) if config.resume and not config.overwrite else None
    if state is None:
        return None
    try:
        layout.saved_config(path)
    except (FileNotFoundError, Damaged) as error:
        log.info("%s; restored from the checkpoint", error)
        layout.write_json(path / layout.CONFIG, state["description"])
    return state


@contextmanager
def hold(path: Path) -> Iterator[None]:
    """Hold a run's folder, which is made where there is none, against every other process.

    Raises RuntimeError that says which process holds it, OSError where the folder cannot be written to.
    """
    files.make_folder(path)
    lock = files.try_lock(path / layout.LOCK)
    if lock is None:
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
        (path / layout.WRITER).unlink(missing_ok=True)
        if [file.name for file in path.iterdir()] == [layout.LOCK]:  # nothing was written
            (path / layout.LOCK).unlink()
            path.rmdir()
        lock.release()


def finish(path: Path, result: dict[str, Any]) -> None:
    """Finish a run whose other files are written: write their checksums, and last its result."""
    text = layout.to_json(result)
    sums = {
        name: hashlib.sha256((path / name).read_bytes()).hexdigest()
        for name in (layout.CONFIG, layout.METRICS, *layout.EVALUATION)
        if (path / name).exists()
    }
    sums[layout.RESULT] = hashlib.sha256(text.encode()).hexdigest()
    files.write(path / layout.SUMS, "".join(f"{digest}  {name}\n" for name, digest in sums.items()))
    files.write(path / layout.RESULT, text)
    (path / layout.PREVIOUS_CHECKPOINT).unlink(missing_ok=True)
