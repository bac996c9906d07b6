"""Figures show what the tables hold, and can be printed."""

import html
import io
import itertools
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import too_long, write_run
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from benchmarks.figure import speed
from tcl_lib import figures, load_run, runs
from tcl_lib.analysis.similarity import temporal_similarity
from tcl_lib.analysis.tsne import tsne
from tcl_lib.config import registry
from tcl_lib.figures.drawing import NothingToDraw
from tcl_lib.figures.hover import overlay
from tcl_lib.runs import layout, life
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

REFERENCE = REPOSITORY / "runs" / "reference"
METRICS = pd.DataFrame(
    {
        "epoch": [1, 2, 3],
        "loss": [3.0, 2.0, 1.5],
        "cross_entropy": [1.0, 0.5, 0.25],
        "contrastive": [2.0, 1.5, 1.25],
        "train_accuracy": [50.0, 70.0, 80.0],
        "validation_cross_entropy": [1.1, 0.6, 0.5],
        "validation_accuracy": [55.0, 65.0, 75.0],
        "validation_accuracy_t1": [50.0, 60.0, 70.0],
        "firing_rate_1": [0.2, 0.21, 0.22],
        "firing_rate_2": [0.1, 0.11, 0.12],
    }
)
LOSSES = {"CE": 0.0, "TCL": 4.0, "STCL": 5.0}
LOSSES_DRAWN = {loss.label: loss for loss in registry.LOSSES.values()}
RATES = pd.DataFrame(
    {
        "layer": [1, 1, 2, 2],
        "time_step": [1, 2, 1, 2],
        "firing_rate": [0.1, 0.2, 0.3, 0.4],
    }
)
SETTING = "digits, convnet, T = 3, 96 training and 360 test samples"
ONE = {"data": "digits", "setting": SETTING, "variant": "STCL", "seed": 0, "run": "STCL-0"}


def gathered(seeds=2, losses=LOSSES, **labels) -> pd.DataFrame:
    """A row a run and step of T = 3, the rows that `runs.gather` gives: accuracies that can be told apart."""
    rows = []
    for (variant, more), seed, step in itertools.product(losses.items(), range(seeds), (1, 2, 3)):
        value = 60.0 + more + seed + 2 * step
        rows.append(
            {
                "run": f"{variant}-{seed}",
                "setting": SETTING,
                "variant": variant,
                "seed": seed,
                "time_steps": 3,
                "events": False,
                "data": "digits",
                "time_step": step,
                "cumulative": value,
                "low": value - 5,
                "high": value + 5,
                "instantaneous": value - step,
                "recalibrated": value + 2.0 / step,
            }
            | labels
        )
    return pd.DataFrame(rows)


def similarities(losses=LOSSES) -> pd.DataFrame:
    rows = []
    relations = ("within_sample", "within_class", "between_classes")
    for run in gathered(losses=losses).drop_duplicates("run").to_dict("records"):
        features = np.random.default_rng(run["seed"]).normal(size=(3, 30, 4)) + 1
        table = temporal_similarity(features, np.arange(30) % 3)
        rows.append(table.assign(**{k: run[k] for k in (*ONE, "time_steps")}))
    table = pd.concat(rows)
    assert set(table["relation"]) == set(relations)
    return table


def runs_table(**columns) -> pd.DataFrame:
    """Two seeds of every value of the columns, the rows that `summary.varied` gives."""
    rows = []
    for loss, seed, values in itertools.product(("tcl", "stcl"), (0, 1), zip(*columns.values(), strict=True)):
        changed = dict(zip(columns, values, strict=True))
        place = (
            70.0 + 10 * seed + 5 * (loss == "stcl") + list(zip(*columns.values(), strict=True)).index(values)
        )
        numbers = {"validation_accuracy": place, "validation_accuracy_t1": place - 3}
        numbers |= {"test_accuracy": place - 1, "test_accuracy_t1": place - 4}
        labels = {"data": "digits", "setting": SETTING, "variant": f"{loss.upper()} {values}"}
        labels |= {"time_steps": 3, "fixed": ""}
        rows.append(labels | {"loss": loss, "seed": seed} | changed | numbers)
    return pd.DataFrame(rows)


def drawn(figure) -> bytes:
    assert not plt.get_fignums()  # else a notebook would show it twice
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def points_of(features, labels, samples, **names) -> pd.DataFrame:
    """The rows that `figures.tsne` draws of these features."""
    points = tsne(features, labels, samples)
    return points.assign(class_name=[f"class {label}" for label in points["label"]], **names)


def lines(axes) -> dict[str, list]:
    return {line.get_label(): line.get_ydata().tolist() for line in axes.lines}


