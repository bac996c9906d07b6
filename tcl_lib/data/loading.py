"""`load_data(config)`: the dataset of a run."""

from tcl_lib.config import RunConfig
from tcl_lib.data import events, images
from tcl_lib.data.parts import Data, stratified_order

# Each gives the training and the test set, and the classes' names.
SOURCES = {
    "digits": images.digits,
    "cifar10": images.cifar,
    "cifar100": images.cifar,
    "folder": images.folder,
    "dvs_cifar10": events.dvs_cifar10,
    "nmnist": events.nmnist,
    "events_folder": events.events_folder,
    "moving_digits": events.moving_digits,
}


def load_data(config: RunConfig) -> Data:
    """The dataset of a run, in three disjoint parts.

    A share `validation_fraction` of the training set is set aside for judging epochs, then `train_size`
    samples of the rest are trained on; both are stratified and drawn with `seed`. The test set stays whole.
    Raises ValueError or OSError, in a line that names the file or parameter.
    """
    train, test, classes = SOURCES[config.dataset](config)
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
        frame_size = events.DVS_CIFAR10_SIDE if config.dataset == "dvs_cifar10" else None
        return events.EventData(*parts, classes, config.frame_size or frame_size, config.count_scale)
    data = images.ImageData(*parts, classes)
    if config.cutout >= min(data.input_shape[1:]):
        raise ValueError(f"cutout={config.cutout}: would erase images of {list(data.input_shape[1:])} pixels")
    return data
