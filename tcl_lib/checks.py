"""Checks of a parameter against its annotation: type, choices and bounds, declared where the field is."""

import math
import re
import types
from collections.abc import Callable
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints


class Bound(NamedTuple):
    """A condition on a value, and the words for it in an error."""

    words: str
    holds: Callable[[Any], bool]


AtLeast1 = Annotated[int, Bound("a whole number >= 1", lambda n: n >= 1)]
AtLeast2 = Annotated[int, Bound("a whole number >= 2", lambda n: n >= 2)]
AtLeast4 = Annotated[int, Bound("a whole number >= 4", lambda n: n >= 4)]
AtLeast16 = Annotated[int, Bound("a whole number >= 16", lambda n: n >= 16)]
NotNegative = Annotated[int, Bound("a whole number >= 0", lambda n: n >= 0)]
Seed = Annotated[int, Bound("a whole number from 0 to 4294967295", lambda n: 0 <= n < 2**32)]
Positive = Annotated[float, Bound("a number > 0", lambda x: x > 0)]
Weight = Annotated[float, Bound("a number >= 0", lambda x: x >= 0)]
BelowOne = Annotated[float, Bound("a number >= 0 and < 1", lambda x: 0 <= x < 1)]
Fraction = Annotated[float, Bound("a number > 0 and <= 0.5", lambda x: 0 < x <= 0.5)]
Size = Annotated[
    list[AtLeast1],
    Bound(
        "[width, height], two whole numbers from 1 to 10000",
        lambda size: len(size) == 2 and max(size) <= 10_000,
    ),
]
Folder = Annotated[str, Bound("a folder's path", lambda s: s != "" and "\0" not in s)]
Name = Annotated[
    str,
    Bound(
        "up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit",
        lambda s: re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", s) is not None,
    ),
]

_MISFIT = object()


def check_fields(parameters: Any) -> None:
    """Put every field of a frozen dataclass in the form of its annotation, as `checked` has it."""
    for name, annotation in get_type_hints(type(parameters), include_extras=True).items():
        object.__setattr__(parameters, name, checked(name, getattr(parameters, name), annotation))


def checked(name: str, value: Any, annotation: Any) -> Any:
    """The value as its annotation has it: an int where a float belongs becomes one, a list is copied.

    Raises ValueError, in one line that names the parameter, the value and what is allowed.
    """
    fit = _fit(value, annotation)
    if fit is _MISFIT:
        allowed, hint = _words(annotation), ""
        if isinstance(value, str) and "True or False" in allowed:
            hint = f" (on papermill's command line: -p {name} False)"
        if isinstance(value, str) and value.startswith("["):
            hint = f" (on papermill's command line: -y '{name}: {value}')"
        raise ValueError(f"{name}={value!r}: must be {allowed}{hint}")
    return fit


def _fit(value: Any, annotation: Any) -> Any:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        fits = (_fit(value, option) for option in arguments)
        return next((fit for fit in fits if fit is not _MISFIT), _MISFIT)
    if origin is Annotated:
        kind, bound = arguments
        fit = _fit(value, kind)
        return fit if fit is not _MISFIT and bound.holds(fit) else _MISFIT
    if origin is Literal:
        return value if isinstance(value, str) and value in arguments else _MISFIT
    if origin is list:
        if not isinstance(value, list):
            return _MISFIT
        items = [_fit(item, arguments[0]) for item in value]
        return _MISFIT if any(item is _MISFIT for item in items) else items
    if annotation is float:
        return _finite_float(value)
    # type() and not isinstance(): True is an int to Python, but no number of epochs
    return value if type(value) is annotation else _MISFIT


def _finite_float(value: Any) -> Any:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return _MISFIT
    try:
        number = float(value)
    except OverflowError:
        return _MISFIT
    return number if math.isfinite(number) else _MISFIT


def _words(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(option) for option in arguments)
    if origin is Annotated:
        return arguments[1].words
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is list:
        return f"a list of any of {_words(arguments[0]).removeprefix('one of ')}"
    return {bool: "True or False", type(None): "None"}[annotation]
