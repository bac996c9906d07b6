"""The losses of the study, as functions of tensors.

Shapes: T time steps, V views, B samples, K classes, P projection, N = T*V*B anchors. An anchor is one
sample in one view at one time step. `positive_mask` says which anchors are positives of each other;
`supervised_contrastive_loss` computes the loss for any mask. `training/build.py` makes the losses of a run
(`tcl`, `stcl` and so on) of them. This file needs only torch and can be copied into another project.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

RELATIONS = ("class", "time", "view")


def ce(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of the time-mean of the logits: [T, B, K], [B] -> scalar."""
    return F.cross_entropy(logits.mean(0), labels)


def per_step_ce(logits: Tensor, labels: Tensor, tet_lambda: float = 0.0) -> Tensor:
    """Return the mean over the time steps of each step's cross-entropy: [T, B, K], [B] -> scalar.

        (1 - tet_lambda) * mean_t CE(logits[t], labels) + tet_lambda * mean((logits - 1)^2)

    TET (Deng et al. 2022, arXiv 2202.11946), eq. 9 to 11; 1 is the firing threshold there.
    """
    steps = len(logits)
    loss = F.cross_entropy(logits.flatten(0, 1), labels.repeat(steps))
    if tet_lambda == 0:
        return loss
    return (1 - tet_lambda) * loss + tet_lambda * (logits - 1.0).square().mean()


def temporal_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    positives: Sequence[str] = RELATIONS,
) -> Tensor:
    """Return the supervised contrastive loss over samples, views and time steps, a scalar.

    TCL (V = 1) and STCL (V = 2) of Qiu et al., arXiv 2305.13909, in the "outside" form of Khosla et al.
    2020, arXiv 2004.11362, eq. 2, without a further factor of the temperature.

    Args:
        embeddings: [T, V, B, P], or [T, B, P] for one view; they are normalised here.
        labels: [B] classes.
        temperature: > 0.
        positives: which relations make two anchors of a class positives; see `positive_mask`.

    Raises ValueError for other shapes, a temperature <= 0 or an unknown relation.
    """
    if embeddings.dim() == 3:
        embeddings = embeddings[:, None]
    if embeddings.dim() != 4 or labels.shape != embeddings.shape[2:3]:
        raise ValueError(
            f"embeddings {list(embeddings.shape)}, labels {list(labels.shape)}: must be [T, V, B, P] or"
            " [T, B, P], and [B]"
        )
    steps, views = embeddings.shape[:2]
    mask = positive_mask(labels, steps, views, positives)
    return supervised_contrastive_loss(embeddings.flatten(0, 2), mask, temperature)


def positive_mask(
    labels: Tensor, time_steps: int, views: int, positives: Sequence[str] = RELATIONS
) -> Tensor:
    """Return which anchors are positives of which: [B] labels -> bool [N, N], in the order [T, V, B].

    Two anchors of the same class differ in some of sample, time step and view. They are positives if each
    thing in which they differ is allowed: another sample by "class", another step by "time", another view
    by "view". Raises ValueError for an unknown relation.
    """
    for relation in positives:
        if relation not in RELATIONS:
            raise ValueError(f"positives={list(positives)}: must be any of {list(RELATIONS)}")
    samples = torch.arange(len(labels), device=labels.device)
    shape = (time_steps, views, len(labels))
    time, view, sample = (
        index.flatten()
        for index in torch.meshgrid(
            torch.arange(time_steps, device=labels.device),
            torch.arange(views, device=labels.device),
            samples,
            indexing="ij",
        )
    )
    label = labels.expand(shape).flatten()
    mask = _pairwise_equal(label) & ~torch.eye(len(label), dtype=torch.bool, device=labels.device)
    for relation, index in (("class", sample), ("time", time), ("view", view)):
        if relation not in positives:
            mask &= _pairwise_equal(index)
    return mask


def _pairwise_equal(values: Tensor) -> Tensor:
    return values[:, None] == values[None, :]


def supervised_contrastive_loss(embeddings: Tensor, mask: Tensor, temperature: float) -> Tensor:
    """Return the contrast of each anchor's positives with all other anchors: [N, P], bool [N, N] -> scalar.

        mean_a  -1/|P(a)| * sum_{p in P(a)} [ z_a.z_p / tau - log sum_{k != a} exp(z_a.z_k / tau) ]

    The mean is over the anchors that have a positive; without any the loss is exactly 0. It is computed in
    float32 (float64 stays float64), also under autocast: bfloat16 cannot tell a cosine of 0.99 from 0.995.
    Raises ValueError for a temperature <= 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature={temperature}: must be a number > 0")
    with torch.autocast(embeddings.device.type, enabled=False):
        z = _normalise(embeddings.to(torch.promote_types(embeddings.dtype, torch.float32)))
        similarity = z @ z.T / temperature  # [N, N]
        # Mask the diagonal before the maximum: at a low temperature it would dominate it.
        itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
        log_share = similarity.masked_fill(itself, -torch.inf).log_softmax(dim=1)
        count = mask.sum(1)
        loss = -log_share.masked_fill(~mask, 0.0).sum(1) / count.clamp(min=1)  # [N]
        return loss.sum() / (count > 0).sum().clamp(min=1)


def _normalise(embeddings: Tensor) -> Tensor:
    """Scale to unit length along the last axis.

    An embedding of length 0 within rounding (a silent step) becomes 0, without gradient: its direction would
    be noise and its gradient huge.
    """
    eps = torch.finfo(embeddings.dtype).eps
    length = torch.linalg.vector_norm(embeddings, dim=-1, keepdim=True)
    return torch.where(length > eps, embeddings / length.clamp(min=eps), 0.0)
