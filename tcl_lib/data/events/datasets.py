"""Event camera datasets as frames of counted events, mapped from a file.

Shapes: N recordings, B batch, T time steps, H x W pixels; channel 0 is OFF, 1 is ON.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from tcl_lib.config import RunConfig
from tcl_lib.data.draws import Draws
from tcl_lib.data.duplicates import check_duplicates
from tcl_lib.data.events.augment import augment_frames
from tcl_lib.data.events.cache import Recording, cached_frames
from tcl_lib.data.events.published import (
    fetch,
    find_folder,
    list_recordings,
    order_by_number,
    wrong_count,
)
from tcl_lib.data.events.recordings import NMNIST, READERS, RecordingFile
from tcl_lib.data.events.simulated import MovedImage
from tcl_lib.data.events.splits import CLASSES, RECORDINGS, split_indices
from tcl_lib.data.images import digit_images, digit_split
from tcl_lib.data.parts import Data, Split
from tcl_lib.data.tree import class_files, class_names
from tcl_lib.utils import paths

CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
# recordings of each digit
NMNIST_FILES = {
    "Train": (5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949),
    "Test": (980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009),
}


@dataclass(frozen=True)
class EventData(Data):
    """Recordings, stored as counts, uint8 or uint16 [N, T, 2, H, W]; each time step is one frame."""

    frame_size: int | None  # shorter side of the network's input in pixels; None for the sensor's
    count_scale: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(2, H, W) of the network's input at one time step."""
        height, width = self.train.stored.shape[-2:]
        scale = 1 if self.frame_size is None else self.frame_size / min(height, width)
        return 2, max(1, round(height * scale)), max(1, round(width * scale))

    def frames(self, stored: Tensor) -> Tensor:
        """Return scaled and resized counts: [B, T, 2, H, W] -> float [B, T, 2, H', W'].

        `count_scale` "max" divides each frame by its largest count. Channels are resized independently,
        bilinearly with antialiasing.
        """
        frames = stored.float()
        if self.count_scale == "max":
            frames = frames / frames.amax((2, 3, 4), keepdim=True).clamp(min=1)
        size = self.input_shape[1:]
        if size == frames.shape[-2:]:
            return frames
        flat = frames.flatten(0, 1)
        resized = F.interpolate(flat, size, mode="bilinear", antialias=True, align_corners=False)
        return resized.unflatten(0, frames.shape[:2])

    def inputs(self, stored: Tensor) -> Tensor:
        """Return the network's input: float [T, B, 2, H', W']."""
        return self.frames(stored).transpose(0, 1)

    def views(self, stored: Tensor, config: RunConfig, draws: Draws) -> Tensor:
        """Return augmented views as inputs, one view after another: float [T, V*B, 2, H', W']."""
        frames = self.frames(stored)
        views = [self.augmented(frames, config, draws) for _ in range(config.num_views)]
        return torch.cat(views).transpose(0, 1)

    def augmented(self, frames: Tensor, config: RunConfig, draws: Draws) -> Tensor:
        """Return one view of every recording, augmented as the config says: [B, T, 2, H, W]."""
        if not config.augment:
            return frames
        return augment_frames(frames, draws, flip=config.flips, kind=config.event_augmentation)

    def pictures(self, stored: Tensor) -> np.ndarray:
        """Return frames with ON orange and OFF blue on white: uint8 [B, T, 3, H, W]."""
        return _coloured(self.frames(stored))

    def preview(self, config: RunConfig) -> tuple[np.ndarray, list[str]]:
        """Return the first training recordings and their views, one time step (of up to ten) per column."""
        frames = self.frames(self.train[:2])
        draws = Draws(Generator().manual_seed(config.seed), len(frames))
        rows = [frames, *(self.augmented(frames, config, draws) for _ in range(config.num_views))]
        pictures = torch.stack(rows, 1)[:, :, :10].flatten(0, 1)  # [2 * (1 + V), up to 10, 2, H, W]
        names = len(frames) * ["counted", *(f"view {view + 1}" for view in range(config.num_views))]
        return _coloured(pictures), names


def _coloured(frames: Tensor) -> np.ndarray:
    """Return pictures with ON orange and OFF blue on white: [..., 2, H, W] -> uint8 [..., 3, H, W]."""
    blue, orange = torch.tensor([0.00, 0.45, 0.70]), torch.tensor([0.84, 0.37, 0.00])
    counted = frames[frames > 0]
    # not the maximum: a few hot pixels would make all others pale
    full = float(np.quantile(counted.numpy(), 0.98)) if len(counted) else 1.0
    off, on = (frames / full).clamp(max=1)[..., None].unbind(-4)  # [..., H, W, 1]
    colours = 1 - off * (1 - blue) - on * (1 - orange)
    return (colours.clamp(min=0) * 255).round().byte().movedim(-1, -3).numpy()


