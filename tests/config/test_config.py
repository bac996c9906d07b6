"""RunConfig: what is refused, how runs are named, and that it mirrors the notebook's parameters."""

import ast
import dataclasses
import json
import math
import pydoc
import re
import typing

import pytest
import yaml
from papermill import inspect_notebook

from tcl_lib import RunConfig
from tcl_lib.config.registry import DATASETS
from tcl_lib.config.rules import without_effect
from tcl_lib.losses import RELATIONS, TIME_PAIRS
from tcl_lib.neurons import NEURONS
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

NOTEBOOK = REPOSITORY / "notebooks" / "train.ipynb"


def test_fields_and_defaults_are_the_parameters_cell():
    inspected = inspect_notebook(str(NOTEBOOK))
    cell = {name: ast.literal_eval(entry["default"]) for name, entry in inspected.items()}
    assert list(cell) == [field.name for field in dataclasses.fields(RunConfig)]
    assert cell == RunConfig().to_dict()
    # 1 == 1.0 and True == 1 in Python: the types must agree too
    assert [type(value) for value in cell.values()] == [type(v) for v in RunConfig().to_dict().values()]


@pytest.mark.parametrize(
    ("field", "known"), [("dataset", DATASETS), ("neuron", NEURONS), ("time_pairs", TIME_PAIRS)]
)
def test_choices_are_what_the_modules_offer(field, known):
    assert typing.get_args(typing.get_type_hints(RunConfig)[field]) == tuple(known)


