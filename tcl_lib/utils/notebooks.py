"""Notebooks: the parameters that their cells and papermill set, and messages shown below a cell."""

import ast
import logging
import traceback
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tcl_lib.utils import paths
from tcl_lib.utils.checks import Folder, checked, unknown

OURS = ("tcl_lib", "benchmarks")


class _Output(logging.Handler):
    """Writes messages to stdout, above a progress bar: Jupyter paints what goes to stderr red."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


def show_messages() -> None:
    """Print what the library logs, and warnings, in one line each below the cell that caused them.

    An error that this package raises is shown by its message alone; `%tb` shows where it was raised.
    """
    log = logging.getLogger("tcl_lib")
    log.setLevel(logging.INFO)
    log.handlers = [_Output()]
    log.propagate = False  # other packages may print what reaches the root logger
    warnings.showwarning = lambda message, *where: tqdm.write(f"warning: {message}")
    from IPython.core.getipython import get_ipython  # only notebooks need IPython

    if (shell := get_ipython()) is not None:
        shell.set_custom_exc((Exception,), _show_error)


def _show_error(shell: Any, kind: type, error: Exception, trace: Any, tb_offset: int | None = None):
    """Show an error in IPython: without the traceback where the last of its code is this package's."""
    *_, (last, _) = traceback.walk_tb(trace)
    if last.f_globals.get("__name__", "").split(".")[0] in OURS:
        # IPython asks the error itself for its lines
        error._render_traceback_ = lambda: [f"{kind.__name__}: {error}", "(%tb shows where it was raised)"]
    shell.showtraceback((kind, error, trace), tb_offset=tb_offset)
    vars(error).pop("_render_traceback_", None)


def parameters(namespace: dict, names: Iterable[str], also: Iterable[str] = ()) -> dict[str, Any]:
    """Return the parameters in a notebook's `globals()`, after its parameters cell: name -> value.

    Args:
        namespace: the notebook's `globals()`.
        names: the parameters to return.
        also: further parameters of the notebook.

    papermill only warns about an unknown name and continues with the defaults. The cell it injects starts
    with the comment "Parameters" and is in IPython's history `In`. Raises ValueError for a name
    that is unknown there, with the nearest known one, and for a parameter without a value.
    """
    names = list(names)
    known = [*names, *also]
    injected = [code for code in namespace.get("In", []) if code.startswith("# Parameters\n")]
    for code in injected[-1:]:  # the last one: a corrected cell that is run again is there twice
        for statement in ast.parse(code).body:
            for target in statement.targets if isinstance(statement, ast.Assign) else []:
                if isinstance(target, ast.Name) and target.id not in known:
                    raise ValueError(unknown(target.id, known))
    for name in known:
        if name not in namespace:
            raise ValueError(f"parameter {name} is missing: run the parameters cell first")
    return {name: namespace[name] for name in names}


def folder(name: str, value: str | None, default: str) -> Path:
    """Return a parameter that names a folder as an absolute path. Raises ValueError where it is no path."""
    return paths.absolute(checked(name, value, Folder | None) or default)
