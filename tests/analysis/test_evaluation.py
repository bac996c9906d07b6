"""Accuracy by time step and firing rates, by hand and against another library."""

import gc

import numpy as np
import pytest
import scipy.stats
import torch
from conftest import too_long
from sklearn.metrics import accuracy_score
from torch import nn
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, load_data
from tcl_lib.analysis.activity import FiringRates, mean_rates
from tcl_lib.analysis.evaluation import evaluate, predict, recalibrated_accuracy, stepwise_accuracy
from tcl_lib.neurons import Spiking, lif_box_neuron


def test_accuracy_by_hand():
    # two samples of class 0 and 1; step 1 gets the first right, step 2 outvotes it on the second
    logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.5], [0.0, 3.0]], [[0.0, 0.0], [2.5, 0.0]]])
    table = stepwise_accuracy(logits, torch.tensor([0, 1]))
    assert table.columns.tolist() == [
        "time_step",
        "cumulative",
        "low",
        "high",
        "instantaneous",
        "calibration_error",
    ]
    assert table["time_step"].tolist() == [1, 2, 3]
    # means: (1, 0) (1, 0); (.5, .25) (.5, 1.5); (.33, .17) (1.17, 1)
    assert table["cumulative"].tolist() == [50, 100, 50]
    assert table["instantaneous"].tolist() == [50, 50, 50]


@pytest.mark.parametrize("correct", [0, 1, 80, 99, 100])
def test_stepwise_accuracy_has_wilson_s_interval_of_scipy(correct):
    labels = torch.tensor([0] * correct + [1] * (100 - correct))
    (row,) = stepwise_accuracy(torch.tensor([1.0, 0.0]).expand(1, 100, 2), labels).itertuples()
    expected = scipy.stats.binomtest(correct, 100).proportion_ci(method="wilson")
    assert (row.low, row.high) == pytest.approx((100 * expected.low, 100 * expected.high), abs=1e-12)
    assert 0 <= row.low < row.high <= 100


def test_accuracy_against_scikit_learn():
    logits = torch.randn(5, 200, 4)
    labels = torch.randint(0, 4, (200,))
    table = stepwise_accuracy(logits, labels)
    for row in table.itertuples():
        stopped = logits[: row.time_step].mean(0).argmax(1)
        alone = logits[row.time_step - 1].argmax(1)
        assert row.cumulative == pytest.approx(100 * accuracy_score(labels, stopped))
        assert row.instantaneous == pytest.approx(100 * accuracy_score(labels, alone))


def test_the_first_step_is_the_same_either_way():
    table = stepwise_accuracy(torch.randn(1, 50, 3), torch.randint(0, 3, (50,)))
    assert table["cumulative"].tolist() == table["instantaneous"].tolist()


def test_predict_is_the_network_in_evaluation_mode():
    config = RunConfig(time_steps=2)
    data = load_data(config)
    network = build_network(config, data.input_shape, 10)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    logits = predict(network, data.validation, data, batch_size=50, device="cpu")
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    network.eval()
    assert_close(logits, network(data.inputs(data.validation[:])).logits)
    assert logits.shape == (2, 144, 10)


def test_firing_rates_by_hand():
    network = nn.Sequential(Spiking(lif_box_neuron()), nn.Identity(), Spiking(lif_box_neuron(v_th=0.4)))
    with FiringRates(network) as firing:
        network(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))  # one spike of four in both layers
        assert mean_rates(firing.state()) == [0.25, 0.25]
        network(torch.full((2, 2), 0.6))  # 0.6, 0.9: silent, so the second layer is too
        assert mean_rates(firing.state()) == [0.125, 0.125]
    network(torch.full((2, 2), 9.0))
    assert mean_rates(firing.state()) == [0.125, 0.125]  # closed


def test_firing_rates_count_every_layer_in_order():
    config = RunConfig(backbone="resnet19", loss="ce")
    network = build_network(config, (3, 16, 16), 10)
    images = torch.randn(2, 3, 16, 16)
    with FiringRates(network) as firing:
        features = network(images).features
    rates = mean_rates(firing.state())
    assert len(rates) == 1 + 2 * 8 + 1
    assert rates[-1] == pytest.approx(features.mean().item())
    assert np.all(np.array(rates[:-1]) > 0)


def test_the_calibration_error_is_that_of_a_plain_loop_over_bins():
    torch.manual_seed(3)
    logits, labels = 2 * torch.randn(3, 500, 4), torch.randint(0, 4, (500,))
    for step, row in enumerate(stepwise_accuracy(logits, labels).itertuples(), start=1):
        confidence, answer = logits[:step].double().mean(0).softmax(-1).max(-1)
        expected = 0.0
        for low in range(15):
            inside = (confidence > low / 15) & (confidence <= (low + 1) / 15)
            if inside.any():
                accuracy = (answer == labels)[inside].double().mean()
                expected += inside.double().mean() * (accuracy - confidence[inside].mean()).abs()
        assert row.calibration_error == pytest.approx(100 * expected.item(), abs=1e-4)


def test_a_confidence_of_1_is_in_the_last_bin():
    # 40 answers that are sure, half of them right; 60 with a confidence of 0.95, all right
    sure, unsure = torch.tensor([1000.0, 0.0]).expand(40, 2), torch.tensor([np.log(19.0), 0.0]).expand(60, 2)
    labels = torch.tensor([0, 1] * 20 + [0] * 60)
    confidence, right = np.repeat([1.0, 0.95], [40, 60]), labels.numpy() == 0
    expected = 0.0
    for number in range(15):
        inside = np.minimum((15 * confidence).astype(int), 14) == number
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    table = stepwise_accuracy(torch.cat([sure, unsure]).float()[None], labels)
    assert table["calibration_error"].tolist() == pytest.approx([100 * expected], abs=1e-4)


