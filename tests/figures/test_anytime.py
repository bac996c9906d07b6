"""The figure of inference that stops when it is sure."""

import itertools

import pandas as pd
import pytest

from tcl_lib import figures

BUDGETS = (1.0, 1.5, 3.0)


def table(seeds=2):
    """A row a run, policy and budget: accuracy and mean steps that can be told apart."""
    rows = []
    for (place, variant), seed in itertools.product(enumerate(("CE", "TCL")), range(seeds)):
        labels = {"data": "digits", "setting": "digits, convnet, T = 3"}
        labels |= {"variant": variant, "seed": seed, "events": False}
        labels["run"] = f"{variant}-{seed}"
        for policy, budget in itertools.product(("confidence", "gap", "fixed"), BUDGETS):
            accuracy = 90 + place + seed + budget - (policy == "fixed")
            rows.append(
                labels
                | {"policy": policy, "budget": budget, "mean_steps": budget + seed / 10, "accuracy": accuracy}
            )
    return pd.DataFrame(rows)


def test_frontiers_shows_the_means_over_the_seeds():
    figure = figures.frontiers.draw([table()])
    left, right = figure.axes
    titles = [axes.get_title("left") for axes in (left, right)]
    assert titles == ["(a) confidence", "(b) gap of the first two"]
    ce, fixed, tcl, _ = left.get_lines()
    assert ce.get_label() == "CE"
    assert ce.get_xdata() == pytest.approx([1.05, 1.55, 3.05])
    assert ce.get_ydata() == pytest.approx([91.5, 92, 93.5])
    assert tcl.get_ydata() == pytest.approx([92.5, 93, 94.5])
    assert fixed.get_linestyle() == "None"
    assert fixed.get_ydata() == pytest.approx([90.5, 91, 92.5])
    assert "TCL, seeds 0, 1: mean steps 1.55, 93" in figure.named[1][2]


def test_frontiers_says_what_is_averaged():
    assert "Mean over 2 seeds." in figures.frontiers.draw([table()]).caption
    assert "One seed." in figures.frontiers.draw([table(seeds=1)]).caption


def test_frontiers_refuses_runs_of_two_settings():
    other = pd.concat([table(), table().assign(setting="digits, resnet19, T = 3")])
    with pytest.raises(ValueError, match="runs of 2 settings"):
        figures.frontiers.draw([other])
