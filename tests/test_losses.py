"""The losses against plain loops, closed forms and pytorch-metric-learning."""

import itertools
import math
import os
import shutil
import subprocess
import sys
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from conftest import too_long
from pytorch_metric_learning.losses import SupConLoss
from pytorch_metric_learning.reducers import MeanReducer
from torch.testing import assert_close

from benchmarks.memory import peak_memory
from tcl_lib import RunConfig, losses
from tcl_lib.backbones import NetworkOutput
from tcl_lib.config.registry import LOSSES
from tcl_lib.losses import (
    RELATIONS,
    TIME_PAIRS,
    ce,
    per_step_ce,
    positive_mask,
    prefix_ce,
    self_distillation,
    step_consistency,
    supervised_contrastive_loss,
    temporal_contrastive_loss,
)
from tcl_lib.training.build import loss_terms, total_loss

SUBSETS = [subset for size in range(4) for subset in itertools.combinations(RELATIONS, size)]


def random_batch(steps=3, views=2, batch=6, width=5, classes=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(steps, views, batch, width, generator=generator, dtype=dtype)
    # every class at least twice, in no order
    labels = (torch.arange(batch) % classes)[torch.randperm(batch, generator=generator)]
    return embeddings.requires_grad_(), labels


PAIRS = {
    "all": lambda t, u, steps: True,
    "adjacent": lambda t, u, steps: t - u in (-1, 1),
    "boundary": lambda t, u, steps: {t, u} == {0, steps - 1},
}


def loop_over_pairs(embeddings, labels, temperature, positives, time_pairs="all", negatives=True):
    """The formula, pair by pair."""
    steps, views, batch, _ = embeddings.shape
    anchors = list(itertools.product(range(steps), range(views), range(batch)))
    z = {anchor: embeddings[anchor] / embeddings[anchor].norm() for anchor in anchors}
    losses = []
    for a in anchors:
        others = [k for k in anchors if k != a]
        log_sum = torch.stack([z[a] @ z[k] / temperature for k in others]).exp().sum().log()
        terms = []
        for p in others:
            allowed = (
                labels[p[2]] == labels[a[2]]
                and (p[2] == a[2] or "class" in positives)
                and (p[0] == a[0] or ("time" in positives and PAIRS[time_pairs](p[0], a[0], steps)))
                and (p[1] == a[1] or "view" in positives)
            )
            if allowed:
                terms.append(z[a] @ z[p] / temperature - log_sum if negatives else z[a] @ z[p])
        if terms:
            losses.append(-sum(terms) / len(terms))
    return sum(losses) / len(losses) if losses else embeddings.sum() * 0


def value_and_gradient(function, embeddings, *arguments):
    leaf = embeddings.detach().clone().requires_grad_()
    value = function(leaf, *arguments)
    value.backward()
    return value.detach(), leaf.grad


@pytest.mark.parametrize("negatives", [True, False])
@pytest.mark.parametrize("time_pairs", TIME_PAIRS)
@pytest.mark.parametrize("positives", SUBSETS)
@pytest.mark.parametrize(("steps", "views", "batch"), [(1, 1, 4), (3, 1, 4), (1, 2, 4), (4, 2, 3)])
def test_temporal_contrastive_loss_equals_the_loop_over_pairs(
    steps, views, batch, positives, time_pairs, negatives
):
    embeddings, labels = random_batch(steps, views, batch, classes=2)
    arguments = (labels, 0.3, positives, time_pairs, negatives)
    value, gradient = value_and_gradient(temporal_contrastive_loss, embeddings, *arguments)
    expected, expected_gradient = value_and_gradient(loop_over_pairs, embeddings, *arguments)
    assert_close(value, expected, rtol=1e-10, atol=1e-12)
    assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("temperature", [0.07, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(
    ("steps", "views", "batch", "classes"), [(1, 1, 12, 4), (4, 1, 8, 3), (2, 2, 8, 8), (5, 2, 9, 2)]
)
def test_temporal_contrastive_loss_equals_pytorch_metric_learning(steps, views, batch, classes, temperature):
    # every anchor has a positive and a negative: there that library follows the formula
    embeddings, labels = random_batch(steps, views, batch, 16, classes, seed=3)
    reference = SupConLoss(temperature=temperature, reducer=MeanReducer())

    def library(embeddings):
        return reference(embeddings.flatten(0, 2), labels.repeat(steps * views))

    value, gradient = value_and_gradient(temporal_contrastive_loss, embeddings, labels, temperature)
    expected, expected_gradient = value_and_gradient(library, embeddings)
    assert_close(value, expected, rtol=0, atol=1e-6)
    assert_close(gradient, expected_gradient, rtol=0, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.05, 0.1, 2.0])
@pytest.mark.parametrize(("steps", "views", "batch"), [(2, 1, 2), (4, 2, 8), (1, 2, 3)])
def test_temporal_contrastive_loss_of_identical_embeddings_is_the_log_of_the_others(
    steps, views, batch, temperature
):
    embeddings = torch.ones(steps, views, batch, 7, dtype=torch.float64)
    labels = torch.arange(batch) % 2
    value = temporal_contrastive_loss(embeddings, labels, temperature)
    assert value.item() == pytest.approx(math.log(steps * views * batch - 1), abs=1e-12)


def test_temporal_contrastive_loss_of_two_classes_far_apart_by_hand():
    # classes at right angles, all members of a class alike: per anchor 2 positives at cosine 1, 3 others at 0
    embeddings = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1, 0, 1]].view(1, 1, 6, 2)
    value = temporal_contrastive_loss(embeddings, torch.tensor([0, 1, 0, 1, 0, 1]), temperature=0.5)
    assert value.item() == pytest.approx(math.log(2 * math.exp(2) + 3) - 2, abs=1e-12)


