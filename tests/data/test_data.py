"""Splits, image folders, CIFAR's download and the batches that a network learns from."""

import hashlib
import http.server
import io
import pickle
import tarfile
import threading

import numpy as np
import pytest
import torch
import torchvision
from sklearn.datasets import load_digits
from torch.testing import assert_close

from tcl_lib import RunConfig, load_data
from tcl_lib.data import training_batches
from tcl_lib.data.batches import part_of, placed, steps_per_epoch
from tcl_lib.data.images import ImageData
from tcl_lib.data.parts import stratified_order


def rows(images: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in images]


# splits


def test_digits_equal_scikit_learn_s():
    data = load_data(RunConfig())
    parts = (data.train, data.validation, data.test)
    assert [len(part.labels) for part in parts] == [1293, 144, 360]
    assert data.input_shape == (1, 8, 8)
    pixels, labels = load_digits(return_X_y=True)
    known = {p.tobytes(): label for p, label in zip(pixels, labels, strict=True)}
    for part in parts:
        assert part[:].dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        # 0 to 16 becomes 0 to 255 and can be told apart: 16 * 255 / 16
        raw = (part[:].double() * 16 / 255).round().flatten(1)
        assert [known[row.numpy().tobytes()] for row in raw] == part.labels.tolist()
    assert {255, 0} <= set(data.train[:].unique().tolist())


def test_load_data_returns_disjoint_and_complete_parts():
    data = load_data(RunConfig())
    everything = sorted(rows(torch.cat([part[:] for part in (data.train, data.validation, data.test)])))
    pixels, _ = load_digits(return_X_y=True)
    expected = torch.from_numpy(pixels).mul(255 / 16).round().to(torch.uint8)
    assert everything == sorted(rows(expected))


def test_load_data_returns_one_test_set_for_every_seed_and_size():
    test = load_data(RunConfig()).test
    for changes in ({"seed": 7}, {"train_size": 50}, {"validation_fraction": 0.3}):
        other = load_data(RunConfig(**changes)).test
        assert torch.equal(test[:], other[:])
        assert torch.equal(test.labels, other.labels)


def test_load_data_chooses_the_validation_part_by_seed_and_fraction():
    one, other = (load_data(RunConfig(seed=seed)) for seed in (1, 2))
    again = load_data(RunConfig(seed=1))
    assert torch.equal(one.train[:], again.train[:])
    assert torch.equal(one.validation.labels, again.validation.labels)
    assert set(rows(one.validation[:])) != set(rows(other.validation[:]))
    assert len(load_data(RunConfig(validation_fraction=0.25)).validation.labels) == round(0.25 * 1437)


@pytest.mark.parametrize("size", [2, 10, 100, 1000, 1293])
def test_load_data_with_train_size_returns_a_stratified_subset(size):
    whole, part = load_data(RunConfig()), load_data(RunConfig(train_size=size))
    assert len(part.train.labels) == size
    assert set(rows(part.train[:])) <= set(rows(whole.train[:]))
    assert torch.equal(part.validation[:], whole.validation[:])
    shares = torch.bincount(whole.train.labels, minlength=10) * size / 1293
    assert (torch.bincount(part.train.labels, minlength=10) - shares).abs().max() < 1.5


@pytest.mark.parametrize("size", [1294, 60000])
def test_load_data_refuses_a_train_size_beyond_the_data(size):
    with pytest.raises(ValueError, match=r"train_size=\d+: digits has 1293"):
        load_data(RunConfig(train_size=size))


def test_load_data_refuses_a_cutout_of_the_whole_image():
    with pytest.raises(ValueError, match=r"cutout=8: must be smaller than the images, \[8, 8\] pixels"):
        load_data(RunConfig(cutout=8))
    assert load_data(RunConfig(cutout=7)).input_shape == (1, 8, 8)


def test_stratified_order_is_stratified_in_every_section():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)[torch.randperm(100)]
    order = stratified_order(labels, seed=3)
    assert sorted(order.tolist()) == list(range(100))
    for stretch in (order[:10], order[:50], order[20:70], order[-30:]):
        expected = torch.tensor([0.6, 0.3, 0.1]) * len(stretch)
        assert (torch.bincount(labels[stretch], minlength=3) - expected).abs().max() <= 1
    assert not torch.equal(order, stratified_order(labels, seed=4))


def test_stratified_order_keeps_a_class_of_one_member_for_training():
    labels = torch.tensor([0] * 40 + [1])
    assert 40 not in stratified_order(labels, seed=0)[: round(0.4 * 41)]


# batches


def test_inputs_of_the_training_part_have_mean_0_and_deviation_1(image_folder):
    data = load_data(RunConfig(dataset="folder", data_root=str(image_folder), validation_fraction=0.2))
    mean, std = data.mean_and_std
    pixels = data.train[:].double()
    assert_close(mean.double(), pixels.mean((0, 2, 3)), rtol=1e-6, atol=0)
    assert_close(std.double(), pixels.std((0, 2, 3), correction=0), rtol=1e-6, atol=0)
    images = data.inputs(data.train[:])
    assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    assert_close(images.std((0, 2, 3), correction=0), torch.ones(3), atol=1e-5, rtol=0)
    assert images.is_contiguous(memory_format=torch.channels_last)


