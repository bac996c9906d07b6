"""The accuracy of a run on corrupted test samples. Shapes: T time steps, N samples."""

from collections.abc import Iterator
from dataclasses import replace

import pandas as pd
import torch

from tcl_lib.analysis.evaluation import predict_again, stepwise_accuracy
from tcl_lib.analysis.run_data import data_of
from tcl_lib.data import Data
from tcl_lib.data.corruptions import OF_EVENTS, OF_IMAGES, Corruption, corrupted
from tcl_lib.data.parts import Split
from tcl_lib.runs import Run
from tcl_lib.utils.checks import checked

CLEAN = "clean"


def robustness(run: Run, corruptions: list[str] | None = None) -> pd.DataFrame:
    """Return the test accuracy when inference stops after t steps, of clean and corrupted test samples.

    Args:
        run: a finished run with weights, and its data.
        corruptions: names from `data.corruptions.OF_IMAGES` or `OF_EVENTS`, as fits the data; None for all.

    Returns: a row a corruption ("clean" is one), severity (from 1 to 5; 0 for clean) and time step, with
    strength, cumulative, low and high as in `stepwise_accuracy`. The draws are the same for all runs. Raises
    ValueError for an unknown corruption and where the data are others now, FileNotFoundError where weights or
    data are not there.
    """
    known = OF_EVENTS if run.config.events else OF_IMAGES
    chosen = list(known) if corruptions is None else checked("corruptions", corruptions, list[str])
    for name in chosen:
        if name not in known:
            raise ValueError(f"corruption {name!r}: must be {', '.join(map(repr, known))} for these data")
    network, data = run.model(), data_of(run)
    tables = []
    for name, severity, strength, part in _parts(data, chosen, known):
        logits = predict_again(run, network, part, data)
        table = stepwise_accuracy(logits, part.labels)[["time_step", "cumulative", "low", "high"]]
        labels = {"corruption": name, "severity": severity, "strength": strength}
        tables.append(pd.DataFrame(labels, table.index).join(table))
    return pd.concat(tables, ignore_index=True)


def _parts(
    data: Data, chosen: list[str], known: dict[str, Corruption]
) -> Iterator[tuple[str, int, float, Split]]:
    """Give name, severity, strength and the test samples, clean and then corrupted."""
    yield CLEAN, 0, 0.0, data.test
    samples = data.test[:]
    for name in chosen:
        for severity, strength in enumerate(known[name].strengths, start=1):
            stored = corrupted(samples, known[name], severity)
            part = replace(data.test, stored=stored, indices=torch.arange(len(stored)), hashes=None)
            yield name, severity, strength, part
