"""Readers of event camera recordings in their published formats. Shapes: N events."""

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tcl_lib.data.events.aedat4 import parse_aedat4
from tcl_lib.utils import files

DVS128, NMNIST = (128, 128), (34, 34)  # sensors' width and height


class Events(NamedTuple):
    """A recording: events ordered by time."""

    x: np.ndarray  # [N], column from the left
    y: np.ndarray  # [N], row from the top
    t: np.ndarray  # int64 [N], microseconds
    p: np.ndarray  # [N], 1 for brighter (ON), 0 for darker (OFF)
    sensor_size: tuple[int, int]  # width, height


@dataclass(frozen=True)
class RecordingFile:
    """A recording in a file; see `read_recording`."""

    path: Path
    sensor_size: tuple[int, int] | None = None
    transposed: bool = False  # swap rows and columns: the camera was turned

    @property
    def name(self) -> str:
        """Name in error messages."""
        return str(self.path)

    @property
    def identity(self) -> list:
        """A list that changes whenever the events could change."""
        return [*files.stamp(self.path), self.sensor_size, self.transposed]

    def content_hash(self) -> bytes:
        """Return the hash of the file's content."""
        with open(self.path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()

    def read(self) -> Events:
        events = read_recording(self.path, self.sensor_size)
        if not self.transposed:
            return events
        return events._replace(x=events.y, y=events.x, sensor_size=events.sensor_size[::-1])


def read_recording(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Return a recording after checking every event.

    Args:
        path: .aedat (AEDAT 2.0 of a DVS128), .aedat4, .bin or .bs2 (N-MNIST, five bytes per event)
            or .npz (arrays x, y, t in microseconds, and p of 0 and 1 or False and True).
        sensor_size: (width, height). Required for .npz; .bin and .bs2 default to N-MNIST's 34 x 34. The other
            formats store it, and a different value is an error.

    Raises ValueError that names the file and what is wrong with it.
    """
    try:
        if path.suffix.lower() not in READERS:
            raise ValueError(f"is not a {', '.join(READERS)} file")
        events = READERS[path.suffix.lower()](path, sensor_size)
        _check(events)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return events


def _check(events: Events) -> None:
    if not len(events.t):
        raise ValueError("has no events")
    width, height = events.sensor_size
    outside = np.flatnonzero((events.x < 0) | (events.x >= width) | (events.y < 0) | (events.y >= height))
    if len(outside):
        first = outside[0]
        raise ValueError(
            f"{len(outside)} events outside the {width}x{height} sensor, the first at x={events.x[first]},"
            f" y={events.y[first]}"
        )
    if events.p.max() > 1:
        raise ValueError(f"an event has polarity {events.p.max()}, must be 0 (OFF) or 1 (ON)")
    backwards = np.flatnonzero(events.t[1:] < events.t[:-1])
    if len(backwards):
        first = backwards[0]
        raise ValueError(
            f"timestamps decrease after event {first + 1}, from {events.t[first]} to {events.t[first + 1]} us"
        )


def _read_aedat2(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    """Read AEDAT 2.0: text lines that begin with #, then address and time of each event, big-endian uint32.

    Address of a DVS128 (jAER): bit 0 is 1 for OFF, bits 1-7 the column from the right, bits 8-14 the row from
    the bottom; bits 15 and 31 mark entries that are not pixel events. Time wraps around after 71 minutes; a
    pause of more than half of that looks like decreasing timestamps.
    """
    content = path.read_bytes()
    if not content.startswith(b"#!AER-DAT2.0"):
        raise ValueError(f"is not AEDAT 2.0, it starts with {content[:14]!r}")
    start = 0
    while content[start : start + 1] == b"#":
        start = content.find(b"\n", start) + 1
        if not start:
            raise ValueError("is truncated in its header")
    left = (len(content) - start) % 8
    if left:
        raise ValueError(f"is truncated: {left} bytes follow the last complete event")
    address, t = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).T.astype(np.uint32)
    pixel = address & 0x80008000 == 0
    if not pixel.all():
        address, t = address[pixel], t[pixel]
    if len(address) and address.max() > 0x7FFF:
        raise ValueError(f"has address 0x{address.max():08x}, which a DVS128 does not have")
    _check_sensor(sensor_size, DVS128)
    # int32 differences are correct at the wrap-around, and negative where timestamps decrease
    passed = np.diff(t, prepend=t[:1]).view(np.int32)
    return Events(
        x=127 - (address >> 1 & 127).astype(np.int16),
        y=127 - (address >> 8).astype(np.int16),
        t=int(t[0]) + passed.cumsum(dtype=np.int64) if len(t) else t.astype(np.int64),
        p=(address & 1 ^ 1).astype(np.uint8),
        sensor_size=DVS128,
    )


def _read_aedat4(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    """Read the first event stream of an AEDAT 4.0 file."""
    events, size = parse_aedat4(path.read_bytes())
    _check_sensor(sensor_size, size)
    return Events(events["x"], events["y"], events["t"], events["p"], size)


def _read_nmnist(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    """Read five bytes per event: x, y, then 24 bits, the highest for polarity, the others microseconds.

    An event at y = 240 means that the clock skipped 2^13 microseconds (Orchard et al. 2015).
    """
    if sensor_size is not None and sensor_size[1] > 240:
        raise ValueError(f"sensor_size has {sensor_size[1]} rows, the format allows 240")
    content = np.fromfile(path, np.uint8)
    left = len(content) % 5
    if left:
        raise ValueError(f"is truncated: {left} bytes follow the last complete event")
    x, y, *time = content.reshape(-1, 5).T
    t = (time[0] & 127).astype(np.int64) << 16 | time[1].astype(np.int64) << 8 | time[2]
    skip = y == 240
    t += skip.cumsum() << 13
    events = Events(x, y, t, time[0] >> 7, sensor_size or NMNIST)
    return events._replace(**{name: getattr(events, name)[~skip] for name in "xytp"})


def _read_npz(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    if sensor_size is None:
        raise ValueError("does not store the sensor size; set sensor_size to [width, height]")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file), np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in "xytp" if name in content}
    except OSError:
        raise
    except Exception as error:  # the exception of zipfile, zlib or NumPy depends on where the file is damaged
        raise ValueError(f"is truncated, damaged or not NPZ ({error})") from error
    for name in "xytp":
        if name not in arrays:
            raise ValueError(f"has no array {name}; x, y, t and p are required")
    x, y, t, p = (arrays[name] for name in "xytp")
    for name, array in zip("xytp", (x, y, t, p), strict=True):
        if array.shape != t.shape or array.ndim != 1:
            raise ValueError(f"arrays must be [N], {name} is {list(array.shape)} and t {list(t.shape)}")
        if array.dtype.kind not in ("iub" if name == "p" else "iu"):
            raise ValueError(f"array {name} is {array.dtype}, must be integers (t in microseconds)")
    if not np.isin(p, (0, 1)).all():
        raise ValueError(f"array p has {np.setdiff1d(p, (0, 1))[0]}, must be 0 (OFF) or 1 (ON)")
    if t.dtype == np.uint64 and t.size and t.max() > np.iinfo(np.int64).max:
        raise ValueError(f"array t has {t.max()}, must be microseconds below 2^63")
    return Events(x, y, t.astype(np.int64), p.astype(np.uint8), sensor_size)


def _check_sensor(given: tuple[int, int] | None, known: tuple[int, int]) -> None:
    """Raise ValueError if a given size is not that of the file."""
    if given not in (None, known):
        raise ValueError(f"has a {known[0]}x{known[1]} sensor, but sensor_size is {list(given)}")


READERS: dict[str, Callable[[Path, tuple[int, int] | None], Events]] = {
    ".aedat": _read_aedat2,
    ".aedat4": _read_aedat4,
    ".bin": _read_nmnist,
    ".bs2": _read_nmnist,
    ".npz": _read_npz,
}
