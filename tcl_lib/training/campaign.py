"""`python -m tcl_lib.training.campaign FILE` trains the runs of a file of grids, part after part.

A part of the file is a grid (`tcl_lib.grid`), with three more keys: `recipe` names a file of parameters
beside it, which the part's own replace; `draw` and `trials` make a random search: each trial draws every
parameter of `draw` once, log-uniformly between two numbers or from a list of words, and runs the whole grid
with it.
"""

import argparse
import logging
import math
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tcl_lib.config import RunConfig
from tcl_lib.runs import layout, life
from tcl_lib.runs.run import THREADS
from tcl_lib.training.grids import LISTS, grid, train_grid
from tcl_lib.utils.devices import find_device, hardware

log = logging.getLogger(__name__)


def read(path: str | Path) -> dict[str, list[RunConfig]]:
    """Return the configs of a campaign's parts by name, each run in the first part that names it.

    Raises ValueError that names the file and the part for what `tcl_lib.grid` refuses, OSError for a file
    that cannot be read.
    """
    path = Path(path)
    content = _mapping(path)
    shared = {name: value for name, value in content.items() if name != "parts"}
    named = content.get("parts")
    if not isinstance(named, dict):
        raise ValueError(f"{path}: parts: must be a mapping, the parameters of each part by its name")
    parts: dict[str, list[RunConfig]] = {}
    seen: set[str] = set()
    for name, parameters in named.items():
        try:
            if not isinstance(parameters, dict):
                raise ValueError("must hold parameters, a line each")
            configs = list(_configs(shared | parameters, path.parent))
        except ValueError as error:
            raise ValueError(f"{path}: part {name!r}: {error}") from error
        parts[name] = [config for config in configs if not (config.name in seen or seen.add(config.name))]
    return parts


def _mapping(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is not YAML ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold parameters, a line each")
    return content


def _configs(parameters: dict[str, Any], folder: Path) -> Iterator[RunConfig]:
    parameters = {str(name): value for name, value in parameters.items()}  # YAML has numbers, too
    recipe = parameters.pop("recipe", None)
    if recipe is not None:
        if not isinstance(recipe, str):
            raise ValueError(f"recipe={recipe!r}: must be a file")
        of_recipe = _mapping(folder / recipe)
        # a grid has `losses` and `seeds`
        of_recipe = {k: _listed(k, value) for k, value in of_recipe.items() if k not in ("loss", "seed")}
        parameters = of_recipe | parameters
    draw, trials = parameters.pop("draw", {}), parameters.pop("trials", 1)
    if not isinstance(draw, dict):
        raise ValueError(f"draw={draw!r}: must be a mapping, the choices of each parameter by its name")
    if not isinstance(trials, int) or trials < 1:
        raise ValueError(f"trials={trials!r}: must be a whole number >= 1")
    for trial in range(trials):
        drawn = {str(name): _drawn(trial, str(name), choices) for name, choices in draw.items()}
        yield from grid(**parameters | drawn)


def _drawn(trial: int, name: str, choices: Any) -> Any:
    """Return a number with two significant digits or a word, as a grid takes it.

    A trial has the same value in every part, whatever other parameters and trials are drawn.
    """
    generator = np.random.default_rng([trial, *name.encode()])
    try:
        if all(isinstance(choice, str) for choice in choices):
            value = str(generator.choice(choices))
        else:
            low, high = choices
            value = float(f"{np.exp(generator.uniform(math.log(low), math.log(high))):.1e}")
    except (TypeError, ValueError):
        raise ValueError(
            f"draw: {name}={choices!r}: must be two numbers > 0, [low, high], or a list of words"
        ) from None
    return _listed(name, value)


def _listed(name: str, value: Any) -> Any:
    """Return the value of a run's parameter as a grid takes it."""
    return [value] if name in LISTS else value


def status(parts: dict[str, list[RunConfig]]) -> pd.DataFrame:
    """Return a row a part: its runs, those that are finished, under way and left, and the hours these take.

    The hours are those of one process. They follow from the seconds that finished runs of the same data and
    backbone took for a sample, view and time step; they are NaN where there is none.
    """
    finished = {config.name: life.find_finished(config) for configs in parts.values() for config in configs}
    rates: dict[tuple, list[float]] = {}
    for run in filter(None, finished.values()):
        rates.setdefault(_kind(run.config), []).append(run.result["seconds"] / _work(run.config))
    rows = []
    for name, configs in parts.items():
        left = [config for config in configs if finished[config.name] is None]
        seconds = [_work(config) * np.median(rates.get(_kind(config), [np.nan])) for config in left]
        under_way = sum((config.run_path / layout.CHECKPOINT).exists() for config in left)
        row = {"part": name, "runs": len(configs), "finished": len(configs) - len(left)}
        rows.append(row | {"under way": under_way, "left": len(left), "hours left": sum(seconds) / 3600})
    return pd.DataFrame(rows)


def _kind(config: RunConfig) -> tuple:
    return config.data_label, config.train_size, config.backbone, config.precision


def _work(config: RunConfig) -> int:
    return config.epochs * config.num_views * config.time_steps


def trainable_here(parts: dict[str, list[RunConfig]]) -> list[RunConfig]:
    """Return the configs in order, without the seeds of a part that another kind of processor has begun.

    The same seed gives other numbers there, and losses are compared seed by seed. A log line names each
    seed that is left out.
    """
    here = THREADS.sub("", hardware(find_device("auto")))
    chosen = []
    for name, configs in parts.items():
        begun: dict[int, set[str]] = {}
        for run in filter(None, map(life.find_finished, configs)):
            begun.setdefault(run.config.seed, set()).add(run.processor)
        elsewhere = {seed: kinds - {here} for seed, kinds in begun.items() if kinds - {here}}
        for seed, kinds in elsewhere.items():
            log.info("%s, seed %d: left out, it was begun on %s", name, seed, ", ".join(kinds))
        chosen += [config for config in configs if config.seed not in elsewhere]
    return chosen


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tcl_lib.training.campaign", description=__doc__)
    parser.add_argument("file", help="YAML: shared parameters, and `parts`")
    parser.add_argument("parts", nargs="*", help="the parts to train; all of them if none is named")
    parser.add_argument("--workers", type=int, default=1, help="runs side by side, a thread each")
    parser.add_argument("--status", action="store_true", help="say what is done and left, and train nothing")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parts = read(options.file)
    for name in options.parts:
        if name not in parts:
            raise ValueError(f"{options.file}: has no part {name!r}; its parts are {', '.join(parts)}")
    print(status(parts).round(1).to_string(index=False), flush=True)
    if options.status:
        return
    # The number of threads is part of what a number belongs to. It is read when a process loads torch.
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as executor:
        train_grid(trainable_here({name: parts[name] for name in options.parts or parts}), executor)


def _end(number: int, frame) -> None:
    """End the other processes as well; each saves its run first. Ctrl-C reaches them by itself."""
    for process in active_children():
        process.terminate()
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
