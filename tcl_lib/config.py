"""`RunConfig`: every parameter of a run, checked on creation; its identity and its name."""

import dataclasses
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from tcl_lib.utils import checks, notebooks, paths
from tcl_lib.utils.words import digest, listed


class Dataset(NamedTuple):
    """The facts about a dataset."""

    source: str  # module:function in `tcl_lib.data` that loads it
    origin: str  # where its files come from
    shape: tuple[int, int, int] | None  # (C, H, W) of an image or a frame; None where the files say
    events: bool = False  # of an event camera, another frame at every time step
    mirrored: bool = False  # whether a mirror image is of the same class
    own_folder: bool = False  # the user's own files: `data_root` says which data they are
    frame_size: int | None = None  # default of the parameter, in pixels


DATASETS = {
    "digits": Dataset("images:digits", "scikit-learn", (1, 8, 8)),
    "cifar10": Dataset("images:cifar", "torchvision", (3, 32, 32), mirrored=True),
    "cifar100": Dataset("images:cifar", "torchvision", (3, 32, 32), mirrored=True),
    "folder": Dataset("images:folder", "data_root", None, mirrored=True, own_folder=True),
    "dvs_cifar10": Dataset(
        "events.datasets:dvs_cifar10", "tonic", (2, 48, 48), events=True, mirrored=True, frame_size=48
    ),
    "nmnist": Dataset("events.datasets:nmnist", "tonic", (2, 34, 34), events=True),
    # not mirrored: a gesture to the left is not one to the right
    "events_folder": Dataset(
        "events.datasets:events_folder", "data_root", None, events=True, own_folder=True
    ),
    "moving_digits": Dataset("events.datasets:moving_digits", "simulated", (2, 10, 10), events=True),
}

# Fields left out of a run's identity because they do not affect results (`compile` does on a GPU).
PLACEMENT = (
    *("compile", "device", "checkpoint_minutes", "runs_dir", "run_name", "resume", "overwrite"),
    "allow_duplicates",  # the data are the same, or there is no run
)
EVENT_PARAMETERS = (
    *("frame_by", "frame_size", "count_scale", "split", "event_augmentation", "sensor_size"),
    "skip_bad_recordings",
)
CONTRASTIVE_PARAMETERS = ("contrastive_weight", "temperature", "positives", "ce_term", "projection_dim")
# The losses as they are printed, in the order of tables and figures.
LOSS_NAMES = {"ce": "CE", "per_step_ce": "per-step CE", "tcl": "TCL", "stcl": "STCL"}
LOSS_PARAMETERS = ("loss", "views", "tet_lambda", *CONTRASTIVE_PARAMETERS)
# What a run's name spells out; everything else that differs from the defaults goes into a hash.
NAMED = ("dataset", "backbone", "loss", "time_steps", "seed")


