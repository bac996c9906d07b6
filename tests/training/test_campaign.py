"""Campaigns: the runs that a file names, what is left of them, and their training in other processes."""

import logging
import math
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import REPOSITORY, write_run

from tcl_lib import RunConfig, load_runs
from tcl_lib.training import campaign


@pytest.fixture
def write(tmp_path):
    def write(text, name="campaign.yaml"):
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return write


def test_read_returns_the_grid_of_each_part_with_the_shared_parameters(write):
    path = write("""
        epochs: 5
        parts:
          main: {losses: [ce, tcl], seeds: [0, 1]}
          short: {losses: [ce], seeds: [0], epochs: 2}
    """)
    parts = campaign.read(path)
    assert [(c.loss, c.seed, c.epochs) for c in parts["main"]] == [
        ("ce", 0, 5),
        ("tcl", 0, 5),
        ("ce", 1, 5),
        ("tcl", 1, 5),
    ]
    assert parts["short"] == [RunConfig(loss="ce", epochs=2)]


def test_read_counts_a_run_in_its_first_part_only(write):
    parts = campaign.read(write("parts: {a: {losses: [ce, tcl]}, b: {losses: [tcl, stcl]}}"))
    assert [config.loss for config in parts["b"]] == ["stcl"]


def test_read_takes_the_parameters_of_a_recipe_beside_it(write):
    write("{loss: stcl, seed: 7, epochs: 30, lr: 0.2, time_steps: 2}", "digits.yaml")
    (config,) = campaign.read(write("parts: {a: {recipe: digits.yaml, losses: [ce], epochs: 3}}"))["a"]
    assert (config.loss, config.seed, config.epochs, config.lr, config.time_steps) == ("ce", 0, 3, 0.2, 2)


def test_read_draws_the_same_trials_for_all_losses_and_leaves_out_what_one_does_not_use(write):
    draw = "{lr: [0.01, 1], ce_term: [mean, per_step], temperature: [0.05, 0.5]}"
    text = f"parts: {{{{tuning: {{{{losses: [ce, tcl], trials: {{}}, draw: {{{draw}}}}}}}}}}}"
    eight = campaign.read(write(text.format(8)))["tuning"]
    ce, tcl = eight[::2], eight[1::2]
    assert [config.lr for config in ce] == [config.lr for config in tcl]
    assert len({config.lr for config in ce}) == 8
    assert all(0.01 <= config.lr <= 1 and 0.05 <= config.temperature <= 0.5 for config in tcl)
    assert {config.ce_term for config in tcl} == {None, "per_step"}  # None is mean
    assert {config.temperature for config in ce} == {RunConfig.default("temperature")}
    assert campaign.read(write(text.format(3)))["tuning"] == eight[:6]


