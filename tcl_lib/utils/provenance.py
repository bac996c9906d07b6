"""The versions and the commit that a run is made with. Imports no torch."""

import platform
import subprocess
import sys
from importlib import metadata

from tcl_lib.utils.paths import CHECKOUT

PACKAGES = (
    "tcl-lib",
    "torch",
    "torchvision",
    "norse",
    "lightning-fabric",
    "numpy",
    "scikit-learn",
    "papermill",
)


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES}


def git_commit() -> str | None:
    """Return the commit of the clone that the package is imported from, None for an installed package.

    "+changes" behind it means that tracked files differ from the commit.
    """

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(CHECKOUT), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    try:
        if CHECKOUT is None or not CHECKOUT.samefile(git("rev-parse", "--show-toplevel")):
            return None  # not the commit of another repository around this folder
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def check_torch() -> None:
    """Raise ImportError, in one line with the remedy, where torch and torchvision do not fit each other."""
    try:
        import torchvision  # noqa: F401  (registers its operators with torch, or fails)
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
