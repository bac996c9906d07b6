"""Parameters checked against their annotations by pydantic, with errors of one line."""

import difflib
import math
import re
from collections.abc import Collection, Iterable, Mapping
from functools import cache, wraps
from typing import Annotated, Any, get_args, get_type_hints

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, AllowInfNan, ConfigDict, TypeAdapter, ValidationError


class Rule(AfterValidator):
    """A function that checks a value; `help` shows its name."""

    def __repr__(self) -> str:
        return self.func.__name__.strip("_")


def _folder(value: str) -> str:
    if value == "" or "\0" in value:
        raise ValueError("must be the path of a folder")
    return value


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", value):
        raise ValueError(
            "must be up to 100 letters, digits, '.', '_' and '-', starting with a letter or digit"
        )
    return value


def _size(value: list[int]) -> list[int]:
    if len(value) != 2 or not all(1 <= side <= 10_000 for side in value):
        raise ValueError("must be [width, height], two whole numbers from 1 to 10000")
    return value


def _plugin(value: str) -> str:
    if not value or "\0" in value:
        raise ValueError("must be a file that ends with .py, or the name of a module")
    return value


def one_of(table: Collection[str]) -> Any:
    """Return the annotation of a name in a table, which may still grow."""

    def registered(value: str) -> str:
        if value not in table:
            *others, last = (repr(name) for name in table)
            close = difflib.get_close_matches(value, table, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise ValueError(f"must be {', '.join(others)} or {last}{hint}")
        return value

    registered.table = table  # for docs/make_parameters.py
    return Annotated[str, Rule(registered)]


AtLeast1 = Annotated[int, Ge(1)]
AtLeast2 = Annotated[int, Ge(2)]
NotNegative = Annotated[int, Ge(0)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
Positive = Annotated[float, Gt(0)]
Weight = Annotated[float, Ge(0)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
Fraction = Annotated[float, Gt(0), Le(0.5)]
Threshold = Annotated[float, AllowInfNan(True), Ge(-math.inf)]  # NaN is below all
Size = Annotated[list[int], Rule(_size)]
Folder = Annotated[str, Rule(_folder)]
Name = Annotated[str, Rule(_name)]
Plugin = Annotated[str, Rule(_plugin)]


def refuse_unknown(cls: type) -> type:
    """Have a dataclass refuse an unknown parameter with the nearest known one, in a ValueError."""
    create = cls.__init__

    @wraps(create)
    def __init__(self, *arguments, **parameters):
        for name in parameters:
            if name not in cls.__dataclass_fields__:
                raise ValueError(unknown(name, cls.__dataclass_fields__))
        create(self, *arguments, **parameters)

    cls.__init__ = __init__
    return cls


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the error message for a parameter that does not exist."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return f"unknown parameter {name}, {hint}"


def check_fields(parameters: Any) -> None:
    """Check every field of a frozen dataclass against its annotation, as `checked` does."""
    values = {name: getattr(parameters, name) for name in parameters.__dataclass_fields__}
    for name, value in checked_fields(type(parameters), values).items():
        object.__setattr__(parameters, name, value)


def checked_fields(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values for fields of a dataclass, each `checked` against its annotation."""
    annotations = _annotations(cls)
    return {name: checked(name, value, annotations[name]) for name, value in values.items()}


@cache
def _annotations(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def checked(name: str, value: Any, annotation: Any) -> Any:
    """Return the value if it fits its annotation: an int becomes a float where one belongs, a list is copied.

    Raises ValueError, in one line that names the parameter, the value and what is allowed.
    """
    try:
        # pydantic takes True for the 1 of a Literal; `...` fits no annotation
        refused = isinstance(value, bool) and bool not in (annotation, *get_args(annotation))
        value = _adapter(annotation).validate_python(... if refused else value)
        return value + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0
    except ValidationError as error:
        raise ValueError(f"{name}={value!r}: {_allowed(error, annotation)}{_hint(name, value)}") from None


@cache
def _adapter(annotation: Any) -> TypeAdapter:
    return TypeAdapter(annotation, config=ConfigDict(strict=True, allow_inf_nan=False))


def _allowed(error: ValidationError, annotation: Any) -> str:
    """Return what is allowed, in pydantic's words or those of a validator here."""
    first = error.errors(include_url=False)[0]
    if first["type"] == "value_error":
        words = str(first["ctx"]["error"])
    else:
        words = re.sub(r"^\w+ should", "must", first["msg"])
    words = words.replace("a valid boolean", "True or False")
    if isinstance(first["loc"][-1] if first["loc"] else None, int):
        words = words.replace("must be", f"item {first['loc'][-1]} must be")
    return f"{words}, or None" if type(None) in get_args(annotation) else words


def _hint(name: str, value: Any) -> str:
    """Return how papermill's command line or a YAML file has to say what arrived as text."""
    if not isinstance(value, str):
        return ""
    if value.lower() in ("true", "false"):
        return f" (on papermill's command line: -p {name} {value.capitalize()})"
    if value.startswith("["):
        return f" (on papermill's command line: -y '{name}: {value}')"
    if re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
        mantissa, _, exponent = value.lower().partition("e")
        return f" (this is text: in YAML write {mantissa}.0e{exponent})"
    return ""
