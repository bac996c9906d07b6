"""Published splits of DVS-CIFAR10, which has no official one; results on different splits do not compare.

Of the 1,000 recordings of each of the 10 classes, 900 are for training. The number in a file's name
identifies a recording, as in the published lists.
"""

import numpy as np

CLASSES, RECORDINGS = 10, 1000  # recordings per class


def split_indices(split: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return the training and the test recordings as class * 1000 + number: int64 [9000], int64 [1000].

    Args:
        split: "tet", files 0-899 and 900-999 (Deng et al. 2022, arXiv 2202.11946);
            "tebn", files 100-999 and 0-99 (Duan et al. 2022, and SpikingJelly's CIFAR10DVSTEBNSplit);
            "spikingjelly", the first 900 and last 100 files sorted by name as text, like its
            split_to_train_test_set(0.9);
            "seeded", drawn per class with `seed`.
    """
    numbers = np.arange(RECORDINGS)
    if split == "seeded":
        random = np.random.default_rng(seed)
        tests = [random.permutation(numbers)[:100] for _ in range(CLASSES)]
    else:
        by_name = np.array(sorted(numbers, key=str))
        test = {"tet": numbers[900:], "tebn": numbers[:100], "spikingjelly": by_name[900:]}[split]
        tests = [test] * CLASSES
    test = np.concatenate([label * RECORDINGS + np.sort(of_class) for label, of_class in enumerate(tests)])
    return np.setdiff1d(np.arange(CLASSES * RECORDINGS), test), test
