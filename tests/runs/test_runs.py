"""Run directories: what is read back, and what is refused."""

import json
import math
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import messages, write_run

from tcl_lib import RunConfig, load_run, load_runs, runs
from tcl_lib.runs import contents, layout, life, names
from tcl_lib.utils.files import Damaged


@pytest.fixture
def finished(tiny):
    """A function making the folder of a finished run, with numbers of our own."""

    def make(**changes):
        config = tiny(**changes)
        tables = {
            layout.METRICS: {"epoch": [1, 2], "loss": [2.5, 1.0 / 3]},
            layout.ACCURACY: {"time_step": [1, 2], "cumulative": [50.0, 62.5], "instantaneous": [50.0, 60.0]},
        }
        numbers = {"test_accuracy": 62.5, "validation_accuracy": 60.0, "best_validation_accuracy": 61.0}
        write_run(config, tables=tables, **numbers)
        return config

    return make


# The tables of a run by the names that `Run` and `runs.gather` give them.
TABLES = {
    "metrics": layout.METRICS,
    "accuracy_by_step": layout.ACCURACY,
    "firing_rates": layout.FIRING_RATES,
    "operations": layout.OPERATIONS,
    "similarity": layout.SIMILARITY,
}


def seal(path: Path) -> None:
    """Have a finished run's checksums fit its files."""
    life.finish(path, json.loads((path / layout.RESULT).read_text()))


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


def test_load_runs_of_the_folder_of_a_run_names_load_run(finished):
    path = finished().run_path
    with pytest.raises(ValueError, match=f"^{path}: is a run, not a folder of runs; read it with load_run$"):
        load_runs(path)


def test_runs_become_a_table(finished):
    configs = [finished(loss=loss, seed=seed) for loss in ("ce", "tcl") for seed in (0, 1)]
    table = load_runs(configs[0].run_path.parent)
    assert sorted(table["name"]) == sorted(config.name for config in configs)
    assert set(configs[0].to_dict()) <= set(table.columns)
    assert table["test_accuracy"].tolist() == [62.5] * 4
    assert table.groupby("loss")["seed"].apply(sorted).to_dict() == {"ce": [0, 1], "tcl": [0, 1]}


def test_an_unfinished_run_is_skipped_and_named(finished):
    one, other = finished(seed=1), finished(seed=2)
    (other.run_path / layout.RESULT).unlink()
    (one.run_path.parent / "empty").mkdir()
    with pytest.warns(UserWarning, match="^skipped ") as warned:
        table = load_runs(one.run_path.parent)
    assert table["seed"].tolist() == [1]
    printed = messages(warned)
    assert printed[0].startswith(f"skipped {other.run_path}: the run is not finished")
    assert printed[1] == f"skipped {one.run_path.parent / 'empty'}: is not a run, it holds no config.json"
    assert len(printed) == 2
    with pytest.raises(ValueError, match="is not finished; start it again to continue it"):
        load_run(other.run_path)


def test_a_run_that_lost_a_file_is_skipped_and_named(finished):
    config = finished()
    (config.run_path / layout.CONFIG).unlink()
    with pytest.warns(UserWarning, match=f"^skipped {config.run_path}: is not a run"):
        assert load_runs(config.run_path.parent).empty


def test_folders_of_other_things_are_passed_over(finished, recwarn):
    root = finished().run_path.parent
    (root / "figures").mkdir()
    (root / "figures" / "a.png").write_bytes(b"")
    (root / "reference" / "other-run").mkdir(parents=True)
    (root / "train.ipynb").write_text("{}")
    assert len(load_runs(root)) == 1
    assert not messages(recwarn)