def dvs_cifar10(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return DVS-CIFAR10 (Li et al. 2017) in its authors' format (.aedat) or in tonic's (.aedat4)."""
    folder = find_folder(config.data_path, "CIFAR10DVS", CIFAR_CLASSES)
    if folder is None:
        folder = config.data_path / "CIFAR10DVS"
        fetch(config.dataset, "CIFAR10DVS", folder, download)
    paths = []
    for name in CIFAR_CLASSES:
        found = list_recordings(folder / name, (".aedat", ".aedat4"), config.skip_bad_recordings)
        paths += order_by_number(folder / name, found, rf"(?:cifar10_{name}_)?(\d+)", RECORDINGS)
    # The authors' files are transposed relative to jAER's view of a DVS128; SpikingJelly's reader transposes
    # them, too. We assume that tonic's files, converted from these, have the same orientation.
    recordings = [RecordingFile(path, transposed=True) for path in paths]
    labels = np.repeat(np.arange(CLASSES), RECORDINGS)
    train, test = split_indices(config.split, config.seed)
    return *_counted(config, recordings, labels, train, test), CIFAR_CLASSES


def nmnist(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return N-MNIST (Orchard et al. 2015)."""
    folder = find_folder(config.data_path, "NMNIST", NMNIST_FILES) or config.data_path / "NMNIST"
    recordings, labels = [], []
    for part, counts in NMNIST_FILES.items():
        if not (folder / part).is_dir():
            folder = config.data_path / "NMNIST"
            fetch(config.dataset, "NMNIST", folder / part, download, train=part == "Train")
        for digit, count in enumerate(counts):
            paths = list_recordings(folder / part / str(digit), (".bin",), config.skip_bad_recordings)
            if len(paths) != count:
                raise ValueError(wrong_count(config.dataset, folder / part / str(digit), len(paths), count))
            recordings += [RecordingFile(path, NMNIST) for path in paths]
            labels += [digit] * count
    indices = np.arange(len(labels))
    train = indices < sum(NMNIST_FILES["Train"])
    return *_counted(config, recordings, labels, indices[train], indices[~train]), list("0123456789")


def events_folder(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return the recordings in `data_root`: train/<class>/* and test/<class>/*."""
    root = config.data_path
    classes = class_names(root)
    train, test = (class_files(root / part, classes, READERS) for part in ("train", "test"))
    size = None if config.sensor_size is None else tuple(config.sensor_size)
    paths, labels = zip(*train, *test, strict=True)
    recordings = [RecordingFile(path, size) for path in paths]
    indices = np.arange(len(labels))
    parts = _counted(config, recordings, labels, indices[: len(train)], indices[len(train) :])
    check_duplicates(*parts, paths, config.allow_duplicates)
    return *parts, classes


def moving_digits(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return the handwritten digits in front of a simulated event camera, with the split of `digits`."""
    images, labels = digit_images()
    train, test = (part.numpy() for part in digit_split(labels))
    side = images.shape[-1]
    recordings = [MovedImage(image.numpy().tobytes(), side, number) for number, image in enumerate(images)]
    return *_counted(config, recordings, labels, train, test), list("0123456789")


def _counted(
    config: RunConfig,
    recordings: Sequence[Recording],
    labels: Sequence[int] | np.ndarray | Tensor,
    train: np.ndarray,
    test: np.ndarray,
) -> tuple[Split, Split]:
    """Return the training and test recordings as frames, without bad ones."""
    common = np.intersect1d(train, test)
    if len(common):
        raise ValueError(f"{recordings[common[0]].name}: is in the training and in the test set")
    frames = cached_frames(
        config.dataset,
        recordings,
        config.time_steps,
        config.frame_by,
        paths.cache(),
        config.skip_bad_recordings,
    )
    if frames.bad:
        reasons = "; ".join(list(frames.bad.values())[:3])
        warnings.warn(
            f"{len(frames.bad)} of {len(recordings)} recordings are bad and skipped, the first: {reasons}",
            stacklevel=2,
        )
    stored, hashes = torch.from_numpy(frames.counts), torch.from_numpy(frames.hashes)
    labels = torch.as_tensor(labels)
    bad = np.array(list(frames.bad), dtype=np.int64)
    kept = [torch.from_numpy(np.setdiff1d(part, bad)) for part in (train, test)]
    if not all(map(len, kept)):
        raise ValueError(f"{config.dataset}: the training or the test set has only bad recordings")
    return tuple(Split(stored, indices, labels[indices], hashes) for indices in kept)
