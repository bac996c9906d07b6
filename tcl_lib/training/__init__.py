"""Training: `train(config)` trains one run, `train_grid` many. Loaded when used: `grid` needs no torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "batchnorm",
        "build",
        "campaign",
        "collectives",
        "compilation",
        "grids",
        "health",
        "interruption",
        "loop",
        "processes",
        "records",
        "schedulers",
        "state",
        "step",
        "sums",
        "weights",
    ],
    submod_attrs={
        "build": ["build_network", "load_network"],
        "grids": ["grid", "train_grid"],
        "loop": ["measure_again", "train"],
        "weights": ["save_weights"],
    },
)
