"""Temporal contrastive learning for spiking neural networks (Qiu et al., arXiv 2305.13909).

Everything is imported when it is used: `import tcl_lib` loads no torch.
"""

import pkgutil

import lazy_loader

_getattr, __dir__, __all__ = lazy_loader.attach(
    __name__,
    # train.py is a command; the attribute is the function
    submodules=[module.name for module in pkgutil.iter_modules(__path__) if module.name != "train"],
    submod_attrs={
        "config": ["RunConfig", "import_plugin", "register_backbone", "register_loss"],
        "export": ["bundle"],
        "stepwise": ["StepwiseNetwork"],
        "data": ["load_data"],
        "runs": ["Run", "load_run", "load_runs"],
        "training": [
            *("build_network", "load_network", "save_weights"),
            *("grid", "measure_again", "train", "train_grid"),
        ],
    },
)


def __getattr__(name: str):
    try:
        return _getattr(name)
    except (ImportError, OSError, RuntimeError):
        from tcl_lib.utils.provenance import check_torch

        check_torch()  # the reason may be a torch and a torchvision that do not fit
        raise
