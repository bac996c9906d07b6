"""Image datasets as uint8 tensors in memory. Shapes: B batch, C channels, H x W pixels."""

import http.client
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch import Generator, Tensor
from torchvision.datasets import CIFAR10, CIFAR100

from tcl_lib.config import RunConfig
from tcl_lib.data.augment import augment
from tcl_lib.data.draws import Draws
from tcl_lib.data.folder import load_folder
from tcl_lib.data.parts import Data, Split, stratified_order
from tcl_lib.utils import paths
from tcl_lib.utils.devices import to_device
from tcl_lib.utils.progress import hidden_bars

log = logging.getLogger(__name__)

# The digits have no test set: a fifth of them becomes one, the same for every seed of a run.
DIGITS_TEST_SIZE, DIGITS_TEST_SEED = 360, 0


@dataclass(frozen=True)
class ImageData(Data):
    """Images, stored as uint8 [N, C, H, W]; the network sees the same image at every time step."""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return tuple(self.train.stored.shape[1:])

    @cached_property
    def mean_and_std(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel over the training part, each float [C]."""
        values = torch.arange(256, dtype=torch.float64)
        # from histograms, so that the images are never held as floats
        shares = [
            torch.bincount(channel.flatten(), minlength=256) / channel.numel()
            for channel in self.train[:].unbind(1)
        ]
        share = torch.stack(shares).double()  # [C, 256]
        mean = share @ values
        deviation = (share @ values.square() - mean.square()).clamp(min=0).sqrt()
        return mean.float(), deviation.clamp(min=1).float()

    def inputs(self, stored: Tensor) -> Tensor:
        """Return images normalised per channel with the training part: float [B, C, H, W], channels last."""
        mean, std = (to_device(moment, stored.device)[:, None, None] for moment in self.mean_and_std)
        return ((stored - mean) / std).contiguous(memory_format=torch.channels_last)

    def views(self, stored: Tensor, config: RunConfig, draws: Draws) -> Tensor:
        """Return augmented views of the images as inputs, one view after another: float [V*B, C, H, W]."""
        views = [self.augmented(stored, config, draws) for _ in range(config.num_views)]
        return self.inputs(torch.cat(views))

    def augmented(self, stored: Tensor, config: RunConfig, draws: Draws) -> Tensor:
        """Return one view of every image, augmented as the config says: uint8 [B, C, H, W] -> uint8."""
        if not config.augment:
            return stored
        return augment(stored, draws, flip=config.flips, cutout=config.cutout, autoaugment=config.autoaugment)

    def pictures(self, stored: Tensor) -> np.ndarray:
        """Return the images themselves: uint8 [B, 1, C, H, W]."""
        return stored[:, None].numpy()

    def preview(self, config: RunConfig) -> tuple[np.ndarray, list[str]]:
        """Return the first training images and their views, one image per column."""
        images = self.train[:8]
        draws = Draws(Generator().manual_seed(config.seed), len(images))
        rows = [images, *(self.augmented(images, config, draws) for _ in range(config.num_views))]
        return torch.stack(rows).numpy(), [
            "stored",
            *(f"view {view + 1}" for view in range(config.num_views)),
        ]


def digits(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return scikit-learn's handwritten digits: training set, test set, class names."""
    images, labels = digit_images()
    train, test = (Split(images, part, labels[part]) for part in digit_split(labels))
    return train, test, list("0123456789")


def digit_split(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the indices of the training digits and of the test digits."""
    order = stratified_order(labels, DIGITS_TEST_SEED)
    return order[DIGITS_TEST_SIZE:], order[:DIGITS_TEST_SIZE]


def digit_images() -> tuple[Tensor, Tensor]:
    """Return all digits as uint8 [1797, 1, 8, 8], and their labels."""
    pixels, labels = load_digits(return_X_y=True)  # [N, 64] from 0 to 16
    images = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8).view(-1, 1, 8, 8)
    return images, torch.from_numpy(labels).long()


def cifar(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return CIFAR-10 or CIFAR-100 from `data_root`, downloaded if necessary."""
    source = {"cifar10": CIFAR10, "cifar100": CIFAR100}[config.dataset]
    with hidden_bars():
        parts = _load(source, config.data_path, config.dataset, download)
    train, test = (
        Split(
            torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous(),
            torch.arange(len(part)),
            torch.tensor(part.targets),
        )
        for part in parts
    )
    return train, test, list(parts[0].classes)


def _load(source: type[CIFAR10], root: Path, dataset: str, download: bool) -> list[CIFAR10]:
    if download and not (root / source.base_folder).is_dir():
        log.info("downloading %s to %s", dataset, root)
    try:
        return [source(root, train=train, download=download) for train in (True, False)]
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        if not download:
            raise FileNotFoundError(f"{dataset} is not in {root}, or not whole") from error
        raise ConnectionError(
            f"{dataset} is not in {root} and could not be downloaded ({error});"
            f" download {source.filename} by hand, or set data_root to the folder that contains it"
        ) from error


def folder(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return the images in the folder `data_root`."""
    return load_folder(config.data_path, paths.cache(), config.allow_duplicates)
