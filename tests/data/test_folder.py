"""Folders of images: what is decoded, what is refused, and the cache."""

import hashlib
import itertools
import logging
import os
import shutil
import struct
import subprocess
import sys
import time
import warnings
import zlib

import numpy as np
import pytest
import torch
from conftest import save_image
from PIL import ExifTags, Image

from tcl_lib import RunConfig, load_data
from tcl_lib.data.folder import load_folder
from tcl_lib.utils import files
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY


def test_load_folder_returns_the_pixels_and_labels_of_its_files(image_folder):
    train, test, classes = load_folder(image_folder, image_folder / "cache")
    assert classes == ["cat", "dog"]
    assert train.labels.tolist() == [0] * 6 + [1] * 6
    assert test.labels.tolist() == [0] * 3 + [1] * 3
    for name, part in (("train", train), ("test", test)):
        paths = sorted((image_folder / name).glob("*/*"))
        for path, image in zip(paths, part[:], strict=True):
            expected = np.asarray(Image.open(path).convert("RGB"))
            assert (image.permute(1, 2, 0).numpy() == expected).all(), path


def test_load_folder_makes_grey_and_palette_images_rgb(image_folder):
    path = image_folder / "train" / "cat" / "a.png"
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    save_image(path, grey)
    Image.fromarray(grey).convert("P").save(image_folder / "train" / "cat" / "g.png")
    with pytest.warns(UserWarning, match="1 file is twice in a class"):
        train, _, _ = load_folder(image_folder, image_folder / "cache")
    for index in (0, 6):
        assert (train[index].numpy() == grey).all()


def test_load_folder_reads_a_name_of_any_bytes(image_folder):
    path = image_folder / "train" / "cat" / "a.png"
    path.rename(os.fsdecode(os.fsencode(path.parent) + b"/caf\xe9.png"))
    assert len(load_folder(image_folder, image_folder / "cache")[0]) == 12


def test_load_folder_passes_over_what_file_managers_leave(image_folder):
    expected, _, _ = load_folder(image_folder, image_folder / "cache")
    for place in (image_folder / "train", image_folder / "train" / "cat"):
        (place / ".DS_Store").write_bytes(b"junk")
        (place / "Thumbs.db").write_bytes(b"junk")
    train, _, classes = load_folder(image_folder, image_folder / "cache")
    assert classes == ["cat", "dog"]
    assert torch.equal(train[:], expected[:])


def cache_file(cache):
    (path,) = cache.glob("*/images")
    return path


def test_load_folder_decodes_once(image_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, "tcl_lib")
    cache = tmp_path / "cache"
    _, first, _ = load_folder(image_folder, cache)
    assert caplog.messages == ["decoding 18 images, once"]
    # a mark that only reading the cache can bring back: the last pixel, before 18 hashes of 32 bytes
    content = files.read_sealed(cache_file(cache))
    content[-1 - 18 * 32] ^= 1
    files.write_sealed(cache_file(cache), content)
    _, second, _ = load_folder(image_folder, cache)
    changed = (second[:].flatten() - first[:].flatten()).nonzero().flatten()
    assert changed.tolist() == [first[:].numel() - 1]


@pytest.mark.parametrize("change", ["content", "content alone", "time", "new", "gone", "renamed"])
def test_load_folder_decodes_again_after_a_change_of_a_file(image_folder, tmp_path, change):
    cache = tmp_path / "cache"
    load_folder(image_folder, cache)
    path = image_folder / "train" / "cat" / "a.png"
    status = path.stat()
    if change == "content":
        save_image(path, np.zeros((8, 8, 3), np.uint8))
    elif change == "content alone":  # as a copy does that keeps the time; noise gives files of equal size
        save_image(path, np.random.default_rng(9).integers(0, 256, (8, 8, 3), np.uint8))
        assert path.stat().st_size == status.st_size
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif change == "time":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    elif change == "new":
        save_image(path.with_name("a0.png"), np.zeros((8, 8, 3), np.uint8))
    elif change == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("z.png"))
    before = cache_file(cache).stat().st_mtime_ns
    train, _, _ = load_folder(image_folder, cache)
    assert cache_file(cache).stat().st_mtime_ns > before
    fresh, _, _ = load_folder(image_folder, tmp_path / "elsewhere")
    assert torch.equal(train[:], fresh[:])
    assert torch.equal(train.content, fresh.content)
    assert torch.equal(train.labels, fresh.labels)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "other"])
