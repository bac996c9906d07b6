"""Names in figures, of any characters. Imports no torch.

matplotlib reads no formulas in them (`text.parse_math` in `style.STYLE`), only in our own labels. Characters
that the figures' font lacks come from other installed fonts. Where none has them, they are written in Latin
letters.
"""

import re
import unicodedata
import warnings
from functools import lru_cache

import matplotlib.pyplot as plt
from anyascii import anyascii
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.text import Text


def draw_every_character(figure: Figure) -> None:
    """Give the texts of a figure fonts that have their characters; write the others in Latin letters.

    A warning names the characters that no installed font has.
    """
    unknown = {}
    for text in figure.findobj(Text):
        words = re.sub(r"[^\S\n]", " ", text.get_text())  # no font draws a tab
        text.set_text(words)
        text.set_fontfeatures(["-liga"])  # a PDF embeds ligatures, such as fi, as another font
        fonts = {one: _font_with(one) for one in _missing(words)}
        latin = {one: _latin(one) for one, font in fonts.items() if font is None}
        if fonts:
            text.set_text("".join(latin.get(one, one) for one in words))
            text.set_fontfamily([*plt.rcParams["font.family"], *sorted(set(fonts.values()) - {None})])
        unknown |= latin
    if unknown:
        warnings.warn(
            f"no installed font has {', '.join(map(repr, unknown))}: drawn as {', '.join(unknown.values())};"
            " a font such as Noto Sans CJK may have them",
            stacklevel=2,
        )


def text_width(words: str) -> int:
    """Return how wide a text is drawn, as a number of Latin letters."""
    latin = {one: _latin(one) for one in _missing(words) if _font_with(one) is None}
    wide = (2 if unicodedata.east_asian_width(one) in "WF" else 1 for one in words if one not in latin)
    return sum(wide) + sum(len(latin.get(one, "")) for one in words)


def _missing(words: str) -> list[str]:
    """Return the characters that the figures' font lacks."""
    known = _characters(findfont(FontProperties()))
    return [one for one in dict.fromkeys(words) if ord(one) not in known and not one.isspace()]


def _latin(character: str) -> str:
    latin = anyascii(character)
    return latin if latin and latin.isprintable() else f"U+{ord(character):04X}"


@lru_cache
def _font_with(character: str) -> str | None:
    """Return the name of an installed font that has a character, if possible one without serifs."""
    files = {font.name: font.fname for font in fontManager.ttflist}
    for name in sorted(files, key=lambda name: ("Sans" not in name, name)):
        if ord(character) in _characters(files[name]):
            return name
    return None


@lru_cache
def _characters(path: str) -> frozenset[int]:
    """Return the characters that a font file draws: none where it has pictures, or the same box for all."""
    try:
        font = get_font(path)
    except (OSError, RuntimeError):  # damaged, or of a kind that matplotlib does not read
        return frozenset()
    drawn = font.scalable and "LastResort" not in font.postscript_name
    return frozenset(font.get_charmap()) if drawn else frozenset()
