"""What is measured on a trained network, and what is computed from tables of runs.

Loaded when used: `claims`, `policies`, `run_data`, `similarity`, `statistics`, `tables` and `tsne` import
no torch.
"""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
    submod_attrs={"policies": ["anytime", "frontier"], "stopping": ["stop_when_sure"]},
)
