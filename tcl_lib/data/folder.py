"""Images in folders `train/<class>/*` and `test/<class>/*`, decoded once and cached in one file."""

import contextlib
import hashlib
import json
import logging
import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count
from PIL import Image, ImageOps, UnidentifiedImageError

from tcl_lib.data.duplicates import check_duplicates
from tcl_lib.data.parts import Split
from tcl_lib.data.tree import class_files, class_names
from tcl_lib.utils import files
from tcl_lib.utils.progress import progress_bar

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FORMATS = ("PNG", "JPEG", "WEBP")
FORMAT = 2  # of the cache; a change decodes all images again
HEADER = 256  # bytes before the cached pixels: their shape and the stamp of the image files
PNG_BITS = 24  # place of the byte in a PNG file that holds the bits per channel


def load_folder(root: Path, cache: Path, allow_duplicates: bool = False) -> tuple[Split, Split, list[str]]:
    """Return all images as RGB, decoded now or by an earlier call from the same files.

    Args:
        root: folder with train/<class>/* and test/<class>/*, png, jpg or webp images of one size.
        cache: folder for the decoded images; names, sizes and times of the files identify them.
        allow_duplicates: warn about images that are in both parts, instead of stopping.

    Returns:
        The training and the test set, uint8 [N, 3, H, W]; the sorted class names.

    Raises ValueError or FileNotFoundError that names the bad file or folder.
    """
    classes = class_names(root)
    train, test = (class_files(root / part, classes, SUFFIXES) for part in ("train", "test"))
    paths = [path for path, _ in train + test]
    stamps = json.dumps([FORMAT, [files.stamp(path) for path in paths]])
    stamp = hashlib.sha256(stamps.encode()).hexdigest()
    folder = cache / f"{root.name[:40]}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}"
    with files.held(folder, f"the decoded images of {root}"):
        images, hashes = _read_cache(folder / "images", stamp) or _decode(paths, folder / "images", stamp)
    labels = torch.tensor([label for _, label in train + test])
    parts = torch.arange(len(paths)).split([len(train), len(test)])
    splits = [Split(torch.from_numpy(images), part, labels[part], torch.from_numpy(hashes)) for part in parts]
    check_duplicates(*splits, paths, allow_duplicates)
    return *splits, classes


def _decode(paths: Sequence[Path], cached: Path, stamp: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the images, uint8 [N, 3, H, W], and the hashes of their pixels, uint8 [N, 32]; cache both."""
    first, digest = _decoded(paths[0])
    images = np.empty((len(paths), *first.shape), np.uint8)
    hashes = np.empty((len(paths), len(digest)), np.uint8)
    log.info("decoding %d images, once", len(paths))
    with progress_bar(len(paths), unit="image") as bar, ThreadPoolExecutor(cpu_count()) as pool:
        try:
            for index, (pixels, digest) in enumerate(pool.map(_decoded, paths)):
                if pixels.shape != first.shape:
                    raise ValueError(
                        f"{paths[index]}: is {_size(pixels)} pixels, but {paths[0]} is {_size(first)};"
                        " all images must have the same size"
                    )
                images[index], hashes[index] = pixels, np.frombuffer(digest, np.uint8)
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    _write_cache(cached, stamp, images, hashes)
    return images, hashes


def _size(pixels: np.ndarray) -> str:
    _, height, width = pixels.shape
    return f"{width}x{height}"


def _decoded(path: Path) -> tuple[np.ndarray, bytes]:
    """Return one image, uint8 [3, H, W], and the hash of its pixels."""
    try:
        with open(path, "rb") as file:
            header = file.read(PNG_BITS + 1)
            file.seek(0)
            with Image.open(file, formats=FORMATS) as image:
                if image.format == "PNG" and header[PNG_BITS] > 8:  # Pillow would drop the lower ones
                    raise ValueError(f"has {header[PNG_BITS]} bits per channel, must have 8")
                pixels = np.asarray(_upright(image).convert("RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"{path}: cannot be read as an image (is not {', '.join(FORMATS)})") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({error})") from error
    return pixels.transpose(2, 0, 1), hashlib.sha256(pixels).digest()


def _upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF data say; damaged EXIF data say nothing."""
    image.load()
    with contextlib.suppress(Exception):  # what Pillow raises depends on where the EXIF data are damaged
        ImageOps.exif_transpose(image, in_place=True)
    return image


def _read_cache(path: Path, stamp: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Return what `_write_cache` wrote; None if there is nothing, or not of these files."""
    if not path.exists():
        return None
    try:
        content = files.read_sealed(path)
        header = json.loads(bytes(content[:HEADER]))
        if header["stamp"] != stamp:
            return None
        count = header["shape"][0]
        values = np.frombuffer(content, np.uint8, offset=HEADER)
        pixels = int(np.prod(header["shape"]))
        return values[:pixels].reshape(header["shape"]), values[pixels:].reshape(count, -1)
    except Exception as error:  # whatever is wrong with the cache, the image files are there
        warnings.warn(f"{path}: damaged ({error}); decoding the images again", stacklevel=3)
        return None


def _write_cache(path: Path, stamp: str, images: np.ndarray, hashes: np.ndarray) -> None:
    header = json.dumps({"stamp": stamp, "shape": images.shape}).encode().ljust(HEADER)
    try:
        files.make_folder(path.parent)
        files.write_sealed(path, header, memoryview(images).cast("B"), memoryview(hashes).cast("B"))
    except OSError as error:
        warnings.warn(
            f"cannot cache the decoded images, the next run will decode them again: {error}", stacklevel=4
        )
