"""The terms of the losses, as functions of tensors: cross-entropies, and terms that join the time steps.

Shapes: T time steps, V views, B samples, K classes, P projection, N = T*V*B anchors. Logits are [T, B, K] or
[T, V, B, K]. An anchor is one sample in one view at one time step. `positive_mask` says which anchors are
positives of each other; `supervised_contrastive_loss` computes the loss for any mask. `config/registry.py`
makes the losses of a run (`tcl`, `stcl` and so on) of them. This file needs only torch and can be copied into
another project.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

RELATIONS = ("class", "time", "view")
TIME_PAIRS = ("all", "adjacent", "boundary")


def ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the time-mean of the logits: [T, B, K], [B] -> scalar."""
    _check_labels(logits, labels)
    return per_step_ce(_single(logits).mean(0, keepdim=True), labels)


def per_step_ce(logits: Tensor, labels: Tensor, tet_lambda: float = 0.0) -> Tensor:
    """Return the mean over the time steps of each step's cross-entropy: [T, B, K], [B] -> scalar.

        (1 - tet_lambda) * mean_t CE(logits[t], labels) + tet_lambda * mean((logits - 1)^2)

    TET (Deng et al. 2022, arXiv 2202.11946), eq. 9 to 11; 1 is the firing threshold there. Computed at least
    in float32. Raises ValueError where there is not a label for each sample.
    """
    _check_labels(logits, labels)
    logits = _single(logits)
    loss = F.cross_entropy(logits.flatten(0, -2), labels.expand(logits.shape[:-1]).flatten())
    if tet_lambda == 0:
        return loss
    return (1 - tet_lambda) * loss + tet_lambda * (logits - 1.0).square().mean()


def prefix_ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean over t of the cross-entropy of mean(logits[:t]): [T, B, K], [B] -> scalar.

    It supervises the answer at every step. SEENN (Li et al. 2023, arXiv 2304.01230).
    """
    steps = torch.arange(1, len(logits) + 1, device=logits.device)
    means = (_single(logits).cumsum(0).movedim(0, -1) / steps).movedim(-1, 0)
    return per_step_ce(means, labels)


def step_consistency(logits: Tensor, temperature: float = 4.0) -> Tensor:
    """Return how far the steps are apart, the consistency of ETC (arXiv 2305.14174): [T, B, K] -> scalar.

        mean over t != u of KL(softmax(logits[u] / temperature) || softmax(logits[t] / temperature))

    No gradient flows to step u. A single step gives 0. Raises ValueError for a temperature <= 0.
    """
    share = _log_share(logits, temperature)
    # t = u adds nothing to value or gradient, so the mean over all t, with its factor, is that over t != u.
    apart = F.kl_div(share.mean(0).expand_as(share), share.detach(), reduction="none", log_target=True)
    return apart.sum(-1).mean() * len(share) / max(len(share) - 1, 1)


def self_distillation(logits: Tensor, labels: Tensor, temperature: float = 3.0) -> Tensor:
    """Return how far each step is from the mean of the right steps: [T, B, K], [B] -> scalar.

        temperature^2 * mean over t of KL(softmax(right / temperature) || softmax(logits[t] / temperature))

    `right` is the mean of a sample's logits at the steps whose answer is its label; no gradient flows to it.
    Samples without such a step are left out; if all are, the loss is 0. Temporal self-distillation (arXiv
    2501.15925) without its teacher, a second network. Raises ValueError for a temperature <= 0, and where
    there is not a label for each sample.
    """
    _check_labels(logits, labels)
    right = (logits.argmax(-1) == labels)[..., None]  # [T, B, 1]
    count = right.sum(0)  # [B, 1]
    teacher = (_single(logits) * right).sum(0) / count.clamp(min=1)  # [B, K]
    target = _log_share(teacher, temperature).detach().expand_as(logits)
    apart = F.kl_div(_log_share(logits, temperature), target, reduction="none", log_target=True).sum(-1)
    taught = (count > 0)[..., 0]  # [B]
    return temperature**2 * (apart * taught).mean(0).sum() / taught.sum().clamp(min=1)


def _log_share(logits: Tensor, temperature: float) -> Tensor:
    """Return the logarithm of the softmax at a temperature, at least in float32."""
    _check_temperature(temperature)
    return (_single(logits) / temperature).log_softmax(-1)


def _single(values: Tensor) -> Tensor:
    """Return the values in float32; float64 stays float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _check_labels(logits: Tensor, labels: Tensor) -> None:
    if labels.shape != logits.shape[-2:-1]:
        raise ValueError(
            f"logits {list(logits.shape)}, labels {list(labels.shape)}: must be [T, B, K] or [T, V, B, K],"
            " and [B]"
        )


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: must be a number > 0")