def test_relations_are_what_the_losses_know():
    (relation,) = typing.get_args(typing.get_type_hints(RunConfig)["positives"])
    assert typing.get_args(relation) == RELATIONS


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("dataset", "mnist", "'digits', 'cifar10', 'cifar100', 'fashion_mnist'"),
        ("dataset", None, "'digits'"),
        ("backbone", "resnet18", "'resnet19'"),
        ("loss", "supcon", "'ce', 'per_step_ce', 'prefix_ce', 'etc', 'tsd', 'tcl' or 'stcl'"),
        ("loss", "tlc", "'tcl' or 'stcl'; did you mean 'tcl'?"),
        ("loss", None, "must be a valid string"),
        ("neuron", "izhikevich", "'lif_box' or 'lif'"),
        ("precision", "fp8", "'auto', '32-true' or 'bf16-mixed'"),
        ("optimizer", "adam", "'sgd', 'muon' or 'adamw'"),
        ("device", "tpu", "'auto', 'cpu'"),
        ("ce_term", "last", "'mean', 'per_step' or 'prefix', or None"),
        ("temporal_term", "contrast", "'contrastive', 'consistency' or 'distillation'; did you mean"),
        ("temporal_weight", -1.0, "must be greater than or equal to 0, or None"),
        ("time_pairs", "first", "'all', 'adjacent' or 'boundary'"),
        ("negatives", "no", "True or False"),
        ("plugin", "", "must be a file that ends with .py, or the name of a module, or None"),
        ("time_steps", 0, "must be greater than or equal to 1"),
        ("time_steps", 4.0, "must be a valid integer"),
        ("time_steps", "4", "must be a valid integer"),
        ("time_steps", True, "must be a valid integer"),
        ("temperature", 0, "must be greater than 0"),
        ("temperature", -0.1, "must be greater than 0"),
        ("temperature", float("nan"), "must be a finite number"),
        ("temperature", float("inf"), "must be a finite number"),
        ("temperature", "0.1", "must be a valid number"),
        ("batch_size", 1, "must be greater than or equal to 2"),
        ("lr", "1e-3", "must be a valid number (this is text: in YAML write 1.0e-3)"),
        ("lr", True, "must be a valid number"),
        ("decay", 1.0, "must be less than 1"),
        ("tet_lambda", 1, "must be less than 1"),
        ("v_th", 0, "must be greater than 0"),
        ("augment", "false", "True or False (on papermill's command line: -p augment False)"),
        ("augment", 1, "True or False"),
        ("flip", "no", "must be True or False, or None"),
        ("overwrite", "True", "True or False"),
        ("seed", -1, "must be greater than or equal to 0"),
        ("seed", 2**32, "must be less than 4294967296"),
        ("epochs", 0, "must be greater than or equal to 1"),
        ("train_size", 1, "must be greater than or equal to 2, or None"),
        ("validation_fraction", 0, "must be greater than 0"),
        ("validation_fraction", 0.6, "must be less than or equal to 0.5"),
        ("positives", "class", "must be a valid list"),
        ("positives", ["class", "step"], "item 1 must be 'class', 'time' or 'view'"),
        ("positives", ("class",), "must be a valid list"),
        ("run_name", "../elsewhere", "letters, digits"),
        ("run_name", "", "letters, digits"),
        ("run_name", "..", "starting with a letter or digit"),
        ("data_root", 3, "must be a valid string, or None"),
        ("data_root", "", "must be the path of a folder, or None"),
        ("runs_dir", "", "must be the path of a folder, or None"),
        ("lr", 10**400, "must be a "),
        ("frame_by", "events", "'time' or 'count'"),
        ("frame_size", 0, "must be greater than or equal to 1, or None"),
        ("frame_size", [48, 48], "must be a valid integer, or None"),
        ("count_scale", "log", "'max' or 'none'"),
        ("count_scale", None, "'max' or 'none'"),
        ("split", "random", "'tet', 'tebn', 'spikingjelly' or 'seeded'"),
        ("event_augmentation", "flip", "'roll' or 'nda'"),
        ("sensor_size", 128, "must be a valid list, or None"),
        ("sensor_size", [128], "[width, height], two whole numbers from 1 to 10000, or None"),
        ("sensor_size", [128, 0], "[width, height], two whole numbers from 1 to 10000, or None"),
        ("sensor_size", (128, 128), "must be a valid list, or None"),
        ("sensor_size", [10**6, 10**6], "from 1 to 10000"),
        ("sensor_size", "[34, 34]", "(on papermill's command line: -y 'sensor_size: [34, 34]')"),
        ("skip_bad_recordings", "yes", "True or False"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(name, value, allowed):
    with pytest.raises(ValueError, match="must be") as caught:
        RunConfig(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}={value!r}: ")
    assert allowed in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"dataset": "folder"}, "data_root=None"),
        ({"warmup_epochs": 3, "epochs": 2}, "warmup_epochs=3"),
        ({"one_step_epochs": 2, "epochs": 2}, "one_step_epochs=2: must be below epochs"),
        ({"one_step_epochs": 1, "time_steps": 1}, "one_step_epochs=1: has no effect with time_steps=1"),
        ({"one_step_epochs": 1, "dataset": "nmnist"}, "one_step_epochs=1: has no effect with dataset="),
        ({"one_step_epochs": 1, "loss": "tcl", "positives": ["time"]}, "no anchor would have a positive"),
        ({"augment": False, "cutout": 4}, "cutout=4"),
        ({"augment": False, "flip": True}, "flip=True: has no effect with augment=False"),
        ({"augment": False, "autoaugment": True}, "autoaugment=True"),
        ({"dataset": "moving_digits", "augment": False, "event_augmentation": "nda"}, "has no effect with"),
        ({"dataset": "events_folder"}, "data_root=None: dataset 'events_folder' needs the folder"),
        ({"frame_by": "count"}, "frame_by='count': has no effect with dataset='digits'"),
        ({"dataset": "cifar10", "count_scale": "none"}, "count_scale='none': has no effect with"),
        ({"skip_bad_recordings": True}, "skip_bad_recordings=True: has no effect with dataset='digits'"),
        ({"dataset": "nmnist", "split": "tebn"}, "split='tebn': has no effect with dataset='nmnist'"),
        ({"dataset": "nmnist", "sensor_size": [34, 34]}, r"sensor_size=\[34, 34\]: has no effect"),
        ({"dataset": "nmnist", "cutout": 3}, "cutout=3: has no effect with dataset='nmnist'"),
        ({"dataset": "dvs_cifar10", "autoaugment": True}, "autoaugment=True: has no effect with"),
        ({"positives": ["class", "class"]}, "twice"),
        (
            {"loss": "tcl", "temporal_term": "none", "negatives": False},
            "negatives=False: has no effect with loss='ce'",
        ),
        ({"loss": "tcl", "positives": []}, "no anchor would have a positive"),
        ({"loss": "tcl", "positives": ["view"]}, "no anchor would have a positive"),
        ({"loss": "tcl", "positives": ["time"], "time_steps": 1}, "no anchor would have a positive"),
    ],
)
def test_parameters_that_contradict_each_other_are_refused(parameters, words):
    with pytest.raises(ValueError, match=words) as caught:
        RunConfig(**parameters)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parameters", "label"),
    [
        ({}, "digits"),
        ({"dataset": "dvs_cifar10"}, "dvs_cifar10 (tet split)"),
        ({"dataset": "dvs_cifar10", "split": "seeded", "seed": 3}, "dvs_cifar10 (seeded split with seed 3)"),
        ({"dataset": "moving_digits"}, "moving_digits (simulated)"),
        ({"dataset": "events_folder", "data_root": "data/my-camera"}, "events_folder (my-camera)"),
        ({"dataset": "folder", "data_root": "/photos/"}, "folder (photos)"),
    ],
)
def test_tables_say_what_data_they_are_of(parameters, label):
    assert RunConfig(**parameters).data_label == label


