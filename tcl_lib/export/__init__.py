"""A trained network or run for others: NIR, ONNX and torch.export, and a folder to share."""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
    submod_attrs={
        "formats": ["to_nir", "to_onnx", "to_torch_export"],
        "sharing": ["bundle"],
    },
)
