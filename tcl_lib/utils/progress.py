"""Progress bars, drawn only where somebody sees them move."""

import io
import os
import sys
from contextlib import AbstractContextManager, nullcontext, redirect_stderr

from tqdm import tqdm


def watched() -> bool:
    """Return whether output goes to a terminal or to a notebook that is open in Jupyter.

    Under papermill every redrawing would be stored in the notebook. Jupyter's server tells its kernels the
    notebook's name; papermill does not.
    """
    return sys.stdout.isatty() or "JPY_SESSION_NAME" in os.environ


def progress_bar(
    total: int, done: int = 0, unit: str = "it", name: str | None = None, hidden: bool = False
) -> tqdm:
    """Return a progress bar that disappears at its end and is drawn only if `watched` and not hidden."""
    return tqdm(
        total=total,
        desc=name,
        initial=done,
        unit=unit,
        leave=False,
        mininterval=0.5,
        file=sys.stdout,  # Jupyter paints what goes to stderr red
        disable=hidden or not watched(),
    )


def hidden_bars() -> AbstractContextManager:
    """Return a context that hides other libraries' progress bars (on stderr) unless `watched`."""
    return nullcontext() if watched() else redirect_stderr(io.StringIO())