@pytest.mark.parametrize("content", ["{}", "", '{"test_accuracy": 50.0}', '{"test_accuracy": "x"}'])
def test_a_damaged_result_is_skipped_and_named(finished, content):
    path = finished().run_path
    (path / layout.RESULT).write_text(content)
    with pytest.warns(UserWarning, match="^skipped ") as warned:
        assert load_runs(path.parent).empty
    (line,) = messages(warned)
    assert line.startswith(f"skipped {path / layout.RESULT}: is damaged")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"test_accuracy": None}, "test_accuracy: Input should be a valid number"),
        ({"test_accuracy": "62.5"}, "test_accuracy: Input should be a valid number"),
        ({"test_accuracy": True}, "test_accuracy: Input should be a valid number"),
        ({"test_accuracy": 100.1}, "test_accuracy: Input should be less than or equal to 100"),
        ({"seconds": math.nan}, "seconds: Input should be a finite number"),
        ({"best_epoch": 1.5}, "best_epoch: Input should be a valid integer"),
        ("list", "content: Input should be a valid dictionary"),
        ("lost", "best_epoch: Field required"),
    ],
)
@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_result_that_fits_its_checksum_is_checked(finished, change, words, checkpoint):
    """Every way to the run names the file, what is wrong with it, and what helps."""
    config, good = finished(), finished(seed=5)
    path = config.run_path
    if checkpoint:
        (path / layout.CHECKPOINT).write_bytes(b"")
    result = json.loads((path / layout.RESULT).read_text())
    if change == "lost":
        del result["best_epoch"]
    life.finish(
        path, [result] if change == "list" else result | change if isinstance(change, dict) else result
    )
    remedy = "overwrite=True trains the run anew"
    if checkpoint:
        remedy = (
            f"tcl_lib.measure_again({str(path)!r}) writes the run's files again from its checkpoint, {remedy}"
        )
    expected = f"{path / layout.RESULT}: is damaged ({words}); {remedy}"
    for read in (lambda: load_run(path), lambda: life.find_finished(config)):
        with pytest.raises(Damaged) as caught:
            read()
        assert str(caught.value) == expected
    with pytest.warns(UserWarning, match="^skipped ") as warned:
        assert load_runs(path.parent)["name"].tolist() == [good.name]
    assert messages(warned) == [f"skipped {expected}"]


@pytest.mark.parametrize(("name", "columns"), contents.COLUMNS.items())
def test_a_table_that_fits_its_checksum_is_checked(finished, name, columns):
    """Every column that is read back is there, and of numbers or of text."""
    config, good = finished(), finished(seed=5)
    path = config.run_path
    table = pd.DataFrame({column: ["x"] if column in contents.TEXT else [1.5] for column in columns})
    table.to_csv(good.run_path / name, index=False)
    seal(good.run_path)
    what = {file: attribute for attribute, file in TABLES.items()}[name]
    for column in columns:
        for bad in (
            table.drop(columns=column),
            table.assign(**{column: [1.5 if column in contents.TEXT else "x"]}),
        ):
            bad.to_csv(path / name, index=False)
            seal(path)
            with pytest.raises(Damaged) as caught:
                getattr(load_run(path), what)
            assert str(caught.value).startswith(
                f"{path / name}: has no proper columns {column}, it is damaged or"
            )
            with pytest.warns(UserWarning, match=f"^skipped {path / name}: has no proper columns {column}"):
                gathered = runs.gather(load_runs(path.parent), what)
            assert gathered["run"].unique().tolist() == [good.name]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"images": []}, "data.images: Input should be a valid dictionary"),
        ({"images": {"train": 1, "test": 1}}, "data.images.validation: Field required"),
        ({"image_shape": [1, 8]}, "data.image_shape: List should have at least 3 items"),
        ({"classes": 10}, "data.classes: Input should be a valid list"),
        ({"fingerprint": {"train": 1}}, "data.fingerprint.train: Input should be a valid string"),
    ],
)
def test_a_config_that_fits_its_checksum_is_checked(finished, data, words):
    path = finished().run_path
    content = contents.read_description(path)
    content["data"] |= data
    layout.write_json(path / layout.CONFIG, content)
    seal(path)
    with pytest.raises(Damaged) as caught:
        load_run(path)
    assert str(caught.value).startswith(f"{path / layout.CONFIG}: is damaged ({words}")
    assert str(caught.value).endswith("; overwrite=True trains the run anew")


