"""`load_data(config)`: the dataset of a run."""

import pkgutil

from tcl_lib.config import RunConfig
from tcl_lib.config.registry import DATASETS
from tcl_lib.data.events.datasets import EventData
from tcl_lib.data.images import ImageData
from tcl_lib.data.parts import Data, stratified_order


def load_data(config: RunConfig, *, download: bool = True) -> Data:
    """Return the dataset of a run in three disjoint parts.

    The validation part is the share `validation_fraction` of the training set; `train_size` samples of the
    rest form the training part. Both are stratified and drawn with `seed`. The test set stays whole. What is
    not there is downloaded, or with `download=False` a FileNotFoundError. Raises ValueError or OSError that
    names the file or parameter.
    """
    source = pkgutil.resolve_name(f"tcl_lib.data.{DATASETS[config.dataset].source}")
    train, test, classes = source(config, download)
    order = stratified_order(train.labels, config.seed)
    held_out = max(1, round(config.validation_fraction * len(order)))
    left = len(order) - held_out
    size = left if config.train_size is None else config.train_size
    if size > left:
        raise ValueError(
            f"train_size={size}: {config.dataset} has {left} training samples, plus {held_out} for validation"
        )
    if size < 2:
        raise ValueError(f"{config.dataset}: has {size} training samples, at least 2 are required")
    parts = train.take(order[held_out : held_out + size]), train.take(order[:held_out]), test
    if config.events:
        return EventData(*parts, classes, config.frame_side, config.count_scale)
    data = ImageData(*parts, classes)
    if config.cutout >= min(data.input_shape[1:]):
        raise ValueError(
            f"cutout={config.cutout}: must be smaller than the images, {list(data.input_shape[1:])} pixels"
        )
    return data
