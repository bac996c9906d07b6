"""`RunConfig`: every parameter of a run, checked on creation."""

import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from tcl_lib import notebooks
from tcl_lib.checks import (
    AtLeast1,
    AtLeast2,
    BelowOne,
    Folder,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Seed,
    Size,
    Weight,
    check_fields,
    checked,
)

REPOSITORY = Path(__file__).resolve().parents[1]
CACHE = (
    REPOSITORY / "data" / "cache"
)  # decoded images, counted frames, compiled neurons; may be deleted at any time

# Where things lie and what they run on: a run is the same run whatever these say.
PLACEMENT = ("compile", "device", "checkpoint_minutes", "runs_dir", "run_name", "resume", "overwrite")
# Datasets that are a user's own folder: where it lies says what it is.
FOLDERS = ("folder", "events_folder")
EVENT_DATASETS = ("dvs_cifar10", "nmnist", "events_folder", "moving_digits")
EVENT_PARAMETERS = (
    "frame_by",
    "frame_size",
    "count_scale",
    "split",
    "event_augmentation",
    "sensor_size",
    "skip_bad_recordings",
)
CONTRASTIVE_PARAMETERS = ("contrastive_weight", "temperature", "positives", "ce_term", "projection_dim")
# The losses as they are printed, in the order of tables and figures.
LOSS_NAMES = {"ce": "CE", "per_step_ce": "per-step CE", "tcl": "TCL", "stcl": "STCL"}
LOSS_PARAMETERS = ("loss", "tet_lambda", *CONTRASTIVE_PARAMETERS)
# What a run's name spells out; everything else that differs from the defaults goes into a hash.
NAMED = ("dataset", "backbone", "loss", "time_steps", "seed")


Relation = Literal["class", "time", "view"]


