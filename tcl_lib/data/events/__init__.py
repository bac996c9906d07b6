"""Event cameras, from recordings to frames of counted events.

`datasets` and `augment` import torch, the others do not: they run in many processes.
"""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
)
