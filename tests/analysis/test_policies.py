"""Policies by hand, thresholds from validation data alone, and inference that really stops."""

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import write_run
from test_stepwise import network

from tcl_lib import StepwiseNetwork, load_data, load_run, train
from tcl_lib.analysis import anytime, frontier, policies, stop_when_sure
from tcl_lib.runs import contents, layout, life

# Three steps of four samples of class 0. Of the mean logits, sample by sample, the gaps are
#   2 2 2: right at once;  -1 1 2: from step 2 on;  1 -2 -2: right at first;  0.5 0.5 3: right, sure at 3
GAPS = np.array([[2, -1, 1, 0.5], [2, 1, -2, 0.5], [2, 2, -2, 3]])


def logits_of_gaps(gaps):
    """Return logits [T, N, 2] whose means after t steps have these gaps between class 0 and class 1."""
    steps = np.arange(1, len(gaps) + 1)[:, None]
    sums = gaps * steps
    alone = np.diff(sums, axis=0, prepend=0)
    return np.stack([alone, np.zeros_like(alone)], -1)


@pytest.fixture
def run_of(tiny):
    """A function that writes the run with these gaps on validation and test data."""

    def write(validation, test, energy=(1.0, 2.0, 4.0)):
        config = tiny(time_steps=len(test))
        steps = range(1, len(test) + 1)
        operations = {"time_step": steps, "energy_uj": energy, "operation": "linear, 2 to 2"}
        write_run(config, tables={layout.OPERATIONS: operations})
        arrays = {}
        for part, gaps in (("validation", validation), ("test", test)):
            arrays[part] = logits_of_gaps(np.asarray(gaps)).astype(np.float16)
            arrays[f"{part}_labels"] = np.zeros(arrays[part].shape[1], int)
        layout.write_arrays(config.run_path / layout.LOGITS, arrays)
        life.finish(config.run_path, dict.fromkeys(contents.Result.__required_keys__, 1))
        return load_run(config.run_path)

    return write


def test_sureness_of_each_policy_by_hand():
    means = np.log([[[0.7, 0.2, 0.1]], [[0.2, 0.5, 0.3]], [[0.1, 0.5, 0.4]]])
    assert policies.confidence(means)[:, 0] == pytest.approx([0.7, 0.5, 0.5])
    uncertainty = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert policies.entropy(means)[0, 0] == pytest.approx(1 - uncertainty / math.log(3))
    assert policies.gap(means)[:, 0] == pytest.approx(np.log([0.7 / 0.2, 0.5 / 0.3, 0.5 / 0.4]))
    assert policies.agreement(means)[:, 0].tolist() == [1, 1, 2]


def test_agreement_counts_steps_in_a_row():
    means = np.eye(3)[[[0, 0], [0, 1], [2, 1], [2, 1]]]
    assert policies.agreement(means).tolist() == [[1, 1], [2, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("policy", "threshold", "steps", "right"),
    [
        ("gap", 2.0, [1, 3, 2, 3], [1, 1, 0, 1]),
        ("gap", 0.0, [1, 1, 1, 1], [1, 0, 1, 1]),
        ("gap", math.inf, [3, 3, 3, 3], [1, 1, 0, 1]),
        ("confidence", 1 / (1 + math.exp(-1.9)), [1, 3, 2, 3], [1, 1, 0, 1]),
        ("agreement", 2, [2, 3, 3, 2], [1, 1, 0, 1]),
        ("oracle", None, [1, 2, 1, 1], [1, 1, 1, 1]),
    ],
)
def test_anytime_by_hand(run_of, policy, threshold, steps, right):
    found = anytime(run_of(GAPS, GAPS), policy, threshold=threshold)
    assert found.accuracy == 100 * np.mean(right)
    assert found.mean_steps == np.mean(steps)
    assert found.stopped.to_dict() == {t: 100 * steps.count(t) / 4 for t in (1, 2, 3)}
    assert found.energy_uj == np.mean([[1, 3, 7][step - 1] for step in steps])


def test_anytime_chooses_the_threshold_on_validation_data_alone(run_of, tiny):
    # on validation data the gap has to be 3 for three of four answers to be right, on test data nothing helps
    validation = np.array([[-1, -2, -1, 3], [3, 3, -1, 3.0], [3, 3, -1, 3]])
    run = run_of(validation, -validation, energy=(1, 1, 1))
    found = anytime(run, "gap", accuracy=75)
    assert found.threshold == 3
    assert found.accuracy == 25
    found = anytime(run, "gap", mean_steps=2)
    assert found.threshold == 3  # 2, 2, 3 and 1 steps: 2 on average
    assert anytime(run, "gap", mean_steps=1.99).threshold < 3


def test_frontier_has_a_row_for_each_budget(run_of):
    run = run_of(GAPS, GAPS)
    table = frontier(run, "gap", points=5)
    assert table["budget"].tolist() == [1, 1.125, 1.5, 2.125, 3]
    assert (table["mean_steps"] <= table["budget"]).all()  # the test data are the validation data here
    assert table["mean_steps"].is_monotonic_increasing
    for row in table.itertuples():
        assert anytime(run, "gap", mean_steps=row.budget).accuracy == row.accuracy
    fixed = frontier(run, "fixed")
    assert fixed["accuracy"].tolist() == [75, 75, 75]
    assert fixed["energy_uj"].tolist() == [1, 3, 7]
    assert frontier(run, "oracle")["accuracy"].tolist() == [100]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"policy": "luck"},
            "policy='luck': must be 'confidence', 'entropy', 'gap', 'agreement' or 'oracle'",
        ),
        ({}, "policy='confidence': needs one of threshold, accuracy and mean_steps"),
        ({"threshold": 1, "accuracy": 90}, "policy='confidence': needs one of threshold, accuracy"),
        ({"policy": "oracle", "threshold": 1}, "policy='oracle': needs no threshold"),
        ({"accuracy": 99}, "accuracy=99: out of reach, 75.00 % is the most on validation data"),
        ({"threshold": math.nan}, "threshold=nan: must be"),
        ({"threshold": "0.9"}, "threshold='0.9': must be a valid number"),
        ({"accuracy": "90 %"}, "accuracy='90 %': must be a valid number"),
        ({"mean_steps": 0}, "mean_steps=0: must be greater than 0"),
        ({"mean_steps": 0.5}, "mean_steps=0.5: out of reach, 1 is the least on validation data"),
    ],
)
def test_anytime_refuses(run_of, options, error):
    with pytest.raises(ValueError, match=f"^{re.escape(error)}"):
        anytime(run_of(GAPS, GAPS), **options)


