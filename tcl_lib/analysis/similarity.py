"""Similarity of representations at different time steps: cosine and linear CKA. Imports no torch.

Shapes: T time steps, N samples, D features, K classes.
"""

import numpy as np
import pandas as pd


def temporal_similarity(features: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return all measures for all pairs of time steps: [T, N, D], [N] -> a row for each pair.

    Columns: measure (cosine, cka, cka_debiased), relation (within_sample, within_class, between_classes),
    time_step and other_step (from 1), value.
    """
    steps = np.arange(1, len(features) + 1)
    pairs = pd.MultiIndex.from_product([steps, steps], names=["time_step", "other_step"])
    measures = {"cosine": cosine, "cka": cka, "cka_debiased": cka_debiased}
    tables = {
        (measure, relation): pd.Series(values.flatten(), pairs)
        for measure, compute in measures.items()
        for relation, values in compute(features, labels).items()
    }
    return pd.concat(tables, names=["measure", "relation"]).rename("value").reset_index()


def cosine(features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the mean cosine between features at step t and at step u: [T, N, D], [N] -> [T, T] each.

        within_sample    of a sample with itself
        within_class     of two different samples of a class
        between_classes  of two samples of different classes

    A sample that is silent at a step (features of length 0) has a cosine of 0. The mean over no pairs is NaN.
    """
    x = features.astype(np.float64)
    length = np.linalg.norm(x, axis=-1, keepdims=True)
    z = np.divide(x, length, out=np.zeros_like(x), where=length > 0)  # [T, N, D]
    member = np.equal.outer(np.unique(labels), labels).astype(np.float64)  # [K, N]
    sizes = member.sum(1)

    # The sum over all pairs of samples is the product of the samples' sums.
    same = np.einsum("tnd,und->tu", z, z)
    of_classes = np.einsum("kn,tnd->tkd", member, z)  # [T, K, D]
    in_classes = np.einsum("tkd,ukd->tu", of_classes, of_classes)
    everything = of_classes.sum(1) @ of_classes.sum(1).T
    return {
        "within_sample": _mean(same, len(labels)),
        "within_class": _mean(in_classes - same, np.sum(sizes * (sizes - 1))),
        "between_classes": _mean(everything - in_classes, len(labels) ** 2 - np.sum(sizes**2)),
    }


def cka(features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the linear CKA of the representations at step t and at step u: [T, N, D], [N] -> [T, T] each.

        within_sample    of all samples
        within_class     of the samples' deviations from their class means
        between_classes  of the class means, one for each sample

    CKA compares the same samples at both steps.
    """
    means, deviations, member = _of_classes(features, labels)
    largest = np.abs(features).max(initial=0)
    return {
        "within_sample": linear_cka(features),
        "within_class": linear_cka(deviations, largest),
        "between_classes": linear_cka(means[:, member], largest),
    }


def linear_cka(features: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Return the linear CKA of all pairs of T representations of N samples: [T, N, D] -> [T, T], 0 to 1.

        |Y'X|^2 / (|X'X| |Y'Y|)   of centred X and Y, Frobenius norms

    Kornblith et al. 2019, arXiv 1905.00414, eq. 3. It is not corrected for bias, which raises the values for
    few samples with many features. It is NaN for a representation in which all samples are equal up to
    rounding errors of the `largest` value that it was computed from (by default, its own largest value).
    """
    x = _scaled(features, largest)
    return _alignment(x @ x.transpose(0, 2, 1))  # |Y'X|^2 is the product of the Gram matrices


def cka_debiased(features: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return `cka` corrected for bias: about 0 for independent noise, and below 0 as often as above.

        within_sample    of all samples
        within_class     of the samples' deviations from their class means, in classes of at least four
        between_classes  of the class means, each class once

    See `linear_cka_debiased`.
    """
    means, _, member = _of_classes(features, labels)
    largest = np.abs(features).max(initial=0)
    return {
        "within_sample": linear_cka_debiased(features, np.zeros_like(member), largest),
        "within_class": linear_cka_debiased(features, member, largest),
        "between_classes": linear_cka_debiased(means, np.zeros(means.shape[1]), largest),
    }


def linear_cka_debiased(features: np.ndarray, groups: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Return the debiased linear CKA of all pairs of T representations: [T, N, D], [N] -> [T, T], <= 1.

    The products of Gram matrices in `linear_cka` become unbiased estimates (HSIC: Song et al. 2012, JMLR 13;
    in CKA: Nguyen et al. 2021, arXiv 2010.15327; of spiking networks: Li et al. 2023, SNNCKA).

    Samples are taken relative to the mean of their group, as in a pooled covariance. A group's own block of
    the Gram matrix is corrected; samples of two groups are independent, and their blocks need no correction.
    With one group this is the published estimate. Groups of fewer than four samples are left out; if none is
    left, the values are NaN. `largest` is that of `linear_cka`.
    """
    found, counts = np.unique(groups, return_counts=True)
    groups_of = [groups == group for group in found[counts > 3]]
    x = features.astype(np.float64)
    for inside in groups_of:
        x[:, inside] -= x[:, inside].mean(1, keepdims=True)
    x[:, np.isin(groups, found[counts <= 3])] = 0
    x = _scaled(x, largest)
    gram = x @ x.transpose(0, 2, 1)
    for inside in groups_of:
        block, n = np.ix_(range(len(gram)), inside, inside), inside.sum()
        # the product of two such blocks is (n - 1)^2 HSIC_1
        gram[block] = _u_centred(gram[block]) * (n - 1) / np.sqrt(n * (n - 3))
    return _alignment(gram)


def _u_centred(gram: np.ndarray) -> np.ndarray:
    """Return Gram matrices [T, n, n] with a diagonal of 0, whose rows and columns add up to 0."""
    n = gram.shape[1]
    others = 1 - np.eye(n)
    rows = (gram * others).sum(1) / (n - 2)  # symmetric: of the columns as well
    total = rows.sum(1) / (n - 1)
    return (gram - rows[:, :, None] - rows[:, None] + total[:, None, None]) * others


def _of_classes(features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the class means [T, K, D], the deviations from them [T, N, D], and each sample's class [N]."""
    x = features.astype(np.float64)
    _, member = np.unique(labels, return_inverse=True)
    one_hot = np.eye(member.max() + 1)[member]  # [N, K]
    means = np.einsum("nk,tnd->tkd", one_hot / one_hot.sum(0), x)
    return means, x - means[:, member], member


def _scaled(features: np.ndarray, largest: float | None) -> np.ndarray:
    """Return the features centred and of length 1 at each step; NaN where they are rounding errors."""
    x = features.astype(np.float64)
    largest = float(np.abs(x).max(initial=0) if largest is None else largest)  # of float16 features, too
    noise = 1e-14 * largest * x[0].size
    x = x - x.mean(1, keepdims=True)
    scale = np.sqrt(np.square(x).sum((1, 2), keepdims=True))
    return np.divide(x, scale, out=np.full_like(x, np.nan), where=scale > noise)


def _alignment(gram: np.ndarray) -> np.ndarray:
    """Return the cosine between the matrices of all pairs of steps: [T, N, N] -> [T, T]."""
    gram = gram.reshape(len(gram), -1)
    products = gram @ gram.T
    norms = np.sqrt(np.diag(products))
    return products / np.outer(norms, norms)


def _mean(total: np.ndarray, count: float) -> np.ndarray:
    return total / count if count else np.full_like(total, np.nan)
