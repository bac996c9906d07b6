"""Differences between losses in every setting, against values computed by hand."""

from pathlib import Path

import numpy as np
import pytest
from conftest import write_run
from scipy.stats import ttest_1samp

from tcl_lib import RunConfig, load_runs, losses, register_loss
from tcl_lib.analysis import claims
from tcl_lib.runs import layout

ACCURACY = {"ce": ([50.0, 60.0, 70.0], [52.0, 61.0, 73.0]), "tcl": ([58.0, 66.0, 71.0], [57.0, 69.0, 75.0])}


@pytest.fixture
def table(tmp_path):
    """Two seeds of ce and tcl, a third of tcl, and ce with another T, which nothing is compared with."""
    for loss, seeds in ACCURACY.items():
        for seed, values in enumerate([*seeds, seeds[0]] if loss == "tcl" else seeds):
            config = RunConfig(loss=loss, seed=seed, time_steps=3, runs_dir=str(tmp_path))
            steps = {"time_step": [1, 2, 3], "cumulative": values, "recalibrated": [v + seed for v in values]}
            write_run(config, tables={layout.ACCURACY: steps}, seconds=10.0 + seed)
    write_run(RunConfig(loss="ce", time_steps=2, runs_dir=str(tmp_path)))
    return load_runs(tmp_path)


def test_differences_are_paired_by_seed(table):
    found = claims.differences(table, claims.accuracy).set_index("quantity")
    assert found.index.tolist() == ["t = 1", "t = 2", "t = T"]
    assert (found[["variant", "n", "data"]] == ["TCL", 2, "Digits"]).all(axis=None)
    for step, quantity in enumerate(found.index):
        ce, tcl = ([values[step] for values in ACCURACY[loss]] for loss in ("ce", "tcl"))
        apart = np.subtract(tcl, ce)
        row = found.loc[quantity]
        assert row["mean"] == pytest.approx(np.mean(tcl))  # of the seeds that both have
        assert row["difference"] == pytest.approx(apart.mean())
        assert (row["low"], row["high"]) == pytest.approx(ttest_1samp(apart, 0).confidence_interval(0.95))


def test_without_a_common_seed_there_is_no_difference_and_the_mean_is_the_own(table):
    found = claims.differences(table.query("loss == 'ce' or seed == 2"))
    assert found["mean"].tolist() == ACCURACY["tcl"][0]
    assert found["n"].tolist() == [0, 0, 0]
    assert found[["difference", "low", "high"]].isna().all(axis=None)


def test_differences_to_another_baseline_change_sign(table):
    to_ce = claims.differences(table, claims.recalibrated)["difference"]
    to_tcl = claims.differences(table, claims.recalibrated, "TCL")["difference"]
    assert to_tcl.tolist() == [-difference for difference in to_ce]


def test_differences_are_also_those_of_a_loss_registered_later(table, tmp_path, own_names):
    register_loss("last_tcl", label="last TCL", ce_term=last_ce, temporal_term="contrastive")
    write_run(RunConfig(loss="last_tcl", time_steps=3, runs_dir=str(tmp_path)))
    assert set(claims.differences(load_runs(tmp_path), seconds)["variant"]) == {"TCL", "last TCL"}


def last_ce(logits, labels):
    return losses.ce(logits[-1:], labels)


def seconds(run):
    return {"seconds": run.result["seconds"]}


def test_claim_prints_each_difference_and_counts_the_intervals(table):
    printed = claims.claim(table, variants=["TCL"])
    (row,) = printed.cells.to_dict("records")
    low, high = ttest_1samp([8.0, 5.0], 0).confidence_interval(0.95)
    assert row["t = 1"] == f"57.50, +6.50 [−{-low:.2f}, +{high:.2f}]"
    assert row["t = T"] == "73.00, +1.50 [−4.85, +7.85]"
    assert (row["data"], row["loss"], row["n"]) == ("Digits", "TCL", 2)
    assert " 0 of 3 intervals lie above 0 and 0 below" in printed.caption


def test_claim_says_that_runs_were_trained_with_different_numbers_of_threads(table):
    said = "The runs had different numbers of threads (1, 2): that alone changes the numbers of a seed."
    assert claims.claim(table.assign(threads=1)).caption.endswith(" exclude 0.")
    two = table.assign(threads=1 + (table["loss"] == "tcl"))
    assert claims.claim(two).caption.endswith(f" exclude 0. {said}")
    assert claims.claim(two, variants=["CE"]).caption == ""


def test_a_run_that_lost_its_table_is_skipped_with_a_warning(table):
    lost = (
        Path(table.query("loss == 'ce' and seed == 0 and time_steps == 3")["path"].iloc[0]) / layout.ACCURACY
    )
    lost.unlink()
    with pytest.warns(UserWarning, match=f"^skipped {lost}: is missing"):
        found = claims.differences(table)
    assert set(found["n"]) == {1}
    assert found["difference"].tolist() == [5.0, 8.0, 2.0]  # of seed 1


