"""Names of data, settings and variants as people write them, for captions. Imports no torch."""

import re
from collections.abc import Iterable

import pandas as pd

from tcl_lib.config.registry import DATASETS, LOSSES
from tcl_lib.runs.tables import one_setting

TITLES = {name.replace("_", ""): facts.title for name, facts in DATASETS.items()}
UPPER = ("jpeg", "png", "webp")


def data_title(label: str) -> str:
    """Return a data label as people write it: "events_folder (nmnist-small)" is "N-MNIST (small)"."""
    name, inside = re.fullmatch(r"(\w+)(?: \((.*)\))?", label, re.S).groups()
    if not DATASETS[name].own_folder:
        return f"{DATASETS[name].title} ({inside})" if inside else DATASETS[name].title
    words = re.split("[-_]", inside)
    for count in range(len(words), 0, -1):  # a folder whose name begins with that of a dataset
        if title := TITLES.get("".join(words[:count]).lower()):
            rest = [word.upper() if word.lower() in UPPER else word for word in words[count:]]
            return f"{title} ({' '.join(rest)})" if rest else title
    return inside


def titled_setting(table: pd.DataFrame) -> tuple[str, str]:
    """Return the title of the data and the rest of the one setting of a table's rows.

    Raises ValueError for runs of several settings.
    """
    setting, label = one_setting(table), table["data"].iloc[0]
    return data_title(label), setting.removeprefix(f"{label}, ")


def setting_in_words(table: pd.DataFrame) -> str:
    """Return the one setting of a table's rows: "Digits, convnet, T = 4; TCL with temperature 0.2"."""
    return "; ".join([", ".join(titled_setting(table)), *tuned(table)])


def tuned(table: pd.DataFrame) -> list[str]:
    """Return what stands behind the labels of tuned losses: "TCL and STCL with temperature 0.2"."""
    if "tuned" not in table:
        return []
    rows = table.drop_duplicates("variant").dropna(subset="tuned")
    values = dict(zip(rows["variant"], rows["tuned"], strict=True))
    found: dict[str, dict[str, None]] = {}
    for variant in in_order(variant for variant, words in values.items() if words):
        found.setdefault(values[variant], {})[loss_of(variant)] = None
    return [f"{' and '.join(labels)} with {words}" for words, labels in found.items()]


def loss_of(variant: str) -> str:
    """Return the label of the loss of a variant: "TCL" of "TCL, views 2"."""
    return variant.partition(", ")[0]


def in_order(variants: Iterable[str]) -> list[str]:
    """Return variants in the order of their losses, those with few changes first."""
    labels = [loss.label for loss in LOSSES.values()]
    return sorted(variants, key=lambda variant: (labels.index(loss_of(variant)), len(variant), variant))
