"""The README says what is there: its numbers are the reference runs', its layout that of the files."""

import re

import pytest

from tcl_lib import load_run, load_runs, runs
from tcl_lib.analysis import statistics
from tcl_lib.config import RunConfig
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

README = (REPOSITORY / "README.md").read_text()
REFERENCE = REPOSITORY / "runs" / "reference"


@pytest.mark.parametrize("loss", ["ce", "per_step_ce", "tcl", "stcl"])
def test_the_table_is_that_of_the_reference_runs(loss):
    run = load_run(REFERENCE / f"cifar10-jpeg-{loss}")
    assert run.config.loss == loss
    (row,) = re.findall(rf"^\| `{loss}` \|((?: [\d.]+ \|){{4}})$", README, re.M)
    stated = [float(number) for number in re.findall(r"[\d.]+", row)]
    assert stated == pytest.approx(run.accuracy_by_step["cumulative"].tolist(), abs=0.0051)


def test_the_digits_table_is_that_of_the_reference_runs():
    rows = statistics.main_variants(statistics.settings(load_runs(REFERENCE))["digits-convnet-T4"])
    assert rows["seed"].value_counts().to_dict() == {0: 4, 1: 4, 2: 4}
    table = statistics.results_table(statistics.compare(runs.gather(rows, "accuracy_by_step")))
    for line in statistics.markdown(table, "").strip().splitlines():
        assert " ".join(line.split()) in " ".join(README.split()), line


@pytest.mark.parametrize("loss", ["ce", "per_step_ce", "tcl", "stcl"])
def test_the_event_table_is_that_of_the_reference_runs(loss):
    (row,) = re.findall(rf"^\| `{loss}` \|((?: \d+, \d+ \|){{5}})$", README, re.M)
    stated = [int(number) for number in re.findall(r"\d+", row)]
    seeds = [load_run(REFERENCE / f"nmnist-small-{loss}{seed}").accuracy_by_step for seed in ("", "-s1")]
    steps = [table.set_index("time_step").loc[[1, 2, 3, 5, 10], "cumulative"] for table in seeds]
    assert stated == pytest.approx([value for pair in zip(*steps, strict=True) for value in pair], abs=0.51)


@pytest.mark.parametrize(("data", "runs_of_each"), [("cifar10-jpeg", 1), ("nmnist-small", 2)])
def test_the_reference_runs_differ_in_the_loss_and_seed_alone(data, runs_of_each):
    table = load_runs(REFERENCE)
    table = table[table["name"].str.startswith(data)]
    names = set(RunConfig().to_dict()) - {"loss", "seed", "run_name", "positives"}
    assert table[sorted(names)].astype(str).nunique().max() == 1
    losses = ("ce", "per_step_ce", "stcl", "tcl")
    assert table["loss"].value_counts().to_dict() == dict.fromkeys(losses, runs_of_each)
    assert table["data"].str.contains(data).all()


def test_the_layout_names_every_module():
    modules = {path.name for path in (REPOSITORY / "tcl_lib").glob("*.py")} - {"__init__.py"}
    layout = README.split("## Layout")[1].split("## ")[0]
    assert set(re.findall(r"^      (\w+\.py)", layout, re.M)) == modules


def test_every_file_it_links_to_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert all((REPOSITORY / link).exists() for link in links)
