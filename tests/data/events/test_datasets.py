"""Event datasets: where they lie, how they are split, and what a network sees of them."""

import dataclasses
import hashlib
import http.server
import io
import logging
import os
import shutil
import struct
import threading
import zipfile

import numpy as np
import pytest
import tonic
import torch
from conftest import RECORDINGS, messages, needs_recordings, too_long
from torch.nn import functional as F
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, load_data
from tcl_lib.analysis.evaluation import predict, stepwise_accuracy
from tcl_lib.data import training_batches
from tcl_lib.data.events import datasets
from tcl_lib.data.events.datasets import EventData
from tcl_lib.data.events.frames import count_frames
from tcl_lib.data.events.published import find_folder, list_recordings, order_by_number
from tcl_lib.data.events.recordings import read_recording
from tcl_lib.data.events.splits import split_indices
from tcl_lib.data.parts import Split


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Frames go where the test's other files are."""
    monkeypatch.setattr("tcl_lib.utils.paths.cache", lambda: tmp_path / "cache")


@pytest.fixture
def tree(tmp_path):
    """A folder of recordings: two classes of ten for training and four for testing."""
    random = np.random.default_rng(0)
    root = tmp_path / "recordings"
    for part, count in (("train", 10), ("test", 4)):
        for label in ("left", "right"):
            (root / part / label).mkdir(parents=True)
            for number in range(count):
                t = np.sort(random.integers(0, 1000, 300))
                x = random.integers(0, 10, 300) + (10 if label == "right" else 0)
                fields = {"x": x, "y": random.integers(0, 12, 300), "t": t, "p": random.integers(0, 2, 300)}
                np.savez(root / part / label / f"{number}.npz", **fields)
    return root


def folder(root, **changes) -> RunConfig:
    options = {"dataset": "events_folder", "data_root": str(root), "sensor_size": [20, 12]}
    return RunConfig(**(options | changes))


# a folder of recordings


def test_events_folder_returns_the_frames_and_labels_of_its_files(tree):
    data = load_data(folder(tree, time_steps=5))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [18, 2, 8]
    assert data.classes == ["left", "right"]
    assert data.input_shape == (2, 12, 20)
    expected = []
    for label in ("left", "right"):
        for number in range(4):
            recording = read_recording(tree / "test" / label / f"{number}.npz", (20, 12))
            expected.append(count_frames(recording, 5, "time"))
    assert (data.test[:].numpy() == np.stack(expected)).all()
    assert data.test.labels.tolist() == [0] * 4 + [1] * 4
    for part in (data.train, data.validation):
        right = part[:][..., 10:].sum((1, 2, 3, 4)) > 0
        assert torch.equal(right.long(), part.labels)


def test_load_data_draws_disjoint_parts_of_recordings_with_the_seed(tree):
    one, other = (load_data(folder(tree, seed=seed)) for seed in (0, 1))
    parts = [set(part.indices.tolist()) for part in (one.train, one.validation, one.test)]
    assert set.union(*parts) == set(range(28))
    assert sum(map(len, parts)) == 28
    assert one.validation.indices.tolist() != other.validation.indices.tolist()
    assert torch.equal(one.test.indices, other.test.indices)


def test_load_data_maps_frames_from_one_file(tree):
    data = load_data(folder(tree))
    assert data.train.stored.data_ptr() == data.test.stored.data_ptr()  # one file, mapped
    assert data.train[torch.tensor([3, 1])].shape == (2, 4, 2, 12, 20)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda root: (root / "train" / "left" / "3.npz").write_bytes(b"no"), r"left/3\.npz: is truncated"),
        (lambda root: (root / "train" / "left" / "3.txt").write_text(""), r"3\.txt: is not a \.aedat, "),
        (lambda root: (root / "test" / "up").mkdir(), "class 'up' is missing"),
        (
            lambda root: [path.unlink() for path in (root / "test" / "left").iterdir()],
            "left: class folder is empty",
        ),
    ],
)
def test_events_folder_names_what_is_wrong(tree, change, words):
    change(tree)
    with pytest.raises(ValueError, match=words):
        load_data(folder(tree))


