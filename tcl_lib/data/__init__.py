"""Data: `load_data(config)` gives a dataset's three parts; `training_batches` what a network learns from."""

from tcl_lib.data.batches import normalise, preview, training_batches
from tcl_lib.data.images import ImageData, Split, load_data

__all__ = ["ImageData", "Split", "load_data", "normalise", "preview", "training_batches"]
