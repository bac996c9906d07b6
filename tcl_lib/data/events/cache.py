"""Frames of many recordings, counted once and then mapped from a file.

    data/cache/<name>-<key>/frames         the counts, uint8 or uint16 [N, T, 2, H, W]
    data/cache/<name>-<key>/frames.json    their type, shape and checksum, the hashes of the recordings, and
                                           the bad ones

The key is a hash of everything that determines the frames. The frames are counted on all cores and written
to a temporary file, which is renamed when it is complete. Every start verifies the checksum. The folder may
be deleted at any time. Frames that cannot be written stay in memory.
"""

import hashlib
import json
import logging
import math
import mmap
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, NamedTuple, Protocol

import numpy as np
import psutil
from annotated_types import Len
from joblib import Parallel, cpu_count, delayed
from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from tcl_lib.data.events.frames import count_frames
from tcl_lib.data.events.recordings import Events
from tcl_lib.utils import files
from tcl_lib.utils.checks import AtLeast1, NotNegative
from tcl_lib.utils.progress import progress_bar

log = logging.getLogger(__name__)

FORMAT = 4  # a change makes all frames again
FRAMES, INFO = "frames", "frames.json"
PORTION = 2**25  # bytes of frames that are counted before they are written


class Recording(Protocol):
    """A source of events that can be sent to another process."""

    name: str  # for errors
    identity: list  # JSON; differs when the events could differ

    def read(self) -> Events:
        """Return the events. Raises ValueError that names the recording if it is bad."""

    def content_hash(self) -> bytes:
        """Return the SHA-256 of what the recording is read from."""


@with_config(ConfigDict(strict=True))
class Info(TypedDict):
    """The description of frames in frames.json."""

    dtype: Literal["uint8", "uint16"]
    shape: Annotated[list[AtLeast1], Len(5, 5)]
    checksum: NotNegative
    hashes: str  # in hexadecimal digits, one after another
    bad: list[tuple[NotNegative, str]]


class Frames(NamedTuple):
    """The frames of N recordings."""

    counts: np.ndarray  # uint8 or uint16 [N, T, 2, H, W], mapped or in memory; 0 for a bad recording
    hashes: np.ndarray  # uint8 [N, 32], of the recordings' content; 0 for a bad one
    bad: dict[int, str]  # index -> error message of every bad recording


def cached_frames(
    name: str,
    recordings: Sequence[Recording],
    time_steps: int,
    frame_by: str,
    folder: Path,
    skip_bad: bool = False,
) -> Frames:
    """Return the frames of all recordings (see `count_frames`), which must have one sensor size.

    One process makes the frames while others wait for it. Raises ValueError for a bad recording unless
    `skip_bad` is set, and OSError if the frames can neither be written nor held in memory.
    """
    key = json.dumps([FORMAT, time_steps, frame_by, [recording.identity for recording in recordings]])
    folder = folder / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    with files.held(folder, f"the frames of {name}"):
        info = _read(folder, recordings)
        if info is not None:
            counts = _mapped(folder, info)
        else:
            info, counts = _make(folder, recordings, time_steps, frame_by, skip_bad)
    bad = dict(info["bad"])
    if bad and not skip_bad:
        raise ValueError(min(bad.items())[1])
    hashes = np.frombuffer(bytearray.fromhex(info["hashes"]), np.uint8)
    return Frames(counts, hashes.reshape(len(recordings), -1), bad)


def _read(folder: Path, recordings: Sequence[Recording]) -> Info | None:
    """Return the description of frames made earlier, None if they must be made."""
    if not (folder / INFO).exists():
        return None
    try:
        info = _description(folder, len(recordings))
        if _checksum(folder / FRAMES) != info["checksum"]:
            raise files.Damaged(f"{folder / FRAMES}: is damaged (its checksum does not match)")
    except (OSError, files.Damaged) as error:
        warnings.warn(f"{error}; making the frames again", stacklevel=3)
        return None
    # a recording may have become readable, for example after a change of permissions
    return info if all(isinstance(_events(recordings[index]), str) for index, _ in info["bad"]) else None


def _description(folder: Path, count: int) -> Info:
    """Return the description of the frames of `count` recordings. Raises Damaged where it does not fit."""
    content = bytes(files.read_sealed(folder / INFO))
    try:
        info = TypeAdapter(Info).validate_json(content)
        digests = len(bytes.fromhex(info["hashes"]))
    except ValueError as error:  # ValidationError is a ValueError
        short = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error
        raise files.Damaged(f"{folder / INFO}: is damaged ({short})") from error
    fits = info["shape"][0] == count and digests == count * hashlib.sha256().digest_size
    if not fits or any(index >= count for index, _ in info["bad"]):
        raise files.Damaged(f"{folder / INFO}: is damaged (it is of other recordings)")
    if (folder / FRAMES).stat().st_size != math.prod(info["shape"]) * np.dtype(info["dtype"]).itemsize:
        raise files.Damaged(f"{folder / FRAMES}: is damaged (its size does not fit)")
    return info


def _checksum(path: Path) -> int:
    checksum = 0
    with open(path, "rb") as file:  # read in chunks, not mapped: mapped pages would count as memory
        while chunk := file.read(1 << 20):
            checksum = zlib.crc32(chunk, checksum)
    return checksum


