"""The explorer without a browser: what every widget changes."""

import io

import numpy as np
import pytest
from PIL import Image

from tcl_lib.explore import Explorer
from tcl_lib.explore.picture import HEIGHT, WIDTH, Picture


@pytest.fixture
def explorer(models):
    return Explorer(models)


def pixels(image) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image.value)))


def seen(explorer) -> list[np.ndarray]:
    return [pixels(image) for image in (*explorer.images, explorer.mistakes)]


def changed(before, after) -> list[bool]:
    return [not np.array_equal(one, other) for one, other in zip(before, after, strict=True)]


def test_explorer_opens_with_a_sample_that_one_network_alone_gets_right(explorer):
    left, right = (widget.value.model for widget in (explorer.left, explorer.right))
    assert left.right[0, explorer.sample.value] != right.right[0, explorer.sample.value]
    assert explorer.text.startswith(f"Digits, T = 2, test sample {explorer.sample.value}. CE, seed 0: ")
    assert [one.shape[:2] for one in seen(explorer)[:2]] == 2 * [(HEIGHT, WIDTH)]


def test_the_step_changes_both_pictures_and_the_answers(explorer):
    before, words = seen(explorer), explorer.text
    explorer.step.value = 2
    assert changed(before, seen(explorer)) == [True, True, False]
    assert words.count("at t = 1") == explorer.text.count("at t = 2") == 2


def test_the_sample_and_the_layer_change_both_pictures(explorer):
    for widget, value in ((explorer.sample, 17), (explorer.layer, 0)):
        before = seen(explorer)
        widget.value = value
        assert changed(before, seen(explorer)) == [True, True, False]


def test_the_gallery_chooses_the_sample(explorer):
    explorer.sample.value = 17
    assert explorer.one_right.label == "choose"
    before, (_, sample) = seen(explorer), explorer.one_right.options[-1]
    explorer.one_right.value = sample
    assert explorer.sample.value == sample
    assert changed(before, seen(explorer)) == [True, True, False]


def test_a_network_changes_its_own_picture_and_the_gallery(explorer):
    before = seen(explorer)
    explorer.right.index = 0
    assert changed(before, seen(explorer)) == [False, True, True]
    assert "0 of 360" not in explorer.text
    assert [label for label, _ in explorer.one_right.options] == ["choose"]  # the same network twice
    left, right, _ = seen(explorer)
    assert np.array_equal(left, right)


def test_the_data_change_everything(explorer):
    before = seen(explorer)
    explorer.layer.value = 0
    explorer.step.value = 2
    explorer.data.index = 1
    assert changed(before, seen(explorer)) == [True, True, True]
    assert (explorer.step.value, explorer.step.max, explorer.play.max) == (1, 3, 3)
    assert explorer.text.startswith("Moving digits (simulated), T = 3")
    explorer.data.index = 0
    assert changed(before, seen(explorer)) == [False, False, False]


def test_pictures_do_not_depend_on_what_was_shown_before(models):
    (model, _) = models["Moving digits (simulated), T = 3"]
    one, other = Picture(model), Picture(model)
    for sample, step, layer in ((3, 3, 0), (3, 1, 3), (8, 2, 1)):
        shown = one.draw(sample, step, layer)
    assert np.array_equal(shown, other.draw(8, 2, 1))


@pytest.mark.parametrize("sample", [-1, 360])
def test_explorer_refuses_a_sample_that_is_not_there(models, sample):
    with pytest.raises(ValueError, match=f"sample={sample}: must be from 0 to 359"):
        Explorer(models, sample)


def test_show_prints_the_views_of_all_data_where_nobody_watches(explorer, monkeypatch):
    shown = []
    monkeypatch.setattr("tcl_lib.explore.app.display", shown.append)
    explorer.show()
    assert [image.alt.split(",")[0] for image in shown] == 3 * ["Digits"] + 3 * ["Moving digits (simulated)"]
    assert "at t = 3" in shown[4].alt
    assert shown[0].data.startswith(b"\x89PNG")
