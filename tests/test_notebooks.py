"""The notebooks: clean as committed, and executed for real."""

import ast
import json
import re
import subprocess
import sys

import nbformat
import pytest

from tcl_lib import load_run
from tcl_lib.config import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
TRAIN = REPOSITORY / "notebooks" / "train.ipynb"


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_clean(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    assert "papermill" not in notebook.metadata
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_thin(path):
    notebook = nbformat.read(path, as_version=4)
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for cell in code_cells(notebook):
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda}
        assert not re.search(r"^[!%]|sys\.path|\.\./", cell.source, re.M)
    # papermill cannot read a parameter whose comment holds this sign
    assert all(line.count("=") == 1 for line in tagged[0].source.splitlines() if "=" in line)


def papermill(tmp_path, *parameters: str, cwd=REPOSITORY):
    """Run `papermill notebooks/train.ipynb out.ipynb` on a setting of seconds."""
    small = {"train_size": 96, "time_steps": 2, "epochs": 2, "batch_size": 32, "runs_dir": tmp_path / "runs"}
    arguments = [part for name, value in small.items() for part in ("-p", name, str(value))]
    command = ["-m", "papermill", "--no-progress-bar", "--kernel", "python3", str(TRAIN)]
    out = tmp_path / "out.ipynb"
    done = subprocess.run(
        [sys.executable, *command, str(out), *arguments, *parameters],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    return done, out


def outputs(path):
    notebook = nbformat.read(path, as_version=4)
    everything = [output for cell in code_cells(notebook) for output in cell.outputs]
    text = "".join(output.get("text", "") for output in everything if output.output_type == "stream")
    pictures = [o for o in everything if "image/png" in o.get("data", {})]
    errors = [o.text for o in everything if o.output_type == "stream" and o.name == "stderr"]
    return text, pictures, "".join(errors)


@pytest.mark.parametrize("loss", ["ce", "per_step_ce", "tcl", "stcl"])
def test_train_runs_with_every_loss(tmp_path, loss):
    # from a folder of its own for one of them: the repository need not be the current folder
    done, out = papermill(tmp_path, "-p", "loss", loss, cwd=tmp_path if loss == "ce" else REPOSITORY)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    run = load_run(folder)
    assert run.config.loss == loss
    assert len(run.metrics) == 2
    text, pictures, errors = outputs(out)
    assert sum(line.startswith("epoch ") for line in text.splitlines()) == 2
    assert "\r" not in text
    assert f"test accuracy {run.result['test_accuracy']:.2f} %" in text
    assert len(pictures) == 3
    assert "warn" not in errors.lower()
    assert out.stat().st_size < 300_000


def test_train_runs_on_event_data(tmp_path):
    done, out = papermill(tmp_path, "-p", "dataset", "moving_digits", "-p", "loss", "tcl")
    assert done.returncode == 0, done.stderr
    text, pictures, errors = outputs(out)
    assert "data: moving_digits (simulated)" in text
    assert "a batch: (2, 32, 2, 10, 10)" in text
    assert len(pictures) == 3
    assert "warn" not in errors.lower()
    assert out.stat().st_size < 300_000


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        (("-p", "lrr", "0.5"), "unknown parameter lrr, did you mean lr?"),
        (("-p", "augment", "false"), "augment='false': must be True or False"),
        (("-p", "loss", "supcon"), "loss='supcon': must be one of 'ce'"),
        (("-p", "time_steps", "0"), "time_steps=0: must be a whole number >= 1"),
    ],
)
def test_a_mistake_stops_before_any_data_are_loaded(tmp_path, parameters, words):
    done, out = papermill(tmp_path, *parameters)
    assert done.returncode != 0
    assert words in done.stderr
    executed = [cell for cell in json.loads(out.read_text())["cells"] if cell.get("execution_count")]
    assert "load_data" not in "".join("".join(cell["source"]) for cell in executed)
    assert not (tmp_path / "runs").exists()
