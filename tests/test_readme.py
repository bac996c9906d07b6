"""README.md and docs/ say what is there: numbers, links, commands, names, layout and parameters."""

import json
import pkgutil
import re
import runpy
import tomllib
from collections import defaultdict
from functools import cache, partial

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.testing import assert_allclose
from papermill import inspect_notebook
from scipy.stats import ttest_1samp

import tcl_lib
from tcl_lib import load_run, load_runs
from tcl_lib.analysis import statistics, tables
from tcl_lib.config import RunConfig, registry
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

REFERENCE = REPOSITORY / "runs" / "reference"
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
TEXT = {path.name: path.read_text() for path in PAGES}
README, RESULTS = TEXT["README.md"], TEXT["results.md"]
SUBJECTS = ("results", "performance", "data", "parameters", "reliability", "measures", "paper", "extending")


def name_of(path):
    return path.name


# numbers


@cache
def made_pages():
    make = runpy.run_path(str(REPOSITORY / "docs" / "make_results.py"))
    return make["pages"](make["all_rows"]())


@pytest.mark.parametrize("name", ["README.md", "results.md"])
def test_the_tables_are_those_of_the_reference_runs(name):
    (made,) = (text for path, text in made_pages().items() if path.name == name)
    assert TEXT[name] == made, "run: python docs/make_results.py"
    assert made.count("<!-- table: ") == made.count("<!-- end -->") > 0


def test_the_table_of_the_recipe_in_full_is_that_of_its_run():
    (path,) = (REFERENCE / "recipe").iterdir()
    assert f"`{path.relative_to(REPOSITORY)}`" in TEXT["performance.md"]
    accuracy = load_run(path).accuracy_by_step
    for name, column in {"test accuracy": "cumulative", "recalibrated": "recalibrated"}.items():
        row = " | ".join(f"{value:.2f}" for value in accuracy[column])
        assert f"| {name} | {row} |" in TEXT["performance.md"]


def test_the_table_of_the_tuning_is_that_of_its_runs():
    found = load_runs(REFERENCE / "tuning").set_index(["seed", "lr", "loss"]).sort_index()
    section = RESULTS.split("\n## Tuning on CIFAR-10 (JPEG)\n")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d) +\| ([\d.]+), (\S+) +\|(.*)\| (.*?) +\|$", section, re.M)
    shown = {}
    for seed, lr, decay, cells, drawn in rows:
        losses = ("ce", "per_step_ce", "prefix_ce", "tcl", "stcl")
        for loss, cell in zip(losses, cells.split("|"), strict=True):
            if cell.strip() == "–":
                continue
            run = found.loc[int(seed), float(lr), loss]
            accuracy = [run["validation_accuracy_t1"], run["validation_accuracy"]]
            assert cell.strip() == "{:.2f}, {:.2f}".format(*accuracy)
            assert run["weight_decay"] == float(decay)
            shown[int(seed), float(lr), loss] = np.mean(accuracy)
            if loss in ("tcl", "stcl"):
                of_run = load_run(run["path"]).config.loss_parameters
                weight, temperature, ce_term = drawn.split(", ")
                assert (of_run["temporal_weight"], of_run["temperature"]) == (
                    float(weight),
                    float(temperature),
                )
                assert f"`{of_run['ce_term']}`" == ce_term
    assert shown.keys() == set(found.index)  # no trial is left out

    def two_seeds(lr, loss):
        return np.mean([shown[seed, lr, loss] for seed in (0, 1)])

    own = {"ce": 0.25, "per_step_ce": 0.17, "prefix_ce": 0.17, "tcl": 0.15, "stcl": 0.15}
    lines = {"best trial of the loss": own}
    lines |= {"chosen values": dict.fromkeys(own, 0.15), "defaults": dict.fromkeys(own, 0.1)}
    for name, rates in lines.items():
        means = " | ".join(f"{two_seeds(rate, loss):.1f}" for loss, rate in rates.items())
        assert f"| {name} | {means} |" in section


def test_every_setting_of_the_reference_runs_has_its_tables():
    for rows in statistics.settings(load_runs(REFERENCE)).values():
        assert set(tables.results(rows).cells["loss"]) == set(rows["variant"])
        assert "t = 1" in tables.recalibration(rows).caption


# The runs of the tables of all losses, by the names of their folders.
MAIN = {
    "CIFAR-10 (JPEG)": "folder-convnet-*-T4-s[0-9]-[be][a9]*",
    "N-MNIST": "events_folder-convnet-*",
    "moving digits": "moving_digits-convnet-*-T4-s[0-9]",
    "digits": "digits-convnet-*-T4-s[0-9]",
}


