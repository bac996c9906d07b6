"""The state of a run under way, which is also what a checkpoint holds."""

import logging
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from torch import nn
from torch.optim import Optimizer

from tcl_lib.runs import checkpoints, contents, layout

log = logging.getLogger(__name__)


@dataclass
class Progress:
    """How far a run is."""

    rows: list[dict[str, float]] = field(default_factory=list)  # metrics of the finished epochs
    # Of the epoch under way:
    step: int = 0  # finished steps
    sums: dict[str, float] = field(default_factory=dict)  # sums of their losses and accuracies
    spikes: dict[str, list] | None = None  # spike counts, see `FiringRates.state`
    seconds: float = 0.0
    last_loss: float | None = None  # the last one that was finite

    def start_epoch(self, row: dict[str, float]) -> None:
        """Keep the metrics of a finished epoch and start the next."""
        self.rows.append(row)
        self.step, self.sums, self.spikes, self.seconds = 0, {}, None, 0.0

    def __str__(self) -> str:
        step = f", step {self.step} of the next" if self.step else ""
        return f"epoch {len(self.rows)}{step}"


@dataclass
class State:
    """A run under way."""

    path: Path  # its folder
    description: dict[str, Any]  # the content of config.json
    network: nn.Module
    optimizer: Optimizer
    progress: Progress = field(default_factory=Progress)

    def __post_init__(self):
        self._last = perf_counter()

    def count_time(self) -> None:
        """Add the time since the last call to the epoch's seconds."""
        now = perf_counter()
        self.progress.seconds += now - self._last
        self._last = now

    def save(self) -> None:
        """Write a checkpoint. Raises OSError that names the file and the space it needs."""
        self.count_time()
        checkpoints.save(
            self.path,
            {
                "description": self.description,
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "progress": asdict(self.progress),
                "random": checkpoints.random_states(),
            },
        )

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        Changed versions, commit or hardware are written into the description. Raises ValueError where the
        data are others than the run was started with, or the checkpoint does not fit the network.
        """
        contents.check_same_data(self.path, checkpoint["description"]["data"], self.description["data"])
        try:
            self.network.load_state_dict(checkpoint["network"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            self.progress = Progress(**checkpoint["progress"])
            checkpoints.set_random_states(checkpoint["random"])
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f"{self.path / layout.CHECKPOINT}: does not fit this run; overwrite=True trains it anew"
            ) from error
        self._describe_change(checkpoint["description"])
        self._last = perf_counter()

    def _describe_change(self, description: dict[str, Any]) -> None:
        """Write down where a run is continued with other versions, commit or hardware."""
        before = description
        for entry in description.get("continued", []):
            before = before | entry
        surroundings = ("versions", "git_commit", "device", "machine")
        changed = {
            key: self.description[key] for key in surroundings if self.description[key] != before.get(key)
        }
        self.description = description
        if changed:
            log.info("continued with other %s than before, as %s says", ", ".join(changed), layout.CONFIG)
            entry = {"after": str(self.progress)} | changed
            description["continued"] = [*description.get("continued", []), entry]
