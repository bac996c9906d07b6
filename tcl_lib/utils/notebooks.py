"""Notebooks: the parameters that their cells and papermill set, and messages shown below a cell."""

import ast
import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tcl_lib.utils import paths
from tcl_lib.utils.checks import Folder, checked, unknown


class _Output(logging.Handler):
    """Writes messages to stdout, above a progress bar: Jupyter paints what goes to stderr red."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


def show_messages() -> None:
    """Print what the library logs, and warnings, in one line each below the cell that caused them."""
    log = logging.getLogger("tcl_lib")
    log.setLevel(logging.INFO)
    log.handlers = [_Output()]
    log.propagate = False  # other packages may print what reaches the root logger
    warnings.showwarning = lambda message, *where: tqdm.write(f"warning: {message}")


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
