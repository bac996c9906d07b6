"""Figures of runs. Imports no torch.

A drawing function takes a run, a list of runs or a table of runs: `accuracy_by_step(run)`. It also takes
`preset` or `width` in mm, and returns a matplotlib figure whose `caption` says what it shows. `save` writes a
figure for every column width of a preset.
"""

from tcl_lib.figures.anytime import frontiers
from tcl_lib.figures.drawing import NothingToDraw, save
from tcl_lib.figures.gallery import Gallery
from tcl_lib.figures.parameters import positives, sensitivity
from tcl_lib.figures.representations import accuracy_by_similarity, similarity, tsne
from tcl_lib.figures.results import accuracy_by_energy, accuracy_by_step, recalibration, training_curves
from tcl_lib.figures.robustness import robustness
from tcl_lib.figures.run import firing_rates, learning_curves, views
from tcl_lib.figures.style import Page

__all__ = [
    "Gallery",
    "NothingToDraw",
    "Page",
    "accuracy_by_energy",
    "accuracy_by_similarity",
    "accuracy_by_step",
    "firing_rates",
    "frontiers",
    "learning_curves",
    "positives",
    "recalibration",
    "robustness",
    "save",
    "sensitivity",
    "similarity",
    "training_curves",
    "tsne",
    "views",
]
