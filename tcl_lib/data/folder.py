"""A user's own images: `train/<class>/*` and `test/<class>/*`, decoded once and kept as one file."""

import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tcl_lib.data.tree import check_disjoint, class_files, class_names
from tcl_lib.utils import files
from tcl_lib.utils.progress import progress_bar

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
# Modes that become RGB without loss of range; 16 and 32 bit images would be clipped.
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB")
HEADER = 256  # bytes in front of the cached pixels: their shape, and what they are of


def load_folder(root: Path, cache: Path) -> tuple[dict[str, Tensor], list[str]]:
    """Decode all images as RGB, or read what an earlier call decoded from the same files.

    Args:
        root: holds train/<class>/* and test/<class>/*, images in png, jpg or webp, all of one size.
        cache: where the decoded images are kept, tied to the files' names, sizes and times.

    Returns: {train,test}_images uint8 [N, 3, H, W] and {train,test}_labels int64 [N]; the sorted class names.
    Raises ValueError or FileNotFoundError that names the file or folder at fault.
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
    """Decode on all cores: uint8 [N, 3, H, W]."""
    first = _pixels(paths[0])
    images = np.empty((len(paths), *first.shape), np.uint8)  # [N, H, W, 3]
    print(f"decoding {len(paths)} images, once", flush=True)
    with progress_bar(len(paths), unit="image") as bar, ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for index, pixels in enumerate(pool.map(_pixels, paths)):
                if pixels.shape != first.shape:
                    raise ValueError(
                        f"{paths[index]}: is {pixels.shape[1]}x{pixels.shape[0]} pixels, but {paths[0]} is"
                        f" {first.shape[1]}x{first.shape[0]}; all images must have one size"
                    )
                images[index] = pixels
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()


def _pixels(path: Path) -> np.ndarray:
    """One image, uint8 [H, W, 3]."""
    try:
        with Image.open(path) as image:
            if image.mode not in MODES:
                raise ValueError(f"pixels of mode {image.mode}, needs 8 bits a channel")
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
    """The images that `_write_cache` wrote, if they are of these files."""
    if not path.exists():
        return None
    try:
        content = files.read_sealed(path)
        header = bytes(content[:HEADER])
        shape = json.loads(header)["shape"]
        if json.loads(header)["fingerprint"] != fingerprint:
            return None
        return torch.frombuffer(content, dtype=torch.uint8, offset=HEADER).view(shape)
    except Exception as error:  # whatever is wrong with it, the images themselves are at hand
        print(f"{path}: damaged ({type(error).__name__}), decoding the images anew")
        return None


def _write_cache(path: Path, fingerprint: str, images: Tensor) -> None:
    header = json.dumps({"fingerprint": fingerprint, "shape": list(images.shape)}).encode()
    try:
        files.make_folder(path.parent)
        files.write_sealed(path, header.ljust(HEADER), memoryview(images.numpy()).cast("B"))
    except OSError as error:
        print(f"decoded images could not be kept, the next run decodes them again: {error}")