@pytest.mark.parametrize("positives", SUBSETS)
def test_positive_mask_pair_by_pair(positives):
    labels = torch.tensor([0, 1, 0])
    mask = positive_mask(labels, 2, 2, positives)
    anchors = list(itertools.product(range(2), range(2), range(3)))
    for (i, a), (j, b) in itertools.product(enumerate(anchors), repeat=2):
        differs = {
            relation for relation, axis in (("time", 0), ("view", 1), ("class", 2)) if a[axis] != b[axis]
        }
        expected = labels[a[2]] == labels[b[2]] and a != b and differs <= set(positives)
        assert mask[i, j] == expected, (a, b)


def test_positive_mask_of_the_ablation_by_count():
    labels = torch.tensor([0, 0, 0, 1, 1, 2])  # T = 4, V = 2
    per_anchor = {
        subset: positive_mask(labels, 4, 2, subset).sum(1).view(4, 2, 6)[0, 0].tolist() for subset in SUBSETS
    }
    assert per_anchor[()] == [0] * 6
    assert per_anchor[("class",)] == [2, 2, 2, 1, 1, 0]
    assert per_anchor[("time",)] == [3] * 6
    assert per_anchor[("view",)] == [1] * 6
    assert per_anchor[("class", "time")] == [11, 11, 11, 7, 7, 3]
    assert per_anchor[("time", "view")] == [7] * 6
    assert per_anchor[("class", "time", "view")] == [23, 23, 23, 15, 15, 7]


def test_positive_mask_pairs_the_steps_by_count():
    labels = torch.tensor([0, 0, 1])  # T = 4, V = 1

    def by_step(*arguments):
        return positive_mask(labels, 4, 1, *arguments).sum(1).view(4, 3)[:, 0].tolist()

    assert by_step(("time",), "all") == [3, 3, 3, 3]
    assert by_step(("time",), "adjacent") == [1, 2, 2, 1]
    assert by_step(("time",), "boundary") == [1, 0, 0, 1]
    # and another sample of the class at each of these steps and at the anchor's own
    assert by_step(("class", "time"), "adjacent") == [3, 5, 5, 3]
    assert by_step(("class", "time"), "boundary") == [3, 1, 1, 3]
    assert by_step(("class",), "boundary") == [1, 1, 1, 1]


@pytest.mark.parametrize("time_pairs", TIME_PAIRS)
def test_positive_mask_of_two_steps_has_one_pair(time_pairs):
    labels = torch.tensor([0, 1, 0])
    assert torch.equal(positive_mask(labels, 2, 2, RELATIONS, time_pairs), positive_mask(labels, 2, 2))


def test_temporal_contrastive_loss_without_negatives_is_the_mean_cosine():
    embeddings = torch.eye(2, dtype=torch.float64)[[0, 1, 0, 1]].view(2, 2, 2)  # T = 2, B = 2
    labels = torch.tensor([0, 0])
    # of an anchor: itself at the other step at cosine 1, the other sample at both steps at cosine 0
    for temperature in (0.1, 2.0):
        value = temporal_contrastive_loss(embeddings, labels, temperature, negatives=False)
        assert value.item() == pytest.approx(-1 / 3)


