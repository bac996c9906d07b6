"""Batch norm over the samples of all processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


class SyncBatchNorm(_BatchNorm):
    """What `torch.nn.SyncBatchNorm` does on GPUs alone, for processors; not fast."""

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        dims = [dim for dim in range(x.dim()) if dim != 1]
        shape = [1, -1, *(1 for _ in dims[1:])]
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        here = values.new_tensor([values.numel() / values.shape[1]])
        *total, count = all_reduce(torch.cat([values.sum(dims), here])).split([values.shape[1], 1])
        mean = total[0] / count
        apart = values - mean.view(shape)
        variance = all_reduce(apart.square().sum(dims)) / count
        if self.track_running_stats:
            with torch.no_grad():
                self.num_batches_tracked += 1
                share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
                self.running_mean.lerp_(mean, share)
                self.running_var.lerp_(variance * count / (count - 1), share)
        scale = (variance + self.eps).rsqrt()
        if not self.affine:
            return (apart * scale.view(shape)).to(x.dtype)
        return (apart * (self.weight * scale).view(shape) + self.bias.view(shape)).to(x.dtype)


def synchronise(network: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with batch norm that, in training, joins the samples of all processes."""
    if device.type != "cpu":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for layer in network.modules():
        if isinstance(layer, _BatchNorm):
            layer.__class__ = SyncBatchNorm
    return network


@contextmanager
def alone(network: nn.Module) -> Iterator[None]:
    """While open, one process uses the network without the others."""
    layers = [layer for layer in network.modules() if isinstance(layer, SyncBatchNorm | nn.SyncBatchNorm)]
    for layer in layers:
        layer.forward = partial(_BatchNorm.forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward
