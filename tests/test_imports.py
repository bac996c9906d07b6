"""What imports what: the heart stands on torch and Norse alone, and folders build on those below."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import tcl_lib

PACKAGE = Path(tcl_lib.__file__).parent
HEART = ("neurons", "fused", "backbones", "losses")
# What a folder or file of the package may import of the package beside itself.
BELOW = {
    "utils": set(),
    "config": {"utils"},
    "train": {"utils"},
    **{name: set(HEART) for name in HEART},
    "stepwise": set(HEART),
    "data": {"config", "utils"},
    "runs": {"config", "utils"},
    "analysis": {*HEART, "config", "stepwise", "data", "runs", "utils"},
    "figures": {"config", "analysis", "runs", "utils"},
    "training": {*HEART, "config", "data", "runs", "analysis", "utils"},
    "export": {*HEART, "config", "stepwise", "data", "runs", "analysis", "training", "utils"},
    "explore": {*HEART, "config", "data", "runs", "analysis", "training", "figures", "utils"},
}
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def imported(path: Path) -> list[str]:
    """Return the modules that a file imports, at its top or inside a function."""
    names = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            # `from tcl_lib import neurons` imports tcl_lib.neurons
            names += [f"{node.module}.{alias.name}" if node.module == "tcl_lib" else node.module
                      for alias in node.names]  # fmt: skip
    return names


def part(name: str) -> str:
    """Return the folder or file of tcl_lib that defines a dotted name, as "runs" for tcl_lib.load_run."""
    first = name.split(".")[1]
    origin = tcl_lib.__dict__["_getattr"]  # lazy_loader's, which knows where a name comes from
    return first if first in BELOW else getattr(origin(first), "__module__", first).split(".")[1]


@pytest.mark.parametrize("name", HEART)
def test_the_heart_imports_torch_norse_and_itself_alone(name):
    for module in imported(PACKAGE / f"{name}.py"):
        top = module.split(".")[0]
        assert top in {"torch", "norse", *sys.stdlib_module_names} or module.split(".")[:2][-1] in HEART, (
            module
        )
    if name == "losses":
        assert not [module for module in imported(PACKAGE / "losses.py") if module.startswith("tcl_lib")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_folder_imports_only_those_below_it(path):
    mine = path.relative_to(PACKAGE).with_suffix("").parts[0]
    for module in imported(path):
        if module.startswith("tcl_lib."):
            assert part(module) in BELOW[mine] | {mine}, f"{mine} imports {module}"


def test_every_folder_has_its_place():
    parts = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES}
    assert parts == set(BELOW)


def test_the_heart_loads_in_a_process_without_the_rest():
    code = (
        "import sys, tcl_lib.backbones, tcl_lib.losses;"
        "print(sorted(name for name in sys.modules if name.startswith('tcl_lib.')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == sorted(f"tcl_lib.{name}" for name in HEART)


# What loads no torch: parameters are checked at once, and figures are drawn on a laptop.
LIGHT = ["config", "config.registration", "runs", "figures", "analysis.statistics", "analysis.similarity"]
LIGHT += ["analysis.tsne", "training.grids", "utils.notebooks", "data.events.cache"]


def test_some_modules_are_reachable_as_attributes_without_torch():
    check = "assert eval(f'tcl_lib.{name}').__name__ == f'tcl_lib.{name}'"
    code = f"import sys, tcl_lib\nfor name in {LIGHT}: {check}; assert 'torch' not in sys.modules, name"
    subprocess.run([sys.executable, "-c", code], check=True)


# `figures` has its drawing functions instead, some of the same names.
SUBMODULES = [path for path in FILES if path.parent.name != "figures" or path.stem == "__init__"]


@pytest.mark.parametrize("path", SUBMODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_is_an_attribute_of_its_package(path):
    whole = path.parent if path.stem == "__init__" else path.with_suffix("")
    package = importlib.import_module(".".join(whole.parent.relative_to(PACKAGE.parent).parts))
    assert whole.name in dir(package)
    value = getattr(package, whole.name)
    if whole.name == "train":
        assert callable(value)  # the module is a command; the attribute is the function
    else:
        assert value.__name__ == f"{package.__name__}.{whole.name}"
