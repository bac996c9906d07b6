"""A stem that learns its weights in the basis of whitened image patches.

Neighbouring pixels are alike, so plain gradients move a stem mostly along the mean of a patch. In the basis
of whitened patches all directions have the same scale. Fast training of ordinary networks fixes a first layer
of whitening filters (Page 2019; Jordan 2024, arXiv 2404.00498). Here the whitening is part of the stem's
weights: the network has no further layer, and can compute what it could before.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

SAMPLES = 500  # training samples whose patches are whitened
# Added to the variances, as a share of their mean: small ones are noise, not to be blown up.
SHARE = 0.05


class Whitening(nn.Module):
    """A convolution's weights for patches, from those for whitened patches: [D, C, k, k] -> the same."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.register_buffer("matrix", torch.eye(convolution.weight[0].numel()))  # [C*k*k, C*k*k]

    def forward(self, weight: Tensor) -> Tensor:
        """The product is in float32, also under autocast: large entries of the matrix cancel."""
        with torch.autocast(weight.device.type, enabled=False):
            return (weight.flatten(1) @ self.matrix).view_as(weight)


def add_whitening(stem: nn.Module) -> None:
    """Have the stem's convolution learn its weights for whitened patches; `fit_whitening` says which.

    Raises ValueError for a stem without a convolution, or with groups.
    """
    convolution = _convolution(stem)
    if convolution is None or convolution.groups > 1:
        raise ValueError("whitened_stem=True: needs a backbone whose stem has a convolution without groups")
    parametrize.register_parametrization(convolution, "weight", Whitening(convolution))


def fit_whitening(stem: nn.Module, images: Tensor) -> None:
    """Whiten the patches of these images or frames, float [..., C, H, W], in a stem with whitening."""
    convolution = _convolution(stem)
    matrix = whitening_matrix(images.flatten(0, -4), convolution.kernel_size)
    convolution.parametrizations.weight[0].matrix.copy_(matrix)


def _convolution(stem: nn.Module) -> nn.Conv2d | None:
    return next((layer for layer in stem.modules() if isinstance(layer, nn.Conv2d)), None)


def whitening_matrix(images: Tensor, kernel_size: tuple[int, int], share: float = SHARE) -> Tensor:
    """Return the PCA whitening of the patches of images: [N, C, H, W] -> [D, D], D = C * kernel area.

    Row i is e_i / sqrt(v_i + share * mean of v), with the eigenvectors e_i and eigenvalues v_i of the
    covariance of patches that do not overlap.
    """
    patches = F.unfold(images, kernel_size, stride=kernel_size).transpose(1, 2).flatten(0, 1).double()
    variances, directions = torch.linalg.eigh(patches.T.cov())
    return (directions / (variances + share * variances.mean()).sqrt()).T.float()
