"""Recordings: every format read to the event, and what is wrong with a file said in a line."""

import csv
import os
import struct
from pathlib import Path

import dv_processing
import numpy as np
import pytest
import tonic.io
from conftest import RECORDINGS, needs_recordings

from tcl_lib.data.events import recordings
from tcl_lib.data.events.aedat4 import EVENT
from tcl_lib.data.events.frames import count_frames
from tcl_lib.data.events.recordings import RecordingFile, read_recording

HEADER = b"#!AER-DAT2.0\r\n# This is a raw AE data file - do not edit\r\n"


def aedat2(path: Path, *events: tuple[int, int], header: bytes = HEADER, tail: bytes = b"") -> Path:
    path.write_bytes(header + b"".join(struct.pack(">II", *event) for event in events) + tail)
    return path


def nmnist(path: Path, *events: tuple[int, int, int, int], tail: bytes = b"") -> Path:
    path.write_bytes(b"".join(bytes([x, y]) + (p << 23 | t).to_bytes(3) for x, y, p, t in events) + tail)
    return path


def npz(path: Path, **changes) -> Path:
    arrays = {"x": [1, 2, 3], "y": [4, 5, 6], "t": [0, 5, 5], "p": [0, 1, 1]} | changes
    np.savez(path, **{name: np.asarray(array) for name, array in arrays.items() if array is not None})
    return path


def columns(events) -> dict[str, list]:
    return {name: getattr(events, name).tolist() for name in "xytp"}


# AEDAT 2.0


def test_read_recording_reads_aedat_by_hand(tmp_path):
    # bit 0: 1 is OFF; bits 1-7: column from the right; bits 8-14: row from the bottom
    path = aedat2(tmp_path / "a.aedat", (0, 10), (1, 10), (5 << 1, 30), (127 << 8 | 127 << 1, 31))
    events = read_recording(path)
    assert columns(events) == {
        "x": [127, 127, 122, 0],
        "y": [127, 127, 127, 0],
        "t": [10, 10, 30, 31],
        "p": [1, 0, 1, 1],
    }
    assert events.sensor_size == (128, 128)


@pytest.mark.parametrize("start", [0, 2**31 - 3, 2**32 - 3], ids=["0", "2^31", "2^32"])
def test_read_recording_continues_aedat_times_where_their_counter_wraps(tmp_path, start):
    passed = [0, 1, 2, 5, 5, 2_000_000_000]
    path = aedat2(tmp_path / "a.aedat", *((0, (start + t) % 2**32) for t in passed))
    assert read_recording(path).t.tolist() == [start + t for t in passed]


def test_read_recording_leaves_out_aedat_events_of_no_pixel(tmp_path):
    path = aedat2(tmp_path / "a.aedat", (0, 1), (0x8000, 2), (0x80000000, 3), (2, 4))
    assert read_recording(path).t.tolist() == [1, 4]


def test_read_recording_reads_aedat_fields_as_tonic_does(tmp_path):
    random = np.random.default_rng(0)
    t = np.sort(random.integers(0, 2**31, 500))
    path = aedat2(
        tmp_path / "a.aedat", *zip(random.integers(0, 2**15, 500).tolist(), t.tolist(), strict=True)
    )
    raw = tonic.io.get_aer_events_from_file(str(path), 2.0, len(HEADER))
    events = read_recording(path)
    assert (events.t == raw["timeStamp"]).all()
    packed = (127 - events.y).astype(int) << 8 | (127 - events.x).astype(int) << 1 | (1 - events.p)
    assert (packed == raw["address"]).all()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not AEDAT 2.0"),
        (b"#!AER-DAT3.1\r\n", r"is not AEDAT 2.0, it starts with b'#!AER-DAT3.1"),
        (b"#!AER-DAT2.0", "is truncated in its header"),
        (HEADER, "has no events"),
        (HEADER + struct.pack(">II", 0x8000, 1), "has no events"),
        (HEADER + bytes(13), "is truncated: 5 bytes follow the last complete event"),
        (HEADER + struct.pack(">II", 0x400000, 1), "address 0x00400000, which a DVS128 does not have"),
        (HEADER + struct.pack(">4I", 0, 9, 0, 8), "timestamps decrease after event 1, from 9 to 8 us"),
    ],
)
def test_read_recording_names_a_bad_aedat(tmp_path, content, words):
    path = tmp_path / "bad.aedat"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.aedat: .*{words}") as caught:
        read_recording(path)
    assert "\n" not in str(caught.value)


# N-MNIST


