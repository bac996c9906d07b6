"""Similarity of representations: against plain loops, other formulas, and what must not change it."""

import itertools

import numpy as np
import pytest

from tcl_lib.analysis.evaluation import KEPT_FEATURES
from tcl_lib.analysis.similarity import (
    cka,
    cka_debiased,
    cosine,
    linear_cka,
    linear_cka_debiased,
    temporal_similarity,
)

T, N, D = 3, 12, 5


@pytest.fixture
def features():
    return np.random.default_rng(0).normal(size=(T, N, D)) + 1


@pytest.fixture
def labels():
    return np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 5, 5])


def direct_cka(x, y):
    """Kornblith et al. 2019, as it stands there."""
    x, y = x - x.mean(0), y - y.mean(0)
    return np.linalg.norm(y.T @ x) ** 2 / (np.linalg.norm(x.T @ x) * np.linalg.norm(y.T @ y))


def of_relation(same_sample, same_class):
    return "within_sample" if same_sample else "within_class" if same_class else "between_classes"


@pytest.mark.parametrize("seed", range(3))
def test_cosine_is_that_of_a_plain_loop_over_pairs(labels, seed):
    features = np.random.default_rng(seed).normal(size=(T, N, D))
    found = cosine(features, labels)
    for t, u in itertools.product(range(T), repeat=2):
        pairs = {"within_sample": [], "within_class": [], "between_classes": []}
        for i, j in itertools.product(range(N), repeat=2):
            x, y = features[t, i], features[u, j]
            value = x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
            pairs[of_relation(i == j, labels[i] == labels[j])].append(value)
        for relation, values in pairs.items():
            assert found[relation][t, u] == pytest.approx(np.mean(values), abs=1e-12)


def test_a_sample_is_itself_at_the_same_step(features, labels):
    assert np.diag(cosine(features, labels)["within_sample"]) == pytest.approx(np.ones(T))


def test_a_silent_step_counts_as_0(labels):
    features = np.ones((2, N, D))
    features[1, :3] = 0
    within = cosine(features, labels)["within_sample"]
    assert within == pytest.approx(np.array([[1, 0.75], [0.75, 0.75]]))


def test_without_pairs_there_is_no_mean(features):
    of_one_class = cosine(features, np.zeros(N))
    assert np.isnan(of_one_class["between_classes"]).all()
    assert np.isfinite(of_one_class["within_class"]).all()
    assert np.isnan(cosine(features, np.arange(N))["within_class"]).all()


def test_cka_is_the_published_formula(features):
    found = linear_cka(features)
    for t, u in itertools.product(range(T), repeat=2):
        assert found[t, u] == pytest.approx(direct_cka(features[t], features[u]), abs=1e-12)


def test_cka_with_itself_is_1(features):
    assert np.diag(linear_cka(features)) == pytest.approx(np.ones(T), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-3, 7.0, 1e4])
def test_turning_scaling_and_shifting_change_no_cka(features, labels, scale):
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(D, D)))
    turned = features.copy()
    turned[1] = scale * (features[1] @ turn) + 3
    for relation, values in cka(features, labels).items():
        assert cka(turned, labels)[relation] == pytest.approx(values, abs=1e-9)
    assert linear_cka(np.stack([features[1], turned[1]])) == pytest.approx(np.ones((2, 2)), abs=1e-9)


def test_stretching_one_direction_changes_cka(features):
    stretched = np.stack([features[0], features[0] * [1, 1, 1, 1, 9]])
    assert linear_cka(stretched)[0, 1] < 0.95


def test_cka_within_and_between_classes_by_hand(features, labels):
    means = np.empty_like(features)
    for label in np.unique(labels):
        means[:, labels == label] = features[:, labels == label].mean(1, keepdims=True)
    found = cka(features, labels)
    assert found["between_classes"][0, 2] == pytest.approx(direct_cka(means[0], means[2]))
    rest = features - means
    assert found["within_class"][0, 2] == pytest.approx(direct_cka(rest[0], rest[2]))
    assert found["within_sample"][0, 2] == pytest.approx(direct_cka(features[0], features[2]))


def test_what_lies_between_the_classes_alone_is_found(labels):
    random = np.random.default_rng(2)
    centres = random.normal(size=(6, D))[labels]
    features = centres + 1e-3 * random.normal(size=(2, N, D))  # the same classes, other samples, at each step
    found = cka(features, labels)
    assert found["between_classes"][0, 1] > 0.999
    assert found["within_class"][0, 1] < 0.9


def test_where_all_samples_are_equal_there_is_no_cka(features):
    features[1] = 0.1
    found = linear_cka(features)
    assert np.isnan(found[1]).all()
    assert np.isnan(found[:, 1]).all()
    assert np.isfinite(found[0, 2])


def test_of_samples_that_are_their_class_s_mean_nothing_is_left_within(labels):
    centres = np.random.default_rng(4).normal(size=(T, 6, D))
    found = cka(centres[:, labels] * 1.7 + 0.1, labels)
    assert np.isnan(found["within_class"]).all()
    assert np.isfinite(found["between_classes"]).all()


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_stored_features_are_computed_in_full_precision(features, labels, kind):
    stored = (100 * features).astype(kind)
    exact = cosine(stored.astype(np.float64), labels)
    for relation, values in cosine(stored, labels).items():
        assert (values == exact[relation]).all()
    assert linear_cka(stored)[0, 1] == pytest.approx(direct_cka(*stored[:2].astype(np.float64)), abs=1e-12)


