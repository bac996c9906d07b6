"""Every notebook, top to bottom, in JupyterLab in a headless Chromium: `make browser-test`.

The screenshots are left in runs/browser/, to be looked at.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

pytestmark = pytest.mark.soak

SCREENSHOTS = REPOSITORY / "runs" / "browser"
TOKEN = "tests"
QUIET = [  # what headless Chromium would otherwise ask of the network
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
# Each a run of seconds, long enough to see it move.
PARAMETERS = {
    "train": {"epochs": 4},
    "ablation": {"epochs": 2, "seeds": [0, 1], "positives": [["class"], ["class", "time"]]},
    "similarity": {"runs_dir": "runs/reference"},
    "figures": {"runs_dir": "runs/reference"},
    "explore": {},
    "findings": {"runs_dir": "runs/reference"},
    "benchmark": {"time_steps": [1, 2], "long_time_steps": 4, "batch_size": 16, "rounds": 2},
}
NOTEBOOKS = sorted(path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The notebooks with these parameters, their runs and figures beside them."""
    root = tmp_path_factory.mktemp("lab")
    for name, parameters in PARAMETERS.items():
        notebook = load_notebook_node(str(REPOSITORY / "notebooks" / f"{name}.ipynb"))
        places = {"runs_dir": str(root / "runs")} | ({} if name == "train" else {"figures_dir": str(root)})
        if name == "benchmark":
            places = {"folder": str(root)}
        if name == "explore":
            places = {}
        changed = parameterize_notebook(notebook, places | parameters)
        nbformat.write(changed, root / f"{name}.ipynb")
    return root


