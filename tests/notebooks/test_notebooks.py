"""The notebooks: clean as committed, and executed for real."""

import ast
import dataclasses
import json
import re

import nbformat
import pandas as pd
import pytest
from conftest import too_long
from papermill import PapermillExecutionError, cli, inspect_notebook
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

import tcl_lib
from benchmarks.parameters import Benchmark
from tcl_lib import load_run
from tcl_lib.config.registry import LOSSES
from tcl_lib.training import grids, schedulers
from tcl_lib.utils import notebooks
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "notebooks").glob("*.ipynb"))
NAMED = {path.stem: str(path) for path in NOTEBOOKS}


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


def nested(node: ast.AST) -> int:
    """How many calls of functions stand in each other's arguments, at the most."""
    inside = max(map(nested, ast.iter_child_nodes(node)), default=0)
    return inside + isinstance(node, ast.Call)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_thin(path):
    notebook = nbformat.read(path, as_version=4)
    assert len(code_cells(notebook)) <= 12
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    for cell in code_cells(notebook):
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.ClassDef, ast.Lambda}
        assert not re.search(r"^[!%]|sys\.path|\.\./", cell.source, re.M)
        assert nested(ast.parse(cell.source)) <= 2
    # papermill cannot read a parameter whose comment holds this sign
    lines = [line for line in tagged[0].source.splitlines() if "=" in line]
    assert all(line.count("=") == 1 for line in lines)
    assert len({line.split()[0] for line in lines}) == len(lines), "a parameter stands there twice"


def papermill(tmp_path, parameters: dict, *options: str, notebook="train", cwd=REPOSITORY):
    """Run a notebook as the command `papermill notebooks/train.ipynb out.ipynb -p name value` does."""
    arguments = [part for name, value in parameters.items() for part in ("-p", name, str(value))]
    out = tmp_path / f"{notebook}.ipynb"
    where = ["--kernel", "python3", "--cwd", str(cwd), NAMED[notebook], str(out)]
    cli.papermill(["--no-progress-bar", *where, *arguments, *options], standalone_mode=False)
    return out


def places(folder) -> dict:
    """The folders that the notebooks on many runs take."""
    return {"runs_dir": folder / "runs", "figures_dir": folder / "figures"}


def outputs(path):
    notebook = nbformat.read(path, as_version=4)
    everything = [output for cell in code_cells(notebook) for output in cell.outputs]
    text = "".join(output.get("text", "") for output in everything if output.output_type == "stream")
    pages = ["".join(o.get("data", {}).get("text/html", "")) for o in everything]
    pictures = [page for page in pages if "<img" in page]
    # each with its caption, which is its alternative text too
    assert all(re.search(r'<img alt="([^"]{20,})".*<figcaption>\1</figcaption>', page) for page in pictures)
    errors = [o.text for o in everything if o.output_type == "stream" and o.name == "stderr"]
    return text, pictures, "".join(errors)


def test_the_benchmark_s_cell_is_its_parameters():
    inspected = {n: ast.literal_eval(e["default"]) for n, e in inspect_notebook(NAMED["benchmark"]).items()}
    assert list(inspected) == [parameter.name for parameter in dataclasses.fields(Benchmark)]
    assert Benchmark(**inspected) == Benchmark()


@pytest.mark.soak
def test_the_benchmark_runs_and_writes_its_table(tmp_path):
    few = "{time_steps: [1, 4], precisions: [32-true], long_time_steps: 4, libraries: []}"
    small = {"folder": tmp_path, "batch_size": 16, "image_size": 8, "rounds": 2}
    text, pictures, errors = outputs(papermill(tmp_path, small, "-y", few, notebook="benchmark"))
    (table,) = tmp_path.glob("*/speed.csv")
    assert f"{table.parent}\n" in text
    assert len(pd.read_csv(table)) == 2 * 2
    assert len(list(table.parent.glob("speed-*mm.p[dn][fg]"))) == 4
    assert len(pictures) == 1
    assert "warn" not in errors.lower()


@pytest.mark.parametrize(
    ("loss", "epochs"), [("stcl", 3), *too_long(("stcl", 15), ("ce", 15), ("per_step_ce", 15), ("tcl", 15))]
)
def test_train_runs_with_every_loss(tmp_path, loss, epochs):
    # as many time steps and, in `make soak`, epochs as by default: the figures then have their full size
    small = {
        "runs_dir": tmp_path / "runs",
        "train_size": 96,
        "batch_size": 32,
        "loss": loss,
        "epochs": epochs,
    }
    out = papermill(tmp_path, small, cwd=tmp_path)
    (folder,) = (tmp_path / "runs").iterdir()
    run = load_run(folder)
    assert run.config.loss == loss
    assert len(run.metrics) == epochs
    text, pictures, errors = outputs(out)
    assert sum(line.startswith("epoch ") for line in text.splitlines()) == epochs
    assert "\r" not in text
    assert f"test accuracy {run.result['test_accuracy']:.2f} %" in text
    assert len(pictures) == 5
    assert "warn" not in errors.lower()
    assert out.stat().st_size < 270_000


