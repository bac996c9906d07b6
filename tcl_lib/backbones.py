"""The networks: a backbone of convolutions and spiking layers, a classifier and a projection head.

Shapes: T time steps, B batch, D features, K classes, P projection. Between layers everything is
[T, B, ...]; convolutions and batch norm see time folded into the batch, [T*B, C, H, W], so that batch norm
has one set of statistics over all steps (TET, tdBN) and not one a step.
"""

from typing import NamedTuple

from torch import Tensor, nn

from tcl_lib.config import RunConfig
from tcl_lib.neurons import Spiking


class NetworkOutput(NamedTuple):
    """What a network gives for a batch, time first."""

    logits: Tensor  # [T, B, K]
    embeddings: Tensor  # [T, B, P], the projection of the features, not normalised
    features: Tensor  # [T, B, D], penultimate layer


class Folded(nn.Sequential):
    """Layers without memory, applied to all time steps at once: [T, B, ...] -> [T, B, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class SpikingNetwork(nn.Module):
    """stem -> neurons and blocks -> features -> logits and embeddings.

    The stem (convolution and batch norm) comes before the first neuron and has no memory: for an image that
    is the same at every step it runs once, and its output is the input current of every step. The body begins
    with those neurons.
    """

    def __init__(
        self,
        stem: Folded,
        body: nn.Sequential,
        features: int,
        num_classes: int,
        projection_dim: int,
        time_steps: int,
        input_shape: tuple[int, int, int],
    ):
        super().__init__()
        self.stem = stem
        self.body = body
        self.classifier = nn.Linear(features, num_classes)
        self.projection = nn.Identity()
        if projection_dim:
            self.projection = nn.Sequential(
                nn.Linear(features, features), nn.ReLU(), nn.Linear(features, projection_dim)
            )
        self.time_steps = time_steps
        self.input_shape = tuple(input_shape)

    def forward(self, images: Tensor, time_steps: int | None = None) -> NetworkOutput:
        """Run from rest over all time steps.

        Args:
            images: float [B, C, H, W], the input current at every step, or [T, B, C, H, W], a step each.
            time_steps: T for [B, C, H, W]; the network's own by default. [T, B, C, H, W] brings its T.

        Raises ValueError for another shape, or a T that is below 1 or contradicts the input's.
        """
        if images.dim() not in (4, 5) or tuple(images.shape[-3:]) != self.input_shape:
            raise ValueError(
                f"images of shape {list(images.shape)}: must be [B, {', '.join(map(str, self.input_shape))}]"
                " or the same with time steps in front"
            )
        if images.dim() == 4:
            images = images[None]
            steps = self.time_steps if time_steps is None else time_steps
        else:
            steps = len(images)
            if time_steps not in (None, steps):
                raise ValueError(f"time_steps={time_steps}: the input has {steps} steps")
        if steps < 1:
            raise ValueError(f"time_steps={steps}: must be a whole number >= 1")
        current = self.stem(images)  # [1 or T, B, C, H, W]
        neurons, *layers = self.body  # the first ones alone need to be told T
        features = neurons(current, steps)  # [T, B, C, H, W]
        for layer in layers:
            features = layer(features)  # in the end [T, B, D]
        return NetworkOutput(self.classifier(features), self.projection(features), features)


def build_network(config: RunConfig, image_shape: tuple[int, int, int], num_classes: int) -> SpikingNetwork:
    """The network of a run, freshly initialised from torch's global generator.

    Args:
        image_shape: (C, H, W) of one image or frame.
        num_classes: K.

    A projection head is built for the contrastive losses alone; else, and for projection_dim = 0, the
    embeddings are the features themselves. Raises ValueError for an image too small for the poolings.
    """
    height, width = image_shape[1:]
    smallest = SMALLEST[config.backbone]
    if min(height, width) < smallest:
        raise ValueError(
            f"backbone={config.backbone!r}: needs images of at least {smallest}x{smallest} pixels,"
            f" got {height}x{width}"
        )
    stem, body, features = BACKBONES[config.backbone](config, image_shape)
    return SpikingNetwork(
        stem,
        body,
        features,
        num_classes,
        projection_dim=config.projection_dim if config.contrastive else 0,
        time_steps=config.time_steps,
        input_shape=image_shape,
    )


def convnet(config: RunConfig, image_shape: tuple[int, int, int]):
    """64C3-AP2-64C3-AP2-128C3-128C3, global average pooling: small enough for a CPU."""
    stem, *layers = _plain(config, image_shape[0], (64, "pool", 64, "pool", 128, 128))
    return stem, nn.Sequential(*layers, Folded(nn.AdaptiveAvgPool2d(1), nn.Flatten())), 128


def vggsnn(config: RunConfig, image_shape: tuple[int, int, int]):
    """VGGSNN of TET: 64C3-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-AP2, kaiming fan-out init."""
    channels, height, width = image_shape
    plan = (64, 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512)
    stem, *layers = _plain(config, channels, plan, bias=True)
    for module in nn.ModuleList([stem, *layers]).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    body = nn.Sequential(*layers, Folded(nn.AvgPool2d(2), nn.Flatten()))
    return stem, body, 512 * (height // 16) * (width // 16)


def _plain(config: RunConfig, channels: int, plan: tuple, bias: bool = False) -> list[nn.Module]:
    """Stages of conv-BN and neurons; in the plan a number is a stage's channels, "pool" halves the image."""
    layers, pooling = [], []
    for width in plan:
        if width == "pool":
            pooling = [nn.AvgPool2d(2)]
        else:
            layers += [Folded(*pooling, *_conv_bn(channels, width, bias=bias)), _neurons(config)]
            channels, pooling = width, []
    return layers


