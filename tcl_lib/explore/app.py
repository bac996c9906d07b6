"""The application of `notebooks/explore.ipynb`: widgets, and the same views as a page without them."""

import ipywidgets as widgets
from IPython.display import Image, display

from tcl_lib.explore import one_right
from tcl_lib.explore.models import Model
from tcl_lib.explore.picture import Picture
from tcl_lib.explore.surface import png
from tcl_lib.utils.progress import watched

NONE = -1  # no sample; a dropdown of ipywidgets shows nothing for None
LOOKS = {"layout": {"width": "350px"}, "style": {"description_width": "100px"}}


class Explorer:
    """Two networks and a test sample, side by side; a change of a widget changes the pictures.

    Args:
        models: two networks or more by the title of their data, from `load_models`.
        sample: the sample shown first, counted from 0; None for the first that one network alone gets right
            after one step.

    Raises ValueError for a sample that is not there.
    """

    def __init__(self, models: dict[str, list[Model]], sample: int | None = None):
        self._pictures = {title: [Picture(model) for model in found] for title, found in models.items()}
        self._first, self._quiet = sample, True
        self.data = widgets.Dropdown(options=list(models), description="data", **LOOKS)
        self.left = widgets.Dropdown(description="left", **LOOKS)
        self.right = widgets.Dropdown(description="right", **LOOKS)
        self.sample = widgets.IntSlider(description="test sample", **LOOKS)
        self.one_right = widgets.Dropdown(description="only one right", **LOOKS)
        self.layer = widgets.Dropdown(description="potentials", **LOOKS)
        self.step = widgets.IntSlider(min=1, max=1, description="time step t", **LOOKS)
        self.play = widgets.Play(min=1, max=1, interval=800)
        widgets.jslink((self.play, "value"), (self.step, "value"))
        self.images = [widgets.Image(layout={"max_width": "50%"}) for _ in range(2)]  # of a narrow window
        self.mistakes = widgets.Image(layout={"max_width": "100%"})
        self.box = widgets.VBox(
            [
                widgets.HBox([self.data, self.left, self.right]),
                widgets.HBox([self.sample, self.one_right, self.layer]),
                widgets.HBox([self.step, self.play]),
                widgets.HBox(self.images),
                self.mistakes,
            ]
        )
        for title in reversed(self.data.options):  # the first draws the galleries, and the last is shown
            self.data.value = title
            self._choose_data()
        self._draw()
        for widget in (self.data, self.left, self.right, self.sample, self.one_right, self.layer, self.step):
            widget.observe(self._change, "value")
        self._quiet = False

    def show(self) -> None:
        """Show the widgets, or where nobody sees them the views of every data at the first and last step."""
        if watched():
            display(self.box)
            return
        for title in self.data.options:
            self.data.value = title
            for step in (1, self.step.max):
                self.step.value = step
                display(Image(png(*self._drawn(), level=9), alt=self.text))
            words = f"{title}: test samples that one network alone gets right after one step"
            display(Image(self.mistakes.value, alt=words))

    @property
    def text(self) -> str:
        """What the pictures show."""
        answers = "; ".join(picture.text for picture in self._shown())
        return f"{self.data.value}, test sample {self.sample.value}. {answers}"

    def _shown(self) -> tuple[Picture, Picture]:
        return self.left.value, self.right.value

    def _drawn(self) -> list:
        where = self.sample.value, self.step.value, self.layer.value
        return [picture.draw(*where) for picture in self._shown()]

    def _draw(self) -> None:
        for image, drawn in zip(self.images, self._drawn(), strict=True):
            image.value = png(drawn)

    def _change(self, change: dict) -> None:
        if self._quiet:  # a widget that another one changed
            return
        self._quiet = True
        try:
            if change["owner"] is self.data:
                self._choose_data()
            elif change["owner"] in (self.left, self.right):
                self._choose_runs()
            elif change["owner"] is self.one_right and self.one_right.value != NONE:
                self.sample.value = self.one_right.value
            elif change["owner"] is self.sample:
                self.one_right.value = NONE
            self._draw()
        finally:
            self._quiet = False

    def _choose_data(self) -> None:
        """Offer what there is of the data."""
        pictures = self._pictures[self.data.value]
        models = [picture.model for picture in pictures]
        options = [(picture.model.name, picture) for picture in pictures]
        self.left.options = self.right.options = options
        self.left.value, self.right.value = pictures[:2]
        self.step.value = 1
        self.step.max = self.play.max = max(model.time_steps for model in models)
        self.layer.options = [(f"layer {n + 1}", n) for n in range(max(model.layers for model in models))]
        self.layer.value = len(self.layer.options) - 1
        count = len(models[0].samples.labels)
        self.sample.max = count - 1
        self._choose_runs()
        found = [sample for _, sample in self.one_right.options if sample != NONE]
        first = self._first if self._first is not None else (found or [0])[0]
        if not 0 <= first < count:
            raise ValueError(f"sample={first}: must be from 0 to {count - 1}")
        self.sample.value = first

    def _choose_runs(self) -> None:
        """Show what tells the two networks apart."""
        left, right = (picture.model for picture in self._shown())
        self.one_right.options = [("choose", NONE), *one_right.options(left, right)]
        self.mistakes.value = png(one_right.draw(left, right))
