"""`stop_when_sure`: inference that really stops, sample by sample.

Shapes: T time steps, B batch, K classes.
"""

import numpy as np
import torch
from torch import Tensor

from tcl_lib.analysis.policies import POLICIES, mean_logits
from tcl_lib.stepwise import StepwiseNetwork
from tcl_lib.utils.checks import Threshold, checked, one_of


def stop_when_sure(
    network: StepwiseNetwork,
    inputs: Tensor,
    threshold: float,
    policy: str = "confidence",
    time_steps: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the answer to each sample and the step at which it was given, int64 [B] each.

    A sample is dropped at the first step whose sureness reaches the threshold; the others go on, T steps at
    most.

    Args:
        network: one step at a call.
        inputs: images float [B, C, H, W], or frames float [T, B, C, H, W].
        threshold: chosen on validation data, see `anytime`.
        policy: confidence, entropy, gap or agreement.
        time_steps: T for images; the network's own by default.

    Raises ValueError for another kind of network, an unknown policy, a threshold that is no number, and
    inputs that do not fit.
    """
    if not isinstance(network, StepwiseNetwork):
        raise ValueError(f"network: must be a StepwiseNetwork, got a {type(network).__name__}")
    checked("policy", policy, one_of(POLICIES))
    checked("threshold", threshold, Threshold)
    events, steps = inputs.dim() == 5, network.network.steps_of(inputs, time_steps)
    size = inputs.shape[-4]
    answers = torch.empty(size, dtype=torch.int64)
    stopped = torch.empty(size, dtype=torch.int64)
    left, state = torch.arange(size), None
    seen: list[np.ndarray] = []  # the logits of each step, [samples left, K]
    for step in range(1, steps + 1):
        frame = inputs[step - 1, left] if events else inputs if step == 1 else None
        logits, state = network(frame, state)
        seen.append(logits.double().cpu().numpy())
        means = mean_logits(np.stack(seen))
        sure = POLICIES[policy](means)[-1] >= threshold if step < steps else np.ones(len(left), bool)
        answers[left[sure]] = torch.from_numpy(means[-1, sure].argmax(-1))
        stopped[left[sure]] = step
        if sure.all():
            break
        left, seen = left[~sure], [one[~sure] for one in seen]
        state = state.take(torch.from_numpy(~sure))
    return answers, stopped
