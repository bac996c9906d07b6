"""A run that is shared can be loaded anywhere, without its checkpoint."""

import shutil
import subprocess

import nir
import pytest
import torch
import yaml
from torch.testing import assert_close

from tcl_lib import bundle, load_data, load_network, load_run, save_weights
from tcl_lib.runs import layout
from tcl_lib.utils.files import Damaged


def test_bundle_is_loaded_where_the_run_is_not(trained, tmp_path):
    before = {path.name: path.read_bytes() for path in trained.path.iterdir()}
    whole = load_network(trained)
    bundle(trained, tmp_path / "made")
    assert {path.name: path.read_bytes() for path in trained.path.iterdir()} == before
    shutil.rmtree(trained.path)
    (tmp_path / "elsewhere").mkdir()
    folder = shutil.move(tmp_path / "made", tmp_path / "elsewhere" / "shared")
    run = load_run(folder)
    assert run.config == trained.config
    assert run.result == trained.result
    assert run.logits["test"].shape == (2, 360, 10)
    network, images = load_network(run), torch.rand(20, 1, 8, 8)
    for name, weights in whole.state_dict().items():
        assert_close(network.state_dict()[name], weights, rtol=1e-3, atol=1e-5)
    # the graph is that of the weights in the folder
    nodes = nir.read(folder / "network.nir").nodes.values()
    (node,) = (node for node in nodes if isinstance(node, nir.Affine))
    assert node.weight == pytest.approx(network.classifier.weight.detach().numpy())
    assert network(images).logits.shape == (2, 20, 10)


def test_bundle_holds_the_files_of_its_checksums(trained, tmp_path):
    folder = bundle(trained, tmp_path / "shared")
    subprocess.run(["sha256sum", "--quiet", "-c", layout.SUMS], cwd=folder, check=True)
    names = {path.name for path in folder.iterdir()}
    assert set(layout.listed_sums(folder)) == names - {layout.SUMS}
    assert {"weights.safetensors", "network.nir", "README.md"} < names
    assert not names & {layout.CHECKPOINT, layout.LOCK, layout.WRITER}


def test_bundle_takes_the_weights_of_a_run_without_checkpoint(trained, tmp_path):
    save_weights(trained)
    (trained.path / layout.CHECKPOINT).unlink()
    folder = bundle(trained.path, tmp_path / "shared")
    assert (folder / layout.WEIGHTS).read_bytes() == (trained.path / layout.WEIGHTS).read_bytes()


def test_bundle_writes_a_model_card(trained, tmp_path):
    text = (bundle(trained, tmp_path / "shared") / "README.md").read_text()
    _, metadata, body = text.split("---\n", 2)
    (model,) = yaml.safe_load(metadata)["model-index"]
    ((result,), name) = model["results"], model["name"]
    accuracy = trained.accuracy_by_step
    assert name == trained.name
    assert result["dataset"] == {"type": "digits", "name": "digits"}
    assert result["metrics"][0]["value"] == round(accuracy["cumulative"].iloc[-1], 2)
    assert "STCL (`stcl`)" in body
    pixels = load_data(trained.config).train[:].double()
    moments = f"from 0 to 255: {pixels.mean():.4g} and {pixels.std(correction=0):.4g}."
    assert moments in body
    rows = [line.split("|")[1:5] for line in body.splitlines() if line.startswith("|")][2:]
    stated = [[float(cell) for cell in row] for row in rows]
    expected = accuracy[["time_step", "cumulative", "low", "high"]].to_numpy()
    assert stated == [pytest.approx(row, abs=0.006) for row in expected]


def test_bundle_says_in_the_card_why_there_is_no_graph(trained, tmp_path, monkeypatch):
    def refuse(network):
        raise ValueError("MaxPool2d: has no counterpart in NIR")

    monkeypatch.setattr("tcl_lib.export.sharing.to_nir", refuse)
    folder = bundle(trained, tmp_path / "shared")
    assert "**NIR**: none (MaxPool2d: has no counterpart in NIR)" in (folder / "README.md").read_text()
    assert not (folder / "network.nir").exists()
    load_run(folder)


def test_bundle_refuses_a_folder_that_is_not_empty(trained, tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ValueError, match=r": is not an empty folder; a bundle needs one of its own$"):
        bundle(trained, tmp_path)
    assert (tmp_path / "note.txt").read_text() == "mine"


def test_bundle_leaves_nothing_of_a_run_that_cannot_be_loaded(trained, tmp_path):
    (trained.path / layout.METRICS).write_text("noise")
    with pytest.raises(Damaged, match=r"metrics\.csv"):
        bundle(trained, tmp_path / "shared")
    (trained.path / layout.CHECKPOINT).unlink()
    with pytest.raises(FileNotFoundError, match="was not kept"):
        bundle(trained, tmp_path / "shared")
    assert not (tmp_path / "shared").exists()