@pytest.mark.parametrize("compute", [cka, cka_debiased])
def test_cka_of_many_float16_features_is_that_of_float64(compute):
    """100 samples with the 4,608 features of vggsnn: their number does not fit float16."""
    stored = np.random.default_rng(5).normal(size=(2, 100, 4608)).astype(np.float16)
    labels = np.arange(100) % 5
    exact = compute(stored.astype(np.float64), labels)
    for relation, values in compute(stored, labels).items():
        assert values == pytest.approx(exact[relation], abs=1e-12)


def direct_hsic(x, y):
    """The unbiased HSIC by its definition (Song et al. 2012): the mean over four different samples."""
    k, m, n = x @ x.T, y @ y.T, len(x)
    quadruples = list(itertools.permutations(range(n), 4))
    return np.mean([k[i, j] * (m[i, j] + m[q, r] - 2 * m[i, q]) for i, j, q, r in quadruples])


def direct_debiased(x, y, groups):
    """Of the pooled covariance over groups, with `direct_hsic` within a group and products between two."""

    def product(x, y):
        total = 0.0
        for one, other in itertools.product(np.unique(groups), repeat=2):
            a, b = groups == one, groups == other
            if one == other:
                total += (a.sum() - 1) ** 2 * direct_hsic(x[a], y[a])
            else:
                covariances = [(x[c] - x[c].mean(0)).T @ (y[c] - y[c].mean(0)) for c in (a, b)]
                total += np.sum(covariances[0] * covariances[1])
        return total

    return product(x, y) / np.sqrt(product(x, x) * product(y, y))


@pytest.mark.parametrize("groups", [[0] * 7, [0, 1, 0, 1, 1, 0, 1, 0, 1]], ids=["one group", "two groups"])
def test_linear_cka_debiased_is_a_plain_loop_over_the_definition(groups):
    groups = np.array(groups)
    features = np.random.default_rng(3).normal(size=(2, len(groups), D)) + 2 * groups[:, None] + 1
    features[1] += 0.7 * features[0]
    found = linear_cka_debiased(features, groups)
    assert found == pytest.approx(found.T)
    assert found[0, 1] == pytest.approx(direct_debiased(*features, groups), abs=1e-10)
    assert np.diag(found) == pytest.approx([1, 1])


@pytest.mark.parametrize("steps", [4, 10])
def test_cka_debiased_of_noise_is_about_0(steps):
    """At the numbers of samples that are kept, where the biased one is 0.34 and 0.56."""
    count, draws = KEPT_FEATURES // steps, 20
    labels = np.arange(count) % 10
    noise = np.random.default_rng(0).normal(size=(draws, 2, count, 128))
    for relation, biased in (("within_sample", 0.3), ("within_class", 0.3), ("between_classes", 0.8)):
        values = [cka_debiased(features, labels)[relation][0, 1] for features in noise]
        assert abs(np.mean(values)) < 3 * np.std(values, ddof=1) / draws**0.5
        assert np.std(values) < (0.2 if relation == "between_classes" else 0.03)
        assert cka(noise[0], labels)[relation][0, 1] > biased


def test_cka_debiased_is_the_biased_one_for_many_samples():
    random = np.random.default_rng(1)
    labels = np.arange(2000) % 4
    x = random.normal(size=(2000, 3)) + random.normal(size=(4, 3))[labels]
    features = np.stack([x, x + 0.8 * random.normal(size=x.shape)])
    debiased, biased = cka_debiased(features, labels), cka(features, labels)
    for relation in ("within_sample", "within_class"):
        assert debiased[relation][0, 1] == pytest.approx(biased[relation][0, 1], abs=0.005)
        assert 0.3 < biased[relation][0, 1] < 0.95


def test_cka_debiased_leaves_out_classes_of_fewer_than_four(features, labels):
    """Here classes 0, 1, 2 and 5 have 4, 3, 3 and 2 samples."""
    found = cka_debiased(features, labels)["within_class"]
    alone = linear_cka_debiased(features[:, labels == 0], np.zeros(4))
    assert found == pytest.approx(alone)
    assert np.isnan(cka_debiased(features[:, 1:], labels[1:])["within_class"]).all()
    assert np.isnan(cka_debiased(features[:, :3], labels[:3])["within_sample"]).all()


def test_cka_debiased_where_nothing_differs_is_nan(features, labels):
    centres = np.random.default_rng(4).normal(size=(T, 6, D))
    found = cka_debiased(centres[:, labels] * 1.7 + 0.1, labels)
    assert np.isnan(found["within_class"]).all()
    assert np.isfinite(found["within_sample"]).all()


def test_the_table_holds_every_pair_of_steps(features, labels):
    table = temporal_similarity(features, labels)
    assert table.columns.tolist() == ["measure", "relation", "time_step", "other_step", "value"]
    assert len(table) == 3 * 3 * T * T
    values = table.set_index(["measure", "relation", "time_step", "other_step"])["value"]
    assert values["cosine", "within_class", 1, 3] == cosine(features, labels)["within_class"][0, 2]
    assert values["cka", "between_classes", 3, 2] == cka(features, labels)["between_classes"][2, 1]
    debiased = cka_debiased(features, labels)["within_sample"]
    assert values["cka_debiased", "within_sample", 2, 3] == debiased[1, 2]


def test_one_step_is_enough(features, labels):
    table = temporal_similarity(features[:1], labels)
    assert table[table["relation"] == "within_sample"]["value"].tolist() == pytest.approx([1, 1, 1])
