"""Grids of runs: which runs they are, and that one that fails stops no other."""

import dataclasses
import logging
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import pandas as pd
import pytest
from conftest import messages

from tcl_lib import RunConfig, data, grid, train, train_grid
from tcl_lib.runs import layout
from tcl_lib.training import grids
from tcl_lib.utils.devices import use_threads


def described(configs):
    return [(config.loss, config.seed, config.loss_parameters["temperature"]) for config in configs]


def test_the_default_grid_is_the_default_run():
    assert grid() == [RunConfig()]


def test_every_combination_the_seeds_last():
    configs = grid(losses=["ce", "stcl"], seeds=[3, 1], time_steps=[2, 4], epochs=5)
    assert [(c.seed, c.time_steps, c.loss) for c in configs] == [
        (3, 2, "ce"),
        (3, 4, "ce"),
        (3, 2, "stcl"),
        (3, 4, "stcl"),
        (1, 2, "ce"),
        (1, 4, "ce"),
        (1, 2, "stcl"),
        (1, 4, "stcl"),
    ]
    assert {c.epochs for c in configs} == {5}
    assert len({c.name for c in configs}) == 8


def test_what_has_no_effect_makes_no_further_run():
    configs = grid(losses=["ce", "tcl"], seeds=[0], temperature=[0.1, 0.2])
    assert described(configs) == [("ce", 0, None), ("tcl", 0, 0.1), ("tcl", 0, 0.2)]
    choices = [["class"], ["class", "time"], ["class", "time", "view"]]
    configs = grid(losses=["per_step_ce", "tcl", "stcl"], positives=choices)
    assert [(c.loss, c.positives) for c in configs] == [
        ("per_step_ce", ["class", "time", "view"]),  # the default: without effect
        ("tcl", ["class"]),
        ("tcl", ["class", "time"]),
        *(("stcl", choice) for choice in choices),
    ]
    assert configs[2].name == RunConfig(loss="tcl").name


def test_grid_calls_a_combination_by_the_loss_that_it_is():
    configs = grid(losses=["ce", "tcl", "stcl"], temporal_term=[None, "none", "consistency"], views=[None, 1])
    assert [config.variant for config in configs] == [
        *("CE", "ETC", "TCL", "STCL", "CE, views 2", "ETC, views 2"),
    ]
    one = {"ce_term": ["per_step"], "temporal_term": ["contrastive"]}
    (config,) = grid(losses=["ce", "per_step_ce", "tcl"], **one)
    assert config.variant == "TCL, ce term per_step"


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"temperature": 0.2}, "temperature=0.2: must be a list of values"),
        ({"losses": "ce"}, "losses='ce': must be a list of values, each a loss"),
        ({"losses": None}, "losses=None: must be a list of values"),
        ({"seeds": []}, r"seeds=\[\]: must be a list of values"),
        ({"losses": ["ce", "supcon"]}, "loss='supcon': must be 'ce', 'per_step_ce'"),
        ({"temperature": [0.1, "0.2"]}, "temperature='0.2': must be a valid number"),
        ({"positives": ["class"]}, "positives='class': must be a valid list"),
        ({"loss": ["ce"]}, "unknown parameter loss, did you mean losses"),
        ({"seed": 1}, "unknown parameter seed, did you mean seeds"),
        ({"run_name": "mine"}, "unknown parameter run_name"),
        ({"lrr": 1}, "unknown parameter lrr, did you mean lr"),
        ({"losses": ["ce"], "temperature": [0.2]}, "temperature=0.2: has no effect with loss='ce'"),
        ({"dataset": ["digits"]}, r"dataset=\['digits'\]: must be 'digits', "),
        ({"epochs": [5]}, r"epochs=\[5\]: must be a valid integer"),
    ],
)
def test_a_mistake_is_named_in_one_line(parameters, words):
    with pytest.raises(ValueError, match=words) as caught:
        grid(**parameters)
    assert "\n" not in str(caught.value)


def test_lists_and_shared_parameters_are_those_of_a_run():
    fields = set(RunConfig().to_dict())
    assert set(grids.LISTS.values()) | set(grids.SHARED) == fields - {"run_name", "overwrite"}
    assert not set(grids.LISTS.values()) & set(grids.SHARED)


@pytest.fixture
def small(tiny):
    shared = {k: v for k, v in tiny().to_dict().items() if k in grids.SHARED}
    return shared | {"projection_dim": [16], "time_steps": [2], "batch_size": [32]}