def test_another_split_is_another_run():
    one, other = (RunConfig(dataset="dvs_cifar10", split=split) for split in ("tet", "tebn"))
    assert one.name != other.name
    assert one.identity() != other.identity()


def test_num_views_is_what_the_loss_needs_or_what_is_asked_for():
    assert RunConfig(loss="stcl", positives=["view"], time_steps=1).num_views == 2
    assert RunConfig(loss="tcl").num_views == RunConfig(loss="ce").num_views == 1
    assert RunConfig(loss="ce", views=2).num_views == 2
    assert RunConfig(loss="ce", views=2).identity() != RunConfig(loss="ce").identity()
    with pytest.raises(ValueError, match="loss='ce' with views=2 would train on two identical views"):
        RunConfig(loss="ce", views=2, augment=False)


def test_two_views_of_tcl_are_no_positives_of_each_other():
    two = RunConfig(loss="tcl", views=2)
    assert positives(two) == positives(RunConfig(loss="tcl")) == ["class", "time"]
    assert two.variant == "TCL, views 2"
    assert RunConfig(loss="ce", views=2).variant == "CE, views 2"
    assert RunConfig(loss="stcl", views=2).variant == "STCL"
    assert positives(RunConfig(loss="stcl")) == ["class", "time", "view"]


def positives(config):
    return config.loss_parameters["positives"]


@pytest.mark.parametrize(
    ("parameters", "name"),
    [
        ({"loss": "stcl", "views": 1}, {"loss": "tcl"}),
        ({"loss": "stcl", "views": 1, "ce_term": "per_step"}, {"loss": "tcl", "ce_term": "per_step"}),
        (
            {"loss": "per_step_ce", "temporal_term": "contrastive"},
            {"loss": "tcl", "ce_term": "per_step"},
        ),
        (
            {"loss": "ce", "ce_term": "prefix", "temporal_term": "distillation"},
            {"loss": "tsd", "ce_term": "prefix"},
        ),
        ({"loss": "ce", "ce_term": "prefix"}, {"loss": "prefix_ce"}),
        ({"loss": "tsd", "temporal_term": "none"}, {"loss": "per_step_ce"}),
        ({"loss": "etc", "temporal_term": "contrastive"}, {"loss": "tcl"}),
        ({"loss": "ce", "temporal_term": "contrastive", "views": 2}, {"loss": "tcl", "views": 2}),
        ({"loss": "stcl", "temporal_term": "consistency"}, {"loss": "etc", "views": 2}),
        ({"loss": "tcl", "ce_term": "mean", "views": 1}, {"loss": "tcl"}),
    ],
)
def test_runconfig_calls_terms_by_the_loss_they_are(parameters, name):
    assert RunConfig(**parameters) == RunConfig(**name)


@pytest.mark.parametrize(
    ("loss", "terms"),
    [
        ("ce", ("mean", "none", 1)),
        ("per_step_ce", ("per_step", "none", 1)),
        ("prefix_ce", ("prefix", "none", 1)),
        ("etc", ("mean", "consistency", 1, 1.0, 4.0)),
        ("tsd", ("per_step", "distillation", 1, 0.5, 3.0)),
        ("tcl", ("mean", "contrastive", 1, 0.5, 0.1)),
        ("stcl", ("mean", "contrastive", 2, 0.5, 0.1)),
    ],
)
def test_identity_spells_out_the_terms_of_the_loss(loss, terms):
    identity = RunConfig(loss=loss).identity()
    names = ("ce_term", "temporal_term", "views", "temporal_weight", "temperature")
    assert tuple(identity[name] for name in names if name in identity) == terms
    contrasts = loss in ("tcl", "stcl")
    for name in ("positives", "time_pairs", "negatives", "projection_dim"):
        assert (name in identity) == contrasts
    assert ("tet_lambda" in identity) == (loss in ("per_step_ce", "tsd"))


