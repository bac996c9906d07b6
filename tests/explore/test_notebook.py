"""`notebooks/explore.ipynb` as papermill runs it: a page of the same views."""

import nbformat
from papermill import execute_notebook

from tcl_lib.utils.paths import CHECKOUT as REPOSITORY


def test_the_notebook_prints_a_page_where_nobody_moves_a_widget(small_runs, tmp_path):
    parameters = {"runs_dir": str(small_runs), "select": "seed == 0", "sample": 4}
    notebook, out = REPOSITORY / "notebooks" / "explore.ipynb", tmp_path / "out.ipynb"
    execute_notebook(notebook, out, parameters, kernel_name="python3", progress_bar=False, cwd=tmp_path)
    outputs = [o for cell in nbformat.read(out, as_version=4).cells for o in cell.get("outputs", [])]
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == 2 * 3  # of two datasets: the first step, the last step, the gallery
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "left out 1 run(s): neither" in outputs[0]["text"]
    assert out.stat().st_size < 900_000
