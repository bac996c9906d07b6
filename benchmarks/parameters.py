"""The parameters of `benchmark.ipynb`."""

import dataclasses
from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge

from benchmarks.peers import PEERS
from tcl_lib.config import RunConfig
from tcl_lib.utils import notebooks
from tcl_lib.utils.checks import AtLeast1, AtLeast2, Folder, Rule, check_fields


def _not_empty(value: list) -> list:
    if not value:
        raise ValueError("must have at least one item")
    return value


@dataclass(frozen=True)
class Benchmark:
    """What is measured. Values are checked on creation, as those of `RunConfig` are."""

    backbone: Literal["convnet", "vggsnn", "resnet19"] = "convnet"
    time_steps: Annotated[list[AtLeast1], Rule(_not_empty)] = field(default_factory=lambda: [1, 2, 4, 8, 16])
    long_time_steps: Annotated[int, Ge(4)] = 32
    batch_size: Annotated[int, Ge(16)] = 32
    image_size: AtLeast2 = 32
    precisions: Annotated[list[Literal["32-true", "bf16-mixed"]], Rule(_not_empty)] = field(
        default_factory=lambda: ["32-true", "bf16-mixed"]
    )
    libraries: list[Literal["spikingjelly", "snntorch", "norse"]] = field(default_factory=lambda: list(PEERS))
    rounds: AtLeast2 = 10
    device: Literal["auto", "cpu", "cuda"] = "auto"
    folder: Folder | None = None

    def __post_init__(self):
        check_fields(self)

    @classmethod
    def from_notebook(cls, namespace: dict) -> "Benchmark":
        """Return the benchmark that a notebook's `globals()` describe, after its parameters cell."""
        names = [parameter.name for parameter in dataclasses.fields(cls)]
        return cls(**notebooks.parameters(namespace, names))

    def config(self, time_steps: int, loss: str = "ce", micro_batches: int = 1) -> RunConfig:
        """Return a run with this backbone and batch size, for one step to be measured."""
        return RunConfig(
            backbone=self.backbone,
            time_steps=time_steps,
            batch_size=self.batch_size,
            loss=loss,
            micro_batches=micro_batches,
        )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (3, self.image_size, self.image_size)
