"""Print docs/parameters.md from `tcl_lib.RunConfig`: its fields, their annotations and its docstring.

python docs/make_parameters.py > docs/parameters.md
"""

import inspect
import re
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Le, Lt

from tcl_lib import RunConfig
from tcl_lib.utils.checks import Rule

INTRODUCTION = """\
# Parameters of a run

<!-- made by docs/make_parameters.py from tcl_lib.RunConfig: change the docstring there, not this page -->

These are the parameters of `notebooks/train.ipynb` and the fields of `tcl_lib.RunConfig`. In
`notebooks/ablation.ipynb`, `loss` and `seed` are the lists `losses` and `seeds`, and the parameters from
`ce_term` to `projection_dim`, `time_steps` and `batch_size` are lists too.

On papermill's command line, `-p` passes numbers, text, `True`, `False` and `None`; `-y` passes lists:

    papermill notebooks/train.ipynb runs/train.ipynb -p flip False -y "positives: [class, time]"

An unknown name, a wrong type or a value out of range stops the run before any data is loaded. The error is
one line with the parameter, its value and what is allowed, for example `lr=-1: must be greater than 0`. A
parameter that has no effect beside the others, such as `temperature` with `loss="ce"`, must keep its default.
A run is called by the loss that it is: `loss="ce", temporal_term="contrastive"` becomes `loss="tcl"`. A
combination that is no loss is called by the one with its temporal term: `loss="tcl", ce_term="per_step"`.

"""
CLOSING = """
**Which parameters make another run?** All that change the result. `device`, `data_on_device`,
`checkpoint_minutes`, `runs_dir`, `run_name`, `resume` and `overwrite` do not. `compile` and `tf32` do on a
GPU only. `devices` and `num_nodes` do only with `sync_batch_norm=False` or `micro_batches` above 1, because
batch norm then joins other samples; else the numbers differ by rounding, as on another machine.
`precision="auto"` is replaced by `32-true` or `bf16-mixed` when the configuration is created, and that
value counts. Two views need `augment=True`, because they would be equal without it. A loss or backbone of
your own counts with the code that it was registered with, wherever the `plugin` lies.

**Names.** Without `run_name`, a run is called `<dataset>-<backbone>-<loss>-T<time_steps>-s<seed>`, followed
by a hash if other parameters differ from their defaults.

**Folders.** In a clone, relative paths start at the repository, wherever the notebook runs. With an installed
package (`pip install .`) they start at the current folder. The environment variable `TCL_HOME` names another
folder for both. Caches lie in `data/cache/` there and may be deleted at any time.
"""

TYPES = {int: "integer", float: "number"}
RULES = {"folder": "path", "name": "letters, digits, `.`, `_`, `-`", "size": "`[width, height]`"}
RULES["plugin"] = "file or module"
BOUNDS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


def page() -> str:
    """Return the page in Markdown."""
    annotations = get_type_hints(RunConfig, include_extras=True)
    rows = [
        f"| `{name}` | `{RunConfig.default(name)}` | {allowed(annotations[name])} | {meaning} |"
        for name, meaning in meanings().items()
    ]
    header = ["| name | default | allowed values | meaning |", "|---|---|---|---|"]
    return INTRODUCTION + "\n".join(header + rows) + "\n" + CLOSING


def meanings() -> dict[str, str]:
    """Return what the docstring says of each parameter, in the order of the fields."""
    arguments = inspect.getdoc(RunConfig).partition("Args:\n")[2].partition("\n\n")[0]
    lines = re.sub(r"\n {8,}", " ", arguments).splitlines()  # a continued line is indented further
    found = dict(line.strip().split(": ", 1) for line in lines)
    linked = {
        "*": r"\*",
        "docs/data.md": "[data.md](data.md)",
        "docs/measures.md": "[measures.md](measures.md)",
    }
    for plain, markdown in linked.items():
        found = {name: meaning.replace(plain, markdown) for name, meaning in found.items()}
    return {name: found[name] for name in RunConfig.__dataclass_fields__}


def allowed(annotation: Any) -> str:
    """Return the allowed values of an annotation in words."""
    kind, arguments = get_origin(annotation), get_args(annotation)
    if annotation is bool:
        return "`True`, `False`"
    if annotation is type(None):
        return "`None`"
    if kind is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if kind in (Union, UnionType):
        return " or ".join(allowed(argument) for argument in arguments)
    if kind is list:
        return f"list of {allowed(arguments[0])}"
    base, rules = annotation.__origin__, annotation.__metadata__
    if isinstance(rules[0], Rule):
        table = getattr(rules[0].func, "table", None)
        return RULES[repr(rules[0])] if table is None else ", ".join(f"`{name}`" for name in table)
    bounds = (f"{sign} {getattr(rule, side)}" for rule in rules for sign, side in [BOUNDS[type(rule)]])
    return f"{TYPES[base]} {', '.join(bounds)}".replace(f"{2**32}", "2³²")


if __name__ == "__main__":
    print(page(), end="")
