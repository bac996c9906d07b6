"""Printed tables hold what was computed, and their captions say what it is."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import write_run

from tcl_lib import RunConfig, load_run, load_runs
from tcl_lib.analysis import tables
from tcl_lib.analysis.tables import results_table
from tcl_lib.runs import layout

DATA = "folder (50 % of_them)"
ROWS = pd.DataFrame({"data": DATA, "setting": f"{DATA}, convnet, T = 2", "variant": ["CE", "TCL"], "seed": 0})
COMPARED = pd.DataFrame(
    [
        ("CE", 1, 61.0, 1.414, 2, np.nan, np.nan, np.nan, 0),
        ("per-step CE", 1, 62.0, 1.414, 2, 1.0, -2.5, 4.5, 2),
        ("CE", 2, 71.0, 1.414, 2, np.nan, np.nan, np.nan, 0),
        ("per-step CE", 2, 70.0, 1.414, 3, -1.0, -3.0, -0.001, 2),
    ],
    columns=["variant", "time_step", "mean", "sd", "n", "difference", "low", "high", "pairs"],
)
STALE = pd.DataFrame(
    [("CE", 3, 5.6, 0.4, 1.9, 1.2, 2.6, 33.9), ("TCL", 1, -0.3, np.nan, -0.1, np.nan, np.nan, np.nan)],
    columns=["variant", "n", "lost", "lost_sd", "regained", "low", "high", "share"],
)


def test_results_table_prints_every_number():
    assert results_table(COMPARED).to_dict("records") == [
        {
            "loss": "CE",
            "seeds": 2,
            "t = 1 (%)": "61.00 ± 1.41",
            "to CE at t = 1 (points)": "–",
            "t = T = 2 (%)": "71.00 ± 1.41",
            "to CE at t = T = 2 (points)": "–",
        },
        {
            "loss": "per-step CE",
            "seeds": 2,
            "t = 1 (%)": "62.00 ± 1.41",
            "to CE at t = 1 (points)": "+1.00 [−2.50, +4.50]",
            "t = T = 2 (%)": "70.00 ± 1.41",
            "to CE at t = T = 2 (points)": "−1.00 [−3.00, +0.00] (2 pairs)",
        },
    ]


def test_results_table_of_one_seed_has_no_spread_and_no_interval():
    one = COMPARED.assign(n=1, sd=np.nan, low=np.nan, high=np.nan, pairs=1)
    assert results_table(one).iloc[1, 2:4].tolist() == ["62.00", "+1.00"]


def test_results_table_of_one_step_names_it_first_and_last():
    columns = results_table(COMPARED[:2]).columns.tolist()
    assert columns == ["loss", "seeds", "t = T = 1 (%)", "to CE at t = T = 1 (points)"]


def test_recalibration_table_prints_no_negative_zero():
    (row,) = tables.recalibration_table(STALE[:1].assign(share=-1e-13)).to_dict("records")
    assert row["share (%)"] == "0"


def test_recalibration_table_prints_every_number():
    assert tables.recalibration_table(STALE).to_dict("records") == [
        {
            "loss": "CE",
            "seeds": 3,
            "lost at t = 1 (points)": "5.60 ± 0.40",
            "regained (points)": "+1.90 [+1.20, +2.60]",
            "share (%)": "34",
        },
        {
            "loss": "TCL",
            "seeds": 1,
            "lost at t = 1 (points)": "−0.30",
            "regained (points)": "−0.10",
            "share (%)": "–",
        },
    ]


def test_caption_says_what_runs_differ_in():
    assert tables.caption(ROWS, "Accuracy.") == "50 % of_them, convnet, T = 2. Accuracy."
    said = "50 % of_them, convnet, T = 2. Accuracy. The runs had different numbers of threads (1, 2): that"
    assert tables.caption(ROWS.assign(threads=[1, 2]), "Accuracy.").startswith(said)


def test_write_table_writes_markdown_and_latex(tmp_path):
    table = tables.Printed(results_table(COMPARED), tables.caption(ROWS, tables.RESULTS), ((1, "t = 1 (%)"),))
    tables.write_table(table, tmp_path / "digits" / "results", "tab:digits-results")
    latex = (tmp_path / "digits" / "results.tex").read_text()
    assert r"per-step CE & 2 & \textbf{62.00 $\pm$ 1.41} & +1.00 [$-$2.50, +4.50] & 70.00 $\pm$ 1.41" in latex
    assert latex.startswith("\\begin{table}[tbp]\n\\centering\n")
    assert (
        r"\caption{50 \% of\_them, convnet, $T = 2$. Test accuracy when inference stops after $t$ time"
        in latex
    )
    assert "Bold: ahead of every other loss" in latex
    assert r"\label{tab:digits-results}" in latex
    assert all(rule in latex for rule in (r"\toprule", r"\midrule", r"\bottomrule"))
    assert latex.isascii()
    assert r"$t = 1$ (\%) & to CE at $t = 1$ (points) & $t = T = 2$ (\%)" in latex
    markdown = (tmp_path / "digits" / "results.md").read_text()
    assert "| per-step CE |       2 | 62.00 ± 1.41 |" in markdown
    assert "\n\n50 % of_them, convnet, T = 2. Test accuracy" in markdown
    assert "Student's t" in markdown


def test_latex_shows_every_character_of_a_table():
    cells = pd.DataFrame({"a^b": ["~"], "c_$1_$2": [r"{d}\e_$"]})
    text = tables.latex(tables.Printed(cells, r"\~^{}%&#_$ ±"), "tab:x")
    shown = r"\textbackslash{}\textasciitilde{}\textasciicircum{}\{\}\%\&\#\_\$ $\pm$"
    assert f"\\caption{{{shown}}}" in text
    assert r"a\textasciicircum{}b & c\_\$1\_\$2" in text
    assert r"\textasciitilde{} & \{d\}\textbackslash{}e\_\$ \\" in text
    assert "Bold" not in text


def test_results_are_in_bold_only_where_they_are_ahead_by_the_interval(tiny):
    accuracies = {"ce": (60, 61, 62), "tcl": (70, 71.5, 72), "stcl": (50, 99, 70)}
    found = []
    for loss, values in accuracies.items():
        for seed, value in enumerate(values):
            config = tiny(loss=loss, seed=seed)
            steps = {"time_step": [1, 2], "cumulative": [value, 80.0], "instantaneous": 50.0}
            write_run(config, tables={layout.ACCURACY: steps})
            found.append(load_run(config.run_path))
    assert tables.results(found[:6]).best == ((1, "t = 1 (%)"),)  # TCL; at T both are equal
    assert tables.results(found).best == ()  # STCL is ahead of TCL by one seed alone
    assert tables.results(found[3]).best == ()


def test_shown_has_no_row_numbers_and_whole_numbers_are_whole():
    table = pd.DataFrame({"layer": ["1", "total"], "macs": [1280000.0, 3.0], "rate": [0.123456, np.nan]})
    html = tables.shown(table.set_index("layer")).to_html()
    cells = re.findall(r"<t[dh][^>]*>([^<]*)</t[dh]>", html)
    assert cells == ["layer", "macs", "rate", "1", "1,280,000", "0.12", "total", "3", "–"]
    assert repr(tables.shown(table)).splitlines()[1].split() == ["1", "1280000", "0.12"]


@pytest.mark.parametrize("make", [tables.results, tables.recalibration])
def test_the_table_of_runs_without_accuracies_is_empty(tmp_path, make):
    write_run(RunConfig(runs_dir=str(tmp_path)))
    table = make(load_runs(tmp_path))
    assert (len(table.cells), table.caption) == (0, "")
