"""Where runs, data and caches go."""

import os
from pathlib import Path


def _checkout() -> Path | None:
    """Return the clone that the package is imported from; None for an installed package."""
    parent = Path(__file__).resolve().parents[2]
    try:
        return parent if 'name = "tcl-lib"' in (parent / "pyproject.toml").read_text() else None
    except OSError:
        return None


CHECKOUT = _checkout()


def home() -> Path:
    """Return the folder that relative paths start at.

    It is the environment variable TCL_HOME if that is set, else the clone that the package is imported from,
    else (for an installed package) the current folder.
    """
    return Path(os.environ.get("TCL_HOME") or CHECKOUT or Path.cwd()).expanduser().resolve()


def absolute(folder: str | Path) -> Path:
    """Return a path as an absolute one; a relative path starts at `home`."""
    return Path(os.path.normpath(home() / os.path.expanduser(folder)))


def existing(folder: str | Path, what: str) -> Path:
    """Return a folder that exists; a relative path starts here or at `home`.

    Raises FileNotFoundError where there is none: "<folder>: is not <what>".
    """
    here = Path(os.path.expanduser(folder))
    for path in (here, home() / here):
        if path.is_dir():
            return path
    raise FileNotFoundError(f"{path}: is not {what}")


def relative(path: Path) -> str:
    """Return an absolute path relative to `home` where it lies inside, with forward slashes."""
    return (path.relative_to(home()) if path.is_relative_to(home()) else path).as_posix()


def cache() -> Path:
    """Return the folder of decoded images, event frames and compiled neurons; it may be deleted any time."""
    return home() / "data" / "cache"
