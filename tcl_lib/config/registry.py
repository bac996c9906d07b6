"""What a `RunConfig` can name: datasets, backbones, losses and their terms. Imports no torch.

Backbones and losses of your own join the tables by `register_backbone` and `register_loss`.
"""

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tcl_lib.utils import checks, paths, source


class Dataset(NamedTuple):
    """The facts about a dataset."""

    source: str  # module:function in `tcl_lib.data` that loads it
    origin: str  # where its files come from
    events: bool = False  # of an event camera, another frame at every time step
    mirrored: bool = False  # whether a mirror image is of the same class
    frame_size: int | None = None  # default of the parameter, in pixels
    title: str = ""  # as people write the name, for captions

    @property
    def own_folder(self) -> bool:
        """Whether it is the user's own files: `data_root` says which data they are."""
        return self.origin == "data_root"


DATASETS = {
    "digits": Dataset("images:digits", "scikit-learn", title="Digits"),
    "cifar10": Dataset("images:cifar", "torchvision", mirrored=True, title="CIFAR-10"),
    "cifar100": Dataset("images:cifar", "torchvision", mirrored=True, title="CIFAR-100"),
    "fashion_mnist": Dataset("fashion:fashion_mnist", "torchvision", mirrored=True, title="Fashion-MNIST"),
    "folder": Dataset("images:folder", "data_root", mirrored=True),
    "dvs_cifar10": Dataset(
        "events.datasets:dvs_cifar10", "tonic", events=True, mirrored=True, frame_size=48, title="DVS-CIFAR10"
    ),
    "nmnist": Dataset("events.datasets:nmnist", "tonic", events=True, title="N-MNIST"),
    # not mirrored: a gesture to the left is not one to the right
    "events_folder": Dataset("events.datasets:events_folder", "data_root", events=True),
    "moving_digits": Dataset(
        "events.datasets:moving_digits", "simulated", events=True, title="Moving digits"
    ),
}


class Backbone(NamedTuple):
    """A function that returns a network; it takes what `backbones.convnet` takes."""

    function: str | Callable  # module:function in `tcl_lib`, or the function
    parameters: tuple[str, ...] = ()  # which of `BACKBONE_PARAMETERS` it takes too
    code: str = ""  # hash of code that is not this package's


BACKBONE_PARAMETERS = ("stem_width",)
BACKBONES = {
    "convnet": Backbone("backbones:convnet", ("stem_width",)),
    "vggsnn": Backbone("backbones:vggsnn"),
    "resnet19": Backbone("backbones:resnet19", ("stem_width",)),
}


class Term(NamedTuple):
    """A term of a loss: a function of tensors, which says by its arguments which parameters it uses."""

    function: str | Callable  # module:function in `tcl_lib`, or the function
    arguments: tuple[str, ...]  # of `TENSORS` and `TERM_PARAMETERS`
    column: str  # its name in metrics.csv
    temperature: float | None = None  # the default of the parameter
    weight: float = 1.0  # the default of `temporal_weight`
    code: str = ""  # hash of code that is not this package's


# logits [T, V, B, K], embeddings [T, V, B, P], labels [B]; who takes embeddings gets a projection head.
TENSORS = ("logits", "labels", "embeddings")
TERM_PARAMETERS = ("temperature", "tet_lambda", "positives", "time_pairs", "negatives")
# What a study compares; all else is the setting of a run.
LOSS_PARAMETERS = ("loss", "ce_term", "temporal_term", "views", "temporal_weight", *TERM_PARAMETERS)
LOSS_PARAMETERS += ("projection_dim",)
CE_TERMS = {
    "mean": Term("losses:ce", ("logits", "labels"), "cross_entropy"),
    "per_step": Term("losses:per_step_ce", ("logits", "labels", "tet_lambda"), "cross_entropy"),
    "prefix": Term("losses:prefix_ce", ("logits", "labels"), "cross_entropy"),
}
TEMPORAL_TERMS = {
    "none": None,
    "contrastive": Term(
        "losses:temporal_contrastive_loss",
        ("embeddings", "labels", "temperature", "positives", "time_pairs", "negatives"),
        "contrastive",
        temperature=0.1,
        weight=0.5,
    ),
    "consistency": Term("losses:step_consistency", ("logits", "temperature"), "consistency", 4.0),
    "distillation": Term(
        "losses:self_distillation", ("logits", "labels", "temperature"), "distillation", 3.0, weight=0.5
    ),
}


