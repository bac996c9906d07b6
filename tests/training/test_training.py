"""Training on real digits: the same seed, a run that is cut off, a run gone wrong."""

import dataclasses
import itertools
import math
import shutil

import pandas as pd
import pytest
import torch
from conftest import too_long
from torch.testing import assert_close

from tcl_lib import RunConfig, build_network, load_data, load_run, runs, train
from tcl_lib.runs import checkpoints
from tcl_lib.training.loop import loop
from tcl_lib.analysis.evaluation import firing_rates, predict, stepwise_accuracy
from tcl_lib.utils.files import Damaged
from tcl_lib.analysis.similarity import temporal_similarity
from tcl_lib.training.loop import build_optimizer, learning_rate


def numbers(run) -> pd.DataFrame:
    return run.metrics.drop(columns="seconds")


def weights(run) -> dict[str, torch.Tensor]:
    return checkpoints.load(run.path / checkpoints.LAST)["network"]


@pytest.mark.parametrize("loss", ["ce", "stcl", *too_long("per_step_ce", "tcl")])
def test_the_default_run_learns_with_every_loss(tmp_path, loss):
    run = train(RunConfig(loss=loss, runs_dir=str(tmp_path), device="cpu"))
    metrics = run.metrics
    assert metrics["epoch"].tolist() == list(range(1, 16))
    assert metrics["loss"].iloc[-1] < 0.5 * metrics["loss"].iloc[0]
    assert run.result["test_accuracy"] >= 97.5
    rates = metrics[[f"firing_rate_{layer}" for layer in range(1, 5)]]
    assert ((rates > 0) & (rates < 1)).all(axis=None)


@pytest.mark.parametrize("changes", [{}, {"optimizer": "adamw", "lr": 0.001}, {"precision": "bf16-mixed"}])
def test_same_seed_same_numbers(tiny, changes):
    one = train(tiny(run_name="one", **changes))
    other = train(tiny(run_name="other", **changes))
    pd.testing.assert_frame_equal(numbers(one), numbers(other), check_exact=True)
    pd.testing.assert_frame_equal(one.accuracy_by_step, other.accuracy_by_step, check_exact=True)
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


def test_another_seed_other_numbers(tiny):
    one, other = train(tiny(seed=1)), train(tiny(seed=2))
    assert (numbers(one)["loss"] != numbers(other)["loss"]).all()


def test_what_went_before_in_the_process_does_not_matter(tiny):
    one = train(tiny(run_name="one"))
    torch.manual_seed(99)
    torch.rand(17)
    pd.testing.assert_frame_equal(numbers(one), numbers(train(tiny(run_name="other"))), check_exact=True)


def test_the_run_directory(tiny):
    config = tiny(loss="tcl", time_steps=3)
    run = train(config)
    assert run.path == config.run_path
    expected = {*runs.FILES, runs.LOCK} - {checkpoints.PREVIOUS}
    assert {path.name for path in run.path.iterdir()} == expected
    assert run.config == config
    saved = runs.read_config(run.path)
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
    ]
    assert run.accuracy_by_step["time_step"].tolist() == [1, 2, 3]
    assert run.result["test_accuracy"] == run.accuracy_by_step["cumulative"].iloc[-1]
    assert run.result["test_accuracy_t1"] == run.accuracy_by_step["cumulative"].iloc[0]
    assert set(run.result) == {*runs.RESULTS, "energy_uj", "ann_energy_uj"}
    assert run.result["energy_uj"] == pytest.approx(run.operations["energy_uj"].sum())
    assert len(run.firing_rates) == 4 * 3
    again = temporal_similarity(run.features["features"], run.features["labels"])
    pd.testing.assert_frame_equal(run.similarity.drop(columns="data"), again, check_exact=False, atol=1e-9)
    assert run.result["validation_accuracy"] == run.metrics["validation_accuracy"].iloc[-1]
    best = run.metrics.set_index("epoch")["validation_accuracy"]
    assert run.result["best_validation_accuracy"] == best.max()
    assert run.result["best_epoch"] == best.idxmax()


def test_the_model_is_the_one_that_was_measured(tiny):
    run = train(tiny())
    model = run.model()
    assert not model.training
    data = load_data(run.config)
    for part, expected in (
        (data.test, run.result["test_accuracy"]),
        (data.validation, run.result["validation_accuracy"]),
    ):
        logits = predict(model, part, data, 32, "cpu")
        assert stepwise_accuracy(logits, part.labels)["cumulative"].iloc[-1] == expected


