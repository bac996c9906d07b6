"""What a run is: `RunConfig`, what it can name, and the rules of its parameters. Imports no torch."""

import pkgutil

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=[module.name for module in pkgutil.iter_modules(__path__)],
    submod_attrs={
        "registration": ["register_backbone", "register_loss"],
        "registry": ["import_plugin"],
        "run_config": ["RunConfig"],
    },
)
