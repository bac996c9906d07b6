"""Data: `load_data(config)` returns a dataset in three parts, `training_batches` the batches of an epoch.

Submodules are imported when they are used, as the processes that read recordings need no torch.
"""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
    submod_attrs={
        "batches": ["training_batches"],
        "loading": ["load_data"],
        "parts": ["Data", "Split"],
    },
)
