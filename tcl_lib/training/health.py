"""What stops a run that cannot succeed, and the words for it."""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from tcl_lib.config import RunConfig

log = logging.getLogger(__name__)


def check_epoch(network: nn.Module, means: dict[str, float], epoch: int, config: RunConfig) -> None:
    """Raise FloatingPointError for weights or logits that are not finite, RuntimeError for a dead network.

    A weight that is not a number silences its neuron and leaves the loss finite, so all weights are checked.
    """
    finite = all(parameter.isfinite().all() for parameter in network.parameters())
    if not finite or not math.isfinite(means["validation_cross_entropy"]):
        raise FloatingPointError(
            f"the weights or logits are no longer finite after epoch {epoch}, whose mean loss was"
            f" {means['loss']:.4g}. Try a lower lr ({config.lr})"
        )
    rates = firing_rates(means)
    if rates[-1] == 0:
        raise RuntimeError(
            f"the network is dead: layer {len(rates)} of {len(rates)} fired no spike in epoch {epoch}"
            f" (v_th={config.v_th}, decay={config.decay}, lr={config.lr})"
        )


def firing_rates(means: dict[str, float]) -> list[float]:
    """Return the firing rate of every layer from an epoch's metrics."""
    return [rate for name, rate in means.items() if name.startswith("firing_rate_")]


def report_firing(rates: list[float], config: RunConfig, verbose: bool) -> None:
    """Log the firing rates of the first step if verbose; warn of layers that fired no spike."""
    if verbose:
        listed = ", ".join(f"{rate:.3f}" for rate in rates)
        log.info("firing rates in the first step, layer 1 to %d: %s", len(rates), listed)
    silent = [layer for layer, rate in enumerate(rates, start=1) if rate == 0]
    if silent:
        warnings.warn(
            f"layers {silent} fired no spike in the first step and may never do;"
            f" a lower v_th ({config.v_th}) or a higher decay ({config.decay}) helps",
            stacklevel=2,
        )


def warn_of_chance(accuracy: float, labels: Tensor, config: RunConfig) -> None:
    """Warn of a validation accuracy (in percent) that guessing the largest class reaches, too."""
    share = labels.bincount().max().item() / len(labels)
    noise = 2 * math.sqrt(share * (1 - share) / len(labels))
    guessed = share + noise if share + noise < 1 else share  # few samples cannot tell more
    if accuracy <= 100 * guessed:
        warnings.warn(
            f"the network learned nothing: its validation accuracy of {accuracy:.1f} % is that of guessing."
            f" Try another lr ({config.lr}), more epochs ({config.epochs}) or more data",
            stacklevel=2,
        )


@contextmanager
def memory_errors(config: RunConfig) -> Iterator[None]:
    """Raise whatever torch raises when memory runs out as a MemoryError that says what was tried."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # torch.OutOfMemoryError is for CUDA only; elsewhere torch raises plain RuntimeErrors. With
        # `cudnn.benchmark`, a convolution says that no engine is left when each of them lacked memory.
        signs = ("out of memory", "CPUAllocator", "ALLOC_FAILED", "unable to find an engine")
        if not isinstance(error, MemoryError) and not any(sign in str(error) for sign in signs):
            raise
        views = " in two views" if config.num_views == 2 else ""
        raise MemoryError(
            f"out of memory with batch_size={config.batch_size}{views} and time_steps={config.time_steps}"
            f" ({config.backbone}, micro_batches={config.micro_batches}): lower batch_size or time_steps, or"
            " raise micro_batches"
        ) from error