def test_runconfig_takes_terms_that_are_no_other_loss():
    tsd = RunConfig(loss="tsd", ce_term="mean")
    assert tsd.variant == "TSD, ce term mean"
    assert "tet_lambda" not in tsd.identity()
    assert RunConfig(loss="tcl", ce_term="per_step").identity()["tet_lambda"] == 0.0


@pytest.mark.parametrize("views", [True, 3, "2"])
def test_views_are_one_or_two(views):
    with pytest.raises(ValueError, match=f"views={views!r}: must be 1 or 2, or None"):
        RunConfig(views=views)


def test_runconfig_refuses_a_temperature_at_weight_zero():
    with pytest.raises(ValueError, match=r"temperature=0.5: has no effect with temporal_weight=0.0"):
        RunConfig(temporal_weight=0.0, temperature=0.5)


def test_whole_numbers_are_taken_where_a_float_belongs():
    lr = RunConfig(lr=1).lr
    assert lr == 1.0
    assert type(lr) is float
    assert RunConfig(lr=1).name == RunConfig(lr=1.0).name


def test_a_config_cannot_be_changed():
    config, positives = RunConfig(), ["class"]
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.lr = 1.0
    mine = RunConfig(positives=positives)
    positives.append("time")
    assert mine.positives == ["class"]


def test_runconfig_refuses_an_unknown_parameter_with_the_nearest_name():
    with pytest.raises(ValueError, match=r"^unknown parameter temprature, did you mean temperature\?$"):
        RunConfig(temprature=0.2)


def test_runconfig_says_how_yaml_writes_a_number_that_arrived_as_text():
    value = yaml.safe_load("lr: 1e-3")["lr"]
    assert value == "1e-3"  # YAML 1.1 wants a point in a number with an exponent
    with pytest.raises(ValueError, match=r"^lr='1e-3': .* \(this is text: in YAML write 1\.0e-3\)$"):
        RunConfig(lr=value)
    assert RunConfig(lr=yaml.safe_load("1.0e-3")).lr == 0.001


def test_help_of_runconfig_describes_every_parameter():
    text = pydoc.render_doc(RunConfig, renderer=pydoc.plaintext)
    assert "<function" not in text
    assert "<lambda>" not in text
    described = dict(re.findall(r"^ \|\s+(\w+): (\S.+)$", inspect_args(text), re.MULTILINE))
    assert list(described) == [field.name for field in dataclasses.fields(RunConfig)]
    assert all(len(words) > 10 for words in described.values()), described


def inspect_args(text: str) -> str:
    """The part of a help text between "Args:" and the paragraph behind it."""
    return re.search(r"Args:\n(.*?)\n \|\s*\n", text, re.DOTALL).group(1)


def test_precision_auto_becomes_the_precision_that_is_fast_here(monkeypatch):
    for fast in ("32-true", "bf16-mixed"):
        monkeypatch.setattr("tcl_lib.utils.devices.fast_precision", lambda device, fast=fast: fast)
        config = RunConfig(precision="auto", device="cpu")
        assert config.precision == fast
        assert config.identity() == RunConfig(precision=fast, device="cpu").identity()


def test_replace_checks_again():
    assert dataclasses.replace(RunConfig(), seed=3).seed == 3
    with pytest.raises(ValueError, match="seed=-1"):
        dataclasses.replace(RunConfig(), seed=-1)


def test_survives_json():
    config = RunConfig(loss="tcl", positives=["class", "time"], lr=0.05, train_size=100)
    assert RunConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_name_spells_out_what_identifies_a_run():
    assert RunConfig().name == "digits-convnet-stcl-T4-s0"
    config = RunConfig(dataset="cifar10", backbone="resnet19", loss="ce", time_steps=6, seed=2)
    assert config.name == "cifar10-resnet19-ce-T6-s2"
    assert RunConfig(run_name="mine", lr=0.2).name == "mine"


def test_further_parameters_make_a_hash():
    names = [RunConfig(**changes).name for changes in ({}, {"lr": 0.2}, {"lr": 0.3}, {"epochs": 5})]
    assert len(set(names)) == 4
    assert all(name.startswith("digits-convnet-stcl-T4-s0-") for name in names[1:])
    assert all(len(name) == len("digits-convnet-stcl-T4-s0-") + 6 for name in names[1:])
    # parameters in the name are not in the hash
    assert names[1][-6:] == RunConfig(lr=0.2, seed=1, loss="ce").name[-6:]