def test_temporal_contrastive_loss_does_not_depend_on_the_order_of_batch_time_and_views():
    embeddings, labels = random_batch(3, 2, 6)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    expected = temporal_contrastive_loss(embeddings, labels)
    for changed, of in (
        (embeddings[:, :, order], labels[order]),
        (embeddings.flip(0), labels),
        (embeddings.flip(1), labels),
        (embeddings * torch.rand(3, 2, 6, 1, dtype=torch.float64).add(0.1), labels),
    ):
        assert_close(temporal_contrastive_loss(changed, of), expected)


def test_temporal_contrastive_loss_takes_embeddings_of_one_view_without_its_axis():
    embeddings, labels = random_batch(3, 1, 6)
    value, gradient = value_and_gradient(temporal_contrastive_loss, embeddings[:, 0], labels, 0.2)
    expected, expected_gradient = value_and_gradient(temporal_contrastive_loss, embeddings, labels, 0.2)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, expected_gradient[:, 0])


ALONE = """
import sys, torch, losses
assert losses.__file__.startswith(sys.argv[1]), losses.__file__
z = torch.ones(2, 3, 4, requires_grad=True)
labels = torch.tensor([0, 0, 1])
loss = losses.temporal_contrastive_loss(z, labels) + losses.per_step_ce(z, labels, 0.1) + losses.ce(z, labels)
loss += losses.prefix_ce(z, labels) + losses.step_consistency(z) + losses.self_distillation(z, labels)
loss.backward()
print(losses.temporal_contrastive_loss(z, labels).item())
print(sorted(name for name in sys.modules if name.startswith(("tcl_lib", "norse", "pydantic"))))
"""