def test_claims_compare_the_main_variants_and_say_what_is_tuned(table, tmp_path):
    for loss, changes in {"ce": {}, "tcl": {"temperature": 0.3}, "stcl": {"temperature": 0.3}}.items():
        config = RunConfig(loss=loss, **changes, time_steps=2, runs_dir=str(tmp_path), seed=5)
        write_run(config, tables={layout.ACCURACY: {"time_step": [1, 2], "cumulative": [50.0, 60.0]}})
    two = load_runs(tmp_path).query("seed == 5")
    assert set(claims.differences(two)["variant"]) == {"TCL", "STCL"}
    assert set(claims.differences(two, baseline="TCL")["variant"]) == {"CE", "STCL"}
    assert claims.claim(two).caption.endswith(" Digits: TCL and STCL with temperature 0.3.")
    write_run(
        RunConfig(loss="etc", time_steps=2, runs_dir=str(tmp_path), seed=5),
        tables={layout.ACCURACY: {"time_step": [1, 2], "cumulative": [50.0, 60.0]}},
    )
    without = claims.claim(load_runs(tmp_path).query("seed == 5"), variants=["ETC"])
    assert without.caption.endswith(" exclude 0.")  # neither TCL nor STCL is in the table


def test_claim_says_nothing_of_settings_that_it_does_not_show(table, tmp_path):
    # the same setting on other data, without the baseline
    write_run(RunConfig(dataset="moving_digits", loss="tcl", time_steps=3, runs_dir=str(tmp_path)))
    for seed in (0, 1):
        write_run(RunConfig(loss="tcl", seed=seed, time_steps=8, runs_dir=str(tmp_path)))
    threads = load_runs(tmp_path)
    threads["threads"] = 1 + ((threads["time_steps"] == 8) & (threads["seed"] == 1))
    assert claims.claim(threads).caption.endswith(" exclude 0.")


def test_claim_tells_settings_of_the_same_data_apart(table, tmp_path):
    for loss in ("ce", "tcl"):
        config = RunConfig(loss=loss, time_steps=3, epochs=9, runs_dir=str(tmp_path))
        write_run(config, tables={layout.ACCURACY: {"time_step": [1, 2, 3]}})
    data = claims.claim(load_runs(tmp_path)).cells["data"].tolist()
    assert len(set(data)) == 2
    assert sum("epochs 9" in title for title in data) == 1


def test_brief_says_ahead_or_behind_only_where_the_interval_excludes_zero(tmp_path):
    for loss, accuracies in {
        "ce": ([50, 60], [52, 61]),
        "tcl": ([58, 60], [61, 61]),
        "etc": ([40, 70],),
    }.items():
        for seed, values in enumerate(accuracies):
            config = RunConfig(loss=loss, seed=seed, time_steps=2, runs_dir=str(tmp_path))
            write_run(config, tables={layout.ACCURACY: {"time_step": [1, 2], "cumulative": values}})
    ahead, behind = claims.brief(load_runs(tmp_path), ["TCL", "CE"], ["CE", "TCL"]).splitlines()[2:]
    assert ahead == (
        "- TCL against CE, n = 2: at t = 1 **ahead**, +8.50 [+2.15, +14.85];"
        " at t = T no difference shown, +0.00 [+0.00, +0.00]"
    )
    assert behind.startswith("- CE against TCL, n = 2: at t = 1 **behind**, −8.50 [−14.85, −2.15];")
    heading, _, one_seed = claims.brief(load_runs(tmp_path), ["ETC"], ["CE"]).splitlines()
    assert heading.startswith("**Digits**, convnet, T = 2, ")
    assert one_seed.endswith(
        "n = 1: at t = 1 no difference shown, −10.00; at t = T no difference shown, +10.00"
    )
    assert claims.brief(load_runs(tmp_path), ["TSD", "CE"], ["CE", "STCL"]) == ""


def test_show_says_in_one_line_that_there_are_no_such_runs(table, capsys):
    for found in (table, table[:0]):
        claims.show(found, claims.accuracy, "STCL", ["ETC", "TSD"])
        assert capsys.readouterr().out == "no runs of STCL and ETC or TSD in one setting\n"


def test_similarity_and_price_read_a_run(trained):
    similar, cost = claims.similarity(trained), claims.price(trained)
    assert list(similar) == list(claims.SIMILARITY)
    rows = trained.similarity.query("measure == 'cosine' and relation == 'within_sample'")
    ends = rows[(rows["time_step"] == 1) & (rows["other_step"] == trained.config.time_steps)]
    assert similar["cosine, same sample"] == ends["value"].item()
    assert cost["energy at T (µJ)"] == pytest.approx(trained.result["energy_uj"])
    first = trained.operations.query("time_step == 1")["energy_uj"].sum()
    assert cost["energy at t = 1 (µJ)"] == pytest.approx(first)
    assert cost["firing rate (%)"] == pytest.approx(100 * trained.firing_rates["firing_rate"].mean())
    assert cost["training (s)"] == trained.result["seconds"]
