"""The README says what is there: its numbers are the reference runs', its layout that of the files."""

import re

import pytest

from tcl_lib import load_run, load_runs
from tcl_lib.config import REPOSITORY, RunConfig

README = (REPOSITORY / "README.md").read_text()
REFERENCE = REPOSITORY / "runs" / "reference"


@pytest.mark.parametrize("loss", ["ce", "per_step_ce", "tcl", "stcl"])
def test_the_table_is_that_of_the_reference_runs(loss):
    run = load_run(REFERENCE / f"cifar10-jpeg-{loss}")
    assert run.config.loss == loss
    (row,) = re.findall(rf"^\| `{loss}` \|((?: [\d.]+ \|){{4}})$", README, re.M)
    stated = [float(number) for number in re.findall(r"[\d.]+", row)]
    assert stated == pytest.approx(run.accuracy_by_step["cumulative"].tolist(), abs=0.0051)


def test_the_reference_runs_differ_in_the_loss_alone():
    table = load_runs(REFERENCE)
    names = set(RunConfig().to_dict()) - {"loss", "run_name", "positives"}
    assert table[sorted(names)].astype(str).nunique().max() == 1
    assert sorted(table["loss"]) == ["ce", "per_step_ce", "stcl", "tcl"]


def test_the_layout_names_every_module():
    modules = {path.name for path in (REPOSITORY / "tcl_lib").glob("*.py")} - {"__init__.py"}
    layout = README.split("## Layout")[1].split("## ")[0]
    assert set(re.findall(r"^      (\w+\.py)", layout, re.M)) == modules


def test_every_file_it_links_to_exists():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if not link.startswith("http")]
    assert links
    assert all((REPOSITORY / link).exists() for link in links)
