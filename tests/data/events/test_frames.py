"""Frames: every event counted once, in the right one; and how fast."""

import time

import numpy as np
import pytest
import tonic

from tcl_lib.data.events.frames import count_frames
from tcl_lib.data.events.recordings import Events


def recording(count: int, size: tuple[int, int], seed: int = 0, duration: int = 10**6) -> Events:
    random = np.random.default_rng(seed)
    return Events(
        random.integers(0, size[0], count).astype(np.int16),
        random.integers(0, size[1], count).astype(np.int16),
        np.sort(random.integers(5, duration + 5, count)),
        random.integers(0, 2, count).astype(np.uint8),
        size,
    )


def test_count_frames_by_hand():
    t = np.array([100, 104, 105, 109, 109, 119])
    x, y, p = np.array([0, 1, 2, 0, 0, 2]), np.array([0, 0, 1, 1, 1, 1]), np.array([0, 1, 1, 0, 0, 1])
    events = Events(x, y, t, p, (3, 2))
    # 20 us from the first event up to and with the last: four frames of 5 us
    by_time = count_frames(events, 4, "time")
    assert by_time.shape == (4, 2, 2, 3)
    off, on = by_time[0]
    assert off.tolist() == [[1, 0, 0], [0, 0, 0]]
    assert on.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert by_time[1].tolist() == [[[0, 0, 0], [2, 0, 0]], [[0, 0, 0], [0, 0, 1]]]
    assert by_time.sum((1, 2, 3)).tolist() == [2, 3, 0, 1]
    assert count_frames(events, 4, "count").sum((1, 2, 3)).tolist() == [2, 1, 2, 1]


@pytest.mark.parametrize("frame_by", ["time", "count"])
@pytest.mark.parametrize("time_steps", [1, 2, 3, 7, 10, 600])
@pytest.mark.parametrize("duration", [1, 9, 1000, 10**6])
def test_count_frames_equals_a_plain_loop(frame_by, time_steps, duration):
    events = recording(500, (7, 5), seed=time_steps, duration=duration)
    expected = np.zeros((time_steps, 2, 5, 7), int)
    length = int(events.t[-1] - events.t[0]) + 1
    for index, (x, y, t, p) in enumerate(zip(events.x, events.y, events.t, events.p, strict=True)):
        share = (int(t - events.t[0]), length) if frame_by == "time" else (index, 500)
        expected[share[0] * time_steps // share[1], p, y, x] += 1
    frames = count_frames(events, time_steps, frame_by)
    assert (frames == expected).all()
    assert frames.sum() == 500


def test_count_frames_puts_a_single_event_into_the_first_frame():
    events = Events(*(np.array([value]) for value in (2, 1, 77, 1)), (3, 2))
    for frame_by in ("time", "count"):
        frames = count_frames(events, 4, frame_by)
        assert frames.sum() == frames[0, 1, 1, 2] == 1


def test_count_frames_takes_times_of_any_size():
    t = np.array([0, 2**62, 2**63 - 2])
    events = Events(np.zeros(3, int), np.zeros(3, int), t, np.zeros(3, int), (1, 1))
    assert count_frames(events, 10, "time").sum((1, 2, 3)).tolist() == [1, 0, 0, 0, 0, 1, 0, 0, 0, 1]


def structured(events: Events) -> np.ndarray:
    array = np.empty(len(events.t), [("x", "i2"), ("y", "i2"), ("t", "i8"), ("p", "?")])
    for name in "xytp":
        array[name] = getattr(events, name)
    return array


def test_count_frames_of_equal_count_equals_tonic():
    events = recording(5000, (34, 34))
    theirs = tonic.transforms.ToFrame((34, 34, 2), n_event_bins=10)(structured(events))
    assert (count_frames(events, 10, "count") == theirs).all()


def test_count_frames_of_equal_duration_equals_tonic():
    events = recording(5000, (34, 34), duration=9_990)
    events.t[0], events.t[-1] = 0, 9_999
    theirs = tonic.transforms.ToFrame((34, 34, 2), time_window=1000, end_time=10_000)(structured(events))
    assert (count_frames(events, 10, "time") == theirs).all()


def test_count_frames_is_faster_than_tonic():
    # as many events as a recording of DVS-CIFAR10 has
    events = recording(200_000, (128, 128))
    array, to_frame = structured(events), tonic.transforms.ToFrame((128, 128, 2), n_time_bins=10)
    ours, theirs = [], []
    for _ in range(9):
        for seconds, make in (
            (ours, lambda: count_frames(events, 10, "time")),
            (theirs, lambda: to_frame(array)),
        ):
            start = time.perf_counter()
            make()
            seconds.append(time.perf_counter() - start)
    assert np.median(ours) < np.median(theirs)