def test_read_draws_the_same_values_for_a_trial_of_every_part(write):
    parts = """
        parts:
          first: {losses: [ce], trials: 4, draw: {weight_decay: [0.001, 0.1], lr: [0.01, 1]}}
          second:
            losses: [tcl]
            trials: 5
            draw: {lr: [0.01, 1], temperature: [0.1, 1], weight_decay: [0.001, 0.1]}
    """
    first, second = campaign.read(write(parts)).values()
    drawn = [(config.lr, config.weight_decay) for config in second]
    assert [(config.lr, config.weight_decay) for config in first] == drawn[:4]
    assert [len(set(values)) for values in zip(*drawn, strict=True)] == [5, 5]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("parts: {a: {lrr: 1}}", "part 'a': unknown parameter lrr, did you mean lr"),
        ("parts: {a: {losses: ce}}", "part 'a': losses='ce': must be a list"),
        ("parts: [1, 2]", "parts: must be a mapping"),
        ("epochs: 3", "parts: must be a mapping"),
        ("parts: {a: 3}", "part 'a': must hold parameters"),
        ("parts: {a: {draw: {lr: 3}}}", "part 'a': draw: lr=3: must be two numbers"),
        ("parts: {a: {draw: {lr: [0, 1]}}}", "part 'a': draw: lr=\\[0, 1\\]: must be two numbers"),
        ("parts: {a: {draw: [lr]}}", "part 'a': draw=\\['lr'\\]: must be a mapping"),
        ("parts: {a: {recipe: 3}}", "part 'a': recipe=3: must be a file"),
        ("parts: {a: {recipe: [ce.yaml]}}", "part 'a': recipe=\\['ce.yaml'\\]: must be a file"),
        ("parts: {a: {3: 4}}", "part 'a': unknown parameter 3"),
        ("3: 4\nparts: {a: {}}", "part 'a': unknown parameter 3"),
        ("parts: {a: {trials: none}}", "part 'a': trials='none': must be a whole number"),
        ("- ce", "must hold parameters, a line each"),
        ("a: [", "is not YAML"),
    ],
)
def test_read_names_the_part_and_what_is_wrong(write, text, words):
    path = write(text)
    with pytest.raises(ValueError, match=words) as error:
        campaign.read(path)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_main_trains_what_is_left_in_other_processes_and_expects_the_hours_of_the_rest(
    write, tmp_path, capsys
):
    parts = """
        epochs: 1
        train_size: 64
        runs_dir: {}
        parts:
          first: {{losses: [ce, stcl]}}
          second: {{losses: [ce, stcl], epochs: {}}}
    """.format
    path = write(parts(tmp_path / "runs", 1))
    campaign.main([str(path), "--status"])
    assert not (tmp_path / "runs").exists()
    with pytest.raises(ValueError, match="has no part 'frist'; its parts are first, second"):
        campaign.main([str(path), "frist"])
    campaign.main([str(path), "first"])
    runs = load_runs(tmp_path / "runs").set_index("loss")
    assert sorted(runs.index) == ["ce", "stcl"]

    path = write(parts(tmp_path / "runs", 4))
    capsys.readouterr()
    campaign.main([str(path), "--status"])
    first, second = (line.split() for line in capsys.readouterr().out.splitlines()[1:])
    assert first == ["first", "2", "2", "0", "0", "0.0"]
    assert second[:5] == ["second", "2", "0", "0", "2"]
    expected = 4 * (1 + 2) * np.median([runs["seconds"]["ce"], runs["seconds"]["stcl"] / 2]) / 3600
    assert campaign.status(campaign.read(path))["hours left"][1] == pytest.approx(expected)


def test_status_expects_no_hours_where_no_run_of_the_kind_is_finished():
    (row,) = campaign.status({"a": [RunConfig(dataset="moving_digits", seed=9)]}).to_dict("records")
    assert row["left"] == 1
    assert math.isnan(row["hours left"])


def test_trainable_here_leaves_out_a_seed_that_another_kind_of_processor_began(trained, tiny, caplog):
    caplog.set_level(logging.INFO, logger="tcl_lib")
    here, there = [trained.config, tiny(loss="ce")], [tiny(loss="ce", seed=1), tiny(seed=1), tiny(seed=2)]
    assert campaign.trainable_here({"a": here + there}) == here + there
    write_run(there[0])
    assert campaign.trainable_here({"a": here + there}) == [*here, there[2]]
    assert caplog.messages == ["a, seed 1: left out, it was begun on made, Linux"]


def test_the_campaign_of_the_project_is_sound():
    assert all(campaign.read(REPOSITORY / "recipes" / "campaign.yaml").values())


@pytest.mark.soak
def test_sigterm_ends_the_workers_too_after_they_saved_their_runs(write, tmp_path):
    path = write(f"""
        epochs: 500
        runs_dir: {tmp_path}
        parts: {{a: {{losses: [ce, tcl]}}}}
    """)
    command = [sys.executable, "-m", "tcl_lib.training.campaign", str(path), "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as campaign_process:
        start = time.monotonic()
        while len(metrics := list(tmp_path.glob("*/metrics.csv"))) < 2 and time.monotonic() - start < 120:
            time.sleep(0.2)
        campaign_process.send_signal(signal.SIGTERM)
        assert campaign_process.wait(60) == 128 + signal.SIGTERM
        # the pipe is closed when the last process that holds it has ended
        assert b"Traceback" not in campaign_process.communicate(timeout=60)[0]
    assert [(run.parent / "checkpoint.pt").exists() for run in metrics] == [True, True]
    sizes = [run.stat().st_size for run in metrics]
    time.sleep(3)
    assert [run.stat().st_size for run in metrics] == sizes
