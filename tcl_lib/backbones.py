"""The networks: a backbone of convolutions and spiking layers, a classifier and a projection head.

Shapes: T time steps, B batch, D features, K classes, P projection. Between layers everything is [T, B, ...].
Convolutions and batch norm see time folded into the batch, [T*B, C, H, W]: batch norm has one set of
statistics over all steps (TET, tdBN), not one per step.
"""

from typing import NamedTuple

from torch import Tensor, nn

from tcl_lib.neurons import Neuron, Spiking, lif_box_neuron


class NetworkOutput(NamedTuple):
    """The output of a network for a batch, time first."""

    logits: Tensor  # [T, B, K]
    embeddings: Tensor  # [T, B, P], projection head on the features, not normalised
    features: Tensor  # [T, B, D], penultimate layer


class TimeDistributed(nn.Sequential):
    """Layers without state, applied to all time steps at once: [T, B, ...] -> [T, B, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


class SpikingNetwork(nn.Module):
    """A stem, spiking layers, a classifier and a projection head.

    The stem (convolution and batch norm) comes before the first neurons and has no state. For an image that
    is the same at every step it runs once, and its output is the input current of every step.

    Args:
        stem: layers before the first neurons.
        body: spiking layers and the layers between them; the first is a `Spiking`, the last gives [T, B, D].
        features: D.
        num_classes: K.
        input_shape: (C, H, W) of one image or frame.
        time_steps: T for a static image.
        projection_dim: P; 0 for no head, then the embeddings are the features.
    """

    def __init__(
        self,
        stem: nn.Module,
        body: nn.Sequential,
        features: int,
        num_classes: int,
        input_shape: tuple[int, int, int],
        time_steps: int = 4,
        projection_dim: int = 0,
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
        """Run all time steps, from a state at rest.

        Args:
            images: float [B, C, H, W], the same image at every step, or [T, B, C, H, W], a frame a step.
            time_steps: T for [B, C, H, W]; the network's own by default. [T, B, C, H, W] brings its T.

        Raises ValueError for another shape, or a T that is below 1 or contradicts the input's.
        """
        steps = self.steps_of(images, time_steps)
        current = self.stem(images if images.dim() == 5 else images[None])  # [1 or T, B, C, H, W]
        neurons, *layers = self.body
        features = neurons(current, steps)  # only the first needs T: a static image arrives as one step
        for layer in layers:
            features = layer(features)  # in the end [T, B, D]
        return NetworkOutput(self.classifier(features), self.projection(features), features)

    def steps_of(self, images: Tensor, time_steps: int | None = None) -> int:
        """Return T for arguments of `forward`, or raise its errors."""
        if images.dim() not in (4, 5) or tuple(images.shape[-3:]) != self.input_shape:
            raise ValueError(
                f"images of shape {list(images.shape)}: must be [B, {', '.join(map(str, self.input_shape))}]"
                " or the same with time steps in front"
            )
        steps = self.time_steps if time_steps is None else time_steps
        if images.dim() == 5:
            steps = len(images)
            if time_steps not in (None, steps):
                raise ValueError(f"time_steps={time_steps}: the input has {steps} steps")
        if steps < 1:
            raise ValueError(f"time_steps={steps}: must be a whole number >= 1")
        return steps


LIF_BOX = lif_box_neuron()  # the default: decay 0.5, threshold 1
ImageSize = int | tuple[int, int]  # the side of a square, or (height, width), in pixels


def convnet(
    channels: int,
    image_size: ImageSize,
    num_classes: int = 10,
    neuron: Neuron = LIF_BOX,
    stem_width: int = 64,
    **options: int,
) -> SpikingNetwork:
    """Return 64C3-AP2-64C3-AP2-128C3-128C3, global average pooling: small enough for a CPU.

    Args:
        channels: C of the input.
        image_size: its side or (height, width), at least 4 pixels.
        num_classes: K.
        neuron: of every spiking layer.
        stem_width: channels of the stem and the second layer; the last two have twice as many.
        options: `time_steps` and `projection_dim` of `SpikingNetwork`.

    Raises ValueError for an image too small for the poolings.
    """
    size = _checked_size("convnet", image_size, smallest=4)
    features = 2 * stem_width
    plan = (stem_width, "pool", stem_width, "pool", features, features)
    stem, *layers = _conv_layers(channels, plan, neuron)
    body = nn.Sequential(*layers, TimeDistributed(nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    return SpikingNetwork(stem, body, features, num_classes, (channels, *size), **options)


def vggsnn(
    channels: int, image_size: ImageSize, num_classes: int = 10, neuron: Neuron = LIF_BOX, **options: int
) -> SpikingNetwork:
    """Return VGGSNN of TET (Deng et al. 2022), with kaiming fan-out initialisation.

    64C3-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-AP2. Arguments and errors as in `convnet`,
    without `stem_width`; images have at least 16 pixels a side.
    """
    height, width = _checked_size("vggsnn", image_size, smallest=16)
    plan = (64, 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512)
    stem, *layers = _conv_layers(channels, plan, neuron, bias=True)
    for module in nn.ModuleList([stem, *layers]).modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    body = nn.Sequential(*layers, TimeDistributed(nn.AvgPool2d(2), nn.Flatten()))
    features = 512 * (height // 16) * (width // 16)
    return SpikingNetwork(stem, body, features, num_classes, (channels, height, width), **options)


def resnet19(
    channels: int,
    image_size: ImageSize,
    num_classes: int = 10,
    neuron: Neuron = LIF_BOX,
    stem_width: int = 64,
    **options: int,
) -> SpikingNetwork:
    """Return ResNet-19 of TET: stem, [3, 3, 2] blocks of 128, 256 and 512 channels, FC-256 with neurons.

    Arguments as in `convnet`; `stem_width` is the number of channels of the stem.
    """
    size = _checked_size("resnet19", image_size, smallest=1)
    stem = TimeDistributed(*_conv_bn(channels, stem_width))
    layers, width_before = [Spiking(neuron)], stem_width
    for width, blocks, stride in ((128, 3, 1), (256, 3, 2), (512, 2, 2)):
        for block in range(blocks):
            layers.append(ResidualBlock(width_before, width, stride if block == 0 else 1, neuron))
            width_before = width
    hidden = nn.Linear(width_before, 256)
    # Pooled spikes are small and no batch norm follows: with PyTorch's default (a deviation of
    # 0.6 / sqrt(512)) none of these neurons fires, and nothing is learned for epochs.
    nn.init.normal_(hidden.weight, std=4 / width_before**0.5)
    pooled = TimeDistributed(nn.AdaptiveAvgPool2d(1), nn.Flatten(), hidden)
    body = nn.Sequential(*layers, pooled, Spiking(neuron))
    return SpikingNetwork(stem, body, 256, num_classes, (channels, *size), **options)


class ResidualBlock(nn.Module):
    """conv-BN-neuron-conv-BN, the shortcut added, neuron: [T, B, C, H, W] -> [T, B, width, H', W']."""

    def __init__(self, channels: int, width: int, stride: int, neuron: Neuron = LIF_BOX):
        super().__init__()
        self.residual = nn.Sequential(
            TimeDistributed(*_conv_bn(channels, width, stride=stride)),
            Spiking(neuron),
            TimeDistributed(*_conv_bn(width, width)),
        )
        self.shortcut = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = TimeDistributed(*_conv_bn(channels, width, kernel=1, stride=stride))
        self.neurons = Spiking(neuron)

    def forward(self, x: Tensor) -> Tensor:
        return self.neurons(self.residual(x) + self.shortcut(x))


def _checked_size(backbone: str, image_size: ImageSize, smallest: int) -> tuple[int, int]:
    """Return (height, width). Raises ValueError where the poolings would leave no pixel."""
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if min(height, width) < smallest:
        raise ValueError(
            f"backbone={backbone!r}: needs images of at least {smallest}x{smallest} pixels,"
            f" got {height}x{width}"
        )
    return height, width


def _conv_layers(channels: int, plan: tuple, neuron: Neuron, bias: bool = False) -> list[nn.Module]:
    """Return conv-BN and neurons for each number of channels in the plan; "pool" halves the image."""
    layers, pooling = [], []
    for width in plan:
        if width == "pool":
            pooling = [nn.AvgPool2d(2)]
        else:
            layers += [TimeDistributed(*pooling, *_conv_bn(channels, width, bias=bias)), Spiking(neuron)]
            channels, pooling = width, []
    return layers


def _conv_bn(channels: int, width: int, kernel: int = 3, stride: int = 1, bias: bool = False):
    """Return a convolution that keeps the size at stride 1, and its batch norm."""
    conv = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=bias)
    return conv, nn.BatchNorm2d(width)
