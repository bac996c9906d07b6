"""A gallery shows and writes the figures of every setting, each in a folder of its own."""

import pytest
from conftest import write_run

from tcl_lib import figures, load_runs
from tcl_lib.analysis import tables
from tcl_lib.runs import layout

STEPS = {"time_step": [1, 2], "cumulative": [60.0, 70.0], "instantaneous": [60.0, 65.0]}


@pytest.fixture
def table(tiny):
    """Runs of two settings: of digits with two temperatures of TCL, and of moving digits."""
    for changes in (
        *({"loss": "ce", "seed": seed} for seed in (0, 1)),
        *({"loss": "tcl", "temperature": temperature} for temperature in (0.1, 0.5)),
        {"dataset": "moving_digits", "loss": "ce"},
    ):
        config = tiny(**changes)
        write_run(config, tables={layout.ACCURACY: STEPS | {"low": 50.0, "high": 80.0}})
    return load_runs(config.run_path.parent)


@pytest.fixture
def gallery(table, tmp_path):
    return figures.Gallery(table, tmp_path / "figures", width=60)


def test_a_gallery_says_what_it_shows(gallery):
    digits, moving = str(gallery).splitlines()
    assert digits.startswith("digits-convnet-T2-")
    assert ": 3 of 4 runs of Digits, convnet, T = 2, train size 96, " in digits
    assert digits.endswith("; TCL with projection dim 16: CE, TCL")
    assert ": 1 of 1 runs of Moving digits (simulated), convnet, T = 2, " in moving


def test_show_writes_and_displays_a_figure_of_every_setting(gallery, capsys):
    gallery.show(figures.accuracy_by_step)
    folders = sorted(path.name for path in gallery.folder.iterdir() if path.is_dir())
    assert folders == sorted(gallery.settings)
    for name in folders:
        files = {path.name for path in (gallery.folder / name).iterdir()}
        pictures = {f"accuracy-by-step-60mm.{suffix}" for suffix in ("pdf", "png", "svg")}
        assert files == pictures | {"accuracy-by-step.txt"}
    assert capsys.readouterr().out.count("Figure(") == 2  # IPython prints no more outside a notebook
    index = (gallery.folder / "index.html").read_text()
    for name in folders:
        caption = (gallery.folder / name / "accuracy-by-step.txt").read_text().strip()
        assert f'<img src="{name}/accuracy-by-step-60mm.png" alt="{caption}"' in index
        assert f'href="{name}/accuracy-by-step-60mm.pdf"' in index


def test_show_says_in_a_line_what_is_missing_and_shows_no_heading(gallery, caplog, capsys):
    with caplog.at_level("INFO", logger="tcl_lib"):
        gallery.show(figures.sensitivity, heading="Temperature")
        gallery.show(figures.accuracy_by_energy, heading="Energy")
    moving, *energy = caplog.messages
    assert len(moving.splitlines()) == 1
    assert '-y "{losses: [tcl], temperature: [0.05, 0.1, 0.2], seeds: [0]' in moving
    assert "-p dataset moving_digits" in moving
    assert len(energy) == 2
    assert all("energy is not in the files of these runs; to train them anew" in m for m in energy)
    shown = capsys.readouterr().out
    assert shown.count("Figure(") == 1  # of the temperature
    assert shown.count("Markdown") == 1  # the heading above it


def test_show_table_writes_latex_and_markdown(gallery, capsys):
    gallery.show_table(tables.results, every=True)
    (digits,) = (name for name in gallery.settings if name.startswith("digits"))
    latex = (gallery.folder / digits / "results.tex").read_text()
    assert rf"\label{{tab:{digits}-results}}" in latex
    assert "TCL, temperature 0.5" in latex
    assert "TCL, temperature 0.5" in capsys.readouterr().out
    gallery.show_table(tables.results)
    assert "temperature 0.5" not in (gallery.folder / digits / "results.md").read_text()
    assert f'href="{digits}/results.tex"' in (gallery.folder / "index.html").read_text()


def test_a_gallery_refuses_a_preset_before_anything_is_drawn(table, tmp_path):
    with pytest.raises(ValueError, match=r"^preset='science': must be 'nature', 'neurips' or 'ieee'$"):
        figures.Gallery(table, tmp_path, preset="science")
