"""Grids of runs, trained one after the other."""

import dataclasses
import itertools
import json
import logging
import warnings
from collections.abc import Sequence
from typing import Any

import pandas as pd

from tcl_lib import runs
from tcl_lib.config import DATASETS, RunConfig, without_effect
from tcl_lib.runs import life
from tcl_lib.utils import checks

log = logging.getLogger(__name__)

# The parameters that a grid takes as lists, and the parameter of a run that each stands for.
LISTS = {"losses": "loss", "seeds": "seed"} | {
    name: name
    for name in (
        "temperature",
        "contrastive_weight",
        "positives",
        "ce_term",
        "projection_dim",
        "time_steps",
        "batch_size",
    )
}
SHARED = [
    field.name
    for field in dataclasses.fields(RunConfig)
    if field.name
    not in (*LISTS.values(), "run_name", "overwrite")  # runs of a grid are named by their parameters
]
PARAMETERS = [*LISTS, *SHARED]


def grid(**parameters: Any) -> list[RunConfig]:
    """Return the configs of a grid: every combination of the values of `LISTS`; all else is shared.

    Combinations that differ only in parameters without effect (ce at two temperatures) are one run. All
    combinations of a seed come before the next seed, so that an interrupted grid compares all losses.
    Raises ValueError for a value that is not a list, and for what `RunConfig` refuses.
    """
    for name in parameters:
        if name not in PARAMETERS:
            raise ValueError(checks.unknown(name, PARAMETERS))
    lists = {}
    for name, parameter in LISTS.items():
        values = parameters.pop(name, [getattr(RunConfig(), parameter)])
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise ValueError(
                f"{name}={values!r}: must be a list of values, each a {parameter}"
                f" (on papermill's command line: -y '{name}: [...]')"
            )
        lists[parameter] = values
    seeds = lists.pop("seed")
    distinct, effective = {}, set()
    for seed, *values in itertools.product(seeds, *lists.values()):
        combination = parameters | dict(zip(lists, values, strict=True)) | {"seed": seed}
        config = _without_idle(combination)
        effective |= set(RunConfig.__dataclass_fields__) - without_effect(vars(config)).keys()
        distinct.setdefault(json.dumps(config.identity()), config)
    for name in set(combination) - effective:  # without effect in every run
        for value in lists.get(name, [combination[name]]):
            if value != RunConfig.default(name):
                raise ValueError(f"{name}={value!r}: has no effect with {without_effect(vars(config))[name]}")
    return list(distinct.values())


def _without_idle(parameters: dict[str, Any]) -> RunConfig:
    """Return the config without the parameters that have no effect in it, such as the temperature of ce."""
    valid = {name: RunConfig.default(name) for name in RunConfig.__dataclass_fields__} | parameters
    idle = without_effect(valid) if valid["dataset"] in list(DATASETS) else {}
    return RunConfig(**{name: value for name, value in parameters.items() if name not in idle})


def train_grid(configs: Sequence[RunConfig]) -> pd.DataFrame:
    """Train the runs of a grid that are not finished and return the table of all (`runs.table`).

    A run that fails is named in a warning and does not stop the others. Raises RuntimeError where none is
    finished.
    """
    rows: list[pd.DataFrame] = []
    failed: list[str] = []
    for number, config in enumerate(configs, start=1):
        place = f"{number:{len(str(len(configs)))}}/{len(configs)}  {config.name} ({config.variant})"
        try:
            run, how = life.find_finished(config), "was finished"
            if run is None:
                from tcl_lib.training.loop import train  # torch is loaded where something is to be trained

                run = train(config, verbose=False)
                how = f"trained in {run.result['seconds']:.0f} s"
            rows.append(runs.table([run]))
            first, last = run.result["test_accuracy_t1"], run.result["test_accuracy"]
        except Exception as error:  # whatever goes wrong in one run, train the others
            failed.append(f"{type(error).__name__}: {error}")
            warnings.warn(f"{place}: failed, {failed[-1]}", stacklevel=2)
            continue
        log.info("%s: %5.1f %% at t = 1, %5.1f %% at T, %s", place, first, last, how)
    if not rows:
        raise RuntimeError(f"none of the {len(configs)} runs is finished; the first failed with {failed[0]}")
    if failed:
        warnings.warn(f"{len(failed)} of {len(configs)} runs failed and are not in the table", stacklevel=2)
    return pd.concat(rows, ignore_index=True)
