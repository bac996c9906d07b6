"""The parameters of a notebook, as its cells and papermill have set them."""

import ast
import difflib
from collections.abc import Iterable
from typing import Any


def parameters(namespace: dict, names: Iterable[str], also: Iterable[str] = ()) -> dict[str, Any]:
    """The parameters of these names in a notebook's `globals()`, after its parameters cell: name -> value.

    `also` are further parameters that the notebook knows.

    papermill only warns about a name it does not know and goes on with the defaults. The cell it injects
    starts with the comment "Parameters" and stands in IPython's history `In`. Raises ValueError for a name
    that is unknown there, with the nearest known one, and for a known one that has no value.
    """
    names = list(names)
    known = [*names, *also]
    injected = [code for code in namespace.get("In", []) if code.startswith("# Parameters\n")]
    for code in injected[-1:]:  # run again with a mistake mended, the cell stands there twice
        for statement in ast.parse(code).body:
            for target in statement.targets if isinstance(statement, ast.Assign) else []:
                if isinstance(target, ast.Name) and target.id not in known:
                    raise ValueError(unknown(target.id, known))
    for name in known:
        if name not in namespace:
            raise ValueError(f"parameter {name} is missing: run the parameters cell first")
    return {name: namespace[name] for name in names}


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say of a parameter that does not exist."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"unknown parameter {name}, {hint}"
