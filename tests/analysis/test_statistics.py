"""Findings: means, paired differences and their intervals, and that nothing is mixed that differs."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from conftest import write_run

from tcl_lib import runs
from tcl_lib.analysis import statistics
from tcl_lib.analysis.statistics import compare, energy_by_layer, t_interval
from tcl_lib.config import RunConfig
from tcl_lib.runs import layout, names


def accuracy(numbers: dict[str, dict[int, tuple]], setting: str = "digits") -> pd.DataFrame:
    """variant -> seed -> cumulative accuracies, as `runs.gather` gives `accuracy_by_step`."""
    return pd.DataFrame(
        [
            {"setting": setting, "variant": variant, "seed": seed, "time_step": step, "cumulative": value}
            for variant, seeds in numbers.items()
            for seed, values in seeds.items()
            for step, value in enumerate(values, start=1)
        ]
    )


@pytest.fixture
def made(tiny):
    """A function making the folder of a finished run, of these results."""

    def make(test_accuracy=90.0, test_size=360, run_name=None, **changes):
        config = tiny(**{"projection_dim": RunConfig.projection_dim} | changes, run_name=run_name)
        steps = range(1, config.time_steps + 1)
        table = {"time_step": steps, "cumulative": [test_accuracy - 1, test_accuracy]}
        tables = {layout.ACCURACY: table}
        write_run(config, test_size=test_size, tables=tables, test_accuracy=test_accuracy)
        return config

    return make


def test_compared_by_hand():
    numbers = {
        "TCL": {0: (61, 64, 71), 1: (63, 64, 72), 2: (65, 64, 70)},
        "CE": {0: (60, 60, 70), 1: (61, 60, 74), 2: (62, 60, 72)},
    }
    table = compare(accuracy(numbers)).set_index(["variant", "time_step"])
    assert table.index.tolist() == [("CE", 1), ("TCL", 1), ("CE", 3), ("TCL", 3)]
    first = table.loc["TCL", 1]
    assert (first["mean"], first["sd"], first["n"]) == (63, 2, 3)
    assert (first["difference"], first["pairs"]) == (2, 3)  # 1, 2, 3
    assert (first["low"], first["high"]) == pytest.approx(tuple(t_interval(np.array([1.0, 2.0, 3.0]))))
    last = table.loc["TCL", 3]
    assert last["difference"] == pytest.approx(-1)  # 1, -2, -2
    assert table.loc["CE", 1][["difference", "low", "high"]].isna().all()


def test_differences_are_of_the_same_seed():
    numbers = {
        "CE": {0: (10, 10), 1: (50, 50), 7: (99, 99)},
        "STCL": {0: (11, 11), 1: (51, 51), 5: (0, 0)},
    }
    row = compare(accuracy(numbers)).set_index(["variant", "time_step"]).loc["STCL", 2]
    assert (row["n"], row["pairs"], row["difference"]) == (3, 2, 1)
    assert (row["low"], row["high"]) == (1, 1)


def test_one_seed_has_no_spread_and_no_interval():
    row = compare(accuracy({"CE": {0: (60, 70)}, "TCL": {0: (61, 73)}})).iloc[-1]
    assert (row["mean"], row["n"], row["difference"]) == (73, 1, 3)
    assert row[["sd", "low", "high"]].isna().all()


def test_without_the_baseline_there_is_no_difference():
    table = compare(accuracy({"TCL": {0: (61, 73)}, "STCL": {1: (61, 73)}}))
    assert table["difference"].isna().all()
    assert table["pairs"].tolist() == [0] * 4


def test_one_step_is_first_and_last():
    table = compare(accuracy({"CE": {0: (60,), 1: (62,)}}))
    assert table["time_step"].tolist() == [1]


def test_runs_of_two_settings_are_never_compared():
    mixed = pd.concat(
        [accuracy({"CE": {0: (60, 70)}}), accuracy({"CE": {1: (10, 20)}}, setting="cifar10, T = 4")]
    )
    with pytest.raises(ValueError, match="runs of 2 settings, cifar10, T = 4; digits"):
        compare(mixed)


def test_t_interval_by_hand():
    # Student's t for 2 degrees of freedom: 4.302653; the mean of 1, 2 and 6 is 3, their deviation 7 ** 0.5
    half = 4.302653 * (7 / 3) ** 0.5
    assert t_interval(np.array([1.0, 2.0, 6.0])) == pytest.approx((3 - half, 3 + half), abs=1e-5)


def test_t_interval_is_that_of_scipy_s_test():
    values = np.random.default_rng(0).normal(size=7)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert t_interval(values) == pytest.approx(tuple(expected), abs=1e-12)


@pytest.mark.parametrize("values", [[], [3.0]])
def test_t_interval_of_fewer_than_two_values_is_nan(values):
    assert np.isnan(t_interval(np.array(values))).all()


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_t_interval_contains_the_true_difference_in_95_percent_of_studies(seeds):
    """The percentile bootstrap's does in 75 to 90 %."""
    random, studies, true = np.random.default_rng(seeds), 4000, 0.7
    seed_effect = random.normal(scale=3, size=(studies, seeds))  # the same with both losses
    baseline = 60 + seed_effect + random.normal(size=(studies, seeds))
    other = 60 + true + seed_effect + random.normal(size=(studies, seeds))
    intervals = [t_interval(differences) for differences in other - baseline]
    covered = np.mean([low <= true <= high for low, high in intervals])
    assert covered == pytest.approx(0.95, abs=3 * (0.95 * 0.05 / studies) ** 0.5)