def test_losses_py_works_alone_in_another_project(tmp_path):
    shutil.copy(losses.__file__, tmp_path / "losses.py")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # -P: no folder of the caller's on the path; tcl_lib may be installed and must not be imported
    command = [sys.executable, "-P", "-c", f"import sys; sys.path.insert(0, sys.argv[1])\n{ALONE}", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    value, loaded = done.stdout.splitlines()
    assert float(value) == pytest.approx(math.log(2 * 3 - 1), rel=1e-6)
    assert loaded == "[]"


def test_temporal_contrastive_loss_counts_an_anchor_without_positive_as_a_negative_only():
    embeddings, _ = random_batch(1, 1, 3)
    labels = torch.tensor([0, 0, 1])
    assert_close(
        temporal_contrastive_loss(embeddings, labels, 0.2),
        loop_over_pairs(embeddings, labels, 0.2, RELATIONS),
    )


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


EXTREMES = {
    "one class": (random_batch(3, 2, 4)[0], torch.zeros(4, dtype=torch.long)),
    "all classes different": (random_batch(3, 2, 4)[0], torch.arange(4)),
    "no positive at all": (random_batch(1, 1, 4)[0], torch.arange(4)),
    "one step": (random_batch(1, 2, 4)[0], torch.tensor([0, 0, 1, 1])),
    "one sample": (random_batch(3, 2, 1)[0], torch.tensor([0])),
    "one anchor": (random_batch(1, 1, 1)[0], torch.tensor([0])),
    "all zero": (torch.zeros(3, 2, 4, 5), torch.tensor([0, 0, 1, 1])),
    "a silent step": (
        torch.cat([torch.zeros(1, 2, 4, 5), noise(2, 2, 4, 5)]),
        torch.tensor([0, 0, 1, 1]),
    ),
    "huge": (1e18 * noise(3, 2, 4, 5), torch.tensor([0, 0, 1, 1])),
    "tiny": (1e-30 * noise(3, 2, 4, 5), torch.tensor([0, 0, 1, 1])),
    "opposite": (
        torch.tensor([1.0, -1.0]).view(1, 1, 2, 1).expand(2, 1, 2, 3),
        torch.tensor([0, 0]),
    ),
}


@pytest.mark.parametrize("negatives", [True, False])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_temporal_contrastive_loss_is_not_finite_where_an_embedding_is_not(value, negatives):
    embeddings = noise(3, 2, 4, 5).detach()
    embeddings[1, 0, 2, 3] = value
    labels = torch.tensor([0, 0, 1, 1])
    assert temporal_contrastive_loss(embeddings, labels, negatives=negatives).isnan()


@pytest.mark.parametrize("loss", [ce, per_step_ce, prefix_ce, partial(per_step_ce, tet_lambda=0.3)])
def test_cross_entropies_of_half_precision_are_computed_in_float32(loss):
    logits, labels = 5 * torch.randn(8, 8192, 10), torch.arange(8192) % 10
    assert_close(loss(logits.half(), labels), loss(logits.half().float(), labels), rtol=1e-6, atol=0)


@pytest.mark.parametrize("loss", [ce, per_step_ce, prefix_ce, self_distillation])
@pytest.mark.parametrize("labels", [torch.zeros(1), torch.zeros(7), torch.zeros(4, 8), torch.tensor(0)])
def test_losses_want_a_label_for_each_sample(loss, labels):
    with pytest.raises(ValueError, match=r"^logits \[4, 8, 3\], labels \[.*\]: must be .*, and \[B\]$"):
        loss(torch.randn(4, 8, 3), labels.long())


@pytest.mark.parametrize("temperature", [0.005, 0.1, 10.0])
@pytest.mark.parametrize("case", EXTREMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_temporal_contrastive_loss_stays_finite_at_the_extremes(case, temperature, dtype):
    embeddings, labels = EXTREMES[case]
    largest = 6e4 if dtype == torch.float16 else 1e30
    embeddings = embeddings.detach().clamp(-largest, largest).to(dtype)
    value, gradient = value_and_gradient(temporal_contrastive_loss, embeddings, labels, temperature)
    assert value.isfinite()
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert gradient.isfinite().all()
    assert gradient.abs().max() < 1e4 / temperature


@pytest.mark.parametrize("case", ["no positive at all", "one anchor"])
def test_temporal_contrastive_loss_is_exactly_zero_where_no_anchor_has_a_positive(case):
    value, gradient = value_and_gradient(temporal_contrastive_loss, *EXTREMES[case])
    assert value == 0
    assert not gradient.any()


def test_temporal_contrastive_loss_runs_in_float32_inside_autocast():
    embeddings, labels = random_batch(4, 2, 16, 32, dtype=torch.float32)
    expected = temporal_contrastive_loss(embeddings, labels, 0.05)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = temporal_contrastive_loss(embeddings, labels, 0.05)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)


def test_temporal_contrastive_loss_in_float32_is_close_to_float64():
    embeddings, labels = random_batch(4, 2, 32, 16, classes=10)
    single = temporal_contrastive_loss(embeddings.float(), labels)
    assert_close(single.double(), temporal_contrastive_loss(embeddings, labels), rtol=1e-6, atol=0)


def test_temporal_contrastive_loss_draws_positives_together_along_its_gradient():
    embeddings, labels = random_batch(2, 1, 4, classes=2)
    value, gradient = value_and_gradient(temporal_contrastive_loss, embeddings, labels, 0.5)
    assert temporal_contrastive_loss(embeddings - 1e-3 * gradient, labels, 0.5) < value


@pytest.mark.parametrize(
    ("shape", "labels", "options", "words"),
    [
        ((3, 4), 3, {}, r"\[T, V, B, P\] or \[T, B, P\], and \[B\]"),
        ((2, 3, 4), 2, {}, r"embeddings \[2, 1, 3, 4\], labels \[2\]"),
        ((2, 1, 3, 4), 4, {}, r"labels \[4\]"),
        ((2, 1, 3, 4), 3, {"temperature": 0.0}, "temperature=0.0"),
        ((2, 1, 3, 4), 3, {"positives": ("clas",)}, "clas"),
        ((2, 1, 3, 4), 3, {"time_pairs": "first"}, "time_pairs='first': must be one of .*'adjacent'"),
    ],
)
def test_temporal_contrastive_loss_names_bad_input(shape, labels, options, words):
    with pytest.raises(ValueError, match=words):
        temporal_contrastive_loss(torch.randn(shape), torch.zeros(labels, dtype=torch.long), **options)


def test_supervised_contrastive_loss_takes_any_mask():
    z = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0]], dtype=torch.float64)
    mask = torch.zeros(3, 3, dtype=torch.bool)
    mask[0, 1] = True  # one anchor, one positive at cosine 0, another at -1
    value = supervised_contrastive_loss(z, mask, temperature=1.0)
    assert value.item() == pytest.approx(math.log(1 + math.exp(-1)))


