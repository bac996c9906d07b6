"""Training on real digits: the same seed, a run that is cut off, a run gone wrong."""

import dataclasses
import itertools
import logging
import math
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import messages, save_image, too_long, write_run
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, load_data, load_run, measure_again, train, train_grid
from tcl_lib.analysis import evaluation
from tcl_lib.analysis.activity import FiringRates, mean_rates
from tcl_lib.analysis.evaluation import predict, stepwise_accuracy
from tcl_lib.analysis.similarity import temporal_similarity
from tcl_lib.config.registry import LOSSES
from tcl_lib.runs import checkpoints, contents, layout
from tcl_lib.training import loop, records
from tcl_lib.training.build import build_optimizer, learning_rate
from tcl_lib.training.state import State
from tcl_lib.utils.files import Damaged


def numbers(run) -> pd.DataFrame:
    return run.metrics.drop(columns="seconds")


def weights(run) -> dict[str, torch.Tensor]:
    return checkpoints.load(run.path / checkpoints.LAST)["network"]


@pytest.mark.parametrize(
    ("loss", "epochs", "accuracy"),
    [("tcl", 3, 90), *(pytest.param(loss, 15, 97.5, marks=pytest.mark.soak) for loss in LOSSES)],
)
def test_the_default_run_learns_with_every_loss(tmp_path, loss, epochs, accuracy):
    run = train(RunConfig(loss=loss, epochs=epochs, runs_dir=str(tmp_path), device="cpu"))
    metrics = run.metrics
    assert metrics["epoch"].tolist() == list(range(1, epochs + 1))
    assert metrics["loss"].iloc[-1] < 0.6 * metrics["loss"].iloc[0]
    assert run.result["test_accuracy"] >= accuracy
    rates = metrics[[f"firing_rate_{layer}" for layer in range(1, 5)]]
    assert ((rates > 0) & (rates < 1)).all(axis=None)


@pytest.fixture(autouse=True)
def shown(caplog):
    """What the library logs is kept, as `notebooks.show_messages` shows it."""
    caplog.set_level(logging.INFO, logger="tcl_lib")


@pytest.mark.parametrize("config", ["ce", {"loss": "ce"}])
def test_train_takes_a_config_only(config):
    with pytest.raises(TypeError, match=r"must be a RunConfig, as in tcl_lib.train\(RunConfig"):
        train(config)


@pytest.mark.parametrize(
    "changes", [{"optimizer": "adamw", "lr": 0.001}, {"precision": "bf16-mixed", "epochs": 1}]
)
def test_same_seed_same_numbers(tiny, changes):
    one = train(tiny(run_name="one", **changes))
    other = train(tiny(run_name="other", **changes))
    pd.testing.assert_frame_equal(numbers(one), numbers(other), check_exact=True)
    pd.testing.assert_frame_equal(one.accuracy_by_step, other.accuracy_by_step, check_exact=True)
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def test_another_seed_other_numbers(tiny, trained):
    assert (numbers(train(tiny(seed=1)))["loss"] != numbers(trained)["loss"]).all()


def test_what_went_before_in_the_process_does_not_matter(tiny, trained):
    torch.manual_seed(99)
    torch.rand(17)
    other = train(tiny(run_name="other"))
    pd.testing.assert_frame_equal(numbers(trained), numbers(other), check_exact=True)
    pd.testing.assert_frame_equal(trained.accuracy_by_step, other.accuracy_by_step, check_exact=True)
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(trained).items())


def test_the_run_directory(tiny):
    config = tiny(loss="tcl", time_steps=3)
    run = train(config)
    assert run.path == config.run_path
    expected = {*layout.FILES, layout.LOCK} - {layout.PREVIOUS_CHECKPOINT, layout.WEIGHTS}
    assert {path.name for path in run.path.iterdir()} == expected
    assert run.config == config
    saved = contents.read_description(run.path)
    assert saved["data"]["images"] == {"train": 96, "validation": 144, "test": 360}
    assert set(saved["versions"]) >= {"python", "torch", "torchvision", "norse"}
    assert run.accuracy_by_step.columns.tolist() == [
        "data",
        "time_step",
        "cumulative",
        "low",
        "high",
        "instantaneous",
        "calibration_error",
        "recalibrated",
    ]
    assert run.accuracy_by_step["time_step"].tolist() == [1, 2, 3]
    assert run.result["test_accuracy"] == run.accuracy_by_step["cumulative"].iloc[-1]
    assert run.result["test_accuracy_t1"] == run.accuracy_by_step["cumulative"].iloc[0]
    assert set(run.result) == set(contents.Result.__annotations__)
    assert run.result["energy_uj"] == pytest.approx(run.operations["energy_uj"].sum())
    assert len(run.firing_rates) == 4 * 3
    again = temporal_similarity(run.features["features"], run.features["labels"])
    pd.testing.assert_frame_equal(run.similarity.drop(columns="data"), again, check_exact=False, atol=1e-9)
    assert run.result["validation_accuracy"] == run.metrics["validation_accuracy"].iloc[-1]
    best = run.metrics.set_index("epoch")["validation_accuracy"]
    assert run.result["best_validation_accuracy"] == best.max()
    assert run.result["best_epoch"] == best.idxmax()


