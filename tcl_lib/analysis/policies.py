"""Stopping inference when the answer is sure: policies, thresholds and what they cost. Imports no torch.

The answer after t steps is the class with the largest mean of the first t steps' logits. A policy gives it a
sureness; inference stops at the first step whose sureness reaches a threshold, and at T at the latest.

Shapes: T time steps, N samples, K classes.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import entr, softmax

from tcl_lib.runs import Run
from tcl_lib.utils.checks import AtLeast2, Positive, Threshold, checked, one_of

# The most candidates for a threshold: quantiles of the sureness of the validation samples.
CANDIDATES = 1000


def confidence(means: np.ndarray) -> np.ndarray:
    """Return the largest probability, from 1/K to 1 (SEENN: Li et al. 2023, arXiv 2304.01230)."""
    return softmax(means, -1).max(-1)


def entropy(means: np.ndarray) -> np.ndarray:
    """Return 1 - the entropy of the probabilities / log K, from 0 to 1."""
    return 1 - entr(softmax(means, -1)).sum(-1) / np.log(means.shape[-1])


def gap(means: np.ndarray) -> np.ndarray:
    """Return the gap between the two largest mean logits (SNNCutoff: Wu et al. 2025, arXiv 2301.09522)."""
    return np.diff(np.sort(means, -1)[..., -2:])[..., 0]


def agreement(means: np.ndarray) -> np.ndarray:
    """Return for how many steps in a row, with this one, the answer has been the same."""
    answers = means.argmax(-1)
    counts = np.ones(answers.shape)
    for step in range(1, len(answers)):
        counts[step] += (answers[step] == answers[step - 1]) * counts[step - 1]
    return counts


# Functions of the mean logits after t = 1 to T steps, [T, N, K] -> [T, N]: the larger, the surer.
POLICIES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "confidence": confidence,
    "entropy": entropy,
    "gap": gap,
    "agreement": agreement,
}
ORACLE, FIXED = "oracle", "fixed"
POINTS = 13  # of a frontier


class Anytime(NamedTuple):
    """What a policy gives on the test set."""

    policy: str
    threshold: float  # NaN for the oracle
    accuracy: float  # percent
    mean_steps: float
    energy_uj: float  # microjoules a sample; NaN where the run did not measure it
    stopped: pd.Series  # share of the samples that stop at step t, in percent


def anytime(
    run: Run,
    policy: str = "confidence",
    *,
    threshold: float | None = None,
    accuracy: float | None = None,
    mean_steps: float | None = None,
) -> Anytime:
    """Return what a policy gives on the test set of a run.

    Args:
        run: a finished run. Without stored logits, they are computed from its weights and its data.
        policy: confidence, entropy, gap, agreement, or oracle. The oracle is no policy but their bound: it
            knows the label, and stops at the first step from which the answer stays right, or at step 1.
        threshold: of the sureness; 2 with agreement stops at two agreeing steps.
        accuracy: instead, the threshold of the fewest steps that reaches this accuracy on validation data.
        mean_steps: instead, the largest threshold that takes at most so many steps on validation data.

    The energy is that of the stopping steps if a sample needs at each step what the mean sample needs.
    Raises ValueError unless exactly one of the three is given (none for the oracle), for an unknown policy
    and for a target out of reach, FileNotFoundError where logits can be neither read nor computed.
    """
    goals = {"threshold": threshold, "accuracy": accuracy, "mean_steps": mean_steps}
    given = {name: value for name, value in goals.items() if value is not None}
    checked("policy", policy, one_of([*POLICIES, ORACLE]))
    if len(given) != (policy != ORACLE):
        raise ValueError(
            f"policy={policy!r}: needs "
            + ("no threshold" if policy == ORACLE else "one of threshold, accuracy and mean_steps")
        )
    checked("threshold", threshold, Threshold | None)
    checked("accuracy", accuracy, Positive | None)
    checked("mean_steps", mean_steps, Positive | None)
    logits = logits_of(run)
    means, right = _answers(logits["test"], logits["test_labels"])
    if policy == ORACLE:
        threshold, steps = np.nan, oracle_steps(right)
    else:
        if threshold is None:
            ((name, goal),) = given.items()
            seen = _answers(logits["validation"], logits["validation_labels"])
            curve = _validation_curve(policy, *seen)
            threshold = _choose(curve, name, goal)
        steps = stopping_steps(POLICIES[policy](means), threshold)
    return _measured(run, policy, threshold, steps, right)


def frontier(run: Run, policy: str = "confidence", points: int = POINTS) -> pd.DataFrame:
    """Return accuracy against mean steps: a row for each of `points` budgets of mean steps, from 1 to T.

    The budgets are closer to each other near 1, where policies differ. Each row is `anytime` with the budget
    as `mean_steps`: the columns budget, policy, threshold, accuracy, mean_steps and energy_uj. Two more
    policies have no threshold: "oracle" is one row, and "fixed" stops all samples at the same step, t = 1 to
    T. Raises the errors of `anytime`.
    """
    checked("policy", policy, one_of([*POLICIES, ORACLE, FIXED]))
    checked("points", points, AtLeast2)
    return _frontier(run, logits_of(run), policy, points)


def frontiers(run: Run) -> pd.DataFrame:
    """Return `frontier` of every policy, the oracle and fixed numbers of steps, for `runs.gather`.

    Raises FileNotFoundError for a run without stored logits: to compute those of many runs takes minutes.
    """
    found = [_frontier(run, run.logits, policy, POINTS) for policy in (*POLICIES, ORACLE, FIXED)]
    return pd.concat(found, ignore_index=True)


def _frontier(run: Run, logits: dict[str, np.ndarray], policy: str, points: int) -> pd.DataFrame:
    means, right = _answers(logits["test"], logits["test_labels"])
    last = len(right)
    if policy == ORACLE:
        found = {last: (np.nan, oracle_steps(right))}
    elif policy == FIXED:
        found = {t: (np.nan, np.full(right.shape[1], t)) for t in range(1, last + 1)}
    else:
        curve = _validation_curve(policy, *_answers(logits["validation"], logits["validation_labels"]))
        sureness = POLICIES[policy](means)
        budgets = 1 + (last - 1) * np.linspace(0, 1, points) ** 2
        thresholds = {budget: _choose(curve, "mean_steps", budget) for budget in budgets}
        found = {b: (threshold, stopping_steps(sureness, threshold)) for b, threshold in thresholds.items()}
    rows = [
        {"budget": budget} | _measured(run, policy, threshold, steps, right)._asdict()
        for budget, (threshold, steps) in found.items()
    ]
    return pd.DataFrame(rows).drop(columns="stopped")


def logits_of(run: Run) -> dict[str, np.ndarray]:
    """Return `run.logits`, or what they would be: from the run's weights and data.

    Raises FileNotFoundError that says what is missing, ValueError where the data are others now.
    """
    try:
        return run.logits
    except FileNotFoundError as lost:
        from tcl_lib.analysis.evaluation import predict_again, stored_logits  # torch, for this alone
        from tcl_lib.analysis.run_data import data_of

        try:
            network, data = run.model(), data_of(run)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{lost}, and cannot be computed again: {error}") from error
        validation, test = (predict_again(run, network, part, data) for part in (data.validation, data.test))
        return stored_logits(validation, test, data)


def stopping_steps(sureness: np.ndarray, threshold: float) -> np.ndarray:
    """Return the first step whose sureness reaches a threshold, T where none does: [T, N] -> [N], from 1."""
    reached = sureness >= threshold
    reached[-1] = True
    return 1 + reached.argmax(0)


def oracle_steps(right: np.ndarray) -> np.ndarray:
    """Return the first step from which the answer stays right; 1 where it is wrong at T: [T, N] -> [N]."""
    stays = np.logical_and.accumulate(right[::-1])[::-1]
    return 1 + stays.argmax(0)


def mean_logits(logits: np.ndarray) -> np.ndarray:
    """Return the mean of the first t steps' logits in float64: [T, N, K] -> [T, N, K]."""
    return logits.astype(np.float64).cumsum(0) / np.arange(1, len(logits) + 1)[:, None, None]