def test_learning_curves_shows_losses_accuracies_and_firing_rates():
    figure = figures.learning_curves.draw([METRICS.assign(**ONE)])
    losses, accuracy, rates = (lines(axes) for axes in figure.axes)
    assert losses["contrastive"] == [2.0, 1.5, 1.25]
    assert losses["validation cross entropy"] == [1.1, 0.6, 0.5]
    assert accuracy["validation accuracy, $t = 1$"] == [50.0, 60.0, 70.0]
    assert rates == {"layer 1": [0.2, 0.21, 0.22], "layer 2": [0.1, 0.11, 0.12]}
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert drawn(figure)


def test_a_caption_says_that_runs_were_trained_with_different_numbers_of_threads():
    alike, other = gathered(threads=1), gathered(threads=1)
    other.loc[other["seed"] == 1, "threads"] = 2
    said = " The runs had different numbers of threads (1, 2): that alone changes the numbers of a seed."
    assert figures.accuracy_by_step.draw([other]).caption.endswith(said)
    assert "threads" not in figures.accuracy_by_step.draw([alike]).caption


def test_learning_curves_has_a_row_for_each_variant_with_its_own_terms():
    other = METRICS.drop(columns="contrastive").assign(consistency=0.5, **ONE | {"variant": "ETC", "seed": 1})
    columns = [*METRICS.columns[:4], "consistency", *METRICS.columns[4:], *ONE]
    both = pd.concat([METRICS.assign(**ONE), other])[columns]
    figure = figures.learning_curves.draw([both.reset_index(drop=True)])
    assert [axes.get_title("left") for axes in figure.axes[::3]] == ["(a) ETC", "(d) STCL"]
    etc, stcl = (lines(axes) for axes in figure.axes[::3])
    assert "contrastive" not in etc
    assert "consistency" not in stcl
    assert etc["consistency"] == [0.5] * 3


def test_learning_curves_marks_a_single_epoch():
    figure = figures.learning_curves.draw([METRICS[:1].assign(**ONE)])
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)


def test_learning_curves_without_contrast_has_no_total_loss():
    figure = figures.learning_curves.draw([METRICS.drop(columns="contrastive").assign(**ONE)])
    assert list(lines(figure.axes[0])) == ["cross entropy", "validation cross entropy"]


def test_accuracy_by_step_is_the_mean_over_the_seeds():
    figure = figures.accuracy_by_step.draw([gathered()])
    stopped, alone = figure.axes
    assert lines(stopped) == {
        "CE": [62.5, 64.5, 66.5],
        "TCL": [66.5, 68.5, 70.5],
        "STCL": [67.5, 69.5, 71.5],
    }
    assert lines(alone)["TCL"] == [65.5, 66.5, 67.5]
    assert stopped.lines[0].get_xdata().tolist() == [1, 2, 3]
    corners = stopped.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (62, 67)  # of the two seeds
    assert stopped.get_xlabel() == "inference time steps $t$"
    assert [axes.get_title("left") for axes in figure.axes] == ["(a) first $t$ steps", "(b) step $t$ alone"]
    assert drawn(figure)


def test_a_figure_has_a_caption_and_no_title():
    figure = figures.accuracy_by_step.draw([gathered()])
    assert figure.get_suptitle() == ""
    assert figure.caption == (
        "Test accuracy by time step on Digits. (a) When inference stops after t time steps."
        " (b) Of the answer at step t alone. Mean over 2 seeds; band: lowest to highest seed."
        " Setting: convnet, T = 3, 96 training and 360 test samples; 6 runs."
    )


def test_accuracy_by_step_of_one_seed_has_the_interval_of_the_test_samples():
    figure = figures.accuracy_by_step.draw([gathered(seeds=1)])
    corners = set(map(tuple, figure.axes[0].collections[0].get_paths()[0].vertices.tolist()))
    assert {(1, 57.0), (1, 67.0), (3, 61.0), (3, 71.0)} <= corners
    assert "One seed; band in (a): 95 % interval (Wilson)." in figure.caption


def test_a_caption_says_where_the_numbers_of_seeds_differ():
    table = gathered(seeds=3)
    some = table[(table["variant"] != "CE") | (table["seed"] == 0)]
    assert "Mean over 1 to 3 seeds;" in figures.accuracy_by_step.draw([some]).caption