def rows_of(page, table):
    (text,) = re.findall(rf"<!-- table: {re.escape(table)} -->(.*?)<!-- end -->", TEXT[page], re.S)
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.strip().splitlines()]
    return [line for line in lines[2:] if line]


def numbers(cell):
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", cell.replace("−", "-"))]


def ends(pattern):
    """The accuracies at t = 1 and T in percent of the runs of a pattern: loss -> seed -> [2]."""
    found = defaultdict(dict)
    for path in REFERENCE.glob(pattern):
        parameters = json.loads((path / "config.json").read_text())["parameters"]
        of_loss = found[registry.LOSSES[parameters["loss"]].label]
        assert parameters["seed"] not in of_loss
        of_loss[parameters["seed"]] = pd.read_csv(path / "accuracy_by_step.csv")["cumulative"].iloc[[0, -1]]
    return found


def apart(these, others):
    """Mean difference of common seeds at t = 1 and T and, of several, its interval: [2, 1 or 3]."""
    differences = np.array([these[seed].to_numpy() - others[seed] for seed in sorted(these.keys() & others)])
    interval = ttest_1samp(differences, 0).confidence_interval(0.95)
    columns = [differences.mean(0), interval.low, interval.high]
    return np.stack(columns[: 3 if len(differences) > 1 else 1], 1)


@pytest.mark.parametrize(("data", "pattern"), [*MAIN.items(), ("README", MAIN["CIFAR-10 (JPEG)"])])
def test_the_tables_of_all_losses_by_hand(data, pattern):
    accuracies = ends(pattern)
    labels = [loss.label for loss in registry.LOSSES.values()]
    if "CIFAR" in data or data == "README":
        labels.insert(labels.index("STCL"), "TCL, ce term mean")
        accuracies["TCL, ce term mean"] = ends("folder-convnet-tcl-T4-s[0-9]-1b0ae2")["TCL"]
    if data == "README":
        rows = rows_of("README.md", "results on CIFAR-10 (JPEG)")
    else:
        rows = rows_of("results.md", f"results on {data}")
    assert [row[0] for row in rows] == [label for label in labels if label in accuracies]
    for loss, seeds, *cells in rows:
        assert sorted(accuracies[loss]) == list(range(int(seeds)))
        own = np.array(list(accuracies[loss].values()))
        spread = [own.mean(0), own.std(0, ddof=1)] if len(own) > 1 else [own.mean(0)]
        assert_allclose([numbers(cell) for cell in cells[::2]], np.stack(spread, 1), atol=0.0051)
        if loss != "CE":
            expected = apart(accuracies[loss], accuracies["CE"])
            assert_allclose([numbers(cell) for cell in cells[1::2]], expected, atol=0.0051)


@pytest.mark.parametrize(
    ("table", "baseline", "count"), [("views", "TCL, views 2", 2), ("positives", "STCL", 5)]
)
def test_the_tables_of_variants_by_hand(table, baseline, count):
    found = load_runs(REFERENCE).query("dataset == 'moving_digits'")
    accuracies = {
        variant: {
            run.seed: load_run(run.path).accuracy_by_step["cumulative"].iloc[[0, -1]]
            for run in of.itertuples()
        }
        for variant, of in found.groupby("variant")
    }
    rows = [row for row in rows_of("results.md", table) if row[0].startswith("Moving digits")]
    assert len(rows) == count
    for _, variant, n, *cells in rows:
        own = accuracies[variant]
        assert int(n) == len(own) == 5
        means = np.mean(list(own.values()), 0)[:, None]
        expected = np.hstack([means, apart(own, accuracies[baseline])])
        assert_allclose([numbers(cell) for cell in cells], expected, atol=0.0051)


FIVE = ["ce", "per_step_ce", "prefix_ce", "tcl", "stcl"]
SEEDS = {  # data -> loss -> how many
    "CIFAR-10 (JPEG)": dict.fromkeys(FIVE, 5) | {"etc": 3, "tsd": 3},
    "Fashion-MNIST": dict.fromkeys([*FIVE, "etc", "tsd"], 1),
    "N-MNIST": dict.fromkeys(FIVE, 3),
}