@pytest.mark.parametrize(
    ("description", "threads", "processor"),
    [
        ({"machine": "AMD EPYC, 1 threads, AVX512, Linux"}, 1, "AMD EPYC, AVX512, Linux"),
        ({"machine": "AMD EPYC, 2 threads, AVX512, Linux", "threads": 2}, 2, "AMD EPYC, AVX512, Linux"),
        ({"machine": "NVIDIA H100", "threads": 8}, 8, "NVIDIA H100"),
        (
            {
                "machine": "AMD EPYC, 1 thread, AVX2, Linux",
                "threads": 1,
                "continued": [{"git_commit": "a"}, {"machine": "Intel, 1 thread, AVX2, Linux"}],
            },
            1,
            "AMD EPYC, AVX2, Linux and Intel, AVX2, Linux",
        ),
        (
            {
                "machine": "AMD EPYC, 4 threads, AVX2, Linux",
                "threads": 4,
                "continued": [{"machine": "AMD EPYC, 2 threads, AVX2, Linux"}],
            },
            "4 and 2",
            "AMD EPYC, AVX2, Linux",
        ),
    ],
)
def test_table_says_what_a_run_was_trained_on(finished, description, threads, processor):
    path = finished().run_path
    layout.write_json(path / layout.CONFIG, contents.read_description(path) | description)
    seal(path)
    (row,) = load_runs(path.parent).to_dict("records")
    assert (row["threads"], row["processor"]) == (threads, processor)


def test_table_holds_the_fingerprint_of_the_data(finished):
    path = finished().run_path
    content = contents.read_description(path)
    content["data"]["fingerprint"] = {"test": "c", "validation": "b", "train": "a"}
    layout.write_json(path / layout.CONFIG, content)
    seal(path)
    assert load_runs(path.parent)["fingerprint"].tolist() == ["a b c"]


def test_tables_of_runs_below_each_other(finished, recwarn):
    table = load_runs(finished(loss="ce", seed=3).run_path.parent)
    finished(loss="tcl", temperature=0.2)
    table = load_runs(table["path"].iloc[0].rsplit("/", 1)[0])
    metrics = runs.gather(table, "metrics")
    assert metrics["epoch"].tolist() == [1, 2, 1, 2]
    assert metrics["loss"].tolist() == [2.5, 1 / 3] * 2
    assert metrics["variant"].tolist() == ["CE"] * 2 + ["TCL, temperature 0.2, projection dim 16"] * 2
    assert metrics["seed"].tolist() == [3, 3, 0, 0]
    assert not metrics["events"].any()
    names = runs.gather(table, lambda run: pd.DataFrame({"x": [run.config.loss]}))
    assert names["x"].tolist() == ["ce", "tcl"]
    assert not messages(recwarn)


def test_gather_leaves_out_runs_without_the_table_and_names_them(finished, recwarn):
    paths = [finished(seed=seed).run_path for seed in range(1, 7)]
    for path in paths[1:]:  # as an earlier version left them
        (path / layout.METRICS).unlink()
        sums = layout.listed_sums(path)
        del sums[layout.METRICS]
        layout.write_sums(path, sums)
    table = load_runs(paths[0].parent)
    assert runs.gather(table[:3], "metrics")["seed"].tolist() == [1, 1]
    assert messages(recwarn) == [f"skipped {paths[1]}, {paths[2]}: without metrics"]
    recwarn.clear()
    runs.gather(table, "metrics")
    assert messages(recwarn) == [f"skipped {', '.join(map(str, paths[1:4]))} and 2 more: without metrics"]
    recwarn.clear()
    assert runs.gather(table, "firing_rates").empty  # no run has it: nothing was skipped
    assert not messages(recwarn)


def test_gather_names_a_table_that_was_lost_and_how_to_write_it_again(finished, recwarn):
    paths = [finished(seed=seed).run_path for seed in (1, 2)]
    (paths[1] / layout.METRICS).unlink()
    assert runs.gather(load_runs(paths[0].parent), "metrics")["seed"].tolist() == [1, 1]
    assert messages(recwarn) == [
        f"skipped {paths[1] / layout.METRICS}: is missing; overwrite=True trains the run anew"
    ]