def test_inputs_of_one_colour_do_not_divide_by_zero():
    data = load_data(RunConfig(train_size=10))
    data.train.stored.fill_(7)
    assert not data.inputs(data.train[:]).any()


def test_training_batches_are_view_by_view(monkeypatch):
    monkeypatch.setattr(ImageData, "augmented", lambda self, stored, config, draws: stored)
    config = RunConfig(loss="stcl", batch_size=16)
    data = load_data(config)
    images, labels = next(training_batches(data, config, epoch=1))
    assert images.shape == (32, 1, 8, 8)
    assert labels.shape == (16,)
    assert torch.equal(images[:16], images[16:])  # nothing augmented: the views are the image
    known = dict(zip(rows(data.inputs(data.train[:])), data.train.labels.tolist(), strict=True))
    assert [known[row] for row in rows(images[:16])] == labels.tolist()


def test_training_batches_are_a_shuffle_of_the_training_part():
    config = RunConfig(loss="ce", augment=False, batch_size=100)
    data = load_data(config)
    batches = list(training_batches(data, config, epoch=1))
    assert len(batches) == steps_per_epoch(data, config) == 12
    seen = [row for images, _ in batches for row in rows(images)]
    assert len(seen) == len(set(seen)) == 1200
    assert set(seen) <= set(rows(data.inputs(data.train[:])))


def test_training_batches_make_one_batch_of_fewer_images():
    config = RunConfig(loss="ce", train_size=20, batch_size=64)
    (batch,) = training_batches(load_data(config), config, epoch=1)
    assert len(batch[1]) == 20


def test_training_batches_follow_seed_and_epoch():
    def first(**changes):
        config = RunConfig(**{"loss": "stcl", "seed": 1} | changes)
        return next(training_batches(load_data(RunConfig(loss="stcl", seed=1)), config, epoch=epoch))[0]

    epoch = 1
    images = first()
    assert torch.equal(images, first())
    views = images.unflatten(0, (2, 64))
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(images, first(seed=2))
    epoch = 2
    assert not torch.equal(images, first())


def test_preview_shows_images_and_their_views():
    config = RunConfig(loss="stcl")
    data = load_data(config)
    shown, names = data.preview(config)
    assert names == ["stored", "view 1", "view 2"]
    assert shown.shape == (3, 8, 1, 8, 8)
    assert shown.dtype == np.uint8
    assert (shown[0] == data.train[:8].numpy()).all()
    assert (shown[1] != shown[2]).any()


# CIFAR, from a server of our own with archives in the published form


def cifar_archive(name: str, classes: int, key: str) -> tuple[bytes, dict]:
    random = np.random.default_rng(0)
    parts = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"] if classes == 10 else ["train", "test"]
    names = {"label_names" if classes == 10 else "fine_label_names": [f"class {n}" for n in range(classes)]}
    content = {"batches.meta" if classes == 10 else "meta": names}
    for part in parts:
        labels = random.integers(0, classes, 30).tolist()
        content[part] = {"data": random.integers(0, 256, (30, 3072), np.uint8), key: labels}
    buffer, sums = io.BytesIO(), {}
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for part, value in content.items():
            data = pickle.dumps(value)
            sums[part] = hashlib.md5(data).hexdigest()
            entry = tarfile.TarInfo(f"{name}/{part}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue(), {"content": content, "sums": sums}


@pytest.fixture
def cifar_server(tmp_path, monkeypatch):
    """CIFAR-10 and CIFAR-100 in small, behind torchvision's own download."""
    folder = tmp_path / "server"
    folder.mkdir()
    served = {}
    handler = type(
        "Handler",
        (http.server.SimpleHTTPRequestHandler,),
        {
            "__init__": lambda self, *a, **k: http.server.SimpleHTTPRequestHandler.__init__(
                self, *a, directory=str(folder), **k
            ),
            "log_message": lambda self, *a: None,
        },
    )
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for dataset, source, classes, key in (
        ("cifar10", torchvision.datasets.CIFAR10, 10, "labels"),
        ("cifar100", torchvision.datasets.CIFAR100, 100, "fine_labels"),
    ):
        archive, made = cifar_archive(source.base_folder, classes, key)
        (folder / source.filename).write_bytes(archive)
        sums = made["sums"]
        monkeypatch.setattr(source, "url", f"http://127.0.0.1:{server.server_port}/{source.filename}")
        monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive).hexdigest())
        monkeypatch.setattr(source, "train_list", [[n, sums[n]] for n, _ in source.train_list])
        monkeypatch.setattr(source, "test_list", [[n, sums[n]] for n, _ in source.test_list])
        monkeypatch.setattr(source, "meta", source.meta | {"md5": sums[source.meta["filename"]]})
        served[dataset] = made["content"]
    yield served, server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(("dataset", "classes", "train"), [("cifar10", 10, 150), ("cifar100", 100, 30)])