def test_read_recording_reads_nmnist_by_hand(tmp_path):
    path = nmnist(tmp_path / "a.bin", (1, 2, 0, 0), (33, 0, 1, 70_000), (0, 33, 1, 2**23 - 1))
    events = read_recording(path)
    expected = {"x": [1, 33, 0], "y": [2, 0, 33], "t": [0, 70_000, 2**23 - 1], "p": [0, 1, 1]}
    assert columns(events) == expected
    assert events.sensor_size == (34, 34)
    assert columns(read_recording(path.rename(tmp_path / "a.bs2"))) == expected


def test_read_recording_reads_nmnist_as_tonic_does(tmp_path):
    random = np.random.default_rng(0)
    t = np.sort(random.integers(0, 2**20, 400)).tolist()
    y = random.integers(0, 34, 400)
    y[[50, 51, 300]] = 240  # the clock skipped
    x, p = random.integers(0, 34, 400).tolist(), random.integers(0, 2, 400).tolist()
    path = nmnist(tmp_path / "a.bin", *zip(x, y.tolist(), p, t, strict=True))
    events = read_recording(path)
    theirs = tonic.io.read_mnist_file(str(path), np.dtype([(name, int) for name in "xytp"]))
    assert len(events.t) == 397
    assert columns(events) == {name: theirs[name].tolist() for name in "xytp"}


def test_read_recording_reads_a_bin_of_a_larger_sensor(tmp_path):
    path = nmnist(tmp_path / "a.bin", (200, 150, 1, 3))
    with pytest.raises(
        ValueError, match=r"a\.bin: 1 events outside the 34x34 sensor, the first at x=200, y=150"
    ):
        read_recording(path)
    assert read_recording(path, (240, 180)).sensor_size == (240, 180)


@pytest.mark.parametrize(
    ("events", "tail", "words"),
    [
        ((), b"", "has no events"),
        (((1, 1, 1, 1),), b"abc", "is truncated: 3 bytes follow"),
        (((1, 1, 1, 1), (34, 1, 1, 2)), b"", "1 events outside the 34x34 sensor, the first at x=34, y=1"),
        (((1, 1, 1, 5), (1, 1, 1, 4)), b"", "timestamps decrease after event 1, from 5 to 4 us"),
    ],
)
def test_read_recording_names_a_bad_bin(tmp_path, events, tail, words):
    path = nmnist(tmp_path / "bad.bin", *events, tail=tail)
    with pytest.raises(ValueError, match=rf"bad\.bin: {words}"):
        read_recording(path)


# AEDAT 4


def aedat4(path: Path, count: int = 3000, width: int = 64, height: int = 48) -> dict[str, list]:
    """Write a recording with the camera maker's own library; what it holds."""
    random = np.random.default_rng(0)
    events = {
        "x": random.integers(0, width, count).tolist(),
        "y": random.integers(0, height, count).tolist(),
        "t": (np.sort(random.integers(0, 10**6, count)) + 1_600_000_000_000_000).tolist(),
        "p": random.integers(0, 2, count).tolist(),
    }
    store = dv_processing.EventStore()
    for x, y, t, p in zip(*events.values(), strict=True):
        store.push_back(t, x, y, bool(p))
    settings = dv_processing.io.MonoCameraWriter.EventOnlyConfig("camera", (width, height))
    writer = dv_processing.io.MonoCameraWriter(str(path), settings)
    writer.writeEvents(store)
    return events


def test_read_recording_reads_aedat4_as_its_maker_s_library_wrote_it(tmp_path):
    expected = aedat4(tmp_path / "a.aedat4")
    events = read_recording(tmp_path / "a.aedat4")
    assert columns(events) == expected
    assert events.sensor_size == (64, 48)


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9])
def test_read_recording_names_an_aedat4_that_is_cut_off(tmp_path, share):
    path = tmp_path / "bad.aedat4"
    aedat4(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"bad\.aedat4: (is truncated or damaged \(.+\)|is not AEDAT 4)"):
        read_recording(path)


@pytest.mark.parametrize("seed", range(40))
def test_read_recording_reads_or_names_an_aedat4_with_wrong_bytes(tmp_path, seed):
    path = tmp_path / "bad.aedat4"
    aedat4(path)
    content = bytearray(path.read_bytes())
    random = np.random.default_rng(seed)
    # the half of them in what describes the file
    for place in random.integers(14, 3000 if seed % 2 else len(content), 3):
        content[place] = random.integers(256)
    path.write_bytes(content)
    message = f"{path}: read"
    try:
        read_recording(path)
    except ValueError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message


