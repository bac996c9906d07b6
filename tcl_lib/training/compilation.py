"""Whether a run's neurons are compiled: as `compile` says, or once the run proves long enough."""

import logging
import os
import warnings
from time import perf_counter

import torch
from torch import nn

from tcl_lib import neurons
from tcl_lib.config import RunConfig
from tcl_lib.utils import paths

log = logging.getLogger(__name__)

# Steps that the pace is taken from, the first one left out.
TIMED_STEPS = 8
# Compiling is worth while where the rest of the run takes longer than this for each of its time steps:
# on two cores of a CPU it costs 30 s at T = 4 and 3 min at T = 32, and a step at T = 4 takes 93 ms, not 246.
SECONDS_PER_TIME_STEP = 30


class Compilation:
    """Compiles a network's neurons when it is time to: at once (on), when it pays (auto), never (off)."""

    def __init__(self, config: RunConfig, network: nn.Module, device: torch.device, steps: int):
        """`steps` is the number of steps the run has left."""
        self._config, self._network, self._device = config, network, device
        self._steps, self._done = steps, 0
        if config.compile == "on":
            self._compile()

    def step(self) -> None:
        """Say that a step is done."""
        self._done += 1
        if self._config.compile != "auto":
            return
        if self._done == 1:
            self._started = perf_counter()
        if self._done == 1 + TIMED_STEPS:
            pace = (perf_counter() - self._started) / TIMED_STEPS
            rest = pace * (self._steps - self._done)
            if rest > SECONDS_PER_TIME_STEP * self._config.time_steps:
                log.info("%.0f min to go at this pace: compiling the neurons first", rest / 60)
                self._compile()

    def _compile(self) -> None:
        reason = compile_neurons(self._network, self._device)
        if reason is not None:
            warnings.warn(f"the neurons run uncompiled: {reason}", stacklevel=2)


def compile_neurons(network: nn.Module, device: torch.device) -> str | None:
    """Do `neurons.compile_neurons`, with torch's compiler cache in the cache folder."""
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(paths.cache() / "compiled"))
    return neurons.compile_neurons(network, device)