def test_cifar_is_downloaded_once(cifar_server, tmp_path, dataset, classes, train):
    served, server = cifar_server
    config = RunConfig(dataset=dataset, data_root=str(tmp_path / "data"))
    data = load_data(config)
    assert len(data.classes) == classes
    assert data.input_shape == (3, 32, 32)
    assert len(data.train.labels) + len(data.validation.labels) == train
    test = served[dataset]["test_batch" if classes == 10 else "test"]
    assert (data.test[:].numpy() == test["data"].reshape(-1, 3, 32, 32)).all()
    assert data.test.labels.tolist() == test["labels" if classes == 10 else "fine_labels"]
    server.shutdown()
    assert torch.equal(load_data(config).train[:], data.train[:])


def test_cifar_fetches_anew_a_download_that_was_cut_off(cifar_server, tmp_path):
    root = tmp_path / "data"
    root.mkdir()
    (root / torchvision.datasets.CIFAR10.filename).write_bytes(b"half a file")
    data = load_data(RunConfig(dataset="cifar10", data_root=str(root)))
    assert len(data.test.labels) == 30


@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
@pytest.mark.parametrize("begun", [False, True])
def test_cifar_is_not_downloaded_unasked(tmp_path, dataset, begun):
    if begun:
        (tmp_path / getattr(torchvision.datasets, dataset.upper()).base_folder).mkdir()
    with pytest.raises(FileNotFoundError, match=f"^{dataset} is not in {tmp_path}, or not whole$"):
        load_data(RunConfig(dataset=dataset, data_root=str(tmp_path)), download=False)


def test_cifar_says_what_to_do_without_a_network(tmp_path, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "url", "http://127.0.0.1:9/cifar.tar.gz")
    with pytest.raises(ConnectionError, match=r"cifar10 is not in .*data_root") as caught:
        load_data(RunConfig(dataset="cifar10", data_root=str(tmp_path)))
    assert "cifar-10-python.tar.gz" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dataset", ["digits", "moving_digits"])
def test_training_batches_start_at_any_batch(dataset):
    config = RunConfig(dataset=dataset, loss="stcl", time_steps=2, train_size=200, batch_size=32)
    data = load_data(config)
    whole = list(training_batches(data, config, epoch=3))
    assert len(whole) == 6
    for start in range(7):
        rest = list(training_batches(data, config, epoch=3, start=start))
        assert len(rest) == 6 - start
        for (images, labels), (others, other_labels) in zip(rest, whole[start:], strict=True):
            assert torch.equal(images, others)
            assert torch.equal(labels, other_labels)


@pytest.mark.parametrize("dataset", ["digits", "moving_digits"])
def test_training_batches_in_parts_hold_the_images_of_the_whole_batch(dataset):
    """One batch of 50 samples in two views, which four processes cannot share evenly."""
    config = RunConfig(dataset=dataset, loss="stcl", time_steps=2, train_size=50)
    data = load_data(config)
    ((images, labels),) = training_batches(data, config, epoch=2)
    parts = [next(training_batches(data, config, epoch=2, part=(i, 4))) for i in range(4)]
    samples = images.dim() - 4
    assert [len(part.movedim(samples, 0)) // 2 for part, _ in parts] == [13, 13, 12, 12]
    by_view = [part.unflatten(samples, (2, -1)) for part, _ in parts]
    assert torch.equal(torch.cat(by_view, samples + 1).flatten(samples, samples + 1), images)
    assert all(torch.equal(of_all, labels) for _, of_all in parts)


@pytest.mark.parametrize(("size", "parts"), [(10, 1), (10, 3), (7, 4), (64, 8)])
def test_part_of_covers_all_samples_evenly(size, parts):
    found = [range(size)[part_of(size, part, parts)] for part in range(parts)]
    assert [sample for part in found for sample in part] == list(range(size))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_placed_leaves_samples_in_main_memory_where_there_is_no_gpu():
    data = load_data(RunConfig())
    assert placed(data.train, torch.device("cpu")) is data.train


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize("dataset", ["digits", "moving_digits"])
def test_placed_on_a_gpu_gives_the_batches_of_main_memory(dataset):
    config = RunConfig(dataset=dataset, loss="stcl", time_steps=2, train_size=100, batch_size=32)
    data = load_data(config)
    kept = placed(data.train, torch.device("cuda"))
    assert kept.stored.is_cuda
    assert placed(data.train, torch.device("cuda"), wanted=False) is data.train
    there = training_batches(data, config, epoch=1, device="cuda", samples=kept)
    copied = list(training_batches(data, config, epoch=1, device="cuda"))
    for (images, labels), (others, other_labels) in zip(there, copied, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, other_labels)
    for (images, _), (others, _) in zip(copied, training_batches(data, config, epoch=1), strict=True):
        assert_close(images.cpu(), others)
