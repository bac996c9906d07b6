"""`register_loss` and `register_backbone`: losses and backbones of your own, as names for `RunConfig`."""

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from matplotlib.colors import is_color_like, to_rgba
from matplotlib.markers import MarkerStyle

from tcl_lib.config import registry
from tcl_lib.config.registry import CE_TERMS, LOSSES, TEMPORAL_TERMS, Backbone, Loss, Term
from tcl_lib.config.run_config import RunConfig
from tcl_lib.utils import checks, source

# Names that a function must not take: columns of tables, and the terms that are there.
TAKEN = ("epoch", "loss", "lr", "seconds", "data", "run", "setting", "variant", "tuned", "seed")
TAKEN += ("time_steps", "events", "threads", "processor", "fingerprint", "firing_rate")
TAKEN += ("cross_entropy", "train_accuracy", *CE_TERMS, *TEMPORAL_TERMS)
# What every backbone is called with.
ARGUMENTS = ("channels", "image_size", "num_classes", "neuron", "time_steps", "projection_dim")


def register_loss(
    name: str,
    *,
    label: str,
    ce_term: str | Callable = "mean",
    temporal_term: str | Callable = "none",
    views: int = 1,
    colour: str | None = None,
    marker: str | None = None,
) -> None:
    """Add a loss to those that `RunConfig` knows.

    Args:
        name: what `RunConfig(loss=...)` calls it.
        label: its name in tables and figures.
        ce_term: the name of a cross-entropy, or a function in its place.
        temporal_term: the name of a temporal term, or a function.
        views: augmented views of every sample; two of them may be positives of each other.
        colour: of its curves, for matplotlib; None for the next of the palette.
        marker: of its curves, for matplotlib; None for the next.

    A function returns a scalar. Its arguments say what it uses: `logits` [T, V, B, K], `labels` [B],
    `embeddings` [T, V, B, P] (the network then gets a projection head), and any of the parameters
    temperature (with its default), tet_lambda, positives, time_pairs and negatives; `**parameters` stands for
    all five. It becomes a term with its own name, which is also its column in metrics.csv.

    The function is called once, with random tensors. The same registration may be repeated. Raises
    ValueError, in one line, for a name or label that is taken, terms that have a name already, an unknown
    argument, a wrong kind of value, and a function that fails or returns something else than a scalar with a
    gradient.
    """
    checks.checked("name", name, checks.Name)
    checks.checked("views", views, Literal[1, 2])
    if not isinstance(label, str) or not label.strip() or any(part in label for part in (", ", "\n", "$")):
        raise ValueError(f"label={label!r}: must be a text of one line without ', ' and '$'")
    if label.startswith("_"):
        raise ValueError(f"label={label!r}: must not begin with '_', matplotlib's sign for no label")
    if colour is not None and (not is_color_like(colour) or to_rgba(colour)[3] == 0):
        raise ValueError(f"colour={colour!r}: must be a colour of matplotlib, such as '#0173b2'")
    if marker is not None:
        try:
            seen = MarkerStyle(marker).get_path().vertices.size > 0
        except (TypeError, ValueError):
            seen = False
        if not seen:
            raise ValueError(f"marker={marker!r}: must be a marker of matplotlib, such as 'o'")
    ce_name, ce = _term("ce_term", ce_term, CE_TERMS, views)
    temporal_name, temporal = _term("temporal_term", temporal_term, TEMPORAL_TERMS, views)
    if ce_name == temporal_name:
        raise ValueError(f"temporal_term={temporal_name}: is the cross-entropy too")
    terms = [(CE_TERMS, ce_name, ce), (TEMPORAL_TERMS, temporal_name, temporal)]
    registry.check(*terms)
    for other, loss in () if name in LOSSES else LOSSES.items():
        if loss.label == label:
            raise ValueError(f"label={label!r}: is that of loss={other!r}")
    if name not in LOSSES and ce_name in CE_TERMS and temporal_name in TEMPORAL_TERMS:
        base = {"loss": "stcl" if views == 2 else "ce", "views": None}
        known = registry.by_name(base | {"ce_term": ce_name, "temporal_term": temporal_name})
        if LOSSES[known["loss"]].temporal_term == temporal_name:
            words = ", ".join(f"{key}={value!r}" for key, value in known.items() if value is not None)
            raise ValueError(f"{name}: is {words} already; give that, or a function of your own")
    others = [loss for other, loss in LOSSES.items() if other != name]
    colour = colour or _next(registry.COLOURS, [loss.colour for loss in others])
    marker = marker or _next(registry.MARKERS, [loss.marker for loss in others])
    code = hashlib.sha256(f"{ce_name} {temporal_name} {views}".encode()).hexdigest()
    registry.add(*terms, (LOSSES, name, Loss(label, ce_name, temporal_name, views, colour, marker, code)))