def test_a_finished_run_is_shown_and_not_trained(tiny, capsys):
    config = tiny()
    run = train(config)
    times = {path: path.stat().st_mtime_ns for path in run.path.iterdir()}
    again = train(config)
    assert "nothing to train" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in run.path.iterdir()} == times
    pd.testing.assert_frame_equal(again.metrics, run.metrics)
    anew = train(dataclasses.replace(config, overwrite=True))
    assert "nothing to train" not in capsys.readouterr().out
    pd.testing.assert_frame_equal(numbers(anew), numbers(run), check_exact=True)
    assert (run.path / runs.RESULT).stat().st_mtime_ns > times[run.path / runs.RESULT]


@pytest.mark.parametrize("loss", ["ce", "stcl", *too_long("per_step_ce", "tcl")])
def test_event_data_are_learned_with_every_loss(tmp_path, loss):
    config = RunConfig(
        dataset="moving_digits",
        loss=loss,
        train_size=600,
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
    assert last > 60
    assert last > first + 3


@pytest.mark.parametrize(
    "changes", [{"event_augmentation": "nda", "frame_by": "count"}, {"count_scale": "none", "frame_size": 16}]
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


def test_a_run_killed_before_its_result_only_needs_that(tiny):
    config = tiny()
    run = train(config)
    expected, metrics = run.result, run.metrics
    for name in (runs.RESULT, runs.ACCURACY, runs.METRICS):
        (run.path / name).unlink()
    again = train(config)
    assert again.result == expected
    pd.testing.assert_frame_equal(again.metrics, metrics, check_exact=True)


@pytest.mark.parametrize("precision", ["32-true", "auto"])
@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("checkpoint", [True, False])
def test_a_run_that_lost_its_config(tiny, capsys, precision, finished, checkpoint):
    config = tiny(precision=precision)
    run = train(config)
    expected = numbers(run)
    (run.path / runs.CONFIG).unlink()
    if not finished:
        (run.path / runs.RESULT).unlink()
    if not checkpoint:
        (run.path / checkpoints.LAST).unlink()
    if finished and not checkpoint:  # there is something to lose
        with pytest.raises(Damaged, match=r"config\.json: is missing, but there is no .*; overwrite=True"):
            train(config)
        config = dataclasses.replace(config, overwrite=True)
    capsys.readouterr()
    again = train(config)
    assert ("after epoch 2" in capsys.readouterr().out) == checkpoint
    assert again.config == config
    pd.testing.assert_frame_equal(numbers(again), expected, check_exact=True)


def stop_after(monkeypatch, saves: int) -> None:
    """Have the next run end at this checkpoint, as by an interrupt."""
    save, done = loop._Training.save, []

    def stop(self):
        save(self)
        done.append(1)
        if len(done) == saves:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop._Training, "save", stop)


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
        {"optimizer": "adamw", "lr": 0.001},
        {"precision": "bf16-mixed", "neuron": "lif"},
        {"micro_batches": 2, "loss": "stcl"},
        {"autoaugment": True, "cutout": 3, "loss": "stcl"},
        {"dataset": "moving_digits", "event_augmentation": "nda"},
        {"backbone": "resnet19", "stem_width": 8, "loss": "per_step_ce"},
    ],
)
def test_a_run_goes_on_within_an_epoch_to_the_same_numbers(tiny, monkeypatch, capsys, changes):
    config = tiny(**{"loss": "tcl", "checkpoint_minutes": 1e-9} | changes)
    undisturbed = train(dataclasses.replace(config, run_name="undisturbed"))
    stop_after(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    capsys.readouterr()
    run = train(config)
    assert "after epoch 1, step 2 of 3 of the next" in capsys.readouterr().out
    pd.testing.assert_frame_equal(numbers(run), numbers(undisturbed), check_exact=True)
    pd.testing.assert_frame_equal(run.accuracy_by_step, undisturbed.accuracy_by_step, check_exact=True)
    expected = weights(undisturbed)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(run).items())


