"""`RunConfig`: every parameter of a run, checked on creation; its identity and its name."""

import dataclasses
from dataclasses import MISSING, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from tcl_lib.config import registry, rules
from tcl_lib.config.registry import LOSS_PARAMETERS, Dataset, Term
from tcl_lib.utils import checks, notebooks, paths
from tcl_lib.utils.words import digest, listed

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
        plugin: file (.py) or module with losses or backbones of your own, imported before all else.
        backbone: the network.
        stem_width: channels of the stem of convnet or resnet19; convnet's other layers grow with it.
        whitened_stem: learn the stem's weights in the basis of whitened image patches.
        time_steps: T; for event data the number of frames.
        neuron: lif_box (membrane only) or lif (with a synaptic current).
        decay: share of the membrane potential left after a step.
        v_th: firing threshold.
        loss: what is minimised; docs/measures.md lists the losses and their terms.
        ce_term: cross-entropy of the mean logits (mean), per_step, or prefix; None as the loss has it.
        temporal_term: none, contrastive, consistency or distillation; None as the loss has it.
        views: augmented views of every sample in a batch; None for 2 with stcl, else 1.
        temporal_weight: weight of the temporal term; None for 0.5 with contrastive or distillation, else 1.
        temperature: of the temporal term; None for contrastive 0.1, consistency 4, distillation 3.
        tet_lambda: weight of TET's mean-squared term in the per-step cross-entropy.
        positives: what may differ between anchor and positive: sample (class), time step, view.
        time_pairs: steps that may be positives of each other: all, adjacent, or boundary (first and last).
        negatives: contrast positives with all other anchors; False aligns them only.
        projection_dim: size of the embeddings; 0 contrasts the features themselves.
        epochs: passes over the training set.
        one_step_epochs: the first of the epochs have one time step, which takes a third of the time.
        batch_size: samples in a batch, before views, on all devices together.
        optimizer: sgd (with Nesterov momentum), muon (for convolutions; sgd for the rest) or adamw.
        lr: peak learning rate, after the warm-up and before the cosine decay.
        momentum: momentum of sgd and muon.
        weight_decay: weight decay of weights, not of norms, biases and the convolutions of muon.
        warmup_epochs: epochs over which the learning rate rises.
        micro_batches: parts that the network sees a batch in; more need less memory and more time.
        precision: float32 (32-true) or bfloat16 autocast (bf16-mixed); auto becomes the faster one here.
        compile: compile the neurons: on, off, or auto: where it saves time; on a GPU always.
        tf32: let a GPU round the factors of float32 products to 10 bits (TF32), which is faster.
        device: where to train.
        data_on_device: keep the training samples in the memory of a GPU where they fit.
        devices: GPUs that share every batch, a process each; on a CPU the number of processes.
        num_nodes: machines with so many devices each; torchrun or srun starts the run on them.
        strategy: auto and ddp share gradients; the third is for a backbone with parameters left unused.
        sync_batch_norm: batch norm over the batch of all devices; False for each device its own part.
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
    dataset: Literal[*registry.DATASETS] = "digits"
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
    plugin: checks.Plugin | None = None
    backbone: checks.one_of(registry.BACKBONES) = "convnet"
    stem_width: checks.AtLeast1 = 64
    whitened_stem: bool = False
    time_steps: checks.AtLeast1 = 4
    neuron: Literal["lif_box", "lif"] = "lif_box"
    decay: checks.BelowOne = 0.5
    v_th: checks.Positive = 1.0
    # loss
    loss: checks.one_of(registry.LOSSES) = "stcl"
    ce_term: checks.one_of(registry.CE_TERMS) | None = None
    temporal_term: checks.one_of(registry.TEMPORAL_TERMS) | None = None
    views: Literal[1, 2] | None = None
    temporal_weight: checks.Weight | None = None
    temperature: checks.Positive | None = None
    tet_lambda: checks.BelowOne = 0.0
    positives: list[Literal["class", "time", "view"]] = field(
        default_factory=lambda: ["class", "time", "view"]
    )
    time_pairs: Literal["all", "adjacent", "boundary"] = "all"
    negatives: bool = True
    projection_dim: checks.NotNegative = 128
    # training
    epochs: checks.AtLeast1 = 15
    one_step_epochs: checks.NotNegative = 0
    batch_size: checks.AtLeast2 = 64
    optimizer: Literal["sgd", "muon", "adamw"] = "sgd"
    lr: checks.Positive = 0.1
    momentum: checks.BelowOne = 0.9
    weight_decay: checks.Weight = 5e-4
    warmup_epochs: checks.NotNegative = 1
    micro_batches: checks.AtLeast1 = 1
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true"
    compile: Literal["auto", "on", "off"] = "auto"
    tf32: bool = False
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    data_on_device: bool = True
    devices: checks.AtLeast1 = 1
    num_nodes: checks.AtLeast1 = 1
    strategy: Literal["auto", "ddp", "ddp_find_unused_parameters_true"] = "auto"
    sync_batch_norm: bool = True
    seed: checks.Seed = 0
    # output
    checkpoint_minutes: checks.Positive = 5.0
    runs_dir: checks.Folder | None = None
    run_name: checks.Name | None = None
    resume: bool = True
    overwrite: bool = False

    def __post_init__(self):
        registry.import_plugin(self.plugin)
        checks.check_fields(self)
        for name, value in registry.by_name(vars(self)).items():  # ce with a contrastive term is tcl
            object.__setattr__(self, name, value)
        rules.check(self)
        if self.precision == "auto":
            from tcl_lib.utils.devices import fast_precision, find_device  # torch, for this alone

            object.__setattr__(self, "precision", fast_precision(find_device(self.device)))

    @classmethod
    def default(cls, name: str):
        """Return the default of a parameter."""
        parameter = cls.__dataclass_fields__[name]
        return parameter.default if parameter.default_factory is MISSING else parameter.default_factory()

    @property
    def events(self) -> bool:
        """Whether the data are an event camera's, another frame at every time step."""
        return self._facts.events

    @property
    def _facts(self) -> Dataset:
        return registry.DATASETS[self.dataset]

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
    def terms(self) -> list[Term]:
        """The cross-entropy and, if the loss has one, the temporal term."""
        return registry.terms(vars(self))

    @property
    def arguments(self) -> set[str]:
        """The tensors and parameters that the terms use."""
        return {argument for term in self.terms for argument in term.arguments}

    @property
    def loss_parameters(self) -> dict[str, Any]:
        """The parameters of the loss, with what None stands for."""
        return registry.loss_parameters(vars(self))

    @property
    def num_views(self) -> int:
        """Augmented views of every sample in a batch: `views`, or what the loss needs."""
        return self.loss_parameters["views"]

    @property
    def processes(self) -> int:
        """The number of processes that train the run together."""
        return self.devices * self.num_nodes

    @property
    def code(self) -> dict[str, str]:
        """Hashes of the code of the loss and the backbone that is not this package's."""
        return registry.code(vars(self))

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
        changes = {k: v for k, v in self.changes().items() if k not in (*LOSS_PARAMETERS, "code")}
        if changes.get("data_root") == f"data/{self.data_path.name}":
            del changes["data_root"]  # the label of the data says as much
        return ", ".join([self.data_label, self.backbone, f"T = {self.time_steps}", *listed(changes)])

    @property
    def variant(self) -> str:
        """What a study compares: the loss as printed, and its parameters that differ from the defaults.

        Runs of one setting and one variant differ only in the seed and may be averaged.
        """
        changes = {k: v for k, v in self.changes().items() if k in LOSS_PARAMETERS}
        return ", ".join([registry.LOSSES[self.loss].label, *listed(changes)])

    def changes(self) -> dict:
        """Return the parameters of the identity that differ from the defaults and are not in `name`."""
        shared = (*NAMED[:-1], "ce_term", "temporal_term", "data_root", "device")
        defaults = RunConfig(**{name: getattr(self, name) for name in shared}).identity()
        loss = registry.LOSSES[self.loss]
        defaults |= {"ce_term": loss.ce_term, "temporal_term": loss.temporal_term}
        if self._facts.own_folder:
            defaults["data_root"] = None
        defaults.pop("code", None)
        identity = self.identity()
        return {k: v for k, v in identity.items() if k not in NAMED and v != defaults.get(k)}

    def identity(self) -> dict:
        """Return the parameters that shape the result: two runs with equal identity are the same run.

        Defaults are resolved: `flip=None` and the value it stands for are the same. Parameters without effect
        are left out.
        """
        return rules.identity(self)

    def __reduce__(self):
        return partial(RunConfig, **self.to_dict()), ()  # another process imports the plugin

    def to_dict(self) -> dict:
        """Return all parameters, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_notebook(cls, namespace: dict) -> "RunConfig":
        """Return the config in a notebook's `globals()`, after its parameters cell."""
        return cls(**notebooks.parameters(namespace, cls.__dataclass_fields__))
