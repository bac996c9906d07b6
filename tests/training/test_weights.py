"""Weights that ship without their checkpoint: rounded, whole, and of no other run."""

import hashlib
import runpy
import shutil
import subprocess
import sys

import pandas as pd
import pytest
import safetensors.torch
import torch
from conftest import REPOSITORY
from numpy.testing import assert_allclose
from torch.testing import assert_close

from tcl_lib import load_data, load_network, load_run, save_weights, train
from tcl_lib.analysis.evaluation import predict, stepwise_accuracy
from tcl_lib.runs import checkpoints, layout
from tcl_lib.training import weights
from tcl_lib.utils.files import Damaged

SHIPPED = [file.parent for file in sorted((REPOSITORY / "runs/reference").glob("*/weights.safetensors"))]


@pytest.fixture
def shipped(trained):
    """A finished run whose checkpoint was deleted after its weights were written."""
    save_weights(trained)
    (trained.path / layout.CHECKPOINT).unlink()
    return load_run(trained.path)


def test_save_weights_rounds_matrices_alone_and_fits_600_kb(trained):
    file = save_weights(trained)
    assert file == trained.path / "weights.safetensors"
    assert file.stat().st_size < 600_000
    before = checkpoints.load(trained.path / layout.CHECKPOINT)["network"]
    after = safetensors.torch.load_file(file)
    assert after.keys() == before.keys()
    for name, tensor in before.items():
        assert_close(after[name], tensor.half() if tensor.ndim > 1 else tensor, rtol=0, atol=0)
    assert {tensor.dtype for tensor in after.values()} == {torch.float16, torch.float32, torch.int64}


def test_load_network_without_a_checkpoint_gives_the_logits_of_the_rounded_weights(trained, tiny):
    whole = load_network(trained)
    save_weights(trained)
    (trained.path / layout.CHECKPOINT).unlink()
    rounded = trained.model()
    assert not rounded.training
    for parameter in whole.parameters():
        if parameter.ndim > 1:
            parameter.data = parameter.data.half().float()
    data = load_data(tiny())
    images = data.inputs(data.test[:64])
    with torch.no_grad():
        assert_close(rounded(images).logits, whole(images).logits, rtol=0, atol=0)


def test_load_network_prefers_the_checkpoint(trained):
    save_weights(trained)
    kept = checkpoints.load(trained.path / layout.CHECKPOINT)["network"]
    assert_close(load_network(trained).state_dict(), kept, rtol=0, atol=0)


def accuracy_now(run) -> pd.DataFrame:
    data = load_data(run.config)
    logits = predict(run.model(), data.test, data, 360, "cpu")
    return stepwise_accuracy(logits, data.test.labels)


def test_rounded_weights_change_few_answers(tiny):
    run = train(tiny(loss="ce", train_size=400))
    save_weights(run)
    (run.path / layout.CHECKPOINT).unlink()
    # near its threshold, a neuron may fire on one side of the rounding and not on the other
    assert_allclose(accuracy_now(run)["cumulative"], run.accuracy_by_step["cumulative"], atol=1)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_weights_that_ship_have_the_accuracy_of_their_run(path):
    run = load_run(path)
    assert (path / layout.WEIGHTS).stat().st_size < 600_000
    network = load_network(run)
    assert all(tensor.isfinite().all() for tensor in network.state_dict().values())
    if run.config.dataset == "folder":
        pytest.skip("its data do not ship")
    # rounding makes a few neurons near their threshold fire where they did not, or the other way round
    assert_allclose(accuracy_now(run)["cumulative"].iloc[-1], run.result["test_accuracy"], atol=1)


@pytest.mark.parametrize("place", [3, 40, 2_000, -1])
def test_load_network_refuses_weights_with_a_damaged_byte(shipped, place):
    file = shipped.path / layout.WEIGHTS
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(
        Damaged, match=r"weights\.safetensors: is damaged, it does not match SHA256SUMS"
    ) as error:
        load_network(shipped)
    assert "\n" not in str(error.value)


def test_load_network_refuses_the_weights_of_another_run(shipped, tiny):
    file, other = shipped.path / layout.WEIGHTS, train(tiny(seed=1), verbose=False)
    shutil.copy(save_weights(other), file)
    with pytest.raises(Damaged, match="does not match SHA256SUMS"):
        load_network(shipped)
    # a checksum made to fit does not help
    sums = layout.listed_sums(shipped.path)
    layout.write_sums(shipped.path, sums | {layout.WEIGHTS: hashlib.sha256(file.read_bytes()).hexdigest()})
    with pytest.raises(Damaged, match=r"belongs to another run, one with another metrics\.csv; ") as error:
        load_network(shipped)
    assert str(error.value).startswith(str(file))


def test_load_network_refuses_weights_that_name_no_run(shipped):
    file = shipped.path / layout.WEIGHTS
    content = safetensors.torch.save(safetensors.torch.load_file(file), {"run": "{}"})
    file.write_bytes(content)
    sums = layout.listed_sums(shipped.path)
    layout.write_sums(shipped.path, sums | {layout.WEIGHTS: hashlib.sha256(content).hexdigest()})
    with pytest.raises(Damaged, match=r"weights\.safetensors: was written by another version; overwrite"):
        load_network(shipped)


def test_weights_need_the_checksum_of_the_metrics(shipped):
    sums = layout.listed_sums(shipped.path)
    del sums[layout.METRICS]
    layout.write_sums(shipped.path, sums)
    with pytest.raises(Damaged, match=r"metrics\.csv: is damaged, it does not match SHA256SUMS"):
        load_network(shipped)


def test_load_network_names_both_files_where_none_was_kept(shipped):
    (shipped.path / layout.WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError, match="the run's checkpoint was not kept"):
        load_network(shipped)
    with pytest.raises(FileNotFoundError, match="the run's checkpoint was not kept"):
        save_weights(shipped)


def test_save_weights_keeps_the_other_checksums_and_the_run_loads(trained):
    before = layout.listed_sums(trained.path)
    save_weights(trained)
    assert layout.listed_sums(trained.path).items() > before.items()
    assert subprocess.run(["sha256sum", "--check", "--quiet", layout.SUMS], cwd=trained.path).returncode == 0
    assert train(trained.config, verbose=False).result == trained.result


def test_save_weights_refuses_what_float16_cannot_hold(trained):
    file = trained.path / layout.CHECKPOINT
    state = checkpoints.load(file)
    state["network"]["classifier.weight"][0, 0] = 7e4
    checkpoints.save(trained.path, state)
    with pytest.raises(ValueError, match="has a value that does not fit into float16"):
        save_weights(trained)
    assert not (trained.path / layout.WEIGHTS).exists()


def test_main_writes_the_weights_of_every_folder(trained, capsys, monkeypatch):
    weights.main([str(trained.path)])
    size = (trained.path / layout.WEIGHTS).stat().st_size
    assert capsys.readouterr().out == f"{trained.path / layout.WEIGHTS}: {size:,} bytes\n"
    monkeypatch.setattr(sys, "argv", ["weights", "/nowhere"])
    with pytest.raises(SystemExit, match=r"^error: /nowhere: is not the folder of a run$"):
        runpy.run_path(weights.__file__, run_name="__main__")