@pytest.mark.parametrize("data", SEEDS)
def test_the_compared_runs_differ_in_the_loss_and_seed_alone(data):
    name = runpy.run_path(str(REPOSITORY / "docs" / "make_results.py"))["DATA"][data]
    table = statistics.main_variants(statistics.settings(load_runs(REFERENCE))[name])
    tuned = {"ce_term", "temporal_weight", "temperature"} if data == "CIFAR-10 (JPEG)" else set()
    names = set(RunConfig().to_dict()) - {"loss", "seed", "runs_dir", "run_name", "positives", *tuned}
    assert table[sorted(names)].astype(str).nunique().max() == 1
    contrastive = table[table["loss"].isin(["tcl", "stcl"])]
    assert contrastive[[*tuned]].astype(str).nunique().eq(1).all()
    assert table["loss"].value_counts().to_dict() == SEEDS[data]
    assert table.groupby("loss")["seed"].apply(lambda seeds: set(seeds) == set(range(len(seeds)))).all()


# form


def test_the_readme_is_short():
    assert 900 <= len(README.split()) <= 1200


def test_there_is_a_page_for_every_subject():
    linked = {name for text in TEXT.values() for name in re.findall(r"\((?:docs/)?(\w+)\.md[#)]", text)}
    assert {path.stem for path in PAGES} == {"README", *linked}
    assert all(f"(docs/{subject}.md)" in README for subject in SUBJECTS)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_every_link_leads_to_a_file_and_a_heading(path):
    links = re.findall(r"\]\(([^)]+)\)", TEXT[path.name])
    for link in links:
        if link.startswith("https://"):
            continue
        file, _, heading = link.partition("#")
        target = path.parent / file if file else path
        assert target.exists(), link
        assert target.resolve().is_relative_to(REPOSITORY), link
        if heading:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M)
            anchors = [re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings]
            assert heading in anchors, link


def test_no_sentence_stands_twice():
    prose = re.sub(r"```.*?```|^ {4}.*$|^\|[-:| ]+$", "", "\n".join(TEXT.values()), flags=re.M | re.S)
    sentences = [
        " ".join(sentence.split())
        for paragraph in re.split(r"\n\n|^[-|] |\|", prose, flags=re.M)
        for sentence in re.split(r"(?<=[.?!:]) ", paragraph)
    ]
    long = [sentence for sentence in sentences if len(sentence.split()) >= 6]
    assert sorted(sentence for sentence in set(long) if long.count(sentence) > 1) == []


def test_the_badges_say_what_the_project_says():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert project["license"] == "MIT"
    assert project["requires-python"] == ">=3.11,<3.13"
    badges = re.findall(r"!\[([^\]]*)\]\(https://img\.shields\.io", README)
    assert badges == ["Python 3.11 | 3.12", "MIT licence"]


# layout and names


