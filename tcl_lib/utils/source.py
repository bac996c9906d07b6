"""Hashes of source code: what the result of somebody else's function depends on."""

import dis
import hashlib
import inspect
import json
import sys
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any


def of_file(path: str | Path) -> str:
    """Return the SHA-256 of a file. Raises OSError where it cannot be read."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def of_function(function: FunctionType) -> str:
    """Return a hash of what a function is made of.

    For a function of a file it is the SHA-256 of the file. For one of a notebook's cell it covers its source,
    the functions of the notebook that it calls, and the values that it reads, also as defaults.

    Raises ValueError where the source cannot be read, and for a value that is not plain, such as a tensor.
    """
    if function.__closure__ is None and (file := _file(function)):
        return of_file(file)
    return hashlib.sha256("\n".join(_parts(function, [])).encode()).hexdigest()


def _file(thing: Any) -> str | None:
    return getattr(sys.modules.get(thing.__module__), "__file__", None)


def _parts(function: FunctionType, seen: list[FunctionType]) -> list[str]:
    """Return the source of a function and of what it calls, and the values that it reads."""
    seen.append(function)
    try:
        parts = [inspect.getsource(function)]
    except (OSError, TypeError):
        raise ValueError(
            f"{function.__name__}: its source cannot be read; define it in a file or in a notebook's cell"
        ) from None
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    values = dict(zip(function.__code__.co_freevars, cells, strict=True))
    if len(seen) > 1:  # the first function is given all its arguments
        arguments = inspect.signature(function).parameters.values()
        values |= {each.name: each.default for each in arguments if each.default is not each.empty}
    values |= {
        name: function.__globals__[name] for name in read(function.__code__) & function.__globals__.keys()
    }
    for name, value in sorted(values.items()):
        if inspect.ismodule(value):
            continue
        if callable(value) and (_file(value) or value.__module__ == "builtins"):
            parts.append(f"{name} = {value.__module__}.{value.__qualname__}")
        elif isinstance(value, FunctionType):
            parts += _parts(value, seen) if value not in seen else []
        else:
            try:
                parts.append(f"{name} = {json.dumps(value)}")
            except TypeError:
                raise ValueError(
                    f"{function.__name__}: reads {name}, a {type(value).__name__}; define it in a file"
                    " (in a notebook it may read numbers, texts and lists of them)"
                ) from None
    return parts


def read(code: CodeType) -> set[str]:
    """Return which global names a function reads, also in functions inside it."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return found.union(*(read(constant) for constant in code.co_consts if isinstance(constant, CodeType)))