def test_gather_keeps_a_column_beside_its_neighbour(finished):
    found = [load_run(finished(seed=seed).run_path) for seed in (1, 2)]
    shown = {1: ["loss", "one", "end"], 2: ["loss", "other", "end"]}
    rows = runs.gather(found, lambda run: pd.DataFrame(1.0, [0], shown[run.config.seed]))
    assert list(rows)[-4:] == ["loss", "other", "one", "end"]
    assert rows["other"].isna().tolist() == [True, False]


def test_gather_counts_a_run_in_two_folders_once_and_names_the_second(finished):
    one = finished(seed=1).run_path
    shutil.copytree(one, one.with_name("second"))
    table = load_runs(one.parent)
    assert len(table) == 2
    second = re.escape(str(one.with_name("second")))
    with pytest.warns(UserWarning, match=f"^skipped {second}: another folder holds the same run$"):
        assert runs.gather(table, "metrics")["run"].tolist() == [one.name] * 2


def test_gather_says_of_which_data_and_in_which_surroundings_runs_were_trained(finished):
    path = finished().run_path
    machine = {"machine": "AMD EPYC, 2 threads, AVX2, Linux", "threads": 2}
    layout.write_json(path / layout.CONFIG, contents.read_description(path) | machine)
    seal(path)
    row = runs.gather(load_run(path), "metrics").iloc[0]
    assert (row["data"], row["threads"], row["processor"]) == ("digits", 2, "AMD EPYC, AVX2, Linux")


def test_gather_and_table_take_a_run_a_list_and_a_table(finished):
    found = [load_run(finished(seed=seed).run_path) for seed in (1, 2)]
    rows = runs.gather(runs.table(found), "metrics")
    assert rows["seed"].tolist() == [1, 1, 2, 2]
    pd.testing.assert_frame_equal(runs.gather(found, "metrics"), rows)
    pd.testing.assert_frame_equal(runs.gather(found[0], "metrics"), rows[:2])
    pd.testing.assert_frame_equal(runs.table(runs.table(found)), runs.table(found))


@pytest.mark.parametrize("found", ["runs/reference", Path("runs"), [RunConfig(loss="ce")]])
def test_a_table_is_made_of_runs_only(found):
    with pytest.raises(TypeError, match=r"is no run: use tcl_lib\.load_run or tcl_lib\.load_runs"):
        runs.table(found)


SELECTED = pd.DataFrame({"loss": ["ce", "tcl", "tcl"], "seed": [0, 0, 1], "time_steps": 4})


@pytest.mark.parametrize(
    ("query", "rows"),
    [(None, [0, 1, 2]), ("loss == 'tcl'", [1, 2]), ("loss in ['ce', 'tcl'] and seed < 1", [0, 1])],
)
def test_select_keeps_the_rows_of_a_query(query, rows):
    assert runs.select(SELECTED, query).index.tolist() == rows


def test_select_checks_a_query_without_runs():
    assert runs.select(runs.table([]), "loss in ['ce'] and seed < 3 and test_accuracy > 90").empty
    with pytest.raises(ValueError, match="unknown column epoch; near it is epochs"):
        runs.select(runs.table([]), "epoch == 1")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("los == 'ce'", "select=\"los == 'ce'\": unknown column los; near it is loss"),
        ("x == 1", "select='x == 1': unknown column x; known are loss, seed, time_steps"),
        ("seed <", "select='seed <': is not a pandas query (invalid syntax"),
        ("seed + 1", "select='seed + 1': is not a pandas query ("),
        ("seed > 5", "select='seed > 5': holds for none of the 3 runs"),
        (3, "select=3: must be a valid string, or None"),
    ],
)
def test_select_refuses_a_query_in_one_line(query, message):
    with pytest.raises(ValueError, match="select=") as caught:
        runs.select(SELECTED, query)
    assert str(caught.value).startswith(message)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("label", "title"),
    [
        ("digits", "Digits"),
        ("cifar10", "CIFAR-10"),
        ("dvs_cifar10 (tet split)", "DVS-CIFAR10 (tet split)"),
        ("moving_digits (simulated)", "Moving digits (simulated)"),
        ("folder (cifar10-jpeg)", "CIFAR-10 (JPEG)"),
        ("events_folder (nmnist-small)", "N-MNIST (small)"),
        ("events_folder (DVS_CIFAR10)", "DVS-CIFAR10"),
        ("folder (my (birds)_2)", "my (birds)_2"),
        ("folder (x, convnet, T = 9 (b)", "x, convnet, T = 9 (b"),
    ],
)
def test_data_title_is_the_name_as_people_write_it(label, title):
    assert names.data_title(label) == title
    row = pd.DataFrame({"data": [label], "setting": [f"{label}, convnet, T = 4, epochs 3"]})
    assert names.titled_setting(row) == (title, "convnet, T = 4, epochs 3")


