"""Image datasets as uint8 tensors in memory, in three disjoint parts: training, validation, test."""

import io
from contextlib import nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from tcl_lib.config import RunConfig
from tcl_lib.data.folder import load_folder
from tcl_lib.environment import watched

# The digits come in one part: every fifth is the test set, the same whatever the seed of a run.
DIGITS_TEST_SIZE, DIGITS_TEST_SEED = 360, 0
# Where a mirror image is another thing or none at all.
MIRRORED = {"digits": False, "cifar10": True, "cifar100": True, "folder": True}


class Split(NamedTuple):
    """Images and their classes."""

    images: Tensor  # uint8 [N, C, H, W]
    labels: Tensor  # int64 [N]


@dataclass(frozen=True)
class ImageData:
    """A dataset as a run sees it."""

    train: Split
    validation: Split
    test: Split
    classes: list[str]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return tuple(self.train.images.shape[1:])

    @cached_property
    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of a channel's pixels over the training part, two of float [C]."""
        values = torch.arange(256, dtype=torch.float64)
        # from histograms: the images are never held as floats
        shares = [
            torch.bincount(channel.flatten(), minlength=256) / channel.numel()
            for channel in self.train.images.unbind(1)
        ]
        share = torch.stack(shares).double()  # [C, 256]
        mean = share @ values
        deviation = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
        return mean.float(), deviation.clamp(min=1).float()


def load_data(config: RunConfig) -> ImageData:
    """The dataset of a run.

    A share `validation_fraction` of the training set is set aside for judging epochs, then `train_size`
    images of the rest are trained on; both are stratified and drawn with `seed`. The test set stays whole.
    Raises ValueError, FileNotFoundError or ConnectionError, in a line that names the file or parameter.
    """
    train, test, classes = SOURCES[config.dataset](config)
    order = stratified_order(train.labels, config.seed)
    held_out = max(1, round(config.validation_fraction * len(order)))
    left = len(order) - held_out
    size = left if config.train_size is None else config.train_size
    if size > left:
        raise ValueError(
            f"train_size={size}: {config.dataset} has {left} training images beside {held_out} for validation"
        )
    if size < 2:
        raise ValueError(f"{config.dataset}: {size} training images, at least 2 are needed")
    if config.cutout >= min(train.images.shape[2:]):
        raise ValueError(
            f"cutout={config.cutout}: would erase images of {list(train.images.shape[2:])} pixels"
        )
    return ImageData(
        train=_take(train, order[held_out : held_out + size]),
        validation=_take(train, order[:held_out]),
        test=test,
        classes=classes,
    )


def stratified_order(labels: Tensor, seed: int) -> Tensor:
    """A shuffle in which every stretch holds the classes in proportion: labels [N] -> indices [N].

    The j-th of a class's n members stands at the share (j + 1/2) / n of the way (Sainte-Lague).
    """
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    place = torch.empty(len(labels), dtype=torch.float64)
    for label in labels.unique():
        members = shuffled[labels[shuffled] == label]
        place[members] = (torch.arange(len(members)) + 0.5).double() / len(members)
    return shuffled[place[shuffled].argsort(stable=True)]


def _take(split: Split, indices: Tensor) -> Split:
    return Split(split.images[indices], split.labels[indices])


def _digits(config: RunConfig) -> tuple[Split, Split, list[str]]:
    pixels, labels = load_digits(return_X_y=True)  # [N, 64] from 0 to 16
    images = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    digits = Split(images, torch.from_numpy(labels).long())
    order = stratified_order(digits.labels, DIGITS_TEST_SEED)
    test, train = _take(digits, order[:DIGITS_TEST_SIZE]), _take(digits, order[DIGITS_TEST_SIZE:])
    return train, test, [str(digit) for digit in range(10)]


def _cifar(config: RunConfig) -> tuple[Split, Split, list[str]]:
    source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[config.dataset]
    root = config.data_path
    # torchvision's bar goes to stderr; where nobody watches, it would only fill the notebook
    with nullcontext() if watched() else redirect_stderr(io.StringIO()):
        parts = _download(source, root, config.dataset)
    train, test = (
        Split(torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(), torch.tensor(part.targets))
        for part in parts
    )
    return train, test, list(parts[0].classes)


def _download(source: type[CIFAR10], root: Path, dataset: str) -> list[CIFAR10]:
    """Training and test part, from `root` or else from the network."""
    if not (root / source.base_folder).is_dir():
        print(f"downloading {dataset} to {root}", flush=True)
    try:
        return [source(root, train=train, download=True) for train in (True, False)]
    except (OSError, RuntimeError) as error:
        raise ConnectionError(
            f"{dataset} is not in {root} and could not be downloaded ({error});"
            f" put {source.filename} there yourself, or point data_root to the folder that holds it"
        ) from error


def _folder(config: RunConfig) -> tuple[Split, Split, list[str]]:
    tensors, classes = load_folder(config.data_path)
    train = Split(tensors["train_images"], tensors["train_labels"])
    return train, Split(tensors["test_images"], tensors["test_labels"]), classes


SOURCES = {"digits": _digits, "cifar10": _cifar, "cifar100": _cifar, "folder": _folder}
