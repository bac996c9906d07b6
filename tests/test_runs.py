"""Run directories: what is read back, and what is refused."""

import json
import math
from pathlib import Path

import pandas as pd
import pytest
import torch

from tcl_lib import load_run, load_runs, runs
from tcl_lib.environment import replacing


@pytest.fixture
def finished(tiny):
    """A function making the folder of a finished run, with numbers of our own."""

    def make(**changes):
        config = tiny(**changes)
        path = config.run_path
        path.mkdir(parents=True)
        data = {
            "image_shape": [1, 8, 8],
            "classes": [str(n) for n in range(10)],
            "images": {"train": 96, "validation": 144, "test": 360},
        }
        runs.write_json(path / runs.CONFIG, {"parameters": config.to_dict(), "data": data})
        runs.write_table(config, runs.METRICS, pd.DataFrame({"epoch": [1, 2], "loss": [2.5, 1.0 / 3]}))
        accuracy = {"time_step": [1, 2], "cumulative": [50.0, 62.5], "instantaneous": [50.0, 60.0]}
        runs.write_table(config, runs.ACCURACY, pd.DataFrame(accuracy))
        result = {
            "test_accuracy": 62.5,
            "validation_accuracy": 60.0,
            "best_epoch": 1,
            "best_validation_accuracy": 61.0,
        }
        runs.write_json(path / runs.RESULT, result)
        return config

    return make


def test_a_run_is_read_back(finished):
    config = finished(loss="tcl", seed=3)
    run = load_run(config.run_path)
    assert run.config == config
    assert run.name == config.name
    assert run.metrics["loss"].tolist() == [2.5, 1 / 3]
    assert run.accuracy_by_step["cumulative"].tolist() == [50.0, 62.5]
    assert run.result["test_accuracy"] == 62.5
    shown = repr(run)
    assert "test accuracy 62.50 % of the last epoch (2)" in shown
    assert "epoch 1 with 61.00 %" in shown


def test_without_its_checkpoint_a_run_has_no_model(finished):
    run = load_run(finished().run_path)
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.pt: the run's checkpoint was not kept"):
        run.model()


def test_runs_become_a_table(finished):
    configs = [finished(loss=loss, seed=seed) for loss in ("ce", "tcl") for seed in (0, 1)]
    table = load_runs(configs[0].run_path.parent)
    assert sorted(table["name"]) == sorted(config.name for config in configs)
    assert set(configs[0].to_dict()) <= set(table.columns)
    assert table["test_accuracy"].tolist() == [62.5] * 4
    assert table.groupby("loss")["seed"].apply(sorted).to_dict() == {"ce": [0, 1], "tcl": [0, 1]}


def test_an_unfinished_run_is_skipped_and_named(finished, capsys):
    one, other = finished(seed=1), finished(seed=2)
    (other.run_path / runs.RESULT).unlink()
    (one.run_path.parent / "empty").mkdir()
    table = load_runs(one.run_path.parent)
    assert table["seed"].tolist() == [1]
    printed = capsys.readouterr().out
    assert f"skipped {other.run_path}: the run is not finished" in printed
    with pytest.raises(ValueError, match="is not finished; start it again to continue it"):
        load_run(other.run_path)


def test_a_folder_without_runs_is_an_empty_table(tmp_path):
    assert load_runs(tmp_path).empty


@pytest.mark.parametrize("read", [load_run, load_runs])
def test_no_such_folder(read, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"parameters": []}', '{"parameters": {"lrr": 1}}', '{"parameters": {"lr": "x"}}'],
)
def test_a_damaged_config_is_named(finished, content):
    path = finished().run_path
    (path / runs.CONFIG).write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: ") as caught:
        load_run(path)
    assert "\n" not in str(caught.value)


def test_a_damaged_table_is_named(finished):
    path = finished().run_path
    (path / runs.METRICS).write_text("")
    with pytest.raises(ValueError, match=r"metrics\.csv: is damaged"):
        _ = load_run(path).metrics


def test_a_finished_run_is_found_by_its_config(finished):
    config = finished()
    assert runs.find_finished(config).path == config.run_path


def test_a_folder_of_another_run_is_not_touched(finished, tiny):
    finished(run_name="mine", lr=0.1)
    before = json.loads((tiny(run_name="mine").run_path / runs.RESULT).read_text())
    other = tiny(run_name="mine", lr=0.2, loss="ce")
    with pytest.raises(ValueError, match="holds a run with other parameters") as caught:
        runs.find_finished(other)
    assert "loss='stcl' there, 'ce' here" in str(caught.value)
    assert "lr=0.1 there, 0.2 here" in str(caught.value)
    assert "seed" not in str(caught.value)
    assert json.loads((other.run_path / runs.RESULT).read_text()) == before


def test_overwrite_takes_a_run_s_own_files_only(finished, tiny):
    config = finished()
    notebook = config.run_path / "train.ipynb"
    notebook.write_text("{}")
    anew = tiny(overwrite=True)
    assert runs.find_finished(anew) is None
    assert (config.run_path / runs.RESULT).exists()
    runs.prepare_folder(anew)
    assert list(config.run_path.iterdir()) == [notebook]


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("before")
    with pytest.raises(UnicodeEncodeError), replacing(path) as file:
        file.write("half\ud800")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
    with replacing(path) as file:
        file.write("after")
    assert path.read_text() == "after"


def test_numbers_survive_the_files(tiny):
    config = tiny(dataset="moving_digits")
    config.run_path.mkdir(parents=True)
    values = [1 / 3, math.pi * 1e-12, 97.49999999999999]
    runs.write_table(config, "t.csv", pd.DataFrame({"x": values}, index=[5, 7, 9]))
    table = pd.read_csv(config.run_path / "t.csv")
    assert table["x"].tolist() == values
    assert table["data"].tolist() == 3 * ["moving_digits (simulated)"]


def test_a_table_of_an_earlier_version_is_named(finished):
    config = finished()
    (config.run_path / runs.ACCURACY).write_text("time_step,cumulative,instantaneous\n1,50,50\n")
    with pytest.raises(ValueError, match=r"accuracy_by_step\.csv: was written by an earlier version"):
        load_run(config.run_path).accuracy_by_step  # noqa: B018


@pytest.mark.parametrize("content", [b"", b"noise", b"PK\x03\x04 half a file"])
def test_a_damaged_checkpoint_is_named_in_one_line(tmp_path, content):
    (tmp_path / runs.CHECKPOINT).write_bytes(content)
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt: is damaged .*overwrite=True trains anew"
    ) as caught:
        runs.load_checkpoint(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_can_run_no_code(tmp_path):
    mark = tmp_path / "mark"

    class Harmful:
        def __reduce__(self):
            return (Path.touch, (mark,))

    torch.save({"network": Harmful()}, tmp_path / runs.CHECKPOINT)
    with pytest.raises(ValueError, match="is damaged"):
        runs.load_checkpoint(tmp_path)
    assert not mark.exists()
    torch.load(tmp_path / runs.CHECKPOINT, weights_only=False)
    assert mark.exists()  # it would have