def resnet19(config: RunConfig, image_shape: tuple[int, int, int]):
    """ResNet-19 of TET: stem, [3, 3, 2] blocks of 128, 256 and 512 channels, FC-256 with neurons."""
    stem = Folded(*_conv_bn(image_shape[0], config.stem_width))
    layers, wide = [_neurons(config)], config.stem_width
    for width, blocks, stride in ((128, 3, 1), (256, 3, 2), (512, 2, 2)):
        for block in range(blocks):
            layers.append(ResidualBlock(config, wide, width, stride if block == 0 else 1))
            wide = width
    hidden = nn.Linear(wide, 256)
    # Pooled spikes are small and no batch norm follows: with PyTorch's own start (a deviation of
    # 0.6 / sqrt(wide)) not one of these neurons fires, and nothing is learned for epochs.
    nn.init.normal_(hidden.weight, std=4 / wide**0.5)
    pooled = Folded(nn.AdaptiveAvgPool2d(1), nn.Flatten(), hidden)
    return stem, nn.Sequential(*layers, pooled, _neurons(config)), 256


class ResidualBlock(nn.Module):
    """conv-BN-neuron-conv-BN, the shortcut added, neuron: [T, B, C, H, W] -> [T, B, width, H', W']."""

    def __init__(self, config: RunConfig, channels: int, width: int, stride: int):
        super().__init__()
        self.residual = nn.Sequential(
            Folded(*_conv_bn(channels, width, stride=stride)),
            _neurons(config),
            Folded(*_conv_bn(width, width)),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = Folded(*_conv_bn(channels, width, kernel=1, stride=stride))
        self.neurons = _neurons(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.neurons(self.residual(x) + self.shortcut(x))


def _conv_bn(channels: int, width: int, kernel: int = 3, stride: int = 1, bias: bool = False):
    """Convolution keeping the size at stride 1, and batch norm."""
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=bias)
    return conv, nn.BatchNorm2d(width)


def _neurons(config: RunConfig) -> Spiking:
    return Spiking(config.neuron, config.decay, config.v_th)


BACKBONES = {"convnet": convnet, "vggsnn": vggsnn, "resnet19": resnet19}
# The smallest side of an image that the poolings leave a pixel of.
SMALLEST = {"convnet": 4, "vggsnn": 16, "resnet19": 1}
