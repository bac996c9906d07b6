"""Write the tables of README.md and docs/results.md, and the figure of README.md, from runs/reference.

python docs/make_results.py

A table stands between <!-- table: NAME --> and <!-- end -->; `TABLES` says how each is made.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from tcl_lib import figures, load_run, load_runs, runs
from tcl_lib.analysis import claims, statistics, tables
from tcl_lib.config.registry import LOSSES

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "runs" / "reference"
PAGES = (ROOT / "README.md", ROOT / "docs" / "results.md")
FIGURE = REFERENCE / "figures" / "cifar10-jpeg-accuracy-by-step.png"

Rows = dict[str, pd.DataFrame]  # a data set -> its runs that are compared, those of one setting

# the setting of each data set that is compared
DATA = {
    "CIFAR-10 (JPEG)": "cifar10-jpeg-convnet-T4-5b85e7",
    "Fashion-MNIST": "fashion_mnist-convnet-T4-4b9729",
    "N-MNIST": "nmnist-small-convnet-T10-dd4caa",
    "moving digits": "moving_digits-simulated-convnet-T4",
    "digits": "digits-convnet-T4",
}

# a name for ce with the rate and decay of its own best trial
OWN_RATE = "CE, own rate"

# the loss of the paper, where the main variant of tcl is a tuned one
OF_PAPER = "TCL, ce term mean"
LABELS = [loss.label for loss in LOSSES.values()]
LABELS.insert(LABELS.index("STCL"), OF_PAPER)


def all_rows() -> Rows:
    """Return the runs of every data set that is compared."""
    settings = statistics.settings(load_runs(REFERENCE))
    return {data: settings[name] for data, name in DATA.items()}


def pages(rows: Rows) -> dict[Path, str]:
    """Return the text of each page with its tables made anew."""

    def made(found: re.Match) -> str:
        cells = TABLES[found[2]](rows).to_markdown(index=False, disable_numparse=True)
        return f"{found[1]}\n\n{cells}\n\n{found[3]}"

    table = re.compile(r"(<!-- table: (.*?) -->).*?(<!-- end -->)", re.S)
    return {path: table.sub(made, path.read_text()) for path in PAGES}


def compared(table: pd.DataFrame) -> pd.DataFrame:
    """Return the runs of the main variant of each loss, and of the loss of the paper."""
    return pd.concat([statistics.main_variants(table), table[table["variant"] == OF_PAPER]])


def overview(rows: Rows) -> pd.DataFrame:
    """Return the data sets: seeds, test samples, and the commits of all runs of the setting."""
    found = []
    for data, table in rows.items():
        configs = [load_run(path).description for path in table["path"]]
        seeds = statistics.main_variants(table).groupby("loss")["seed"].nunique()
        commits = sorted({config["git_commit"][:7] for config in configs})
        found.append(
            {
                "data": data,
                "seeds": " to ".join(map(str, sorted({seeds.min(), seeds.max()}))),
                "test samples": f"{configs[0]['data']['images']['test']:,}",
                "commits (from `config.json`)": ", ".join(f"`{commit}`" for commit in commits),
                "runs": f"`runs/reference/{table['dataset'].iloc[0]}-*`",
            }
        )
    return pd.DataFrame(found)


def results(data: str, rows: Rows) -> pd.DataFrame:
    """Return the accuracies on a data set at t = 1 and T, and the paired differences to CE."""
    accuracy = runs.gather(compared(rows[data]), "accuracy_by_step")
    return tables.results_table(statistics.compare(accuracy))


def steps(data: str, rows: Rows) -> pd.DataFrame:
    """Return the accuracies on a data set at every t, and recalibrated at t = 1."""
    found = []
    for row in statistics.main_variants(rows[data]).itertuples():
        accuracy = load_run(row.path).accuracy_by_step.set_index("time_step")
        cells = {f"t = {t}": f"{value:.2f}" for t, value in accuracy["cumulative"].items()}
        found.append(
            {
                "loss": row.variant,
                "seed": row.seed,
                **cells,
                "recalibrated": f"{accuracy['recalibrated'][1]:.2f}",
            }
        )
    return pd.DataFrame(found)


def longer(rows: Rows) -> pd.DataFrame:
    """Return the `steps` of the longer runs."""
    ((setting, table),) = statistics.settings(load_runs(REFERENCE / "longer")).items()
    return steps(setting, {setting: table})


def other_t(rows: Rows) -> pd.DataFrame:
    """Return the `steps` of the runs with other numbers of time steps."""
    found = statistics.settings(load_runs(REFERENCE / "other-T"))
    parts = [
        steps(name, {name: table}).assign(T=table["time_steps"].iloc[0]) for name, table in found.items()
    ]
    table = pd.concat(sorted(parts, key=lambda part: part["T"].iloc[0])).fillna("–")
    last = table.pop("recalibrated")
    return table[["T", *table.columns.drop("T")]].assign(recalibrated=last)


def tuning(rows: Rows) -> pd.DataFrame:
    """Return the trials: the validation accuracies at t = 1 and T of each loss."""
    words = "weight, temperature, `ce_term`"
    found: dict[tuple, dict[str, str]] = {}
    for trial in load_runs(REFERENCE / "tuning").itertuples():
        config = load_run(trial.path).config
        key = (config.seed, config.lr, config.weight_decay)
        cells = found.setdefault(
            key, {"seed": config.seed, "rate, decay": f"{config.lr:g}, {config.weight_decay:g}"}
        )
        cells[f"`{config.loss}`"] = f"{trial.validation_accuracy_t1:.2f}, {trial.validation_accuracy:.2f}"
        if LOSSES[config.loss].temporal_term == "contrastive":
            drawn = config.loss_parameters
            cells[words] = f"{drawn['temporal_weight']:g}, {drawn['temperature']:g}, `{drawn['ce_term']}`"
    names = [f"`{loss}`" for loss in ("ce", "per_step_ce", "prefix_ce", "tcl", "stcl")]
    table = pd.DataFrame([found[key] for key in sorted(found)]).fillna("–")
    return table[["seed", "rate, decay", *names, words]]


def own_rate(rows: Rows) -> pd.DataFrame:
    """Return the losses on CIFAR-10 (JPEG), which share rate and decay, compared with CE at its own."""
    others = rows["CIFAR-10 (JPEG)"]
    own = load_runs(REFERENCE / "own-rate").assign(
        variant=OWN_RATE, tuned="", setting=others["setting"].iloc[0]
    )
    return claim({"CIFAR-10 (JPEG)": pd.concat([others, own])}, claims.accuracy, OWN_RATE, LABELS)


def positives(rows: Rows) -> pd.DataFrame:
    """Return STCL with other positives and pairs, and without negatives; on CIFAR-10 (JPEG), in short runs.

    Those also have what STCL adds contrast to: per-step CE on two views.
    """
    words = (f"positives {names}" for names in ("class+time", "class", "time", "view"))
    others = ("time pairs adjacent", "time pairs boundary", "negatives False")
    variants = [f"STCL, {change}" for change in (*words, *others)]
    runs_of = {"short": load_runs(REFERENCE / "positives")}
    without = LOSSES["per_step_ce"].label
    short = claim(runs_of, ends, "STCL", [*variants, without])
    short["loss"] = short["loss"].replace(without, f"{without}, views 2")
    return pd.concat([short.assign(data="CIFAR-10 (JPEG), 2 epochs"), claim(rows, ends, "STCL", variants)])


def claim(rows: Rows, measure: Callable, baseline: str, variants: list[str] | None = None) -> pd.DataFrame:
    """Return a claim's table of `claims.claim`, on all data sets that have its runs."""
    table = pd.concat(rows.values(), ignore_index=True)
    return claims.claim(table, measure, baseline, variants).cells.fillna("")


