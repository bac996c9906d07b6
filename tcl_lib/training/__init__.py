"""Training: `train(config)` trains one run, `train_grid` many. Loaded when used: `grid` needs no torch."""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
    submod_attrs={
        "build": ["build_network", "load_network"],
        "grids": ["grid", "train_grid"],
        "loop": ["measure_again", "train"],
        "weights": ["save_weights"],
    },
)
