"""Data: `load_data(config)` gives a dataset's three parts; `training_batches` what a network learns from."""

from tcl_lib.data.batches import training_batches
from tcl_lib.data.loading import load_data
from tcl_lib.data.parts import Data, Split

__all__ = ["Data", "Split", "load_data", "training_batches"]