def test_recalibration_shows_both_accuracies_of_every_variant():
    figure = figures.recalibration.draw([gathered()])
    assert [axes.get_title("left") for axes in figure.axes] == ["(a) CE", "(b) TCL", "(c) STCL"]
    plain, recalibrated = (bars.lines[0] for bars in figure.axes[1].containers)
    assert plain.get_ydata().tolist() == [66.5, 68.5, 70.5]
    assert recalibrated.get_ydata() == pytest.approx([68.5, 69.5, 70.5 + 2 / 3])
    assert (plain.get_linestyle(), recalibrated.get_linestyle()) == ("-", "--")
    assert recalibrated.get_markerfacecolor() == "white"
    assert plain.get_color() == recalibrated.get_color() == LOSSES_DRAWN["TCL"].colour
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["batch norm as trained", "recalibrated to the first $t$ steps"]
    assert drawn(figure)


@pytest.mark.parametrize("draw", [figures.accuracy_by_step, figures.recalibration])
def test_no_band_and_no_bar_leaves_0_to_100(draw):
    values = {0: 100.0, 1: 100.0, 2: 97.0}
    table = gathered(seeds=3)
    table["cumulative"] = table["instantaneous"] = table["recalibrated"] = table["seed"].map(values)
    figure = draw.draw([table])
    for collection in (collection for axes in figure.axes for collection in axes.collections):
        ends = np.concatenate([path.vertices[:, 1] for path in collection.get_paths()])
        assert (ends.min(), ends.max()) == (97, 100)


def test_every_registered_loss_is_told_apart_without_colour():
    table = gathered(losses={loss.label: 0.0 for loss in LOSSES_DRAWN.values()})
    found = figures.accuracy_by_step.draw([table]).axes[0].lines
    assert len(found) == len(LOSSES_DRAWN) >= 7
    assert len({line.get_marker() for line in found}) == len(found)
    assert len({line.get_color() for line in found}) == len(found)


def test_the_caption_says_that_a_step_of_events_is_a_frame():
    name = "moving_digits (simulated)"
    events = gathered(events=True, data=name, setting=f"{name}, convnet, T = 3")
    figure = figures.accuracy_by_step.draw([events])
    assert "on Moving digits (simulated)." in figure.caption
    assert "frame" in figure.caption
    assert "frame" not in figures.accuracy_by_step.draw([gathered()]).caption


def test_a_loss_keeps_its_colour_and_its_variants_differ():
    both = figures.accuracy_by_step.draw([gathered()]).axes[0]
    alone = figures.accuracy_by_step.draw([gathered(losses={"STCL": 1.0})]).axes[0]
    assert to_rgb(alone.lines[0].get_color()) == to_rgb(both.lines[2].get_color())
    variants = {"TCL": 0.0, "TCL, temperature 0.2": 1.0}
    default, other = figures.accuracy_by_step.draw([gathered(losses=variants)]).axes[0].lines
    assert default.get_color() == other.get_color()
    assert default.get_linestyle() != other.get_linestyle()


def test_accuracy_by_energy_adds_up_the_steps():
    layers = [gathered().assign(layer=layer, energy_uj=layer * 0.5, ann_energy_uj=0.0) for layer in (1, 2)]
    operations = pd.concat(layers)
    operations.loc[operations["time_step"] == 1, "ann_energy_uj"] = 4.0
    columns = ["run", "time_step", "layer", "energy_uj", "ann_energy_uj"]
    figure = figures.accuracy_by_energy.draw([gathered(), operations[columns]])
    (axes,) = figure.axes
    line = axes.containers[0].lines[0]
    assert line.get_xdata().tolist() == [1.5, 3.0, 4.5]
    assert line.get_ydata().tolist() == [62.5, 64.5, 66.5]
    assert "An ANN of the same shape needs 8 µJ per sample." in figure.caption
    assert "µJ" in axes.get_xlabel()
    assert drawn(figure)


def test_training_curves_are_means_over_the_seeds():
    runs = gathered().drop_duplicates("run")[["data", "setting", "variant", "seed"]]
    metrics = runs.merge(METRICS, how="cross")
    metrics["validation_accuracy"] += 2 * metrics["seed"]
    figure = figures.training_curves.draw([metrics])
    everything, first, entropy = (lines(axes) for axes in figure.axes)
    assert everything["CE"] == [56.0, 66.0, 76.0]
    assert first["STCL"] == [50.0, 60.0, 70.0]
    assert entropy["TCL"] == [1.1, 0.6, 0.5]
    assert drawn(figure)


@pytest.mark.parametrize("draw", [figures.accuracy_by_step, figures.training_curves])
def test_runs_that_must_not_be_averaged_never_are(draw):
    mixed = pd.concat([gathered(), gathered(setting="digits, convnet, T = 4")])
    mixed = mixed.assign(epoch=1, validation_accuracy=1, validation_accuracy_t1=1, validation_cross_entropy=1)
    with pytest.raises(ValueError, match="runs of 2 settings"):
        draw.draw([mixed])


