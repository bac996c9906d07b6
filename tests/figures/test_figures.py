"""Figures show what the tables hold, and can be drawn."""

import io
import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from conftest import too_long
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from benchmarks.figure import speed
from tcl_lib import figures, registry
from tcl_lib.analysis.similarity import temporal_similarity
from tcl_lib.analysis.tsne import tsne

METRICS = pd.DataFrame(
    {
        "data": "dvs_cifar10 (tet split)",
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
        "data": "digits",
        "layer": [1, 1, 2, 2],
        "time_step": [1, 2, 1, 2],
        "firing_rate": [0.1, 0.2, 0.3, 0.4],
    }
)
SETTING = "digits, convnet, T = 3, 96 training and 360 test samples"


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
        rows.append(table.assign(**{k: run[k] for k in ("run", "setting", "variant", "seed", "time_steps")}))
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
        labels = {"setting": SETTING, "variant": f"{loss.upper()} {values}", "time_steps": 3, "fixed": ""}
        rows.append(labels | {"loss": loss, "seed": seed} | changed | numbers)
    return pd.DataFrame(rows)


def drawn(figure) -> bytes:
    assert not plt.get_fignums()  # else a notebook would show it twice
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def lines(axes) -> dict[str, list]:
    return {line.get_label(): line.get_ydata().tolist() for line in axes.lines}


def test_learning_curves():
    figure = figures.learning_curves(METRICS)
    losses, accuracy, rates = (lines(axes) for axes in figure.axes)
    assert losses["contrastive"] == [2.0, 1.5, 1.25]
    assert losses["validation cross entropy"] == [1.1, 0.6, 0.5]
    assert accuracy["validation, first step"] == [50.0, 60.0, 70.0]
    assert figure.get_suptitle() == "dvs_cifar10 (tet split)"
    assert rates == {"layer 1": [0.2, 0.21, 0.22], "layer 2": [0.1, 0.11, 0.12]}
    assert all(axes.get_xlabel() and axes.get_ylabel() for axes in figure.axes)
    assert drawn(figure)


def test_a_single_epoch_is_seen():
    figure = figures.learning_curves(METRICS[:1])
    assert all(line.get_marker() == "o" for axes in figure.axes for line in axes.lines)


def test_without_contrast_the_loss_is_the_cross_entropy():
    losses = lines(figures.learning_curves(METRICS.drop(columns="contrastive")).axes[0])
    assert list(losses) == ["cross entropy", "validation cross entropy"]


def test_accuracy_curves_are_the_mean_over_the_seeds():
    figure = figures.accuracy_curves(gathered())
    stopped, alone = figure.axes
    assert lines(stopped) == {
        "CE (2 seeds)": [62.5, 64.5, 66.5],
        "TCL (2 seeds)": [66.5, 68.5, 70.5],
        "STCL (2 seeds)": [67.5, 69.5, 71.5],
    }
    assert lines(alone)["TCL (2 seeds)"] == [65.5, 66.5, 67.5]
    assert stopped.lines[0].get_xdata().tolist() == [1, 2, 3]
    corners = stopped.collections[0].get_paths()[0].vertices
    assert (corners[:, 1].min(), corners[:, 1].max()) == (62, 67)  # of the two seeds
    assert SETTING in figure.get_suptitle().replace("\n", " ")
    assert "band: lowest to highest seed" in figure.get_suptitle()
    assert drawn(figure)


def test_of_one_seed_the_band_is_what_the_test_samples_leave():
    figure = figures.accuracy_curves(gathered(seeds=1))
    corners = set(map(tuple, figure.axes[0].collections[0].get_paths()[0].vertices.tolist()))
    assert {(1, 57.0), (1, 67.0), (3, 61.0), (3, 71.0)} <= corners
    assert "95 % interval (Wilson)" in figure.get_suptitle()
    assert list(lines(figure.axes[0])) == ["CE (1 seed)", "TCL (1 seed)", "STCL (1 seed)"]