def layout() -> list[str]:
    """Return the folders that the layout of the README names, as paths."""
    block = README.split("## Layout")[1].split("\n## ")[0]
    found, parents = [], []
    for spaces, name in re.findall(r"^ {4}( *)(\w+)/ ", block, re.M):
        parents = [*parents[: len(spaces) // 2], name]
        found.append("/".join(parents))
    return found


def test_the_layout_names_the_folders():
    assert all((REPOSITORY / folder).is_dir() for folder in layout())
    packages = [path.parent.relative_to(REPOSITORY) for path in REPOSITORY.glob("tcl_lib/**/__init__.py")]
    assert {folder for folder in layout() if folder.startswith("tcl_lib")} == {str(p) for p in packages}
    shown = {path.name for path in REPOSITORY.iterdir() if path.is_dir() and not path.name.startswith(".")}
    built = {"data", "build", "dist"} | {name for name in shown if name.endswith(".egg-info")}
    assert shown - built <= set(layout())


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_names_and_files_exist(path):
    for name in re.findall(r"`(tcl_lib(?:\.\w+)+)", TEXT[path.name]):
        pkgutil.resolve_name(name)
    for file in re.findall(r"`((?:tcl_lib|tests|docs|notebooks|benchmarks)/[\w/.]*)`", TEXT[path.name]):
        assert (REPOSITORY / file).exists(), file


# commands


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_make_has_the_targets(path):
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.M)
    assert set(re.findall(r"(?:`|^ {4})make ([\w-]+)", TEXT[path.name], re.M)) <= set(targets)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_notebooks_take_the_parameters(path):
    for line in re.findall(r"^ {4}papermill (.*)$", TEXT[path.name].replace("\\\n", ""), re.M):
        notebook, out, *_ = line.split()
        names = inspect_notebook(str(REPOSITORY / notebook))
        assert out.startswith("runs/"), line
        given = dict(re.findall(r"-p (\w+) (\S+)", line))
        given |= {n: v for text in re.findall(r'-y "(.*?)"', line) for n, v in yaml.safe_load(text).items()}
        assert set(given) <= set(names), line
        if notebook == "notebooks/train.ipynb":
            RunConfig(**{name: yaml.safe_load(v) if isinstance(v, str) else v for name, v in given.items()})


def test_the_readme_names_the_commands_and_notebooks():
    for command in ("make train", "make test", "make figures", "python -m pytest", "jupyter lab"):
        assert re.search(rf"^    {command}( |$)", README, re.M), command
    linked = set(re.findall(r"\(notebooks/(\w+)\.ipynb\)", README))
    assert linked == {path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")}
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert f"conda activate {environment['name']}\n" in README


# Python


def code(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", TEXT[page], re.M | re.S)


def test_the_lines_of_the_readme_run(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TCL_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    small = {"train_size": 96, "time_steps": [2], "epochs": 1, "batch_size": [32]}
    grid = partial(tcl_lib.grid, **small)
    monkeypatch.setattr(tcl_lib, "grid", lambda **parameters: grid(**parameters)[:2])
    monkeypatch.setattr(tcl_lib, "RunConfig", partial(tiny, runs_dir=None))
    first, second = code("README.md")
    names = {}
    exec(first, names)
    assert len(first.splitlines()) == 8
    assert names["run"].config.loss == "tcl"
    assert list(names["runs"]["name"]) == [names["run"].name]
    assert list(names["table"]["loss"]) == ["ce", "tcl"]
    assert not names["network"].training
    exec(second, names)
    assert names["figure"].caption.startswith("Test accuracy by time step on Digits.")
    assert (tmp_path / "paper" / "accuracy-by-step-89mm.pdf").exists()
    assert (tmp_path / "shared" / "my-run" / "README.md").exists()


def test_the_lines_of_the_page_on_extending_run():
    functions, *_, neuron = code("extending.md")
    names = {}
    exec(functions, names)
    assert names["loss"].ndim == 0
    assert names["current"].grad.abs().sum() > 0
    exec(neuron, names)
    assert names["logits"].shape == (4, 8, 10)
    assert names["features"].shape[:2] == (4, 8)


@pytest.mark.soak
def test_the_lines_of_the_page_on_export_run(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"run": trained}
    for lines in code("export.md"):
        exec(lines, names)
    with names["torch"].no_grad():
        whole = names["network"].eval()(names["images"]).logits.mean(0)
    assert (names["answers"] == whole.argmax(-1).numpy()).all()
    assert {path.name for path in tmp_path.iterdir()} >= {"network.nir", "step.onnx", "network.pt2", "shared"}


@pytest.mark.usefixtures("own_names")
def test_the_loss_and_the_backbone_of_the_page_on_extending_train(tiny, tmp_path):
    _, loss, backbone, _ = code("extending.md")
    (tmp_path / "own.py").write_text(loss + backbone)
    plugin = {"plugin": str(tmp_path / "own.py"), "loss": "steady", "backbone": "one_layer"}
    run = tcl_lib.train(tiny(**plugin, temperature=3.0, temporal_weight=0.2), verbose=False)
    metrics = run.metrics.iloc[0]
    assert metrics["step_variance"] > 0
    assert metrics["loss"] == pytest.approx(metrics["cross_entropy"] + 0.2 * metrics["step_variance"])
    assert run.config.identity() != tiny(**plugin, temperature=2.5, temporal_weight=0.2).identity()


# parameters


def test_the_page_of_parameters_is_made_from_the_config():
    made = runpy.run_path(str(REPOSITORY / "docs" / "make_parameters.py"))["page"]()
    assert TEXT["parameters.md"] == made, "run: python docs/make_parameters.py > docs/parameters.md"


def test_the_page_of_parameters_has_a_row_for_each():
    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \| (.+?) \| (.+) \|$", TEXT["parameters.md"], re.M)
    defaults = {name: str(value) for name, value in RunConfig().to_dict().items()}
    assert {name: default for name, default, _, _ in rows} == defaults
    allowed = {name: text for name, _, text, _ in rows}
    assert allowed["loss"] == "`ce`, `per_step_ce`, `prefix_ce`, `etc`, `tsd`, `tcl`, `stcl`"
    assert allowed["ce_term"] == "`mean`, `per_step`, `prefix` or `None`"
    assert allowed["validation_fraction"] == "number > 0, ≤ 0.5"
    assert allowed["train_size"] == "integer ≥ 2 or `None`"
    assert allowed["seed"] == "integer ≥ 0, < 2³²"
    assert allowed["flip"] == "`True`, `False` or `None`"
    assert allowed["positives"] == "list of `class`, `time`, `view`"
