"""The simulated event camera, against a loop over its pixels and what must hold of any."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tcl_lib.data.events import simulated
from tcl_lib.data.events.simulated import MovedImage, simulate

DIGIT = load_digits().images[0] / 16


def test_moved_image_follows_from_its_number():
    pixels = (DIGIT * 255).astype(np.uint8).tobytes()
    one, again, other = (MovedImage(pixels, 8, number).read() for number in (5, 5, 6))
    for name in "xytp":
        assert (getattr(one, name) == getattr(again, name)).all()
    assert len(one.t) != len(other.t) or (one.t != other.t).any()


@pytest.mark.parametrize("seed", range(5))
def test_simulate_gives_events_in_order_and_on_the_sensor(seed):
    events = simulate(DIGIT, np.random.default_rng(seed))
    width, height = events.sensor_size
    assert (np.diff(events.t) >= 0).all()
    assert (events.t[0], events.t[-1]) == (0, simulated.DURATION - 1)
    assert events.x.min() >= 0
    assert events.y.min() >= 0
    assert events.x.max() < width
    assert events.y.max() < height
    assert set(events.p.tolist()) == {0, 1}


def test_moved_image_has_a_closed_path_of_four_legs_at_45_degrees():
    dot = np.zeros((8, 8))
    dot[4, 4] = 1
    moved = simulated.moved_image(dot, start=0.0)
    np.testing.assert_allclose(moved[0], moved[-1], atol=1e-12)
    lines = np.arange(simulated.SENSOR[0])
    down, across = (moved.sum(axis) @ lines for axis in (2, 1))  # where the dot is
    assert np.ptp(down) == pytest.approx(2 * simulated.LEG, rel=0.05)
    assert np.ptp(across) == pytest.approx(2 * simulated.LEG, rel=0.05)
    steps = np.abs(np.diff(down)), np.abs(np.diff(across))
    straight = np.isclose(*steps)  # but where the dot turns
    assert straight.mean() > 0.9


def test_moved_image_interpolates_between_pixels():
    moved = simulated.moved_image(np.eye(6), start=0.125)
    assert moved.sum((1, 2)) == pytest.approx(6)
    assert ((moved >= 0) & (moved <= 1)).all()


@pytest.mark.parametrize("seed", range(3))
def test_crossings_equal_a_loop_over_the_pixels(seed):
    random = np.random.default_rng(seed)
    levels = random.normal(0, 0.5, (12, 4, 3)).cumsum(0)
    thresholds = random.uniform(0.2, 0.6, (4, 3))
    expected = []
    for y, x in np.ndindex(4, 3):
        last = levels[0, y, x]
        for instant in range(1, 12):
            before, now = levels[instant - 1 : instant + 1, y, x]
            while abs(now - last) >= thresholds[y, x]:
                last += np.sign(now - last) * thresholds[y, x]
                share = (last - before) / (now - before)
                t = int((instant - 1 + min(max(share, 0), 1)) * (simulated.DURATION - 1) / 11)
                expected.append((x, y, t, int(now > before)))
    parts = zip(*simulated.crossings(levels, thresholds), strict=True)
    events = zip(*(np.concatenate(part).tolist() for part in parts), strict=True)
    assert sorted(events) == sorted(expected)


def test_simulate_gives_as_many_on_as_off_events_where_brightness_returns(monkeypatch):
    monkeypatch.setattr(simulated, "NOISE", 0.0)
    events = simulate(DIGIT, np.random.default_rng(0))
    balance = np.zeros(events.sensor_size[::-1], int)
    np.add.at(balance, (events.y, events.x), 2 * events.p.astype(int) - 1)
    assert len(events.t) > 100
    assert np.abs(balance).max() <= 3  # up to what is left below the threshold, and the two of the frame


def test_simulate_gives_noise_alone_for_an_even_image():
    counts = [len(simulate(np.zeros((8, 8)), np.random.default_rng(seed)).t) - 2 for seed in range(300)]
    rate = simulated.NOISE * np.prod(simulated.SENSOR) * simulated.DURATION / 1e6
    assert np.mean(counts) == pytest.approx(rate, abs=4 * (rate / 300) ** 0.5)
    assert np.var(counts) == pytest.approx(rate, rel=0.3)  # Poisson
