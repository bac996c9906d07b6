"""The cache of frames: made once, complete or not at all, and used only if its checksum matches."""

import hashlib
import json
import logging
import os
import resource
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from conftest import too_long
from filelock import FileLock

from tcl_lib.data.events.cache import cached_frames
from tcl_lib.data.events.frames import count_frames
from tcl_lib.data.events.recordings import Events, RecordingFile
from tcl_lib.utils import files
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

COUNT = 60


def write(path: Path, seed: int, events: int = 200, side: int = 34) -> RecordingFile:
    random = np.random.default_rng(seed)
    t = np.sort(random.integers(0, 2**20, events))
    rows = [*random.integers(0, side, (2, events)), t >> 16, t >> 8 & 255, t & 255]
    content = np.stack(rows, 1).astype(np.uint8)
    content[:, 2] |= random.integers(0, 2, events).astype(np.uint8) << 7
    path.write_bytes(content.tobytes())
    return RecordingFile(path, (side, side))


@pytest.fixture
def recordings(tmp_path):
    return [write(tmp_path / f"{index}.bin", index) for index in range(COUNT)]


def frames(recordings, tmp_path, **changes):
    options = {"time_steps": 3, "frame_by": "time", "folder": tmp_path / "cache"} | changes
    return cached_frames("set", recordings, **options)


def expected(recordings) -> np.ndarray:
    return np.stack([count_frames(recording.read(), 3, "time") for recording in recordings])


@pytest.fixture(autouse=True)
def progress(caplog):
    caplog.set_level(logging.INFO, "tcl_lib")


def made(caplog) -> int:
    """Return how many recordings the last calls counted, from their messages."""
    lines = [message for message in caplog.messages if message.startswith("making the frames")]
    caplog.clear()
    return sum(int(line.split()[4]) for line in lines)


def test_cached_frames_counts_once(recordings, tmp_path, caplog):
    first = frames(recordings, tmp_path)
    assert (first.counts == expected(recordings)).all()
    assert first.counts.dtype == np.uint8
    assert isinstance(first.counts, np.memmap)
    assert first.bad == {}
    hashes = [hashlib.sha256(recording.path.read_bytes()).digest() for recording in recordings]
    assert [bytes(row) for row in first.hashes] == hashes
    assert made(caplog) == COUNT
    again = frames(recordings, tmp_path)
    assert (again.counts == first.counts).all()
    assert (again.hashes == first.hashes).all()
    assert made(caplog) == 0


def test_cached_frames_counts_many_recordings_in_processes(tmp_path, caplog):
    recordings = [write(tmp_path / f"{index}.bin", index) for index in range(300)]
    assert (frames(recordings, tmp_path).counts == expected(recordings)).all()
    assert made(caplog) == 300