def test_a_run_stores_the_logits_of_validation_and_test_samples(trained):
    data = load_data(trained.config)
    found = trained.logits
    assert found["validation"].shape == (2, len(data.validation), 10)
    assert found["test_labels"].tolist() == data.test.labels.tolist()
    accuracy = frontier(trained, "fixed")["accuracy"]
    assert accuracy.tolist() == pytest.approx(trained.accuracy_by_step["cumulative"].tolist())
    last = trained.metrics["validation_accuracy"].iloc[-1]
    right = found["validation"].astype(float).mean(0).argmax(-1) == found["validation_labels"]
    assert 100 * right.mean() == pytest.approx(last)


def test_logits_of_computes_what_was_not_kept(trained, tiny):
    of_bf16 = train(tiny(precision="bf16-mixed", compile="off"), verbose=False)
    for run in (trained, of_bf16):
        kept = run.logits
        (run.path / layout.LOGITS).unlink()
        again = policies.logits_of(load_run(run.path))
        assert again.keys() == kept.keys()
        for name, array in again.items():
            assert array == pytest.approx(kept[name], abs=1e-5)
    with pytest.raises(FileNotFoundError, match=r"logits were not kept$"):  # many runs would take minutes
        policies.frontiers(load_run(trained.path))
    (trained.path / layout.CHECKPOINT).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        anytime(load_run(trained.path), mean_steps=2)
    assert "logits were not kept, and cannot be computed again" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("events", [False, True])
@pytest.mark.parametrize("policy", policies.POLICIES)
def test_stop_when_sure_gives_the_answers_and_steps_of_the_whole_sequence(policy, events):
    net = network()
    inputs = torch.randn(4, 40, 2, 8, 8) if events else torch.randn(40, 2, 8, 8)
    with torch.no_grad():
        logits = net(inputs).logits.double().numpy()
    means = logits.cumsum(0) / np.arange(1, 5)[:, None, None]
    sureness = policies.POLICIES[policy](means)
    # between two samples, as the sureness is rounded
    threshold = 2 if policy == "agreement" else np.sort(sureness[0])[19:21].mean()
    steps = policies.stopping_steps(sureness, threshold)
    answers, stopped = stop_when_sure(StepwiseNetwork(net), inputs, threshold, policy)
    assert stopped.tolist() == steps.tolist()
    assert answers.tolist() == means[steps - 1, range(40)].argmax(-1).tolist()
    assert len(set(steps.tolist())) > 1


def test_stop_when_sure_computes_only_the_samples_that_are_left():
    stepwise, seen = StepwiseNetwork(network()), []
    stepwise.network.body.register_forward_pre_hook(lambda module, given: seen.append(given[0].shape[1]))
    _, stopped = stop_when_sure(stepwise, torch.randn(30, 2, 8, 8), 0.02, "gap")
    left = [int((stopped >= step).sum()) for step in range(1, int(stopped.max()) + 1)]
    assert seen == left
    assert pd.Series(seen).is_monotonic_decreasing
    assert seen[-1] < 30


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"network": network()}, "network: must be a StepwiseNetwork, got a SpikingNetwork"),
        ({"policy": "oracle"}, "policy='oracle': must be 'confidence', 'entropy', 'gap' or 'agreement'"),
        ({"threshold": math.nan}, "threshold=nan: must be"),
        ({"time_steps": 0}, "time_steps=0: must be a whole number >= 1"),
        ({"inputs": torch.zeros(4, 3, 2, 8, 8), "time_steps": 2}, "time_steps=2: the input has 4 steps"),
        ({"inputs": torch.zeros(2, 8, 8)}, "images of shape [2, 8, 8]: must be [B, 2, 8, 8]"),
    ],
)
def test_stop_when_sure_refuses(options, error):
    defaults = {"network": StepwiseNetwork(network()), "inputs": torch.zeros(3, 2, 8, 8), "threshold": 0.9}
    with pytest.raises(ValueError, match=f"^{re.escape(error)}"):
        stop_when_sure(**defaults | options)


def test_frontier_refuses_fewer_than_two_points(run_of):
    with pytest.raises(ValueError, match=r"^points=1: must be greater than or equal to 2$"):
        frontier(run_of(GAPS, GAPS), points=1)
