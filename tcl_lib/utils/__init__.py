"""Files, devices, provenance and notebooks: what any study needs, nothing of this one."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submodules=["checks", "devices", "files", "notebooks", "paths", "progress", "provenance", "words"],
)