@pytest.mark.parametrize("change", ["steps", "frame_by", "file", "content alone", "order", "fewer"])
def test_cached_frames_counts_again_after_a_change(recordings, tmp_path, caplog, change):
    frames(recordings, tmp_path)
    caplog.clear()
    options = {"steps": {"time_steps": 4}, "frame_by": {"frame_by": "count"}}.get(change, {})
    if change == "file":
        write(recordings[3].path, seed=99)
        os.utime(recordings[3].path, ns=(1, 1))
    if change == "content alone":  # as a copy does that keeps the time
        status = recordings[3].path.stat()
        write(recordings[3].path, seed=99)
        os.utime(recordings[3].path, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert recordings[3].path.stat().st_size == status.st_size
    if change == "order":
        recordings.reverse()
    if change == "fewer":
        recordings.pop()
    counts = frames(recordings, tmp_path, **options).counts
    assert made(caplog) == len(recordings)
    if not options:
        assert (counts == expected(recordings)).all()


def test_cached_frames_maps_a_file_that_training_cannot_change(recordings, tmp_path):
    frames(recordings, tmp_path).counts[:] = 7
    assert (frames(recordings, tmp_path).counts == expected(recordings)).all()


# damage


def cache_file(tmp_path, name: str) -> Path:
    (path,) = (tmp_path / "cache").glob(f"set-*/{name}")
    return path


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["frames", "frames.json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "long", "empty"])
def test_cached_frames_counts_damaged_frames_again_with_a_warning(
    recordings, tmp_path, caplog, name, damage, seed
):
    recordings = recordings[:8]
    right = frames(recordings, tmp_path).counts.copy()
    path = cache_file(tmp_path, name)
    content = bytearray(path.read_bytes())
    place = int(np.random.default_rng(seed).integers(len(content)))
    content[place] ^= 1 << seed
    damaged = {"flip": content, "cut": content[:place], "long": content + b"x", "empty": b""}[damage]
    path.write_bytes(damaged)
    caplog.clear()
    with pytest.warns(UserWarning, match=rf"/{name}: is damaged .*; making the frames again"):
        assert (frames(recordings, tmp_path).counts == right).all()
    assert made(caplog) == 8
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (frames(recordings, tmp_path).counts == right).all()
    assert made(caplog) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"hashes": "zz"},
        {"hashes": "00"},
        {"shape": [8]},
        {"shape": [8, 3, 2, 34, 35]},
        {"shape": [7, 3, 2, 34, 34]},
        {"dtype": "object"},
        {"bad": [[8, "no"]]},
        {"bad": [0]},
        {"checksum": "1"},
        None,
    ],
    ids=str,
)
def test_cached_frames_counts_again_where_their_description_does_not_fit(
    recordings, tmp_path, caplog, change
):
    recordings = recordings[:8]
    right = frames(recordings, tmp_path)
    path = cache_file(tmp_path, "frames.json")
    info = json.loads(bytes(files.read_sealed(path)))
    files.write_sealed(path, json.dumps(info | change if change else [info]).encode())
    caplog.clear()
    with pytest.warns(UserWarning, match=r"/frames(\.json)?: is damaged .*; making the frames again"):
        again = frames(recordings, tmp_path)
    assert (again.counts == right.counts).all()
    assert (again.hashes == right.hashes).all()
    assert made(caplog) == 8


@pytest.mark.parametrize("name", ["frames", "frames.json"])
def test_cached_frames_counts_missing_frames_again(recordings, tmp_path, caplog, name):
    right = frames(recordings, tmp_path).counts.copy()
    cache_file(tmp_path, name).unlink()
    caplog.clear()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert (frames(recordings, tmp_path).counts == right).all()
    assert len(caught) == (name == "frames")  # without a description nothing says that there were frames
    assert made(caplog) == COUNT


BUILD = """
import sys
import logging
from pathlib import Path
from tcl_lib.data.events.cache import cached_frames
from tcl_lib.data.events.recordings import RecordingFile
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
folder, cache, side = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
files = sorted(folder.glob("*.bin"), key=lambda path: int(path.stem))
cached_frames("set", [RecordingFile(path, (side, side)) for path in files], 3, "time", cache)
"""


def build(tmp_path, side: int = 34, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD, str(tmp_path), str(tmp_path / "cache"), str(side)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=REPOSITORY, **pipes, **options)


def temporary_files(tmp_path) -> list[Path]:
    return list((tmp_path / "cache").glob("set-*/*.tmp"))


@pytest.mark.parametrize("seconds", [0.2, *too_long(0, 0.6)])
def test_cached_frames_counts_again_after_a_kill(tmp_path, caplog, seconds):
    recordings = [write(tmp_path / f"{index}.bin", index, events=40_000) for index in range(600)]
    process = build(tmp_path, start_new_session=True)
    while not temporary_files(tmp_path):
        assert process.poll() is None
        time.sleep(0.001)
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (leftover,) = temporary_files(tmp_path)
    # A complete file of an earlier process that nothing vouches for, too
    leftover.with_name("frames").write_bytes(bytes(600 * 3 * 2 * 34 * 34))
    assert (frames(recordings, tmp_path).counts == expected(recordings)).all()
    assert made(caplog) == 600
    assert temporary_files(tmp_path) == []
    assert (frames(recordings, tmp_path).counts == expected(recordings)).all()
    assert made(caplog) == 0