def _answers(logits: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean logits after t steps, [T, N, K], and whether the answer is right, [T, N]."""
    means = mean_logits(logits)
    return means, means.argmax(-1) == labels


def _validation_curve(policy: str, means: np.ndarray, right: np.ndarray) -> pd.DataFrame:
    """Return threshold, accuracy and mean_steps on validation data, from the lowest threshold on."""
    sureness = POLICIES[policy](means)
    reached = np.append(np.unique(sureness[:-1]), np.inf)  # inf: all steps
    if len(reached) > CANDIDATES:
        reached = np.quantile(reached, np.linspace(0, 1, CANDIDATES), method="nearest")
    rows = []
    for threshold in reached:
        steps = stopping_steps(sureness, threshold)
        rows.append((threshold, 100 * _at(right, steps).mean(), steps.mean()))
    return pd.DataFrame(rows, columns=["threshold", "accuracy", "mean_steps"])


def _choose(curve: pd.DataFrame, name: str, goal: float) -> float:
    """Return the threshold of the fewest steps for an accuracy, or the largest for a number of steps."""
    if name == "accuracy":
        fitting = curve[curve["accuracy"] >= goal]
        best = f"{curve['accuracy'].max():.2f} % is the most on validation data"
    else:
        fitting = curve[curve["mean_steps"] <= goal][::-1]
        best = f"{curve['mean_steps'].min():g} is the least on validation data"
    if fitting.empty:
        raise ValueError(f"{name}={goal}: out of reach, {best}")
    return float(fitting["threshold"].iloc[0])


def _measured(run: Run, policy: str, threshold: float, steps: np.ndarray, right: np.ndarray) -> Anytime:
    counts = np.bincount(steps, minlength=len(right) + 1)[1:] / len(steps)
    spent = run.operations.groupby("time_step")["energy_uj"].sum().cumsum().to_numpy()
    stopped = pd.Series(100 * counts, pd.RangeIndex(1, len(right) + 1, name="time_step"), name="stopped")
    accuracy = 100 * float(_at(right, steps).mean())
    return Anytime(policy, threshold, accuracy, float(steps.mean()), float(counts @ spent), stopped)


def _at(right: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Return whether the answer is right at the step of each sample: [T, N], [N] -> [N]."""
    return right[steps - 1, np.arange(len(steps))]