@pytest.fixture(scope="module")
def lab(folder, tmp_path_factory):
    """The address of a JupyterLab that serves the folder."""
    own = tmp_path_factory.mktemp("jupyter")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", f"--port={port}"]
    command += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder}"]
    command += ["--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
    settings = own / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    settings.parent.mkdir(parents=True)
    settings.write_text('{"fetchNews": "false"}')
    places = ("JUPYTER_CONFIG_DIR", "JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    log = open(own / "log", "w")  # noqa: SIM115
    # as `make lab` has it: benchmark.ipynb imports the folder benchmarks/
    environment = os.environ | dict.fromkeys(places, str(own)) | {"PYTHONPATH": str(REPOSITORY)}
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)
    address = f"http://127.0.0.1:{port}"
    for _ in range(120):
        time.sleep(0.5)
        try:
            ask(address, "api")
            break
        except OSError:
            assert server.poll() is None, (own / "log").read_text()
    yield address
    server.terminate()
    server.wait(30)
    log.close()


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: make browser")
    found = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as start:
        if not Path(found or start.chromium.executable_path).exists():
            pytest.skip("needs Chromium: make browser")
        browser = start.chromium.launch(executable_path=found, args=QUIET)
        yield browser
        browser.close()


def ask(address: str, what: str):
    request = urllib.request.Request(f"{address}/{what}", headers={"Authorization": f"token {TOKEN}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def busy(address: str, name: str) -> bool:
    sessions = [s for s in ask(address, "api/sessions") if s["path"] == f"{name}.ipynb"]
    return not sessions or sessions[0]["kernel"]["execution_state"] != "idle"


def test_every_notebook_is_here():
    assert sorted(PARAMETERS) == NOTEBOOKS


def run_all(page, lab: str, name: str) -> set[str]:
    """Open a notebook, run all its cells, and return the lines of progress bars that were seen."""
    page.goto(f"{lab}/lab/workspaces/{name}/tree/{name}.ipynb?token={TOKEN}")
    page.locator(".jp-Notebook").wait_for(timeout=60_000)
    patience = time.monotonic() + 600
    while busy(lab, name):
        assert time.monotonic() < patience, "the kernel did not start"
        page.wait_for_timeout(200)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()

    quiet, moving = 0, set()
    while quiet < 5:  # idle for as long as no cell can start in between
        assert time.monotonic() < patience, "the notebook did not come to its end"
        page.wait_for_timeout(400)
        quiet = 0 if busy(lab, name) else quiet + 1
        for line in page.locator(".jp-OutputArea-output pre").all_inner_texts():
            if "step/s" in line and not moving:
                page.screenshot(path=SCREENSHOTS / f"{name}-running.png")
            moving |= {line} if "step/s" in line else set()
    return moving


@pytest.mark.parametrize("name", PARAMETERS)
def test_runs_in_jupyterlab(folder, lab, chromium, name):
    # tall enough to see the training cell move
    page = chromium.new_page(viewport={"width": 1400, "height": 3400})
    moving = run_all(page, lab, name)
    if name in ("train", "ablation"):
        assert len(moving) > 2, "no progress was seen while training"

    page.keyboard.press("Control+s")
    page.wait_for_timeout(2000)
    page.set_viewport_size({"width": 1400, "height": 12_000})
    page.locator(".jp-WindowedPanel-outer").first.evaluate("panel => panel.scrollTo(0, 0)")
    page.wait_for_timeout(2000)
    last = page.locator(".jp-Notebook .jp-Cell").last.bounding_box()
    whole = {"x": 0, "y": 0, "width": 1400, "height": last["y"] + last["height"] + 20}
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"{name}.png", clip=whole)
    pictures = page.locator(".jp-RenderedHTMLCommon figure img")
    sharp = pictures.evaluate_all("found => found.map(img => img.naturalWidth >= 0.99 * img.clientWidth)")
    page.close()

    saved = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    cells = [cell for cell in saved.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells)
    outputs = [output for cell in cells for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
    shown = sum("<figure" in "".join(output.get("data", {}).get("text/html", "")) for output in outputs)
    assert shown >= {"benchmark": 1, "explore": 0}.get(name, 2)  # explore.ipynb shows widgets
    assert sharp == [True] * shown


def test_every_widget_of_explore_changes_the_pictures(lab, chromium):
    page = chromium.new_page(viewport={"width": 1400, "height": 3400})
    run_all(page, lab, "explore")
    images = page.locator("img.widget-image")
    assert images.count() == 3

    def widget(label: str):
        return page.locator(".jupyter-widgets").filter(has=page.locator(f"label:text-is('{label}')")).last

    def choose(label: str, index: int):
        return lambda: widget(label).locator("select").select_option(index=index)

    def slide(label: str):
        return lambda: widget(label).locator(".noUi-handle").press("ArrowRight")

    def sources() -> list[str]:
        return images.evaluate_all("found => found.map(img => img.src)")

    both, all_three = [True, True, False], [True, True, True]
    changes = {
        "step": (slide("time step t"), both),
        "layer": (choose("potentials", 0), both),
        "sample": (slide("test sample"), both),
        "gallery": (choose("only one right", 1), both),
        "right": (choose("right", 0), [False, True, True]),
        "left": (choose("left", 1), [True, False, True]),
        "data": (choose("data", 1), all_three),
        "play": (lambda: page.locator(".widget-play button").first.click(), both),
    }
    seconds = {}
    for name, (change, expected) in changes.items():
        before, since = sources(), time.monotonic()
        change()
        first = expected.index(True)
        while sources()[first] == before[first]:
            assert time.monotonic() - since < 20, f"{name} changed nothing"
            page.wait_for_timeout(20)
        seconds[name] = round(time.monotonic() - since, 2)
        page.wait_for_timeout(2000)
        changed = [one != other for one, other in zip(before, sources(), strict=True)]
        assert changed == expected, name
        page.screenshot(
            path=SCREENSHOTS / f"explore-{name}.png", clip={"x": 0, "y": 0, "width": 1400, "height": 2600}
        )
    print("seconds until the pictures changed:", seconds)
    page.close()