def register_backbone(name: str, function: Callable) -> None:
    """Add a backbone to those that `RunConfig` knows.

    Args:
        name: what `RunConfig(backbone=...)` calls it.
        function: takes what `tcl_lib.backbones.convnet` takes, by name, and returns a `SpikingNetwork`. If it
            has an argument `stem_width`, that parameter of `RunConfig` applies to it.

    The same registration may be repeated. Raises ValueError, in one line, for a name that is taken and for an
    argument that is missing or unknown.
    """
    checks.checked("name", name, checks.Name)
    arguments, rest = _arguments("function", function, ARGUMENTS, registry.BACKBONE_PARAMETERS)
    missing = [argument for argument in ARGUMENTS if argument not in arguments]
    if missing and not rest:
        raise ValueError(f"{function.__name__}: must take {', '.join(missing)}, as convnet does")
    parameters = tuple(argument for argument in arguments if argument in registry.BACKBONE_PARAMETERS)
    registry.add((registry.BACKBONES, name, Backbone(function, parameters, source.of_function(function))))


def _next(choices: Sequence[str], taken: list[str]) -> str:
    """Return the first choice that is not taken, or begin again."""
    return min(choices, key=taken.count)


def _term(kind: str, value: Any, table: dict[str, Term | None], views: int) -> tuple[str, Term | None]:
    """Return the name and the term of a function, or of a name in the table."""
    if isinstance(value, str) or not callable(value):
        checks.checked(kind, value, checks.one_of(table))
        return value, table[value]
    arguments, rest = _arguments(kind, value, registry.TENSORS, registry.TERM_PARAMETERS)
    name = value.__name__
    other = TEMPORAL_TERMS if table is CE_TERMS else CE_TERMS
    if name in other or name in TAKEN or name.startswith(("validation_", "firing_rate_")):
        raise ValueError(f"{kind}={name}: the name is taken; give the function another")
    if not {"logits", "embeddings"} & set(arguments):
        raise ValueError(f"{name}: must take logits or embeddings")
    temperature = None
    if "temperature" in arguments:
        try:
            temperature = checks.checked("temperature", arguments["temperature"], checks.Positive)
        except ValueError:
            raise ValueError(f"{name}: temperature needs a default, a number > 0") from None
    names = tuple(dict.fromkeys([*arguments, *(registry.TERM_PARAMETERS if rest else ())]))
    _call(value, names, temperature, views)
    return name, Term(value, names, name, temperature, code=source.of_function(value))


def _call(function: Callable, names: Sequence[str], temperature: float | None, views: int) -> None:
    """Call a term with random tensors of 4 steps. Raises ValueError, in one line, where it does not work."""
    import torch  # for this alone

    generator = torch.Generator().manual_seed(0)
    values = {name: RunConfig.default(name) for name in registry.TERM_PARAMETERS}
    values |= {"temperature": temperature, "labels": torch.arange(8) % 3}
    for name, width in (("logits", 10), ("embeddings", RunConfig.default("projection_dim"))):
        values[name] = torch.randn(4, views, 8, width, generator=generator).requires_grad_()
    try:
        found = function(**{name: values[name] for name in names if values[name] is not None})
    except Exception as error:  # whatever is wrong in it
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"{function.__name__}: fails with random tensors ({reason})") from error
    if not isinstance(found, torch.Tensor) or found.dim() > 0:
        shape = (
            f"shape {list(found.shape)}" if isinstance(found, torch.Tensor) else repr(type(found).__name__)
        )
        raise ValueError(f"{function.__name__}: must return a scalar tensor, got {shape}")
    if not found.requires_grad:
        raise ValueError(f"{function.__name__}: has no gradient")


def _arguments(
    kind: str, function: Any, fixed: Iterable[str], parameters: Iterable[str]
) -> tuple[dict[str, Any], bool]:
    """Return a function's arguments with their defaults, and whether it takes all others too (`**`).

    Raises ValueError for an argument that is neither fixed nor a parameter of `RunConfig`, for one that the
    function reads and does not take, and for a default that is not the parameter's: it would never apply.
    """
    if not inspect.isfunction(function) or not function.__name__.isidentifier():
        raise ValueError(f"{kind}={function!r}: must be a function with a name (def)")
    for name in source.names_read(function) & {*fixed, *parameters}:
        raise ValueError(f"{function.__name__}: reads {name}, which is no argument of it")
    found, rest = {}, False
    for name, argument in inspect.signature(function).parameters.items():
        if argument.kind is argument.VAR_KEYWORD:
            rest = True
            continue
        if argument.kind in (argument.POSITIONAL_ONLY, argument.VAR_POSITIONAL):
            raise ValueError(f"{function.__name__}: {name} must be an argument that is given by name")
        if name not in (*fixed, *parameters):
            raise ValueError(f"{function.__name__}: {checks.unknown(name, [*fixed, *parameters])}")
        found[name] = given = argument.default
        default = RunConfig.default(name) if name in parameters else None
        given = list(given) if isinstance(given, tuple) else given
        if default is not None and given not in (argument.empty, default):
            raise ValueError(
                f"{function.__name__}: {name}={given!r} never applies, RunConfig has {default!r};"
                " leave the default out"
            )
    return found, rest