@pytest.mark.parametrize(
    ("changes", "goes_on"), [({}, True), ({"resume": False}, False), ({"overwrite": True}, False)]
)
def test_a_run_goes_on_unless_told_otherwise(tiny, monkeypatch, capsys, changes, goes_on):
    config = tiny()
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    capsys.readouterr()
    run = train(dataclasses.replace(config, **changes))
    assert ("continuing" in capsys.readouterr().out) == goes_on
    assert len(run.metrics) == 2
    train(dataclasses.replace(config, resume=False))  # a finished one is shown all the same
    assert "nothing to train" in capsys.readouterr().out


def test_a_run_does_not_go_on_with_other_data(tiny, monkeypatch, image_folder):
    config = tiny(dataset="folder", data_root=str(image_folder), train_size=None, batch_size=4)
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    shutil.copy(image_folder / "train" / "cat" / "a.png", image_folder / "train" / "cat" / "new.png")
    with pytest.raises(ValueError, match=r"was begun with other data .*; give another run_name"):
        train(config)
    (image_folder / "train" / "cat" / "new.png").unlink()
    assert len(train(config).metrics) == 2


@pytest.mark.parametrize("resume", [True, False])
def test_a_damaged_table_of_a_finished_run_is_measured_again(tiny, capsys, resume):
    config = tiny(resume=resume)
    run = train(config)
    table = run.path / runs.ACCURACY
    expected, times = table.read_text(), (run.path / runs.METRICS).read_text()
    table.write_text(expected.replace("9", "8"))
    capsys.readouterr()
    again = train(config)
    assert f"{table}: is damaged, it does not fit SHA256SUMS" in capsys.readouterr().out
    assert table.read_text() == expected
    assert (again.path / runs.METRICS).read_text() == times  # and not trained again
    table.write_text("")
    (run.path / checkpoints.LAST).write_bytes(b"noise")
    with pytest.raises(Damaged, match=r"accuracy_by_step\.csv: is damaged.*but there is no sound checkpoint"):
        train(config)
    assert (run.path / checkpoints.LAST).read_bytes() == b"noise"


def test_other_surroundings_are_written_down(tiny, monkeypatch, capsys):
    config = tiny()
    stop_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    monkeypatch.undo()
    monkeypatch.setattr(loop, "git_commit", lambda: "another")
    run = train(config)
    assert "with other git_commit than before, which config.json says" in capsys.readouterr().out
    assert runs.read_config(run.path)["continued"] == [{"after": "epoch 1", "git_commit": "another"}]


def test_a_checkpoint_of_another_network_is_named(tiny):
    one, other = tiny(), tiny(backbone="resnet19", stem_width=8)
    train(one)
    train(other)
    for name in (runs.RESULT, runs.SUMS):
        (one.run_path / name).unlink()
    shutil.copy(other.run_path / checkpoints.LAST, one.run_path / checkpoints.LAST)
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
    assert "of 3; its last finite value was 2." in message
    assert "lr (1e+30)" in message
    assert not (config.run_path / runs.RESULT).exists()


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


def test_a_dead_network_is_named_at_the_first_step(tiny, capsys):
    with pytest.raises(RuntimeError, match=r"the network is dead: layer 4 of 4 .* in epoch 1"):
        train(tiny(v_th=50.0))
    printed = capsys.readouterr().out
    assert "firing rates in the first step, layer 1 to 4: 0.000, 0.000, 0.000, 0.000" in printed
    assert "warning: layers [1, 2, 3, 4] fired no spike in the first step" in printed


def test_a_living_network_is_not_warned_of(tiny, capsys):
    train(tiny(epochs=1))
    printed = capsys.readouterr().out
    assert "firing rates in the first step" in printed
    assert "warning" not in printed


@pytest.mark.parametrize("backbone", ["convnet", "vggsnn", "resnet19"])
def test_every_backbone_fires_from_the_first_step(backbone):
    network = build_network(RunConfig(backbone=backbone), (3, 32, 32), 10)
    assert min(firing_rates(network, torch.randn(4, 3, 32, 32))) > 0.02


def test_bad_data_leave_an_earlier_run_alone(tiny, tmp_path):
    run = train(tiny(run_name="mine"))
    expected = run.result
    bad = {"dataset": "folder", "data_root": str(tmp_path / "none"), "run_name": "mine", "overwrite": True}
    with pytest.raises(FileNotFoundError, match="has no train/"):
        train(tiny(**bad))
    assert load_run(run.path).result == expected
    with pytest.raises(FileNotFoundError):
        train(tiny(**(bad | {"run_name": "new"})))
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