class Loss(NamedTuple):
    """A cross-entropy, a temporal term beside it, and the views of a sample; and how it is drawn."""

    label: str  # as printed
    ce_term: str
    temporal_term: str
    views: int
    colour: str
    marker: str
    code: str = ""  # hash of the definition of a loss that is not this package's


# In the order of tables and figures. Colours are seaborn's "colorblind"; markers differ without colour too.
COLOURS = ("#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#56b4e9")
COLOURS += ("#fbafe4", "#949494", "#ece133")
MARKERS = "osD^v<>PX*pdh8"
LOSSES = {
    "ce": Loss("CE", "mean", "none", 1, COLOURS[0], "o"),
    "per_step_ce": Loss("per-step CE", "per_step", "none", 1, COLOURS[1], "s"),
    "prefix_ce": Loss("prefix CE", "prefix", "none", 1, COLOURS[4], "v"),
    "etc": Loss("ETC", "mean", "consistency", 1, COLOURS[8], "<"),
    "tsd": Loss("TSD", "per_step", "distillation", 1, COLOURS[6], ">"),
    "tcl": Loss("TCL", "mean", "contrastive", 1, COLOURS[2], "D"),
    "stcl": Loss("STCL", "mean", "contrastive", 2, COLOURS[3], "^"),
}


def terms(values: dict[str, Any]) -> list[Term]:
    """Return the cross-entropy and, if there is one, the temporal term of a run with these parameters."""
    return [CE_TERMS[ce_term(values)], *filter(None, [TEMPORAL_TERMS[temporal_term(values)]])]


def ce_term(values: dict[str, Any]) -> str:
    """Return the name of the cross-entropy of a run with these parameters."""
    return values["ce_term"] or LOSSES[values["loss"]].ce_term


def temporal_term(values: dict[str, Any]) -> str:
    """Return the name of the temporal term of a run with these parameters."""
    return values["temporal_term"] or LOSSES[values["loss"]].temporal_term


def pairs_views(values: dict[str, Any]) -> bool:
    """Return whether the views of a sample may be positives of each other."""
    uses_positives = any("positives" in term.arguments for term in terms(values))
    return uses_positives and LOSSES[values["loss"]].views == 2 and values["views"] != 1


def loss_parameters(values: dict[str, Any]) -> dict[str, Any]:
    """Return the `LOSS_PARAMETERS` of a run, with what None stands for and the possible positives."""
    found = {name: values[name] for name in LOSS_PARAMETERS}
    found |= {"ce_term": ce_term(values), "temporal_term": temporal_term(values)}
    found["views"] = values["views"] or LOSSES[values["loss"]].views
    possible = {"class": True, "time": values["time_steps"] > 1, "view": pairs_views(values)}
    found["positives"] = [name for name in possible if possible[name] and name in values["positives"]]
    if values["temporal_weight"] is None:
        found["temporal_weight"] = terms(values)[-1].weight
    if values["temperature"] is None:  # each term has its own
        defaults = [term.temperature for term in terms(values) if term.temperature is not None]
        found["temperature"] = defaults[0] if len(set(defaults)) == 1 else defaults or None
    return found


def by_name(values: dict[str, Any]) -> dict[str, Any]:
    """Return the loss and its changes that a run with these parameters is called by.

    `ce` with `temporal_term="contrastive"` is `tcl`, and so is `stcl` with one view. A combination that is no
    loss is called by the one that has its temporal term.
    """
    ce, temporal = ce_term(values), temporal_term(values)
    views = values["views"] or LOSSES[values["loss"]].views
    nearest = sorted(LOSSES, key=lambda name: _distance(LOSSES[name], ce, temporal))
    names = [
        {
            "loss": name,
            "ce_term": None if LOSSES[name].ce_term == ce else ce,
            "temporal_term": None if LOSSES[name].temporal_term == temporal else temporal,
            "views": None if LOSSES[name].views == views else views,
        }
        for name in nearest
    ]
    return next(name for name in names if pairs_views(name) == pairs_views(values))