def stale(rows: Rows) -> pd.DataFrame:
    """Return what each loss loses at t = 1, and what recalibrated batch norm regains, on every data set."""
    found = [tables.recalibration(compared(table)).cells.assign(data=data) for data, table in rows.items()]
    table = pd.concat(found)
    return table[["data", *table.columns.drop("data")]]


def cost(run: runs.Run) -> dict[str, float]:
    """Return what a run costs, without the seconds of its training: other work shared the processors."""
    return {name: value for name, value in claims.price(run).items() if not name.startswith("training")}


def ends(run: runs.Run) -> dict[str, float]:
    """Return the accuracy at t = 1 and T alone."""
    return {name: value for name, value in claims.accuracy(run).items() if name in ("t = 1", "t = T")}


TABLES: dict[str, Callable[[Rows], pd.DataFrame]] = {
    "overview": overview,
    **{f"results on {data}": partial(results, data) for data in DATA},
    "every step on Fashion-MNIST": partial(steps, "Fashion-MNIST"),
    "longer on CIFAR-10 (JPEG)": longer,
    "other T on CIFAR-10 (JPEG)": other_t,
    "own rate on CIFAR-10 (JPEG)": own_rate,
    "tuning": tuning,
    "batch norm": stale,
    "per-step CE": partial(claim, measure=claims.accuracy, baseline="CE", variants=["per-step CE"]),
    "TCL": partial(claim, measure=claims.accuracy, baseline="TCL", variants=["CE", "per-step CE"]),
    "contrast beside the mean's CE": partial(
        claim, measure=claims.accuracy, baseline="TCL, ce term mean", variants=["CE", "per-step CE", "TCL"]
    ),
    "STCL": partial(claim, measure=claims.accuracy, baseline="TCL", variants=["STCL"]),
    "views": partial(claim, measure=ends, baseline="TCL, views 2", variants=["CE, views 2", "STCL"]),
    "without contrast": partial(claim, measure=ends, baseline="TCL", variants=["prefix CE", "ETC", "TSD"]),
    "similarity": partial(claim, measure=claims.similarity, baseline="CE", variants=LABELS),
    "positives": positives,
    "price": partial(claim, measure=cost, baseline="CE", variants=LABELS),
}


if __name__ == "__main__":
    found = all_rows()
    for path, text in pages(found).items():
        path.write_text(text)
    figures.accuracy_by_step(compared(found["CIFAR-10 (JPEG)"])).savefig(FIGURE)