def test_sensitivity_shows_validation_accuracy():
    table = runs_table(temperature=(0.1, 0.1, 0.5, 0.5), temporal_weight=(0.5, 2.0, 0.5, 2.0))
    figure = figures.sensitivity.draw([table])
    assert [axes.get_title("left") for axes in figure.axes] == [
        "(a) TCL, $t = 1$",
        "(b) TCL, $t = T = 3$",
        "(c) STCL, $t = 1$",
        "(d) STCL, $t = T = 3$",
    ]
    assert figure.axes[0].get_ylabel() == "validation accuracy (%)"
    weak, strong = (container.lines[0] for container in figure.axes[1].containers)
    assert weak.get_xdata().tolist() == [0.1, 0.5]
    assert weak.get_ydata().tolist() == [75.0, 77.0]
    assert strong.get_ydata().tolist() == [76.0, 78.0]
    assert drawn(figure)


def test_sensitivity_to_the_weight_alone():
    table = runs_table(temperature=(0.1, 0.1, 0.1), temporal_weight=(0.0, 0.5, 2.0))
    table.loc[table["loss"] == "stcl", "temperature"] = 0.2  # not varied within a loss
    axes = figures.sensitivity.draw([table]).axes[0]
    assert "weight" in axes.get_xlabel()
    assert axes.get_xscale() == "linear"  # 0 has no place on a logarithmic one
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.5", "2"]


def test_positives_show_every_run():
    table = runs_table(positives=("class", "class+time", "time"))
    figure = figures.positives.draw([table])
    first, last = figure.axes
    assert [label.get_text() for label in first.get_xticklabels()] == ["class", "time", "class\n+ time"]
    assert sorted(last.collections[0].get_offsets()[:, 1].tolist()) == [69, 70, 71, 79, 80, 81]
    assert last.containers[0].lines[0].get_ydata().tolist() == [74.0, 75.0, 76.0]
    assert "Mean over 2 seeds" in figure.caption
    assert drawn(figure)


@pytest.mark.parametrize("measure", ["cosine", "cka"])
def test_similarity_is_on_one_colour_scale(measure):
    table = similarities()
    figure = figures.similarity.draw([table], measure=measure, relation="within_class")
    meshes = [axes.collections[0] for axes in figure.axes[:3]]
    assert len({mesh.get_clim() for mesh in meshes}) == 1
    shown = {"cka": "cka_debiased"}.get(measure, measure)
    rows = table[(table["measure"] == shown) & (table["relation"] == "within_class")]
    if measure == "cka":  # a step is equal to itself
        rows = rows[rows["time_step"] != rows["other_step"]]
        assert "The diagonal, 1 by definition, is left blank." in figure.caption
    expected = rows[rows["variant"] == "TCL"].groupby(["time_step", "other_step"])["value"].mean()
    assert meshes[1].get_array().compressed().tolist() == pytest.approx(expected.tolist())
    low, high = meshes[0].get_clim()
    values = rows.groupby(["variant", "time_step", "other_step"])["value"].mean()
    assert (low, high) == pytest.approx((min(values.min(), high - 0.05), values.max()))
    written = [float(text.get_text()) for text in figure.axes[1].texts]
    assert written == pytest.approx(expected.tolist(), abs=0.0051)
    assert drawn(figure)


def test_similarity_of_several_settings_is_refused():
    table = similarities()
    shorter = table.query("time_step < time_step.max() and other_step < other_step.max()")
    mixed = pd.concat([table, shorter.assign(setting="digits, convnet, T = 2", variant="ETC")])
    with pytest.raises(ValueError, match="runs of 2 settings"):
        figures.similarity.draw([mixed])


def test_similarity_shows_the_debiased_cka():
    figure = figures.similarity.draw([similarities()], measure="cka")
    assert figure.axes[-1].get_xlabel() == "debiased linear CKA: all samples"
    assert "mean over 2 seeds." in figure.caption


def test_similarity_where_there_is_none_is_left_blank():
    table = similarities().assign(value=np.nan)
    assert drawn(figures.similarity.draw([table], measure="cka"))


