"""The splits of DVS-CIFAR10, against the lists that are published."""

import numpy as np
import pytest

from tcl_lib.data.events.splits import split_indices

# Of every class: TET's and TEBN's by their papers' code; SpikingJelly's as its split_to_train_test_set gave
# it, seen by running it on files named cifar10_<class>_<number>.npz.
TESTS = {
    "tet": range(900, 1000),
    "tebn": range(100),
    "spikingjelly": [*range(91, 100), *range(909, 1000)],
}


@pytest.mark.parametrize("split", ["tet", "tebn", "spikingjelly", "seeded"])
def test_split_indices_puts_every_recording_into_one_part(split):
    train, test = split_indices(split, seed=3)
    assert sorted([*train, *test]) == list(range(10_000))
    assert np.bincount(test // 1000).tolist() == [100] * 10


@pytest.mark.parametrize("split", TESTS)
def test_split_indices_gives_the_published_test_recordings(split):
    _, test = split_indices(split)
    assert test.tolist() == [1000 * label + number for label in range(10) for number in TESTS[split]]


def test_split_indices_follows_spikingjelly_s_rule():
    names = sorted(f"cifar10_airplane_{number}.npz" for number in range(1000))
    last = {int(name.split("_")[2].split(".")[0]) for name in names[900:]}
    assert last == set(TESTS["spikingjelly"])


def test_split_indices_draws_the_seeded_split_alone_with_the_seed():
    one, other = split_indices("seeded", 1)[1], split_indices("seeded", 2)[1]
    assert (one == split_indices("seeded", 1)[1]).all()
    assert (one != other).any()
    assert (one[:100] != one[100:200] - 1000).any()  # every class for itself
    assert (split_indices("tet", 1)[1] == split_indices("tet", 2)[1]).all()
