"""Similarity of representations at different time steps: cosine and linear CKA. Imports no torch.

Shapes: T time steps, N samples, D features, K classes.
"""

import numpy as np
import pandas as pd


def temporal_similarity(features: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Return both measures for all pairs of time steps: [T, N, D], [N] -> a row for each pair.

    Columns: measure (cosine, cka), relation (within_sample, within_class, between_classes), time_step and
    other_step (from 1), value.
    """
    steps = np.arange(1, len(features) + 1)
    pairs = pd.MultiIndex.from_product([steps, steps], names=["time_step", "other_step"])
    measures = {"cosine": cosine(features, labels), "cka": cka(features, labels)}
    tables = {
        (measure, relation): pd.Series(values.flatten(), pairs)
        for measure, relations in measures.items()
        for relation, values in relations.items()
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
    x = features.astype(np.float64)
    _, member = np.unique(labels, return_inverse=True)
    member = np.eye(member.max() + 1)[member]  # [N, K]
    means = member @ np.einsum("nk,tnd->tkd", member / member.sum(0), x)  # [T, N, D]
    largest = np.abs(x).max(initial=0)
    return {
        "within_sample": linear_cka(x),
        "within_class": linear_cka(x - means, largest),
        "between_classes": linear_cka(means, largest),
    }


def linear_cka(features: np.ndarray, largest: float | None = None) -> np.ndarray:
    """Return the linear CKA of all pairs of T representations of N samples: [T, N, D] -> [T, T], 0 to 1.

        |Y'X|^2 / (|X'X| |Y'Y|)   of centred X and Y, Frobenius norms

    Kornblith et al. 2019, arXiv 1905.00414, eq. 3. It is not corrected for bias, which raises the values for
    few samples with many features. It is NaN for a representation in which all samples are equal up to
    rounding errors of the `largest` value that it was computed from (by default, its own largest value).
    """
    x = features.astype(np.float64)
    noise = 1e-14 * (np.abs(x).max(initial=0) if largest is None else largest) * x[0].size
    x = x - x.mean(1, keepdims=True)
    scale = np.sqrt(np.square(x).sum((1, 2), keepdims=True))
    x = np.divide(x, scale, out=np.full_like(x, np.nan), where=scale > noise)
    gram = (x @ x.transpose(0, 2, 1)).reshape(len(x), -1)  # [T, N*N]; |Y'X|^2 is the grams' product
    products = gram @ gram.T
    norms = np.sqrt(np.diag(products))
    return products / np.outer(norms, norms)


def _mean(total: np.ndarray, count: float) -> np.ndarray:
    return total / count if count else np.full_like(total, np.nan)