def test_cached_frames_leaves_no_frames_behind_after_an_error(recordings, tmp_path):
    recordings[30].path.write_bytes(b"abc")
    with pytest.raises(ValueError, match=r"/30\.bin: is truncated"):
        frames(recordings, tmp_path)
    assert {path.name for path in (tmp_path / "cache").glob("set-*/*")} <= {"lock"}


def test_cached_frames_waits_for_another_process(recordings, tmp_path):
    frames(recordings, tmp_path)
    with FileLock(cache_file(tmp_path, "lock")):
        process = build(tmp_path)
        assert (
            process.stdout.readline() == "waiting for another process that makes or reads the frames of set\n"
        )
        assert process.poll() is None
    out, errors = process.communicate()
    assert (process.returncode, out) == (0, ""), errors


def test_cached_frames_says_before_any_work_that_the_disk_is_full(tmp_path):
    write(tmp_path / "0.bin", 0)
    limit = (1000, 1000)
    process = build(tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    out, errors = process.communicate()
    assert process.returncode == 0
    assert out == "making the frames of 1 recordings, once\n"  # in memory, and not on the disk before
    warning = errors.strip().splitlines()[0]
    assert "cannot cache the frames, the next run will count them again: " in warning
    assert "cannot be written, 6,936 bytes are needed and " in warning
    assert "(File too large)" in warning
    assert "frames.tmp" in warning
    assert temporary_files(tmp_path) == []


@pytest.mark.parametrize("in_the_way", ["file", "folder"])
def test_cached_frames_goes_on_where_it_cannot_write(recordings, tmp_path, caplog, in_the_way):
    if in_the_way == "file":
        (tmp_path / "cache").write_text("in the way")
    else:
        frames(recordings, tmp_path)
        path = cache_file(tmp_path, "frames")
        path.unlink()
        path.mkdir()
    caplog.clear()
    with pytest.warns(UserWarning, match="cannot cache the frames, .* cannot be written .*/cache"):
        found = frames(recordings, tmp_path)
    assert made(caplog) in (COUNT, 2 * COUNT)
    assert (found.counts == expected(recordings)).all()
    found.counts[0] = 1  # torch needs a writable array
    hashes = [hashlib.sha256(recording.path.read_bytes()).digest() for recording in recordings]
    assert [bytes(row) for row in found.hashes] == hashes


def test_cached_frames_in_memory_take_two_bytes_where_they_need_them(recordings, tmp_path):
    (tmp_path / "cache").write_text("in the way")
    with pytest.warns(UserWarning, match="cannot cache the frames"):
        counts = frames([*recordings, Burst(300)], tmp_path).counts
    assert counts.dtype == np.uint16
    assert counts[-1, 0, 0, 0, 0] == 300
    assert (counts[:-1] == expected(recordings)).all()


def test_cached_frames_stops_where_they_fit_neither_disk_nor_memory(recordings, tmp_path, caplog):
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot be written .*/cache") as caught:
        frames(recordings, tmp_path, time_steps=10**9)
    assert "\n" not in str(caught.value)
    assert made(caplog) == 0


def test_cached_frames_reads_a_folder_that_cannot_be_locked(recordings, tmp_path, caplog):
    right = frames(recordings, tmp_path).counts
    lock = cache_file(tmp_path, "lock")
    lock.unlink()
    lock.mkdir()
    caplog.clear()
    assert (frames(recordings, tmp_path).counts == right).all()
    assert made(caplog) == 0


PEAKS = """
import psutil
processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
statuses = [Path(f"/proc/{process.pid}/status").read_text() for process in processes]
print([1024 * int(status.split("VmHWM:")[1].split()[0]) for status in statuses])
"""


def test_cached_frames_takes_memory_independent_of_the_recordings(tmp_path):
    script = BUILD + PEAKS
    for index in range(500):
        write(tmp_path / f"{index}.bin", index, side=200)
    command = [sys.executable, "-c", script, str(tmp_path), str(tmp_path / "cache"), "200"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    size = cache_file(tmp_path, "frames").stat().st_size
    assert size == pytest.approx(120e6, rel=0.01)
    peaks = json.loads(done.stdout.splitlines()[-1])
    assert sum(peaks) < (len(peaks) + 1) * 100e6  # of all processes
    again = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert max(json.loads(again.stdout)) < 100e6  # read through whole, and not held


# counts and bad recordings


@dataclass(frozen=True)
class Burst:
    """Events at one pixel."""

    count: int
    name: str = "burst"

    @property
    def identity(self) -> list:
        return [self.count]

    def content_hash(self) -> bytes:
        return bytes(32)

    def read(self) -> Events:
        zero = np.zeros(self.count, np.int64)
        return Events(zero, zero, zero, zero, (34, 34))


@pytest.mark.parametrize(("count", "dtype"), [(255, np.uint8), (256, np.uint16), (65_535, np.uint16)])
def test_cached_frames_takes_two_bytes_per_count_where_one_is_too_few(
    recordings, tmp_path, caplog, count, dtype
):
    with_burst = [*recordings, Burst(count)]
    counts = frames(with_burst, tmp_path).counts
    assert counts.dtype == dtype
    assert counts[-1].sum() == counts[-1, 0, 0, 0, 0] == count
    assert (counts[:-1] == expected(recordings)).all()
    caplog.clear()
    frames(with_burst, tmp_path)
    assert made(caplog) == 0


def test_cached_frames_refuses_a_count_beyond_two_bytes(recordings, tmp_path):
    with pytest.raises(
        ValueError, match=r"burst: a pixel has 65536 events in a frame.*increase time_steps=3"
    ):
        frames([*recordings, Burst(65_536)], tmp_path)


@pytest.mark.parametrize("place", [0, 30, COUNT - 1])
def test_cached_frames_names_or_leaves_out_a_bad_recording(recordings, tmp_path, caplog, place):
    recordings[place].path.write_bytes(b"abc")
    with pytest.raises(ValueError, match=rf"/{place}\.bin: is truncated"):
        frames(recordings, tmp_path)
    sound = frames(recordings, tmp_path, skip_bad=True)
    assert list(sound.bad) == [place]
    assert "is truncated: 3 bytes" in sound.bad[place]
    kept = [index for index in range(COUNT) if index != place]
    assert (sound.counts[kept] == expected([recordings[index] for index in kept])).all()
    with pytest.raises(ValueError, match=rf"/{place}\.bin: is truncated"):
        frames(recordings, tmp_path)  # frames without it exist by now


def test_cached_frames_counts_a_recording_that_can_be_read_again(recordings, tmp_path, monkeypatch):
    read = RecordingFile.read

    def fail(recording):
        if recording.path.name == "7.bin":
            raise ValueError(f"{recording.name}: cannot be read (Permission denied)")
        return read(recording)

    monkeypatch.setattr(RecordingFile, "read", fail)
    assert list(frames(recordings[:20], tmp_path, skip_bad=True).bad) == [7]
    assert list(frames(recordings[:20], tmp_path, skip_bad=True).bad) == [7]
    monkeypatch.undo()
    again = frames(recordings[:20], tmp_path, skip_bad=True)
    assert again.bad == {}
    assert (again.counts == expected(recordings[:20])).all()


def test_cached_frames_refuses_recordings_of_two_sensors(recordings, tmp_path):
    other = write(tmp_path / "other.bin", 0, side=20)
    with pytest.raises(ValueError, match=r"other\.bin: has a 20x20 sensor, but .*/0\.bin has 34x34"):
        frames([*recordings, other], tmp_path, skip_bad=True)  # it may be the first that does not belong


def test_cached_frames_refuses_bad_recordings_alone(recordings, tmp_path):
    for recording in recordings:
        recording.path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"/0\.bin: has no events; every other recording is bad, too"):
        frames(recordings, tmp_path, skip_bad=True)
