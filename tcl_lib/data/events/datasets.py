"""Event camera datasets as frames of counted events, mapped from a file.

Shapes: N recordings, B batch, T time steps, H x W pixels; channel 0 is OFF, 1 is ON.
"""

import http.client
import logging
import os
import re
import shutil
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from torch import Generator, Tensor
from torch.nn import functional as F

from tcl_lib.config import RunConfig
from tcl_lib.data.duplicates import check_duplicates
from tcl_lib.data.events.augment import augment_frames
from tcl_lib.data.events.cache import Recording, cached_frames
from tcl_lib.data.events.recordings import NMNIST, READERS, RecordingFile
from tcl_lib.data.events.simulated import MovedImage
from tcl_lib.data.events.splits import CLASSES, RECORDINGS, split_indices
from tcl_lib.data.images import digit_images, digit_split
from tcl_lib.data.parts import Data, Split
from tcl_lib.data.tree import belongs, class_files, class_names
from tcl_lib.utils import files, paths
from tcl_lib.utils.progress import hidden_bars

log = logging.getLogger(__name__)

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

    def views(self, stored: Tensor, config: RunConfig, generator: Generator) -> Tensor:
        """Return augmented views as inputs, one view after another: float [T, V*B, 2, H', W']."""
        frames = self.frames(stored)
        views = [self.augmented(frames, config, generator) for _ in range(config.num_views)]
        return torch.cat(views).transpose(0, 1)

    def augmented(self, frames: Tensor, config: RunConfig, generator: Generator) -> Tensor:
        """Return one view of every recording, augmented as the config says: [B, T, 2, H, W]."""
        if not config.augment:
            return frames
        return augment_frames(frames, generator, flip=config.flips, kind=config.event_augmentation)

    def preview(self, config: RunConfig) -> tuple[np.ndarray, list[str]]:
        """Return the first training recordings and their views, one time step (of up to ten) per column."""
        frames = self.frames(self.train[:2])
        generator = Generator().manual_seed(config.seed)
        rows = [frames, *(self.augmented(frames, config, generator) for _ in range(config.num_views))]
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


def dvs_cifar10(config: RunConfig) -> tuple[Split, Split, list[str]]:
    """Return DVS-CIFAR10 (Li et al. 2017) in its authors' format (.aedat) or in tonic's (.aedat4)."""
    folder = _lying_in(config.data_path, "CIFAR10DVS", CIFAR_CLASSES)
    if folder is None:
        folder = config.data_path / "CIFAR10DVS"
        _download(config.dataset, "CIFAR10DVS", folder)
    paths = []
    for name in CIFAR_CLASSES:
        found = _listed(folder / name, (".aedat", ".aedat4"), config)
        paths += _numbered(folder / name, found, rf"(?:cifar10_{name}_)?(\d+)")
    # The authors' files are transposed relative to jAER's view of a DVS128; SpikingJelly's reader transposes
    # them, too. We assume that tonic's files, converted from these, have the same orientation.
    recordings = [RecordingFile(path, transposed=True) for path in paths]
    labels = np.repeat(np.arange(CLASSES), RECORDINGS)
    train, test = split_indices(config.split, config.seed)
    return *_counted(config, recordings, labels, train, test), CIFAR_CLASSES


def nmnist(config: RunConfig) -> tuple[Split, Split, list[str]]:
    """Return N-MNIST (Orchard et al. 2015)."""
    folder = _lying_in(config.data_path, "NMNIST", NMNIST_FILES) or config.data_path / "NMNIST"
    recordings, labels = [], []
    for part, counts in NMNIST_FILES.items():
        if not (folder / part).is_dir():
            folder = config.data_path / "NMNIST"
            _download(config.dataset, "NMNIST", folder / part, train=part == "Train")
        for digit, count in enumerate(counts):
            paths = _listed(folder / part / str(digit), (".bin",), config)
            if len(paths) != count:
                raise ValueError(_wrong_count(config.dataset, folder / part / str(digit), len(paths), count))
            recordings += [RecordingFile(path, NMNIST) for path in paths]
            labels += [digit] * count
    indices = np.arange(len(labels))
    train = indices < sum(NMNIST_FILES["Train"])
    return *_counted(config, recordings, labels, indices[train], indices[~train]), list("0123456789")


