"""Tables of many runs. Imports no torch."""

import difflib
import re
import warnings
from collections.abc import Callable, Iterable
from itertools import pairwise
from pathlib import Path

import pandas as pd

from tcl_lib.config import RunConfig
from tcl_lib.runs.contents import Result
from tcl_lib.runs.layout import CONFIG, FILES
from tcl_lib.runs.run import Run, load_run
from tcl_lib.utils import paths
from tcl_lib.utils.checks import checked

# tuned: what the main variant of the loss has instead of the defaults; None before `statistics.settings`
LABELS = ("name", "path", "data", "setting", "variant", "tuned", "threads", "processor", "fingerprint")
# Of a table of runs.
COLUMNS = (*LABELS, *RunConfig.__dataclass_fields__, *Result.__annotations__)

MOST_NAMED = 3  # runs in a warning


def load_runs(root: str | Path | None = None) -> pd.DataFrame:
    """Return the table of the finished runs in a folder, runs/ by default; see `table`.

    An unfinished or damaged run is skipped with a warning that names it. A relative root starts here or at
    `utils.paths.home`. Raises FileNotFoundError where there is no such folder, ValueError for that of a run.
    """
    root = paths.existing(paths.absolute("runs") if root is None else root, "a folder of runs")
    if (root / CONFIG).exists():
        raise ValueError(f"{root}: is a run, not a folder of runs; read it with load_run")
    rows = []
    for path in sorted(path for path in root.iterdir() if path.is_dir()):
        try:
            files = [file.name for file in path.iterdir()]
            if files and not any(name.startswith(FILES) for name in files):
                continue  # not a run: figures, or a folder of runs
            rows.append(_row(load_run(path)))
        except (OSError, ValueError) as error:
            warnings.warn(f"skipped {error}", stacklevel=2)
    return pd.DataFrame(rows)


def table(found: Run | Iterable[Run] | pd.DataFrame) -> pd.DataFrame:
    """Return one row a run: name, path, data, setting, variant, tuned, threads, processor, fingerprint,
    parameters and results.

    Runs of one setting may be compared. Those of one setting and one variant differ only in the seed and may
    be averaged. The number of samples is part of the setting. A table of runs is returned as it is. Raises
    TypeError for anything else, such as the path of a folder.
    """
    if isinstance(found, pd.DataFrame):
        return found
    listed = [found] if isinstance(found, Run | str | Path) else list(found)
    for run in listed:
        if not isinstance(run, Run):
            shown = f"{str(run)!r:.80}"
            raise TypeError(f"{shown} is no run: use tcl_lib.load_run or tcl_lib.load_runs to read runs")
    return pd.DataFrame([_row(run) for run in listed])


def select(table: pd.DataFrame, query: str | None) -> pd.DataFrame:
    """Return the rows of a table of runs for which a query holds, "loss in ['ce', 'tcl'] and seed < 3".

    The query is one of pandas; None keeps all. Without runs it is only checked. Raises ValueError, in one
    line, for a query that pandas cannot read, for an unknown column, with the names nearest to it, and where
    the query holds for no run.
    """
    if checked("select", query, str | None) is None:
        return table
    table = table if len(table) else pd.DataFrame(columns=COLUMNS)
    try:
        holds = table.eval(query)
        if not (isinstance(holds, pd.Series) and holds.dtype == bool):
            raise TypeError("it is neither true nor false of a run")
    except pd.errors.UndefinedVariableError as error:
        (name,) = re.findall("'(.*)'", str(error))
        near = difflib.get_close_matches(name, table.columns, n=3)
        known = "near it is " + " or ".join(near) if near else "known are " + ", ".join(table.columns)
        raise ValueError(f"select={query!r}: unknown column {name}; {known}") from None
    except Exception as error:  # what pandas raises depends on what is wrong
        raise ValueError(f"select={query!r}: is not a pandas query ({str(error).splitlines()[0]})") from error
    if len(table) and not holds.any():
        raise ValueError(f"select={query!r}: holds for none of the {len(table)} runs")
    return table[holds]


def _row(run: Run) -> dict:
    labels = {"name": run.name, "path": str(run.path), "data": run.config.data_label}
    labels |= {"setting": run.setting, "variant": run.config.variant, "tuned": None}
    labels |= {name: getattr(run, name) for name in ("threads", "processor", "fingerprint")}
    return labels | run.config.to_dict() | run.result


def distinct(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a table of runs without those of a run in a second folder; a warning names these."""
    if not len(table):
        return table
    run = list(table.columns.intersection(["setting", "variant", "tuned", "seed"]))
    again = table.duplicated(run)
    other = again & ~table.duplicated([*run, *table.columns.intersection(["fingerprint"])])
    for row, differs in zip(table[again].itertuples(), other[again], strict=True):
        words = ", on other data" if differs else ""
        warnings.warn(f"skipped {row.path}: another folder holds the same run{words}", stacklevel=3)
    return table[~again]


def one_setting(table: pd.DataFrame) -> str:
    """Return the setting of all rows of a table.

    Raises ValueError where they differ in it, or where a variant was named after different tuned values.
    """
    settings = sorted(table["setting"].unique()) if len(table) else []
    if len(settings) != 1:
        raise ValueError(
            f"runs of {len(settings)} settings, {'; '.join(settings)}:"
            " only runs of one can be averaged or compared"
        )
    values = table.groupby("variant")["tuned"].unique() if "tuned" in table else {}
    for variant, found in values.items():
        if len(found) > 1:
            words = " and ".join(one or "the defaults" for one in found)
            raise ValueError(
                f"{variant} stands for {words}: name all runs in one call of `statistics.settings`"
            )
    return settings[0]


def gather(
    found: Run | Iterable[Run] | pd.DataFrame, what: str | Callable[[Run], pd.DataFrame]
) -> pd.DataFrame:
    """Return one table of a run or many: their "metrics", "accuracy_by_step" and so on.

    `what` may also be a function of a run. The first columns tell runs apart: run, seed, time_steps and
    events, and of `table` data to fingerprint. A run counts once (`distinct`). A damaged run is skipped with
    a warning that names it, and so are runs without this table if others have it; the table is empty if no
    run has it.
    """
    tables, without = [], []
    for row in distinct(table(found)).itertuples():
        labels = {"run": row.name, "seed": row.seed, "time_steps": row.time_steps}
        labels |= {name: getattr(row, name, None) for name in LABELS[2:]}
        try:
            run = load_run(row.path)
            labels["events"] = run.config.events
            rows = getattr(run, what) if isinstance(what, str) else what(run)
        except FileNotFoundError:  # features and logits may be left out
            without.append(row.path)
        except (OSError, ValueError) as error:
            warnings.warn(f"skipped {error}", stacklevel=2)
        else:
            own = rows.columns.difference(labels, sort=False)
            tables.append(pd.DataFrame(labels, rows.index).join(rows[own]))
    if tables and without:
        name = what if isinstance(what, str) else what.__name__
        more = f" and {len(without) - MOST_NAMED} more" if len(without) > MOST_NAMED else ""
        words = f"{', '.join(without[:MOST_NAMED])}{more}: without {name.replace('_', ' ')}"
        warnings.warn(f"skipped {words}", stacklevel=2)
    columns: list[str] = []
    for rows in tables:  # a column that earlier tables lack stays beside its neighbour
        for before, name in pairwise([None, *rows]):
            if name not in columns:
                columns.insert(columns.index(before) + 1 if before else 0, name)
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame()
