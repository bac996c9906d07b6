"""The figure of the accuracy on corrupted test samples."""

import itertools

import pandas as pd
import pytest

from tcl_lib import figures


def table():
    """Accuracies of two losses, seeds and corruptions that can be told apart, at severities 0 to 2."""
    rows = []
    for (place, variant), seed in itertools.product(enumerate(("CE", "STCL")), (0, 1)):
        labels = {"data": "digits", "setting": "digits, convnet, T = 2", "variant": variant, "seed": seed}
        labels |= {"time_steps": 2, "events": False, "run": f"{variant}-{seed}"}
        kinds = [("clean", 0), *itertools.product(("blur", "jpeg"), (1, 2))]
        for (kind, severity), step in itertools.product(kinds, (1, 2)):
            accuracy = 80 + 5 * place + seed - 10 * severity * (kind == "blur") + 2 * step
            rows.append(
                labels | {"corruption": kind, "severity": severity, "time_step": step, "cumulative": accuracy}
            )
    return pd.DataFrame(rows)


def test_robustness_shows_the_mean_over_corruptions_and_seeds():
    figure = figures.robustness.draw([table()])
    whole, first, difference = figure.axes
    curves = [
        {c.get_label(): c.lines[0].get_ydata().tolist() for c in axes.containers} for axes in figure.axes
    ]
    assert curves[0] == {"CE": [84.5, 79.5, 74.5], "STCL": [89.5, 84.5, 79.5]}
    assert curves[1]["CE"] == [82.5, 77.5, 72.5]
    assert curves[2]["STCL"] == pytest.approx([-2, -2, -2])
    assert whole.get_ylim() == first.get_ylim()
    assert first.get_ylim()[0] < 72.5 - 0.5  # the lowest seed is seen
    assert difference.get_ylabel() == "percentage points"
    assert "mean over blur, jpeg" in figure.caption
    assert figure.named[1][2][2] == "STCL, seeds 0, 1: severity 2, 79.5"
