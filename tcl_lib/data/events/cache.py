"""Counted frames of many recordings, made once and mapped from a file.

    data/cache/<name>-<key>/frames.uint8    [N, T, 2, H, W], or frames.uint16 where a count passes 255
    data/cache/<name>-<key>/done.jsonl      a line a recording: its index, and the checksum of its frames

The key stands for everything that shapes the frames. Nothing in the folder is believed: frames count as made
where they agree with their checksum, so that it does not matter when a process was killed, or what became
of the files since. What is missing is made, by all cores; the folder may be deleted at any time.
"""

import errno
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from filelock import FileLock
from joblib import Parallel, cpu_count, delayed

from tcl_lib.data.events.frames import count_frames
from tcl_lib.data.events.recordings import Events
from tcl_lib.utils import files
from tcl_lib.utils.progress import progress_bar

FORMAT = 2  # of the frames; a change makes all caches anew


class Recording(Protocol):
    """Something that events can be read from; can be sent to another process."""

    name: str  # for errors
    identity: list  # JSON; differs when the events could

    def read(self) -> Events:
        """The events. Raises ValueError, naming the recording, where they are not sound."""


class Frames(NamedTuple):
    """The frames of N recordings."""

    counts: np.ndarray  # uint8 or uint16 [N, T, 2, H, W], mapped; 0 for a bad recording
    bad: dict[int, str]  # what is wrong with it, for every bad recording


def cached_frames(
    name: str,
    recordings: Sequence[Recording],
    time_steps: int,
    frame_by: str,
    folder: Path,
    skip_bad: bool = False,
) -> Frames:
    """The frames of all recordings, see `count_frames`; all have to be of one sensor.

    Only one process makes them, others wait for it. Raises ValueError for a bad recording, unless these are
    skipped, OSError where the folder does not take the frames.
    """
    key = json.dumps([FORMAT, time_steps, frame_by, [recording.identity for recording in recordings]])
    folder = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    files.make_folder(folder)
    lock = files.try_lock(folder / "lock")
    if lock is None:
        print(f"another process is making the frames of {name}, waiting for it", flush=True)
        lock = FileLock(folder / "lock")
        lock.acquire()
    try:
        first, (width, height) = _first_sound(recordings, skip_bad)
        shape = (len(recordings), time_steps, 2, height, width)
        task = _Task(folder, shape, first, frame_by)
        try:
            return _complete(task, np.uint8, recordings, skip_bad)
        except OverflowError:
            return _complete(task, np.uint16, recordings, skip_bad)
    finally:
        lock.release()


def _first_sound(recordings: Sequence[Recording], skip_bad: bool) -> tuple[str, tuple[int, int]]:
    """The first sound recording's name, and its sensor's size."""
    for recording in recordings:
        try:
            return recording.name, recording.read().sensor_size
        except ValueError:
            if not skip_bad:
                raise
    raise ValueError(f"{recordings[0].name}: and every other recording is bad")


class _Task(NamedTuple):
    """What the making of every recording's frames has in common."""

    folder: Path
    shape: tuple[int, ...]  # N, T, 2, H, W
    first: str  # the recording whose sensor all have to be of
    frame_by: str

    def path(self, dtype: type) -> Path:
        return self.folder / f"frames.{np.dtype(dtype).name}"

    def size(self, dtype: type) -> int:
        """Bytes of a recording's frames."""
        return math.prod(self.shape[1:]) * np.dtype(dtype).itemsize


def _complete(task: _Task, dtype: type, recordings: Sequence[Recording], skip_bad: bool) -> Frames:
    """Make whatever frames are missing. Raises OverflowError where a count does not fit the type."""
    path, journal = task.path(dtype), task.folder / "done.jsonl"
    if dtype == np.uint8 and task.path(np.uint16).exists():
        raise OverflowError("counts are known to need two bytes")
    done = {}
    if path.exists() and path.stat().st_size == task.shape[0] * task.size(dtype):
        done = _verified(path, task.size(dtype), _entries(journal, len(recordings)))
    else:
        _create(task, dtype)
    missing = [index for index in range(len(recordings)) if index not in done]
    bad = {}
    if missing:
        files.write(journal, "".join(f"[{index}, {checksum}]\n" for index, checksum in done.items()))
        bad = _make_all(task, dtype, recordings, missing, journal, skip_bad)
    # copy-on-write: torch wants an array that can be written to, the file stays as it is
    return Frames(np.memmap(path, dtype, "c", shape=task.shape), bad)