def stepwise(plain: dict, recalibrated: dict, half: float = 1.0) -> pd.DataFrame:
    """variant -> seed -> accuracies over the steps, plain and recalibrated, with Wilson intervals ± half."""
    table = accuracy(plain).merge(
        accuracy(recalibrated).rename(columns={"cumulative": "recalibrated"}), how="left"
    )
    return table.assign(low=table["cumulative"] - half, high=table["cumulative"] + half)


def test_stale_statistics_by_hand():
    plain = {"TCL": {0: (66, 70, 70)}, "CE": {0: (60, 68, 70), 1: (62, 70, 73), 2: (58, 69, 70)}}
    again = {"TCL": {0: (67, 70, 70)}, "CE": {0: (63, 68, 71), 1: (66, 70, 74), 2: (62, 69, 70)}}
    table = statistics.stale_statistics(stepwise(plain, again)).set_index("variant")
    assert table.index.tolist() == ["CE", "TCL"]
    ce = table.loc["CE"]
    assert (ce["n"], ce["lost"], ce["lost_sd"], ce["regained"]) == (3, 11, 1, 3)  # 10, 11, 12; 2, 3, 4
    assert (ce["low"], ce["high"]) == pytest.approx(tuple(t_interval(np.array([2.0, 3.0, 4.0]))))
    assert ce["share"] == pytest.approx(100 * 3 / 11)
    tcl = table.loc["TCL"]
    assert (tcl["lost"], tcl["regained"], tcl["share"]) == (4, 1, 25)
    assert tcl[["lost_sd", "low", "high"]].isna().all()


def test_stale_statistics_give_no_share_of_a_loss_that_is_not_certain():
    plain = {"CE": {0: (60, 62), 1: (61, 60)}, "TCL": {0: (60, 62)}, "STCL": {0: (63, 62)}}
    table = statistics.stale_statistics(stepwise(plain, plain, half=1.5))
    assert table["lost"].tolist() == [0.5, 2, -1]
    assert table["share"].isna().all()


def test_stale_statistics_of_two_settings_are_refused():
    one = stepwise({"CE": {0: (60, 70)}}, {"CE": {0: (60, 70)}})
    with pytest.raises(ValueError, match="runs of 2 settings"):
        statistics.stale_statistics(pd.concat([one, one.assign(setting="cifar10", seed=1)]))


def surroundings(*rows: tuple) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["variant", "seed", "threads", "processor"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("CE", 0, 1, "EPYC"), ("TCL", 0, 2, "EPYC")], "numbers of threads (1, 2)"),  # in a difference
        ([("CE", 0, 1, "EPYC"), ("CE", 1, 2, "EPYC")], "numbers of threads (1, 2)"),  # in a mean
        ([("CE", 0, 1, "EPYC"), ("CE", 0, 2, "EPYC")], "numbers of threads (1, 2)"),  # a run twice
        ([("CE", 0, 1, "EPYC"), ("TCL", 0, "4 and 2", "EPYC")], "numbers of threads (1, 4 and 2)"),
        ([("CE", 0, 1, "EPYC"), ("TCL", 0, 1, "Xeon")], "kinds of processor (EPYC, Xeon)"),
        (
            [("CE", 0, 1, "EPYC"), ("TCL", 0, 2, "Xeon")],
            "numbers of threads (1, 2) and kinds of processor (EPYC, Xeon)",
        ),
    ],
)
def test_mixed_names_the_surroundings_that_differ(rows, words):
    expected = f"The runs had different {words}: that alone changes the numbers of a seed."
    assert statistics.mixed(surroundings(*rows)) == expected


