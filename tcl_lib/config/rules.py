"""Which parameters contradict each other, which have no effect, and which shape the result of a run."""

from typing import TYPE_CHECKING

from tcl_lib.config import registry
from tcl_lib.config.registry import BACKBONES, DATASETS, TERM_PARAMETERS, Term
from tcl_lib.utils import paths

if TYPE_CHECKING:
    from tcl_lib.config.run_config import RunConfig

EVENT_PARAMETERS = (
    *("frame_by", "frame_size", "count_scale", "split", "event_augmentation", "sensor_size"),
    "skip_bad_recordings",
)
# Fields left out of a run's identity because they do not affect results (`compile` does on a GPU).
NOT_IN_IDENTITY = (
    *("compile", "device", "checkpoint_minutes", "runs_dir", "run_name", "resume", "overwrite"),
    "allow_duplicates",  # the data are the same, or there is no run
    "plugin",  # what it registers is in the identity, wherever it lies
    *("tf32", "data_on_device", "devices", "num_nodes", "strategy", "sync_batch_norm"),  # see `identity`
)


def check(config: "RunConfig") -> None:
    """Raise ValueError, in one line, for parameters that contradict each other or have no effect."""
    values = vars(config)
    if DATASETS[config.dataset].own_folder and config.data_root is None:
        raise ValueError(
            f"data_root=None: dataset {config.dataset!r} needs the folder that holds train/ and test/"
        )
    for name, reason in without_effect(values).items():
        if getattr(config, name) != config.default(name):
            raise ValueError(f"{name}={getattr(config, name)!r}: has no effect with {reason}")
    if config.num_views > 1 and not config.augment:
        raise ValueError(
            f"augment=False: loss={config.loss!r} with views={config.num_views} would train on two identical"
            " views"
        )
    if config.batch_size < 2 * config.micro_batches:
        raise ValueError(
            f"micro_batches={config.micro_batches}: must leave at least two samples of a batch"
            f" (batch_size={config.batch_size}) in each part"
        )
    if config.batch_size % config.processes:
        raise ValueError(
            f"batch_size={config.batch_size}: must be a multiple of devices * num_nodes ({config.processes})"
        )
    if config.batch_size < 2 * config.micro_batches * config.processes:
        raise ValueError(
            f"devices={config.devices}, num_nodes={config.num_nodes}: must leave each process at least two"
            f" samples of a batch (batch_size={config.batch_size}) in each of micro_batches="
            f"{config.micro_batches} parts"
        )
    if config.warmup_epochs > config.epochs:
        raise ValueError(f"warmup_epochs={config.warmup_epochs}: must be at most epochs ({config.epochs})")
    if config.one_step_epochs and config.one_step_epochs >= config.epochs:
        raise ValueError(f"one_step_epochs={config.one_step_epochs}: must be below epochs ({config.epochs})")
    if len(set(config.positives)) < len(config.positives):
        raise ValueError(f"positives={config.positives}: lists a value twice")
    early = {"time"} if config.one_step_epochs else set()  # no other step to be a positive
    if "positives" in config.arguments and not set(config.loss_parameters["positives"]) - early:
        raise ValueError(
            f"positives={config.positives}: with loss={config.loss!r}, time_steps={config.time_steps} and"
            f" one_step_epochs={config.one_step_epochs} no anchor would have a positive; add 'class'"
        )


def without_effect(values: dict) -> dict[str, str]:
    """Return the parameters that do nothing beside the other values, each with the value that causes it."""
    facts, backbone = DATASETS[values["dataset"]], BACKBONES[values["backbone"]]
    ce, *temporal = registry.terms(values)
    weighted = temporal if values["temporal_weight"] != 0 else []
    chosen = [name for name in ("loss", "ce_term", "temporal_term") if values[name] is not None]
    contrast = values["negatives"] or registry.temporal_term(values) != "contrastive"
    effective = {
        ("dataset",): {
            "cutout": not facts.events,
            "autoaugment": not facts.events,
            **dict.fromkeys(EVENT_PARAMETERS, facts.events),
            "split": values["dataset"] == "dvs_cifar10",
            "sensor_size": values["dataset"] == "events_folder",
            "one_step_epochs": not facts.events,
            "allow_duplicates": facts.own_folder,
        },
        ("augment",): dict.fromkeys(
            ("flip", "cutout", "autoaugment", "event_augmentation"), values["augment"]
        ),
        tuple(chosen): _uses([ce, *temporal]) | {"temporal_weight": bool(temporal)},
        ("temporal_weight",): _uses([ce, *weighted]),
        ("time_steps",): {
            "time_pairs": values["time_steps"] > 2,
            "one_step_epochs": values["time_steps"] > 1,
        },
        ("positives",): {"time_pairs": "time" in values["positives"]},
        ("negatives",): {"temperature": contrast or "temperature" in ce.arguments},
        ("backbone",): {name: name in backbone.parameters for name in registry.BACKBONE_PARAMETERS},
        ("optimizer",): {"momentum": values["optimizer"] != "adamw"},
        ("devices", "num_nodes"): dict.fromkeys(
            ("strategy", "sync_batch_norm"), max(values["devices"], values["num_nodes"]) > 1
        ),
    }
    return {
        name: " and ".join(f"{cause}={values[cause]!r}" for cause in causes)
        for causes, names in reversed(effective.items())
        for name, effect in names.items()
        if not effect
    }


def identity(config: "RunConfig") -> dict:
    """Return the parameters that shape the result; see `RunConfig.identity`."""
    values = config.to_dict()
    idle = without_effect(values)
    identity = {k: v for k, v in values.items() if k not in NOT_IN_IDENTITY and k not in idle}
    resolved = {"flip": config.flips, "frame_size": config.frame_side} | config.loss_parameters
    identity |= {name: value for name, value in resolved.items() if name in identity}
    if config.code:
        identity["code"] = config.code
    if config.device in ("cuda", "mps"):  # compiled neurons may round otherwise there; on a CPU they do not
        identity["compile"] = "on" if config.compile == "auto" else config.compile
        identity |= {"tf32": True} if config.tf32 else {}
    if config.processes > 1 and (config.micro_batches > 1 or not config.sync_batch_norm):
        identity["processes"] = config.processes  # which samples batch norm joins depends on it
    if not DATASETS[config.dataset].own_folder:
        del identity["data_root"]  # a named dataset is the same wherever it lies
    else:
        identity["data_root"] = paths.relative(config.data_path)
    return identity


def _uses(terms: list[Term]) -> dict[str, bool]:
    """Return which parameters of a loss its terms use."""
    arguments = {argument for term in terms for argument in term.arguments}
    uses = {name: name in arguments for name in TERM_PARAMETERS}
    return uses | {"projection_dim": "embeddings" in arguments}
