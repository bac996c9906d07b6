"""Atomic writes, checksums and locks of files. Imports no torch."""

import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

Bytes = bytes | memoryview


class Damaged(ValueError):
    """A file does not fit its checksum or cannot be parsed; the message names it."""


# Bytes of the SHA-256 at the end of a sealed file.
SEAL = hashlib.sha256().digest_size


def read(path: Path) -> bytes:
    """Return the content of a file. Raises OSError that names it where it cannot be read."""
    with named(path, verb="read"):
        return path.read_bytes()


def write(path: Path, *content: str | Bytes) -> None:
    """Write a file beside its place, flush it to the disk, and rename it. Text is written as UTF-8.

    Raises OSError that names the file, the space it needs and the free space; an existing file is kept.
    """
    parts = [part.encode() if isinstance(part, str) else part for part in content]
    size = sum(memoryview(part).nbytes for part in parts)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with named(path, size):
        try:
            with open(temporary, "wb") as file:
                for part in parts:
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            if temporary.stat().st_size != size:
                raise OSError(errno.EIO, f"{temporary.stat().st_size} of {size} bytes arrived")
            replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def write_sealed(path: Path, *content: Bytes) -> None:
    """Do `write`, with a checksum appended to the content."""
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    write(path, *content, digest.digest())


def read_sealed(path: Path) -> memoryview:
    """Return the content of a file that `write_sealed` wrote.

    Raises Damaged where it does not fit its checksum, OSError where it cannot be read.
    """
    with named(path, verb="read"), open(path, "rb") as file:
        content = memoryview(bytearray(os.fstat(file.fileno()).st_size))  # writable, as torch wants it
        file.readinto(content)
    content, seal = content[:-SEAL], content[-SEAL:]
    if hashlib.sha256(content).digest() != seal:
        raise Damaged(f"{path}: is damaged (its checksum does not fit)")
    return content


def stamp(path: Path) -> list:
    """Return what changes with a file's content: its path, its size, times of modification and change.

    The time of change (of the inode; on Windows that of creation) is the system's alone: a copy that keeps
    the time of modification has another one.
    """
    status = os.stat(path)
    return [os.fspath(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def make_folder(path: Path) -> None:
    """Create a folder and its parents. Raises OSError that names it."""
    with named(path):
        path.mkdir(parents=True, exist_ok=True)


def replace(source: Path, target: Path) -> None:
    """Rename a file, replacing the target, and flush the folder to the disk."""
    os.replace(source, target)
    if os.name == "posix":  # where a folder can be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:  # some network file systems do not support it
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(folder)


def try_lock(path: Path) -> FileLock | None:
    """Return a lock, None where another process holds it. The system frees it when its process ends.

    Raises OSError that names the file where it cannot be created.
    """
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    except OSError as error:
        with named(path):
            raise error
    return lock


@contextmanager
def held(folder: Path, what: str) -> Iterator[None]:
    """Hold a cache's folder, made where there is none, and wait for another process that holds it.

    Temporary files that killed processes left there are deleted. A folder that cannot be written to is not
    held, as nobody writes to it. `what` names the content in a message.
    """
    try:
        make_folder(folder)
        lock = try_lock(folder / "lock")
    except OSError:
        yield
        return
    if lock is None:
        log.info("waiting for another process that makes or reads %s", what)
        lock = FileLock(folder / "lock")
        lock.acquire()
    try:
        remove_leftovers(folder)
        yield
    finally:
        remove_leftovers(folder)
        lock.release()


def delete(path: Path) -> None:
    """Delete a file if it is there. Raises OSError that names it."""
    with named(path, verb="deleted"):
        path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that killed processes left in a folder that only this process writes to.

    Folders are not ours and stay.
    """
    for path in folder.glob("*.tmp"):
        if not path.is_dir():
            delete(path)


@contextmanager
def named(path: Path, size: int = 0, verb: str = "written") -> Iterator[None]:
    """Re-raise an OSError with the file or folder, the space needed and the free space in its message."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        if isinstance(error, IsADirectoryError):
            reason = "a folder is in the place of the file; move it away"
        space = f", {size:,} bytes are needed and {_free(path)}" if size else ""
        raise OSError(error.errno, f"cannot be {verb}{space} ({reason})", str(path)) from error


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free:,} are free there"
    except OSError:
        return "the folder is not there"
