"""Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747): 70,000 grey images of clothing."""

import gzip
import hashlib
import http.client
import logging
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torchvision.datasets import FashionMNIST
from torchvision.datasets.utils import download_url

from tcl_lib.config import RunConfig
from tcl_lib.data.parts import Split
from tcl_lib.utils.progress import hidden_bars

log = logging.getLogger(__name__)

# Where the package dataset-fashion-mnist of Debian and Ubuntu puts the files.
PACKAGE = Path("/usr/share/datasets/fashion-mnist")
# SHA-256 of the uncompressed files; compressed ones differ in their headers.
FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}


def fashion_mnist(config: RunConfig, download: bool = True) -> tuple[Split, Split, list[str]]:
    """Return Fashion-MNIST from `data_root` or the system's package, downloaded if necessary."""
    root = config.data_path
    raw = root / FashionMNIST.__name__ / "raw"  # as torchvision has it
    content = {name: _find(name, (root, raw, PACKAGE)) for name in FILES}
    if None in content.values():
        if not download:
            raise FileNotFoundError(f"fashion_mnist is not in {root}")
        _download(raw, [name for name, found in content.items() if found is None])
        content = {name: found or _find(name, (raw,)) for name, found in content.items()}
    splits = []
    for part in ("train", "t10k"):
        images = np.frombuffer(content[f"{part}-images-idx3-ubyte"], np.uint8, offset=16)
        labels = np.frombuffer(content[f"{part}-labels-idx1-ubyte"], np.uint8, offset=8)
        stored = torch.from_numpy(images.reshape(-1, 1, 28, 28).copy())
        splits.append(Split(stored, torch.arange(len(labels)), torch.from_numpy(labels.astype(np.int64))))
    return *splits, list(FashionMNIST.classes)


def _find(name: str, folders: Iterable[Path]) -> bytes | None:
    """Return the content of a file in one of the folders, compressed or not; None without a sound one."""
    for path in (folder / f"{name}{suffix}" for folder in folders for suffix in ("", ".gz")):
        try:
            content = path.read_bytes()
            if path.suffix:
                content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):  # not there, or damaged
            continue
        if hashlib.sha256(content).hexdigest() == FILES[name]:
            return content
    return None


def _download(folder: Path, names: list[str]) -> None:
    log.info("downloading fashion_mnist to %s", folder)
    sums = dict(FashionMNIST.resources)
    try:
        with hidden_bars():
            for name in (f"{name}.gz" for name in names):
                download_url(FashionMNIST.mirrors[0] + name, str(folder), md5=sums[name])
    except (OSError, RuntimeError, http.client.HTTPException) as error:
        raise ConnectionError(
            f"fashion_mnist is not in {folder} and could not be downloaded ({error}); install the package"
            f" dataset-fashion-mnist of Debian or Ubuntu, or put {', '.join(sums)} into data_root"
        ) from error