def test_accuracy_by_similarity_leaves_out_the_last_step():
    table = similarities()
    stopped, alone = figures.accuracy_by_similarity.draw([gathered(), table]).axes
    same = table[(table["measure"] == "cosine") & (table["relation"] == "within_sample")]
    of_ce = same[(same["variant"] == "CE") & (same["other_step"] == 3)].groupby("time_step")["value"].mean()
    line = stopped.containers[0].lines[0]
    assert of_ce[3] == pytest.approx(1)
    assert line.get_xdata() == pytest.approx(of_ce[:2].to_numpy())
    assert line.get_ydata().tolist() == [62.5, 64.5]
    hollow = [line for line in stopped.lines if line.get_markerfacecolor() == "white"]
    assert hollow[0].get_xydata().tolist() == [[of_ce[1], 62.5]]
    assert alone.get_xlabel() == "cosine similarity of steps $t$ and $T$"


@pytest.mark.parametrize(
    ("draw", "options", "message"),
    [
        ("similarity", {"measure": "cka_debiased"}, "measure='cka_debiased': must be 'cosine' or 'cka'"),
        ("similarity", {"relation": "class"}, "relation='class': must be 'within_sample', 'within_class' or"),
        ("accuracy_by_similarity", {"measure": "dot"}, "measure='dot': must be 'cosine' or 'cka'"),
    ],
)
def test_figures_of_similarity_refuse_other_measures_and_relations(draw, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        getattr(figures, draw).draw([gathered(), similarities()][draw == "similarity" :], **options)


def test_accuracy_by_similarity_needs_two_time_steps():
    first = [table[table["time_step"] == 1] for table in (gathered(), similarities())]
    first[1] = first[1][first[1]["other_step"] == 1].assign(time_steps=1)
    with pytest.raises(figures.NothingToDraw, match="it needs time_steps=2 or more"):
        figures.accuracy_by_similarity.draw(first)


def test_t_sne_shows_classes_above_and_time_steps_below():
    features = np.random.default_rng(0).normal(size=(3, 20, 6)) + np.repeat(3 * np.eye(4, 6), 5, axis=0)
    points = pd.concat(
        [
            points_of(
                factor * features, np.repeat(np.arange(4), 5), np.arange(20), **ONE | {"variant": variant}
            )
            for factor, variant in ((1.0, "CE"), (2.0, "STCL"))
        ]
    )
    figure = figures.tsne.draw([points])
    *panels, bar = figure.axes
    assert [axes.get_title("left") for axes in panels] == ["(a) CE", "(b) STCL", "", ""]
    shown = points[points["variant"] == "CE"]
    for axes in panels[::2]:  # of CE, in any order
        places = axes.collections[0].get_offsets()
        assert np.allclose(np.sort(places, 0), np.sort(shown[["x", "y"]], 0))
    above, below = (axes.collections[0] for axes in panels[::2])
    assert len(np.unique(above.get_facecolors(), axis=0)) == 4
    order = np.argsort(below.get_offsets()[:, 0])
    assert below.get_array()[order].tolist() == shown.sort_values("x")["time_step"].tolist()
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["class 0", "class 1", "class 2", "class 3"]
    assert bar.get_ylabel() == "time step $t$"
    assert "20 test samples" in figure.caption
    assert drawn(figure)


def under_the_pointer(figure) -> dict[str, list[tuple[float, float]]]:
    """What the notebook's figure says, and where: pixels from the upper left corner."""
    figure.draw_without_rendering()
    found = re.findall(r'<circle cx="(.*?)" cy="(.*?)" r="3"><title>(.*?)</title>', overlay(figure))
    places = {}
    for x, y, words in found:
        places.setdefault(html.unescape(words), []).append((float(x), float(y)))
    return places


def test_accuracy_by_step_says_which_runs_and_step_a_point_is():
    figure = figures.accuracy_by_step.draw([gathered()])
    said = under_the_pointer(figure)
    assert len(said) == 2 * len(LOSSES) * 3  # panels, variants, steps
    (place,) = said["TCL, seeds 0, 1: time step 2, 68.5"]
    x, y = figure.axes[0].transData.transform((2, 68.5))
    assert place == pytest.approx((x, figure.bbox.height - y), abs=0.5)


def test_other_curves_say_what_a_point_is():
    of_layers = under_the_pointer(figures.firing_rates.draw([RATES.assign(**ONE)]))
    assert "STCL, seed 0: layer 2, time step 1, 0.3" in of_layers
    epochs = under_the_pointer(figures.learning_curves.draw([METRICS.assign(**ONE)]))
    assert {
        "STCL, seed 0: contrastive, epoch 2, 1.5",
        "STCL, seed 0: validation accuracy, t = 1, epoch 3, 70",
    } <= epochs.keys()
    weights = runs_table(temperature=(0.1, 0.5), temporal_weight=(0.5, 2.0))
    assert "STCL: temporal weight 2, temperature 0.5, 81" in under_the_pointer(
        figures.sensitivity.draw([weights])
    )
    some = figures.positives.draw([runs_table(positives=("class", "class+time", "time"))])
    (place,) = under_the_pointer(some)["TCL ('time',), seed 1: 81"]
    x, y = some.axes[1].transData.transform((0.88, 81.0))
    assert place == pytest.approx((x, some.bbox.height - y), abs=0.5)


def test_tsne_says_which_sample_step_and_run_a_point_is():
    features = np.random.default_rng(0).normal(size=(3, 20, 6))
    points = points_of(features, np.repeat(np.arange(4), 5), np.arange(100, 120), **ONE)
    figure = figures.tsne.draw([points])
    said = under_the_pointer(figure)
    assert len(said) == 3 * 20
    row = points[(points["sample"] == 107) & (points["time_step"] == 2)].iloc[0]
    places = said["STCL, seed 0: sample 107, class 1, t = 2"]
    expected = [axes.transData.transform((row["x"], row["y"])) for axes in figure.axes[:2]]
    assert np.allclose(places, [(x, figure.bbox.height - y) for x, y in expected], atol=0.5)


def test_t_sne_repeats_itself_and_keeps_neighbours():
    labels = np.arange(30) % 3
    features = 0.1 * np.random.default_rng(0).normal(size=(2, 30, 8)) + 10 * np.eye(8)[labels]
    points = tsne(features, labels, np.arange(100, 130))
    pd.testing.assert_frame_equal(points, tsne(features, labels, np.arange(100, 130)))
    assert points["sample"].tolist() == 2 * list(range(100, 130))
    assert points["time_step"].tolist() == 30 * [1] + 30 * [2]
    places = points[["x", "y"]].to_numpy()
    nearest = np.linalg.norm(places[:, None] - places[None], axis=-1)
    np.fill_diagonal(nearest, np.inf)
    assert (points["label"].to_numpy()[nearest.argmin(1)] == points["label"]).all()


def test_features_of_a_silent_network_are_named():
    with pytest.raises(ValueError, match="all features are equal"):
        tsne(np.zeros((2, 30, 8)), np.arange(30) % 3, np.arange(30))


def test_the_figure_of_a_silent_network_says_why_there_is_none(trained):
    arrays = trained.features
    arrays["features"][:] = 0
    layout.write_arrays(trained.path / layout.FEATURES, arrays)
    life.finish(trained.path, trained.result)
    with pytest.warns(UserWarning, match="all features are equal"), pytest.raises(NothingToDraw) as caught:
        figures.tsne(load_run(trained.path))
    assert str(caught.value).startswith(f"{trained.path}: all features are equal, as in a silent network")


def test_of_many_classes_and_steps_ten_are_shown():
    features = np.random.default_rng(0).normal(size=(32, 40, 3))
    points = tsne(features, np.arange(40) % 20, np.arange(40))
    assert sorted(points["label"].unique()) == list(range(10))
    assert points["time_step"].nunique() == 10
    assert (points["time_step"].min(), points["time_step"].max()) == (1, 32)


def test_of_many_samples_as_many_are_shown_as_give_500_points():
    features, labels = np.random.default_rng(0).normal(size=(4, 200, 3)), np.arange(200) % 5
    points = tsne(features, labels, np.arange(1000, 1200))
    first = points[points["time_step"] == 1]
    assert len(points) == 500
    assert len(first) == first["sample"].nunique() == 125
    assert first["sample"].is_monotonic_increasing
    assert (points["label"] == labels[points["sample"] - 1000]).all()
    for _, rows in points.groupby("time_step"):
        assert rows["sample"].tolist() == first["sample"].tolist()


@pytest.fixture
def run(tiny):
    """A run of two steps, of which only the accuracy is known."""
    config = tiny(loss="tcl")
    steps = {"time_step": [1, 2], "cumulative": [60.0, 70.0], "instantaneous": [60.0, 65.0]}
    write_run(config, tables={layout.ACCURACY: steps | {"low": 50.0, "high": 80.0}})
    return load_run(config.run_path)


def test_a_drawing_function_takes_a_run_a_list_or_a_table(run):
    expected = {"TCL, projection dim 16": [60.0, 70.0]}
    for found in (run, [run], runs.table([run])):
        assert lines(figures.accuracy_by_step(found, preset="ieee").axes[0]) == expected


def test_runs_without_what_is_shown_are_refused_with_the_command_that_trains_them(run):
    with pytest.raises(figures.NothingToDraw) as caught:
        figures.firing_rates(run)
    command = str(caught.value).split(": ", 1)[1]
    assert str(caught.value).startswith("the firing rate is not in the files of these runs;")
    assert len(str(caught.value).splitlines()) == 1
    assert command.startswith("papermill notebooks/ablation.ipynb runs/ablation.ipynb -p train_size 96")
    assert command.endswith(' -y "{losses: [tcl], seeds: [0], time_steps: [2], batch_size: [32]}"')
    with pytest.raises(
        figures.NothingToDraw, match=r"does not vary .*temperature: \[0.05, 0.1, 0.2\], seeds"
    ):
        figures.sensitivity(run)


WIDTHS = {"nature": [89, 183], "neurips": [139.7], "ieee": [88.9, 181.9]}


@pytest.mark.parametrize("preset", ["nature", *too_long("neurips", "ieee")])
def test_save_writes_every_width_and_the_caption(run, tmp_path, preset):
    figure = figures.save(tmp_path / "figures", figures.accuracy_by_step, run, preset)
    files = {path.name for path in (tmp_path / "figures").iterdir()}
    kinds = itertools.product([f"-{width:.0f}mm" for width in WIDTHS[preset]], ("pdf", "png", "svg"))
    assert files == {
        "accuracy-by-step.txt",
        *(f"accuracy-by-step{width}.{suffix}" for width, suffix in kinds),
    }
    assert (tmp_path / "figures" / "accuracy-by-step.txt").read_text() == figure.caption + "\n"
    for width in WIDTHS[preset]:
        start = tmp_path / "figures" / f"accuracy-by-step-{width:.0f}mm"
        with Image.open(start.with_suffix(".png")) as picture:
            assert picture.width == pytest.approx(300 * width / 25.4, abs=1)
            assert picture.height <= 300 * 70 / 25.4
        pdf = start.with_suffix(".pdf").read_bytes()
        assert b"/FontFile2" in pdf  # embedded, and TrueType
        assert b"/Type3" not in pdf
        svg = start.with_suffix(".svg").read_text()
        assert "test accuracy (%)</text>" in svg
        assert "Test accuracy by" not in svg  # no title
        assert re.search(r"(italic|oblique)[^>]*>t<", svg)  # a formula
    font = {"nature": r"DejaVu|Arial|Helvetica|Liberation"}.get(preset, "STIXGeneral")
    assert re.search(font, svg)


def test_save_names_the_files_after_options_and_width(tmp_path):
    run = load_run(REFERENCE / "digits-convnet-ce-T4-s0")
    options = {"measure": "cosine", "relation": "within_class"}
    figures.save(tmp_path, figures.similarity, run, width=60, **options)
    assert {path.stem for path in tmp_path.iterdir()} == {
        "similarity-cosine-within-class-60mm",
        "similarity-cosine-within-class",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "science"}, "preset='science': must be 'nature', 'neurips' or 'ieee'"),
        ({"width": 0}, "width=0: must be greater than 0, or None"),
        ({"width": "single"}, "width='single': must be a valid number, or None"),
    ],
)
def test_a_preset_or_width_that_is_none_is_refused(run, tmp_path, options, message):
    with pytest.raises(ValueError, match="must be") as caught:
        figures.save(tmp_path / "figures", figures.accuracy_by_step, run, **options)
    assert str(caught.value) == message
    assert not (tmp_path / "figures").exists()


