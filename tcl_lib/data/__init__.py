"""Data: `load_data(config)` gives a dataset's three parts; `training_batches` what a network learns from.

Loaded when used: recordings are read in many processes that need no torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "batches": ["training_batches"],
        "loading": ["load_data"],
        "parts": ["Data", "Split"],
    },
)
