"""What one network does with a test sample, in one picture.

Axes and labels that never change are drawn once and kept as a background, and so is what belongs to the
sample; a change of the step draws the rest alone. Places are pixels from the upper left corner.

Shapes: T time steps, K classes.
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection

from tcl_lib.explore.models import STOPS, Model
from tcl_lib.explore.mosaics import potential_colours, spike_colours
from tcl_lib.explore.surface import RIGHT, STYLE, WRONG, Surface, Words

WIDTH, HEIGHT = 536, 700
LEFT = 10
CURVES = 6  # neurons whose potential is drawn over time
NEIGHBOURS = 6
MOST_LAYERS = 6  # whose spikes are shown; of a deeper network evenly spaced ones
REACH = 5  # thresholds, up and down: the range of the potentials shown
QUIET, FAINT = "#b0b0b0", "#e4e4e4"
MARKERS = {"confidence": ("#7a3e9d", "v"), "agreement": ("#c46a00", "^")}


class Picture:
    """A network and a sample; `draw` changes what it shows."""

    def __init__(self, model: Model):
        self.model = model
        with plt.rc_context(STYLE):
            self._surface = Surface(WIDTH, HEIGHT)
            self._prepare()
            self._surface.draw()
        self._empty = self._surface.kept()
        self._sample, self._with_sample = None, None

    def draw(self, sample: int, step: int, layer: int) -> np.ndarray:
        """Return the picture of a sample (from 0) at a step (from 1): uint8 [H, W, 3].

        The potentials are those of a layer (from 0). A step after the last one is the last one.
        """
        step = min(step, self.model.time_steps)
        if sample != self._sample:
            self._surface.restore(self._empty)
            self._surface.paint(self._show_sample(sample))
            self._with_sample = self._surface.kept()
        self._surface.restore(self._with_sample)
        for line in self._now:
            line.set_xdata([step, step])
        self._show_spikes(step)
        self._surface.paint([*self._now, *self._answer(step), *self._potentials(step, layer)])
        return self._surface.pixels()

    @property
    def text(self) -> str:
        """The answer that the picture shows."""
        return self._headline.text

    def _prepare(self) -> None:
        """Make everything that is drawn; what changes is `animated`, and not in the background."""
        model, steps, threshold = self.model, self.model.time_steps, self.model.run.config.v_th
        self._headline = self._text(0, 16, size=11, weight="bold")
        self._input_name = self._text(0, 40)
        low, high = model.means.min().item(), model.means.max().item()
        logits = self._axes(50, "mean of the logits of steps 1 to t, a line a class")
        logits.set_ylim(low, high + 0.2 * (high - low))
        self._to_come, self._so_far = self._lines(logits), self._lines(logits)
        self._points = logits.scatter([], [], s=14, zorder=3, animated=True)
        self._names = [self._text(0, 0) for _ in range(2)]
        labels = f"stops: confidence {STOPS['confidence']}", f"{STOPS['agreement']} steps agree"
        self._stops = [
            logits.plot([], [], marker, color=colour, ms=7, clip_on=False, animated=True, label=label)[0]
            for label, (colour, marker) in zip(labels, MARKERS.values(), strict=True)
        ]
        place = {"loc": "upper right", "bbox_to_anchor": (1.01, -0.13), "borderpad": 0, "handlelength": 1}
        logits.legend(handles=self._stops, ncols=2, frameon=False, **place)

        self._text(0, 228, "spikes at step t, a tile a channel")
        self._shown = np.unique(np.linspace(0, model.layers - 1, MOST_LAYERS).round().astype(int))
        self._pitch = 516 // max(4, len(self._shown))
        self._map_names = [self._text(self._pitch * n, 246) for n in range(len(self._shown))]

        self._layer_name = self._text(0, 398)
        curves = self._axes(408, f"potential of {CURVES} of its neurons; dots are spikes")
        curves.set_ylim(-REACH * threshold, REACH * threshold)
        curves.axhline(threshold, color=WRONG, lw=0.8, ls="--")
        self._curves = self._lines(curves)
        self._curves.set(color=plt.get_cmap("viridis")(np.linspace(0, 0.85, CURVES)), linewidth=1.2)
        (self._fired,) = curves.plot([], [], "o", color=WRONG, ms=4, animated=True)
        self._now = [a.axvline(1, color="0.4", lw=0.8, ls=":", animated=True) for a in (logits, curves)]

        words = f"the test samples at step T = {steps} that are nearest to this one at step 1"
        self._text(0, 590, words)
        self._neighbours = [self._text(86 * n, 606) for n in range(NEIGHBOURS)]

    def _axes(self, top: int, title: str) -> Axes:
        axes = self._surface.axes(LEFT + 190, top, 315, 140)
        steps = self.model.time_steps
        axes.set(xlim=(0.8, steps + 0.6), xticks=range(1, steps + 1, 1 + steps // 11))
        axes.set_title(title, pad=6)
        axes.set_xlabel("time step t", labelpad=1, loc="left")
        return axes

    def _lines(self, axes: Axes) -> LineCollection:
        lines = LineCollection([], animated=True, zorder=2.5)
        axes.add_collection(lines, autolim=False)
        return lines

    def _text(self, x: int, y: int, words: str = "", **options) -> Words:
        return self._surface.text(LEFT + x, y, words, **options)

    def _show_sample(self, sample: int) -> list[Artist]:
        """Change what belongs to the sample at all steps; return what is to be drawn."""
        self._sample, self._trace = sample, self.model.trace(sample)
        steps = np.arange(1, self.model.time_steps + 1)
        means = self.model.means[:, sample].T.numpy()  # [K, T]
        self._to_come.set(segments=[np.c_[steps, line] for line in means], color=FAINT)
        top = self._points.axes.get_ylim()[1]
        for marker, policy in zip(self._stops, MARKERS, strict=True):
            marker.set_data([self.model.stops[policy][sample]], [top])
        samples = self.model.samples
        for n, other in enumerate(self.model.neighbours(sample, NEIGHBOURS)):
            name = self._neighbours[n]
            same = samples.labels[other] == samples.labels[sample]
            name.text = "itself" if other == sample else samples.classes[samples.labels[other]]
            name.colour = RIGHT if same else WRONG
            self._surface.paste(samples.picture(other, len(steps)), LEFT + 86 * n, 616, 74)
        return [self._to_come, *self._stops]

    def _answer(self, step: int) -> list[Artist]:
        samples = self.model.samples
        means = self.model.means[:step, self._sample]  # [t, K]
        answer, truth = int(means[-1].argmax()), int(samples.labels[self._sample])
        colours, widths = np.full(means.shape[1], QUIET, object), np.full(means.shape[1], 0.9)
        colours[answer], colours[truth], widths[[answer, truth]] = WRONG, RIGHT, 2.2
        segments = [np.c_[np.arange(1, step + 1), line] for line in means.T.numpy()]
        self._so_far.set(segments=segments, color=colours, linewidth=widths)
        self._points.set_offsets(np.c_[np.full(len(colours), step), means[-1]])
        self._points.set_color(list(colours))
        # the answer above the truth, as its logit is
        apart = 5 * (answer != truth)
        for words, shown, shift in zip(self._names, (truth, answer), (apart, -apart), strict=True):
            words.text, words.colour = samples.classes[shown], colours[shown]
            x, y = self._points.axes.transData.transform((step + 0.1, means[-1, shown].item()))
            words.x, words.y = x, HEIGHT - y + shift
        name = samples.classes[truth]
        verdict = "right" if answer == truth else f"wrong: it is {name}"
        confidence = means[-1].softmax(-1).max().item()
        self._headline.text = (
            f"{self.model.name}: {samples.classes[answer]} at t = {step}, {verdict}"
            f" (confidence {confidence:.2f})"
        )
        self._headline.colour = RIGHT if answer == truth else WRONG
        self._input_name.text = f"input at t = {step}: {name}"
        self._surface.paste(samples.picture(self._sample, step), LEFT, 50, 140)
        return [self._so_far, self._points]

    def _show_spikes(self, step: int) -> None:
        for n, (name, index) in enumerate(zip(self._map_names, self._shown, strict=True)):
            spikes = self._trace.layers[index].spikes[step - 1, 0]
            name.text = f"layer {index + 1}: {int(spikes.sum())} of {spikes.numel()}"
            tiles = spike_colours(spikes.numpy())
            self._surface.paste(tiles, LEFT + self._pitch * n, 256, self._pitch - 10)

    def _potentials(self, step: int, layer: int) -> list[Artist]:
        layer = min(layer, len(self._trace.layers) - 1)
        threshold = self.model.run.config.v_th
        potentials = self._trace.layers[layer].potentials[:, 0].float().numpy()  # [T, ...]
        colours = potential_colours(potentials[step - 1], threshold)
        flat = potentials.reshape(len(potentials), -1)  # [T, neurons]
        order = flat.max(0).argsort()
        chosen = flat[:, order[np.linspace(0, len(order) - 1, CURVES).round().astype(int)]]
        steps = np.arange(1, len(flat) + 1)
        self._curves.set_segments([np.c_[steps, line] for line in chosen.T])
        time, neuron = np.nonzero(chosen > threshold)
        self._fired.set_data(time + 1, chosen[time, neuron])
        self._layer_name.text = f"potentials in layer {layer + 1}"
        self._surface.paste(colours, LEFT, 408, 140)
        return [self._curves, self._fired]
