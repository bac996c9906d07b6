"""Corruptions of test samples in five strengths, for images and for the counted frames of event cameras.

Those of images, and their strengths, are those of CIFAR-10-C (Hendrycks & Dietterich 2019, arXiv 1903.12261),
written with torch and torchvision; there are no maps of fog, frost or snow. Each takes samples as they are
stored and returns them so. Shapes: B batch, T time steps, C channels, H x W pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional as F

AT_ONCE = 256  # samples, for which there is memory


class Corruption(NamedTuple):
    """A kind of corruption."""

    function: Callable[[Tensor, float, Generator], Tensor]  # (samples, strength, generator) -> samples
    strengths: tuple[float, float, float, float, float]


def gaussian_noise(images: Tensor, deviation: float, generator: Generator) -> Tensor:
    return _pixels(images / 255 + deviation * torch.randn(images.shape, generator=generator))


def impulse_noise(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Make a share of the values black or white."""
    draw = torch.rand(images.shape, generator=generator)
    white = torch.where(draw < share / 2, 255, images)
    return torch.where(draw > 1 - share / 2, 0, white).to(images.dtype)


def blur(images: Tensor, sigma: float, generator: Generator) -> Tensor:
    """Blur with a Gaussian of that deviation in pixels."""
    radius = min(round(4 * sigma), min(images.shape[-2:]) - 1)  # the border is reflected
    return F.gaussian_blur(images, kernel_size=2 * radius + 1, sigma=sigma)


def brightness(images: Tensor, added: float, generator: Generator) -> Tensor:
    return _pixels(images / 255 + added)


def contrast(images: Tensor, left: float, generator: Generator) -> Tensor:
    """Leave a share of each value's distance to the mean of its channel."""
    values = images / 255
    mean = values.mean((-2, -1), keepdim=True)
    return _pixels((values - mean) * left + mean)


def pixelate(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Shrink the sides to a share by box averaging, and enlarge them without smoothing."""
    size = images.shape[-2:]
    small = [max(1, int(side * share)) for side in size]
    shrunk = torch.nn.functional.interpolate(images.float(), small, mode="area")
    return _pixels(torch.nn.functional.interpolate(shrunk, size, mode="nearest") / 255)


def jpeg(images: Tensor, quality: float, generator: Generator) -> Tensor:
    return torch.stack([F.jpeg(image, int(quality)) for image in images])


def drop_events(counts: Tensor, share: float, generator: Generator) -> Tensor:
    """Drop each event with that probability."""
    kept = torch.binomial(counts.float(), torch.full(counts.shape, 1.0 - share), generator=generator)
    return kept.to(counts.dtype)


def add_events(counts: Tensor, share: float, generator: Generator) -> Tensor:
    """Add events at random pixels and frames: that share of the recording's events, on average."""
    rate = share * counts.float().mean((1, 2, 3, 4), keepdim=True)
    return _counts(counts + torch.poisson(rate.expand(counts.shape), generator=generator), counts)


def hot_pixels(counts: Tensor, share: float, generator: Generator) -> Tensor:
    """Make a share of the pixels fire in every frame, as often as the busiest pixel of the recording."""
    hot = torch.rand(counts[:, :1].shape, generator=generator) < share  # [B, 1, 2, H, W]
    most = counts.float().amax((1, 2, 3, 4), keepdim=True)
    return _counts(torch.where(hot, most, counts.float()), counts)


def jitter_time(counts: Tensor, deviation: float, generator: Generator) -> Tensor:
    """Move each event by a Gaussian time of that deviation in frames; the ends of the recording hold it.

    Where in its frame an event was is not stored: it is drawn.
    """
    flat = counts.flatten()
    place = torch.repeat_interleave(torch.arange(len(flat)), flat.long())  # of each event
    inner = counts[0, 0].numel()  # values of a frame
    frame = place // inner % counts.shape[1]
    within = torch.rand(len(place), generator=generator)
    moved = frame + within + deviation * torch.randn(len(place), generator=generator)
    moved = moved.floor().long().clamp(0, counts.shape[1] - 1)
    place += (moved - frame) * inner
    return _counts(torch.bincount(place, minlength=len(flat)).view(counts.shape), counts)


OF_IMAGES = {
    "gaussian_noise": Corruption(gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),  # of the range
    "impulse_noise": Corruption(impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),  # of the values
    "blur": Corruption(blur, (0.4, 0.6, 0.7, 0.8, 1.0)),  # pixels
    "brightness": Corruption(brightness, (0.05, 0.1, 0.15, 0.2, 0.3)),  # of the range
    "contrast": Corruption(contrast, (0.75, 0.5, 0.4, 0.3, 0.15)),  # left
    "pixelate": Corruption(pixelate, (0.95, 0.9, 0.85, 0.75, 0.65)),  # of the side
    "jpeg": Corruption(jpeg, (80, 65, 58, 50, 40)),  # quality
}
OF_EVENTS = {
    "drop_events": Corruption(drop_events, (0.1, 0.3, 0.5, 0.7, 0.9)),  # of the events
    "add_events": Corruption(add_events, (0.1, 0.3, 0.5, 1.0, 2.0)),  # of the events
    "hot_pixels": Corruption(hot_pixels, (0.001, 0.002, 0.005, 0.01, 0.02)),  # of the pixels
    "jitter_time": Corruption(jitter_time, (0.25, 0.5, 1.0, 2.0, 4.0)),  # frames
}


def corrupted(samples: Tensor, corruption: Corruption, severity: int) -> Tensor:
    """Return stored samples corrupted with a severity from 1 to 5, the same draws in every call."""
    generator, strength = Generator().manual_seed(severity), corruption.strengths[severity - 1]
    parts = [corruption.function(part, strength, generator) for part in samples.split(AT_ONCE)]
    return torch.cat(parts)


def _pixels(values: Tensor) -> Tensor:
    """Return values from 0 to 1 as uint8."""
    return (values.clamp(0, 1) * 255).round().to(torch.uint8)


def _counts(counts: Tensor, like: Tensor) -> Tensor:
    """Return counts in the type of others, no larger than it holds."""
    return counts.clamp(max=torch.iinfo(like.dtype).max).to(like.dtype)