def test_read_recording_names_a_damaged_polarity(tmp_path, monkeypatch):
    events = np.zeros(3, EVENT)
    events["p"] = 1, 0, 129
    monkeypatch.setattr(recordings, "parse_aedat4", lambda content: (events, (64, 48)))
    (tmp_path / "bad.aedat4").write_bytes(b"")
    with pytest.raises(ValueError, match=r"bad\.aedat4: an event has polarity 129, must be 0 \(OFF\) or 1"):
        read_recording(tmp_path / "bad.aedat4")


def test_read_recording_refuses_a_sensor_size_that_is_not_the_file_s(tmp_path):
    aedat4(tmp_path / "a.aedat4")
    with pytest.raises(ValueError, match=r"a\.aedat4: has a 64x48 sensor, but sensor_size is \[128, 128\]"):
        read_recording(tmp_path / "a.aedat4", (128, 128))
    path = aedat2(tmp_path / "a.aedat", (0, 1))
    with pytest.raises(ValueError, match=r"a\.aedat: has a 128x128 sensor, but sensor_size is \[64, 48\]"):
        read_recording(path, (64, 48))


# NPZ


@pytest.mark.parametrize("p", [[0, 1, 1], [False, True, True]])
def test_read_recording_reads_npz_by_hand(tmp_path, p):
    events = read_recording(npz(tmp_path / "a.npz", p=p), (10, 10))
    assert columns(events) == {"x": [1, 2, 3], "y": [4, 5, 6], "t": [0, 5, 5], "p": [0, 1, 1]}
    assert events.sensor_size == (10, 10)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"p": None}, "has no array p; x, y, t and p are required"),
        ({"x": [1, 2]}, r"arrays must be \[N\], x is \[2\] and t \[3\]"),
        ({"t": [[0, 5, 5]]}, r"arrays must be \[N\]"),
        ({"t": [0.0, 0.5, 1.0]}, r"array t is float64, must be integers \(t in microseconds\)"),
        ({"x": np.array([1, 2, 3], "m8[s]")}, "array x is timedelta64.*, must be integers"),
        ({"t": np.array([1, 2, 2**63 + 5], "u8")}, "array t has 9223372036854775813, must be .* below 2"),
        ({"p": [0, 1, 2]}, r"array p has 2, must be 0 \(OFF\) or 1 \(ON\)"),
        ({"p": [-1, 1, 1]}, "array p has -1"),
        ({"x": [1, 2, 10]}, "1 events outside the 10x10 sensor, the first at x=10, y=6"),
        ({"y": [-1, 5, 6]}, "1 events outside the 10x10 sensor, the first at x=1, y=-1"),
        ({"t": [0, 5, 4]}, "timestamps decrease after event 2, from 5 to 4 us"),
        ({name: np.empty(0, int) for name in "xytp"}, "has no events"),
        ({"x": np.array([{}, {}, {}])}, r"is truncated, damaged or not NPZ \(Object arrays"),
    ],
)
def test_read_recording_names_a_bad_npz(tmp_path, changes, words):
    path = npz(tmp_path / "bad.npz", **changes)
    with pytest.raises(ValueError, match=rf"bad\.npz: {words}"):
        read_recording(path, (10, 10))


@pytest.mark.parametrize("kept", [0, 4, 100, 500])
def test_read_recording_names_an_npz_that_is_cut_off(tmp_path, kept):
    path = npz(tmp_path / "bad.npz")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"bad\.npz: is truncated, damaged or not NPZ \(.+\)$"):
        read_recording(path, (10, 10))


@pytest.mark.parametrize("dtype", ["u1", "i2", ">i4", "u8", "i8"])
def test_read_recording_reads_npz_of_any_whole_numbers(tmp_path, dtype):
    path = npz(tmp_path / "a.npz", **{name: np.array([0, 5, 9], dtype) for name in "xyt"})
    events = read_recording(path, (10, 10))
    assert columns(events) == {"x": [0, 5, 9], "y": [0, 5, 9], "t": [0, 5, 9], "p": [0, 1, 1]}
    assert count_frames(events, 3, "time").sum((1, 2, 3)).tolist() == [1, 1, 1]


def test_read_recording_refuses_a_bin_of_more_than_240_rows(tmp_path):
    with pytest.raises(ValueError, match=r"a\.bin: sensor_size has 256 rows, the format allows 240"):
        read_recording(nmnist(tmp_path / "a.bin", (1, 1, 1, 1)), (256, 256))


def test_read_recording_needs_the_sensor_size_of_an_npz(tmp_path):
    with pytest.raises(ValueError, match=r"a\.npz: .*set sensor_size to \[width, height\]"):
        read_recording(npz(tmp_path / "a.npz"))


# any


