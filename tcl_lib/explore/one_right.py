"""The samples that one of two networks gets right after one step and the other does not."""

from functools import cache

import matplotlib.pyplot as plt
import numpy as np

from tcl_lib.explore.models import Model
from tcl_lib.explore.surface import STYLE, Surface

WIDTH, ROW, PITCH = 1072, 118, 88
MOST = 12  # of each kind


def only_right(one: Model, other: Model) -> list[int]:
    """Return the samples whose answer after one step is right with the first network alone."""
    return (one.right[0] & ~other.right[0]).nonzero().flatten().tolist()


def options(left: Model, right: Model) -> list[tuple[str, int]]:
    """Return a description of every such sample, the left network's first, and the sample."""
    labels, classes = left.samples.labels, left.samples.classes
    return [
        (f"{model.name}: sample {sample}, {classes[labels[sample]]}", sample)
        for model, other in ((left, right), (right, left))
        for sample in only_right(model, other)
    ]


@cache
def draw(left: Model, right: Model) -> np.ndarray:
    """Return the picture of these samples, a row for each network: uint8 [H, W, 3]."""
    samples = left.samples
    with plt.rc_context(STYLE):
        surface, pasted = Surface(WIDTH, 2 * ROW), []
        for row, (model, other) in enumerate(((left, right), (right, left))):
            found, top = only_right(model, other), row * ROW
            more = f", the first {MOST}" if len(found) > MOST else ""
            words = f"right at t = 1 with {model.name} alone: {len(found)} of {len(samples.labels)}{more}"
            surface.text(10, top + 12, words, size=9, weight="bold")
            for place, sample in enumerate(found[:MOST]):
                x, answer = 10 + place * PITCH, int(other.means[0, sample].argmax())
                name, mistake = samples.classes[samples.labels[sample]], samples.classes[answer]
                surface.text(x, top + 29, f"{sample}: {name}, not {mistake}", size=7)
                pasted.append((samples.picture(sample, 1), x, top + 38, 70))
        surface.draw()
        for picture in pasted:
            surface.paste(*picture)
        return surface.pixels()