def events_folder(config: RunConfig) -> tuple[Split, Split, list[str]]:
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


def moving_digits(config: RunConfig) -> tuple[Split, Split, list[str]]:
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


def _lying_in(root: Path, name: str, parts: Iterable[str]) -> Path | None:
    """Return the folder with a dataset's parts, root/name or root; None if neither has any."""
    return next((folder for folder in (root / name, root) if any((folder / p).is_dir() for p in parts)), None)


def _listed(folder: Path, suffixes: tuple[str, ...], config: RunConfig) -> list[Path]:
    """Return the recordings in a folder, sorted by name. Raise ValueError for an empty one unless skipped."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in paths if belongs(path) and path.suffix.lower() in suffixes]
    for path in paths:
        if not (path.stat().st_size or config.skip_bad_recordings):
            raise ValueError(f"{path}: is empty; unpack its archive again")
    return paths


def _numbered(folder: Path, paths: Sequence[Path], name: str) -> list[Path]:
    """Return the 1,000 recordings of a class of DVS-CIFAR10, ordered by the numbers in their names."""
    numbered = {}
    for path in paths:
        match = re.fullmatch(name, path.stem)
        if match is None or int(match[1]) >= RECORDINGS:
            raise ValueError(f"{path}: is not a recording of this class, according to its name")
        other = numbered.setdefault(int(match[1]), path)
        if other != path:
            raise ValueError(f"{path}: has the same number as {other}; remove one of them")
    if len(numbered) != RECORDINGS:
        raise ValueError(_wrong_count("dvs_cifar10", folder, len(numbered), RECORDINGS))
    return [numbered[number] for number in range(RECORDINGS)]


def _wrong_count(dataset: str, folder: Path, found: int, count: int) -> str:
    remedy = "unpack its archive again" if found < count else "remove those that do not belong there"
    return (
        f"{folder}: has {found} recordings of {dataset}, {count} are required; {remedy}. {BY_HAND[dataset]}"
    )


def _download(dataset: str, name: str, target: Path, **part: bool) -> None:
    """Download and unpack a dataset, or the part with the target's name, with tonic.

    It is unpacked to a folder beside the target, which is renamed when it is complete. After an interrupted
    download, a complete archive is unpacked again, and an incomplete one is downloaded again.
    """
    import tonic  # slow to import, and needed once

    log.info("downloading %s to %s", dataset, target)
    underway = target.with_name(f"{target.name}.underway")
    unpacked = underway / name
    files.make_folder(target.parent)
    try:
        with FileLock(target.with_name(f".{target.name}.lock")):  # one process; others wait for it
            if target.is_dir() and any(target.iterdir()):
                return
            for folder in (path for path in unpacked.glob("*") if path.is_dir()):
                shutil.rmtree(folder)
            with hidden_bars():
                getattr(tonic.datasets, name)(str(underway), **part)
            os.replace(unpacked / target.name if part else unpacked, target)
            shutil.rmtree(underway)
    except (OSError, RuntimeError, ValueError, http.client.HTTPException, zipfile.BadZipFile) as error:
        raise ConnectionError(
            f"{dataset} is not in {target} and could not be downloaded ({error}). {BY_HAND[dataset]}"
        ) from error


BY_HAND = {
    "dvs_cifar10": (
        "Since January 2026 its host sends programs an empty file. Download it by hand: open"
        " https://figshare.com/articles/dataset/CIFAR10-DVS_New/4724671 in a browser, download the archives"
        " of the ten classes, and unpack them so that data_root contains airplane/cifar10_airplane_0.aedat to"
        " truck/cifar10_truck_999.aedat"
    ),
    "nmnist": (
        "Download it by hand: open https://www.garrickorchard.com/datasets/n-mnist in a browser, download"
        " Train.zip and Test.zip, and unpack them so that data_root contains Train/0/*.bin to Train/9/*.bin"
        " and Test/0/*.bin to Test/9/*.bin"
    ),
}