def test_recalibration_shows_both_accuracies_of_every_variant():
    figure = figures.recalibration(gathered())
    assert [axes.get_title() for axes in figure.axes] == ["CE (2 seeds)", "TCL (2 seeds)", "STCL (2 seeds)"]
    plain, recalibrated = (bars.lines[0] for bars in figure.axes[1].containers)
    assert plain.get_ydata().tolist() == [66.5, 68.5, 70.5]
    assert recalibrated.get_ydata() == pytest.approx([68.5, 69.5, 70.5 + 2 / 3])
    assert (plain.get_linestyle(), recalibrated.get_linestyle()) == ("-", "--")
    assert recalibrated.get_markerfacecolor() == "white"
    assert plain.get_color() == recalibrated.get_color() == LOSSES_DRAWN["TCL"].colour
    assert "hollow: recalibrated to t steps" in figure.get_suptitle()
    assert drawn(figure)


@pytest.mark.parametrize("draw", [figures.accuracy_curves, figures.recalibration])
def test_no_band_and_no_bar_leaves_0_to_100(draw):
    values = {0: 100.0, 1: 100.0, 2: 97.0}
    table = gathered(seeds=3)
    table["cumulative"] = table["instantaneous"] = table["recalibrated"] = table["seed"].map(values)
    figure = draw(table)
    for collection in (collection for axes in figure.axes for collection in axes.collections):
        ends = np.concatenate([path.vertices[:, 1] for path in collection.get_paths()])
        assert (ends.min(), ends.max()) == (97, 100)


def test_every_registered_loss_is_told_apart_without_colour():
    table = gathered(losses={loss.label: 0.0 for loss in LOSSES_DRAWN.values()})
    found = figures.accuracy_curves(table).axes[0].lines
    assert len(found) == len(LOSSES_DRAWN) >= 7
    assert len({line.get_marker() for line in found}) == len(found)
    assert len({line.get_color() for line in found}) == len(found)


def test_steps_of_events_are_frames():
    figure = figures.accuracy_curves(gathered(events=True, setting="moving_digits (simulated), convnet"))
    assert "moving_digits (simulated)" in figure.get_suptitle()
    assert "first t frames" in figure.axes[0].get_title()
    assert "frames" not in figures.accuracy_curves(gathered()).axes[0].get_title()


def test_a_loss_keeps_its_colour_and_its_variants_differ():
    both = figures.accuracy_curves(gathered()).axes[0]
    alone = figures.accuracy_curves(gathered(losses={"STCL": 1.0})).axes[0]
    assert to_rgb(alone.lines[0].get_color()) == to_rgb(both.lines[2].get_color())
    variants = {"TCL": 0.0, "TCL, temperature 0.2": 1.0}
    default, other = figures.accuracy_curves(gathered(losses=variants)).axes[0].lines
    assert default.get_color() == other.get_color()
    assert default.get_linestyle() != other.get_linestyle()


def test_accuracy_by_energy_adds_up_the_steps():
    layers = [gathered().assign(layer=layer, energy_uj=layer * 0.5, ann_energy_uj=0.0) for layer in (1, 2)]
    operations = pd.concat(layers)
    operations.loc[operations["time_step"] == 1, "ann_energy_uj"] = 4.0
    columns = ["run", "time_step", "layer", "energy_uj", "ann_energy_uj"]
    figure = figures.accuracy_by_energy(gathered(), operations[columns])
    (axes,) = figure.axes
    line = axes.containers[0].lines[0]
    assert line.get_xdata().tolist() == [1.5, 3.0, 4.5]
    assert line.get_ydata().tolist() == [62.5, 64.5, 66.5]
    assert "ANN of the same shape: 8 µJ" in figure.get_suptitle()
    assert "µJ" in axes.get_xlabel()
    assert drawn(figure)