def test_the_model_is_the_one_that_was_measured(trained):
    run = trained
    model = run.model()
    assert not model.training
    data = load_data(run.config)
    for part, expected in (
        (data.test, run.result["test_accuracy"]),
        (data.validation, run.result["validation_accuracy"]),
    ):
        logits = predict(model, part, data, 32, "cpu")
        assert stepwise_accuracy(logits, part.labels)["cumulative"].iloc[-1] == expected


def test_train_predicts_the_validation_part_once_an_epoch_and_keeps_the_last_logits(tiny, monkeypatch):
    counts = []

    def counted(network, split, *arguments):
        counts.append(len(split))
        return predict(network, split, *arguments)

    monkeypatch.setattr(loop, "predict", counted)
    monkeypatch.setattr(evaluation, "predict", counted)
    run = train(tiny(loss="ce"), verbose=False)
    data = load_data(run.config)
    assert counts.count(len(data.validation)) == run.config.epochs
    kept = predict(run.model(), data.validation, data, run.config.batch_size, "cpu")
    assert np.array_equal(run.logits["validation"], kept.numpy())


def test_a_finished_run_is_shown_and_not_trained(tiny, trained, caplog, capsys):
    config, run = tiny(), trained
    times = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    again = train(config)
    assert caplog.messages == [f"{run.path} is finished: nothing to train (overwrite=True trains anew)"]
    assert capsys.readouterr().out == ""
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == times
    pd.testing.assert_frame_equal(again.metrics, run.metrics)
    caplog.clear()
    anew = train(dataclasses.replace(config, overwrite=True))
    assert "nothing to train" not in caplog.text
    first, second = capsys.readouterr().out.splitlines()  # a line an epoch is all that is printed
    assert first.startswith("epoch   1/2  loss ")
    assert second.startswith("epoch   2/2  loss ")
    pd.testing.assert_frame_equal(numbers(anew), numbers(run), check_exact=True)
    assert (run.path / layout.RESULT).stat().st_mtime_ns > times[run.path / layout.RESULT]


@pytest.mark.parametrize(
    ("loss", "size", "accuracy"),
    [("ce", 300, 30), *too_long(*((loss, 600, 60) for loss in ("ce", "stcl", "per_step_ce", "tcl")))],
)
def test_event_data_are_learned_with_every_loss(tmp_path, loss, size, accuracy):
    config = RunConfig(
        dataset="moving_digits",
        loss=loss,
        train_size=size,
        epochs=6,
        batch_size=32,
        time_steps=3,
        device="cpu",
        runs_dir=str(tmp_path),
    )
    run = train(config)
    assert run.accuracy_by_step["data"].unique().tolist() == ["moving_digits (simulated)"]
    assert run.metrics["data"].unique().tolist() == ["moving_digits (simulated)"]
    assert "moving_digits (simulated)" in repr(run)
    assert run.metrics["loss"].iloc[-1] < 0.8 * run.metrics["loss"].iloc[0]
    # one step sees a third of the way round: chance is 10 %, and all steps know more than the first
    first, *_, last = run.accuracy_by_step["cumulative"]
    assert last > accuracy
    assert last > first + 3


@pytest.mark.parametrize(
    "changes",
    [
        {"event_augmentation": "nda", "frame_by": "count"},
        *too_long({"count_scale": "none", "frame_size": 16}),
    ],
)
def test_event_runs_repeat_and_go_on(tiny, monkeypatch, changes):
    config = tiny(dataset="moving_digits", epochs=3, loss="stcl", **changes)
    undisturbed = train(dataclasses.replace(config, run_name="undisturbed"))
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    run = train(config)
    pd.testing.assert_frame_equal(numbers(run), numbers(undisturbed), check_exact=True)
    pd.testing.assert_frame_equal(run.accuracy_by_step, undisturbed.accuracy_by_step, check_exact=True)


