"""`load_data(config)`: the dataset of a run."""

import pkgutil

from tcl_lib.config import DATASETS, RunConfig
from tcl_lib.data.events.datasets import EventData
from tcl_lib.data.images import ImageData
from tcl_lib.data.parts import Data, stratified_order


def load_data(config: RunConfig) -> Data:
    """The dataset of a run, in three disjoint parts.

    A share `validation_fraction` of the training set is set aside for judging epochs, then `train_size`
    samples of the rest are trained on; both are stratified and drawn with `seed`. The test set stays whole.
    Raises ValueError or OSError, in a line that names the file or parameter.
    """
    train, test, classes = pkgutil.resolve_name(f"tcl_lib.data.{DATASETS[config.dataset].source}")(config)
    order = stratified_order(train.labels, config.seed)
    held_out = max(1, round(config.validation_fraction * len(order)))
    left = len(order) - held_out
    size = left if config.train_size is None else config.train_size
    if size > left:
        raise ValueError(
            f"train_size={size}: {config.dataset} has {left} training samples beside {held_out} of validation"
        )
    if size < 2:
        raise ValueError(f"{config.dataset}: {size} training samples, at least 2 are needed")
    parts = train.take(order[held_out : held_out + size]), train.take(order[:held_out]), test
    if config.events:
        return EventData(*parts, classes, config.frame_side, config.count_scale)
    data = ImageData(*parts, classes)
    if config.cutout >= min(data.input_shape[1:]):
        raise ValueError(f"cutout={config.cutout}: would erase images of {list(data.input_shape[1:])} pixels")
    return data