def test_equal_figures_are_equal_files(run, tmp_path):
    for name in ("one", "other"):
        figures.save(tmp_path / name, figures.accuracy_by_step, run, width=89)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_savefig_keeps_the_style_of_the_preset(run):
    figure = figures.accuracy_by_step(run, "ieee")
    svg = io.StringIO()
    figure.savefig(svg, format="svg")
    assert "test accuracy (%)</text>" in svg.getvalue()
    assert "DejaVu" not in svg.getvalue()


@pytest.mark.parametrize(
    ("preset", "width"), [("nature", 89), *too_long(("nature", 183), ("neurips", 140), ("ieee", 88.9))]
)
def test_nothing_is_cut_and_panels_do_not_overlap(preset, width):
    table = gathered(losses=dict.fromkeys(LOSSES_DRAWN, 0.0))
    alike = similarities(dict.fromkeys(LOSSES_DRAWN, 0.0))
    some = runs_table(positives=("class", "class+time", "class+time+view"))
    of_two = runs_table(temperature=(0.1, 0.5), temporal_weight=(0.5, 2.0))
    many = runs_table(temperature=tuple(0.01 * 2**n for n in range(8)), temporal_weight=8 * (0.5,))
    features = np.random.default_rng(0).normal(size=(10, 20, 6))
    labels = np.arange(20) % 10
    points = points_of(features, labels, np.arange(20), **ONE)
    of_each = pd.concat([points.assign(variant=variant) for variant in LOSSES_DRAWN])
    metrics = table.drop_duplicates("run")[list(ONE)].merge(METRICS, how="cross")
    energy = table.assign(energy_uj=0.5, ann_energy_uj=1.0)[
        ["run", "time_step", "energy_uj", "ann_energy_uj"]
    ]
    of_layers = table.drop_duplicates("run")[[*ONE, "time_steps"]].merge(RATES, how="cross")
    shown = {
        "accuracy_by_step": [table],
        "recalibration": [table],
        "accuracy_by_energy": [table, energy],
        "accuracy_by_similarity": [table, alike],
        "similarity": [alike],
        "training_curves": [metrics],
        "sensitivity": [of_two],
        "tsne": [of_each],
        "learning_curves": [METRICS.assign(**ONE)],
        "firing_rates": [of_layers],
        "positives": [some],
    }
    found = [getattr(figures, name).draw(tables, preset, width) for name, tables in shown.items()]
    found.append(figures.sensitivity.draw([many[many["loss"] == "tcl"]], preset, width))
    found.append(figures.training_curves.draw([metrics[metrics["epoch"] == 1]], preset, width))
    for figure in found:
        drawn(figure)
        renderer = FigureCanvasAgg(figure).get_renderer()
        sheet = figure.bbox
        with plt.rc_context(figure.style):  # the ticks depend on the size of text
            boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
        others = [legend.get_window_extent(renderer) for legend in figure.legends]
        assert figure.get_figheight() < 240 / 25.4  # a page
        for box in boxes + others:
            assert box.x0 >= sheet.x0 - 1, figure.caption
            assert box.y0 >= sheet.y0 - 1
            assert box.x1 <= sheet.x1 + 1
            assert box.y1 <= sheet.y1 + 1
        for one, other in itertools.combinations(boxes + others, 2):
            overlap = (
                min(one.x1, other.x1) - max(one.x0, other.x0),
                min(one.y1, other.y1) - max(one.y0, other.y0),
            )
            assert min(overlap) <= 1, (figure.caption, one, other)


