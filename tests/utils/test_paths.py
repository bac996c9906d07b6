"""`utils.paths` and `utils.provenance`: where runs, data and caches go, and whose commit is recorded."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tcl_lib.utils import paths, provenance


def installed(tmp_path, code: str, **environment) -> list[str]:
    """Run code with a copy of the package that is in no clone, in a folder of another git repository."""
    site, folder = tmp_path / "site-packages", tmp_path / "elsewhere"
    shutil.copytree(paths.CHECKOUT / "tcl_lib", site / "tcl_lib", dirs_exist_ok=True)
    folder.mkdir(exist_ok=True)
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "another project"]):
        author = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", *author, *command], cwd=folder, check=True)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(site)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


SHOW = """
import tcl_lib
from tcl_lib.utils import paths, provenance
print(tcl_lib.__file__, paths.home(), paths.cache(), provenance.git_commit(), sep="\\n")
print(tcl_lib.RunConfig().run_path, tcl_lib.RunConfig().data_path, sep="\\n")
"""


def test_an_installed_package_uses_the_current_folder_and_no_commit_of_another_repository(tmp_path):
    folder = tmp_path / "elsewhere"
    file, home, cache, commit, run, data = installed(tmp_path, SHOW)
    assert Path(file).is_relative_to(tmp_path / "site-packages")
    assert (home, cache, commit) == (str(folder), str(folder / "data" / "cache"), "None")
    assert (run, data) == (str(folder / "runs" / "digits-convnet-stcl-T4-s0"), str(folder / "data"))


def test_a_copy_inside_another_project_is_no_clone(tmp_path):
    (tmp_path / "site-packages").mkdir()
    (tmp_path / "site-packages" / "pyproject.toml").write_text('[project]\nname = "another"\n')
    home, commit = installed(tmp_path, SHOW)[1:4:2]
    assert (home, commit) == (str(tmp_path / "elsewhere"), "None")


def test_tcl_home_names_the_folder(tmp_path):
    home = installed(tmp_path, SHOW, TCL_HOME=str(tmp_path / "home"))[1]
    assert home == str(tmp_path / "home")


def test_a_clone_uses_its_own_folder_and_commit(monkeypatch, tmp_path):
    monkeypatch.delenv("TCL_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    assert paths.home() == paths.CHECKOUT == Path(__file__).resolve().parents[2]
    head = subprocess.run(
        ["git", "-C", str(paths.CHECKOUT), "rev-parse", "HEAD"], capture_output=True, text=True
    )
    if head.returncode == 0:
        assert provenance.git_commit().removesuffix("+changes") == head.stdout.strip()
