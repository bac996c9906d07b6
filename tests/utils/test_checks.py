"""Parameters against their annotations, and the one-line errors."""

import logging
import warnings
from dataclasses import dataclass
from typing import Literal

import pytest

from tcl_lib.utils import notebooks
from tcl_lib.utils.checks import AtLeast1, Positive, check_fields, checked, refuse_unknown, unknown
from tcl_lib.utils.words import digest, listed


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [
        (1, Positive, 1.0),
        (3, AtLeast1, 3),
        (None, AtLeast1 | None, None),
        ("b", Literal["a", "b"], "b"),
        (["a"], list[Literal["a", "b"]], ["a"]),
    ],
)
def test_checked_returns_a_value_that_fits(value, annotation, result):
    found = checked("name", value, annotation)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (0, AtLeast1, "name=0: must be greater than or equal to 1"),
        (1.5, AtLeast1 | None, "name=1.5: must be a valid integer, or None"),
        (True, AtLeast1, "name=True: must be a valid integer"),
        ("true", bool, "name='true': must be True or False (on papermill's command line: -p name True)"),
        ("c", Literal["a", "b"], "name='c': must be 'a' or 'b'"),
        (["a", "c"], list[Literal["a", "b"]], "name=['a', 'c']: item 1 must be 'a' or 'b'"),
        ("2E5", Positive, "name='2E5': must be a valid number (this is text: in YAML write 2.0e5)"),
    ],
)
def test_checked_raises_one_line_for_a_value_that_does_not_fit(value, annotation, message):
    with pytest.raises(ValueError, match="must be") as caught:
        checked("name", value, annotation)
    assert str(caught.value) == message


def test_checked_copies_a_list():
    given = ["a"]
    assert checked("name", given, list[str]) is not given


def test_unknown_names_the_nearest_parameter_or_all():
    assert unknown("epoch", ["epochs", "lr"]) == "unknown parameter epoch, did you mean epochs?"
    assert unknown("qqq", ["epochs", "lr"]) == "unknown parameter qqq, known are epochs, lr"


def test_a_dataclass_that_checks_its_fields():
    @refuse_unknown
    @dataclass(frozen=True)
    class Parameters:
        rate: Positive = 1.0

        def __post_init__(self):
            check_fields(self)

    assert type(Parameters(rate=2).rate) is float
    with pytest.raises(ValueError, match=r"^rate=-1: must be greater than 0$"):
        Parameters(rate=-1)
    with pytest.raises(ValueError, match=r"^unknown parameter rates, did you mean rate\?$"):
        Parameters(rates=1)


def test_words_for_names_and_tables():
    assert digest({}) == digest("") == ""
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    assert len(digest("x")) == 7
    assert listed({"train_size": 10, "positives": ["class", "time"]}) == [
        "train size 10",
        "positives class+time",
    ]


def test_show_messages_prints_what_is_logged_and_warnings_in_a_line_each(capsys, monkeypatch):
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    notebooks.show_messages()
    notebooks.show_messages()  # twice in a notebook, shown once
    logging.getLogger("tcl_lib.training").info("half of it")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        notebooks.show_messages()
        warnings.warn("too hot", stacklevel=1)
    assert capsys.readouterr().out.splitlines() == ["half of it", "warning: too hot"]
