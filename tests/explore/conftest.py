"""What the tests of the explorer share: two networks of digits and two of moving digits, hardly trained."""

import shutil

import pytest
from conftest import tiny_in

from tcl_lib import load_runs, save_weights, train
from tcl_lib.explore import load_models
from tcl_lib.runs import layout


@pytest.fixture(scope="session")
def small_runs(tmp_path_factory):
    """A folder of runs of both datasets; one has no checkpoint, and one neither that nor weights."""
    folder = tmp_path_factory.mktemp("explore")
    config = tiny_in(folder)
    ce, tcl = {"loss": "ce"}, {"loss": "tcl", "projection_dim": 128}
    digits = {"train_size": 320, "batch_size": 16}  # enough to tell some digits apart
    events = {"dataset": "moving_digits", "train_size": 64, "time_steps": 3, "epochs": 1}
    runs = [train(config(**loss, **data), verbose=False) for data in (digits, events) for loss in (ce, tcl)]
    save_weights(runs[0])
    (runs[0].path / layout.CHECKPOINT).unlink()
    shutil.copytree(runs[1].path, folder / "other", ignore=shutil.ignore_patterns(layout.CHECKPOINT))
    return folder


@pytest.fixture(scope="session")
def models(small_runs):
    return load_models(load_runs(small_runs))