@checks.refuse_unknown
@dataclass(frozen=True)
class RunConfig:
    """Every parameter of a run: the names and defaults of the parameters cell of `train.ipynb`.

    Args:
        dataset: what to train on; docs/data.md describes each.
        data_root: folder of the data; None for data/. For the *folder datasets it holds train/ and test/.
        allow_duplicates: warn about files with the same content in train/ and test/, instead of stopping.
        train_size: samples to train on, a stratified subset; None for all.
        validation_fraction: share of the training set that epochs are judged on.
        augment: shift images or roll frames at random, and mirror them where the dataset allows it.
        flip: mirror half of the samples; None as fits the dataset.
        cutout: side of the square erased from images, in pixels; 0 for none.
        autoaugment: AutoAugment's policy for CIFAR-10, for images.
        frame_by: cut a recording into frames of equal duration (time) or of equally many events (count).
        frame_size: shorter side of a frame in pixels; None for 48 with dvs_cifar10, else the sensor's own.
        count_scale: divide each frame by its largest count (max), or keep the counts (none).
        split: training and test recordings of dvs_cifar10.
        event_augmentation: roll by up to 5 pixels (roll), or one of roll, rotate, shear and cutout (nda).
        sensor_size: [width, height] of recordings in events_folder whose files do not say.
        skip_bad_recordings: leave damaged recordings out, with a warning, instead of stopping.
        backbone: the network.
        stem_width: channels of the stem of resnet19.
        time_steps: T; for event data the number of frames.
        neuron: lif_box (membrane only) or lif (with a synaptic current).
        decay: share of the membrane potential left after a step.
        v_th: firing threshold.
        loss: cross-entropy (ce) or that of each step (per_step_ce); with a contrastive term (tcl, stcl).
        views: augmented views of every sample in a batch; None for 2 with stcl, else 1.
        tet_lambda: weight of TET's mean-squared term in the per-step cross-entropy.
        contrastive_weight: weight of the contrastive term.
        temperature: temperature of the contrastive term.
        positives: what may differ between anchor and positive: sample (class), time step, view.
        ce_term: cross-entropy beside the contrastive term, of the mean logits or per step.
        projection_dim: size of the embeddings; 0 contrasts the features themselves.
        epochs: passes over the training set.
        batch_size: samples in a batch, before views.
        optimizer: sgd (with Nesterov momentum) or adamw.
        lr: peak learning rate, after the warm-up and before the cosine decay.
        momentum: momentum of sgd.
        weight_decay: weight decay of weights, not of norms and biases.
        warmup_epochs: epochs over which the learning rate rises.
        micro_batches: parts that the network sees a batch in; more need less memory and more time.
        precision: float32 (32-true) or bfloat16 autocast (bf16-mixed); auto becomes the faster one here.
        compile: compile the neurons: on, off, or auto: if the run is long enough; on a GPU always.
        device: where to train.
        seed: random seed of validation split, initial weights, order and augmentation.
        checkpoint_minutes: minutes of training between two checkpoints inside an epoch.
        runs_dir: folder of runs; None for runs/.
        run_name: name of the run's folder; None for a name made of its parameters.
        resume: continue a run that was interrupted; False starts it anew.
        overwrite: train anew even if the run is finished.

    Relative folders start at the repository, or for an installed package at the current folder or TCL_HOME.
    Raises ValueError, in one line that names the parameter, the value and what is allowed.
    """

    # data
    dataset: Literal[*DATASETS] = "digits"
    data_root: checks.Folder | None = None
    allow_duplicates: bool = False
    train_size: checks.AtLeast2 | None = None
    validation_fraction: checks.Fraction = 0.1
    augment: bool = True
    flip: bool | None = None
    cutout: checks.NotNegative = 0
    autoaugment: bool = False
    # event data
    frame_by: Literal["time", "count"] = "time"
    frame_size: checks.AtLeast1 | None = None
    count_scale: Literal["max", "none"] = "max"
    split: Literal["tet", "tebn", "spikingjelly", "seeded"] = "tet"
    event_augmentation: Literal["roll", "nda"] = "roll"
    sensor_size: checks.Size | None = None
    skip_bad_recordings: bool = False
    # network
    backbone: Literal["convnet", "vggsnn", "resnet19"] = "convnet"
    stem_width: checks.AtLeast1 = 64
    time_steps: checks.AtLeast1 = 4
    neuron: Literal["lif_box", "lif"] = "lif_box"
    decay: checks.BelowOne = 0.5
    v_th: checks.Positive = 1.0
    # loss
    loss: Literal[*LOSS_NAMES] = "stcl"
    views: Literal[1, 2] | None = None
    tet_lambda: checks.BelowOne = 0.0
    contrastive_weight: checks.Weight = 0.5
    temperature: checks.Positive = 0.1
    positives: list[Literal["class", "time", "view"]] = field(
        default_factory=lambda: ["class", "time", "view"]
    )
    ce_term: Literal["mean", "per_step"] = "mean"
    projection_dim: checks.NotNegative = 128
    # training
    epochs: checks.AtLeast1 = 15
    batch_size: checks.AtLeast2 = 64
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: checks.Positive = 0.1
    momentum: checks.BelowOne = 0.9
    weight_decay: checks.Weight = 5e-4
    warmup_epochs: checks.NotNegative = 1
    micro_batches: checks.AtLeast1 = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true"
    compile: Literal["auto", "on", "off"] = "auto"
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    seed: checks.Seed = 0
    # output
    checkpoint_minutes: checks.Positive = 5.0
    runs_dir: checks.Folder | None = None
    run_name: checks.Name | None = None
    resume: bool = True
    overwrite: bool = False

    def __post_init__(self):
        checks.check_fields(self)
        if self._facts.own_folder and self.data_root is None:
            raise ValueError(
                f"data_root=None: dataset {self.dataset!r} needs the folder that holds train/ and test/"
            )
        for name, reason in without_effect(vars(self)).items():
            if getattr(self, name) != self.default(name):
                raise ValueError(f"{name}={getattr(self, name)!r}: has no effect with {reason}")
        if self.loss == "stcl" and self.views == 1:
            raise ValueError("views=1: stcl contrasts two views; with one view it is loss='tcl'")
        if self.num_views > 1 and not self.augment:
            raise ValueError(
                f"augment=False: loss={self.loss!r} with views={self.num_views} would train on two identical"
                " views"
            )
        if self.batch_size < 2 * self.micro_batches:
            raise ValueError(
                f"micro_batches={self.micro_batches}: must leave at least two samples of a batch"
                f" (batch_size={self.batch_size}) in each part"
            )
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs={self.warmup_epochs}: must be at most epochs ({self.epochs})")
        if len(set(self.positives)) < len(self.positives):
            raise ValueError(f"positives={self.positives}: lists a value twice")
        if self.contrastive and not self.relations:
            raise ValueError(
                f"positives={self.positives}: with loss={self.loss!r} and time_steps={self.time_steps}"
                " no anchor would have a positive; add 'class'"
            )
        if self.precision == "auto":
            from tcl_lib.utils.devices import fast_precision, find_device  # torch, for this alone

            object.__setattr__(self, "precision", fast_precision(find_device(self.device)))

    @classmethod
    def default(cls, name: str):
        """Return the default of a parameter."""
        parameter = cls.__dataclass_fields__[name]
        return parameter.default if parameter.default_factory is MISSING else parameter.default_factory()

    @property
    def relations(self) -> list[str]:
        """The relations of `positives` that the loss uses, in one order; only stcl draws views together."""
        possible = {"class": True, "time": self.time_steps > 1, "view": self.loss == "stcl"}
        return [relation for relation in possible if possible[relation] and relation in self.positives]

    @property
    def events(self) -> bool:
        """Whether the data are an event camera's, another frame at every time step."""
        return self._facts.events

    @property
    def _facts(self) -> Dataset:
        return DATASETS[self.dataset]

    @property
    def data_label(self) -> str:
        """The name of the data in tables and figures."""
        if self._facts.own_folder:
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
    def num_views(self) -> int:
        """Augmented views of every sample in a batch: `views`, or what the loss needs."""
        return self.views or (2 if self.loss == "stcl" else 1)

    @property
    def flips(self) -> bool:
        """Whether half of the samples are mirrored: `flip`, or as fits the dataset."""
        return self.augment and (self._facts.mirrored if self.flip is None else self.flip)

    @property
    def frame_side(self) -> int | None:
        """Shorter side of a frame in pixels: `frame_size`, or the dataset's; None for the sensor's own."""
        return self.frame_size or self._facts.frame_size

    @property
    def data_path(self) -> Path:
        """`data_root` as an absolute path; data/ by default."""
        return paths.absolute(self.data_root or "data")

    @property
    def run_path(self) -> Path:
        """The run's folder in `runs_dir`; runs/ by default."""
        return paths.absolute(self.runs_dir or "runs") / self.name

    @property
    def name(self) -> str:
        """`run_name`, or a name like digits-convnet-stcl-T4-s0, with a hash of other changed parameters."""
        if self.run_name is not None:
            return self.run_name
        name = f"{self.dataset}-{self.backbone}-{self.loss}-T{self.time_steps}-s{self.seed}"
        return name + digest(self.changes())

    @property
    def setting(self) -> str:
        """What comparable runs have in common: everything but the loss, its parameters and the seed."""
        changes = {k: v for k, v in self.changes().items() if k not in LOSS_PARAMETERS}
        if changes.get("data_root") == f"data/{self.data_path.name}":
            del changes["data_root"]  # the label of the data says as much
        return ", ".join([self.data_label, self.backbone, f"T = {self.time_steps}", *listed(changes)])

    @property
    def variant(self) -> str:
        """What a study compares: the loss as printed, and its parameters that differ from the defaults.

        Runs of one setting and one variant differ only in the seed and may be averaged.
        """
        changes = {k: v for k, v in self.changes().items() if k in LOSS_PARAMETERS}
        return ", ".join([LOSS_NAMES[self.loss], *listed(changes)])

    def changes(self) -> dict:
        """Return the parameters of the identity that differ from the defaults and are not in `name`."""
        shared = (*NAMED[:-1], "data_root", "device")
        defaults = RunConfig(**{name: getattr(self, name) for name in shared}).identity()
        if self._facts.own_folder:
            defaults["data_root"] = None
        identity = self.identity()
        return {k: v for k, v in identity.items() if k not in NAMED and v != defaults.get(k)}

    def identity(self) -> dict:
        """Return the parameters that shape the result: two runs with equal identity are the same run.

        Defaults are resolved: `flip=None` and the value it stands for are the same. Parameters without effect
        are left out.
        """
        values = self.to_dict()
        idle = without_effect(values)
        identity = {k: v for k, v in values.items() if k not in PLACEMENT and k not in idle}
        if "positives" in identity:
            identity["positives"] = self.relations
        resolved = {"flip": self.flips, "frame_size": self.frame_side, "views": self.num_views}
        identity |= {name: value for name, value in resolved.items() if name in identity}
        if self.device in ("cuda", "mps"):  # compiled neurons may round otherwise there; on a CPU they do not
            identity["compile"] = "on" if self.compile == "auto" else self.compile
        if not self._facts.own_folder:
            del identity["data_root"]  # a named dataset is the same wherever it lies
        else:
            inside = self.data_path.is_relative_to(paths.home())
            path = self.data_path.relative_to(paths.home()) if inside else self.data_path
            identity["data_root"] = path.as_posix()
        return identity

    def to_dict(self) -> dict:
        """Return all parameters, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_notebook(cls, namespace: dict) -> "RunConfig":
        """Return the config in a notebook's `globals()`, after its parameters cell."""
        return cls(**notebooks.parameters(namespace, cls.__dataclass_fields__))