@pytest.mark.parametrize("changes", [{"micro_batches": 2}, {}])
def test_one_step_epochs_are_those_of_a_network_of_one_step(tiny, changes):
    one = numbers(train(tiny(time_steps=1, run_name="one", **changes)))
    first = numbers(train(tiny(time_steps=2, one_step_epochs=1, run_name="first", **changes)))
    pd.testing.assert_series_equal(first.loc[0], one.loc[0], check_exact=True)
    assert first.loc[1, "loss"] != one.loc[1, "loss"]


def test_the_best_epoch_has_all_time_steps(tiny):
    rows = [
        {"epoch": epoch, "validation_accuracy": accuracy, "validation_accuracy_t1": 0.0, "seconds": 1.0}
        for epoch, accuracy in enumerate([90.0, 70.0, 80.0, 75.0], start=1)
    ]
    frame = pd.DataFrame({"cumulative": [50.0], "energy_uj": [1.0], "ann_energy_uj": [1.0]})
    measured = evaluation.Evaluation(**dict.fromkeys(evaluation.Evaluation._fields, frame))
    found = records.result(tiny(epochs=4, one_step_epochs=1), rows, measured)
    assert (found["best_epoch"], found["best_validation_accuracy"]) == (3, 80.0)
    assert records.result(tiny(epochs=4), rows, measured)["best_epoch"] == 1


def test_a_run_killed_before_its_result_only_needs_that(tiny, trained):
    config, run = tiny(), trained
    expected, metrics = run.result, run.metrics
    for name in (layout.RESULT, layout.ACCURACY, layout.METRICS):
        (run.path / name).unlink()
    again = train(config)
    assert again.result == expected
    pd.testing.assert_frame_equal(again.metrics, metrics, check_exact=True)


@pytest.mark.parametrize(("content", "checkpoint"), [(None, True), ("{", True), ("[]", True), (None, False)])
def test_an_interrupted_run_with_a_lost_or_damaged_config_is_continued(
    tiny, trained, caplog, checkpoint, content
):
    config, expected = tiny(), numbers(trained)
    path = trained.path
    (path / layout.RESULT).unlink()
    (path / layout.CONFIG).unlink() if content is None else (path / layout.CONFIG).write_text(content)
    if not checkpoint:
        (path / checkpoints.LAST).unlink()
    again = train(config)
    assert ("after epoch 2" in caplog.text) == checkpoint
    assert ("config.json: is " in caplog.text and "restored from the checkpoint" in caplog.text) == checkpoint
    assert load_run(path).config.identity() == config.identity()
    pd.testing.assert_frame_equal(numbers(again), expected, check_exact=True)


MEASURED = [layout.CONFIG, layout.METRICS, *layout.EVALUATION, layout.RESULT, layout.SUMS]


