"""What a run stands on: the versions, the commit, whether somebody watches. Imports no torch."""

import io
import os
import platform
import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from importlib import metadata

from tqdm import tqdm

from tcl_lib.config import REPOSITORY

PACKAGES = ("torch", "torchvision", "norse", "lightning-fabric", "numpy", "scikit-learn", "papermill")


def versions() -> dict[str, str]:
    """Of Python and of the packages that numbers depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """The repository's commit, "+changes" behind it where tracked files differ; None where there is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def watched() -> bool:
    """Whether somebody sees a progress bar move: in a terminal, or in a notebook open in Jupyter.

    Under papermill every redrawing would be stored in the notebook. Jupyter's server tells its kernels the
    notebook's name; papermill does not.
    """
    return sys.stdout.isatty() or "JPY_SESSION_NAME" in os.environ


def progress_bar(total: int, done: int = 0, unit: str = "it", name: str | None = None) -> tqdm:
    """A bar that vanishes at its end, drawn where somebody watches."""
    return tqdm(
        total=total,
        desc=name,
        initial=done,
        unit=unit,
        leave=False,
        mininterval=0.5,
        file=sys.stdout,  # Jupyter paints what goes to stderr red
        disable=not watched(),
    )


def hidden_bars() -> AbstractContextManager:
    """While open, libraries' progress bars (on stderr) are drawn where somebody watches, as ours are."""
    return nullcontext() if watched() else redirect_stderr(io.StringIO())


def check_torch() -> None:
    """Raise ImportError, in one line with the remedy, unless torch and torchvision are a pair."""
    try:
        import torchvision  # noqa: F401  (it registers its operators with torch, or fails)
    except (ImportError, OSError, RuntimeError) as error:
        installed = {name: metadata.version(name) for name in ("torch", "torchvision")}
        raise ImportError(
            f"torch {installed['torch']} and torchvision {installed['torchvision']} do not work together"
            f" ({str(error).splitlines()[0]}); install the pair of constraints.txt: make setup"
        ) from error


if __name__ == "__main__":
    try:
        check_torch()
    except ImportError as error:
        sys.exit(f"error: {error}")
