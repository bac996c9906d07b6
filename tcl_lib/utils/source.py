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

    For a function of a file it is the SHA-256 of the file, with the values that the function closes over. For
    one of a notebook's cell it covers its source, the functions of the notebook that it calls, and the values
    that it reads, also as defaults.

    Raises ValueError where the source cannot be read, and for a value that is not plain, such as a tensor.
    """
    parts = _parts(function, [])
    if len(parts) == 1 and in_file(function):
        return parts[0]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def in_file(thing: Any) -> bool:
    """Return whether a function or class is of a file, not of a notebook's cell."""
    return _file(thing) is not None


def _file(thing: Any) -> str | None:
    return getattr(sys.modules.get(thing.__module__), "__file__", None)


def _code(function: FunctionType) -> str:
    """Return the SHA-256 of a function's file, or the source of one of a cell."""
    try:
        return of_file(file) if (file := _file(function)) else inspect.getsource(function)
    except (OSError, TypeError):
        raise ValueError(
            f"{function.__name__}: its source cannot be read; define it in a file or in a notebook's cell"
        ) from None


def _parts(function: FunctionType, seen: list[FunctionType]) -> list[str]:
    """Return the source of a function and of what it calls, and the values that it reads."""
    seen.append(function)
    parts = [_code(function)]
    for name, value in sorted(_values(function, first=len(seen) == 1).items()):
        closed_over = name in function.__code__.co_freevars
        if inspect.ismodule(value):
            continue
        if isinstance(value, FunctionType) and (closed_over or not in_file(value)):
            parts += _parts(value, seen) if value not in seen else []
        elif hasattr(value, "__qualname__") and (in_file(value) or value.__module__ == "builtins"):
            parts.append(f"{name} = {value.__module__}.{value.__qualname__}")
        else:
            try:
                parts.append(f"{name} = {json.dumps(value)}")
            except TypeError:
                raise ValueError(
                    f"{function.__name__}: reads {name}, a {type(value).__name__}; define it in a file"
                    " (in a notebook it may read numbers, texts and lists of them)"
                ) from None
    return parts


def _values(function: FunctionType, first: bool) -> dict[str, Any]:
    """Return what a function closes over, and for one of a cell its globals and defaults too."""
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    values = dict(zip(function.__code__.co_freevars, cells, strict=True))
    if in_file(function):
        return values
    if not first:  # the first function is given all its arguments
        arguments = inspect.signature(function).parameters.values()
        values |= {each.name: each.default for each in arguments if each.default is not each.empty}
    known = function.__globals__
    return values | {name: known[name] for name in _globals(function.__code__) & known.keys()}


def names_read(function: FunctionType) -> set[str]:
    """Return the names that a function reads and does not take.

    For a function of a file they are those that the file does not define. For one of a notebook's cell they
    are all, and those that the functions of the notebook read which it calls.
    """
    names = _globals(function.__code__)
    if in_file(function):
        return names - function.__globals__.keys()
    seen: list[FunctionType] = []
    _parts(function, seen)
    return names.union(*(_globals(called.__code__) for called in seen if not in_file(called)))


def _globals(code: CodeType) -> set[str]:
    """Return which global names a function reads, also in functions inside it."""
    found = {step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL"}
    return found.union(*(_globals(constant) for constant in code.co_consts if isinstance(constant, CodeType)))