def test_missing_runs_are_trained_and_finished_ones_are_not(small, caplog):
    caplog.set_level(logging.INFO, logger="tcl_lib.training.grids")
    del small["projection_dim"]  # without effect beside ce alone
    half = grid(losses=["ce"], seeds=[0, 1], **small)
    train(half[1], verbose=False)
    stamp = (half[1].run_path / layout.RESULT).stat().st_mtime_ns
    table = train_grid(half)
    assert (half[1].run_path / layout.RESULT).stat().st_mtime_ns == stamp
    assert table["seed"].tolist() == [0, 1]
    lines = caplog.messages
    assert len(lines) == 2
    assert lines[0].startswith(f"1/2  {half[0].name} (CE): ")
    assert "trained in" in lines[0]
    assert lines[1].endswith("was finished")
    caplog.clear()
    again = train_grid(half)
    pd.testing.assert_frame_equal(table, again)
    assert caplog.text.count("was finished") == 2


def test_a_run_that_fails_is_named_and_stops_no_other(small):
    configs = grid(losses=["ce", "tcl"], seeds=[0], **small)
    other = RunConfig(**(configs[0].to_dict() | {"lr": 0.05, "run_name": configs[0].name}))
    train(other, verbose=False)  # in the folder of the first
    with pytest.warns(UserWarning, match="failed") as warned:
        table = train_grid(configs)
    assert table["loss"].tolist() == ["tcl"]
    failed, missing = (line for line in messages(warned) if "failed" in line)
    words = f"1/2  {configs[0].name} (CE): failed, ValueError: {configs[0].run_path}: holds a run"
    assert failed.startswith(words)
    assert missing == "1 of 2 runs failed and are not in the table"


def test_where_all_fail_the_grid_does(small, tmp_path):
    configs = grid(**small | {"dataset": "folder", "data_root": str(tmp_path / "nowhere")})
    with (
        pytest.raises(
            RuntimeError, match="none of the 1 runs is finished; the first failed with FileNotFound"
        ),
        pytest.warns(UserWarning, match=str(tmp_path / "nowhere")),
    ):
        train_grid(configs)
    assert not list(configs[0].run_path.parent.glob("*"))


def test_train_grid_has_a_row_for_each_folder_and_none_twice(small, tmp_path):
    (one,) = grid(**small)
    other = dataclasses.replace(one, runs_dir=str(tmp_path / "others"))
    table = train_grid([one, other, one])
    assert table["path"].tolist() == [str(one.run_path), str(other.run_path)]


def test_train_grid_names_a_run_whose_folder_is_another_runs(small):
    (one,) = grid(**small)
    config = dataclasses.replace(one, run_name="mine")
    with pytest.warns(
        UserWarning, match=r"^2/2  mine .*: failed, ValueError: .*: holds a run with other par"
    ):
        table = train_grid([config, dataclasses.replace(config, seed=1)])
    assert table["seed"].tolist() == [0]


def test_train_grid_of_nothing_is_refused():
    with pytest.raises(ValueError, match="no runs: the grid is empty"):
        train_grid([])


def test_train_grid_names_a_fork_that_would_wait_for_ever(small):
    """Threads that torch computed with are not there in a fork."""
    with (
        use_threads(2),
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor,
        pytest.raises(RuntimeError, match="none of the 1 runs"),
        pytest.warns(UserWarning, match=r"a forked process cannot train with 2 threads: .*'spawn'"),
    ):
        train_grid(grid(**small), executor)


def test_an_interrupt_stops_the_grid(small, monkeypatch):
    def interrupted(config, verbose):
        raise KeyboardInterrupt

    monkeypatch.setattr("tcl_lib.training.loop.train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_grid(grid(**small))


def test_train_grid_loads_the_data_of_many_finished_runs_once(small, image_folder, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="tcl_lib.training")
    shared = small | {
        "dataset": "folder",
        "data_root": str(image_folder),
        "train_size": None,
        "batch_size": [4],
    }
    configs = grid(losses=["ce", "tcl", "stcl"], seeds=[0, 1], **shared)
    train_grid(configs)
    loaded = []
    real = data.load_data
    monkeypatch.setattr(
        data, "load_data", lambda config, **how: loaded.append(config.seed) or real(config, **how)
    )
    assert len(train_grid(configs)) == 6
    assert loaded == [0, 1]
    assert len(train_grid(configs[:1])) == 1
    assert loaded == [0, 1, 0]  # a call looks anew