@pytest.mark.parametrize(
    ("parameters", "name", "reason"),
    [
        *(
            ({"loss": loss, name: value}, name, f"loss='{loss}'")
            for loss in ("ce", "per_step_ce")
            for name, value in (
                ("temperature", 0.5),
                ("temporal_weight", 2.0),
                ("positives", ["class"]),
                ("time_pairs", "adjacent"),
                ("negatives", False),
            )
        ),
        ({"loss": "etc", "negatives": False}, "negatives", "loss='etc'"),
        ({"loss": "tcl", "time_pairs": "adjacent", "time_steps": 1}, "time_pairs", "time_steps=1"),
        ({"loss": "tcl", "time_pairs": "boundary", "time_steps": 2}, "time_pairs", "time_steps=2"),
        (
            {"loss": "tcl", "time_pairs": "adjacent", "positives": ["class"]},
            "time_pairs",
            "positives=['class']",
        ),
        ({"loss": "tcl", "negatives": False, "temperature": 0.5}, "temperature", "negatives=False"),
        ({"loss": "per_step_ce", "projection_dim": 0}, "projection_dim", "loss='per_step_ce'"),
        ({"loss": "ce", "tet_lambda": 0.5}, "tet_lambda", "loss='ce'"),
        ({"loss": "tcl", "tet_lambda": 0.5}, "tet_lambda", "loss='tcl'"),
        ({"optimizer": "adamw", "momentum": 0.5}, "momentum", "optimizer='adamw'"),
        ({"backbone": "vggsnn", "stem_width": 16}, "stem_width", "backbone='vggsnn'"),
    ],
)
def test_runconfig_refuses_a_parameter_without_effect(parameters, name, reason):
    with pytest.raises(ValueError, match="has no effect") as caught:
        RunConfig(**parameters)
    assert str(caught.value) == f"{name}={parameters[name]!r}: has no effect with {reason}"
    idle = without_effect(RunConfig().to_dict() | parameters)
    assert idle[name] == reason
    assert name not in RunConfig(**{k: v for k, v in parameters.items() if k != name}).identity()


@pytest.mark.parametrize(
    ("parameters", "idle"),
    [
        ({"loss": "tcl"}, {"positives": ["time", "class"]}),
        ({"loss": "stcl", "time_steps": 1}, {"positives": ["class", "view"]}),
        ({"loss": "stcl"}, {"views": 2}),
        ({"loss": "ce"}, {"views": 1}),
        ({"loss": "ce"}, {"ce_term": "mean", "temporal_term": "none"}),
        ({"loss": "tcl"}, {"temporal_weight": 0.5, "temperature": 0.1}),
        ({"loss": "etc"}, {"temporal_weight": 1.0, "temperature": 4.0, "temporal_term": "consistency"}),
        ({"dataset": "cifar10"}, {"flip": True}),
        ({"dataset": "dvs_cifar10"}, {"frame_size": 48}),
    ],
)
def test_identity_is_the_same_for_two_ways_to_say_the_same(parameters, idle):
    one, other = RunConfig(**parameters), RunConfig(**parameters, **idle)
    assert one.identity() == other.identity()
    assert one.name == other.name
    assert (one.setting, one.variant) == (other.setting, other.variant)


@pytest.mark.parametrize(
    ("parameters", "effective"),
    [
        ({"loss": "tcl"}, {"temperature": 0.5}),
        ({"loss": "stcl"}, {"positives": ["class", "time"]}),
        ({"loss": "tcl"}, {"positives": ["class"]}),
        ({"loss": "tcl"}, {"time_pairs": "adjacent"}),
        ({"loss": "tcl"}, {"negatives": False}),
        ({"loss": "etc"}, {"temperature": 1.0}),
        ({"loss": "tsd"}, {"temporal_weight": 1.0}),
        ({"loss": "etc"}, {"views": 2}),
        ({"loss": "tcl", "ce_term": "per_step"}, {"tet_lambda": 0.5}),
        ({"loss": "per_step_ce"}, {"tet_lambda": 0.5}),
        ({"loss": "ce"}, {"momentum": 0.5}),
        ({"backbone": "resnet19"}, {"stem_width": 16}),
        ({"backbone": "convnet"}, {"stem_width": 16}),
    ],
)
def test_what_has_an_effect_does(parameters, effective):
    one, other = RunConfig(**parameters), RunConfig(**parameters, **effective)
    assert one.identity() != other.identity()
    assert one.name != other.name
    assert (one.setting, one.variant) != (other.setting, other.variant)