def test_events_folder_names_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere.*: has no train/"):
        load_data(folder(tmp_path / "nowhere"))


def test_events_folder_skips_and_counts_bad_recordings(tree):
    whole = load_data(folder(tree))
    for name in ("train/left/3.npz", "train/right/0.npz", "test/left/0.npz"):
        (tree / name).write_bytes(b"no")
    with pytest.raises(ValueError, match=r"\.npz: is truncated"):
        load_data(folder(tree))
    message = r"3 of 28 recordings are bad and skipped, the first: .*left/3\.npz: is truncated.*; .*; .*"
    with pytest.warns(UserWarning, match=message):
        data = load_data(folder(tree, skip_bad_recordings=True))
    assert len(data.train) + len(data.validation) == 18
    assert torch.equal(data.test[:], whole.test[1:])
    assert data.test.labels.tolist() == [0] * 3 + [1] * 4


def test_events_folder_refuses_a_part_of_bad_recordings_alone(tree):
    for path in tree.glob("test/*/*"):
        path.write_bytes(b"no")
    with pytest.raises(ValueError, match="the training or the test set has only bad recordings"):
        load_data(folder(tree, skip_bad_recordings=True))


@pytest.mark.parametrize("how", [shutil.copy, os.link, os.symlink])
def test_events_folder_refuses_the_same_content_in_both_parts(tree, how):
    how(tree / "train" / "left" / "3.npz", tree / "test" / "left" / "9.npz")
    message = r"test/left/9\.npz: has the same content as .*train/left/3\.npz; remove"
    with pytest.raises(ValueError, match=message):
        load_data(folder(tree))
    with pytest.warns(UserWarning, match=r"1 file is in train/ and in test/, for example .*/test/left/9"):
        assert len(load_data(folder(tree, allow_duplicates=True)).test) == 9


def test_events_folder_warns_of_the_same_content_in_two_classes(tree):
    shutil.copy(tree / "train" / "left" / "3.npz", tree / "train" / "right" / "0.npz")
    with pytest.warns(UserWarning, match=r"1 file is in two classes, for example .*right/0\.npz with "):
        load_data(folder(tree))


def test_events_folder_passes_over_bad_recordings_with_the_same_content(tree, recwarn):
    for name in ("train/left/3.npz", "test/left/0.npz"):
        (tree / name).write_bytes(b"no")
    load_data(folder(tree, skip_bad_recordings=True))
    (message,) = messages(recwarn)
    assert message.startswith("2 of 28 recordings are bad")


def test_fingerprint_of_recordings_follows_their_content_alone(tree, tmp_path):
    before = load_data(folder(tree)).fingerprint
    assert load_data(folder(tree)).fingerprint == before  # from the cache
    assert load_data(folder(tree, time_steps=3, frame_by="count")).fingerprint == before
    copy = tmp_path / "copy"
    shutil.copytree(tree, copy, copy_function=shutil.copy)  # with times of its own
    assert load_data(folder(copy)).fingerprint == before
    shutil.copy(copy / "test" / "left" / "1.npz", copy / "test" / "left" / "0.npz")
    with pytest.warns(UserWarning, match="1 file is twice in a class"):
        after = load_data(folder(copy)).fingerprint
    assert [part for part in before if before[part] != after[part]] == ["test"]


def test_events_folder_names_a_broken_link(tree):
    (tree / "test" / "left" / "9.npz").symlink_to(tree / "nowhere.npz")
    with pytest.raises(ValueError, match=r"9\.npz: is not a file, or is a broken link"):
        load_data(folder(tree))


def test_load_data_refuses_a_recording_in_both_parts(monkeypatch):
    monkeypatch.setattr(datasets, "digit_split", lambda labels: (torch.arange(3), torch.arange(2, 5)))
    with pytest.raises(ValueError, match="simulated recording 2: is in the training and in the test set"):
        load_data(RunConfig(dataset="moving_digits", time_steps=3))