def test_load_folder_decodes_again_where_the_cache_is_damaged(image_folder, tmp_path, damage):
    cache = tmp_path / "cache"
    expected, _, _ = load_folder(image_folder, cache)
    path = cache_file(cache)
    content = path.read_bytes()
    if damage == "other":
        torch.save([1, 2], path)
    else:
        path.write_bytes({"empty": b"", "cut": content[: len(content) // 2], "noise": b"\0" * 999}[damage])
    with pytest.warns(UserWarning, match=rf"{path.name}: damaged \(.+\); decoding the images again"):
        train, _, _ = load_folder(image_folder, cache)
    assert torch.equal(train[:], expected[:])
    assert torch.equal(train.content, expected.content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_folder(image_folder, cache)


def test_load_folder_warns_of_a_cache_that_cannot_be_written(image_folder, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(UserWarning, match=r"cannot cache the decoded images, .*/file"):
        train, _, _ = load_folder(image_folder, tmp_path / "file")
    assert len(train) == 12


@pytest.mark.skipif(os.name != "posix", reason="sends SIGKILL")
def test_load_folder_deletes_what_a_killed_process_left_in_the_cache(tmp_path):
    root, cache = tmp_path / "images", tmp_path / "cache"
    for number, (part, label) in enumerate(itertools.product(("train", "test"), "abcdefgh")):
        save_image(root / part / label / "0.png", np.full((1024, 1024, 3), number, np.uint8))
    code = "import sys; from pathlib import Path; from tcl_lib.data.folder import load_folder; "
    code += "load_folder(*map(Path, sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, str(root), str(cache)], cwd=REPOSITORY)
    while not (left := list(cache.glob("*/*.tmp"))):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert left[0].exists()
    train, test, _ = load_folder(root, cache)
    assert [int(image.unique()) for image in torch.cat([train[:], test[:]])] == list(range(16))
    assert sorted(path.name for path in cache.glob("*/*")) == ["images", "lock"]


def test_load_folder_reads_a_cache_that_cannot_be_locked(image_folder, tmp_path, caplog):
    caplog.set_level(logging.INFO, "tcl_lib")
    cache = tmp_path / "cache"
    expected, _, _ = load_folder(image_folder, cache)
    lock = cache_file(cache).with_name("lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    train, _, _ = load_folder(image_folder, cache)
    assert torch.equal(train[:], expected[:])
    assert caplog.messages == ["decoding 18 images, once"]


UPRIGHT = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.transpose(1, 0, 2),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].transpose(1, 0, 2),
    8: lambda pixels: np.rot90(pixels),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("name", ["a.png", "b.jpg", "c.webp"])
def test_load_folder_turns_an_image_as_its_exif_data_say(image_folder, tmp_path, name, orientation):
    path = image_folder / "train" / "cat" / name
    image = Image.open(path)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif)
    stored = np.asarray(Image.open(path).convert("RGB"))
    train, _, _ = load_folder(image_folder, tmp_path / "cache")
    assert (train[:]["abc".index(name[0])].permute(1, 2, 0).numpy() == UPRIGHT[orientation](stored)).all()


def test_load_folder_passes_over_damaged_exif_data(image_folder, tmp_path):
    path = image_folder / "train" / "cat" / "b.jpg"
    Image.open(path).save(path, exif=b"Exif\0\0II*\0 and nothing that belongs there")
    train, _, _ = load_folder(image_folder, tmp_path / "cache")
    assert (train[:][1].permute(1, 2, 0).numpy() == np.asarray(Image.open(path))).all()


def test_load_folder_reads_a_jpeg_named_png(image_folder, tmp_path):
    jpeg = image_folder / "train" / "cat" / "b.jpg"
    jpeg.rename(jpeg.with_name("b.png"))
    assert len(load_folder(image_folder, tmp_path / "cache")[0]) == 12


def test_load_folder_hashes_pixels(image_folder, tmp_path):
    cache = tmp_path / "cache"
    for _ in ("decoded", "from the cache"):
        for part in load_folder(image_folder, cache)[:2]:
            for image, content in zip(part[:], part.content, strict=True):
                pixels = image.permute(1, 2, 0).contiguous().numpy()
                assert bytes(content.numpy()) == hashlib.sha256(pixels).digest()


def test_fingerprint_of_a_folder_follows_its_content_alone(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("tcl_lib.utils.paths.cache", lambda: tmp_path / "cache")

    def fingerprint(root):
        return load_data(RunConfig(dataset="folder", data_root=str(root))).fingerprint

    before = fingerprint(image_folder)
    assert fingerprint(image_folder) == before  # from the cache
    copy = tmp_path / "copy"
    shutil.copytree(image_folder, copy, copy_function=shutil.copy)  # with times of its own
    assert fingerprint(copy) == before
    path = copy / "test" / "cat" / "x.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    save_image(path, pixels)
    after = fingerprint(copy)
    assert [part for part in before if before[part] != after[part]] == ["test"]


def png_of_16_bits(channels: int) -> bytes:
    """Return a black PNG of 8x8 pixels with 16 bits per channel, which Pillow cannot write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        body = kind + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    colour = {2: 4, 3: 2}[channels]
    header = struct.pack(">IIBBBBB", 8, 8, 16, colour, 0, 0, 0)
    rows = 8 * bytes(1 + 8 * 2 * channels)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def damage_folder(root, what):
    """Spoil one thing; give back the name that the error must hold."""
    path = root / "train" / "dog" / "b.jpg"
    if what == "text":
        path.write_text("not an image")
    elif what == "empty file":
        path.write_bytes(b"")
    elif what == "truncated":
        path.write_bytes(path.read_bytes()[:200])
    elif what == "size":
        save_image(path, np.zeros((8, 9, 3), np.uint8))
    elif what == "16 bit":
        path = path.with_name("b.png")
        Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(path)
    elif what in ("16 bit RGB", "16 bit grey with alpha"):
        path = path.with_name("b.png")
        path.write_bytes(png_of_16_bits(channels=3) if "RGB" in what else png_of_16_bits(channels=2))
    elif what == "GIF":
        path = path.with_name("b.png")
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(path, "GIF")
    elif what == "other kind":
        path = path.with_name("b.bmp")
        save_image(path, np.zeros((8, 8, 3), np.uint8))
    elif what == "nested":
        path = path.with_name("more")
        path.mkdir()
    elif what == "empty class":
        path = root / "test" / "cat"
        for image in path.iterdir():
            image.unlink()
    elif what == "train only":
        path = root / "train" / "fox"
        save_image(path / "a.png", np.zeros((8, 8, 3), np.uint8))
    elif what == "test only":
        path = root / "test" / "fox"
        save_image(path / "a.png", np.zeros((8, 8, 3), np.uint8))
    elif what == "loose file":
        path = root / "train" / "a.png"
        save_image(path, np.zeros((8, 8, 3), np.uint8))
    elif what == "no test":
        shutil.rmtree(root / "test")
        path = root
    elif what == "no folder":
        shutil.rmtree(root)
        path = root
    elif what == "one class":
        for part in ("train", "test"):
            shutil.rmtree(root / part / "dog")
        path = root / "train"
    return str(path)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("text", "cannot be read as an image"),
        ("empty file", "cannot be read as an image"),
        ("truncated", "cannot be read as an image"),
        ("size", "is 9x8 pixels, but .* is 8x8"),
        ("16 bit", "has 16 bits per channel, must have 8"),
        ("16 bit RGB", "has 16 bits per channel, must have 8"),
        ("16 bit grey with alpha", "has 16 bits per channel, must have 8"),
        ("GIF", r"cannot be read as an image \(is not PNG, JPEG, WEBP\)"),
        ("other kind", r"is not a \.png, \.jpg, \.jpeg, \.webp file"),
        ("nested", "is not a"),
        ("empty class", "class folder is empty"),
        ("train only", "class 'fox' is missing in .*test"),
        ("test only", "class 'fox' is missing in .*train"),
        ("loose file", "is not a class folder"),
        ("no test", "has no test/"),
        ("no folder", "has no train/"),
        ("one class", "has 1 class folders, at least 2 are required"),
    ],
)
def test_load_folder_names_what_is_wrong_in_one_line(image_folder, tmp_path, what, words):
    name = damage_folder(image_folder, what)
    with pytest.raises((ValueError, FileNotFoundError), match=words) as caught:
        load_folder(image_folder, tmp_path / "cache")
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("cache/*/images*"))
