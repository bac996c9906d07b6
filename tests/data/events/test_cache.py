"""The cache of frames: made once, whatever happens on the way, and never believed without its checksum."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tcl_lib.data.events.cache import cached_frames
from tcl_lib.data.events.frames import count_frames
from tcl_lib.data.events.recordings import Events, RecordingFile
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


def made(capsys) -> int:
    """How many recordings the last calls said to count."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("making")]
    return sum(int(line.split()[4]) for line in lines)


def test_frames_are_made_once(recordings, tmp_path, capsys):
    first = frames(recordings, tmp_path)
    assert (first.counts == expected(recordings)).all()
    assert first.counts.dtype == np.uint8
    assert isinstance(first.counts, np.memmap)
    assert first.bad == {}
    assert made(capsys) == COUNT
    assert (frames(recordings, tmp_path).counts == first.counts).all()
    assert made(capsys) == 0


def test_many_recordings_are_made_by_all_cores(tmp_path, capsys):
    recordings = [write(tmp_path / f"{index}.bin", index) for index in range(300)]
    assert (frames(recordings, tmp_path).counts == expected(recordings)).all()
    assert made(capsys) == 300


@pytest.mark.parametrize("change", ["steps", "frame_by", "file", "order", "fewer"])
def test_whatever_shapes_the_frames_makes_others(recordings, tmp_path, capsys, change):
    frames(recordings, tmp_path)
    capsys.readouterr()
    options = {"steps": {"time_steps": 4}, "frame_by": {"frame_by": "count"}}.get(change, {})
    if change == "file":
        write(recordings[3].path, seed=99)
        os.utime(recordings[3].path, ns=(1, 1))
    if change == "order":
        recordings.reverse()
    if change == "fewer":
        recordings.pop()
    counts = frames(recordings, tmp_path, **options).counts
    assert made(capsys) == len(recordings)
    if not options:
        assert (counts == expected(recordings)).all()


def test_training_cannot_change_the_file(recordings, tmp_path):
    frames(recordings, tmp_path).counts[:] = 7
    assert (frames(recordings, tmp_path).counts == expected(recordings)).all()


# damage


def cache_file(tmp_path, name: str) -> Path:
    (path,) = (tmp_path / "cache").glob(f"set-*/{name}")
    return path


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("name", ["frames.uint8", "done.jsonl"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damage_is_found_and_mended(recordings, tmp_path, capsys, name, damage, seed):
    recordings = recordings[:8]
    right = frames(recordings, tmp_path).counts.copy()
    path = cache_file(tmp_path, name)
    content = bytearray(path.read_bytes())
    place = int(np.random.default_rng(seed).integers(len(content)))
    content[place] ^= 1 << seed
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"flip": content, "cut": content[:place], "empty": b""}[damage])
    capsys.readouterr()
    assert (frames(recordings, tmp_path).counts == right).all()
    # a flipped bit costs one recording (or, in what describes the file, all), a missing file all
    assert 0 <= made(capsys) <= 8 if damage in ("flip", "cut") else made(capsys) == 8
    assert (frames(recordings, tmp_path).counts == right).all()
    assert made(capsys) == 0


@pytest.mark.parametrize(
    "entry", ["[999, 1]", "[-1, 1]", "[1]", "{}", "[null, 2]", '["a", "b"]', "[1e400, 1]"]
)
def test_nonsense_in_the_journal_is_passed_over(recordings, tmp_path, entry):
    right = frames(recordings, tmp_path).counts.copy()
    with open(cache_file(tmp_path, "done.jsonl"), "a") as file:
        file.write(entry + "\n")
    assert (frames(recordings, tmp_path).counts == right).all()


BUILD = """
import sys
from pathlib import Path
from tcl_lib.data.events.cache import cached_frames
from tcl_lib.data.events.recordings import RecordingFile
folder, cache, side = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
files = sorted(folder.glob("*.bin"), key=lambda path: int(path.stem))
cached_frames("set", [RecordingFile(path, (side, side)) for path in files], 3, "time", cache)
"""


def build(tmp_path, side: int = 34, **options) -> subprocess.Popen:
    command = [sys.executable, "-c", BUILD, str(tmp_path), str(tmp_path / "cache"), str(side)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=REPOSITORY, **pipes, **options)


def entries(tmp_path) -> int:
    journals = list((tmp_path / "cache").glob("set-*/done.jsonl"))
    return journals[0].read_bytes().count(b"\n") if journals else 0


