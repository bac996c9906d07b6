"""The fingerprint of a dataset: what it follows from, and what it must not depend on."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import torch
from conftest import save_image

from tcl_lib import RunConfig, load_data, train
from tcl_lib.analysis.policies import logits_of
from tcl_lib.analysis.robustness import robustness
from tcl_lib.analysis.run_data import data_of
from tcl_lib.explore.models import load_models
from tcl_lib.export.sharing import card
from tcl_lib.runs import layout, load_run, load_runs


def test_fingerprint_hashes_classes_shape_labels_and_samples():
    data = load_data(RunConfig())
    expected = {}
    for name in ("train", "validation", "test"):
        part = getattr(data, name)
        content = json.dumps([list("0123456789"), [1, 8, 8]]).encode()
        content += b"".join(label.to_bytes(8, "little") for label in part.labels.tolist())
        content += bytes(part[:].flatten().tolist())
        expected[name] = hashlib.sha256(content).hexdigest()[:16]
    assert data.fingerprint == expected


def test_fingerprint_is_the_same_on_every_machine():
    assert load_data(RunConfig()).fingerprint == {
        "train": "b6aabea7d219264f",
        "validation": "6a03e111a06cc388",
        "test": "b95f06569c2231cf",
    }


def test_fingerprint_follows_the_chosen_samples():
    whole, small, other = (
        load_data(RunConfig(**changes)).fingerprint for changes in ({}, {"train_size": 100}, {"seed": 1})
    )
    assert len({one["train"] for one in (whole, small, other)}) == 3
    assert whole["validation"] == small["validation"] != other["validation"]
    assert whole["test"] == small["test"] == other["test"]


@pytest.mark.parametrize("what", ["sample", "label", "order", "class name"])
@pytest.mark.parametrize("name", ["train", "validation", "test"])
def test_fingerprint_sees_any_change(name, what):
    data = load_data(RunConfig(train_size=50))
    before = data.fingerprint
    part = getattr(data, name)
    if what == "sample":
        stored = part.stored.clone()
        stored[part.indices[7], 0, 3, 3] ^= 1
        changes = {name: dataclasses.replace(part, stored=stored)}
    elif what == "label":
        labels = part.labels.clone()
        labels[7] = (labels[7] + 1) % 10
        changes = {name: dataclasses.replace(part, labels=labels)}
    elif what == "order":
        changes = {name: part.take(torch.arange(len(part)).flip(0))}
    else:
        changes = {"classes": [*data.classes[:-1], "ten"]}
    after = dataclasses.replace(data, **changes).fingerprint
    changed = [part for part in before if before[part] != after[part]]
    assert changed == (["train", "validation", "test"] if what == "class name" else [name])


def test_data_of_refuses_data_that_the_run_was_not_trained_on(tiny, image_folder, caplog):
    """Nothing is computed of a run's network and other data."""
    folder = {"dataset": "folder", "data_root": str(image_folder), "train_size": 8, "batch_size": 4}
    path = train(tiny(loss="ce", epochs=1, **folder), verbose=False).path
    assert "standard deviation of the training images, of pixels" in card(load_run(path))
    (path / layout.LOGITS).unlink()
    assert len(logits_of(load_run(path))["test_labels"]) == len(data_of(load_run(path)).test) == 6
    save_image(image_folder / "test" / "cat" / "x.png", np.zeros((8, 8, 3), np.uint8))
    save_image(image_folder / "train" / "cat" / "a.png", np.ones((8, 8, 3), np.uint8))
    for compute in (data_of, robustness, logits_of):
        with pytest.raises(ValueError, match=rf"{path}: was trained on other data \(.*other test samples\)"):
            compute(load_run(path))
    assert "standard deviation of the training images." in card(load_run(path))
    caplog.set_level("INFO")
    with pytest.raises(ValueError, match="no two runs of the same data have a network to show"):
        load_models(load_runs(path.parent))
    assert f"left out 1 run(s): {path}: was trained on other data" in caplog.text