# DVS-CIFAR10


@pytest.fixture(scope="module")
def dvs_cifar10(tmp_path_factory):
    """10,000 recordings of three events each, at a place that says their number, in the authors' format."""
    root = tmp_path_factory.mktemp("dvs")
    for label, name in enumerate(datasets.CIFAR_CLASSES):
        (root / name).mkdir()
        for number in range(1000):
            address = ((number >> 7) + 16 * label) % 128 << 8 | (number & 127) << 1
            content = b"#!AER-DAT2.0\r\n" + struct.pack(">6I", address, 10, address, 20, address, 30)
            (root / name / f"cifar10_{name}_{number}.aedat").write_bytes(content)
    return root


def numbers(stored: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Class * 1000 + number of recordings, from the place of their events."""
    on = stored[:, :, 1].sum(1).flatten(1).argmax(1)
    # lying on its side: the row is what is left of the column's address, the column of the row's
    high, low = 127 - on % 128, 127 - on // 128
    return labels * 1000 + (high - 16 * labels) % 128 * 128 + low


@pytest.mark.parametrize("split", ["tebn", *too_long("tet", "spikingjelly", "seeded")])
def test_dvs_cifar10_has_the_split_named(dvs_cifar10, tmp_path, monkeypatch, split):
    monkeypatch.setattr("tcl_lib.utils.paths.cache", lambda: dvs_cifar10 / "cache")
    config = RunConfig(dataset="dvs_cifar10", data_root=str(dvs_cifar10), split=split, time_steps=1, seed=5)
    data = load_data(config)
    assert data.input_shape == (2, 48, 48)
    assert len(data.test) == 1000
    train, test = split_indices(split, 5)
    assert numbers(data.test[:], data.test.labels).tolist() == test.tolist()
    seen = [numbers(part[:], part.labels) for part in (data.train, data.validation)]
    assert sorted(torch.cat(seen).tolist()) == train.tolist()
    assert f"{split} split" in config.data_label


def test_dvs_cifar10_names_a_missing_or_empty_recording(dvs_cifar10):
    config = RunConfig(dataset="dvs_cifar10", data_root=str(dvs_cifar10), time_steps=1)
    path = dvs_cifar10 / "cat" / "cifar10_cat_417.aedat"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(
        ValueError, match=r"cat: has 999 recordings of dvs_cifar10, 1000 are required; unpack"
    ):
        load_data(config)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"cifar10_cat_417\.aedat: is empty; unpack its archive again"):
        load_data(config)
    path.write_bytes(content)


@pytest.fixture
def cats(tmp_path):
    """A function that lists the recordings of a class of three."""
    folder = tmp_path / "cat"
    folder.mkdir()

    def listed(*names: str) -> list[str]:
        for name in names:
            (folder / name).write_bytes(b"x")
        paths = list_recordings(folder, (".aedat", ".aedat4"), skip_bad=False)
        return [path.name for path in order_by_number(folder, paths, r"(?:cifar10_cat_)?(\d+)", 3)]

    return listed


@pytest.mark.parametrize(
    "names",
    [
        ["cifar10_cat_0.aedat", "cifar10_cat_1.aedat", "cifar10_cat_2.aedat"],
        ["cifar10_cat_0.aedat4", "cifar10_cat_1.aedat4", "cifar10_cat_2.aedat4"],
        ["0.AEDAT", "1.aedat", "2.aedat"],
    ],
)
def test_order_by_number_takes_the_number_from_the_name(cats, names):
    assert cats(*names[::-1], "._cifar10_cat_1.aedat", ".DS_Store", "readme.txt") == names


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["0.aedat", "1.aedat"], r"cat: has 2 recordings of dvs_cifar10, 3 are required; unpack"),
        (
            ["0.aedat", "1.aedat", "2.aedat", "cifar10_cat_1.aedat"],
            r"has the same number as .*; remove one of them",
        ),
        (
            ["0.aedat", "1.aedat", "2.aedat", "2.aedat4"],
            r"2\.aedat4: has the same number as .*2\.aedat; remove one",
        ),
        (
            ["0.aedat", "1.aedat", "2.aedat", "02.aedat"],
            r"2\.aedat: has the same number as .*2\.aedat; remove one",
        ),
        (["0.aedat", "1.aedat", "cifar10_cat_1 2.aedat"], r"1 2\.aedat: is not a recording of this class"),
        (["0.aedat", "1.aedat", "cifar10_dog_2.aedat"], r"cifar10_dog_2\.aedat: is not a recording of this"),
        (["0.aedat", "1.aedat", "2.aedat", "3.aedat"], r"3\.aedat: is not a recording of this class"),
    ],
)
def test_order_by_number_names_what_does_not_belong_to_a_class(cats, names, words):
    with pytest.raises(ValueError, match=words):
        cats(*names)


def test_find_folder_finds_a_dataset_in_the_root_or_below(tmp_path):
    for folder in (tmp_path, tmp_path / "CIFAR10DVS"):
        for name in datasets.CIFAR_CLASSES:
            (folder / name).mkdir(parents=True)
        assert find_folder(tmp_path, "CIFAR10DVS", datasets.CIFAR_CLASSES) == folder
    assert find_folder(tmp_path / "cat", "CIFAR10DVS", datasets.CIFAR_CLASSES) is None


# N-MNIST and downloads


NMNIST_FILES = {"Train": (3, 2), "Test": (1, 2)}


def nmnist_archive(part: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for digit, count in enumerate(NMNIST_FILES[part]):
            for number in range(count):
                content = bytes([number, digit, 128, 0, 9]) * 2
                archive.writestr(f"{part}/{digit}/{number:05}.bin", content)
    return buffer.getvalue()


@pytest.fixture
def host(monkeypatch):
    """A server that gives what the test puts into `files`, and what it was asked for."""
    files, asked = {}, []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            content = files.get(self.path)
            self.send_response(202 if content == b"" else 200 if content else 404)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        do_HEAD = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    source = tonic.datasets.NMNIST
    for part in ("train", "test"):
        files[f"/{part}"] = nmnist_archive(part.title())
        monkeypatch.setattr(source, f"{part}_url", f"{address}/{part}")
        monkeypatch.setattr(source, f"{part}_md5", hashlib.md5(files[f"/{part}"]).hexdigest())
    monkeypatch.setattr(tonic.datasets.CIFAR10DVS, "url", f"{address}/dvs")
    monkeypatch.setattr(datasets, "NMNIST_FILES", NMNIST_FILES)
    yield files, asked
    server.shutdown()


def test_nmnist_is_downloaded_once(host, tmp_path, capsys, caplog):
    caplog.set_level(logging.INFO, "tcl_lib")
    _, asked = host
    config = RunConfig(dataset="nmnist", data_root=str(tmp_path / "new"), validation_fraction=0.2)
    data = load_data(config)
    assert len(asked) > 0
    assert f"downloading nmnist to {tmp_path / 'new' / 'NMNIST' / 'Train'}" in caplog.messages
    assert capsys.readouterr().err == ""  # no progress bars of other libraries
    assert data.input_shape == (2, 34, 34)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [4, 1, 3]
    assert data.test.labels.tolist() == [0, 1, 1]
    assert data.test[2:][0, :, 1, 1, 1].sum() == 2  # digit 1, number 1: two ON events at x = y = 1
    del asked[:]
    load_data(config)
    assert asked == []


def test_nmnist_checks_files_by_count_and_size(host, tmp_path):
    for part in ("Train", "Test"):
        zipfile.ZipFile(io.BytesIO(nmnist_archive(part))).extractall(tmp_path)
    config = RunConfig(dataset="nmnist", data_root=str(tmp_path), validation_fraction=0.2)
    load_data(config)
    path = tmp_path / "Train" / "0" / "00001.bin"
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"00001\.bin: is empty"):
        load_data(config)
    (tmp_path / "Train" / "0" / "._00002.bin").write_bytes(b"not a recording")
    assert len(load_data(dataclasses.replace(config, skip_bad_recordings=True)).train) == 3
    path.unlink()
    with pytest.raises(ValueError, match=r"Train/0: has 2 recordings of nmnist, 3 are required; unpack"):
        load_data(config)
    for number in (1, 7):
        (tmp_path / "Train" / "0" / f"{number:05}.BIN").write_bytes(bytes(5))
    with pytest.raises(
        ValueError, match=r"Train/0: has 4 recordings of nmnist, 3 are required; remove those"
    ):
        load_data(config)
    assert host[1] == []


def test_nmnist_downloads_a_missing_part(host, tmp_path):
    _, asked = host
    config = RunConfig(dataset="nmnist", data_root=str(tmp_path), validation_fraction=0.2)
    load_data(config)
    shutil.rmtree(tmp_path / "NMNIST" / "Test")
    del asked[:]
    load_data(config)
    assert set(asked) == {"/test"}


@pytest.mark.parametrize("cut", ["the archive", "the files", "nothing"])
def test_download_fetches_or_unpacks_anew_what_was_cut_off(host, tmp_path, cut):
    files, asked = host
    config = RunConfig(dataset="nmnist", data_root=str(tmp_path), validation_fraction=0.2)
    expected = load_data(config).train[:]
    # as a process leaves it that is killed on the way
    train = tmp_path / "NMNIST" / "Train"
    unpacked = train.with_name("Train.underway") / "NMNIST"
    unpacked.mkdir(parents=True)
    train.rename(unpacked / "Train")
    archive = files["/train"]
    if cut == "the archive":
        archive = archive[: len(archive) // 2]
        shutil.rmtree(unpacked / "Train")
    elif cut == "the files":
        shutil.rmtree(unpacked / "Train" / "1")
        file = unpacked / "Train" / "0" / "00002.bin"
        file.write_bytes(file.read_bytes()[:5])
    (unpacked / "train.zip").write_bytes(archive)
    del asked[:]
    assert torch.equal(load_data(config).train[:], expected)
    assert set(asked) == ({"/train"} if cut == "the archive" else set())
    names = sorted(path.name for path in train.parent.iterdir())
    assert names == [".Test.lock", ".Train.lock", "Test", "Train"]


@pytest.mark.parametrize("answer", [b"", None, b"not what was expected"], ids=["empty", "404", "other"])
@pytest.mark.parametrize(
    ("dataset", "steps"),
    [
        ("nmnist", r"download Train\.zip and Test\.zip, and unpack them so that data_root contains Train/0/"),
        (
            "dvs_cifar10",
            r"download the archives of the ten classes, and unpack them so that data_root contains",
        ),
    ],
)
def test_download_says_what_to_do_by_hand_where_it_fails(host, tmp_path, dataset, steps, answer):
    files, _ = host
    files["/train"] = files["/dvs"] = answer
    config = RunConfig(dataset=dataset, data_root=str(tmp_path))
    with pytest.raises(ConnectionError, match=rf"{dataset} is not in .* could not be downloaded .*{steps}"):
        load_data(config)


def test_download_says_that_there_is_no_network(tmp_path, monkeypatch):
    monkeypatch.setattr(tonic.datasets.CIFAR10DVS, "url", "http://127.0.0.1:1/dvs")
    with pytest.raises(ConnectionError, match=r"dvs_cifar10 is not in .*Connection refused"):
        load_data(RunConfig(dataset="dvs_cifar10", data_root=str(tmp_path)))


# what a network sees


def event_data(counts: torch.Tensor, frame_size: int | None = None, count_scale: str = "none") -> EventData:
    indices = torch.arange(len(counts))
    part = Split(counts, indices, indices % 2)
    return EventData(part, part, part, ["a", "b"], frame_size, count_scale)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_inputs_are_the_counts_without_a_scale(dtype):
    counts = torch.randint(0, 200, (3, 4, 2, 6, 5)).to(dtype)
    inputs = event_data(counts).inputs(counts)
    assert inputs.shape == (4, 3, 2, 6, 5)
    assert inputs.dtype == torch.float32
    for t in range(4):
        for sample in range(3):
            assert torch.equal(inputs[t, sample], counts[sample, t].float())


def test_frames_with_count_scale_max_have_a_largest_count_of_1():
    counts = torch.randint(0, 9, (3, 4, 2, 6, 5), dtype=torch.uint8)
    counts[1, 2] = 0  # nothing happened
    frames = event_data(counts, count_scale="max").frames(counts)
    for sample, t in np.ndindex(3, 4):
        largest = max(1, int(counts[sample, t].max()))
        assert_close(frames[sample, t], counts[sample, t] / largest)


def test_frames_are_resized_with_polarities_apart():
    counts = torch.zeros(1, 1, 2, 128, 128, dtype=torch.uint8)
    counts[:, :, 0] = torch.randint(0, 4, (128, 128))  # OFF alone
    frames = event_data(counts, frame_size=48).frames(counts)
    off, on = frames[0, 0]
    assert not on.any()
    assert off.mean() == pytest.approx(float(counts[0, 0, 0].float().mean()), rel=0.01)
    alone = F.interpolate(
        counts[:, 0, :1].float(), (48, 48), mode="bilinear", antialias=True, align_corners=False
    )
    assert torch.equal(off, alone[0, 0])


def test_frames_stay_even_when_resized():
    counts = torch.full((2, 3, 2, 34, 34), 7, dtype=torch.uint8)
    frames = event_data(counts, frame_size=20).frames(counts)
    assert_close(frames, torch.full((2, 3, 2, 20, 20), 7.0))


@pytest.mark.parametrize(
    ("sensor", "frame_size", "expected"),
    [
        ((240, 320), 48, (48, 64)),
        ((320, 240), 48, (64, 48)),
        ((34, 34), None, (34, 34)),
        ((30, 30), 60, (60, 60)),
    ],
)
def test_input_shape_has_the_frame_size_as_its_shorter_side(sensor, frame_size, expected):
    counts = torch.zeros(1, 1, 2, *sensor, dtype=torch.uint8)
    data = event_data(counts, frame_size)
    assert data.input_shape == (2, *expected)
    assert data.inputs(counts).shape[-3:] == data.input_shape


def test_predict_sees_the_first_frames_at_the_first_steps():
    """Stopping after t steps is having seen t frames: the network looks at none that is still to come."""
    config = RunConfig(dataset="moving_digits", time_steps=3, train_size=60)
    data = load_data(config)
    network = build_network(config, data.input_shape, 10).eval()
    logits = predict(network, data.validation, data, 50, "cpu")
    table = stepwise_accuracy(logits, data.validation.labels)
    inputs = data.inputs(data.validation[:])
    for t in range(1, 4):
        with torch.no_grad():
            prefix = network(inputs[:t]).logits
        assert_close(prefix, logits[:t], rtol=1e-4, atol=1e-5)
        right = prefix.mean(0).argmax(-1) == data.validation.labels
        assert table["cumulative"][t - 1] == pytest.approx(100 * right.double().mean().item(), abs=1.0)


def test_preview_shows_a_large_sensor():
    counts = torch.randint(1, 4, (2, 10, 2, 500, 480), dtype=torch.uint8)  # more than torch.quantile takes
    pictures, _ = event_data(counts).preview(RunConfig(dataset="nmnist", loss="ce"))
    assert pictures.shape == (4, 10, 3, 500, 480)


# batches


@pytest.mark.parametrize("loss", ["tcl", "stcl"])
def test_training_batches_of_frames_are_time_first_and_view_by_view(tree, monkeypatch, loss):
    monkeypatch.setattr(EventData, "augmented", lambda self, frames, config, draws: frames)
    config = folder(tree, loss=loss, batch_size=8, time_steps=3)
    data = load_data(config)
    (inputs, labels), *_ = training_batches(data, config, epoch=1)
    views = config.num_views
    assert inputs.shape == (3, views * 8, 2, 12, 20)
    assert labels.shape == (8,)
    known = {
        data.inputs(data.train[i : i + 1]).contiguous().numpy().tobytes(): i for i in range(len(data.train))
    }
    for sample in range(8):
        index = known[inputs[:, sample : sample + 1].contiguous().numpy().tobytes()]
        assert data.train.labels[index] == labels[sample]
    assert torch.equal(inputs[:, :8], inputs[:, -8:])  # nothing augmented: the views are the recording


def test_training_batches_of_frames_follow_seed_and_epoch(tree):
    config = folder(tree, loss="stcl", batch_size=8, event_augmentation="nda")
    data = load_data(config)
    first, again, later = (next(training_batches(data, config, epoch))[0] for epoch in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, later)
    assert not torch.equal(first[:, :8], first[:, 8:])


def test_preview_has_a_column_per_step(tree):
    config = folder(tree, loss="stcl", time_steps=12)
    data = load_data(config)
    pictures, names = data.preview(config)
    assert names == ["counted", "view 1", "view 2"] * 2
    assert pictures.shape == (6, 10, 3, 12, 20)  # ten of twelve steps
    assert pictures.dtype == np.uint8
    counts = data.train[:1][0, 0]
    white = (pictures[0, 0] == 255).all(0)
    assert (white == (counts.sum(0) == 0).numpy()).all()
    on_alone = ((counts[1] > 0) & (counts[0] == 0)).numpy()
    red, _, blue = pictures[0, 0].astype(int)
    assert (red[on_alone] > blue[on_alone]).all()


# real recordings


@needs_recordings
def test_events_folder_reads_real_recordings_of_a_dvs128(tmp_path):
    for part, session in (("train", "A"), ("test", "B")):
        for label in ("box", "mug", "scissors"):
            (tmp_path / "real" / part / label).mkdir(parents=True)
            source = RECORDINGS / "dvs128-biolab" / f"session{session}" / f"{label}.aedat"
            for number in range(2):
                (tmp_path / "real" / part / label / f"{number}.aedat").symlink_to(source)
    config = RunConfig(
        dataset="events_folder", data_root=str(tmp_path / "real"), time_steps=10, frame_size=48, batch_size=2
    )
    with pytest.warns(UserWarning, match="6 files are twice in a class"):
        data = load_data(config)
    assert data.input_shape == (2, 48, 48)
    assert data.train.stored.sum((1, 2, 3, 4)).tolist() == [
        *(374_039, 374_039, 518_133, 518_133, 263_941, 263_941),
        *(201_523, 201_523, 351_217, 351_217, 143_655, 143_655),
    ]
    inputs, _ = next(training_batches(data, config, epoch=1))
    assert inputs.shape == (10, 4, 2, 48, 48)
    assert inputs.isfinite().all()


@needs_recordings
def test_read_recording_gives_an_upright_picture_of_a_real_recording():
    # a mug held before the camera: its walls come closer together downwards
    mug = read_recording(RECORDINGS / "dvs128-biolab" / "sessionA" / "mug.aedat")
    window = (mug.t - mug.t[0] >= 3_000_000) & (mug.t - mug.t[0] < 3_300_000)
    x, y = mug.x[window].astype(float), mug.y[window]
    upper, lower = (np.quantile(x[rows], (0.1, 0.9)) for rows in ((y > 25) & (y < 45), (y > 80) & (y < 105)))
    assert np.ptp(upper) > np.ptp(lower) + 5
