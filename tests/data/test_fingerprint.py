"""The fingerprint of a dataset: what it follows from, and what it must not depend on."""

import dataclasses
import hashlib
import json

import pytest
import torch

from tcl_lib import RunConfig, load_data


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
