"""`bundle`: a finished run as a folder to share, with its weights, a NIR graph and a model card."""

import hashlib
import os
import shutil
from pathlib import Path

import nir
import yaml

from tcl_lib.analysis.run_data import data_of
from tcl_lib.config import registry
from tcl_lib.export.formats import to_nir
from tcl_lib.runs import Run, layout, load_run
from tcl_lib.training import load_network, save_weights
from tcl_lib.utils import files
from tcl_lib.utils.words import listed

GRAPH, CARD = "network.nir", "README.md"
MOST_NAMES = 20  # of classes, in the card


def bundle(run: Run | str | Path, folder: str | Path) -> Path:
    """Write a finished run to a new folder that `load_run` and `load_network` read anywhere; return it.

    It holds the run's files without its checkpoint, the weights (weights.safetensors, rounded to float16),
    the network as NIR (network.nir; the card says why where there is none), and a model card (README.md) in
    the form of the Hugging Face Hub.

    Raises FileNotFoundError where neither weights nor checkpoint were kept, ValueError for a folder that is
    not empty and for a damaged run.
    """
    run = run if isinstance(run, Run) else load_run(run)
    folder = Path(os.path.expanduser(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder}: is not an empty folder; a bundle needs one of its own")
    source = layout.WEIGHTS if (run.path / layout.WEIGHTS).exists() else layout.CHECKPOINT
    try:
        load_network(run)  # what cannot be loaded is not shared
        files.make_folder(folder)
        for name in (layout.CONFIG, layout.METRICS, *layout.EVALUATION, layout.RESULT, source):
            if (run.path / name).exists():
                files.write(folder / name, layout.read_finished(run.path / name))
        _seal(folder)
        if source == layout.CHECKPOINT:
            save_weights(folder)
            (folder / layout.CHECKPOINT).unlink()
        shared = load_run(folder)
        missing = _write_graph(shared)
        files.write(folder / CARD, card(shared, missing))
        _seal(folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def card(run: Run, missing: str = "") -> str:
    """Return the model card of a run, in Markdown with the metadata of the Hugging Face Hub.

    `missing` says why there is no NIR graph, "" where there is one.
    """
    config, data = run.config, run.description["data"]
    accuracy = run.accuracy_by_step
    last = accuracy.iloc[-1]
    kind = "an event camera's recordings" if config.events else "images"
    task = {"type": "image-classification", "name": "classification"}
    metric = {"type": "accuracy", "value": round(float(last["cumulative"]), 2), "name": "test accuracy (%)"}
    metadata = {
        "library_name": "tcl-lib",
        "tags": ["spiking-neural-network", "temporal-contrastive-learning", config.loss, config.dataset],
        "model-index": [
            {
                "name": config.name,
                "results": [
                    {
                        "task": task,
                        "dataset": {"type": config.dataset, "name": config.data_label},
                        "metrics": [metric],
                    }
                ],
            }
        ],
    }
    shape = "x".join(map(str, run.image_shape))
    counts = data["images"]
    table = accuracy[["time_step", "cumulative", "low", "high"]].round(2)
    table.columns = ["stops after step", "test accuracy (%)", "95 % interval from", "to"]
    changes = "; ".join(listed(config.changes())) or "the defaults"
    graph = f"none ({missing})" if missing else f"`{GRAPH}`, which SpikingJelly and snnTorch read"
    inputs = "frames [T, B, C, H, W]" if config.events else "images [B, C, H, W]"
    return f"""---
{yaml.safe_dump(metadata, sort_keys=False).strip()}
---

# {config.name}

A spiking neural network that classifies {kind} and gives an answer at every time step.

- **Data**: {config.data_label}, {shape} (C x H x W), {len(run.classes)} classes; {counts["train"]} training,
  {counts["validation"]} validation and {counts["test"]} test samples.
- **Network**: {config.backbone}, {config.time_steps} time steps, neurons `{config.neuron}` with decay
  {config.decay:g} and threshold {config.v_th:g}.
- **Loss**: {registry.LOSSES[config.loss].label} (`{config.loss}`). Other parameters: {changes};
  `config.json` has all.
- **Weights**: `{layout.WEIGHTS}`, matrices and kernels rounded to float16. **NIR**: {graph}.

## Accuracy

Measured before the weights were rounded, those of the last of {config.epochs} epochs. This is one run, with
seed {config.seed}: the interval (Wilson) is that of the number of test samples, not that of the training.

{table.to_markdown(index=False)}

## How to load it

```python
import tcl_lib

run = tcl_lib.load_run("FOLDER")  # where this file is
network = tcl_lib.load_network(run)  # {inputs} -> logits [T, B, {len(run.classes)}] and more
```

{_inputs(run)} `tcl_lib.load_data(run.config).inputs` does it.

The answer after t steps is the class with the largest mean of the first t steps' logits. The classes are
{", ".join(run.classes[:MOST_NAMES])}{", ..." if len(run.classes) > MOST_NAMES else ""}.
"""


def _inputs(run: Run) -> str:
    """Return how samples become the inputs of the network, with the numbers if the run's data are here."""
    if run.config.events:
        scaled = ", each divided by its largest count" if run.config.count_scale == "max" else ""
        return f"Frames are counted events, OFF and ON apart{scaled}."
    words = "Images are normalised per channel with the mean and standard deviation of the training images"
    try:
        moments = data_of(run).mean_and_std
    except (OSError, ValueError):  # the data are not here, or others now
        return f"{words}."
    mean, deviation = (", ".join(f"{value:.4g}" for value in moment.tolist()) for moment in moments)
    return f"{words}, of pixels from 0 to 255: {mean} and {deviation}."


def _write_graph(run: Run) -> str:
    """Write the NIR graph of a run; return why it cannot be written, or ""."""
    try:
        nir.write(run.path / GRAPH, to_nir(load_network(run)))
    except ValueError as error:
        return str(error)
    return ""


def _seal(folder: Path) -> None:
    """Write the checksums of what the folder holds."""
    for name in (layout.LOCK, layout.SUMS):
        files.delete(folder / name)
    sums = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}
    layout.write_sums(folder, sums)