def test_training_curves_are_means_over_the_seeds():
    runs = gathered().drop_duplicates("run")[["setting", "variant", "seed"]]
    metrics = runs.merge(METRICS, how="cross")
    metrics["validation_accuracy"] += 2 * metrics["seed"]
    figure = figures.training_curves(metrics)
    everything, first, entropy = (lines(axes) for axes in figure.axes)
    assert everything["CE (2 seeds)"] == [56.0, 66.0, 76.0]
    assert first["STCL (2 seeds)"] == [50.0, 60.0, 70.0]
    assert entropy["TCL (2 seeds)"] == [1.1, 0.6, 0.5]
    assert drawn(figure)


@pytest.mark.parametrize("draw", [figures.accuracy_curves, figures.training_curves])
def test_runs_that_must_not_be_averaged_never_are(draw):
    mixed = pd.concat([gathered(), gathered(setting="digits, convnet, T = 4")])
    mixed = mixed.assign(epoch=1, validation_accuracy=1, validation_accuracy_t1=1, validation_cross_entropy=1)
    with pytest.raises(ValueError, match="runs of 2 settings"):
        draw(mixed)


def test_sensitivity_shows_validation_accuracy():
    table = runs_table(temperature=(0.1, 0.1, 0.5, 0.5), temporal_weight=(0.5, 2.0, 0.5, 2.0))
    figure = figures.sensitivity(table)
    assert [axes.get_title() for axes in figure.axes] == [
        "TCL, answer at t = 1",
        "TCL, answer at t = T = 3",
        "STCL, answer at t = 1",
        "STCL, answer at t = T = 3",
    ]
    assert figure.get_supylabel() == "validation accuracy (%)"
    weak, strong = (container.lines[0] for container in figure.axes[1].containers)
    assert weak.get_xdata().tolist() == [0.1, 0.5]
    assert weak.get_ydata().tolist() == [75.0, 77.0]
    assert strong.get_ydata().tolist() == [76.0, 78.0]
    assert drawn(figure)


def test_sensitivity_to_the_weight_alone():
    table = runs_table(temperature=(0.1, 0.1, 0.1), temporal_weight=(0.0, 0.5, 2.0))
    table.loc[table["loss"] == "stcl", "temperature"] = 0.2  # not varied within a loss
    axes = figures.sensitivity(table).axes[0]
    assert "weight" in axes.get_xlabel()
    assert axes.get_xscale() == "linear"  # 0 has no place on a logarithmic one
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "0.5", "2"]


def test_positives_show_every_run():
    table = runs_table(positives=("class", "class+time", "time"))
    figure = figures.positives(table)
    first, last = figure.axes
    assert [label.get_text() for label in first.get_xticklabels()] == ["class", "time", "class\n+ time"]
    assert sorted(last.collections[0].get_offsets()[:, 1].tolist()) == [69, 70, 71, 79, 80, 81]
    assert last.containers[0].lines[0].get_ydata().tolist() == [74.0, 75.0, 76.0]
    assert "2 seeds" in figure.get_suptitle()
    assert drawn(figure)


@pytest.mark.parametrize("measure", ["cosine", "cka"])
def test_similarity_is_on_one_colour_scale(measure):
    table = similarities()
    figure = figures.similarity(table, measure, "within_class")
    meshes = [axes.collections[0] for axes in figure.axes[:3]]
    assert len({mesh.get_clim() for mesh in meshes}) == 1
    shown = {"cka": "cka_debiased"}.get(measure, measure)
    rows = table[(table["measure"] == shown) & (table["relation"] == "within_class")]
    expected = rows[rows["variant"] == "TCL"].groupby(["time_step", "other_step"])["value"].mean()
    assert meshes[1].get_array().flatten().tolist() == pytest.approx(expected.tolist())
    low, high = meshes[0].get_clim()
    values = rows.groupby(["variant", "time_step", "other_step"])["value"].mean()
    assert (low, high) == pytest.approx((min(values.min(), high - 0.05), values.max()))
    written = [float(text.get_text()) for text in figure.axes[1].texts]
    assert written == pytest.approx(expected.tolist(), abs=0.0051)
    assert drawn(figure)