def test_features_are_read_back(finished):
    path = finished().run_path
    with pytest.raises(FileNotFoundError, match=r"features\.npz: the run's features were not kept"):
        load_run(path).features  # noqa: B018
    features = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float16)
    layout.write_arrays(
        path / layout.FEATURES, {"features": features, "labels": [1] * 5, "samples": range(5)}
    )
    with pytest.raises(Damaged, match=r"features\.npz: is damaged, it does not match SHA256SUMS"):
        load_run(path).features  # noqa: B018
    seal(path)
    read = load_run(path).features
    assert (read["features"] == features).all()
    assert read["samples"].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("damage", ["empty", "noise", "cut", "flipped", "pickle", "other arrays"])
def test_damaged_features_are_named_and_run_no_code(finished, damage):
    path = finished().run_path / layout.FEATURES
    arrays = {"features": np.ones((2, 5, 3)), "labels": np.ones(5), "samples": np.ones(5)}
    if damage == "pickle":
        arrays["features"] = np.array([Path("x")], dtype=object)
    layout.write_arrays(path, {"x": np.ones(3)} if damage == "other arrays" else arrays)
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "noise": b"no archive",
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:100] + bytes([whole[100] ^ 255]) + whole[101:],
    }
    path.write_bytes(content.get(damage, whole))
    with pytest.raises(ValueError, match=r"features\.npz: is damaged") as caught:
        load_run(path.parent).features  # noqa: B018
    assert "\n" not in str(caught.value)


def test_what_may_be_compared_and_averaged(finished, tiny):
    config = finished(loss="tcl", temperature=0.2)
    run = load_run(config.run_path)
    assert run.setting == f"{config.setting}, 96 training and 360 test samples"
    others = {"seed": 5, "loss": "ce", "temperature": 0.5, "positives": ["class"], "device": "auto"}
    for name, value in (others | {"views": 2}).items():
        assert tiny(**{"loss": "tcl", name: value}).setting == config.setting
    apart = {"time_steps": 3, "backbone": "resnet19", "dataset": "moving_digits", "epochs": 3, "lr": 0.2}
    apart |= {"train_size": 97, "precision": "bf16-mixed", "batch_size": 16, "augment": False}
    settings = {tiny(**{"loss": "tcl", name: value}).setting for name, value in apart.items()}
    assert len(settings | {config.setting}) == len(apart) + 1


def test_two_folders_of_one_name_are_two_settings():
    places = ("data/mine", "data/others/mine", "/mine")
    settings = {RunConfig(dataset="folder", data_root=root).setting for root in places}
    assert len(settings) == 3


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
    (path / layout.CONFIG).write_text(content)
    with pytest.raises(ValueError, match=r"config\.json: ") as caught:
        load_run(path)
    assert "\n" not in str(caught.value)


def test_a_config_of_another_version_is_refused_with_what_differs(finished, tiny):
    config = finished()
    content = contents.read_description(config.run_path)
    parameters = content["parameters"]
    del parameters["decay"], parameters["device"]  # the second shapes no result
    parameters |= {"leak": 0.5, "gain": 1}
    layout.write_json(config.run_path / layout.CONFIG, content)
    seal(config.run_path)
    words = (
        r"config\.json: was written by another version.*\(unknown here: leak, gain; missing there: decay\)"
    )
    for read in (lambda: load_run(config.run_path), lambda: life.find_finished(config)):
        with pytest.raises(ValueError, match=words) as caught:
            read()
        assert "\n" not in str(caught.value)
    del parameters["leak"], parameters["gain"]
    parameters["decay"] = 0.5
    layout.write_json(config.run_path / layout.CONFIG, content)
    seal(config.run_path)
    assert load_run(config.run_path).config.device == "auto"


