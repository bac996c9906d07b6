"""Recordings of event cameras, read from the formats in which they are published. Shapes: N events."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tcl_lib.data.events.aedat4 import parse_aedat4

DVS128, NMNIST = (128, 128), (34, 34)  # sensors' width and height


class Events(NamedTuple):
    """A recording: events in the order of time."""

    x: np.ndarray  # [N], column from the left
    y: np.ndarray  # [N], row from the top
    t: np.ndarray  # int64 [N], microseconds
    p: np.ndarray  # [N], 1 where it got brighter (ON), 0 where darker (OFF)
    sensor_size: tuple[int, int]  # width, height


@dataclass(frozen=True)
class RecordingFile:
    """A recording that lies in a file; see `read_recording`."""

    path: Path
    sensor_size: tuple[int, int] | None = None
    transposed: bool = False  # rows for columns: the camera stood on its side

    @property
    def name(self) -> str:
        """What an error calls it."""
        return str(self.path)

    @property
    def identity(self) -> list:
        """Changes whenever the events could."""
        status = self.path.stat()
        return [self.name, status.st_size, status.st_mtime_ns, self.sensor_size, self.transposed]

    def read(self) -> Events:
        events = read_recording(self.path, self.sensor_size)
        if not self.transposed:
            return events
        return events._replace(x=events.y, y=events.x, sensor_size=events.sensor_size[::-1])


def read_recording(path: Path, sensor_size: tuple[int, int] | None = None) -> Events:
    """Read a recording and check every event.

    Args:
        path: .aedat (AEDAT 2.0 of a DVS128), .aedat4, .bin or .bs2 (five bytes an event, as N-MNIST has them)
            or .npz (arrays x, y, t in microseconds, and p of 0 and 1 or False and True).
        sensor_size: (width, height). A .npz file does not say it; .bin and .bs2 are taken for N-MNIST's
            34 x 34 without it. The other formats know theirs, and another one given is an error.

    Raises ValueError, in one line that names the file and what is wrong with it.
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
        raise ValueError("holds no events")
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
            f"time runs backwards after event {first + 1}, from {events.t[first]} to {events.t[first + 1]} us"
        )


def _read_aedat2(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    """AEDAT 2.0: lines of text that begin with #, then address and time as two big-endian uint32 an event.

    Address of a DVS128 (jAER): bit 0 is 1 for OFF, bits 1-7 the column from the right, bits 8-14 the row from
    the bottom; bits 15 and 31 mark what is no event of a pixel. Time wraps around after 71 minutes; a pause
    of more than half of that cannot be told from time running backwards.
    """
    content = path.read_bytes()
    if not content.startswith(b"#!AER-DAT2.0"):
        raise ValueError(f"is not AEDAT 2.0, it begins with {content[:14]!r}")
    start = 0
    while content[start : start + 1] == b"#":
        start = content.find(b"\n", start) + 1
        if not start:
            raise ValueError("is cut off in its header")
    left = (len(content) - start) % 8
    if left:
        raise ValueError(f"is cut off: {left} bytes follow the last whole event")
    address, t = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).T.astype(np.uint32)
    pixel = address & 0x80008000 == 0
    if not pixel.all():
        address, t = address[pixel], t[pixel]
    if len(address) and address.max() > 0x7FFF:
        raise ValueError(f"holds address 0x{address.max():08x}, which is none of a DVS128")
    _check_sensor(sensor_size, DVS128)
    # differences as int32: right across the wrap-around, and negative where time runs backwards
    passed = np.diff(t, prepend=t[:1]).view(np.int32)
    return Events(
        x=127 - (address >> 1 & 127).astype(np.int16),
        y=127 - (address >> 8).astype(np.int16),
        t=int(t[0]) + passed.cumsum(dtype=np.int64) if len(t) else t.astype(np.int64),
        p=(address & 1 ^ 1).astype(np.uint8),
        sensor_size=DVS128,
    )


def _read_aedat4(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    """AEDAT 4.0: the first stream of events."""
    events, size = parse_aedat4(path.read_bytes())
    _check_sensor(sensor_size, size)
    return Events(events["x"], events["y"], events["t"], events["p"], size)


def _read_nmnist(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    """Five bytes an event: x, y, then polarity in the highest of 24 bits and microseconds in the others.

    An event at y = 240 stands for 2^13 microseconds that the clock has skipped (Orchard et al. 2015).
    """
    if sensor_size is not None and sensor_size[1] > 240:
        raise ValueError(f"cannot be of a sensor of {sensor_size[1]} rows, the format has 240 (sensor_size)")
    content = np.fromfile(path, np.uint8)
    left = len(content) % 5
    if left:
        raise ValueError(f"is cut off: {left} bytes follow the last whole event")
    x, y, *time = content.reshape(-1, 5).T
    t = (time[0] & 127).astype(np.int64) << 16 | time[1].astype(np.int64) << 8 | time[2]
    skip = y == 240
    t += skip.cumsum() << 13
    events = Events(x, y, t, time[0] >> 7, sensor_size or NMNIST)
    return events._replace(**{name: getattr(events, name)[~skip] for name in "xytp"})


def _read_npz(path: Path, sensor_size: tuple[int, int] | None) -> Events:
    if sensor_size is None:
        raise ValueError("does not say the sensor's size; give sensor_size as [width, height]")
    try:
        with path.open("rb") as file, zipfile.ZipFile(file), np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in "xytp" if name in content}
    except OSError:
        raise
    except Exception as error:  # what zipfile, zlib and NumPy raise depends on where the damage is
        raise ValueError(f"is cut off, damaged or not NPZ ({error})") from error
    for name in "xytp":
        if name not in arrays:
            raise ValueError(f"has no array {name}; x, y, t and p are needed")
    x, y, t, p = (arrays[name] for name in "xytp")
    for name, array in zip("xytp", (x, y, t, p), strict=True):
        if array.shape != t.shape or array.ndim != 1:
            raise ValueError(f"arrays must be [N], {name} is {list(array.shape)} and t {list(t.shape)}")
        if array.dtype.kind not in ("iub" if name == "p" else "iu"):
            raise ValueError(f"array {name} is {array.dtype}, must be whole numbers (t in microseconds)")
    if not np.isin(p, (0, 1)).all():
        raise ValueError(f"array p holds {np.setdiff1d(p, (0, 1))[0]}, must be 0 (OFF) and 1 (ON)")
    if t.dtype == np.uint64 and t.size and t.max() > np.iinfo(np.int64).max:
        raise ValueError(f"array t holds {t.max()}, must be microseconds below 2^63")
    return Events(x, y, t.astype(np.int64), p.astype(np.uint8), sensor_size)


def _check_sensor(given: tuple[int, int] | None, known: tuple[int, int]) -> None:
    """Raise ValueError where a size was given that is not the file's."""
    if given not in (None, known):
        raise ValueError(f"is of a {known[0]}x{known[1]} sensor, but sensor_size is {list(given)}")


READERS: dict[str, Callable[[Path, tuple[int, int] | None], Events]] = {
    ".aedat": _read_aedat2,
    ".aedat4": _read_aedat4,
    ".bin": _read_nmnist,
    ".bs2": _read_nmnist,
    ".npz": _read_npz,
}