def test_who_is_sure_and_right_is_calibrated():
    labels = torch.tensor([0, 1, 1, 0])
    sure = 1000 * torch.nn.functional.one_hot(labels, 2).float()[None]
    assert stepwise_accuracy(sure, labels)["calibration_error"].tolist() == pytest.approx([0.0], abs=1e-4)
    assert stepwise_accuracy(-sure, labels)["calibration_error"].tolist() == pytest.approx([100.0])
    unsure = torch.zeros(1, 4, 2)  # half of the answers (the first class) are right, and it says so
    assert stepwise_accuracy(unsure, labels)["calibration_error"].tolist() == pytest.approx([0.0])


def test_logits_that_are_not_numbers_are_told_by_the_calibration_error():
    logits = torch.randn(2, 20, 10)
    logits[1, 3] = torch.nan
    errors = stepwise_accuracy(logits, torch.arange(20) % 10)["calibration_error"]
    assert errors.isna().tolist() == [False, True]


def test_firing_rates_by_step_by_hand():
    network = nn.Sequential(Spiking(lif_box_neuron()), nn.Identity())
    with FiringRates(network) as firing:
        network(torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 2.0]]))
        network(torch.tensor([[0.0], [0.0], [2.0]]))  # a smaller batch counts less
    table = firing.by_step()
    assert table["layer"].tolist() == [1, 1, 1]
    assert table["time_step"].tolist() == [1, 2, 3]
    assert table["firing_rate"].tolist() == pytest.approx([1 / 3, 1 / 3, 1])
    assert mean_rates(firing.state()) == pytest.approx([5 / 9])


def test_firing_rates_keep_no_tensor_of_a_batch():
    network = Spiking(lif_box_neuron())
    with FiringRates(network) as firing:
        network(torch.ones(3, 2))
        before = tensors()
        for _ in range(5):
            network(torch.ones(3, 2))
        assert tensors() == before
    assert firing.by_step()["time_step"].tolist() == [1, 2, 3]


def tensors():
    gc.collect()
    return sum(isinstance(found, torch.Tensor) for found in gc.get_objects())


def living_network(config, data):
    """A network whose batch norms know the data: untrained, it is silent in evaluation mode."""
    torch.manual_seed(config.seed)
    network = build_network(config, data.input_shape, 10)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        network(data.inputs(data.train[:100]))
    return network


@pytest.mark.parametrize("time_steps", [3, *too_long(1)])
def test_everything_that_is_stored_of_a_network(time_steps):
    config = RunConfig(time_steps=time_steps, loss="tcl", train_size=200)
    data = load_data(config)
    network = living_network(config, data)
    evaluation = evaluate(network, data, batch_size=100, device="cpu")
    network.eval()
    with torch.no_grad(), FiringRates(network) as firing:
        output = network(data.inputs(data.test[:]))
    plain = stepwise_accuracy(output.logits, data.test.labels)
    assert evaluation.accuracy_by_step.drop(columns="recalibrated").equals(plain)
    recalibrated = recalibrated_accuracy(network, data, 100, "cpu", time_steps)
    assert evaluation.accuracy_by_step["recalibrated"].tolist() == recalibrated
    rates = evaluation.firing_rates
    assert rates["firing_rate"].tolist() == pytest.approx(firing.by_step()["firing_rate"].tolist())
    assert evaluation.operations["layer"].nunique() == 5
    stored = evaluation.features
    count = min(360, 1000 // time_steps)
    assert stored["features"].shape == (time_steps, count, 128)
    assert len(set(stored["samples"])) == count
    assert (stored["labels"] == data.test.labels[stored["samples"]].numpy()).all()
    features = output.features[:, stored["samples"]]
    assert_close(torch.from_numpy(stored["features"]).float(), features, atol=1e-3, rtol=1e-3)
    # all classes are in the sample, in proportion
    assert np.bincount(stored["labels"]).min() >= count // 10 - 2

    values = evaluation.similarity.set_index(["measure", "relation", "time_step", "other_step"])["value"]
    x, y = stored["features"][[0, -1]].astype(np.float64)
    cosine = (x * y).sum(1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    assert values["cosine", "within_sample", 1, time_steps] == pytest.approx(cosine.mean(), abs=1e-5)
    x, y = x - x.mean(0), y - y.mean(0)
    cka = np.linalg.norm(y.T @ x) ** 2 / np.linalg.norm(x.T @ x) / np.linalg.norm(y.T @ y)
    assert values["cka", "within_sample", 1, time_steps] == pytest.approx(cka, abs=1e-5)


def test_the_stored_samples_are_the_same_whatever_the_network():
    stored = []
    for changes in ({"loss": "ce", "seed": 1}, {"seed": 2}):
        config = RunConfig(time_steps=2, train_size=200, **changes)
        data = load_data(config)
        network = living_network(config, data)
        stored.append(evaluate(network, data, 100, "cpu").features)
    assert (stored[0]["samples"] == stored[1]["samples"]).all()
    assert not (stored[0]["features"] == stored[1]["features"]).all()