def test_similarity_shows_the_debiased_cka_of_the_runs_that_have_it():
    table = similarities()
    old = (table["measure"] == "cka_debiased") & (table["seed"] == 1)
    figure = figures.similarity(table[~old], "cka", "within_sample")
    assert figure.axes[-1].get_xlabel() == "debiased linear CKA: all samples"
    assert figure.axes[0].get_title() == "CE\n(1 seed)"
    figure = figures.similarity(table[table["measure"] != "cka_debiased"], "cka", "within_sample")
    assert figure.axes[-1].get_xlabel() == "linear CKA (not corrected for bias): all samples"
    assert figure.axes[0].get_title() == "CE\n(2 seeds)"


def test_similarity_where_there_is_none_is_left_blank():
    table = similarities().assign(value=np.nan)
    assert drawn(figures.similarity(table, "cka", "within_class"))


def test_accuracy_by_similarity_to_the_last_step():
    table = similarities()
    stopped, alone = figures.accuracy_by_similarity(gathered(), table).axes
    same = table[(table["measure"] == "cosine") & (table["relation"] == "within_sample")]
    of_ce = same[(same["variant"] == "CE") & (same["other_step"] == 3)].groupby("time_step")["value"].mean()
    line = stopped.containers[0].lines[0]
    assert line.get_xdata() == pytest.approx(of_ce.to_numpy())
    assert line.get_ydata().tolist() == [62.5, 64.5, 66.5]
    assert [text.get_text() for text in stopped.texts] == ["1", "1", "1"]
    assert stopped.texts[0].xy == (line.get_xdata()[0], 62.5)
    assert of_ce[3] == pytest.approx(1)
    assert "step T = 3" in alone.get_xlabel()


def test_t_sne_shows_the_same_samples_in_every_panel():
    features = np.random.default_rng(0).normal(size=(3, 20, 6)) + np.repeat(3 * np.eye(4, 6), 5, axis=0)
    points = pd.concat(
        [
            tsne(factor * features, np.repeat(np.arange(4), 5), np.arange(20)).assign(
                setting=SETTING, variant=variant, seed=0
            )
            for factor, variant in ((1.0, "CE"), (2.0, "STCL"))
        ]
    )
    figure = figures.tsne(points, ["cat", "dog", "horse", "ship"])
    assert [axes.get_title() for axes in figure.axes] == ["CE", "STCL"]
    for axes in figure.axes:
        assert [len(scatter.get_offsets()) for scatter in axes.collections] == [20, 20, 20]  # a marker a step
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["cat", "dog", "horse", "ship", "t = 1", "t = 2", "t = 3"]
    assert "20 test samples" in figure.get_suptitle()
    assert drawn(figure)


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


def test_of_many_classes_and_steps_ten_are_shown():
    features = np.random.default_rng(0).normal(size=(32, 40, 3))
    points = tsne(features, np.arange(40) % 20, np.arange(40))
    assert sorted(points["label"].unique()) == list(range(10))
    assert points["time_step"].nunique() == 10
    assert (points["time_step"].min(), points["time_step"].max()) == (1, 32)


def test_a_saved_figure_is_six_files_of_the_printed_widths(tmp_path):
    figures.save("steps", tmp_path / "figures", figures.accuracy_curves, gathered())
    files = sorted(path.name for path in (tmp_path / "figures").iterdir())
    kinds = itertools.product(("double", "single"), ("pdf", "png", "svg"))
    assert files == [f"steps-{column}.{suffix}" for column, suffix in kinds]
    for column, inches in (("single", 3.5), ("double", 7.2)):
        with Image.open(tmp_path / "figures" / f"steps-{column}.png") as picture:
            assert picture.width == pytest.approx(300 * inches, abs=1)
    pdf = (tmp_path / "figures" / "steps-single.pdf").read_bytes()
    assert b"/FontFile2" in pdf  # embedded, and TrueType
    assert b"/Type3" not in pdf
    svg = (tmp_path / "figures" / "steps-double.svg").read_text()
    assert "test accuracy (%)</text>" in svg


