"""A drawing surface of matplotlib whose places are pixels from the upper left corner."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageDraw, ImageFont

DPI = 90
RIGHT, WRONG = "#0a7d43", "#b3261e"  # colours of answers
STYLE = {
    "axes.edgecolor": "0.4",
    "axes.grid": True,
    "axes.linewidth": 0.6,
    "axes.titlesize": 8,
    "font.size": 8,
    "grid.color": "0.92",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7,
    "text.parse_math": False,  # names of data may contain $
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@dataclass
class Words:
    """A text that begins at x and has its middle at y; it may change at any time."""

    x: float
    y: float
    text: str
    size: int = 8  # points
    weight: str = "normal"
    colour: str = "black"


class Surface:
    """A surface of `width` x `height` pixels; use it inside `rc_context(STYLE)` of pyplot.

    Artists with `animated=True` are drawn by `paint` alone, all others by `draw`, and texts by `pixels`.
    """

    def __init__(self, width: int, height: int):
        self.width, self.height = width, height
        self.figure = Figure((width / DPI, height / DPI), DPI)
        self.canvas = FigureCanvasAgg(self.figure)
        self.words: list[Words] = []

    def axes(self, x: int, y: int, width: int, height: int) -> Axes:
        """Return axes with this upper left corner and size."""
        place = x / self.width, 1 - (y + height) / self.height, width / self.width, height / self.height
        return self.figure.add_axes(place)

    def text(self, x: float, y: float, words: str = "", **options) -> Words:
        """Return a text that begins at x and has its middle at y.

        Pillow writes it in a twentieth of the time that matplotlib takes.
        """
        self.words.append(Words(x, y, words, **options))
        return self.words[-1]

    def paste(self, picture: np.ndarray, x: int, y: int, side: int) -> None:
        """Draw a picture, uint8 [H, W, 3], into a square with this upper left corner, pixel by pixel.

        This takes a tenth of the time of matplotlib's `imshow`.
        """
        height, width = (side * size // max(picture.shape[:2]) for size in picture.shape[:2])
        rows = np.arange(height) * len(picture) // height
        columns = np.arange(width) * picture.shape[1] // width
        drawn = np.asarray(self.canvas.buffer_rgba())
        drawn[y : y + height, x : x + width, :3] = picture[rows][:, columns]

    def draw(self) -> None:
        """Draw everything that is not animated."""
        self.canvas.draw()

    def paint(self, artists: Iterable[Artist]) -> None:
        """Draw these artists over what is there."""
        for artist in artists:
            artist.draw(self.canvas.get_renderer())

    def kept(self):
        """Return what is drawn now, for `restore`."""
        return self.canvas.copy_from_bbox(self.figure.bbox)

    def restore(self, kept) -> None:
        self.canvas.restore_region(kept)

    def pixels(self) -> np.ndarray:
        """Return what is drawn now, with the texts: uint8 [height, width, 3]."""
        image = Image.fromarray(np.asarray(self.canvas.buffer_rgba())[..., :3])
        pen = ImageDraw.Draw(image)
        for words in self.words:
            font = _font(words.size, words.weight)
            pen.text((words.x, words.y), words.text, words.colour, font, anchor="lm")
        return np.asarray(image)


@cache
def _font(size: int, weight: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(findfont(FontProperties(weight=weight)), size * DPI / 72)


def png(*pictures: np.ndarray, level: int = 1) -> bytes:
    """Return pictures, uint8 [H, W, 3], beside each other as a PNG file; level 1 is fast, 9 small."""
    content = io.BytesIO()
    Image.fromarray(np.hstack(pictures)).save(content, "png", compress_level=level)
    return content.getvalue()