@pytest.mark.parametrize(
    "rows",
    [
        [("CE", 0, 1, "EPYC"), ("TCL", 0, 1, "EPYC")],
        [("CE", 0, 1, "EPYC"), ("CE", 1, 1, "EPYC")],
    ],
)
def test_mixed_says_nothing_of_runs_that_are_alike(rows):
    assert statistics.mixed(surroundings(*rows)) == ""
    assert statistics.mixed(surroundings(*rows)[["variant", "seed"]]) == ""


@pytest.mark.parametrize(
    ("prints", "said"),
    [
        (["a v t", "a v t", "b w t", "b w t"], False),  # another seed draws other training samples
        (["a v t", "x v t", "b w t", "b w t"], True),
        (["a v t", "a v t", "b w x", "b w x"], True),
    ],
)
def test_mixed_says_that_runs_are_of_different_data(prints, said):
    rows = surroundings(*((variant, seed, 1, "EPYC") for seed in (0, 1) for variant in ("CE", "TCL")))
    words = "Not all runs are of the same data: their fingerprints differ."
    assert statistics.mixed(rows.assign(fingerprint=prints)) == (words if said else "")
    rows["threads"] = [1, 2, 1, 1]
    both = statistics.mixed(rows.assign(fingerprint=prints))
    assert both.startswith(words) == said
    assert both.endswith("numbers of threads (1, 2): that alone changes the numbers of a seed.")


def test_a_run_that_is_there_twice_on_different_data_is_named(made):
    first, again = made(loss="ce"), made(loss="ce", run_name="z")
    table = runs.load_runs(first.run_path.parent)
    with pytest.warns(UserWarning, match=f"^skipped {again.run_path}: another folder holds the same run, on"):
        statistics.settings(table.assign(fingerprint=["a v t", "a v x"]))


def test_settings_stay_apart(made):
    root = made(loss="ce").run_path.parent
    made(loss="ce", seed=1)
    made(loss="ce", dataset="moving_digits")
    made(loss="ce", backbone="resnet19")
    made(loss="ce", seed=2, test_size=100)  # the same parameters on other data
    found = statistics.settings(runs.load_runs(root))
    names = {re.sub("-[0-9a-f]{6}$", "", name) for name in found}
    assert names == {"digits-convnet-T2", "digits-resnet19-T2", "moving_digits-simulated-convnet-T2"}
    assert sorted(len(rows) for rows in found.values()) == [1, 1, 1, 2]
    # in another order they have the same names
    again = statistics.settings(runs.load_runs(root)[::-1])
    assert {name: sorted(rows["name"]) for name, rows in again.items()} == {
        name: sorted(rows["name"]) for name, rows in found.items()
    }
    assert all(rows["setting"].nunique() == 1 for rows in found.values())


def test_a_seed_counts_once(made):
    root = made(loss="ce").run_path.parent
    again = made(loss="ce", run_name="zzz")
    with pytest.warns(UserWarning, match=f"^skipped {again.run_path}: another folder holds the same run$"):
        (rows,) = statistics.settings(runs.load_runs(root)).values()
    assert len(rows) == 1


def test_without_runs_the_ways_on_are_named():
    with pytest.raises(ValueError, match=r"no finished run to show: .* runs_dir='runs/reference'"):
        statistics.settings(pd.DataFrame())


def test_main_variants_are_the_defaults_or_else_the_most_run(made):
    root = made(loss="tcl").run_path.parent
    for seed in (0, 1):
        made(loss="tcl", temperature=0.2, seed=seed)
        made(loss="stcl", temperature=0.2, seed=seed)
    made(loss="stcl", temperature=0.4)
    made(loss="ce")
    (rows,) = statistics.settings(runs.load_runs(root)).values()
    assert statistics.main_variants(rows)["variant"].to_list() == ["CE", "TCL", "STCL", "STCL"]
    assert rows["variant"].value_counts().to_dict() == {
        "CE": 1,
        "TCL": 1,
        "TCL, temperature 0.2": 2,
        "STCL": 2,  # of temperature 0.2
        "STCL, temperature 0.4": 1,
    }
    assert names.setting_in_words(rows).endswith(" test samples; STCL with temperature 0.2")


