"""When a run's neurons are compiled."""

import logging
import os
import warnings
from collections import Counter
from time import perf_counter

import torch
from torch import nn

from tcl_lib.config import RunConfig
from tcl_lib.neurons import lif, spiking_layers
from tcl_lib.utils import paths

log = logging.getLogger(__name__)

# Steps that the pace is measured on, without the first.
TIMED_STEPS = 8
# Compiling pays where the runs of a process take longer than this for each of their time steps: on two cores
# of a CPU it costs 30 s at T = 4 and 3 min at T = 32, and a step at T = 4 then takes 93 ms instead of 246.
SECONDS_PER_TIME_STEP = 30
# Seconds of this process's runs without compiling, by T: the runs of a grid share what is compiled.
_uncompiled: Counter[int] = Counter()


class Compilation:
    """Compiles a network's neurons at once (on), where it saves time (auto), or never (off).

    On a GPU `auto` is `on`: compiled neurons may round otherwise there, and the clock must not decide that.
    """

    def __init__(self, config: RunConfig, network: nn.Module, device: torch.device, steps: int):
        """`steps` is the number of steps the run has left."""
        self._config, self._network, self._device = config, network, device
        self._steps, self._done = steps, 0
        self._waits = config.compile == "auto" and device.type == "cpu"
        if config.compile != "off" and not self._waits:
            self._compile()

    def step(self) -> None:
        """Count a finished step; compile when the pace of the first ones says that it pays."""
        self._done += 1
        if not self._waits:
            return
        if self._done == 1:
            self._started = perf_counter()
        if self._done == 1 + TIMED_STEPS:
            pace = (perf_counter() - self._started) / TIMED_STEPS
            rest = pace * (self._steps - self._done)
            time_steps = self._config.time_steps
            _uncompiled[time_steps] += rest
            if _uncompiled[time_steps] > SECONDS_PER_TIME_STEP * time_steps:
                log.info("%.1f min to go at this pace: compiling the neurons first", rest / 60)
                self._compile()

    def _compile(self) -> None:
        reason = compile_neurons(self._network, self._device)
        if reason is not None and self._device.type != "cpu":
            raise RuntimeError(
                f"compile={self._config.compile!r}: the neurons cannot be compiled on this GPU ({reason});"
                " use compile='off'"
            )
        if reason is not None:
            warnings.warn(f"the neurons run uncompiled: {reason}", stacklevel=2)


def compile_neurons(network: nn.Module, device: torch.device) -> str | None:
    """Compile all spiking layers of a network that have a fused form. Return None, or why that failed.

    The first batch of every T and precision then waits for the compiler, seconds to minutes, unless torch
    finds the result in TORCHINDUCTOR_CACHE_DIR, data/cache/compiled by default. Where no compiler is found,
    the network stays as it was and the answer says in one line what is missing.
    """
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(paths.cache() / "compiled"))
    try:
        current = torch.ones(1, 1, 2, device=device, requires_grad=True)
        lif(current, compiled=True).sum().backward()
    except Exception as error:  # of whatever stands between torch and a compiler on this machine
        return " ".join([type(error).__name__, *str(error).split("\n")[:1]])
    for layer in spiking_layers(network):
        layer.compiled = True
    return None