def test_ce_and_per_step_ce_by_hand():
    logits = torch.tensor([[[1.0, 0.0]], [[0.0, 3.0]]], dtype=torch.float64)  # T = 2, B = 1, K = 2
    labels = torch.tensor([1])
    # mean logits 0.5 and 1.5
    assert ce(logits, labels).item() == pytest.approx(math.log(1 + math.exp(-1)))
    steps = (math.log(1 + math.exp(1)) + math.log(1 + math.exp(-3))) / 2
    assert per_step_ce(logits, labels).item() == pytest.approx(steps)
    # squared distance to 1: 0, 1, 1, 4
    assert per_step_ce(logits, labels, 0.25).item() == pytest.approx(0.75 * steps + 0.25 * 6 / 4)


def test_ce_per_step_ce_and_prefix_ce_agree_on_one_step():
    logits, labels = random_logits(1)
    assert_close(ce(logits, labels), per_step_ce(logits, labels))
    assert_close(ce(logits, labels), prefix_ce(logits, labels))


def random_logits(steps=4, batch=6, classes=3, views=()):
    """Logits of which some samples are right at several steps, at one and at none, and their labels."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(steps, *views, batch, classes, generator=generator, dtype=torch.float64)
    return 3 * logits, torch.arange(batch) % classes


def cross_entropy(logits, label):
    return logits.exp().sum().log() - logits[label]


def divergence(target, logits, temperature):
    """KL(softmax(target / temperature) || softmax(logits / temperature)); the target is a constant."""
    p, q = ((of / temperature).exp() for of in (target.detach(), logits))
    p, q = p / p.sum(), q / q.sum()
    return sum(p[k] * (p[k].log() - q[k].log()) for k in range(len(p)))


def loop_over_prefixes(logits, labels):
    steps, batch, _ = logits.shape
    terms = [
        cross_entropy(sum(logits[u, i] for u in range(t + 1)) / (t + 1), labels[i])
        for t in range(steps)
        for i in range(batch)
    ]
    return sum(terms) / len(terms)


def loop_over_steps(logits, labels, temperature=4.0):
    steps, batch, _ = logits.shape
    terms = [
        divergence(logits[u, i], logits[t, i], temperature)
        for t in range(steps)
        for u in range(steps)
        for i in range(batch)
        if t != u
    ]
    return sum(terms) / len(terms)


def loop_over_right_steps(logits, labels, temperature=3.0):
    steps, batch, _ = logits.shape
    terms = []
    for i in range(batch):
        right = [logits[t, i] for t in range(steps) if logits[t, i].argmax() == labels[i]]
        if right:
            teacher = sum(right) / len(right)
            terms += [divergence(teacher, logits[t, i], temperature) for t in range(steps)]
    return temperature**2 * sum(terms) / len(terms)


def consistency(logits, labels, *temperature):
    return step_consistency(logits, *temperature)


PLAIN = {
    "prefix_ce": (prefix_ce, loop_over_prefixes, ()),
    "step_consistency": (consistency, loop_over_steps, ()),
    "step_consistency at 0.7": (consistency, loop_over_steps, (0.7,)),
    "self_distillation": (self_distillation, loop_over_right_steps, ()),
    "self_distillation at 0.7": (self_distillation, loop_over_right_steps, (0.7,)),
}


@pytest.mark.parametrize("name", PLAIN)
def test_terms_of_the_logits_equal_a_loop_over_samples_and_steps(name):
    function, loop, options = PLAIN[name]
    logits, labels = random_logits()
    counts = (logits.argmax(-1) == labels).sum(0)
    assert {0, 1} < set(counts.tolist())
    value, gradient = value_and_gradient(function, logits, labels, *options)
    expected, expected_gradient = value_and_gradient(loop, logits, labels, *options)
    assert value > 0
    assert_close(value, expected, rtol=1e-10, atol=1e-12)
    assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("function", [ce, per_step_ce, prefix_ce, consistency, self_distillation])
def test_terms_of_the_logits_count_views_as_samples(function):
    logits, labels = random_logits(views=(2,))  # [T, V, B, K]
    value, gradient = value_and_gradient(function, logits, labels)
    flat, flat_gradient = value_and_gradient(function, logits.flatten(1, 2), labels.repeat(2))
    assert_close(value, flat)
    assert_close(gradient.flatten(1, 2), flat_gradient)


@pytest.mark.parametrize("function", [consistency, self_distillation])
@pytest.mark.parametrize("case", ["one step", "equal steps"])
def test_consistency_and_distillation_are_zero_where_the_steps_agree(function, case):
    logits, labels = random_logits(1)
    logits = logits if case == "one step" else logits.expand(4, -1, -1)
    value, gradient = value_and_gradient(function, logits, labels)
    assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-15)
    assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-15)


def test_self_distillation_is_exactly_zero_where_no_step_is_right():
    logits, _ = random_logits()
    wrong = logits.argmin(-1)[0]  # no logit is the largest of one step and the smallest of another here
    logits = logits[:1] * torch.arange(1, 5).view(4, 1, 1)
    value, gradient = value_and_gradient(self_distillation, logits, wrong)
    assert value == 0
    assert not gradient.any()


def test_self_distillation_leaves_out_samples_without_a_right_step():
    logits, labels = random_logits()
    taught = (logits.argmax(-1) == labels).any(0)
    assert 0 < taught.sum() < len(labels)
    expected = self_distillation(logits[:, taught], labels[taught])
    assert_close(self_distillation(logits, labels), expected)


def test_step_consistency_does_not_move_the_other_step():
    """Of two steps, each is drawn to the other as it is; the other gets no gradient of that pair."""
    logits, labels = random_logits(2)
    _, gradient = value_and_gradient(consistency, logits, labels)
    p, q = (logits / 4.0).softmax(-1)
    assert_close(gradient[0], (p - q) / (4.0 * 2 * len(labels)))
    assert_close(gradient[1], (q - p) / (4.0 * 2 * len(labels)))


def test_self_distillation_does_not_move_its_target():
    """If one step is right, it is the target itself and gets no gradient; another is drawn to it."""
    logits = torch.tensor([[[3.0, 0.0, 0.0]], [[0.0, 2.0, 0.0]]], dtype=torch.float64)
    _, gradient = value_and_gradient(self_distillation, logits, torch.tensor([0]))
    p, q = (logits / 3.0).softmax(-1)
    assert_close(gradient[0], torch.zeros_like(p), rtol=0, atol=1e-15)
    assert_close(gradient[1], 3.0 * (q - p) / 2)


@pytest.mark.parametrize("function", [prefix_ce, consistency, self_distillation])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_terms_of_the_logits_run_in_float32_inside_autocast(function, scale):
    logits, labels = random_logits()
    logits = (scale * logits).bfloat16()
    expected, expected_gradient = value_and_gradient(function, logits.float(), labels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value, gradient = value_and_gradient(function, logits, labels)
    assert value.dtype == torch.float32
    assert torch.equal(value, expected)
    assert value.isfinite()
    assert_close(gradient.float(), expected_gradient, rtol=0.01, atol=1e-7)


@pytest.mark.parametrize("function", [consistency, self_distillation])
def test_consistency_and_distillation_refuse_a_temperature_of_zero(function):
    with pytest.raises(ValueError, match=r"temperature=0\.0: must be a number > 0"):
        function(*random_logits(), 0.0)


def output(views: int) -> tuple[NetworkOutput, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(3, views * 4, 2, generator=generator)
    embeddings = torch.randn(3, views * 4, 6, generator=generator)
    return NetworkOutput(logits, embeddings, embeddings), torch.tensor([0, 1, 1, 0])


def everyone(labels: torch.Tensor, views: int) -> torch.Tensor:
    """The labels of a batch's views: the second view of sample i stands at B + i."""
    return labels.repeat(views)