@pytest.mark.soak
def test_train_runs_on_event_data(tmp_path):
    small = {"runs_dir": tmp_path / "runs", "train_size": 96, "batch_size": 32, "time_steps": 2, "epochs": 2}
    out = papermill(tmp_path, small | {"dataset": "moving_digits", "loss": "ce"})
    (folder,) = (tmp_path / "runs").iterdir()
    assert len(load_run(folder).metrics) == 2
    text, pictures, errors = outputs(out)
    assert "data: moving_digits (simulated)" in text
    assert "a batch: (2, 32, 2, 10, 10)" in text
    assert len(pictures) == 5
    assert "warn" not in errors.lower()
    assert out.stat().st_size < 270_000


def test_the_ablation_s_cell_is_the_grid_and_train_s():
    """The same names, defaults and comments: what is a list there is a value here."""
    cells = {name: code_cells(nbformat.read(path, as_version=4))[0].source for name, path in NAMED.items()}
    train, ablation = (
        dict(re.findall(r"^(\w+) = (.*)$", cells[name], re.M)) for name in ("train", "ablation")
    )
    assert list(ablation)[: len(grids.LISTS)] == list(grids.LISTS)
    assert list(ablation)[len(grids.LISTS) :] == [*grids.SHARED, *SHOWN, *schedulers.PARAMETERS]
    assert {name: ablation[name] for name in grids.SHARED} == {name: train[name] for name in grids.SHARED}
    inspected = {
        name: ast.literal_eval(e["default"]) for name, e in inspect_notebook(NAMED["ablation"]).items()
    }
    grid = tcl_lib.grid(**{name: inspected[name] for name in grids.PARAMETERS})
    assert grid == [tcl_lib.RunConfig(loss=loss, seed=seed) for seed in (0, 1, 2) for loss in LOSSES]
    scheduler = schedulers.Scheduler(**{name: inspected[name] for name in schedulers.PARAMETERS})
    assert scheduler == schedulers.Scheduler()


SHOWN = ("select", "figures_dir", "preset", "width")  # the same in every notebook on many runs
HASH = "[0-9a-f]{6}"  # of what is not the default

# What makes an ablation of seconds.
SMALL = {"train_size": 300, "epochs": 2}
LISTS = {"losses": ["ce", "tcl"], "seeds": [0, 1], "time_steps": [2], "batch_size": [32]}
WIDTH = {"width": 89}  # one, in half the time of two
VARIED = {"positives": [["class"], ["class", "time"]]}


