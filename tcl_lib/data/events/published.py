"""The files of published event datasets: where they lie, and how they are downloaded."""

import http.client
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from filelock import FileLock

from tcl_lib.data.tree import belongs
from tcl_lib.utils import files
from tcl_lib.utils.progress import hidden_bars

log = logging.getLogger(__name__)

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


def find_folder(root: Path, name: str, parts: Iterable[str]) -> Path | None:
    """Return the folder with a dataset's parts, root/name or root; None if neither has any."""
    return next((folder for folder in (root / name, root) if any((folder / p).is_dir() for p in parts)), None)


def list_recordings(folder: Path, suffixes: tuple[str, ...], skip_bad: bool) -> list[Path]:
    """Return a folder's recordings, sorted by name. Raises ValueError for an empty one unless skipped."""
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    paths = [path for path in paths if belongs(path) and path.suffix.lower() in suffixes]
    for path in paths:
        if not (path.stat().st_size or skip_bad):
            raise ValueError(f"{path}: is empty; unpack its archive again")
    return paths


def order_by_number(folder: Path, paths: Sequence[Path], name: str, count: int) -> list[Path]:
    """Return the recordings of a class of DVS-CIFAR10, ordered by the numbers in their names.

    `name` is a pattern for a file's name whose group is its number, below `count`. Raises ValueError that
    names a file that does not belong, or a number that is missing or there twice.
    """
    numbered = {}
    for path in paths:
        match = re.fullmatch(name, path.stem)
        if match is None or int(match[1]) >= count:
            raise ValueError(f"{path}: is not a recording of this class, according to its name")
        other = numbered.setdefault(int(match[1]), path)
        if other != path:
            raise ValueError(f"{path}: has the same number as {other}; remove one of them")
    if len(numbered) != count:
        raise ValueError(wrong_count("dvs_cifar10", folder, len(numbered), count))
    return [numbered[number] for number in range(count)]


def wrong_count(dataset: str, folder: Path, found: int, count: int) -> str:
    """Return the error message for a folder that does not have `count` recordings."""
    remedy = "unpack its archive again" if found < count else "remove those that do not belong there"
    return (
        f"{folder}: has {found} recordings of {dataset}, {count} are required; {remedy}. {BY_HAND[dataset]}"
    )


def fetch(dataset: str, name: str, target: Path, download: bool, **part: bool) -> None:
    """Download and unpack a dataset, or the part with the target's name, with tonic.

    It is unpacked to a folder beside the target, which is renamed when it is complete. After an interrupted
    download, a complete archive is unpacked again, and an incomplete one is downloaded again. Raises
    FileNotFoundError if `download` is False.
    """
    if not download:
        raise FileNotFoundError(f"{dataset} is not in {target}")
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