@pytest.mark.parametrize("name", ["a.dat", "a", "a.txt"])
def test_read_recording_refuses_another_format(tmp_path, name):
    with pytest.raises(ValueError, match=r"is not a \.aedat, \.aedat4, \.bin, \.bs2, \.npz file"):
        read_recording(tmp_path / name)


@pytest.mark.parametrize("suffix", [".aedat", ".aedat4", ".bin", ".npz"])
def test_read_recording_names_a_file_that_is_not_there(tmp_path, suffix):
    with pytest.raises(ValueError, match=rf"gone\{suffix}: .*(cannot be read|No such file)"):
        read_recording(tmp_path / f"gone{suffix}", (1, 1))


def test_recording_file_turns_a_transposed_recording(tmp_path):
    path = nmnist(tmp_path / "a.bin", (200, 150, 1, 3))
    events = RecordingFile(path, (240, 180), transposed=True).read()
    assert (events.x[0], events.y[0], events.sensor_size) == (150, 200, (180, 240))


def test_recording_file_identity_changes_with_the_file(tmp_path):
    path = nmnist(tmp_path / "a.bin", (1, 1, 1, 1))
    before = RecordingFile(path).identity
    assert before == RecordingFile(path).identity
    assert before != RecordingFile(path, (40, 40)).identity
    os.utime(path, ns=(1, 1))
    assert before != RecordingFile(path).identity


# real recordings


@needs_recordings
def test_read_recording_finds_the_events_and_length_stated_of_dvs128():
    with open(RECORDINGS / "dvs128-biolab" / "recordings.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    for row in rows:
        events = read_recording(RECORDINGS / "dvs128-biolab" / row["file"])
        assert len(events.t) == int(row["events"])
        assert (events.t[-1] - events.t[0]) / 1e6 == pytest.approx(float(row["seconds"]), abs=1e-6)
        # the table calls events ON whose bit 0 is 1; with jAER these are OFF
        assert 1 - events.p.mean() == pytest.approx(float(row["on_fraction"]), abs=1e-4)


@needs_recordings
def test_read_recording_finds_the_events_stated_of_dvs128_windows():
    with open(RECORDINGS / "dvs128-biolab" / "segments_300ms.csv") as file:
        rows = list(csv.DictReader(file))
    for name in {row["file"] for row in rows}:
        t = read_recording(RECORDINGS / "dvs128-biolab" / name).t
        for row in (row for row in rows if row["file"] == name):
            inside = (t - t[0] >= int(row["t0_us"])) & (t - t[0] < int(row["t1_us"]))
            assert inside.sum() == int(row["events"])


@needs_recordings
def test_read_recording_finds_the_events_and_length_stated_of_nmnist():
    files = list((RECORDINGS / "nmnist-small").glob("*.bs2"))
    counts, ends = {"train": [], "test": []}, {"train": [], "test": []}
    for path in files:
        events = read_recording(path)
        part = "test" if int(path.stem) > 60000 else "train"
        counts[part].append(len(events.t))
        ends[part].append(events.t[-1])
    assert len(counts["train"]) == 1000
    assert (min(counts["train"]), round(np.mean(counts["train"])), max(counts["train"])) == (1112, 4133, 7152)
    assert (min(counts["test"]), round(np.mean(counts["test"])), max(counts["test"])) == (1069, 3856, 6326)
    assert 0.2965 <= min(ends["train"]) / 1e6 <= max(ends["train"]) / 1e6 <= 0.3155
    assert 0.3015 <= min(ends["test"]) / 1e6 <= max(ends["test"]) / 1e6 <= 0.3365


@needs_recordings
def test_read_recording_finds_the_events_and_length_stated_of_single_files():
    events = read_recording(RECORDINGS / "tonic-samples" / "sample.aedat4")
    assert (len(events.t), events.sensor_size) == (111_954, (320, 240))
    assert (events.t[-1] - events.t[0]) / 1e6 == pytest.approx(0.590, abs=5e-4)
    assert events.p.mean() == pytest.approx(0.491, abs=5e-4)
    events = read_recording(RECORDINGS / "tonic-samples" / "sample_nmnist.bin")
    assert (len(events.t), events.sensor_size) == (4325, (34, 34))
    assert (events.t[0] / 1e6, events.t[-1] / 1e6) == pytest.approx((0.00065, 0.311), abs=5e-4)


@needs_recordings
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sample_aedat_header.aedat", "has no events"),
        ("sample_ncars.dat", "is not a .aedat"),
        ("sample_stmnist.mat", "is not a .aedat"),
    ],
)
def test_read_recording_names_real_files_that_cannot_be_read(name, words):
    with pytest.raises(ValueError, match=f"{name}: {words}"):
        read_recording(RECORDINGS / "tonic-samples" / name)
