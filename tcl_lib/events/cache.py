"""Counted frames of many recordings, made once and mapped from a file.

    data/cache/<name>-<key>/frames.npy    uint8 or uint16 [N, T, 2, H, W]
    data/cache/<name>-<key>/done.jsonl    a line a recording: its index, and the checksum of its frames

The key stands for everything that shapes the frames. Nothing in the folder is believed: frames count as made
where they agree with their checksum, so that it does not matter when a process was killed, or what became
of the files since. What is missing is made, by all cores; the folder may be deleted at any time.
"""

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
from filelock import FileLock, Timeout
from joblib import Parallel, cpu_count, delayed

from tcl_lib.environment import progress_bar, replacing
from tcl_lib.events.frames import count_frames
from tcl_lib.events.recordings import Events

FORMAT = 1  # of the frames; a change makes all caches anew


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
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"another process is making the frames of {name}, waiting for it", flush=True)
        lock.acquire()
    try:
        width, height = _sensor_size(recordings, skip_bad)
        shape = (len(recordings), time_steps, 2, height, width)
        counts, bad = _complete(folder, shape, recordings, frame_by, skip_bad)
    finally:
        lock.release()
    return Frames(counts, bad)


def _sensor_size(recordings: Sequence[Recording], skip_bad: bool) -> tuple[int, int]:
    """The size of the first sound recording's sensor."""
    for recording in recordings:
        try:
            return recording.read().sensor_size
        except ValueError:
            if not skip_bad:
                raise
    raise ValueError(f"{recordings[0].name}: and every other recording is bad")


def _complete(
    folder: Path, shape: tuple[int, ...], recordings: Sequence[Recording], frame_by: str, skip_bad: bool
) -> Frames:
    """Make whatever frames are missing; one byte a count, or two where that is too little."""
    path, journal = folder / "frames.npy", folder / "done.jsonl"
    counts = _opened(path, shape)
    done = {} if counts is None else _verified(counts, _entries(journal, len(recordings)))
    if counts is None:
        counts = _created(path, shape, np.uint8)
    try:
        bad = _make_all(counts, done, journal, recordings, frame_by, skip_bad)
    except OverflowError:
        counts = _created(path, shape, np.uint16)
        bad = _make_all(counts, {}, journal, recordings, frame_by, skip_bad)
    return Frames(counts, bad)


def _opened(path: Path, shape: tuple[int, ...]) -> np.memmap | None:
    """The file of an earlier call, or None where there is none of this shape."""
    try:
        counts = np.load(path, mmap_mode="c")  # copy-on-write: torch wants to be able to write to it
    except (OSError, ValueError, EOFError):
        return None
    fits = isinstance(counts, np.memmap) and counts.shape == shape and counts.dtype in (np.uint8, np.uint16)
    return counts if fits and counts.flags.c_contiguous else None


def _created(path: Path, shape: tuple[int, ...], dtype: type) -> np.memmap:
    """A new file, with all the space it needs."""
    path.unlink(missing_ok=True)
    try:
        counts = np.lib.format.open_memmap(path, "w+", dtype, shape)
        size = counts.offset + counts.nbytes
        del counts
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        need = math.prod(shape) * np.dtype(dtype).itemsize / 1e6
        message = f"the frames of {shape[0]} recordings need {need:,.1f} MB here ({error.strerror})"
        raise OSError(error.errno, message, str(path)) from error
    return np.load(path, mmap_mode="c")


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


def _verified(counts: np.memmap, entries: dict[int, int]) -> dict[int, int]:
    """The entries whose frames agree with their checksum."""
    size = counts.nbytes // len(counts)

    def sound(indices: list[int]) -> list[int]:
        with open(counts.filename, "rb") as file:  # read, not mapped: mapped pages would count as memory
            return [
                i for i in indices if entries[i] == zlib.crc32(_read(file, counts.offset + i * size, size))
            ]

    indices = sorted(entries)
    portions = [indices[start : start + 256] for start in range(0, len(indices), 256)]
    with ThreadPoolExecutor(cpu_count()) as pool:
        return {i: entries[i] for portion in pool.map(sound, portions) for i in portion}


def _read(file, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


def _make_all(
    counts: np.memmap,
    done: dict[int, int],
    journal: Path,
    recordings: Sequence[Recording],
    frame_by: str,
    skip_bad: bool,
) -> dict[int, str]:
    """Make the frames that are not done; what is wrong with those that cannot be made."""
    missing = [index for index in range(len(recordings)) if index not in done]
    bad = {}
    if not missing:
        return bad
    with replacing(journal) as file:
        file.writelines(f"[{index}, {checksum}]\n" for index, checksum in done.items())
    print(f"making the frames of {len(missing)} recordings, once", flush=True)
    jobs = min(cpu_count(), 1 + len(missing) // 64)
    made: Iterable[tuple[int, int | str]] = Parallel(jobs, return_as="generator_unordered")(
        delayed(_make)(
            counts.filename, counts.offset, counts.dtype, counts.shape, index, recordings[index], frame_by
        )
        for index in missing
    )
    with progress_bar(len(recordings), len(done), "recording") as bar, open(journal, "a") as file:
        for index, checksum in made:
            bar.update()
            if isinstance(checksum, int):
                file.write(f"[{index}, {checksum}]\n")
                file.flush()
            elif skip_bad:
                bad[index] = checksum
            else:
                raise ValueError(checksum)
    return bad


def _make(
    path: str,
    offset: int,
    dtype: np.dtype,
    shape: tuple[int, ...],
    index: int,
    recording: Recording,
    frame_by: str,
) -> tuple[int, int | str]:
    """Count one recording into its place in the file; its index, and the checksum or what is wrong with it.

    Raises OverflowError where a count is too large for the type.
    """
    _, time_steps, _, height, width = shape
    try:
        events = recording.read()
        if events.sensor_size != (width, height):
            size = "{}x{}".format(*events.sensor_size)
            raise ValueError(f"{recording.name}: is of a {size} sensor, the first one of {width}x{height}")
        frames = count_frames(events, time_steps, frame_by)
        if frames.max() > np.iinfo(np.uint16).max:
            raise ValueError(f"{recording.name}: {frames.max()} events of a pixel in a frame, 65535 fit")
    except ValueError as error:
        return index, str(error)
    if frames.max() > np.iinfo(dtype).max:
        raise OverflowError(f"{recording.name}: {frames.max()} events of a pixel in a frame")
    content = frames.astype(dtype).tobytes()
    with open(path, "r+b", buffering=0) as file:
        if os.pwrite(file.fileno(), content, offset + index * len(content)) < len(content):
            raise OSError(f"{path}: is full")
    return index, zlib.crc32(content)
