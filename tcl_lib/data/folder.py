"""Images in folders `train/<class>/*` and `test/<class>/*`, decoded once and cached in one file."""

import hashlib
import json
import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcl_lib.data.tree import check_disjoint, class_files, class_names
from tcl_lib.utils import files
from tcl_lib.utils.progress import progress_bar

log = logging.getLogger(__name__)

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# Modes that convert to RGB without clipping; 16 and 32 bit images would be clipped.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
HEADER = 256  # bytes before the cached pixels: their shape and a fingerprint of the image files


def load_folder(root: Path, cache: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Return all images as RGB, decoded now or by an earlier call from the same files.

    Args:
        root: folder with train/<class>/* and test/<class>/*, png, jpg or webp images of one size.
        cache: folder for the decoded images; names, sizes and times of the files identify them.

    Returns:
        {train,test}_images uint8 [N, 3, H, W] and {train,test}_labels int64 [N]; the sorted class names.

    Raise ValueError or FileNotFoundError that names the bad file or folder.
    """
    classes = class_names(root)
    parts = {part: class_files(root / part, classes, SUFFIXES) for part in ("train", "test")}
    check_disjoint(parts["train"], parts["test"])
    paths = [path for part in parts.values() for path, _ in part]
    fingerprint = _fingerprint(root, paths)
    cached = cache / f"{root.name[:40]}-{hashlib.sha256(os.fsencode(root)).hexdigest()[:8]}.images"
    images = _read_cache(cached, fingerprint)
    if images is None:
        images = _decode(paths)
        _write_cache(cached, fingerprint, images)
    count = len(parts["train"])
    labels = {part: torch.tensor([label for _, label in members]) for part, members in parts.items()}
    return {
        "train_images": images[:count],
        "train_labels": labels["train"],
        "test_images": images[count:],
        "test_labels": labels["test"],
    }, classes


def _decode(paths: list[Path]) -> Tensor:
    """Decode the images on all cores and return them: uint8 [N, 3, H, W]."""
    first = _pixels(paths[0])
    images = np.empty((len(paths), *first.shape), np.uint8)  # [N, H, W, 3]
    log.info("decoding %d images, once", len(paths))
    with progress_bar(len(paths), unit="image") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for index, pixels in enumerate(pool.map(_pixels, paths)):
                if pixels.shape != first.shape:
                    raise ValueError(
                        f"{paths[index]}: is {pixels.shape[1]}x{pixels.shape[0]} pixels, but {paths[0]} is"
                        f" {first.shape[1]}x{first.shape[0]}; all images must have the same size"
                    )
                images[index] = pixels
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _pixels(path: Path) -> np.ndarray:
    """Return one image: uint8 [H, W, 3]."""
    try:
        with Image.open(path) as image:
            if image.mode not in MODES:
                raise ValueError(f"pixels have mode {image.mode}, 8 bits per channel are required")
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: cannot be read as an image ({error})") from error


def _fingerprint(root: Path, paths: list[Path]) -> str:
    digest = hashlib.sha256(b"decoded as RGB, 1")
    for path in paths:
        status = path.stat()
        digest.update(os.fsencode(path.relative_to(root)))
        digest.update(f"\t{status.st_size}\t{status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _read_cache(path: Path, fingerprint: str) -> Tensor | None:
    """Return the images that `_write_cache` wrote; None if there are none, or not of these files."""
    if not path.exists():
        return None
    try:
        content = files.read_sealed(path)
        header = bytes(content[:HEADER])
        shape = json.loads(header)["shape"]
        if json.loads(header)["fingerprint"] != fingerprint:
            return None
        return torch.frombuffer(content, dtype=torch.uint8, offset=HEADER).view(shape)
    except Exception as error:  # whatever is wrong with the cache, the image files are there
        warnings.warn(f"{path}: damaged ({error}); decoding the images again", stacklevel=3)
        return None


def _write_cache(path: Path, fingerprint: str, images: Tensor) -> None:
    header = json.dumps({"fingerprint": fingerprint, "shape": list(images.shape)}).encode()
    try:
        files.make_folder(path.parent)
        files.write_sealed(path, header.ljust(HEADER), memoryview(images.numpy()).cast("B"))
    except OSError as error:
        warnings.warn(
            f"cannot cache the decoded images, the next run will decode them again: {error}", stacklevel=3
        )