@pytest.fixture(scope="module")
def ablation(tmp_path_factory):
    """The folder in which a small ablation has run, of which a run was there, and what it printed."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "runs" / "empty").mkdir(parents=True)
    config, *_ = tcl_lib.grid(**SMALL, **LISTS, runs_dir=str(folder / "runs"))
    before = {path: path.stat().st_mtime_ns for path in tcl_lib.train(config, verbose=False).path.iterdir()}
    lists = ("-y", json.dumps(LISTS | VARIED))
    found = outputs(papermill(folder, places(folder) | SMALL | WIDTH, *lists, notebook="ablation"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    (folder / "runs" / "empty").rmdir()
    return folder, found


def test_the_ablation_trains_what_is_missing_in_its_grid_and_shows_it(ablation):
    folder, (text, pictures, errors) = ablation
    runs = [path.name for path in (folder / "runs").iterdir()]
    # ce once a seed; tcl with two kinds of positives
    assert len(runs) == 2 * (1 + 2)
    assert len(re.findall(r"^ ?\d+/6  .* trained in \d+ s$", text, re.M)) == 5
    assert len(re.findall(r"^ ?\d+/6  .* was finished$", text, re.M)) == 1
    assert f"skipped {folder / 'runs' / 'empty'}: is not a run" in text
    assert len(pictures) == 2
    assert errors == ""
    assert re.search(r"^digits-convnet-T2-\w+: 4 of 6 runs of Digits, convnet, T = 2, ", text, re.M)
    (setting,) = [path for path in (folder / "figures").iterdir() if path.is_dir()]
    assert re.fullmatch(f"digits-convnet-T2-{HASH}", setting.name)
    written = {path.stem for path in setting.glob("*.txt")}
    assert written == {"accuracy-by-step", "positives"}
    assert {path.name for path in setting.glob("results.*")} == {"results.md", "results.tex"}
    index = (folder / "figures" / "index.html").read_text()
    assert all(f'src="{setting.name}/{name}-89mm.png"' in index for name in written)
    assert f'href="{setting.name}/results.tex"' in index


@pytest.mark.parametrize("notebook", ["similarity", "figures", "findings"])
def test_a_reading_notebook_runs_no_network(ablation, notebook):
    folder, _ = ablation
    width = {} if notebook == "findings" else WIDTH
    out = papermill(folder, places(folder) | width, notebook=notebook)
    text, pictures, errors = outputs(out)
    shown = {"similarity": 5, "figures": 7, "findings": 2}[notebook]
    words = f"digits-convnet-T2-{HASH}: 4 of 6 runs of Digits, convnet, T = 2, train size 300"
    assert re.match(words, text)
    assert len(pictures) == shown
    assert errors == ""
    cells = "".join(cell.source for cell in code_cells(nbformat.read(out, as_version=4)))
    assert "torch" not in cells
    if notebook == "figures":
        (path,) = (folder / "figures").glob("digits-convnet-T2-*/results.md")
        table = path.read_text()
        assert [line.split("|")[1].strip() for line in table.splitlines()[2:4]] == [
            LOSSES[loss].label for loss in ("ce", "tcl")
        ]
        assert r"\toprule" in path.with_suffix(".tex").read_text()


@pytest.mark.parametrize(
    ("notebook", "parameters", "words"),
    [
        ("train", {"augment": "false"}, "augment='false': must be True or False"),
        ("train", {"loss": "supcon"}, "loss='supcon': must be 'ce', 'per_step_ce', "),
        ("train", {"time_steps": 0}, "time_steps=0: must be greater than or equal to 1"),
        ("ablation", {"loss": "ce"}, "unknown parameter loss, did you mean losses?"),
        ("ablation", {"temperature": 0.2}, "temperature=0.2: must be a list of values"),
        ("ablation", {"scheduler": "condor"}, "scheduler='condor': must be 'local', 'slurm' or the address"),
        ("similarity", {"runs": "x"}, "unknown parameter runs, did you mean runs_dir?"),
        ("similarity", {"select": "sed == 0"}, "select='sed == 0': unknown column sed; near it is seed"),
        ("similarity", {"width": -1}, "width=-1: must be greater than 0"),
        ("ablation", {"preset": "science"}, "preset='science': must be 'nature', 'neurips' or 'ieee'"),
        ("figures", {"figures_dir": 3}, "figures_dir=3: must be a valid string, or None"),
        ("figures", {"robustness": "false"}, "robustness='false': must be True or False"),
        ("figures", {"runs_dir": "/nowhere"}, "/nowhere: is not a folder of runs"),
        ("findings", {"figure_dir": "x"}, "unknown parameter figure_dir, did you mean figures_dir?"),
        ("explore", {"selected": "seed == 0"}, "unknown parameter selected, did you mean select?"),
        ("explore", {"select": "los == 'ce'"}, "unknown column los; near it is loss"),
        ("figures", {"runs_dir": "tests"}, "no finished run to show: train some with train.ipynb"),
    ],
)
def test_a_mistake_is_one_clear_line(tmp_path, monkeypatch, notebook, parameters, words):
    """In the first cell after the parameters, before anything is loaded or written."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(notebooks, "show_messages", lambda: None)  # it would change the tests' own log
    whole = parameterize_notebook(load_notebook_node(NAMED[notebook]), parameters)
    given, injected, first, *_ = [cell.source for cell in code_cells(whole)]
    namespace = {"In": [given, injected, first]}
    exec(given, namespace)
    exec(injected, namespace)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        exec(first, namespace)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_mistake_stops_before_anything_is_trained(tmp_path):
    with pytest.raises(PapermillExecutionError, match=r"unknown parameter lrr, did you mean lr\?"):
        papermill(tmp_path, places(tmp_path) | {"lrr": 0.5}, notebook="ablation")
    cells = code_cells(nbformat.read(tmp_path / "ablation.ipynb", 4))
    (error,) = (o for cell in cells for o in cell.outputs if o.output_type == "error")
    assert error.traceback == [
        "ValueError: unknown parameter lrr, did you mean lr?",
        "(%tb shows where it was raised)",
    ]
    assert "train_grid" not in "".join(cell.source for cell in cells if cell.execution_count)
    assert not (tmp_path / "runs").exists()
