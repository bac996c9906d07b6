"""Accuracy by time step and firing rates, by hand and against another library."""

import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score
from torch import nn
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, load_data
from tcl_lib.evaluation import FiringRates, accuracy_by_step, firing_rates, predict
from tcl_lib.neurons import Spiking


def test_accuracy_by_hand():
    # two samples of class 0 and 1; step 1 gets the first right, step 2 outvotes it on the second
    logits = torch.tensor([[[1.0, 0.0], [1.0, 0.0]], [[0.0, 0.5], [0.0, 3.0]], [[0.0, 0.0], [2.5, 0.0]]])
    table = accuracy_by_step(logits, torch.tensor([0, 1]))
    assert table.columns.tolist() == ["time_step", "cumulative", "low", "high", "instantaneous"]
    assert table["time_step"].tolist() == [1, 2, 3]
    # means: (1, 0) (1, 0); (.5, .25) (.5, 1.5); (.33, .17) (1.17, 1)
    assert table["cumulative"].tolist() == [50, 100, 50]
    assert table["instantaneous"].tolist() == [50, 50, 50]


def test_the_interval_is_wilson_s():
    labels = torch.tensor([0] * 80 + [1] * 20)
    (row,) = accuracy_by_step(torch.tensor([1.0, 0.0]).expand(1, 100, 2), labels).itertuples()
    z, n, share = 1.959964, 100, 0.8
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    assert (row.low, row.high) == pytest.approx((100 * (middle - half), 100 * (middle + half)), abs=1e-4)


def test_accuracy_against_scikit_learn():
    logits = torch.randn(5, 200, 4)
    labels = torch.randint(0, 4, (200,))
    table = accuracy_by_step(logits, labels)
    for row in table.itertuples():
        stopped = logits[: row.time_step].mean(0).argmax(1)
        alone = logits[row.time_step - 1].argmax(1)
        assert row.cumulative == pytest.approx(100 * accuracy_score(labels, stopped))
        assert row.instantaneous == pytest.approx(100 * accuracy_score(labels, alone))


def test_the_first_step_is_the_same_either_way():
    table = accuracy_by_step(torch.randn(1, 50, 3), torch.randint(0, 3, (50,)))
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
    network = nn.Sequential(Spiking(), nn.Identity(), Spiking(v_th=0.4))
    with FiringRates(network) as firing:
        network(torch.tensor([[2.0, 0.0], [0.0, 0.0]]))  # one spike of four in both layers
        assert firing.mean() == [0.25, 0.25]
        network(torch.full((2, 2), 0.6))  # 0.6, 0.9: silent, so the second layer is too
        assert firing.mean() == [0.125, 0.125]
    network(torch.full((2, 2), 9.0))
    assert firing.mean() == [0.125, 0.125]  # closed


def test_firing_rates_count_every_layer_in_order():
    config = RunConfig(backbone="resnet19", loss="ce")
    network = build_network(config, (3, 16, 16), 10)
    images = torch.randn(2, 3, 16, 16)
    features = network(images).features
    rates = firing_rates(network, images)
    assert len(rates) == 1 + 2 * 8 + 1
    assert rates[-1] == pytest.approx(features.mean().item())
    assert np.all(np.array(rates[:-1]) > 0)
