"""Grids of runs, trained here one after the other or by an executor."""

import dataclasses
import itertools
import json
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from tcl_lib import runs
from tcl_lib.analysis import run_data
from tcl_lib.config import RunConfig
from tcl_lib.config.registry import LOSS_PARAMETERS, import_plugin
from tcl_lib.config.rules import without_effect
from tcl_lib.runs import layout, life
from tcl_lib.utils import checks
from tcl_lib.utils.progress import progress_bar

log = logging.getLogger(__name__)

# The parameters that a grid takes as lists, and the parameter of a run that each stands for.
LISTS = {"losses": "loss", "seeds": "seed"}
LISTS |= {name: name for name in (*LOSS_PARAMETERS[1:], "time_steps", "batch_size")}
SHARED = [
    field.name
    for field in dataclasses.fields(RunConfig)
    if field.name
    not in (*LISTS.values(), "run_name", "overwrite")  # runs of a grid are named by their parameters
]
PARAMETERS = [*LISTS, *SHARED]


def grid(**parameters: Any) -> list[RunConfig]:
    """Return the configs of a grid: every combination of the values of `LISTS`; all else is shared.

    Combinations that differ only in parameters without effect (ce at two temperatures) are one run, and one
    that is another loss (ce with a contrastive term) is that loss. All combinations of a seed come before the
    next seed, so that an interrupted grid compares all losses.

    Raises ValueError for a value that is not a list, and for what `RunConfig` refuses.
    """
    for name in parameters:
        if name not in PARAMETERS:
            raise ValueError(checks.unknown(name, PARAMETERS))
    import_plugin(parameters.get("plugin"))
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
        config = _valid(combination)
        effective |= set(RunConfig.__dataclass_fields__) - without_effect(vars(config)).keys()
        distinct.setdefault(json.dumps(config.identity()), config)
    for name in sorted(set(combination) - effective):  # without effect in every run
        for value in lists.get(name, [combination[name]]):
            if value != RunConfig.default(name):
                raise ValueError(f"{name}={value!r}: has no effect with {without_effect(vars(config))[name]}")
    return list(distinct.values())


def _valid(parameters: dict[str, Any]) -> RunConfig:
    """Return the config of a combination, without what has no effect in it."""
    defaults = {name: RunConfig.default(name) for name in RunConfig.__dataclass_fields__}
    parameters = checks.checked_fields(RunConfig, parameters)
    idle = without_effect(defaults | parameters)
    return RunConfig(**{name: value for name, value in parameters.items() if name not in idle})


def train_grid(configs: Sequence[RunConfig], executor: Executor | None = None) -> pd.DataFrame:
    """Train the runs of a grid that are not finished and return the table of all (`runs.table`).

    Args:
        configs: the runs, in the order in which they start.
        executor: where they are trained: None for here, one after the other; else anything whose
            `submit(function, *arguments)` returns futures with `done()` and `result()`, as those of
            `schedulers.Scheduler.executor`. What fails there is tried once more, after all others.

    A run that fails is named in a warning and does not stop the others. Raises ValueError for an empty grid,
    RuntimeError where none is finished.
    """
    run_data.forget_data()
    configs = [config for number, config in enumerate(configs) if config not in configs[:number]]
    if not configs:
        raise ValueError("no runs: the grid is empty")
    rows: dict[Path, pd.DataFrame] = {}
    failed: list[str] = []
    for number, (config, result) in enumerate(_results(configs, executor), start=1):
        place = f"{number:{len(str(len(configs)))}}/{len(configs)}  {config.name} ({config.variant})"
        try:
            how = result()
            run = runs.load_run(config.run_path)
            rows[config.run_path] = runs.table([run])
            first, last = run.result["test_accuracy_t1"], run.result["test_accuracy"]
        except Exception as error:  # whatever goes wrong in one run, train the others
            failed.append(f"{type(error).__name__}: {_last_lines(error)}")
            warnings.warn(f"{place}: failed, {failed[-1]}", stacklevel=2)
            continue
        log.info("%s: %5.1f %% at t = 1, %5.1f %% at T, %s", place, first, last, how)
    if not rows:
        raise RuntimeError(f"none of the {len(configs)} runs is finished; the first failed with {failed[0]}")
    if failed:
        warnings.warn(f"{len(failed)} of {len(configs)} runs failed and are not in the table", stacklevel=2)
    paths = dict.fromkeys(config.run_path for config in configs)
    return pd.concat([rows[path] for path in paths if path in rows], ignore_index=True)


def _last_lines(error: Exception) -> str:
    """Return the end of an error's message; submitit writes that of the job between lines of dashes."""
    message = re.split("^-{20,}$", str(error), flags=re.MULTILINE)[:2][-1]
    return "\n".join(message.strip().splitlines()[-3:])


def _results(
    configs: Sequence[RunConfig], executor: Executor | None
) -> Iterator[tuple[RunConfig, Callable[[], str]]]:
    """Return the configs as their runs are finished, each with a function that says how or raises."""
    left = [config for config in configs if executor is not None and not _has_result(config)]
    yield from ((config, partial(_train, config)) for config in configs if config not in left)
    with progress_bar(len(left), unit="run", name="grid") as bar:
        for attempt in (1, 2):
            if not left:
                break
            with getattr(executor, "batch", nullcontext)():  # submitit's: one array of jobs
                waiting = [(config, _submit(executor, config)) for config in left]
            left = []
            while waiting:
                time.sleep(0.2 + len(waiting) / 100)  # a job's `done()` looks at files that machines share
                ended = [pair for pair in waiting if pair[1].done()]
                waiting = [pair for pair in waiting if pair not in ended]
                for config, future in ended:
                    if attempt == 1 and _failed(future):
                        log.info("%s (%s): failed, tried again after the others", config.name, config.variant)
                        left.append(config)
                    else:
                        yield config, future.result
                        bar.update()


def _has_result(config: RunConfig) -> bool:
    return not config.overwrite and (config.run_path / layout.RESULT).exists()


def _submit(executor: Executor, config: RunConfig) -> Future:
    try:
        return executor.submit(_train, config)
    except Exception as error:  # a pool that lost a process takes nothing more
        future = Future()
        future.set_exception(error)
        return future


def _failed(future: Future) -> bool:
    try:
        future.result()
    except Exception:
        return True
    return False


# A run draws from its process's random generators.
_alone = threading.Lock()


def _train(config: RunConfig) -> str:
    """Train a run that is not finished; return whether it was."""
    with _alone:
        finished = life.find_finished(config)
        if finished is not None:
            run_data.check_data(finished, config)
            return "was finished"
        from tcl_lib.training.loop import train  # torch is loaded where something is to be trained

        return f"trained in {train(config, verbose=False).result['seconds']:.0f} s"