@pytest.mark.parametrize("after", [1, 200, 500])
def test_a_killed_build_goes_on_where_it_stopped(tmp_path, capsys, after):
    recordings = [write(tmp_path / f"{index}.bin", index, events=20_000) for index in range(600)]
    process = build(tmp_path, start_new_session=True)
    while entries(tmp_path) < after:
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    done = entries(tmp_path)
    assert after <= done < 600
    assert (frames(recordings, tmp_path).counts == expected(recordings)).all()
    assert made(capsys) <= 600 - after


def test_a_second_process_waits_for_the_first(recordings, tmp_path):
    frames(recordings, tmp_path)
    with FileLock(cache_file(tmp_path, "lock")):
        process = build(tmp_path)
        assert process.stdout.readline() == "another process is making the frames of set, waiting for it\n"
        assert process.poll() is None
    out, errors = process.communicate()
    assert (process.returncode, out) == (0, ""), errors


def test_a_full_disk_is_said_before_any_work(tmp_path):
    write(tmp_path / "0.bin", 0)
    limit = (1000, 1000)
    process = build(tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit))
    _, errors = process.communicate()
    assert process.returncode != 0
    last = errors.strip().splitlines()[-1]
    assert "the frames of 1 recordings, [3, 2, 34, 34] each, need 0.0 MB here (File too large)" in last
    assert "frames.uint8" in last


PEAKS = """
import psutil
processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
statuses = [Path(f"/proc/{process.pid}/status").read_text() for process in processes]
print([1024 * int(status.split("VmHWM:")[1].split()[0]) for status in statuses])
"""


def test_memory_does_not_grow_with_the_recordings(tmp_path):
    script = BUILD + PEAKS
    for index in range(500):
        write(tmp_path / f"{index}.bin", index, side=200)
    command = [sys.executable, "-c", script, str(tmp_path), str(tmp_path / "cache"), "200"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    size = cache_file(tmp_path, "frames.uint8").stat().st_size
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

    def read(self) -> Events:
        zero = np.zeros(self.count, np.int64)
        return Events(zero, zero, zero, zero, (34, 34))


@pytest.mark.parametrize(("count", "dtype"), [(255, np.uint8), (256, np.uint16), (65_535, np.uint16)])
def test_a_count_takes_two_bytes_where_it_needs_them(recordings, tmp_path, capsys, count, dtype):
    with_burst = [*recordings, Burst(count)]
    counts = frames(with_burst, tmp_path).counts
    assert counts.dtype == dtype
    assert counts[-1].sum() == counts[-1, 0, 0, 0, 0] == count
    assert (counts[:-1] == expected(recordings)).all()
    capsys.readouterr()
    frames(with_burst, tmp_path)
    assert made(capsys) == 0


def test_a_count_beyond_two_bytes_is_refused(recordings, tmp_path):
    with pytest.raises(
        ValueError, match=r"burst: a pixel has 65536 events in a frame.*give more than time_steps=3"
    ):
        frames([*recordings, Burst(65_536)], tmp_path)


@pytest.mark.parametrize("place", [0, 30, COUNT - 1])
def test_a_bad_recording_is_named_or_left_out(recordings, tmp_path, capsys, place):
    recordings[place].path.write_bytes(b"abc")
    with pytest.raises(ValueError, match=rf"/{place}\.bin: is cut off"):
        frames(recordings, tmp_path)
    sound = frames(recordings, tmp_path, skip_bad=True)
    assert list(sound.bad) == [place]
    assert "is cut off: 3 bytes" in sound.bad[place]
    kept = [index for index in range(COUNT) if index != place]
    assert (sound.counts[kept] == expected([recordings[index] for index in kept])).all()
    with pytest.raises(ValueError, match=rf"/{place}\.bin: is cut off"):
        frames(recordings, tmp_path)  # what was left out once is not passed over now


def test_recordings_of_two_sensors_are_refused(recordings, tmp_path):
    other = write(tmp_path / "other.bin", 0, side=20)
    with pytest.raises(ValueError, match=r"other\.bin: is of a 20x20 sensor, but .*/0\.bin of 34x34"):
        frames([*recordings, other], tmp_path, skip_bad=True)  # it may be the first that does not belong


def test_nothing_but_bad_recordings_is_an_error(recordings, tmp_path):
    for recording in recordings:
        recording.path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"0\.bin: and every other recording is bad"):
        frames(recordings, tmp_path, skip_bad=True)
