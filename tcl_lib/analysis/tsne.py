"""Features of all time steps in the plane. Imports no torch.

Shapes: T time steps, N samples, D features.
"""

import numpy as np
import pandas as pd
from sklearn.manifold import TSNE

from tcl_lib.runs import Run

# What markers and colours a reader can tell apart.
MOST_STEPS, MOST_CLASSES = 10, 10
ITERATIONS = 500  # half of scikit-learn's: the divergence of our features ends 3 to 9 % higher


def tsne_of_run(run: Run) -> pd.DataFrame:
    """`tsne` of the features that a run kept. Raises ValueError, naming the run, for what cannot be shown."""
    try:
        return tsne(**run.features)
    except ValueError as error:
        raise ValueError(f"{run.path}: {error}") from error


def tsne(features: np.ndarray, labels: np.ndarray, samples: np.ndarray) -> pd.DataFrame:
    """t-SNE of every sample's features at every step together: [T, N, D], [N], [N] -> a row a point.

    Columns: sample, label, time_step (from 1), x, y. Of more than ten classes the first ten are shown, of
    more than ten steps ten from the first to the last. The same input gives the same points: the start is
    the principal components, the seed 0. Raises ValueError for features that are all equal.
    """
    shown = np.isin(labels, np.unique(labels)[:MOST_CLASSES])
    steps = np.unique(np.linspace(0, len(features) - 1, MOST_STEPS).round().astype(int))
    chosen = features[steps][:, shown].astype(np.float32)  # [steps, N', D]
    flat = chosen.reshape(-1, chosen.shape[-1])
    if (flat == flat[0]).all():  # scikit-learn would divide by their deviation, and crash
        raise ValueError("all features are equal (of a silent network, say): nothing to project")
    perplexity = min(30.0, (len(flat) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=0, max_iter=ITERATIONS).fit_transform(flat)
    return pd.DataFrame(
        {
            "sample": np.tile(samples[shown], len(steps)),
            "label": np.tile(labels[shown], len(steps)),
            "time_step": np.repeat(steps + 1, shown.sum()),
            "x": places[:, 0],
            "y": places[:, 1],
        }
    )
