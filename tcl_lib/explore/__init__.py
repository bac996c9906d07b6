"""Two trained networks and a test sample, side by side: what `notebooks/explore.ipynb` shows."""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
    submod_attrs={"app": ["Explorer"], "models": ["Model", "load_models"]},
)