def _create(task: _Task, dtype: type) -> None:
    """A new file, with all the space it needs."""
    path, size = task.path(dtype), task.shape[0] * task.size(dtype)
    for other in (np.uint8, np.uint16):
        task.path(other).unlink(missing_ok=True)
    try:
        with open(path, "wb") as file:
            file.truncate(size)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        message = (
            f"the frames of {task.shape[0]} recordings, {list(task.shape[1:])} each, need"
            f" {size / 1e6:,.1f} MB here ({error.strerror})"
        )
        raise OSError(error.errno, message, str(path)) from error


def _entries(journal: Path, count: int) -> dict[int, int]:
    """Index and checksum of every recording that is said to be done."""
    entries = {}
    for line in journal.read_bytes().splitlines() if journal.exists() else []:
        try:
            index, checksum = json.loads(line)
            entries[int(index)] = int(checksum)
        except (ValueError, TypeError, OverflowError):
            continue  # written in part, or damaged
    return {index: checksum for index, checksum in entries.items() if 0 <= index < count}


def _verified(path: Path, size: int, entries: dict[int, int]) -> dict[int, int]:
    """The entries whose frames agree with their checksum."""

    def sound(indices: list[int]) -> list[int]:
        kept = []
        with open(path, "rb") as file:  # read, not mapped: mapped pages would count as memory
            for index in indices:
                file.seek(index * size)
                if zlib.crc32(file.read(size)) == entries[index]:
                    kept.append(index)
        return kept

    indices = sorted(entries)
    portions = [indices[start : start + 256] for start in range(0, len(indices), 256)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        return {index: entries[index] for portion in pool.map(sound, portions) for index in portion}


def _make_all(
    task: _Task,
    dtype: type,
    recordings: Sequence[Recording],
    missing: list[int],
    journal: Path,
    skip_bad: bool,
) -> dict[int, str]:
    """Make the frames that are not done; what is wrong with those that cannot be made."""
    print(f"making the frames of {len(missing)} recordings, once", flush=True)
    jobs = min(cpu_count(), 1 + len(missing) // 64)
    made: Iterable[tuple[int, int | str]] = Parallel(jobs, return_as="generator_unordered")(
        delayed(_make)(task, dtype, index, recordings[index]) for index in missing
    )
    bad = {}
    done = len(recordings) - len(missing)
    with progress_bar(len(recordings), done, "recording") as bar, open(journal, "a") as file:
        for index, checksum in made:
            bar.update()
            if isinstance(checksum, int):
                with files.named(journal, 30 * len(recordings)):
                    file.write(f"[{index}, {checksum}]\n")
                    file.flush()
            elif skip_bad:
                bad[index] = checksum
            else:
                raise ValueError(checksum)
    return dict(sorted(bad.items()))


def _make(task: _Task, dtype: type, index: int, recording: Recording) -> tuple[int, int | str]:
    """Count one recording into its place in the file; its index, and the checksum or what is wrong with it.

    Raises ValueError where it is sound and does not fit the others, OverflowError where a count is too large
    for the type.
    """
    _, time_steps, _, height, width = task.shape
    try:
        events = recording.read()
    except ValueError as error:
        return index, str(error)
    if events.sensor_size != (width, height):
        size = "{}x{}".format(*events.sensor_size)
        raise ValueError(
            f"{recording.name}: is of a {size} sensor, but {task.first} of {width}x{height};"
            " all recordings must be of one"
        )
    frames = count_frames(events, time_steps, task.frame_by)
    largest = frames.max()
    if largest > np.iinfo(np.uint16).max:
        raise ValueError(
            f"{recording.name}: a pixel has {largest} events in a frame, at most 65535 can be kept;"
            f" give more than time_steps={time_steps}"
        )
    if largest > np.iinfo(dtype).max:
        raise OverflowError(f"{recording.name}: a pixel has {largest} events in a frame")
    content = frames.astype(dtype).tobytes()
    path = task.path(dtype)
    with files.named(path, task.shape[0] * task.size(dtype)), open(path, "r+b", buffering=0) as file:
        if os.pwrite(file.fileno(), content, index * len(content)) < len(content):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return index, zlib.crc32(content)