@pytest.mark.parametrize("name", [layout.CONFIG, layout.METRICS, layout.RESULT, layout.SUMS])
@pytest.mark.parametrize("seed", range(10))
def test_a_bit_that_flipped_in_a_finished_run_is_noticed(finished, name, seed):
    path = finished().run_path
    config_text = (path / layout.CONFIG).read_text()
    content = bytearray((path / name).read_bytes())
    content[int(np.random.default_rng(seed).integers(len(content)))] ^= 1 << seed % 8
    (path / name).write_bytes(content)
    config = RunConfig(**json.loads(config_text)["parameters"])
    with pytest.raises(ValueError, match=rf"{path}/") as caught:
        life.find_finished(config)
    assert isinstance(caught.value, Damaged)
    assert str(caught.value).endswith("; overwrite=True trains the run anew")  # there is no checkpoint
    if name == layout.METRICS:
        with pytest.raises(Damaged, match=r"metrics\.csv: is damaged, it does not match SHA256SUMS"):
            _ = load_run(path).metrics


def test_the_checksums_are_those_of_sha256sum(finished):
    path = finished().run_path
    check = subprocess.run(["sha256sum", "-c", layout.SUMS], cwd=path, capture_output=True, text=True)
    assert check.returncode == 0, check.stderr
    assert "result.json: OK" in check.stdout


def test_a_damaged_table_is_named(finished):
    path = finished().run_path
    (path / layout.METRICS).write_text("")
    with pytest.raises(ValueError, match=r"metrics\.csv: is damaged"):
        _ = load_run(path).metrics


def test_a_finished_run_is_found_by_its_config(finished):
    config = finished()
    assert life.find_finished(config).path == config.run_path


def test_a_folder_of_another_run_is_not_touched(finished, tiny):
    finished(run_name="mine", lr=0.1)
    before = json.loads((tiny(run_name="mine").run_path / layout.RESULT).read_text())
    other = tiny(run_name="mine", lr=0.2, loss="ce")
    with pytest.raises(ValueError, match="holds a run with other parameters") as caught:
        life.find_finished(other)
    assert "loss='stcl' there, 'ce' here" in str(caught.value)
    assert "lr=0.1 there, 0.2 here" in str(caught.value)
    assert "seed" not in str(caught.value)
    assert json.loads((other.run_path / layout.RESULT).read_text()) == before


def test_overwrite_takes_a_run_s_own_files_only(finished, tiny):
    config = finished()
    notebook = config.run_path / "train.ipynb"
    notebook.write_text("{}")
    anew = tiny(overwrite=True)
    assert life.find_finished(anew) is None
    assert (config.run_path / layout.RESULT).exists()
    with life.opened(anew) as found:
        assert found == life.Found()
        assert (config.run_path / layout.RESULT).exists()  # until the data of the new run are loaded
        life.clear(config.run_path)
    assert {path.name for path in config.run_path.iterdir()} == {"train.ipynb", layout.LOCK}


def test_numbers_survive_the_files(tiny):
    config = tiny(dataset="moving_digits")
    config.run_path.mkdir(parents=True)
    values = [1 / 3, math.pi * 1e-12, 97.49999999999999]
    layout.write_table(
        config.run_path / "t.csv", config.data_label, pd.DataFrame({"x": values}, index=[5, 7, 9])
    )
    table = pd.read_csv(config.run_path / "t.csv")
    assert table["x"].tolist() == values
    assert table["data"].tolist() == 3 * ["moving_digits (simulated)"]


def test_a_table_of_an_earlier_version_is_named(finished):
    config = finished()
    (config.run_path / layout.ACCURACY).write_text("time_step,cumulative,instantaneous\n1,50,50\n")
    seal(config.run_path)
    with pytest.raises(Damaged, match=r"has no proper columns data, low, high, calibration_error, "):
        load_run(config.run_path).accuracy_by_step  # noqa: B018