def without_effect(values: dict) -> dict[str, str]:
    """Return the parameters that do nothing beside the other values, each with the value that causes it."""
    facts = DATASETS[values["dataset"]]
    contrastive = values["loss"] in ("tcl", "stcl")
    weight = values["contrastive_weight"]
    per_step = values["loss"] == "per_step_ce" or (contrastive and values["ce_term"] == "per_step")
    effective = {
        ("dataset",): {
            "cutout": not facts.events,
            "autoaugment": not facts.events,
            **dict.fromkeys(EVENT_PARAMETERS, facts.events),
            "split": values["dataset"] == "dvs_cifar10",
            "sensor_size": values["dataset"] == "events_folder",
            "allow_duplicates": facts.own_folder,
        },
        ("augment",): dict.fromkeys(
            ("flip", "cutout", "autoaugment", "event_augmentation"), values["augment"]
        ),
        ("contrastive_weight",): dict.fromkeys(("temperature", "positives", "projection_dim"), weight > 0),
        ("loss",): dict.fromkeys(CONTRASTIVE_PARAMETERS, contrastive),
        ("loss", "ce_term"): {"tet_lambda": per_step},
        ("backbone",): {"stem_width": values["backbone"] == "resnet19"},
        ("optimizer",): {"momentum": values["optimizer"] == "sgd"},
    }
    return {
        name: " and ".join(f"{cause}={values[cause]!r}" for cause in causes)
        for causes, names in reversed(effective.items())
        for name, effect in names.items()
        if not effect
    }