@pytest.mark.parametrize("damage", ["empty", "cut", "changed", "lost"])
def test_measure_again_writes_identical_files(tiny, trained, monkeypatch, damage):
    """Of a finished run whose files are damaged or lost; `train` names one alone and the remedy."""
    path, commit = trained.path, contents.read_description(trained.path)["git_commit"]
    monkeypatch.setattr(records, "git_commit", lambda: commit)  # somebody may commit while the tests run
    expected = {name: (path / name).read_bytes() for name in MEASURED}

    def spoil(name: str) -> None:
        whole = expected[name]
        bad = {"empty": b"", "cut": whole[: len(whole) // 2], "changed": b"x" + whole[1:]}
        (path / name).unlink() if damage == "lost" else (path / name).write_bytes(bad[damage])

    for name in MEASURED:
        # features and logits need not be kept; without its result a run is not finished
        if damage != "lost" or not name.endswith((".npz", layout.RESULT)):
            spoil(name)
            with pytest.raises((Damaged, FileNotFoundError), match=rf"{path}/") as caught:
                train(tiny())
            assert "tcl_lib.measure_again(" in str(caught.value)
            assert "\n" not in str(caught.value)
            (path / name).write_bytes(expected[name])
    for names in ([layout.CONFIG], MEASURED):
        for name in names:
            spoil(name)
        assert measure_again(path).result == trained.result
        assert {name: (path / name).read_bytes() for name in MEASURED} == expected
    assert train(tiny()).result == trained.result


def test_measure_again_names_what_it_needs(tiny, trained, monkeypatch):
    path = trained.path
    (path / layout.CONFIG).unlink()
    content = (path / checkpoints.LAST).read_bytes()
    (path / checkpoints.LAST).write_bytes(b"noise")
    with pytest.raises(Damaged, match=r"checkpoint\.pt: is damaged"):
        measure_again(path)
    assert (path / checkpoints.LAST).read_bytes() == b"noise"
    (path / checkpoints.LAST).unlink()
    with pytest.raises(FileNotFoundError, match=r"checkpoint\.pt: the run's checkpoint was not kept"):
        measure_again(path)
    with pytest.raises(
        FileNotFoundError, match=r"config\.json: is missing; overwrite=True trains the run anew"
    ):
        train(tiny())
    (path / checkpoints.LAST).write_bytes(content)
    assert measure_again(str(path)).result == trained.result
    # a run that is not finished is to be trained
    config = tiny(run_name="unfinished")
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    with pytest.raises(ValueError, match="is not finished; start it again to continue it"):
        measure_again(config.run_path)


def stop_after(monkeypatch, saves: int) -> None:
    """Have the next run end at this checkpoint, as by an interrupt."""
    save, done = State.save, []

    def stop(self):
        save(self)
        done.append(1)
        if len(done) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(State, "save", stop)


@pytest.mark.parametrize("minutes", [1e-9, 60])
def test_checkpoints_within_an_epoch_are_as_often_as_asked(tiny, monkeypatch, minutes):
    config = tiny(checkpoint_minutes=minutes)
    stop_after(monkeypatch, 2)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    progress = checkpoints.load(config.run_path / checkpoints.LAST)["progress"]
    expected = (0, 2) if minutes < 1 else (2, 0)
    assert (len(progress["rows"]), progress["step"]) == expected


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw", "lr": 0.001, "autoaugment": True, "cutout": 3},
        {"micro_batches": 2, "loss": "stcl"},
        {"dataset": "moving_digits", "event_augmentation": "nda"},
        {"one_step_epochs": 1, "whitened_stem": True, "optimizer": "muon"},
        *too_long(
            {"precision": "bf16-mixed", "neuron": "lif"},
            {"loss": "per_step_ce", "neuron": "lif"},
            {"backbone": "resnet19", "stem_width": 8, "loss": "per_step_ce"},
        ),
    ],
)
def test_a_run_goes_on_within_an_epoch_to_the_same_numbers(tiny, monkeypatch, caplog, changes):
    config = tiny(**{"loss": "tcl", "checkpoint_minutes": 1e-9} | changes)
    undisturbed = train(dataclasses.replace(config, run_name="undisturbed"))
    stop_after(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    caplog.clear()
    run = train(config)
    assert f"continuing {run.path} after epoch 1, step 2 of the next, on " in caplog.text
    pd.testing.assert_frame_equal(numbers(run), numbers(undisturbed), check_exact=True)
    pd.testing.assert_frame_equal(run.accuracy_by_step, undisturbed.accuracy_by_step, check_exact=True)
    expected = weights(undisturbed)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(run).items())


@pytest.mark.parametrize(
    ("changes", "goes_on"), [({}, True), ({"resume": False}, False), ({"overwrite": True}, False)]
)
def test_a_run_goes_on_unless_told_otherwise(tiny, monkeypatch, caplog, changes, goes_on):
    config = tiny()
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    caplog.clear()
    run = train(dataclasses.replace(config, **changes))
    assert ("continuing" in caplog.text) == goes_on
    assert len(run.metrics) == 2
    train(dataclasses.replace(config, resume=False))  # a finished one is shown all the same
    assert "nothing to train" in caplog.text


@pytest.fixture
def of_images(tiny, image_folder):
    """The config of a run on a folder of images."""
    return tiny(dataset="folder", data_root=str(image_folder), train_size=None, batch_size=4, loss="ce")