def test_setting_and_variant_in_words():
    config = RunConfig(
        dataset="folder",
        data_root="data/cifar10-jpeg",
        loss="tcl",
        temperature=0.2,
        positives=["class"],
        train_size=10_000,
        seed=3,
    )
    assert config.setting == "folder (cifar10-jpeg), convnet, T = 4, train size 10000"
    assert config.variant == "TCL, temperature 0.2, positives class"
    assert RunConfig(loss="per_step_ce").variant == "per-step CE"
    split = {"dataset": "dvs_cifar10", "split": "seeded"}
    assert RunConfig(**split, seed=1).setting != RunConfig(**split, seed=2).setting


def test_where_a_run_lies_does_not_change_what_it_is(tmp_path):
    here = {"device": "cpu", "runs_dir": str(tmp_path), "overwrite": True, "data_root": str(tmp_path)}
    assert RunConfig(**here).name == RunConfig().name
    assert RunConfig(**here).identity() == RunConfig().identity()


def test_for_a_folder_the_data_are_part_of_what_it_is():
    relative = RunConfig(dataset="folder", data_root="data/images")
    absolute = RunConfig(dataset="folder", data_root=str(REPOSITORY / "data" / "images"))
    roundabout = RunConfig(dataset="folder", data_root="data/others/../images/")
    other = RunConfig(dataset="folder", data_root="data/others")
    assert relative.name == absolute.name == roundabout.name != other.name
    assert relative.identity() == absolute.identity()


def test_relative_paths_start_at_the_repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert RunConfig(runs_dir="runs").run_path == REPOSITORY / "runs" / RunConfig().name
    assert RunConfig().run_path == RunConfig(runs_dir="runs").run_path
    assert RunConfig(data_root="data").data_path == RunConfig().data_path == REPOSITORY / "data"
    assert RunConfig(runs_dir=str(tmp_path)).run_path.parent == tmp_path


def notebook_namespace(*injected: str) -> dict:
    """What globals() holds after the parameters cell and these cells of papermill's."""
    namespace = RunConfig().to_dict() | {"In": ["", "parameters", *injected]}
    for code in injected:
        exec(code, namespace)
    return namespace


def test_the_notebook_s_parameters_become_the_config():
    namespace = notebook_namespace("# Parameters\nloss = 'ce'\nseed = 4\n")
    assert RunConfig.from_notebook(namespace) == RunConfig(loss="ce", seed=4)


@pytest.mark.parametrize(
    ("wrong", "meant"), [("lrr", "lr"), ("time_step", "time_steps"), ("epoch", "epochs"), ("los", "loss")]
)
def test_a_mistyped_parameter_is_refused(wrong, meant):
    with pytest.raises(ValueError, match=rf"unknown parameter {wrong}, did you mean {meant}\?"):
        RunConfig.from_notebook(notebook_namespace(f"# Parameters\n{wrong} = 0.5\n"))
    with pytest.raises(ValueError, match=rf"unknown parameter {wrong}, did you mean {meant}\?"):
        RunConfig(**{wrong: 0.5})


def test_a_mended_mistake_is_forgiven():
    namespace = notebook_namespace("# Parameters\nlrr = 0.5\n", "# Parameters\nlr = 0.5\n")
    assert RunConfig.from_notebook(namespace) == RunConfig(lr=0.5)


def test_a_parameter_like_no_other_gets_the_list():
    with pytest.raises(ValueError, match=r"unknown parameter qqq, known are dataset, .*, overwrite"):
        RunConfig.from_notebook(notebook_namespace("# Parameters\nqqq = 1\n"))


def test_variables_of_the_reader_s_own_are_no_parameters():
    namespace = notebook_namespace("mine = 3\n", "for i in range(2):\n    pass\n")
    assert RunConfig.from_notebook(namespace) == RunConfig()


def test_a_missing_parameter_is_named():
    with pytest.raises(ValueError, match="parameter dataset is missing"):
        RunConfig.from_notebook({"In": [""]})


@pytest.mark.parametrize("name", ["decay", "weight_decay"])
def test_negative_zero_is_zero(name):
    zero, negative = RunConfig(**{name: 0.0}), RunConfig(**{name: -0.0})
    assert (negative.name, negative.setting) == (zero.name, zero.setting)
    assert math.copysign(1, getattr(negative, name)) == 1
