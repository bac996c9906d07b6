"""Corruptions of stored samples: by hand, by their statistics, and against other libraries."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torchvision.transforms.v2 import functional as F

from tcl_lib.data import corruptions
from tcl_lib.data.corruptions import OF_EVENTS, OF_IMAGES, corrupted

DRAW = torch.Generator().manual_seed


def images(size=32, count=20):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def counts(mean=2.0, dtype=torch.uint8):
    return torch.poisson(torch.full((6, 5, 2, 12, 12), mean)).to(dtype)


@pytest.mark.parametrize("name", OF_IMAGES)
def test_corrupted_images_are_of_the_stored_form_and_the_same_again(name):
    for size, channels in ((32, 3), (8, 1), (4, 1)):
        stored = images(size)[:, :channels]
        before = stored.clone()
        made = [corrupted(stored, OF_IMAGES[name], severity) for severity in (1, 5)]
        assert all((image.shape, image.dtype) == (stored.shape, stored.dtype) for image in made)
        assert torch.equal(stored, before)
        assert torch.equal(made[1], corrupted(stored, OF_IMAGES[name], 5))
        distance = [(image.float() - stored.float()).abs().mean() for image in made]
        assert distance[1] > 0
        assert distance[0] <= distance[1]


def test_corrupted_draws_on_from_part_to_part(monkeypatch):
    stored = images(8, 6)
    monkeypatch.setattr(corruptions, "AT_ONCE", 2)
    noise = corrupted(torch.full_like(stored, 128), OF_IMAGES["gaussian_noise"], 5)
    assert not torch.equal(noise[:2], noise[2:4])


def test_gaussian_noise_has_its_deviation():
    grey = torch.full((50, 1, 20, 20), 128, dtype=torch.uint8)
    noisy = corruptions.gaussian_noise(grey, 0.1, DRAW(0)) / 255
    assert noisy.std().item() == pytest.approx(0.1, rel=0.03)
    assert noisy.mean().item() == pytest.approx(128 / 255, abs=0.003)


def test_impulse_noise_makes_a_share_black_or_white():
    grey = torch.full((100, 1, 20, 20), 128, dtype=torch.uint8)
    noisy = corruptions.impulse_noise(grey, 0.2, DRAW(0))
    shares = [(noisy == value).float().mean().item() for value in (0, 128, 255)]
    assert shares == pytest.approx([0.1, 0.8, 0.1], abs=0.01)


def test_blur_is_that_of_scipy():
    stored = images()
    ours = corruptions.blur(stored, 0.8, DRAW(0)).float().numpy()
    theirs = gaussian_filter(stored.float().numpy(), (0, 0, 0.8, 0.8), mode="mirror", radius=3)
    assert np.abs(ours - theirs).max() < 1.0  # rounded to whole numbers


def test_brightness_contrast_and_pixelate_by_hand():
    stored = torch.tensor([0, 100, 200, 240], dtype=torch.uint8).view(1, 1, 2, 2)
    flat = {
        name: function(stored, value, None).flatten().tolist()
        for name, (function, value) in {
            "brightness": (corruptions.brightness, 0.2),
            "contrast": (corruptions.contrast, 0.5),
            "pixelate": (corruptions.pixelate, 0.5),
        }.items()
    }
    assert flat == {"brightness": [51, 151, 251, 255], "contrast": [68, 118, 168, 188], "pixelate": 4 * [135]}


def test_jpeg_is_that_of_pillow(tmp_path):
    image = F.gaussian_blur(images()[:1], 5, 2.0)
    path = tmp_path / "image.jpg"
    Image.fromarray(image[0].permute(1, 2, 0).numpy()).save(path, quality=40)
    theirs = torch.from_numpy(np.array(Image.open(path))).permute(2, 0, 1)
    ours = corruptions.jpeg(image, 40, None)[0]
    assert (ours.float() - theirs.float()).abs().mean() < 2


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("name", OF_EVENTS)
def test_corrupted_counts_are_of_the_stored_form_and_the_same_again(name, dtype):
    stored = counts(dtype=dtype)
    made = corrupted(stored, OF_EVENTS[name], 3)
    assert (made.shape, made.dtype) == (stored.shape, dtype)
    assert not torch.equal(made, stored)
    assert torch.equal(made, corrupted(stored, OF_EVENTS[name], 3))


def test_drop_events_drops_a_share():
    stored = counts()
    left = corruptions.drop_events(stored, 0.3, DRAW(0))
    assert (left <= stored).all()
    assert (left.sum() / stored.sum()).item() == pytest.approx(0.7, abs=0.02)


def test_add_events_adds_a_share_of_each_recording():
    stored = counts()
    stored[0] = 0
    more = corruptions.add_events(stored, 0.5, DRAW(0))
    assert (more >= stored).all()
    added = (more.long() - stored.long()).sum((1, 2, 3, 4)) / stored.long().sum((1, 2, 3, 4)).clamp(min=1)
    assert added.tolist() == pytest.approx([0, *5 * [0.5]], abs=0.06)


def test_hot_pixels_fire_in_every_frame():
    stored = counts()
    noisy = corruptions.hot_pixels(stored, 0.1, DRAW(0))
    changed = (noisy != stored).any(1)  # [B, 2, H, W]
    most = stored.amax((1, 2, 3, 4))
    for recording, pixels, peak in zip(noisy, changed, most, strict=True):
        assert (recording[:, pixels] == peak).all()
    assert changed.float().mean().item() == pytest.approx(0.1, abs=0.02)


def test_jitter_time_moves_events_to_other_frames_of_their_pixel():
    stored = torch.zeros(1, 9, 2, 3, 3, dtype=torch.uint16)
    stored[0, 4, 1, 2, 0] = 60_000
    moved = corruptions.jitter_time(stored, 1.0, DRAW(0)).long()
    assert moved.sum() == 60_000
    assert moved[0, :, 1, 2, 0].sum() == 60_000
    # a uniform place in the frame and a Gaussian: variance 1/12 + 1
    frames, shares = torch.arange(9.0), moved[0, :, 1, 2, 0] / 60_000
    mean = (frames * shares).sum()
    assert mean.item() == pytest.approx(4, abs=0.03)
    assert ((frames - mean) ** 2 * shares).sum().item() == pytest.approx(1 + 1 / 12 + 1 / 12, abs=0.03)
    assert torch.equal(corruptions.jitter_time(stored, 0.0, DRAW(0)), stored)


def test_counts_stop_at_the_largest_that_is_stored():
    stored = torch.full((1, 2, 2, 4, 4), 250, dtype=torch.uint8)
    assert corruptions.add_events(stored, 2.0, DRAW(0)).min() == 255