def repaint(file: Path) -> None:
    """Give an image other pixels; the time of the file stays."""
    stat = file.stat()
    save_image(file, np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def add_class(root: Path) -> None:
    for part in ("train", "test"):
        for name in "abc":
            save_image(
                root / part / "emu" / f"{name}.png", np.full((8, 8, 3), ord(name) + 9 * len(part), np.uint8)
            )


def swap(one: Path, other: Path) -> None:
    one.rename(one.with_suffix(".tmp"))
    other.rename(one)
    one.with_suffix(".tmp").rename(other)


# What may happen to the data of a run, and what its error says.
CHANGES = {
    "a class more": (
        add_class,
        r"2 classes, now 3 \(emu\); \d+ training samples, now \d+; .*6 test samples, now 9",
    ),
    "an image more": (
        lambda root: save_image(root / "test" / "cat" / "new.png", np.zeros((8, 8, 3), np.uint8)),
        "6 test samples, now 7",
    ),
    "a test image replaced": (lambda root: repaint(root / "test" / "dog" / "x.png"), "other test samples"),
    "training images replaced": (
        lambda root: [repaint(path) for path in sorted((root / "train").glob("*/*.png"))],
        "other training samples",
    ),
    "labels swapped": (
        lambda root: swap(root / "test" / "dog" / "x.png", root / "test" / "cat" / "x.png"),
        "other test samples",
    ),
}


def test_a_run_is_neither_shown_nor_continued_where_its_data_changed(of_images, image_folder, monkeypatch):
    finished = train(dataclasses.replace(of_images, run_name="finished"))
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(of_images)
    monkeypatch.undo()
    kept = shutil.copytree(image_folder, image_folder.with_name("kept"))
    for act, words in CHANGES.values():
        act(image_folder)
        for config in (of_images, finished.config):
            with pytest.raises(ValueError, match=words) as caught:
                train(config)
            assert str(caught.value).startswith(f"{config.run_path}: was trained on other data (")
            assert str(caught.value).endswith("); give another run_name, or overwrite=True")
        with pytest.raises(ValueError, match=words):
            measure_again(finished.path)
        failed = pytest.warns(UserWarning, match="was trained on other data")
        with pytest.raises(RuntimeError, match=words), failed:
            train_grid([finished.config])
        assert load_run(finished.path).result == finished.result  # this needs no data
        shutil.rmtree(image_folder)
        shutil.copytree(kept, image_folder)
    assert train(finished.config).result == finished.result
    assert len(train(of_images).metrics) == 2


def test_a_finished_run_is_shown_where_its_data_are_not_there(of_images, image_folder, caplog):
    run = train(of_images)
    image_folder.rename(image_folder.with_name("elsewhere"))
    caplog.clear()
    assert train(of_images).result == run.result
    first, second = caplog.messages
    assert first.startswith(
        f"{run.path} was not compared with its data: data_root='{image_folder}': has no train/"
    )
    assert "is finished: nothing to train" in second
    assert train_grid([of_images])["name"].tolist() == [run.name]


@pytest.mark.parametrize("dataset", ["cifar10", "nmnist", "dvs_cifar10"])
def test_a_finished_run_is_shown_without_a_download(tiny, tmp_path, caplog, dataset):
    config = tiny(dataset=dataset, data_root=str(tmp_path / "data"))
    write_run(config)
    assert train(config).result["test_accuracy"] == 1
    assert caplog.messages[0].startswith(
        f"{config.run_path} was not compared with its data: {dataset} is not in "
    )
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("precision", ["32-true", *too_long("bf16-mixed")])
def test_a_run_goes_on_with_the_number_of_threads_that_it_was_begun_with(
    tiny, monkeypatch, caplog, two_threads, precision
):
    """In a process with two: to the last bit the numbers of one. (In bf16 two threads give others.)"""
    config = tiny(precision=precision)
    torch.set_num_threads(1)
    undisturbed = train(dataclasses.replace(config, run_name="undisturbed"))
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    torch.set_num_threads(2)
    caplog.clear()
    run = train(config)
    assert torch.get_num_threads() == 2
    assert caplog.messages[0] == f"{run.path} was begun with 1 thread(s) and goes on with them, not with 2"
    assert run.threads == undisturbed.threads == 1
    assert "continued" not in run.description
    pd.testing.assert_frame_equal(numbers(run), numbers(undisturbed), check_exact=True)
    assert all(torch.equal(tensor, weights(undisturbed)[name]) for name, tensor in weights(run).items())
    before = {name: (run.path / name).read_bytes() for name in MEASURED}
    measure_again(run.path)
    assert {name: (run.path / name).read_bytes() for name in MEASURED} == before


@pytest.fixture
def two_threads():
    """A process of two threads; the number is put back."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_other_surroundings_are_written_down(tiny, monkeypatch, caplog):
    config = tiny()
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    monkeypatch.setattr(records, "git_commit", lambda: "another")
    run = train(config)
    assert "continued with other git_commit than before, as config.json says" in caplog.messages
    assert contents.read_description(run.path)["continued"] == [{"after": "epoch 1", "git_commit": "another"}]


@pytest.mark.parametrize(("lost", "named"), [("data", True), ("threads", True), ("versions", False)])
def test_a_checkpoint_without_a_part_of_its_description(trained, lost, named):
    path = trained.path
    state = checkpoints.load(path / checkpoints.LAST)
    del state["description"][lost]
    checkpoints.save(path, state)
    if named:
        words = f"checkpoint.pt: is damaged ({lost}: Field required); overwrite=True trains the run anew"
        with pytest.raises(Damaged, match=re.escape(words)):
            measure_again(path)
    else:
        assert measure_again(path).result == trained.result


def unfinish(path: Path) -> None:
    """Make a finished run one that was killed before its evaluation."""
    for name in (layout.RESULT, layout.SUMS):
        (path / name).unlink()


@pytest.fixture
def other(tiny, trained_once):
    """A run that differs from `trained` in its seed alone, at the checkpoint of its first epoch."""
    state = checkpoints.load(trained_once / checkpoints.LAST)
    state["description"]["parameters"]["seed"] = 1
    config = tiny(seed=1)
    config.run_path.mkdir(parents=True)
    layout.write_json(config.run_path / layout.CONFIG, state["description"])
    checkpoints.save(config.run_path, state)
    return config


def test_train_refuses_the_checkpoint_of_another_run(tiny, trained, other):
    unfinish(trained.path)
    file = trained.path / checkpoints.LAST
    shutil.copy(other.run_path / checkpoints.LAST, file)
    for content in ((trained.path / layout.CONFIG).read_bytes(), b"damaged"):
        (trained.path / layout.CONFIG).write_bytes(content)
        with pytest.raises(ValueError, match=r"belongs to another run \(seed=1 there, 0 here\)") as caught:
            train(tiny())
        assert str(caught.value).startswith(f"{file}: ")
        assert "put the run's own file there, or overwrite=True" in str(caught.value)
        assert (trained.path / layout.CONFIG).read_bytes() == content


def test_train_refuses_the_config_of_another_run(tiny, trained, other):
    """The folder of seed 0 with the config.json of seed 1, for a config of either seed."""
    unfinish(trained.path)
    shutil.copy(other.run_path / layout.CONFIG, trained.path / layout.CONFIG)
    with pytest.raises(ValueError, match=r"holds a run with other parameters \(seed=1 there, 0 here\)"):
        train(tiny())
    with pytest.raises(ValueError, match=r"checkpoint\.pt: belongs to another run \(seed=0 there, 1 here\)"):
        train(tiny(seed=1, run_name=trained.path.name))


def test_measure_again_refuses_the_checkpoint_of_another_run(trained, other):
    before = {path.name: path.read_bytes() for path in trained.path.iterdir()}
    shutil.copy(other.run_path / checkpoints.LAST, trained.path / checkpoints.LAST)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: belongs to another run \(seed=1 there, 0 here\)"):
        measure_again(trained.path)
    del before[checkpoints.LAST]
    assert {name: (trained.path / name).read_bytes() for name in before} == before


def test_a_finished_run_with_a_foreign_checkpoint_is_shown_without_its_network(tiny, trained, other):
    shutil.copy(other.run_path / checkpoints.LAST, trained.path / checkpoints.LAST)
    with pytest.warns(
        UserWarning, match=r"checkpoint\.pt: is damaged or of another run, so the run's network"
    ):
        run = train(tiny())
    assert run.result == trained.result
    with pytest.raises(ValueError, match=r"checkpoint\.pt: belongs to another run \(seed=1 there, 0 here\)"):
        run.model()


def test_train_warns_of_a_damaged_checkpoint_of_a_finished_run(tiny, trained, caplog):
    file = trained.path / checkpoints.LAST
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.warns(
        UserWarning, match=r"checkpoint\.pt: is damaged or of another run, so the run's network"
    ):
        train(tiny())
    file.unlink()
    caplog.clear()
    train(tiny())
    assert caplog.messages[-1].endswith("(overwrite=True trains anew); its checkpoint was not kept")


def test_a_finished_run_keeps_nothing_that_a_kill_left(tiny, trained):
    (trained.path / layout.WRITER).write_text("process 1 on a machine")
    (trained.path / "result.json.1.tmp").write_text("half")
    train(tiny())
    assert {path.name for path in trained.path.iterdir()} == {*layout.FILES, layout.LOCK} - {
        layout.PREVIOUS_CHECKPOINT,
        layout.WEIGHTS,
    }


@pytest.mark.parametrize("name", [*layout.FILES, layout.LOCK, layout.WRITER])
@pytest.mark.parametrize("overwrite", [False, True])
def test_train_names_a_folder_in_the_place_of_a_file(tiny, trained, name, overwrite):
    file = trained.path / name
    file.unlink(missing_ok=True)
    (file / "inner").mkdir(parents=True)
    optional = (layout.WEIGHTS, layout.CHECKPOINT, layout.PREVIOUS_CHECKPOINT, layout.LOCK, layout.WRITER)
    needed = name not in optional
    if overwrite or needed:
        words = rf"a folder is in the place of the file; move it away\): '{file}'$"
        with pytest.raises(IsADirectoryError, match=words):
            train(tiny(overwrite=overwrite))
    elif name == layout.CHECKPOINT:
        with pytest.warns(UserWarning, match=f"{file}: is damaged or of another run"):
            train(tiny())
    assert (file / "inner").is_dir()


def test_a_checkpoint_of_another_network_is_named(tiny, trained):
    one, other = tiny(), tiny(projection_dim=8, epochs=1)
    train(other)
    unfinish(one.run_path)
    state = checkpoints.load(other.run_path / checkpoints.LAST)
    description = checkpoints.load(one.run_path / checkpoints.LAST)["description"]
    checkpoints.save(one.run_path, state | {"description": description})
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt: does not fit this run; overwrite=True trains it anew"
    ):
        train(one)


def test_a_loss_that_is_not_finite_stops_the_run(tiny):
    config = tiny(lr=1e30, warmup_epochs=0, epochs=3, loss="ce")
    with pytest.raises(FloatingPointError) as caught:
        train(config)
    message = str(caught.value)
    assert message.startswith("the loss is ")
    assert "in epoch 1, step " in message
    assert re.search(r"of 3; its last finite value was \d\.\d+(e\+\d+)?\. Try", message)
    assert "lr (1e+30)" in message
    assert not (config.run_path / layout.RESULT).exists()


def test_the_last_finite_value_may_be_an_epoch_ago(tiny):
    # one step an epoch: the first moves the weights out of all bounds, the second finds out
    config = tiny(lr=1e34, warmup_epochs=0, train_size=32, loss="tcl")
    with pytest.raises(
        FloatingPointError, match=r"in epoch 2, step 1 of 1; its last finite value was [45]\."
    ):
        train(config)


def test_weights_that_are_not_finite_are_found_where_the_loss_hides_them(tiny, monkeypatch):
    def spoiled(config, shape, classes):
        network = build_network(config, shape, classes)
        # a neuron compares its potential with the threshold: not a number is not above it
        torch.nn.init.constant_(network.body[1][1].weight[0], math.nan)
        return network

    monkeypatch.setattr(loop, "build_network", spoiled)
    with pytest.raises(FloatingPointError, match="the weights or logits are no longer finite after epoch 1"):
        train(tiny())


def test_a_dead_network_is_named_at_the_first_step(tiny, caplog):
    with (
        pytest.raises(RuntimeError, match=r"the network is dead: layer 4 of 4 .* in epoch 1"),
        pytest.warns(UserWarning, match=r"^layers \[1, 2, 3, 4\] fired no spike in the first step"),
    ):
        train(tiny(v_th=50.0))
    assert "firing rates in the first step, layer 1 to 4: 0.000, 0.000, 0.000, 0.000" in caplog.messages


def test_a_living_network_is_not_warned_of(tiny, caplog, recwarn):
    train(tiny(epochs=2))
    assert "firing rates in the first step" in caplog.text
    assert not [line for line in messages(recwarn) if "fired no spike" in line]


@pytest.mark.parametrize("backbone", ["convnet", "vggsnn", "resnet19"])
def test_every_backbone_fires_from_the_first_step(backbone):
    network = build_network(RunConfig(backbone=backbone), (3, 32, 32), 10)
    with FiringRates(network) as firing, torch.no_grad():
        network(torch.randn(4, 3, 32, 32))
    assert min(mean_rates(firing.state())) > 0.02


def test_bad_data_leave_an_earlier_run_alone(tiny, trained, tmp_path):
    run = load_run(shutil.copytree(trained.path, tiny(run_name="mine").run_path))
    expected = run.result
    bad = {"dataset": "folder", "data_root": str(tmp_path / "none"), "run_name": "mine", "overwrite": True}
    with pytest.raises(FileNotFoundError, match="has no train/"):
        train(tiny(**bad))
    assert load_run(run.path).result == expected


def test_a_run_that_does_not_begin_leaves_no_folder(tiny, tmp_path):
    bad = {"dataset": "folder", "data_root": str(tmp_path / "none"), "run_name": "new"}
    with pytest.raises(FileNotFoundError, match="has no train/"):
        train(tiny(**bad))
    assert not tiny(run_name="new").run_path.exists()


def test_no_weight_decay_on_norms_and_biases():
    network = build_network(RunConfig(), (3, 8, 8), 10)
    optimizer = build_optimizer(network, RunConfig(weight_decay=0.01))
    decayed, free = optimizer.param_groups
    names = {parameter: name for name, parameter in network.named_parameters()}
    assert decayed["weight_decay"] == 0.01
    assert free["weight_decay"] == 0
    assert all(names[p].endswith("weight") and p.ndim > 1 for p in decayed["params"])
    norms = [m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    biases = [p for name, p in network.named_parameters() if name.endswith("bias")]
    expected = {id(p) for p in biases} | {id(norm.weight) for norm in norms}
    assert {id(p) for p in free["params"]} == expected
    assert len(names) == len(decayed["params"]) + len(free["params"])


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_takes_nesterov_s_step(momentum):
    weight = torch.nn.Linear(1, 1, bias=False)
    config = RunConfig(momentum=momentum, lr=0.1, weight_decay=0.0)
    optimizer = build_optimizer(weight, config)
    torch.nn.init.ones_(weight.weight)
    expected, velocity = 1.0, 0.0
    for _ in range(3):
        optimizer.zero_grad()
        (weight.weight**2).sum().backward()
        optimizer.step()
        velocity = momentum * velocity + 2 * expected
        expected -= 0.1 * (2 * expected + momentum * velocity)
    assert weight.weight.item() == pytest.approx(expected, rel=1e-6)


def test_adamw_has_the_same_groups():
    optimizer = build_optimizer(
        build_network(RunConfig(), (1, 8, 8), 10), RunConfig(optimizer="adamw", lr=0.01)
    )
    assert isinstance(optimizer, torch.optim.AdamW)
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0]


def test_learning_rate_by_hand():
    config = RunConfig(lr=0.8, epochs=5, warmup_epochs=1)
    rates = [learning_rate(step, 4, config) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8])
    assert rates[12] == pytest.approx(0.4)  # half of the cosine
    assert rates[16] == pytest.approx(0.4 * (1 + math.cos(0.75 * math.pi)))
    assert all(a > b for a, b in itertools.pairwise(rates[4:]))
    assert rates[-1] > 0
    assert learning_rate(0, 4, RunConfig(lr=0.8, warmup_epochs=0)) == 0.8
    only_warmup = RunConfig(lr=0.8, epochs=1, warmup_epochs=1)
    assert [learning_rate(step, 2, only_warmup) for step in range(2)] == [0.4, 0.8]


def test_the_metrics_are_those_of_a_plain_loop(tiny):
    from tcl_lib.data import training_batches
    from tcl_lib.losses import temporal_contrastive_loss

    config = tiny(epochs=1, loss="tcl", optimizer="sgd", momentum=0.0, weight_decay=0.0)
    run = train(config)
    data = load_data(config)
    torch.manual_seed(config.seed)
    network = build_network(config, data.input_shape, 10)
    losses, right = [], []
    for step, (images, labels) in enumerate(training_batches(data, config, epoch=1)):
        out = network(images)
        entropy = torch.nn.functional.cross_entropy(out.logits.mean(0), labels)
        contrast = temporal_contrastive_loss(out.embeddings[:, None], labels, 0.1)
        loss = entropy + 0.5 * contrast
        network.zero_grad()
        loss.backward()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= config.lr * (step + 1) / 3 * parameter.grad
        losses.append(loss.item())
        right.append((out.logits.mean(0).argmax(1) == labels).float().mean().item())
    row = run.metrics.iloc[0]
    assert row["loss"] == pytest.approx(sum(losses) / 3, rel=1e-4)
    assert row["train_accuracy"] == pytest.approx(100 * sum(right) / 3, rel=1e-4)
    for name, tensor in network.state_dict().items():
        assert_close(tensor, weights(run)[name], rtol=1e-3, atol=1e-4)
