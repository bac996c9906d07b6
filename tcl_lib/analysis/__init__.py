"""What is measured on a trained network, and what is computed from tables of runs.

Loaded when used: only `activity`, `evaluation` and `recalibration` import torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["activity", "evaluation", "recalibration", "similarity", "statistics", "tables", "tsne"],
)