def test_of_variants_with_as_many_runs_the_main_one_differs_least_from_the_others(made):
    root = made(loss="tcl", temporal_weight=0.7, negatives=False).run_path.parent
    made(loss="tcl", temporal_weight=0.7, temperature=0.2)
    made(loss="tcl", temporal_weight=0.7, temperature=0.2, positives=["class"])
    (rows,) = statistics.settings(runs.load_runs(root)).values()
    assert set(rows["variant"]) == {"TCL", "TCL, negatives False", "TCL, positives class"}
    assert set(rows["tuned"]) == {"temporal weight 0.7, temperature 0.2"}


def test_main_variants_of_a_folder_whose_name_has_a_semicolon(made):
    root = made(loss="tcl", temperature=0.2).run_path.parent
    table = runs.load_runs(root)
    other = table["setting"].str.replace("digits", "folder (photos; 2024)", regex=False)
    (rows,) = statistics.settings(table.assign(setting=other, data="folder (photos; 2024)")).values()
    assert statistics.main_variants(rows)["variant"].to_list() == ["TCL"]
    assert names.setting_in_words(rows).startswith("photos; 2024, convnet, T = 2")
    assert names.setting_in_words(rows).endswith(" test samples; TCL with temperature 0.2")


def test_where_no_variant_is_the_main_one_the_first_by_name_is_taken_with_a_warning(made):
    root = made(loss="tcl", temperature=0.4).run_path.parent
    made(loss="tcl", temperature=0.2)
    made(loss="tcl", temperature=0.3, temporal_weight=0.7)
    with pytest.warns(UserWarning, match="^no TCL run has the default") as warned:
        (rows,) = statistics.settings(runs.load_runs(root)).values()
    assert [str(warning.message) for warning in warned] == [
        "no TCL run has the default parameters, and no variant has the most runs: TCL is TCL, temperature 0.2"
    ]
    assert set(rows["variant"]) == {
        "TCL",
        "TCL, temperature 0.4",
        "TCL, temporal weight 0.7, temperature 0.3",
    }


def test_settings_of_named_runs_are_the_same(made):
    root = made(loss="tcl", temperature=0.2).run_path.parent
    made(loss="tcl", temperature=0.2, views=2, augment=True)
    made(loss="tcl", temperature=0.2, seed=1)
    made(loss="ce")
    once = statistics.settings(runs.load_runs(root))
    again = statistics.settings(pd.concat(once.values()))
    assert once.keys() == again.keys()
    for name, rows in once.items():
        pd.testing.assert_frame_equal(rows, again[name])
    (views,) = statistics.settings(once[name][once[name]["variant"] != "TCL"]).values()
    assert set(views["variant"]) == {"CE", "TCL, views 2"}  # not named after themselves


def test_named_runs_keep_their_names_without_the_main_variant(made):
    root = made(loss="tcl").run_path.parent
    made(loss="tcl", temperature=0.5)
    made(loss="stcl", temperature=0.2)
    made(loss="ce")
    (rows,) = statistics.settings(runs.load_runs(root)).values()
    (some,) = statistics.settings(rows[rows["variant"] != "TCL"]).values()
    assert set(some["variant"]) == {"CE", "TCL, temperature 0.5", "STCL"}


def test_runs_named_after_other_values_are_not_averaged(made):
    root = made(loss="tcl", temperature=0.2).run_path.parent
    (one,) = statistics.settings(runs.load_runs(root)).values()
    made(loss="tcl", temperature=0.5, seed=1)
    (other,) = statistics.settings(runs.load_runs(root).query("seed == 1")).values()
    assert set(one["variant"]) == set(other["variant"]) == {"TCL"}
    with pytest.raises(ValueError, match=r"^TCL stands for temperature 0\.2 and temperature 0\.5: name"):
        runs.one_setting(pd.concat([one, other]))


