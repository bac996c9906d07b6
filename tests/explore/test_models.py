"""Networks that are loaded to be looked at, against the numbers of their runs."""

import logging

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tcl_lib import load_data, load_runs
from tcl_lib.explore import load_models, one_right
from tcl_lib.explore import models as module


def test_load_models_leaves_out_runs_without_a_network(small_runs, models, caplog):
    caplog.set_level(logging.INFO, logger="tcl_lib")
    found = load_models(load_runs(small_runs))
    assert {title: [m.name for m in networks] for title, networks in found.items()} == {
        "Digits, T = 2": ["CE, seed 0", "TCL, seed 0"],
        "Moving digits (simulated), T = 3": ["CE, seed 0", "TCL, seed 0"],
    }
    assert caplog.messages == ["left out 1 run(s): neither weights.safetensors nor checkpoint.pt"]


def test_load_models_needs_two_networks_of_the_same_data(small_runs):
    table = load_runs(small_runs)
    with pytest.raises(ValueError, match="no two runs of the same data have a network to show"):
        load_models(table[table["loss"] == "ce"])


def test_model_answers_as_its_run_did(models):
    for networks in models.values():
        for model in networks:
            right = 100 * model.right.double().mean(1)
            assert_allclose(right, model.run.accuracy_by_step["cumulative"], atol=1)


def test_model_normalises_as_its_own_run(models):
    model = models["Digits, T = 2"][0]
    data = load_data(model.run.config)
    assert torch.equal(model.inputs, data.inputs(data.test[:]))
    traced = model.trace(7)
    torch.testing.assert_close(traced.logits[:, 0], model.logits[:, 7], atol=1e-4, rtol=1e-4)


def test_neighbours_are_nearest_by_cosine(models):
    for networks in models.values():
        model = networks[0]
        cosines = [
            torch.cosine_similarity(model.embeddings[0, 5], other, dim=0).item()
            for other in model.embeddings[-1]
        ]
        found = model.neighbours(5, 6)
        assert_allclose([cosines[n] for n in found], sorted(cosines)[:-7:-1], atol=1e-6)


def test_stops_are_the_first_steps_that_are_sure(models):
    model = models["Moving digits (simulated), T = 3"][0]
    for sample in range(0, 360, 40):
        answers = model.means[:, sample].softmax(-1)
        sure = [t for t in (1, 2) if answers[t - 1].max() >= 0.9]
        assert model.stops["confidence"][sample] == (sure or [3])[0]
        agreeing = model.means[0, sample].argmax() == model.means[1, sample].argmax()
        assert model.stops["agreement"][sample] == (2 if agreeing else 3)


def test_only_right_names_the_samples_that_one_network_alone_gets_right(models):
    left, right = models["Digits, T = 2"]
    found = one_right.only_right(left, right)
    for sample in range(360):
        first = [m.logits[0, sample].argmax() == m.samples.labels[sample] for m in (left, right)]
        assert (sample in found) == (first == [True, False])
    assert len(one_right.options(left, right)) == len(found) + len(one_right.only_right(right, left)) > 0


def test_pictures_are_those_of_the_step(models):
    samples = models["Moving digits (simulated), T = 3"][0].samples
    data = load_data(models["Moving digits (simulated), T = 3"][0].run.config)
    frame = data.frames(data.test[4:5])[0, 1]  # [2, H, W]
    white = (samples.picture(4, 2) == 255).all(-1)
    assert np.array_equal(white, (frame == 0).all(0).numpy())
    still = models["Digits, T = 2"][0].samples
    assert np.array_equal(still.picture(3, 1), still.picture(3, 2))


def test_a_larger_test_set_is_shown_in_part(small_runs, monkeypatch):
    monkeypatch.setattr(module, "MOST_SAMPLES", 50)
    table = load_runs(small_runs)
    left, _ = load_models(table[table["dataset"] == "digits"])["Digits, T = 2"]
    numbers = left.samples.numbers
    assert len(numbers) == len(left.samples.labels) == left.logits.shape[1] == 50
    assert torch.equal(left.samples.labels, load_data(left.run.config).test.labels[numbers])
    assert torch.bincount(left.samples.labels).min() >= 4  # stratified
