"""Fashion-MNIST: the places where it is looked for, and what is made of its files."""

import gzip
import hashlib
import http.server
import struct
import threading

import numpy as np
import pytest
import torchvision.datasets

from tcl_lib import RunConfig, load_data
from tcl_lib.data import fashion

RAW = "FashionMNIST/raw"


@pytest.fixture
def made(tmp_path, monkeypatch):
    """Small files in the published form, by name, as those that are looked for and downloaded."""
    random = np.random.default_rng(0)
    content = {}
    for part, count in (("train", 40), ("t10k", 20)):
        pixels, labels = (
            random.integers(0, 256, (count, 28, 28), np.uint8),
            np.arange(count, dtype=np.uint8) % 10,
        )
        content[f"{part}-images-idx3-ubyte"] = struct.pack(">IIII", 0x803, count, 28, 28) + pixels.tobytes()
        content[f"{part}-labels-idx1-ubyte"] = struct.pack(">II", 0x801, count) + labels.tobytes()
    server = tmp_path / "server"
    write(server, content, compressed=True)
    sums = [(f.name, hashlib.md5(f.read_bytes()).hexdigest()) for f in server.iterdir()]
    monkeypatch.setattr(
        fashion, "FILES", {name: hashlib.sha256(c).hexdigest() for name, c in content.items()}
    )
    monkeypatch.setattr(fashion, "PACKAGE", tmp_path / "package")
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "resources", sums)
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", ["http://127.0.0.1:9/"])
    return content


@pytest.fixture
def asked(made, tmp_path, monkeypatch):
    """What a server of the made files was asked for."""
    names = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, directory=str(tmp_path / "server"), **options)

        def do_GET(self):
            names.append(self.path.strip("/"))
            super().do_GET()

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    mirrors = [f"http://127.0.0.1:{server.server_port}/"]
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", mirrors)
    yield names
    server.shutdown()
    server.server_close()


def write(folder, content, compressed):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        path = folder / (f"{name}.gz" if compressed else name)
        path.write_bytes(gzip.compress(data) if compressed else data)


def load(root):
    return load_data(RunConfig(dataset="fashion_mnist", data_root=str(root)))


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("place", ["data", f"data/{RAW}", "package"])
def test_fashion_mnist_is_found_where_it_may_lie(made, tmp_path, place, compressed):
    write(tmp_path / place, made, compressed)
    data = load(tmp_path / "data")
    assert [len(part) for part in (data.train, data.validation, data.test)] == [36, 4, 20]
    assert data.input_shape == (1, 28, 28)
    assert data.classes[-1] == "Ankle boot"
    assert data.test.labels.tolist() == 2 * list(range(10))
    pixels = np.frombuffer(made["t10k-images-idx3-ubyte"], np.uint8)[16:].reshape(20, 1, 28, 28)
    assert (data.test[:].numpy() == pixels).all()
    training = {image.tobytes(): label for image, label in zip(*train(made), strict=True)}
    for part in (data.train, data.validation):
        assert [training[image.numpy().tobytes()] for image in part[:]] == part.labels.tolist()


def train(made):
    pixels = np.frombuffer(made["train-images-idx3-ubyte"], np.uint8)[16:].reshape(40, 1, 28, 28)
    return pixels, np.frombuffer(made["train-labels-idx1-ubyte"], np.uint8)[8:].tolist()


def test_fashion_mnist_is_downloaded_once(made, asked, tmp_path):
    first = load(tmp_path / "data")
    assert set(asked) == {f"{name}.gz" for name in made}
    del asked[:]
    assert load(tmp_path / "data").fingerprint == first.fingerprint
    assert asked == []


@pytest.mark.parametrize("damage", ["cut", "flipped", "folder"])
def test_fashion_mnist_fetches_a_damaged_file_again(made, asked, tmp_path, damage):
    expected = load(tmp_path / "data").fingerprint
    path = tmp_path / "data" / RAW / "t10k-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[900] ^= 1
    path.unlink()
    if damage == "folder":  # beside it; in its place nothing can be written
        path.with_suffix("").mkdir()
    else:
        path.write_bytes(content[:1000] if damage == "cut" else content)
    del asked[:]
    assert load(tmp_path / "data").fingerprint == expected
    assert set(asked) == {path.name}


def test_fashion_mnist_says_what_to_do_without_a_network(made, tmp_path):
    write(tmp_path / "data", {"train-images-idx3-ubyte": made["train-images-idx3-ubyte"]}, compressed=True)
    with pytest.raises(ConnectionError, match=r"fashion_mnist is not in .*data_root") as caught:
        load(tmp_path / "data")
    assert "install the package dataset-fashion-mnist" in str(caught.value)
    assert "t10k-labels-idx1-ubyte.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not fashion.PACKAGE.is_dir(), reason="the package dataset-fashion-mnist is not installed")
def test_fashion_mnist_of_the_package_is_the_published_one(tmp_path):
    data = load(tmp_path)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [54_000, 6_000, 10_000]
    assert data.test.labels.bincount().tolist() == [1000] * 10
    # the first test image is an ankle boot, and the mean of the training set about 0.286 of white
    assert data.test.labels[0] == 9
    assert data.train.stored.float().mean().item() / 255 == pytest.approx(0.2860, abs=1e-4)
