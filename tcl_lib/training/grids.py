"""Many runs: the grid of an ablation, trained one after the other."""

import dataclasses
import itertools
import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from tcl_lib import runs
from tcl_lib.config import RunConfig
from tcl_lib.runs import life
from tcl_lib.utils import checks

# What a grid takes as lists, and the parameter of a run that each is of; all else is the same in every run.
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
    if field.name not in (*LISTS.values(), "run_name", "overwrite")  # a grid's runs find their own names
]
PARAMETERS = [*LISTS, *SHARED]


def grid(**parameters: Any) -> list[RunConfig]:
    """The runs of a grid: every combination of the values of `LISTS`, all else shared.

    A combination that differs from another in nothing that has an effect (ce at two temperatures) is one run.
    The seeds come last, so that a grid that is cut off compares all the losses. Raises ValueError for what is
    no list, and for what `RunConfig` refuses.
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
    distinct = {}
    for seed in lists.pop("seed"):
        for values in itertools.product(*lists.values()):
            config = RunConfig(**parameters, **dict(zip(lists, values, strict=True)), seed=seed)
            distinct.setdefault(json.dumps(config.identity()), config)
    return list(distinct.values())


def train_grid(configs: Sequence[RunConfig]) -> pd.DataFrame:
    """The table of a grid's runs (`runs.table`), after those that are not finished have been trained.

    Says a line a run. One that fails is named with its error and does not stop the others. Raises
    RuntimeError where none is finished.
    """
    rows: list[pd.DataFrame] = []
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
        except Exception as error:  # whatever goes wrong in one run, the others are wanted
            print(f"{place}: failed, {type(error).__name__}: {error}", flush=True)
            continue
        print(f"{place}: {first:5.1f} % at t = 1, {last:5.1f} % at T, {how}", flush=True)
    if not rows:
        raise RuntimeError(f"none of the {len(configs)} runs is finished; the lines above say why")
    if len(rows) < len(configs):
        print(f"{len(configs) - len(rows)} of {len(configs)} runs failed and are not in what follows")
    return pd.concat(rows, ignore_index=True)