def _events(recording: Recording) -> Events | str:
    """Return the events of a recording, or what is wrong with it."""
    try:
        return recording.read()
    except ValueError as error:
        return str(error)


def _make(
    folder: Path, recordings: Sequence[Recording], time_steps: int, frame_by: str, skip_bad: bool
) -> tuple[dict, np.ndarray]:
    """Count all recordings; return the description of the frames, and the frames."""
    for first in recordings:
        events = _events(first)
        if isinstance(events, Events):
            break
        if not skip_bad:
            raise ValueError(events)
    else:
        raise ValueError(f"{_events(recordings[0])}; every other recording is bad, too")
    shape = (len(recordings), time_steps, 2, *events.sensor_size[::-1])
    count = partial(_count, shape=shape, frame_by=frame_by, first=first.name)
    try:
        return _store(folder, np.uint8, shape, recordings, count, skip_bad)
    except OverflowError:
        return _store(folder, np.uint16, shape, recordings, count, skip_bad)


def _store(
    folder: Path, dtype: type, shape: tuple, recordings: Sequence, count: Callable, skip_bad: bool
) -> tuple[dict, np.ndarray]:
    """Write the frames to a file, or where that is not possible to memory; return as `_make` does.

    Raises OverflowError if a count does not fit.
    """
    path, size = folder / f"{FRAMES}.tmp", math.prod(shape) * np.dtype(dtype).itemsize
    try:
        files.make_folder(folder)
        with files.named(path, size), open(path, "wb") as file:
            if hasattr(os, "posix_fallocate"):  # so that a full disk is an error now and not later
                os.posix_fallocate(file.fileno(), 0, size)
            info = _write(file, dtype, shape, recordings, count, skip_bad)
            file.flush()
            os.fsync(file.fileno())
        with files.named(folder / FRAMES):
            files.replace(path, folder / FRAMES)
        files.write_sealed(folder / INFO, json.dumps(info).encode())
        return info, _mapped(folder, info)
    except OSError as error:
        if size > psutil.virtual_memory().available / 2:  # the other half is for training
            raise
        warnings.warn(f"cannot cache the frames, the next run will count them again: {error}", stacklevel=5)
    memory = mmap.mmap(-1, size)
    info = _write(memory, dtype, shape, recordings, count, skip_bad)
    return info, np.frombuffer(memory, dtype).reshape(shape)


def _mapped(folder: Path, info: dict) -> np.ndarray:
    # copy-on-write: torch needs a writable array, and the file must stay as it is
    return np.memmap(folder / FRAMES, info["dtype"], "c", shape=tuple(info["shape"]))


def _write(
    file: BinaryIO | mmap.mmap,
    dtype: type,
    shape: tuple,
    recordings: Sequence,
    count: Callable,
    skip_bad: bool,
) -> dict:
    """Write all frames and return their description. Raises OverflowError if a count does not fit."""
    log.info("making the frames of %d recordings, once", len(recordings))
    bad, hashes, checksum = [], [], 0
    missing = np.zeros(shape[1:], dtype), bytes(hashlib.sha256().digest_size)  # of a bad recording
    jobs = min(cpu_count(), 1 + len(recordings) // 64)
    portion = max(2 * jobs, PORTION // missing[0].nbytes)
    with Parallel(jobs) as parallel, progress_bar(len(recordings), unit="recording") as bar:
        for start in range(0, len(recordings), portion):  # joblib would hold all frames at once
            counted = parallel(delayed(count)(one) for one in recordings[start : start + portion])
            for index, found in enumerate(counted, start):
                if isinstance(found, str):
                    if not skip_bad:
                        raise ValueError(found)
                    bad.append((index, found))
                frames, digest = missing if isinstance(found, str) else found
                if frames.max() > np.iinfo(dtype).max:
                    raise OverflowError
                content = frames.astype(dtype).tobytes()
                checksum = zlib.crc32(content, checksum)
                hashes.append(digest.hex())
                file.write(content)
            bar.update(len(counted))
    return {
        "dtype": np.dtype(dtype).name,
        "shape": shape,
        "checksum": checksum,
        "hashes": "".join(hashes),
        "bad": bad,
    }


def _count(recording: Recording, shape: tuple, frame_by: str, first: str) -> tuple[np.ndarray, bytes] | str:
    """Return the frames of a recording in the smallest type and its hash, or what is wrong with it.

    Raises ValueError if its sensor size is not that of the `first` or a count needs more than two bytes.
    """
    events = _events(recording)
    if isinstance(events, str):
        return events
    _, time_steps, _, height, width = shape
    if events.sensor_size != (width, height):
        size = "{}x{}".format(*events.sensor_size)
        raise ValueError(
            f"{recording.name}: has a {size} sensor, but {first} has {width}x{height};"
            " all recordings must have one sensor size"
        )
    frames = count_frames(events, time_steps, frame_by)
    largest = frames.max()
    if largest > np.iinfo(np.uint16).max:
        raise ValueError(
            f"{recording.name}: a pixel has {largest} events in a frame, the limit is 65535;"
            f" increase time_steps={time_steps}"
        )
    return frames.astype(np.min_scalar_type(largest)), recording.content_hash()