def test_variants_are_named_by_what_differs_from_the_main_one(made):
    tuned = {"ce_term": "per_step", "temporal_weight": 0.7, "temperature": 0.2}
    root = made(loss="tcl", **tuned).run_path.parent
    made(loss="stcl", **tuned)
    made(loss="tcl", **tuned, views=2, augment=True)
    made(loss="tcl", **tuned | {"ce_term": "mean"})
    made(loss="tcl", **tuned | {"temperature": 0.1})  # the default
    made(loss="tcl", ce_term="per_step", temporal_weight=0.7, negatives=False)  # has no temperature
    made(loss="stcl", **tuned, positives=["class"], seed=1)
    (rows,) = statistics.settings(runs.load_runs(root)).values()
    assert set(rows["variant"]) == {
        "TCL",
        "TCL, views 2",
        "TCL, ce term mean",
        "TCL, temperature 0.1",
        "TCL, negatives False",
        "STCL",
        "STCL, positives class",
    }
    assert names.setting_in_words(rows).endswith(
        "; TCL and STCL with ce term per_step, temporal weight 0.7, temperature 0.2"
    )


def test_what_the_varied_runs_share_need_not_be_the_defaults(made):
    root = made(loss="tcl", ce_term="per_step").run_path.parent
    for temperature in (0.1, 0.2):
        for positives in (["class"], ["class", "time"]):
            for seed in (0, 1):
                if (temperature, positives, seed) != (0.1, ["class", "time"], 0):
                    changes = {"temperature": temperature, "positives": positives, "seed": seed}
                    made(loss="tcl", ce_term="per_step", **changes)
    (rows,) = statistics.settings(runs.load_runs(root)).values()
    both = statistics.varied(rows, "temperature", "temporal_weight")
    assert sorted(both["temperature"]) == [0.1, 0.1, 0.2, 0.2]
    assert both["fixed"].nunique() == 1
    assert "ce term per_step" in both["fixed"].iloc[0]
    assert statistics.varied(rows, "positives")["positives"].value_counts().to_dict() == {
        "class": 2,
        "class+time": 2,
    }


def test_what_varies_alone(made):
    root = made(loss="tcl").run_path.parent
    made(loss="tcl", temperature=0.2)
    made(loss="tcl", temperature=0.2, temporal_weight=2.0)
    made(loss="tcl", temperature=0.2, positives=["class"])  # two things at once
    made(loss="tcl", positives=["class"])
    made(loss="stcl")  # has no other value
    made(loss="tcl", temporal_weight=0)
    made(loss="stcl", negatives=False)  # has no temperature
    made(loss="stcl", negatives=False, temporal_weight=2.0)
    made(loss="ce")
    (rows,) = statistics.settings(runs.load_runs(root)).values()
    both = statistics.varied(rows, "temperature", "temporal_weight")
    of_tcl = both[both["loss"] == "tcl"]
    assert sorted(zip(of_tcl["temperature"], of_tcl["temporal_weight"], strict=True)) == [
        (0.1, 0.0),
        (0.1, 0.5),
        (0.2, 0.5),
        (0.2, 2.0),
    ]
    assert sorted(both["temporal_weight"][both["loss"] == "stcl"]) == [0.5, 2.0]
    assert sorted(statistics.varied(rows, "positives")["positives"]) == ["class", "class+time"]
    assert statistics.varied(rows[rows["loss"] == "ce"], "positives").empty
    assert statistics.varied(rows[rows["loss"] == "stcl"], "temperature").empty


def test_energy_by_layer_by_hand():
    operations = pd.DataFrame(
        {
            "data": "digits",
            "layer": [1, 1, 2, 2],
            "operation": ["a", "a", "b", "b"],
            "time_step": [1, 2, 1, 2],
            "dense": [10.0, 10.0, 20.0, 20.0],
            "effective_macs": [9.0, 0.0, 0.0, 0.0],
            "effective_acs": [0.0, 0.0, 3.0, 4.0],
            "energy_uj": [1.0, 0.0, 2.0, 3.0],
            "ann_energy_uj": [5.0, 0.0, 6.0, 0.0],
        }
    )
    table = energy_by_layer(operations)
    assert table.index.tolist() == [1, 2, "total"]
    assert table["dense"].tolist() == [10, 20, 30]
    assert table["effective_macs"].tolist() == [9, 0, 9]
    assert table["effective_acs"].tolist() == [0, 7, 7]
    assert table["energy_uj"].tolist() == [1, 5, 6]
    assert table["ann_energy_uj"].tolist() == [5, 6, 11]
