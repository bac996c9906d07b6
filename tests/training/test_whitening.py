"""Whitened stems: the matrix whitens, the weights are those it stands for, a run goes on to the bit."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, load_network, train
from tcl_lib.runs import checkpoints
from tcl_lib.training.whitening import add_whitening, fit_whitening, whitening_matrix


def smooth(count=200):
    """Images whose neighbouring pixels and channels are alike, and whose mean is not 0."""
    noise = torch.randn(count, 3, 10, 14, generator=torch.Generator().manual_seed(0))
    return F.avg_pool2d(noise + noise.mean(1, keepdim=True), 3, 1) + 0.5


def patches(images):
    return F.unfold(images, 3, stride=3).transpose(1, 2).flatten(0, 1).double()


def test_whitening_matrix_makes_the_covariance_the_identity():
    images = smooth()
    matrix = whitening_matrix(images, (3, 3), share=0.0).double()
    assert_close((patches(images) @ matrix.T).T.cov(), torch.eye(27).double(), atol=1e-3, rtol=0)


def test_whitening_matrix_leaves_small_variances_small():
    images = smooth()
    variances = torch.linalg.eigvalsh(patches(images).T.cov())
    left = (patches(images) @ whitening_matrix(images, (3, 3), share=0.1).double().T).T.cov()
    expected = variances / (variances + 0.1 * variances.mean())
    assert expected.min() < 0.2
    assert_close(left, expected.diag(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("backbone", ["convnet", "vggsnn", "resnet19"])
def test_fit_whitening_gives_the_stem_the_weights_of_whitened_patches(backbone):
    config = RunConfig(backbone=backbone, whitened_stem=True, loss="ce")
    torch.manual_seed(0)
    network = build_network(config, (3, 16, 16), 10)
    torch.manual_seed(0)
    plain = build_network(RunConfig(backbone=backbone, loss="ce"), (3, 16, 16), 10)
    count = [sum(p.numel() for p in of.parameters()) for of in (network, plain)]
    assert count[0] == count[1]
    assert_close(network.stem[0].weight, plain.stem[0].weight)  # until it is fitted
    images = smooth()
    fit_whitening(network.stem, images)
    matrix = whitening_matrix(images, (3, 3))
    whitened = torch.einsum("dw,wp->dp", plain.stem[0].weight.flatten(1), matrix).view(64, 3, 3, 3)
    assert_close(network.stem[0].weight, whitened)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network.stem[0].weight, whitened)


def test_add_whitening_refuses_a_stem_without_a_convolution():
    for stem in (nn.Flatten(), nn.Conv2d(4, 4, 3, groups=2)):
        with pytest.raises(ValueError, match="whitened_stem=True: needs a backbone whose stem has a conv"):
            add_whitening(stem)


def test_load_network_has_the_whitening_of_the_run(tiny):
    run = train(tiny(whitened_stem=True))
    matrix = load_network(run).stem[0].parametrizations.weight[0].matrix
    saved = checkpoints.load(run.path / checkpoints.LAST)["network"]
    assert torch.equal(matrix, saved["stem.0.parametrizations.weight.0.matrix"])
    assert not torch.equal(matrix, torch.eye(9))
