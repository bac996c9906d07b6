"""Names of data and classes are drawn as they are, or readable, whatever characters they have."""

import io
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib.font_manager import fontManager

from tcl_lib import figures
from tcl_lib.figures.text import text_width

NAMES = ["cost_$1_$2", "{a}_{b}", "back\\slash $\\frac$", "_hidden", "x^2 & 5 % ~ #", "ünïcödé Ж"]
OURS = [font for font in fontManager.ttflist if font.name.startswith("DejaVu")]  # the same on every machine


def points(setting: str, classes: list[str]) -> pd.DataFrame:
    """What `figures.tsne` draws."""
    labels = np.arange(len(classes))
    places = {"x": labels * 1.0, "y": labels * 1.0, "label": labels, "time_step": 1, "seed": 0}
    places |= {"sample": labels, "class_name": classes}
    return pd.DataFrame(places).assign(data=setting, setting=f"{setting}, convnet, T = 2", variant="CE")


def drawn(classes: list[str], **options):
    return figures.tsne.draw([points("digits", classes)], **options)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_of_data_stands_literally_in_the_caption(name):
    figure = figures.tsne.draw([points(f"folder ({name})", ["a", "b"])])
    assert f" on {name}. " in figure.caption
    pictures = np.zeros((1, 2, 1, 8, 8), np.uint8)
    assert f"Samples of {name}. " in figures.views(pictures, ["stored"], f"folder ({name})").caption


def test_names_of_classes_are_drawn_literally_in_the_legend(tmp_path):
    figure = drawn(NAMES)
    texts = figure.legends[0].get_texts()
    assert [text.get_text() for text in texts] == NAMES
    assert not any(text.get_parse_math() for text in texts)
    figure.savefig(tmp_path / "classes.svg")
    written = (tmp_path / "classes.svg").read_text()
    assert ">cost_$1_$2</text>" in written
    assert ">back\\slash $\\frac$</text>" in written


def test_whitespace_in_names_of_classes_is_drawn_as_a_space(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of glyphs that are missing
        figure = drawn(["cat\tblack", "dog\r\x0b\u2028brown", "two\nlines"])
        for kind in ("svg", "pdf", "png"):
            figure.savefig(tmp_path / f"classes.{kind}")
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["cat black", "dog   brown", "two\nlines"]


def test_a_name_of_a_loss_is_drawn_literally_in_the_title_of_a_panel():
    table = points("digits", ["a", "b"]).assign(variant="CE, a_$1_$2")
    title = figures.tsne.draw([table]).axes[0].title
    assert (title.get_text(), title.get_parse_math()) == ("CE\na_$1_$2", False)


def test_a_pdf_embeds_no_second_font_for_ligatures(tmp_path):
    drawn(["flying", "prefix"]).savefig(tmp_path / "classes.pdf")
    embedded = re.findall(rb"/BaseFont /\w+\+(\S+)", (tmp_path / "classes.pdf").read_bytes())
    assert len(set(embedded)) == 2  # upright, and oblique for the formula
    assert len(re.findall(rb"/FontFile2 ", (tmp_path / "classes.pdf").read_bytes())) == 2


@pytest.fixture
def font(tmp_path, monkeypatch):
    """The name of an installed font that has the character U+5154, a wide one, and no other font has."""
    pen = TTGlyphPen(None)
    for place in ((0, 0), (0, 700), (700, 700), (700, 0)):
        (pen.lineTo if place != (0, 0) else pen.moveTo)(place)
    pen.closePath()
    square = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "square"])
    builder.setupCharacterMap({0x5154: "square"})
    builder.setupGlyf({".notdef": square, "square": square})
    builder.setupHorizontalMetrics({".notdef": (800, 0), "square": (800, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "One Square", "styleName": "Regular", "psName": "OneSquare"})
    builder.setupOS2(sTypoAscender=800, usWinAscent=800, usWinDescent=200)
    builder.setupPost()
    builder.save(tmp_path / "square.ttf")
    monkeypatch.setattr(fontManager, "ttflist", list(OURS))
    fontManager.addfont(tmp_path / "square.ttf")
    return "One Square"


def test_characters_that_the_font_lacks_come_from_an_installed_one(font, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of glyphs that are missing
        figure = drawn(["cat \u5154", "dog"])
        figure.savefig(tmp_path / "classes.svg")
        figure.savefig(tmp_path / "classes.pdf")
    assert f"'DejaVu Sans', '{font}'" in (tmp_path / "classes.svg").read_text()
    assert b"OneSquare" in (tmp_path / "classes.pdf").read_bytes()
    cat, dog = figure.legends[0].get_texts()
    assert (cat.get_text(), cat.get_fontfamily()) == ("cat \u5154", ["DejaVu Sans", font])
    assert dog.get_fontfamily() == ["DejaVu Sans"]


def test_characters_that_no_font_has_are_written_in_latin_letters(monkeypatch):
    monkeypatch.setattr(fontManager, "ttflist", OURS)
    # cat and dog, a character without a meaning, half a character
    names = ["\u732b", "dog \u72ac", "\ue321", "a\udce9"]
    words = r"^no installed font has '猫', '犬', '\\ue321', '\\udce9': drawn as Mao, Quan, U\+E321, U\+DCE9;"
    with pytest.warns(UserWarning, match=words):
        figure = drawn(names)
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown == ["Mao", "dog Quan", "U+E321", "aU+DCE9"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure.savefig(io.BytesIO(), format="png")


def test_a_legend_of_wide_characters_stays_on_the_page(font):
    figure = drawn([20 * "\u5154", 20 * "\u5154" + "a", "b"], width=89)
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.x1


@pytest.mark.parametrize(("words", "expected"), [("", 0), ("abc", 3), ("$_{", 3), ("\u4e00\u4e8c", (4, 6))])
def test_text_width_counts_wide_characters_twice_or_as_they_are_written(words, expected):
    assert text_width(words) in (expected if isinstance(expected, tuple) else (expected,))