def temporal_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    positives: Sequence[str] = RELATIONS,
    time_pairs: str = "all",
    negatives: bool = True,
) -> Tensor:
    """Return the supervised contrastive loss over samples, views and time steps, a scalar.

    TCL (V = 1) and STCL (V = 2) of Qiu et al., arXiv 2305.13909, in the "outside" form of Khosla et al.
    2020, arXiv 2004.11362, eq. 2, without a further factor of the temperature.

    Args:
        embeddings: [T, V, B, P], or [T, B, P] for one view; they are normalised here.
        labels: [B] classes.
        temperature: > 0.
        positives: which relations make two anchors of a class positives; see `positive_mask`.
        time_pairs: which time steps may be positives of each other; see `positive_mask`.
        negatives: see `supervised_contrastive_loss`.

    Raises ValueError for other shapes, a temperature <= 0, an unknown relation or unknown time pairs.
    """
    if embeddings.dim() == 3:
        embeddings = embeddings[:, None]
    if embeddings.dim() != 4 or labels.shape != embeddings.shape[2:3]:
        raise ValueError(
            f"embeddings {list(embeddings.shape)}, labels {list(labels.shape)}: must be [T, V, B, P] or"
            " [T, B, P], and [B]"
        )
    steps, views = embeddings.shape[:2]
    mask = positive_mask(labels, steps, views, positives, time_pairs)
    return supervised_contrastive_loss(embeddings.flatten(0, 2), mask, temperature, negatives)


def positive_mask(
    labels: Tensor,
    time_steps: int,
    views: int,
    positives: Sequence[str] = RELATIONS,
    time_pairs: str = "all",
) -> Tensor:
    """Return which anchors are positives of which: [B] labels -> bool [N, N], in the order [T, V, B].

    Two anchors of the same class differ in some of sample, time step and view. They are positives if each
    thing in which they differ is allowed: another sample by "class", another step by "time", another view
    by "view". Two different steps must also be a pair of `time_pairs`: any two (all), neighbours (adjacent),
    or the first and the last (boundary). Raises ValueError for an unknown relation or unknown time pairs.
    """
    if time_pairs not in TIME_PAIRS:
        raise ValueError(f"time_pairs={time_pairs!r}: must be one of {list(TIME_PAIRS)}")
    for relation in positives:
        if relation not in RELATIONS:
            raise ValueError(f"positives={list(positives)}: must be any of {list(RELATIONS)}")
    counts = (time_steps, views, len(labels))
    time, view, sample = torch.cartesian_prod(*(torch.arange(n, device=labels.device) for n in counts)).T
    label = labels[sample]
    mask = _pairwise_equal(label) & ~torch.eye(len(label), dtype=torch.bool, device=labels.device)
    for relation, index in (("class", sample), ("time", time), ("view", view)):
        if relation not in positives:
            mask &= _pairwise_equal(index)
    if time_pairs != "all":
        apart = (time[:, None] - time).abs()
        mask &= (apart == 0) | (apart == (1 if time_pairs == "adjacent" else time_steps - 1))
    return mask


def _pairwise_equal(values: Tensor) -> Tensor:
    return values[:, None] == values[None, :]


def supervised_contrastive_loss(
    embeddings: Tensor, mask: Tensor, temperature: float, negatives: bool = True
) -> Tensor:
    """Return the contrast of each anchor's positives with all other anchors: [N, P], bool [N, N] -> scalar.

        mean_a  -1/|P(a)| * sum_{p in P(a)} [ z_a.z_p / tau - log sum_{k != a} exp(z_a.z_k / tau) ]

    Without `negatives` the bracket is z_a.z_p: alignment alone, at any temperature. The mean is over the
    anchors that have a positive; without any the loss is exactly 0. It is computed in float32 (float64 stays
    float64), also under autocast: bfloat16 cannot tell a cosine of 0.99 from 0.995. Raises ValueError for a
    temperature <= 0.
    """
    _check_temperature(temperature)
    with torch.autocast(embeddings.device.type, enabled=False):
        z = _normalise(_single(embeddings))
        score = z @ z.T  # [N, N]
        if negatives:
            # Mask the diagonal before the maximum: at a low temperature it would dominate it.
            score = (score / temperature).fill_diagonal_(-torch.inf).log_softmax(dim=1)
        count = mask.sum(1, dtype=torch.int32)
        loss = -torch.where(mask, score, 0.0).sum(1) / count.clamp(min=1)  # [N]
        return loss.sum() / (count > 0).sum().clamp(min=1)


def _normalise(embeddings: Tensor) -> Tensor:
    """Scale to unit length along the last axis.

    An embedding of length 0 within rounding (a silent step) becomes 0, without gradient: its direction would
    be noise and its gradient huge.
    """
    eps = torch.finfo(embeddings.dtype).eps
    length = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
    return torch.where(length <= eps, 0.0, embeddings / length.clamp(min=eps))  # NaN stays NaN
