"""A run's folder: its files, its checkpoints, and reading many runs back. Imports no torch."""

from tcl_lib.runs import checkpoints, contents, layout, life, names
from tcl_lib.runs.run import Run, load_run
from tcl_lib.runs.tables import distinct, gather, load_runs, one_setting, select, table

__all__ = [
    "Run",
    "checkpoints",
    "contents",
    "distinct",
    "gather",
    "layout",
    "life",
    "load_run",
    "load_runs",
    "names",
    "one_setting",
    "select",
    "table",
]
