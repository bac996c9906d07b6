"""Files that are whole or not there, sealed files, locks: with real limits and real processes."""

import os
import resource
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tcl_lib.utils import files


@contextmanager
def limited(size: int):
    """While open, this process writes no file larger than so many bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    files.write(path, "before ü\n")
    assert path.read_bytes() == b"before \xc3\xbc\n"  # the same on every system
    words = r"cannot be written, 2,000,000 bytes are needed and [\d,]+ are free"
    with pytest.raises(OSError, match=words) as e, limited(1000):
        files.write(path, bytes(1_999_000), bytes(1_000))
    assert e.value.filename == str(path)
    assert "File too large" in str(e.value)
    assert path.read_text() == "before ü\n"
    assert list(tmp_path.iterdir()) == [path]
    files.write(path, memoryview(np.arange(3, dtype=np.uint8)), b"after")
    assert path.read_bytes() == b"\0\1\2after"


def test_a_folder_that_takes_no_files_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match=rf"cannot be written .*: '{tmp_path}/file/folder'"):
        files.make_folder(tmp_path / "file" / "folder")
    with pytest.raises(FileNotFoundError, match="4 bytes are needed and the folder is not there"):
        files.write(tmp_path / "none" / "file", "text")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs a file system that nobody can write to")
def test_a_folder_that_is_not_writable_is_named():
    with pytest.raises(OSError, match=r"cannot be written, .*/proc/self/file"):
        files.write(Path("/proc/self/file"), "text")


def test_what_is_sealed_is_read_as_it_was_written(tmp_path):
    path = tmp_path / "file"
    for content in (b"", b"some", bytes(range(256)) * 100):
        files.write_sealed(path, content[:7], content[7:])
        assert bytes(files.read_sealed(path)) == content


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("damage", ["flip", "cut", "grown"])
def test_damage_to_a_sealed_file_is_found_wherever_it_is(tmp_path, damage, seed):
    path = tmp_path / "file"
    files.write_sealed(path, np.random.default_rng(seed).bytes(300))
    content = bytearray(path.read_bytes())
    place = int(np.random.default_rng([seed, 1]).integers(len(content)))
    content[place] ^= 1 << seed % 8
    path.write_bytes({"flip": content, "cut": content[:place], "grown": content + b"\0"}[damage])
    with pytest.raises(files.Damaged, match=rf"^{path}: is damaged"):
        files.read_sealed(path)


HOLD = """
import sys, time
from pathlib import Path
from tcl_lib.utils import files
lock = files.try_lock(Path(sys.argv[1]))
print(lock is not None, flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_by_one_process_and_freed_by_its_death(tmp_path):
    path = tmp_path / "lock"
    other = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    assert files.try_lock(path) is None
    other.kill()
    other.wait()
    lock = files.try_lock(path)
    assert lock is not None
    assert files.try_lock(path) is None
    lock.release()
    with pytest.raises(OSError, match=r"cannot be written .*lock/lock"):
        files.try_lock(path / "lock")


def test_what_killed_processes_left_is_removed(tmp_path):
    (tmp_path / "file.123.tmp").write_text("half")
    (tmp_path / "file").write_text("whole")
    (tmp_path / "folder.tmp").mkdir()  # somebody else's
    files.remove_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.tmp"]
