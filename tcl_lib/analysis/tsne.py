"""t-SNE of the features of all time steps. Imports no torch.

Shapes: T time steps, N samples, D features.
"""

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE

from tcl_lib.runs import Run

# As many markers and colours as a reader can tell apart.
MOST_STEPS, MOST_CLASSES = 10, 10
MOST_POINTS = 500  # in a panel: more would cover each other
ITERATIONS = 500  # half of scikit-learn's default; on our features the divergence ends 3 to 9 % higher


def tsne_of_run(run: Run) -> pd.DataFrame:
    """Return `tsne` of a run's features. Raises the same ValueError, with the run's path."""
    try:
        return tsne(**run.features)
    except ValueError as error:
        raise ValueError(f"{run.path}: {error}") from error


def tsne(features: np.ndarray, labels: np.ndarray, samples: np.ndarray) -> pd.DataFrame:
    """Return one t-SNE of the features of all steps: [T, N, D], [N], [N] -> a row for each point.

    Columns: sample, label, time_step (from 1), x, y. At most the first ten classes are shown, at most ten
    steps, evenly spaced from the first to the last, and of the samples as many as give 500 points. The start
    is the principal components and the seed 0, so the same features give the same points. Raises ValueError
    for features that are all equal.
    """
    steps = np.unique(np.linspace(0, len(features) - 1, MOST_STEPS).round().astype(int))
    shown = np.flatnonzero(np.isin(labels, np.unique(labels)[:MOST_CLASSES]))
    shown = np.sort(np.random.default_rng(0).permutation(shown)[: MOST_POINTS // len(steps)])
    chosen = features[steps][:, shown].astype(np.float32)  # [steps, N', D]
    flat = chosen.reshape(-1, chosen.shape[-1])
    if (flat == flat[0]).all():  # scikit-learn divides by their standard deviation
        raise ValueError("all features are equal, as in a silent network; t-SNE needs different ones")
    perplexity = min(30.0, (len(flat) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=ITERATIONS).fit_transform(flat)
    return pd.DataFrame(
        {
            "sample": np.tile(samples[shown], len(steps)),
            "label": np.tile(labels[shown], len(steps)),
            "time_step": np.repeat(steps + 1, len(shown)),
            "x": places[:, 0],
            "y": places[:, 1],
        }
    )
