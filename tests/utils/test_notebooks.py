"""Notebooks show a mistake by its line, and a defect with its traceback."""

import sys

import pytest
from IPython.core.interactiveshell import InteractiveShell


@pytest.fixture
def shell(monkeypatch):
    """An IPython shell in which `show_messages` was called."""
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr("warnings.showwarning", lambda *arguments: None)
    found = InteractiveShell.instance(colors="nocolor")
    found.run_cell("from tcl_lib.utils import notebooks\nnotebooks.show_messages()")
    yield found
    InteractiveShell.clear_instance()


def test_show_messages_shortens_an_error_of_this_package(shell, capsys):
    result = shell.run_cell("import tcl_lib\ntcl_lib.RunConfig(epochs=0)")
    assert isinstance(result.error_in_exec, ValueError)  # so that papermill stops
    assert capsys.readouterr().out.splitlines() == [
        "ValueError: epochs=0: must be greater than or equal to 1",
        "(%tb shows where it was raised)",
    ]
    shell.run_line_magic("tb", "")
    assert "config.py" in capsys.readouterr().out


def test_show_messages_keeps_the_traceback_of_any_other_error(shell, capsys):
    result = shell.run_cell("import numpy\nnumpy.zeros(3).reshape(2)")
    assert isinstance(result.error_in_exec, ValueError)
    assert "----> 2 numpy.zeros(3).reshape(2)" in capsys.readouterr().out
