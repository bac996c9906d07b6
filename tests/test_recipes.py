"""The recipes: parameter files for `papermill notebooks/train.ipynb out.ipynb -f recipes/...`."""

from pathlib import Path

import pytest
import torch
import yaml
from conftest import REPOSITORY, too_long
from lightning_fabric import Fabric

from tcl_lib import RunConfig
from tcl_lib.data.batches import training_batches
from tcl_lib.data.events.datasets import EventData
from tcl_lib.data.images import ImageData
from tcl_lib.data.parts import Split
from tcl_lib.training.build import build_network, build_optimizer
from tcl_lib.training.step import forward_and_backward

RECIPES = sorted((REPOSITORY / "recipes").glob("*.yaml"))
PARAMETERS = [path for path in RECIPES if path.stem != "campaign"]
QUICK = [path for path in PARAMETERS if path.stem.endswith("convnet")]
SLOW = [path for path in PARAMETERS if path not in QUICK]


SHAPES = {  # of an image or a frame
    "digits": (1, 8, 8),
    "cifar10": (3, 32, 32),
    "cifar100": (3, 32, 32),
    "folder": (3, 32, 32),
    "fashion_mnist": (1, 28, 28),
    "dvs_cifar10": (2, 48, 48),
    "nmnist": (2, 34, 34),
}


def made_data(config: RunConfig, samples: int):
    """Random samples in the shape of the config's dataset, as they are stored."""
    channels, height, width = SHAPES[config.dataset]
    frames = (config.time_steps,) if config.events else ()
    stored = torch.randint(5, (samples, *frames, channels, height, width), dtype=torch.uint8)
    part = Split(stored, torch.arange(samples), torch.arange(samples) % 2)
    if config.events:
        return EventData(part, part, part, ["a", "b"], config.frame_side, config.count_scale)
    return ImageData(part, part, part, ["a", "b"])


@pytest.mark.parametrize("path", [*QUICK, *too_long(*SLOW)], ids=lambda path: path.stem)
def test_recipe_trains_two_steps_on_data_of_its_shape(path):
    # in float32: without bfloat16 instructions ResNet-19 would take minutes
    small = {"loss": "tcl", "batch_size": 2, "device": "cpu", "precision": "32-true"}
    config = RunConfig(**yaml.safe_load(path.read_text()) | small)
    data = made_data(config, samples=4)
    network = build_network(config, data.input_shape, num_classes=2)
    fabric = Fabric(accelerator="cpu", precision=config.precision)
    model, optimizer = fabric.setup(network, build_optimizer(network, config))
    before = network.classifier.weight.detach().clone()
    for images, labels in training_batches(data, config, epoch=1):
        optimizer.zero_grad()
        _, loss, _ = forward_and_backward(fabric, model, images, labels, config)
        optimizer.step()
        assert loss.isfinite()
    assert not torch.equal(network.classifier.weight, before)


@pytest.mark.parametrize("path", PARAMETERS, ids=lambda path: path.stem)
def test_recipe_is_accepted_has_the_name_of_its_setting_and_says_what_it_costs(path):
    text = path.read_text()
    config = RunConfig(**yaml.safe_load(text))
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert len(comments) >= 2
    assert "costs" in " ".join(comments)
    data = Path(config.data_root).name if config.dataset == "folder" else config.dataset
    assert path.stem == f"{data}-{config.backbone}".replace("_", "-")