@dataclass(frozen=True)
class RunConfig:
    """Every parameter of a run: the names and defaults of the parameters cell of `train.ipynb`.

    Raises ValueError, in one line that names the parameter, the value and what is allowed.
    """

    # data
    dataset: Literal[
        "digits",
        "cifar10",
        "cifar100",
        "folder",
        "dvs_cifar10",
        "nmnist",
        "events_folder",
        "moving_digits",
    ] = "digits"
    data_root: Folder | None = None
    train_size: AtLeast2 | None = None
    validation_fraction: Fraction = 0.1
    augment: bool = True
    flip: bool | None = None
    cutout: NotNegative = 0
    autoaugment: bool = False
    # event data
    frame_by: Literal["time", "count"] = "time"
    frame_size: AtLeast1 | None = None
    count_scale: Literal["max", "none"] = "max"
    split: Literal["tet", "tebn", "spikingjelly", "seeded"] = "tet"
    event_augmentation: Literal["roll", "nda"] = "roll"
    sensor_size: Size | None = None
    skip_bad_recordings: bool = False
    # network
    backbone: Literal["convnet", "vggsnn", "resnet19"] = "convnet"
    stem_width: AtLeast1 = 64
    time_steps: AtLeast1 = 4
    neuron: Literal["lif_box", "lif"] = "lif_box"
    decay: BelowOne = 0.5
    v_th: Positive = 1.0
    # loss
    loss: Literal["ce", "per_step_ce", "tcl", "stcl"] = "stcl"
    tet_lambda: BelowOne = 0.0
    contrastive_weight: Weight = 0.5
    temperature: Positive = 0.1
    positives: list[Relation] = field(default_factory=lambda: ["class", "time", "view"])
    ce_term: Literal["mean", "per_step"] = "mean"
    projection_dim: NotNegative = 128
    # training
    epochs: AtLeast1 = 15
    batch_size: AtLeast2 = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: Positive = 0.1
    momentum: BelowOne = 0.9
    weight_decay: Weight = 5e-4
    warmup_epochs: NotNegative = 1
    micro_batches: AtLeast1 = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: Seed = 0
    # output
    checkpoint_minutes: Positive = 5.0
    runs_dir: Folder | None = None
    run_name: Name | None = None
    resume: bool = True
    overwrite: bool = False

    def __post_init__(self):
        check_fields(self)
        if self.dataset in FOLDERS and self.data_root is None:
            raise ValueError(
                f"data_root=None: dataset {self.dataset!r} needs the folder that holds train/ and test/"
            )
        self._check_effect()
        if self.batch_size < 2 * self.micro_batches:
            raise ValueError(
                f"micro_batches={self.micro_batches}: must leave two images or more of a batch"
                f" (batch_size={self.batch_size}) in each"
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs}: must be at most epochs ({self.epochs})")
        if len(set(self.positives)) < len(self.positives):
            raise ValueError(f"positives={self.positives}: names a relation twice")
        if self.contrastive and not self._relations():
            raise ValueError(
                f"positives={self.positives}: with loss={self.loss!r} and time_steps={self.time_steps}"
                " no anchor would have a positive; add 'class'"
            )

    def _check_effect(self) -> None:
        """Refuse a parameter that was set and does nothing beside another one."""
        dataset, augment = f"dataset={self.dataset!r}", "augment=False"
        idle = dict.fromkeys(("cutout", "autoaugment") if self.events else EVENT_PARAMETERS, dataset)
        if self.dataset != "dvs_cifar10":
            idle["split"] = dataset
        if self.dataset != "events_folder":
            idle["sensor_size"] = dataset
        if not self.augment:
            idle |= dict.fromkeys(("flip", "cutout", "autoaugment", "event_augmentation"), augment)
        for name, reason in idle.items():
            if getattr(self, name) != getattr(RunConfig, name):
                raise ValueError(f"{name}={getattr(self, name)!r}: has no effect with {reason}")

    def _relations(self) -> list[str]:
        """The relations of `positives` that two anchors of this run can be in, in one order."""
        possible = {"class": True, "time": self.time_steps > 1, "view": self.views > 1}
        return [relation for relation in possible if possible[relation] and relation in self.positives]

    @property
    def events(self) -> bool:
        """Whether the data are an event camera's, another frame at every time step."""
        return self.dataset in EVENT_DATASETS

    @property
    def data_label(self) -> str:
        """What tables and figures call the data."""
        if self.dataset in FOLDERS:
            return f"{self.dataset} ({self.data_path.name})"
        if self.dataset == "dvs_cifar10":
            drawn = f" with seed {self.seed}" if self.split == "seeded" else ""
            return f"dvs_cifar10 ({self.split} split{drawn})"
        return "moving_digits (simulated)" if self.dataset == "moving_digits" else self.dataset

    @property
    def contrastive(self) -> bool:
        """Whether the loss has a contrastive term."""
        return self.loss in ("tcl", "stcl")

    @property
    def views(self) -> int:
        """Augmented views of every image in a batch: 2 for `stcl`, else 1."""
        return 2 if self.loss == "stcl" else 1

    @property
    def data_path(self) -> Path:
        """`data_root` as an absolute path; a relative one starts at the repository, `data/` by default."""
        return _absolute(self.data_root or "data")

    @property
    def run_path(self) -> Path:
        """The run's folder, in `runs_dir` (`runs/` at the repository by default)."""
        return _absolute(self.runs_dir or "runs") / self.name

    @property
    def name(self) -> str:
        """`run_name`, or what identifies the run: digits-convnet-stcl-T4-s0 and a hash of further changes."""
        if self.run_name is not None:
            return self.run_name
        name = f"{self.dataset}-{self.backbone}-{self.loss}-T{self.time_steps}-s{self.seed}"
        return name + digest(self.changes())

    @property
    def setting(self) -> str:
        """What runs must have in common to be compared: all but the loss, its parameters and the seed."""
        changes = {k: v for k, v in self.changes().items() if k not in LOSS_PARAMETERS}
        if changes.get("data_root") == f"data/{self.data_path.name}":
            del changes["data_root"]  # the label of the data says as much
        if changes.get("precision") == "32-true":
            del changes["precision"]  # what a reader assumes
        return ", ".join([self.data_label, self.backbone, f"T = {self.time_steps}", *listed(changes)])

    @property
    def variant(self) -> str:
        """What a study compares: the loss as printed, and those of its parameters that are not the defaults.

        Runs of one setting and one variant differ in the seed alone, and may be averaged.
        """
        changes = {k: v for k, v in self.changes().items() if k in LOSS_PARAMETERS}
        return ", ".join([LOSS_NAMES[self.loss], *listed(changes)])

    def changes(self) -> dict:
        """Parameters of the identity that `name` does not spell out and that differ from the defaults."""
        defaults = RunConfig(
            dataset=self.dataset,
            data_root=self.data_root,
            backbone=self.backbone,
            loss=self.loss,
            time_steps=self.time_steps,
        ).identity()
        if self.dataset in FOLDERS:
            defaults["data_root"] = None
        return {
            key: value
            for key, value in self.identity().items()
            if key not in NAMED and value != defaults.get(key)
        }

    def identity(self) -> dict:
        """The parameters that shape the result: two runs with equal identity are the same run.

        Where a run lies and what it runs on is left out, and what has no effect beside the other parameters.
        """
        identity = {k: v for k, v in self.to_dict().items() if k not in PLACEMENT}
        if self.dataset not in FOLDERS:
            del identity["data_root"]  # a named dataset is the same wherever it lies
        else:
            inside = self.data_path.is_relative_to(REPOSITORY)
            path = self.data_path.relative_to(REPOSITORY) if inside else self.data_path
            identity["data_root"] = path.as_posix()
        identity["positives"] = self._relations()
        if not self.contrastive:
            for name in CONTRASTIVE_PARAMETERS:
                del identity[name]
        per_step = self.loss == "per_step_ce" or (self.contrastive and self.ce_term == "per_step")
        effective = {
            "tet_lambda": per_step,
            "stem_width": self.backbone == "resnet19",
            "momentum": self.optimizer == "sgd",
        }
        return {name: value for name, value in identity.items() if effective.get(name, True)}

    def to_dict(self) -> dict:
        """All parameters, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, parameters: dict) -> "RunConfig":
        """The config with these parameters; an unknown name is refused with the nearest known one."""
        for name in parameters:
            if name not in _annotations():
                raise ValueError(notebooks.unknown(name, _annotations()))
        return cls(**parameters)

    @classmethod
    def from_notebook(cls, namespace: dict) -> "RunConfig":
        """The config in a notebook's `globals()`, after its parameters cell."""
        return cls(**notebooks.parameters(namespace, _annotations()))


def folder(name: str, value: str | None, default: str) -> Path:
    """A parameter that names a folder, as an absolute path; a relative one starts at the repository.

    Raises ValueError where it is no path.
    """
    return _absolute(checked(name, value, Folder | None) or default)


def _absolute(folder: str) -> Path:
    return Path(os.path.normpath(REPOSITORY / os.path.expanduser(folder)))


def digest(content: dict | str) -> str:
    """A hyphen and six hexadecimal digits that stand for the content; nothing for nothing."""
    if not content:
        return ""
    return "-" + hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]


def listed(changes: dict) -> list[str]:
    """Parameters as people read them: "temperature 0.2", "positives class+time"."""

    def words(value: Any) -> str:
        return "+".join(map(str, value)) if isinstance(value, list) else str(value)

    return [f"{name.replace('_', ' ')} {words(value)}" for name, value in changes.items()]


def _annotations() -> dict[str, Any]:
    """Field name -> annotation, in order."""
    return get_type_hints(RunConfig, include_extras=True)
