"""Whether a run's neurons are compiled: as `compile` says, or once the run proves long enough."""

from time import perf_counter

import torch
from torch import nn
from tqdm import tqdm

from tcl_lib.config import RunConfig
from tcl_lib.neurons import compile_neurons

# Steps that the pace is taken from, the first one left out.
TIMED_STEPS = 8
# Compiling is worth while where the rest of the run takes longer than this for each of its time steps:
# on two cores of a CPU it costs 30 s at T = 4 and 3 min at T = 32, and a step at T = 4 takes 93 ms, not 246.
SECONDS_PER_TIME_STEP = 30


class Compilation:
    """Compiles a network's neurons when it is time to: at once (on), when it pays (auto), never (off)."""

    def __init__(
        self, config: RunConfig, network: nn.Module, device: torch.device, steps: int, verbose: bool
    ):
        """`steps`: how many the run has still to do."""
        self._config, self._network, self._device, self._verbose = config, network, device, verbose
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
                if self._verbose:
                    tqdm.write(f"{rest / 60:.0f} min to go at this pace: compiling the neurons first")
                self._compile()

    def _compile(self) -> None:
        reason = compile_neurons(self._network, self._device)
        if reason is not None:
            tqdm.write(f"the neurons run uncompiled: {reason}")
