"""The accuracy of a run on corrupted test samples."""

import re

import pytest
import torch

from tcl_lib import load_data, train
from tcl_lib.analysis.evaluation import stepwise_accuracy
from tcl_lib.analysis.robustness import robustness
from tcl_lib.data.corruptions import OF_IMAGES, corrupted


def test_robustness_is_the_accuracy_on_corrupted_samples(trained):
    table = robustness(trained, ["blur"])
    assert table["corruption"].unique().tolist() == ["clean", "blur"]
    clean = table[table["corruption"] == "clean"]
    assert clean["cumulative"].tolist() == trained.accuracy_by_step["cumulative"].tolist()
    assert table["severity"].tolist() == [s for s in range(6) for _ in range(2)]
    data = load_data(trained.config)
    images = data.inputs(corrupted(data.test[:], OF_IMAGES["blur"], 2))
    with torch.no_grad():
        expected = stepwise_accuracy(trained.model()(images).logits, data.test.labels)
    rows = table[(table["corruption"] == "blur") & (table["severity"] == 2)]
    assert rows["cumulative"].tolist() == pytest.approx(expected["cumulative"].tolist(), abs=0.6)
    assert rows["strength"].unique().tolist() == [0.6]


@pytest.mark.soak
def test_robustness_of_a_run_on_events(tiny):
    run = train(tiny(dataset="moving_digits", loss="ce", epochs=1), verbose=False)
    table = robustness(run, ["drop_events"])
    assert len(table) == 2 * 6
    assert table["cumulative"].between(0, 100).all()


def test_robustness_refuses_a_corruption_of_other_data(trained):
    words = "corruption 'hot_pixels': must be 'gaussian_noise', 'impulse_noise', 'blur', "
    with pytest.raises(ValueError, match=f"^{re.escape(words)}.*for these data$"):
        robustness(trained, ["hot_pixels"])
    with pytest.raises(ValueError, match=r"^corruptions='blur': must be a valid list$"):
        robustness(trained, "blur")