def test_firing_rates_has_a_line_for_each_layer():
    (axes,) = figures.firing_rates.draw([RATES.assign(**ONE)]).axes
    assert lines(axes) == {"layer 1": [0.1, 0.2], "layer 2": [0.3, 0.4]}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 200, 150)])
def test_views_shows_every_pixel_as_it_is(shape):
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (3, 4, *shape), dtype=np.uint8)
    figure = figures.views(rows, ["stored", "view 1", "view 2"], "moving_digits (simulated)")
    assert figure.caption == "Samples of Moving digits (simulated). Rows: stored, view 1, view 2."
    shown = figure.axes[0].images[0].get_array()
    assert shown.shape[2] == 3
    scale, step = max(1, round(64 / max(shape))), max(1, round(max(shape) / 64))
    height, width = (-(-side // step) * scale for side in shape[1:])
    second = shown[height + 8 : 2 * height + 8, 4 : width + 4][::scale, ::scale]
    assert (second == rows[1, 0][:, ::step, ::step].transpose(1, 2, 0)).all()
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["stored", "view 1", "view 2"]
    assert len(drawn(figure)) < 200_000


def test_speed_shows_every_subject_over_the_steps():
    rows = [
        {"subject": subject, "precision": precision, "time_steps": steps, "median_ms": 10.0 * steps}
        | {"low_ms": 9.0 * steps, "high_ms": 12.0 * steps, "peak_memory_mb": 5.0 * steps}
        for subject, precision in (("tcl_lib", "32-true"), ("tcl_lib", "bf16-mixed"), ("norse", "32-true"))
        for steps in (1, 4, 16)
    ]
    shared = {"backbone": "convnet", "batch_size": 8, "image_size": 32, "rounds": 5}
    table = pd.DataFrame(rows).assign(**shared, machine="a CPU, 2 threads", torch="2.12")
    figure = speed(table)
    time, memory = figure.axes
    assert [line.get_ydata().tolist() for line in memory.lines] == [[5, 20, 80]] * 3
    assert [bars[0].get_ydata().tolist() for bars in time.containers] == [[10, 40, 160]] * 3
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "this study, float32",
        "this study, bf16",
        "Norse, float32",
    ]
    assert time.get_xticks().tolist() == [1, 4, 16]
    assert "8 images of 32 x 32" in figure.caption
    assert "a CPU, 2 threads" in figure.caption
