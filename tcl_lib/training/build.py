"""What turns a `RunConfig` into a network, a loss, an optimizer and a learning rate.

Shapes: T time steps, V views, B samples, K classes.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from tcl_lib.backbones import NetworkOutput, SpikingNetwork
from tcl_lib.config import RunConfig
from tcl_lib.config.registry import BACKBONES, function_of
from tcl_lib.neurons import NEURONS
from tcl_lib.runs import Run, checkpoints, life, load_run
from tcl_lib.runs.layout import CHECKPOINT, WEIGHTS
from tcl_lib.training import weights
from tcl_lib.training.muon import Muon
from tcl_lib.training.whitening import add_whitening


def build_network(config: RunConfig, image_shape: tuple[int, int, int], num_classes: int) -> SpikingNetwork:
    """Return the network of a run, freshly initialised from torch's global generator.

    Args:
        image_shape: (C, H, W) of one image or frame.
        num_classes: K.

    Unless the loss uses embeddings, there is no projection head and they are the features. Raises ValueError
    for an image too small for the backbone, and for a backbone of one's own that ignores an argument.
    """
    channels, *image_size = image_shape
    options = {"time_steps": config.time_steps, "neuron": NEURONS[config.neuron](config.decay, config.v_th)}
    if "embeddings" in config.arguments:
        options["projection_dim"] = config.projection_dim
    backbone = BACKBONES[config.backbone]
    options |= {name: getattr(config, name) for name in backbone.parameters}
    network = function_of(backbone)(
        channels=channels, image_size=image_size, num_classes=num_classes, **options
    )
    if not isinstance(network, SpikingNetwork):
        raise ValueError(f"backbone={config.backbone!r}: must return a SpikingNetwork")
    kept = {
        "time_steps": network.time_steps == config.time_steps,
        "num_classes": getattr(network.classifier, "out_features", num_classes) == num_classes,
        "projection_dim": isinstance(network.projection, nn.Identity) != bool(options.get("projection_dim")),
    }
    for name, is_kept in kept.items():
        if not is_kept:
            raise ValueError(f"backbone={config.backbone!r}: ignores {name}; hand it on to SpikingNetwork")
    if config.whitened_stem:
        add_whitening(network.stem)
    return network


def load_network(run: Run | str | Path) -> SpikingNetwork:
    """Return the trained network of a finished run, on the CPU, in evaluation mode.

    Where no checkpoint was kept, it has the weights of weights.safetensors, which are rounded to float16. It
    computes in float32; for the numbers of a run in bf16-mixed, use it inside `torch.autocast`. Raises
    FileNotFoundError where neither file was kept, ValueError where the file is damaged or not the run's.
    """
    run = run if isinstance(run, Run) else load_run(run)
    network = build_network(run.config, run.image_shape, len(run.classes))
    path = run.path / CHECKPOINT
    if path.exists() or not (run.path / WEIGHTS).exists():
        state = checkpoints.load(path)
        life.check_checkpoint(path, state, run.config, run.description["data"])
        tensors = state["network"]
    else:
        path, tensors = run.path / WEIGHTS, weights.load(run)
    try:
        network.load_state_dict(tensors)
    except (KeyError, TypeError, RuntimeError) as error:
        raise ValueError(f"{path}: does not fit this run; overwrite=True trains it anew") from error
    return network.eval()


def build_optimizer(network: nn.Module, config: RunConfig) -> Optimizer:
    """Return SGD with Nesterov momentum, AdamW, or Muon for the convolutions after the stem beside SGD.

    Weight decay is that of matrices outside of Muon; norms and biases have none. Raises ValueError for Muon
    where there is no such convolution.
    """
    groups = [
        {"params": [p for p in network.parameters() if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in network.parameters() if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.lr)
    if config.optimizer == "muon":
        convolutions = [m.weight for m in network.body.modules() if isinstance(m, nn.Conv2d)]
        convolutions = list(dict.fromkeys(convolutions))  # two may share their weight
        if not convolutions:
            backbone = f"backbone={config.backbone!r} has no convolution after its stem"
            raise ValueError(f"optimizer='muon': {backbone}; use sgd or adamw")
        decayed = groups[0]["params"]
        groups[0]["params"] = [p for p in decayed if not any(p is weight for weight in convolutions)]
        groups.append({"params": convolutions, "weight_decay": 0.0, "orthogonal": True})
        dtype = torch.bfloat16 if config.precision == "bf16-mixed" else torch.float32
        return Muon(groups, config.lr, config.momentum, dtype)
    nesterov = config.momentum > 0
    return torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum, nesterov=nesterov)


def learning_rate(step: int, steps_per_epoch: int, config: RunConfig) -> float:
    """Return the rate of a step (from 0): a linear rise over the warm-up epochs, then a cosine to 0."""
    warmup, total = (epochs * steps_per_epoch for epochs in (config.warmup_epochs, config.epochs))
    if step < warmup:
        return config.lr * (step + 1) / warmup
    return config.lr * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def loss_terms(output: NetworkOutput, labels: Tensor, config: RunConfig) -> dict[str, Tensor]:
    """Return the terms of a run's loss, not weighted, by their names in metrics.csv; the cross-entropy first.

    Args:
        output: of the network for [V*B] images, view by view.
        labels: [B].
    """
    views = config.num_views, len(labels)
    values = config.loss_parameters | {"labels": labels}
    values |= {
        name: getattr(output, name).unflatten(1, views)
        for name in {"logits", "embeddings"} & config.arguments
    }
    found = {}
    for term in config.terms:
        if config.temperature is None:
            values["temperature"] = term.temperature
        arguments = {name: values[name] for name in term.arguments if values[name] is not None}
        found[term.column] = function_of(term)(**arguments)
    return found


def total_loss(terms: dict[str, Tensor], config: RunConfig) -> Tensor:
    """Return what a run minimises: the cross-entropy + `temporal_weight` * the temporal term, a scalar."""
    total, *temporal = terms.values()
    for term in temporal:
        total = total + config.loss_parameters["temporal_weight"] * term
    return total
