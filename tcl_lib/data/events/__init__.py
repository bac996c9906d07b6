"""Event cameras, from recordings to frames of counted events.

`datasets` and `augment` import torch, the others do not: they run in many processes.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[
        "aedat4",
        "augment",
        "cache",
        "datasets",
        "frames",
        "published",
        "recordings",
        "simulated",
        "splits",
    ],
)
