"""What turns a `RunConfig` into a network, a loss, an optimizer and a learning rate.

Shapes: T time steps, V views, B samples, K classes.
"""

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tcl_lib.backbones import BACKBONES, NetworkOutput, SpikingNetwork
from tcl_lib.config import RunConfig
from tcl_lib.losses import ce, per_step_ce, temporal_contrastive_loss
from tcl_lib.neurons import NEURONS
from tcl_lib.runs import Run, checkpoints, load_run
from tcl_lib.runs.layout import CHECKPOINT


def build_network(config: RunConfig, image_shape: tuple[int, int, int], num_classes: int) -> SpikingNetwork:
    """Return the network of a run, freshly initialised from torch's global generator.

    Args:
        image_shape: (C, H, W) of one image or frame.
        num_classes: K.

    Only the contrastive losses get a projection head; without one the embeddings are the features. Raises
    ValueError for an image too small for the backbone.
    """
    channels, *image_size = image_shape
    options = {"time_steps": config.time_steps, "neuron": NEURONS[config.neuron](config.decay, config.v_th)}
    if config.contrastive:
        options["projection_dim"] = config.projection_dim
    if config.backbone == "resnet19":
        options["stem_width"] = config.stem_width
    return BACKBONES[config.backbone](channels, image_size, num_classes, **options)


def load_network(run: Run | str | Path) -> SpikingNetwork:
    """Return the trained network of a finished run, on the CPU, in evaluation mode.

    It computes in float32; for the numbers of a run in bf16-mixed, use it inside `torch.autocast`.
    Raises FileNotFoundError where the checkpoint was not kept, ValueError where it does not fit.
    """
    run = run if isinstance(run, Run) else load_run(run)
    network = build_network(run.config, run.image_shape, len(run.classes))
    path = run.path / CHECKPOINT
    state = checkpoints.load(path)
    try:
        network.load_state_dict(state["network"])
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: belongs to another run") from error
    return network.eval()


def build_optimizer(network: nn.Module, config: RunConfig) -> Optimizer:
    """Return SGD with Nesterov momentum, or AdamW; no weight decay on norms and biases."""
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    nesterov = config.momentum > 0
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)


def learning_rate(step: int, steps_per_epoch: int, config: RunConfig) -> float:
    """Return the rate of a step (from 0): a linear rise over the warm-up epochs, then a cosine to 0."""
    warmup, total = (epochs * steps_per_epoch for epochs in (config.warmup_epochs, config.epochs))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


# The terms of a loss, not weighted; what a run minimises is `total_loss`.
Terms = dict[str, Tensor]


def _cross_entropy(output: NetworkOutput, labels: Tensor, config: RunConfig) -> Terms:
    return {"cross_entropy": ce(output.logits, labels.repeat(config.num_views))}


def _per_step_cross_entropy(output: NetworkOutput, labels: Tensor, config: RunConfig) -> Terms:
    return {"cross_entropy": per_step_ce(output.logits, labels.repeat(config.num_views), config.tet_lambda)}


def _contrastive(output: NetworkOutput, labels: Tensor, config: RunConfig) -> Terms:
    term = {"mean": _cross_entropy, "per_step": _per_step_cross_entropy}[config.ce_term]
    terms = term(output, labels, config)
    embeddings = output.embeddings.unflatten(1, (config.num_views, len(labels)))  # [T, V, B, P]
    contrastive = temporal_contrastive_loss(embeddings, labels, config.temperature, config.relations)
    return terms | {"contrastive": contrastive}


# Name -> function of the network's output for [V*B] images (view by view), the labels [B] and the config.
LOSSES: dict[str, Callable[[NetworkOutput, Tensor, RunConfig], Terms]] = {
    "ce": _cross_entropy,
    "per_step_ce": _per_step_cross_entropy,
    "tcl": _contrastive,
    "stcl": _contrastive,  # by default on two views of every sample
}


def total_loss(terms: Terms, config: RunConfig) -> Tensor:
    """Return cross_entropy + contrastive_weight * contrastive, a scalar."""
    if "contrastive" not in terms:
        return terms["cross_entropy"]
    return terms["cross_entropy"] + config.contrastive_weight * terms["contrastive"]
