"""Figures from tables. Imports no torch.

`save(name, folder, draw, *arguments)` writes one for both column widths, as PDF, SVG and PNG.
"""

from tcl_lib.figures.anytime import frontiers
from tcl_lib.figures.parameters import positives, sensitivity
from tcl_lib.figures.representations import accuracy_by_similarity, similarity, tsne
from tcl_lib.figures.results import accuracy_by_energy, accuracy_curves, recalibration, training_curves
from tcl_lib.figures.robustness import robustness
from tcl_lib.figures.run import firing_rates, learning_curves, views
from tcl_lib.figures.style import save, show

__all__ = [
    "accuracy_by_energy",
    "accuracy_by_similarity",
    "accuracy_curves",
    "firing_rates",
    "frontiers",
    "learning_curves",
    "positives",
    "recalibration",
    "robustness",
    "save",
    "sensitivity",
    "show",
    "similarity",
    "training_curves",
    "tsne",
    "views",
]
