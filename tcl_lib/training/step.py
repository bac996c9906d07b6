"""One training step up to the gradients, on the whole batch or in parts. Shapes: V views, B samples."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tcl_lib.backbones import NetworkOutput
from tcl_lib.config import RunConfig
from tcl_lib.training.build import loss_terms, total_loss


def forward_and_backward(
    fabric: Fabric,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: RunConfig,
    time_steps: int | None = None,
    whole: Callable[[NetworkOutput], NetworkOutput] = lambda output: output,
) -> tuple[NetworkOutput, Tensor, dict[str, Tensor]]:
    """Add the gradients of a batch's loss to the parameters; return the output, the loss and its terms.

    Args:
        images: [V*B, C, H, W] or [T, V*B, C, H, W], view by view.
        labels: [B].
        time_steps: T for images; the network's own by default.
        whole: makes the output for the whole batch of that for the images, which may be a part of it; the
            labels are those of the whole.

    With `micro_batches` > 1 the network sees the batch in that many parts, and memory holds the activations
    of one part. The loss is still that of the whole batch. A first pass without activations gives the
    gradient of the loss with respect to the outputs; a second pass carries it through each part (gradient
    cache: Gao et al. 2021, arXiv 2101.06983). Batch norm sees one part at a time.
    """
    if config.micro_batches == 1:
        output = whole(model(images, time_steps))
        terms = loss_terms(output, labels, config)
        loss = total_loss(terms, config)
        fabric.backward(loss)
        return output, loss, terms

    # Batch norm needs two samples, and all processes the same number of parts.
    fewest = config.num_views * (len(labels) // config.processes)
    count = max(1, min(config.micro_batches, fewest // 2))
    parts = images.tensor_split(count, dim=-4)
    with torch.no_grad():
        outputs = [model(part, time_steps) for part in parts]
    here = NetworkOutput(*(torch.cat(of, dim=1).requires_grad_() for of in zip(*outputs, strict=True)))
    output = whole(here)
    terms = loss_terms(output, labels, config)
    loss = total_loss(terms, config)
    loss.backward()
    sizes = [part.shape[-4] for part in parts]
    wanted = [index for index, of in enumerate(here) if of.grad is not None]
    gradients = [here[index].grad.split(sizes, dim=1) for index in wanted]
    with _running_statistics_kept(model):
        for number, (part, *upstream) in enumerate(zip(parts, *gradients, strict=True), start=1):
            with fabric.no_backward_sync(model, enabled=number < count):
                again = model(part, time_steps)
                # its gradient is the gradient of the loss with respect to this part
                fabric.backward(sum((again[i] * g).sum() for i, g in zip(wanted, upstream, strict=True)))
    return output, loss, terms


@contextmanager
def _running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """While open, batch norm normalises as in training but does not update its running statistics."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