def test_an_empty_table_is_logged_and_not_drawn(tmp_path, caplog):
    with caplog.at_level("INFO", logger="tcl_lib"):
        figures.show("steps", tmp_path / "figures", figures.accuracy_curves, gathered()[:0])
    assert caplog.messages == ["steps: nothing to draw"]
    assert not (tmp_path / "figures").exists()


def test_equal_figures_are_equal_files(tmp_path):
    for name in ("one", "other"):
        figures.save("steps", tmp_path / name, figures.accuracy_curves, gathered())
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


@pytest.mark.parametrize("width", [3.5, *too_long(7.2)])
def test_nothing_is_cut_and_panels_do_not_overlap(width):
    table = gathered(losses=dict.fromkeys(LOSSES_DRAWN, 0.0))
    alike = similarities(dict.fromkeys(LOSSES_DRAWN, 0.0))
    some = runs_table(positives=("class", "class+time", "class+time+view"))
    of_two = runs_table(temperature=(0.1, 0.5), temporal_weight=(0.5, 2.0))
    many = runs_table(temperature=tuple(0.01 * 2**n for n in range(8)), temporal_weight=8 * (0.5,))
    features = np.random.default_rng(0).normal(size=(10, 20, 6))
    labels = np.arange(20) % 10
    points = tsne(features, labels, np.arange(20)).assign(setting=SETTING, seed=0)
    names = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
    of_each = pd.concat([points.assign(variant=variant) for variant in LOSSES_DRAWN])
    metrics = table.drop_duplicates("run")[["setting", "variant", "seed"]].merge(METRICS, how="cross")
    energy = table.assign(energy_uj=0.5, ann_energy_uj=1.0)[
        ["run", "time_step", "energy_uj", "ann_energy_uj"]
    ]
    found = [
        figures.accuracy_curves(table, width=width),
        figures.recalibration(table, width=width),
        figures.accuracy_by_energy(table, energy, width=width),
        figures.accuracy_by_similarity(table, alike, width=width),
        figures.similarity(alike, "cosine", "between_classes", width=width),
        figures.training_curves(metrics, width=width),
        figures.sensitivity(of_two, width=width),
        figures.sensitivity(many[many["loss"] == "tcl"], width=width),
        figures.tsne(of_each, names, width=width),
        figures.training_curves(metrics[metrics["epoch"] == 1], width=width),
        figures.learning_curves(METRICS, width=width),
        figures.firing_rates(RATES, width=width),
        figures.positives(some, width=width),
    ]
    for figure in found:
        figure.draw_without_rendering()
        drawn(figure)
        renderer = FigureCanvasAgg(figure).get_renderer()
        page = figure.bbox
        boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
        others = [figure._suptitle.get_window_extent(renderer)]
        others += [legend.get_window_extent(renderer) for legend in figure.legends]
        for box in boxes + others:
            assert box.x0 >= page.x0 - 1
            assert box.y0 >= page.y0 - 1
            assert box.x1 <= page.x1 + 1
            assert box.y1 <= page.y1 + 1
        for one, other in itertools.combinations(boxes + others, 2):
            overlap = (
                min(one.x1, other.x1) - max(one.x0, other.x0),
                min(one.y1, other.y1) - max(one.y0, other.y0),
            )
            assert min(overlap) <= 1, (figure.get_suptitle(), one, other)


def test_firing_rates_a_line_a_layer():
    (axes,) = figures.firing_rates(RATES).axes
    assert lines(axes) == {"layer 1": [0.1, 0.2], "layer 2": [0.3, 0.4]}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 200, 150)])
def test_views_shows_every_pixel_as_it_is(shape):
    random = np.random.default_rng(0)
    rows = random.integers(0, 256, (3, 4, *shape), dtype=np.uint8)
    figure = figures.views(rows, ["stored", "view 1", "view 2"], "moving_digits (simulated)")
    assert figure.axes[0].get_title("left") == "moving_digits (simulated)"
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
    assert "8 images of 32 x 32" in figure.get_suptitle()
    assert "a CPU, 2 threads" in figure.get_suptitle()