# What a run minimises, by the public functions: cross-entropy, temporal term, weight.
MINIMISED = {
    "ce": lambda o, y: (ce(o.logits, y),),
    "per_step_ce": lambda o, y: (per_step_ce(o.logits, y),),
    "prefix_ce": lambda o, y: (prefix_ce(o.logits, y),),
    "etc": lambda o, y: (ce(o.logits, y), step_consistency(o.logits, 4.0), 1.0),
    "tsd": lambda o, y: (per_step_ce(o.logits, y), self_distillation(o.logits, y, 3.0), 0.5),
    "tcl": lambda o, y: (ce(o.logits, y), temporal_contrastive_loss(o.embeddings, y, 0.1), 0.5),
    "stcl": lambda o, y: (
        ce(o.logits, everyone(y, 2)),
        temporal_contrastive_loss(o.embeddings.unflatten(1, (2, 4)), y, 0.1),
        0.5,
    ),
}
COLUMNS = {"etc": "consistency", "tsd": "distillation", "tcl": "contrastive", "stcl": "contrastive"}


@pytest.mark.parametrize("loss", LOSSES)
def test_total_loss_is_the_cross_entropy_and_the_weighted_term(loss):
    config = RunConfig(loss=loss)
    batch, labels = output(config.num_views)
    terms = loss_terms(batch, labels, config)
    assert list(terms) == ["cross_entropy", *([COLUMNS[loss]] if loss in COLUMNS else [])]
    cross_entropy, *temporal = MINIMISED[loss](batch, labels)
    assert torch.equal(terms["cross_entropy"], cross_entropy)
    if temporal:
        term, weight = temporal
        assert torch.equal(terms[COLUMNS[loss]], term)  # not weighted
        assert torch.equal(total_loss(terms, config), cross_entropy + weight * term)
    else:
        assert torch.equal(total_loss(terms, config), cross_entropy)


