"""Temporal contrastive learning for spiking neural networks (Qiu et al., arXiv 2305.13909).

Nothing is imported until it is used: `import tcl_lib` costs no torch.
"""

from importlib import import_module

_HOME = {
    "RunConfig": "config",
    "load_data": "data",
    "build_network": "backbones",
    "train": "training",
    "grid": "sweep",
    "train_grid": "sweep",
    "Run": "runs",
    "load_run": "runs",
    "load_runs": "runs",
}
_MODULES = {
    "backbones",
    "benchmark",
    "checkpoints",
    "config",
    "data",
    "environment",
    "evaluation",
    "events",
    "figures",
    "files",
    "losses",
    "machine",
    "neurons",
    "notebooks",
    "operations",
    "projection",
    "runs",
    "similarity",
    "summary",
    "sweep",
    "training",
}

__all__ = sorted(_HOME) + sorted(_MODULES)


def __getattr__(name: str):
    if name not in _HOME and name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(f"{__name__}.{_HOME.get(name, name)}")
    except (ImportError, OSError, RuntimeError):
        from tcl_lib.environment import check_torch

        check_torch()  # says in one line if it is that
        raise
    return getattr(module, name) if name in _HOME else module


def __dir__():
    return __all__
