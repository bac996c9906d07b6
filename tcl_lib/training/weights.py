"""The trained weights of a finished run as safetensors: a quarter of the size of its checkpoint.

`python -m tcl_lib.training.weights FOLDER ...` writes them for runs that have a checkpoint.
"""

import argparse
import hashlib
import json
import sys
from pathlib import Path

import safetensors.torch
from torch import Tensor

from tcl_lib.runs import Run, checkpoints, layout, life, load_run
from tcl_lib.utils import files
from tcl_lib.utils.files import Damaged


def save_weights(run: Run | str | Path) -> Path:
    """Write a finished run's weights.safetensors from its checkpoint, and its checksum; return its path.

    Matrices and kernels are float16; vectors, such as biases and the statistics of batch norm, stay as they
    are. Raises FileNotFoundError where the checkpoint was not kept, ValueError where it is damaged or of
    another run, or where a weight does not fit into float16.
    """
    run = run if isinstance(run, Run) else load_run(run)
    file, target = run.path / layout.CHECKPOINT, run.path / layout.WEIGHTS
    state = checkpoints.load(file)
    life.check_checkpoint(file, state, run.config, run.description["data"])
    tensors = {name: _halved(name, tensor, target) for name, tensor in state["network"].items()}
    content = safetensors.torch.save(tensors, {layout.METRICS: _metrics(run)})
    with life.lock(run.path):
        sums = layout.listed_sums(run.path) | {layout.WEIGHTS: hashlib.sha256(content).hexdigest()}
        files.write(target, content)
        layout.write_sums(run.path, sums)
    return target


def _halved(name: str, tensor: Tensor, file: Path) -> Tensor:
    half = tensor.half() if tensor.ndim > 1 and tensor.is_floating_point() else tensor
    if not half.isfinite().all():
        raise ValueError(f"{file}: cannot be written, {name} has a value that does not fit into float16")
    return half.contiguous()  # as safetensors wants it


def load(run: Run) -> dict[str, Tensor]:
    """Return the tensors of a run's weights.safetensors.

    Raises FileNotFoundError where there is none, Damaged where it does not fit the run's checksums or belongs
    to another run.
    """
    file = run.path / layout.WEIGHTS
    content = layout.read_finished(file)
    size = int.from_bytes(content[:8], "little")  # of the JSON with which a safetensors file begins
    try:
        metadata = json.loads(content[8 : 8 + size])["__metadata__"]
        tensors = safetensors.torch.load(content)
    except Exception as error:  # what is raised depends on what is wrong
        raise Damaged(f"{file}: cannot be loaded ({type(error).__name__}){layout.repair(file)}") from error
    if layout.METRICS not in metadata:
        raise Damaged(f"{file}: was written by another version{layout.repair(file)}")
    if metadata[layout.METRICS] != _metrics(run):
        raise Damaged(f"{file}: belongs to another run, one with another metrics.csv{layout.repair(file)}")
    return tensors


def _metrics(run: Run) -> str:
    """Return the checksum of a run's metrics.csv, by which its weights are known."""
    return hashlib.sha256(layout.read_finished(run.path / layout.METRICS)).hexdigest()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tcl_lib.training.weights", description=__doc__)
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="the folder of a finished run")
    for folder in parser.parse_args(arguments).folders:
        file = save_weights(folder)
        print(f"{file}: {file.stat().st_size:,} bytes")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