def test_loss_terms_take_the_parameters_of_the_run():
    batch, labels = output(1)
    config = RunConfig(
        loss="tcl",
        ce_term="per_step",
        tet_lambda=0.2,
        positives=["time"],
        time_pairs="boundary",
        temperature=0.2,
        temporal_weight=0.7,
    )
    terms = loss_terms(batch, labels, config)
    assert_close(terms["cross_entropy"], per_step_ce(batch.logits, labels, 0.2))
    expected = temporal_contrastive_loss(batch.embeddings, labels, 0.2, ("time",), "boundary")
    assert_close(terms["contrastive"], expected)
    assert_close(total_loss(terms, config), terms["cross_entropy"] + 0.7 * expected)
    config = RunConfig(loss="tcl", negatives=False)
    expected = temporal_contrastive_loss(batch.embeddings, labels, negatives=False)
    assert_close(loss_terms(batch, labels, config)["contrastive"], expected)
    config = RunConfig(loss="etc", temperature=0.5, views=2)
    batch, labels = output(2)
    terms = loss_terms(batch, labels, config)
    assert_close(terms["cross_entropy"], ce(batch.logits, everyone(labels, 2)))
    assert_close(terms["consistency"], step_consistency(batch.logits, 0.5))


def test_loss_terms_of_two_views_of_tcl_are_no_positives_of_each_other():
    batch, labels = output(2)
    value = loss_terms(batch, labels, RunConfig(loss="tcl", views=2))["contrastive"]
    z = batch.embeddings.unflatten(1, (2, 4))
    assert_close(value, temporal_contrastive_loss(z, labels, 0.1, ("class", "time")))


def test_total_loss_of_weight_zero_is_the_cross_entropy():
    batch, labels = output(1)
    config = RunConfig(loss="tcl", temporal_weight=0.0)
    assert torch.equal(total_loss(loss_terms(batch, labels, config), config), ce(batch.logits, labels))


@pytest.mark.parametrize("batch", [100, *too_long(256)])
def test_temporal_contrastive_loss_of_a_large_batch_fits(batch):
    """T = 10, two views of 256 samples: 5,120 anchors, 26 million pairs; value against blocks of anchors."""
    torch.manual_seed(0)
    embeddings = torch.randn(10, 2, batch, 128, requires_grad=True)
    labels = torch.arange(batch) % 10

    def step():
        temporal_contrastive_loss(embeddings, labels).backward()

    step()
    memory = peak_memory(step, torch.device("cpu"))
    assert (
        math.isnan(memory) or memory < 2000 * (batch / 256) ** 2
    )  # megabytes, where the system tells; half of it alone
    with torch.no_grad():
        z = F.normalize(embeddings.detach().double().flatten(0, 2), dim=-1)
        of = labels.expand(10, 2, batch).flatten()
        total = 0.0
        for block in torch.arange(len(z)).split(512):
            similarity = z[block] @ z.T / 0.1
            similarity[torch.arange(len(block)), block] = -torch.inf
            share = similarity - similarity.logsumexp(1, keepdim=True)
            positive = (of[block, None] == of) & (block[:, None] != torch.arange(len(z)))
            total -= (share.masked_fill(~positive, 0).sum(1) / positive.sum(1)).sum().item()
    loss = temporal_contrastive_loss(embeddings, labels).item()
    assert loss == pytest.approx(total / len(z), rel=1e-5)
