"""Simulated recordings: images moved in front of an ideal event camera with noise; no real camera is used.

The image moves on a closed path of four legs at 45 degrees, like the images of CIFAR10-DVS (Li et al. 2017,
Frontiers in Neuroscience 11:309); at the turns a strip of it is out of view. A pixel emits an event when its
log intensity has changed by a threshold since its last event (Lichtsteiner et al. 2008). Noise events are
added at a constant rate.
"""

import hashlib
from dataclasses import dataclass

import numpy as np

from tcl_lib.data.events.recordings import Events

SENSOR = (10, 10)
LEG = 1.5  # pixels in x and in y
DURATION = 200_000  # microseconds, one round
INSTANTS = 96  # at which the image is sampled
DARK = 0.2  # intensity of the background; the brightest pixel has 1
THRESHOLD, MISMATCH = 0.5, 0.1  # of log intensity; its relative deviation between pixels
NOISE = 3.0  # events per pixel and second
SEED = 2305
VERSION = 1  # of the simulation; a change makes cached frames again


@dataclass(frozen=True)
class MovedImage:
    """The simulated recording of an image; its number determines its noise and its start on the path."""

    pixels: bytes  # uint8, side x side
    side: int
    number: int

    @property
    def name(self) -> str:
        """Name in error messages."""
        return f"simulated recording {self.number}"

    @property
    def identity(self) -> list:
        """A list that changes whenever the events could change."""
        return [VERSION, self.number, self.side, self.pixels.hex()]

    def content_hash(self) -> bytes:
        """Return the hash of what the events follow from."""
        return hashlib.sha256(repr(self.identity).encode()).digest()

    def read(self) -> Events:
        """Return the simulated events."""
        image = np.frombuffer(self.pixels, np.uint8).reshape(self.side, self.side) / 255
        return simulate(image, np.random.default_rng([SEED, self.number]))


def simulate(image: np.ndarray, random: np.random.Generator) -> Events:
    """Return the events of an image (from 0 to 1) that moves around the path once from a random start."""
    log_intensity = np.log(DARK + (1 - DARK) * moved_image(image, random.random()))  # [INSTANTS, H, W]
    thresholds = THRESHOLD * random.normal(1, MISMATCH, SENSOR[::-1]).clip(0.5, 1.5)
    events = [_noise(random), *crossings(log_intensity, thresholds)]
    x, y, t, p = (np.concatenate(parts) for parts in zip(*events, strict=True))
    order = t.argsort(kind="stable")
    return Events(x[order], y[order], t[order], p[order], SENSOR)


def moved_image(image: np.ndarray, start: float) -> np.ndarray:
    """Return the image at every instant, bilinearly interpolated: [INSTANTS, H, W]."""
    width, height = SENSOR
    legs = 4 * (start + np.arange(INSTANTS) / (INSTANTS - 1))  # from 0 to 4, one round
    # down and right, down and left, up and left, up and right: a diamond around the middle
    across = LEG * (np.abs((legs + 1) % 4 - 2) - 1)
    down = LEG * (np.abs(legs % 4 - 2) - 1)

    def weights(size: int, shift: np.ndarray) -> np.ndarray:
        """Return the weight of the image's line j in the sensor's line i: [INSTANTS, size, side]."""
        place = (size - len(image)) / 2 + np.arange(len(image)) + shift[:, None]
        return (1 - np.abs(np.arange(size)[:, None] - place[:, None])).clip(0)

    return weights(height, down) @ image @ weights(width, across).transpose(0, 2, 1)


def crossings(log_intensity: np.ndarray, thresholds: np.ndarray):
    """Yield the events of every interval between two instants, as (x, y, t, p)."""
    last = log_intensity[0].copy()  # at each pixel's last event
    for instant in range(1, len(log_intensity)):
        before, now = log_intensity[instant - 1], log_intensity[instant]
        count = np.trunc((now - last) / thresholds)  # with the sign of the change
        y, x = count.nonzero()
        if not len(y):
            continue
        signed = count[y, x].astype(np.int64)
        times, sign = np.abs(signed), np.sign(signed)
        pixel = np.repeat(np.arange(len(y)), times)
        nth = np.arange(len(pixel)) - np.repeat(times.cumsum() - times, times) + 1
        y, x, sign = y[pixel], x[pixel], sign[pixel]
        level = last[y, x] + sign * nth * thresholds[y, x]
        share = (level - before[y, x]) / (now[y, x] - before[y, x])
        t = (instant - 1 + share.clip(0, 1)) * (DURATION - 1) / (len(log_intensity) - 1)
        yield x, y, t.astype(np.int64), (sign > 0).astype(np.uint8)
        last += count * thresholds


def _noise(random: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return noise events as (x, y, t, p), with one at the start and one at the end of the recording."""
    width, height = SENSOR
    count = random.poisson(NOISE * width * height * DURATION / 1e6)
    t = random.integers(0, DURATION, count + 2)
    t[:2] = 0, DURATION - 1
    x, y = random.integers(0, width, count + 2), random.integers(0, height, count + 2)
    return x, y, t, random.integers(0, 2, count + 2, dtype=np.uint8)
