"""Files that are written whole or not at all, and read only as they were written. Imports no torch."""

import errno
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

Bytes = bytes | memoryview


class Damaged(ValueError):
    """A file is not as it was written; the message names it."""


# Behind the content of a sealed file: its SHA-256.
SEAL = hashlib.sha256().digest_size


def write(path: Path, *content: str | Bytes) -> None:
    """Put a file in place: when it is complete and on the disk, and never before. Text is written as UTF-8.

    Raises OSError that names the file, the space it needs and the space there is; what was there is left.
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
    """`write` with a checksum behind the content."""
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    write(path, *content, digest.digest())


def read_sealed(path: Path) -> memoryview:
    """What `write_sealed` wrote.

    Raises Damaged that names the file where it is anything else, OSError where it cannot be read.
    """
    with open(path, "rb") as file:
        content = memoryview(bytearray(os.fstat(file.fileno()).st_size))  # to be written to: torch wants it
        file.readinto(content)
    content, seal = content[:-SEAL], content[-SEAL:]
    if hashlib.sha256(content).digest() != seal:
        raise Damaged(f"{path}: is damaged (its checksum does not fit)")
    return content


def make_folder(path: Path) -> None:
    """Make a folder and those above it. Raises OSError that names it."""
    with named(path):
        path.mkdir(parents=True, exist_ok=True)


def replace(source: Path, target: Path) -> None:
    """Rename a file, another one of the target's name being replaced, and see it to the disk."""
    os.replace(source, target)
    if os.name == "posix":  # where a folder can be opened
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        except OSError as error:  # some network file systems know no such thing
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
        finally:
            os.close(folder)


def try_lock(path: Path) -> FileLock | None:
    """Take a lock; None where another process holds it. The system frees it when its process ends.

    Raises OSError that names the file where there cannot be one.
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


def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed while writing left in a folder that only this one writes to."""
    for path in folder.glob("*.tmp"):
        path.unlink(missing_ok=True)


@contextmanager
def named(path: Path, size: int = 0) -> Iterator[None]:
    """Raise an OSError from in here as one that names the file or folder and the space that a file needs."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        space = f", {size:,} bytes are needed and {_free(path)}" if size else ""
        raise OSError(error.errno, f"cannot be written{space} ({reason})", str(path)) from error


def _free(path: Path) -> str:
    try:
        return f"{shutil.disk_usage(path.parent).free:,} are free there"
    except OSError:
        return "the folder is not there"
