"""What the points of a figure say under the pointer, in a notebook."""

import html
from collections.abc import Iterable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def name_points(axes: Axes, x: Iterable, y: Iterable, names: Iterable[str]) -> None:
    """Name points of a panel, in coordinates of its data: a notebook shows the name under the pointer."""
    axes.figure.named.append((axes, np.column_stack([x, y]), list(names)))


def runs_of(rows: pd.DataFrame) -> str:
    """Return what the mean of these rows is of: "TCL, seeds 0, 1, 2"."""
    seeds = sorted(rows["seed"].unique())
    return f"{rows['variant'].iloc[0]}, seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}"


def name_means(axes: Axes, rows: pd.DataFrame, x: str, points: pd.Series, what: str = "") -> None:
    """Name the means of these rows at each x: of which runs they are, of `what`, and their values."""
    start = f"{runs_of(rows)}: {what and what + ', '}{x.replace('_', ' ')}"
    name_points(axes, points.index, points, [f"{start} {at:g}, {value:.4g}" for at, value in points.items()])


def overlay(figure: Figure) -> str:
    """Return an SVG that covers the picture of a figure, with an invisible circle at every named point."""
    width, height = figure.bbox.size
    circles = [
        f'<circle cx="{x:.0f}" cy="{height - y:.0f}" r="3"><title>{html.escape(name)}</title></circle>'
        for axes, points, names in figure.named
        for (x, y), name in zip(axes.transData.transform(points), names, strict=True)
    ]
    style = "position: absolute; inset: 0; width: 100%; height: 100%; fill: transparent"
    return f'<svg viewBox="0 0 {width:.0f} {height:.0f}" style="{style}">{"".join(circles)}</svg>'