def _distance(loss: Loss, ce: str, temporal: str) -> tuple[bool, bool]:
    return loss.temporal_term != temporal, loss.ce_term != ce


def code(values: dict[str, Any]) -> dict[str, str]:
    """Return the hashes of the code of a run with these parameters that is not this package's."""
    ce, temporal = CE_TERMS[ce_term(values)], TEMPORAL_TERMS[temporal_term(values)]
    entries = {"loss": LOSSES[values["loss"]], "ce_term": ce, "temporal_term": temporal}
    entries["backbone"] = BACKBONES[values["backbone"]]
    return {name: _code(entry) for name, entry in entries.items() if entry and entry.code}


def _code(entry: Loss | Term | Backbone) -> str:
    """Return the hash of an entry's code as it is now: a notebook may have changed what it reads."""
    if isinstance(entry, Loss) or source.in_file(entry.function):
        return entry.code
    return source.of_function(entry.function)


def function_of(entry: Backbone | Term) -> Callable:
    """Return the function of a backbone or a term, imported where it is this package's."""
    if isinstance(entry.function, str):
        return pkgutil.resolve_name(f"tcl_lib.{entry.function}")
    return entry.function


_registering: list[str] = []  # the module of every registration


def check(*entries: tuple[dict[str, Any], str, Any]) -> None:
    """Raise ValueError for an entry, (table, name, entry), whose name has another one."""
    for table, name, entry in entries:
        if _content(table.get(name, entry)) != _content(entry):
            raise ValueError(
                f"{name!r}: is registered already, with other content; give another name,"
                " or restart Python if you changed it"
            )


def add(*entries: tuple[dict[str, Any], str, Any]) -> None:
    """Add entries to tables, after `check`."""
    check(*entries)
    for table, name, entry in entries:
        table[name] = entry
    _registering.append(sys._getframe(2).f_globals["__name__"])  # who called `register_loss`


def _content(entry: Any) -> Any:
    """Return an entry with what its function does: it is another object where a cell or file ran again."""
    if not isinstance(entry, Backbone | Term) or isinstance(entry.function, str):
        return entry
    code = entry.function.__code__
    return entry._replace(function=(entry.function.__qualname__, code.co_code, code.co_consts, code.co_names))


def import_plugin(plugin: str | None) -> None:
    """Import a file or module that registers losses or backbones.

    Args:
        plugin: a file that ends with .py, relative to `utils.paths.home`, or a module's name; None for none.

    Raises ValueError, in one line, where it is missing, raises an error, registers nothing, or is a file that
    changed after it was imported.
    """
    if checks.checked("plugin", plugin, checks.Plugin | None) is None:
        return
    path = paths.absolute(plugin)
    is_file = plugin.endswith(".py")
    name = f"plugin {path}" if is_file else plugin
    before = len(_registering)
    try:
        if not is_file:
            importlib.import_module(name)
        elif name not in sys.modules:
            _import_file(name, path)
        elif sys.modules[name].code != source.of_file(path):
            raise ImportError("it has changed since it was imported: restart Python")
    except (Exception, SystemExit) as error:  # whatever the plugin raises
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise ValueError(f"plugin={plugin!r}: cannot be imported ({reason})") from error
    if len(_registering) > before:
        _registering.append(name)  # though a module that it imports may have done it
    elif not any(f"{who}.".startswith(f"{name}.") for who in _registering):
        raise ValueError(
            f"plugin={plugin!r}: registers nothing; call tcl_lib.register_loss or register_backbone in it"
        )


def _import_file(name: str, path: Path) -> None:
    specification = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(specification)
    module.code = source.of_file(path)
    sys.modules[name] = module
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
