"""The ways to install the project say the same."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import tcl_lib
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(
    line.split("==") for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if "==" in line
)
REQUIREMENTS = [
    Requirement(line)
    for line in sum(PROJECT["optional-dependencies"].values(), start=PROJECT["dependencies"])
    if not line.startswith(PROJECT["name"])  # dev has the extra export
]


def test_environment_yml_is_python_and_this_project():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    assert environment["channels"][0] == "conda-forge"
    python, pip, project = environment["dependencies"]
    assert pip == "pip"
    assert project == {"pip": ["-c constraints.txt", "-e .[dev]"]}
    name, version = python.split("=")
    assert name == "python"
    assert version in SpecifierSet(PROJECT["requires-python"])


def test_both_python_versions_are_allowed():
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(9, 15) if f"3.{minor}.0" in allowed] == [11, 12]


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_the_tested_set_holds_what_the_project_asks_for(requirement):
    assert CONSTRAINTS[requirement.name.lower()] in requirement.specifier


def test_the_tested_set_installs_on_every_python_allowed():
    for name in CONSTRAINTS:
        try:
            installed = metadata.metadata(name)
        except metadata.PackageNotFoundError:  # for another Python or system than this one
            continue
        if installed["Version"] != CONSTRAINTS[name]:
            continue
        requires = installed.get("Requires-Python")
        missing = [v for v in ("3.11.0", "3.12.0") if v not in SpecifierSet(requires or "")]
        assert not missing, f"{name} {CONSTRAINTS[name]} does not install on Python {missing}"


@pytest.mark.parametrize(
    "name",
    ["torch", "torchvision", "norse", "jupyterlab", "matplotlib", "seaborn", "papermill", "pandas"],
)
def test_what_was_asked_for_is_a_dependency(name):
    assert name in {Requirement(line).name for line in PROJECT["dependencies"]}


def test_torch_and_torchvision_are_the_pinned_pair():
    assert (CONSTRAINTS["torch"], CONSTRAINTS["torchvision"]) == ("2.12.1", "0.27.1")
    wanted = [line for line in metadata.requires("torchvision") if re.match(r"torch\b", line)]
    assert CONSTRAINTS["torch"] in Requirement(wanted[0]).specifier


def test_a_sound_pair_passes_the_check():
    runpy.run_module("tcl_lib.utils.provenance", run_name="__main__")


def test_a_broken_pair_is_one_clear_line(tmp_path):
    broken = tmp_path / "torchvision"
    broken.mkdir()
    (broken / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist\\nand a trace')"
    )
    done = subprocess.run(
        [sys.executable, "-m", "tcl_lib.utils.provenance"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
        cwd=REPOSITORY,
    )
    assert done.returncode != 0
    (line,) = done.stderr.strip().splitlines()
    assert re.match(r"error: torch [\d.+a-z]+ and torchvision [\d.+a-z]+ do not work together", line)
    assert "operator torchvision::nms does not exist" in line
    assert "make setup" in line


def test_everything_public_is_there():
    for name in tcl_lib.__all__:
        assert getattr(tcl_lib, name) is not None
    with pytest.raises(AttributeError, match="No tcl_lib attribute trian"):
        tcl_lib.trian  # noqa: B018
