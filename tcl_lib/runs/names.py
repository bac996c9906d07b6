"""Names of data and settings as people write them, for captions. Imports no torch."""

import re

import pandas as pd

from tcl_lib.config.registry import DATASETS
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
