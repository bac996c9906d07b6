"""Losses and backbones of one's own: what is refused, what follows from an argument, and that all works."""

import hashlib
import inspect
import pickle
import subprocess
import sys
from types import ModuleType

import pytest
import torch
from conftest import write_run
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.figure import Figure
from torch import nn
from torch.testing import assert_close

import tcl_lib
from tcl_lib import RunConfig, build_network, figures, grid, load_runs, losses, runs, train_grid
from tcl_lib.analysis import statistics
from tcl_lib.backbones import NetworkOutput, convnet
from tcl_lib.config import registry
from tcl_lib.config.registry import BACKBONES, CE_TERMS, LOSSES, TEMPORAL_TERMS
from tcl_lib.training.build import loss_terms, total_loss

pytestmark = pytest.mark.usefixtures("own_names")


def last_ce(logits, labels):
    return losses.ce(logits[-1:], labels)


def drawn(embeddings, labels, positives=("class", "time", "view"), temperature=0.5):
    return losses.temporal_contrastive_loss(embeddings, labels, temperature, positives)


def counted(logits, **parameters):
    return logits.mean() * len(parameters)


def narrow(channels, image_size, num_classes, stem_width, **options):
    network = convnet(channels, image_size, num_classes, **options)
    network.stem_width = stem_width
    return network


def register(**changes):
    """Register the loss of most tests: its temporal term uses embeddings, positives and temperature."""
    tcl_lib.register_loss(**{"name": "mine", "label": "Mine", "temporal_term": drawn} | changes)


# the built-in entries


@pytest.mark.parametrize("table", [CE_TERMS, TEMPORAL_TERMS], ids=["ce_term", "temporal_term"])
def test_registry_lists_the_arguments_of_every_term_s_function(table):
    for name, term in table.items():
        if term is not None:
            signature = inspect.signature(registry.function_of(term)).parameters
            assert set(term.arguments) == set(signature), name
            default = signature["temperature"].default if "temperature" in signature else None
            assert term.temperature == default, name


def test_registry_lists_the_parameters_of_every_backbone_s_function():
    for name, backbone in BACKBONES.items():
        signature = inspect.signature(registry.function_of(backbone)).parameters
        assert set(backbone.parameters) == set(signature) & set(registry.BACKBONE_PARAMETERS), name


def test_registry_draws_every_loss_otherwise():
    assert len({loss.colour for loss in LOSSES.values()}) == len(LOSSES)
    assert len({loss.marker for loss in LOSSES.values()}) == len(LOSSES)
    assert len({loss.label for loss in LOSSES.values()}) == len(LOSSES)


# what a registration refuses


def misspelt(logits, labels, temprature=0.1):
    return logits.mean()


def no_default(logits, temperature):
    return logits.mean()


def other_default(logits, labels, tet_lambda=0.3):
    return logits.mean()


def undeclared(logits):
    return (logits / temperature).mean()  # noqa: F821


def shaped(logits):
    return logits.mean(0)


def forgot(logits):
    logits.mean()


def detached(logits, labels):
    return losses.ce(logits.detach(), labels)


def unknown(logits):
    return logits.mean() * not_there  # noqa: F821


def nothing(labels):
    return labels.sum()


def several(*logits):
    return logits[0]


def loss(logits):
    return logits.mean()


def contrastive(logits):
    return logits.mean()


def threads(logits):
    return logits.mean()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "tcl"}, "'tcl': is registered already, with other content; give another name"),
        ({"name": "tcl", "temporal_term": "none"}, "'tcl': is registered already, with other content"),
        ({"name": "my loss"}, "name='my loss': must be up to 100 letters, digits"),
        ({"label": ""}, "label='': must be a text of one line without ', '"),
        ({"label": "Mine, too"}, "label='Mine, too': must be a text of one line without ', '"),
        ({"label": None}, "label=None: must be a text of one line without ', '"),
        ({"label": "Costs $1"}, "label='Costs $1': must be a text of one line without ', ' and '$'"),
        ({"label": "_Mine"}, "label='_Mine': must not begin with '_', matplotlib's sign for no label"),
        ({"label": "TCL"}, "label='TCL': is that of loss='tcl'"),
        ({"views": 3}, "views=3: must be 1 or 2"),
        ({"colour": "blurple"}, "colour='blurple': must be a colour of matplotlib, such as '#0173b2'"),
        ({"colour": "none"}, "colour='none': must be a colour of matplotlib, such as '#0173b2'"),
        ({"marker": "oo"}, "marker='oo': must be a marker of matplotlib, such as 'o'"),
        ({"marker": ""}, "marker='': must be a marker of matplotlib, such as 'o'"),
        (
            {"ce_term": "prefx"},
            "ce_term='prefx': must be 'mean', 'per_step' or 'prefix'; did you mean 'prefix'?",
        ),
        ({"ce_term": None}, "ce_term=None: must be a valid string"),
        ({"temporal_term": "none"}, "mine: is loss='ce' already; give that, or a function of your own"),
        (
            {"temporal_term": "none", "views": 2},
            "mine: is loss='ce', views=2 already; give that, or a function of your own",
        ),
        (
            {"temporal_term": "contrastive", "views": 2},
            "mine: is loss='stcl' already; give that, or a function of your own",
        ),
        (
            {"ce_term": "prefix", "temporal_term": "contrastive"},
            "mine: is loss='tcl', ce_term='prefix' already; give that, or a function of your own",
        ),
        ({"temporal_term": misspelt}, "misspelt: unknown parameter temprature, did you mean temperature?"),
        ({"temporal_term": several}, "several: logits must be an argument that is given by name"),
        ({"temporal_term": no_default}, "no_default: temperature needs a default, a number > 0"),
        (
            {"temporal_term": other_default},
            "other_default: tet_lambda=0.3 never applies, RunConfig has 0.0; leave the default out",
        ),
        ({"temporal_term": undeclared}, "undeclared: reads temperature, which is no argument of it"),
        ({"temporal_term": shaped}, "shaped: must return a scalar tensor, got shape [1, 8, 10]"),
        ({"temporal_term": forgot}, "forgot: must return a scalar tensor, got 'NoneType'"),
        ({"ce_term": detached}, "detached: has no gradient"),
        (
            {"temporal_term": unknown},
            "unknown: fails with random tensors (NameError: name 'not_there' is not defined)",
        ),
        ({"temporal_term": nothing}, "nothing: must take logits or embeddings"),
        ({"temporal_term": loss}, "temporal_term=loss: the name is taken; give the function another"),
        ({"ce_term": contrastive}, "ce_term=contrastive: the name is taken; give the function another"),
        ({"temporal_term": contrastive}, "temporal_term=contrastive: the name is taken; give the function"),
        ({"temporal_term": threads}, "temporal_term=threads: the name is taken; give the function another"),
        ({"ce_term": last_ce, "temporal_term": last_ce}, "temporal_term=last_ce: is the cross-entropy too"),
        ({"temporal_term": nn.CrossEntropyLoss()}, "temporal_term=CrossEntropyLoss(): must be a function"),
    ],
)
def test_register_loss_refuses_in_one_line(changes, words):
    before = [dict(table) for table in (CE_TERMS, LOSSES, TEMPORAL_TERMS)]
    with pytest.raises(ValueError, match=r".") as caught:
        register(**changes)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
    assert [dict(table) for table in (CE_TERMS, LOSSES, TEMPORAL_TERMS)] == before


def test_register_loss_refuses_the_columns_of_a_table_of_metrics(trained):
    columns = runs.gather(load_runs(trained.path.parent), "metrics").columns
    assert {"epoch", "variant", "validation_accuracy", "firing_rate_1"} <= set(columns)
    for column in columns:

        def term(logits):
            return logits.mean()

        term.__name__ = column
        with pytest.raises(ValueError, match=f"temporal_term={column}: the name is taken"):
            register(temporal_term=term)


def test_register_loss_refuses_a_lambda():
    with pytest.raises(ValueError, match=r"must be a function with a name \(def\)"):
        register(temporal_term=lambda logits: logits.mean())


def test_register_loss_needs_a_label():
    with pytest.raises(TypeError, match="label"):
        tcl_lib.register_loss("mine", ce_term=last_ce)


def test_register_loss_may_be_repeated_and_not_changed():
    register()
    before = dict(LOSSES)
    register()
    assert dict(LOSSES) == before
    for changes in ({"label": "Other"}, {"views": 2}, {"marker": "x"}, {"ce_term": last_ce}):
        with pytest.raises(ValueError, match="'mine': is registered already, with other content"):
            register(**changes)
    assert dict(LOSSES) == before


def few(channels, image_size, num_classes):
    return None


def deep(channels, image_size, num_classes, stem_with=64, **options):
    return None


@pytest.mark.parametrize(
    ("name", "function", "words"),
    [
        ("convnet", narrow, "'convnet': is registered already, with other content"),
        ("few", few, "few: must take neuron, time_steps, projection_dim, as convnet does"),
        ("deep", deep, "deep: unknown parameter stem_with, did you mean stem_width?"),
        ("model", nn.Linear, "function=<class 'torch.nn.modules.linear.Linear'>: must be a function"),
    ],
)
def test_register_backbone_refuses_in_one_line(name, function, words):
    with pytest.raises(ValueError, match=r".") as caught:
        tcl_lib.register_backbone(name, function)
    assert str(caught.value).startswith(words)


# what follows from a registration


def test_registered_loss_uses_the_parameters_of_its_functions():
    register()
    config = RunConfig(loss="mine")
    assert config.variant == "Mine"
    assert {"temperature", "positives", "projection_dim"} <= config.identity().keys()
    assert not {"time_pairs", "negatives", "tet_lambda"} & config.identity().keys()
    assert config.identity()["temperature"] == 0.5
    assert config.identity()["temporal_weight"] == 1  # as the help of the parameter says
    assert config.identity() == RunConfig(loss="mine", temperature=0.5).identity()
    with pytest.raises(ValueError, match="negatives=False: has no effect with loss='mine'"):
        RunConfig(loss="mine", negatives=False)


def test_registered_loss_at_three_temperatures_is_three_runs():
    register()
    configs = grid(losses=["ce", "mine"], temperature=[0.1, 0.2, 0.5])
    assert [config.variant for config in configs] == [
        *("CE", "Mine, temperature 0.1", "Mine, temperature 0.2", "Mine"),
    ]
    assert len({config.name for config in configs}) == 4


def test_registered_loss_gets_a_projection_head_if_it_uses_embeddings():
    register()
    tcl_lib.register_loss("last", label="Last", ce_term=last_ce)
    for name, kind in (("mine", nn.Sequential), ("last", nn.Identity)):
        assert isinstance(build_network(RunConfig(loss=name), (1, 8, 8), 10).projection, kind)


def test_registered_loss_with_parameters_uses_all_of_them():
    tcl_lib.register_loss("all", label="All", temporal_term=counted)
    config = RunConfig(loss="all", temperature=0.3, tet_lambda=0.1, time_pairs="adjacent", negatives=False)
    assert set(registry.TERM_PARAMETERS) <= config.identity().keys()
    assert "projection_dim" not in config.identity()
    output = NetworkOutput(*(torch.ones(4, 3, 2) for _ in range(3)))
    assert loss_terms(output, torch.tensor([0, 1, 0]), config)["counted"] == len(registry.TERM_PARAMETERS)


def test_registered_terms_stand_beside_the_others():
    register()
    tcl_lib.register_loss("last", label="Last", ce_term=last_ce)
    config = RunConfig(loss="tcl", ce_term="last_ce")
    assert config.variant == "TCL, ce term last_ce"
    assert RunConfig(loss="mine", ce_term="per_step").variant == "Mine, ce term per_step"
    assert RunConfig(loss="ce", ce_term="last_ce") == RunConfig(loss="last")


def test_registered_loss_of_two_views_keeps_its_name_with_one():
    register(views=2)
    assert RunConfig(loss="mine", views=1).loss == "mine"
    assert RunConfig(loss="ce", temporal_term="drawn") == RunConfig(loss="mine", views=1)


def test_loss_terms_call_a_registered_function_with_views_apart():
    register(ce_term=last_ce, views=2)
    generator = torch.Generator().manual_seed(0)
    output = NetworkOutput(*(torch.randn(3, 8, width, generator=generator) for width in (5, 6, 7)))
    labels = torch.tensor([0, 1, 1, 0])
    config = RunConfig(loss="mine", temporal_weight=0.3, positives=["view"])
    terms = loss_terms(output, labels, config)
    z = output.embeddings.unflatten(1, (2, 4))
    assert_close(terms["last_ce"], losses.ce(output.logits[-1:], labels.repeat(2)))
    assert_close(terms["drawn"], losses.temporal_contrastive_loss(z, labels, 0.5, ["view"]))
    assert_close(total_loss(terms, config), terms["last_ce"] + 0.3 * terms["drawn"])
    assert total_loss(terms, RunConfig(loss="mine")) == terms["last_ce"] + terms["drawn"]  # weight 1


def test_registered_backbone_takes_the_parameters_that_it_names():
    tcl_lib.register_backbone("narrow", narrow)
    config = RunConfig(backbone="narrow", stem_width=16)
    assert build_network(config, (1, 8, 8), 10).stem_width == 16
    assert config.identity() != RunConfig(backbone="narrow").identity()
    tcl_lib.register_backbone("plain", no_network)
    with pytest.raises(ValueError, match="stem_width=16: has no effect with backbone='plain'"):
        RunConfig(backbone="plain", stem_width=16)
    with pytest.raises(ValueError, match="backbone='plain': must return a SpikingNetwork"):
        build_network(RunConfig(backbone="plain"), (1, 8, 8), 10)


def no_network(channels, image_size, num_classes, **options):
    return nn.Linear(1, 1)


def without_steps(channels, image_size, num_classes, neuron, time_steps, projection_dim=0):
    return convnet(channels, image_size, num_classes, neuron, projection_dim=projection_dim)


def with_ten_classes(channels, image_size, num_classes, **options):
    return convnet(channels, image_size, 10, **options)


def without_a_head(channels, image_size, num_classes, neuron, time_steps, projection_dim=0):
    return convnet(channels, image_size, num_classes, neuron, time_steps=time_steps)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        (without_steps, "time_steps"),
        (with_ten_classes, "num_classes"),
        (without_a_head, "projection_dim"),
    ],
)
def test_registered_backbone_that_ignores_an_argument_is_refused(function, argument):
    tcl_lib.register_backbone("other", function)
    with pytest.raises(ValueError, match=f"backbone='other': ignores {argument}; hand it on"):
        build_network(RunConfig(backbone="other", time_steps=3), (1, 8, 8), 7)


# the code is part of what a run is


CELL = """
import tcl_lib
scale, power = {scale}, {power}

def scaled(values, power=power):
    return {factor} * values**power

def mine(logits):
    return scale * scaled(logits).mean()

tcl_lib.register_loss("mine", label="Mine", temporal_term=mine)
"""


@pytest.fixture(autouse=True)
def no_shell():
    """Figures are shown otherwise while there is one."""
    yield
    InteractiveShell.clear_instance()


def run_cell(text: str) -> None:
    InteractiveShell.instance().run_cell(text, store_history=True).raise_error()


def test_registered_loss_of_a_cell_is_another_run_with_other_code():
    names = []
    first = {"scale": 1, "factor": 2, "power": 1}
    for change in ({}, {"scale": 2}, {"factor": 3}, {"power": 2}):
        run_cell(CELL.format(**first | change))
        run_cell(CELL.format(**first | change))  # as when a cell is run twice
        names.append(RunConfig(loss="mine").name)
        assert RunConfig(loss="mine").variant == "Mine"
        assert RunConfig(loss="mine").setting == RunConfig(loss="ce").setting
        del LOSSES["mine"], TEMPORAL_TERMS["mine"]
    assert len(set(names)) == 4
    assert all(name.startswith("digits-convnet-mine-T4-s0-") for name in names)


def test_registered_loss_of_a_cell_follows_what_the_notebook_changes():
    run_cell(CELL.format(scale=1, factor=2, power=1))
    before = RunConfig(loss="mine").name
    run_cell("scale = 5")
    other = RunConfig(loss="mine").name
    run_cell("scale = 1")
    assert other != before == RunConfig(loss="mine").name
    run_cell("def scaled(values, power=power): return values")
    assert len({before, other, RunConfig(loss="mine").name}) == 3
    assert len(RunConfig(loss="mine").code["temporal_term"]) == 64


@pytest.mark.parametrize("inside", ["mine", "scaled"])
def test_register_loss_refuses_a_parameter_of_the_notebook_that_is_read_and_not_taken(inside):
    factor = {"mine": "1", "scaled": "temperature"}[inside]
    cell = "temperature = 0.5\n" + CELL.format(scale=1, factor=factor, power=1)
    if inside == "mine":
        cell = cell.replace("return scale", "return temperature")
    with pytest.raises(ValueError, match="mine: reads temperature, which is no argument of it"):
        run_cell(cell)


def test_registered_loss_of_a_changed_cell_is_refused():
    run_cell(CELL.format(scale=1, factor=2, power=1))
    with pytest.raises(ValueError, match=r"'mine': is registered already.* restart Python if you changed it"):
        run_cell(CELL.format(scale=1, factor=3, power=1))


def test_register_backbone_takes_a_cell_with_a_neuron_as_default():
    run_cell("""
import tcl_lib
from tcl_lib.backbones import LIF_BOX, convnet

def of_a_cell(channels, image_size, num_classes=10, neuron=LIF_BOX, **options):
    return convnet(channels, image_size, num_classes, neuron=neuron, **options)

tcl_lib.register_backbone("of_a_cell", of_a_cell)
""")
    assert len(RunConfig(backbone="of_a_cell").code["backbone"]) == 64


def test_register_loss_refuses_a_cell_that_reads_a_tensor():
    with pytest.raises(ValueError, match="mine: reads scale, a Tensor; define it in a file"):
        run_cell("import torch\n" + CELL.format(scale="torch.ones(1)", factor=1, power=1))


def test_register_loss_refuses_a_function_whose_file_cannot_be_read(own_names, monkeypatch):
    typed = ModuleType("typed")  # as `python - < FILE` has it
    typed.__file__ = "<stdin>"
    monkeypatch.setitem(sys.modules, "typed", typed)
    exec("def mine(logits): return logits.var()", typed.__dict__)
    with pytest.raises(ValueError, match="mine: its source cannot be read"):
        tcl_lib.register_loss("own", label="Own", temporal_term=typed.mine)


PLUGIN = """
import tcl_lib
from tcl_lib import losses

def last_step(logits, labels):
    return losses.ce(logits[-1:], labels)

tcl_lib.register_loss("last_step", label="last step", ce_term=last_step)
"""


@pytest.fixture
def plugin(tmp_path):
    path = tmp_path / "my_losses.py"
    path.write_text(PLUGIN)
    return path


def test_plugin_is_imported_before_the_parameters_are_checked(plugin, monkeypatch):
    config = RunConfig(plugin=str(plugin), loss="last_step")
    assert config.code["ce_term"] == hashlib.sha256(plugin.read_bytes()).hexdigest()
    assert config.identity()["code"] == config.code
    (again,) = grid(plugin=str(plugin), losses=["last_step"])
    assert again.name == config.name
    # what does not use it is the same run with it
    assert RunConfig(plugin=str(plugin), loss="ce").identity() == RunConfig(loss="ce").identity()
    monkeypatch.setenv("TCL_HOME", str(plugin.parent))
    assert RunConfig(plugin="my_losses.py", loss="last_step").name == config.name


WRAPPED = """
from functools import wraps
import tcl_lib

FACTOR = 2

def scaled(by):
    def decorate(function):
        @wraps(function)
        def scaled_function(logits):
            return FACTOR * by * function(logits)
        return scaled_function
    return decorate

@scaled(by=3)
def spread(logits):
    return logits.var(0).mean()

tcl_lib.register_loss("mine", label="Mine", temporal_term=spread)
"""


def test_plugin_with_a_decorated_function_is_another_run_with_other_code_wherever_it_lies(
    tmp_path, own_names
):
    codes = []
    changes = ("FACTOR = 2", "FACTOR = 2"), ("FACTOR = 2", "FACTOR = 3"), ("by=3", "by=4")
    for number, change in enumerate(changes):
        (tmp_path / str(number)).mkdir()
        path = tmp_path / str(number) / "plugin.py"
        path.write_text(WRAPPED.replace(*change))
        codes.append(RunConfig(plugin=str(path), loss="mine").code["temporal_term"])
        del LOSSES["mine"], TEMPORAL_TERMS["spread"]
    again = tmp_path / "again.py"
    again.write_text(WRAPPED)
    assert RunConfig(plugin=str(again), loss="mine").code["temporal_term"] == codes[0]
    assert len(set(codes)) == 3


def test_registered_function_with_the_name_of_another_is_refused(tmp_path, monkeypatch):
    first = "def term(logits): return logits.mean()\n"
    register_one = "tcl_lib.register_loss('first', label='First', temporal_term=term)\n"
    other = register_one.replace("first", "second").replace("First", "Second")
    text = "import tcl_lib\n" + first + register_one + first.replace("mean", "var") + other
    path = tmp_path / "twice.py"
    path.write_text(text)
    with pytest.raises(ValueError, match="'term': is registered already, with other content"):
        RunConfig(plugin=str(path))


def test_plugin_may_be_a_module(plugin, monkeypatch):
    monkeypatch.syspath_prepend(plugin.parent)
    path = RunConfig(plugin=str(plugin), loss="last_step")
    assert RunConfig(plugin="my_losses", loss="last_step").name == path.name
    assert RunConfig(plugin="my_losses", loss="last_step").name == path.name  # imported already
    del sys.modules["my_losses"]


def test_plugin_with_other_code_is_another_run(plugin):
    before = RunConfig(plugin=str(plugin), loss="last_step").name
    plugin.write_text(PLUGIN.replace("[-1:]", "[-2:]"))
    with pytest.raises(ValueError, match="has changed since it was imported: restart Python"):
        RunConfig(plugin=str(plugin), loss="last_step")
    code = f"from tcl_lib import RunConfig; print(RunConfig(plugin={str(plugin)!r}, loss='last_step').name)"
    after = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert after.stdout.strip().startswith("digits-convnet-last_step-T4-s0-")
    assert after.stdout.strip() != before


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be imported (FileNotFoundError: "),
        ("1 / 0\n", "cannot be imported (ZeroDivisionError: division by zero)"),
        ("import sys\n\nsys.exit(2)\n", "cannot be imported (SystemExit: 2)"),
        ("def (:\n", "cannot be imported (SyntaxError: "),
        ("x = 1\n", "registers nothing; call tcl_lib.register_loss or register_backbone in it"),
        (PLUGIN.replace('"last step"', '""'), "cannot be imported (ValueError: label='': must be a text"),
    ],
)
def test_plugin_that_does_not_work_is_refused_in_one_line(tmp_path, content, words):
    path = tmp_path / "broken.py"
    if content is not None:
        path.write_text(content)
    for _ in range(2):
        with pytest.raises(ValueError, match=r".") as caught:
            RunConfig(plugin=str(path))
        assert str(caught.value).startswith(f"plugin={str(path)!r}: {words}")
        assert "\n" not in str(caught.value)


def test_plugin_of_no_registrations_is_refused_when_it_is_imported_already():
    with pytest.raises(ValueError, match="plugin='json': registers nothing"):
        RunConfig(plugin="json")


def test_plugin_may_import_the_module_that_registers(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_by_a_plugin.py").write_text(PLUGIN)
    (tmp_path / "outer.py").write_text("import imported_by_a_plugin\n")
    names = {RunConfig(plugin=str(tmp_path / "outer.py"), loss="last_step").name for _ in range(2)}
    assert len(names) == 1
    del sys.modules["imported_by_a_plugin"]


def test_plugin_is_imported_where_a_config_arrives_in_another_process(plugin, tmp_path):
    config = RunConfig(plugin=str(plugin), loss="last_step", seed=3)
    (tmp_path / "config").write_bytes(pickle.dumps(config))
    code = "import pickle, sys; config = pickle.load(open(sys.argv[1], 'rb')); print(config.name)"
    command = [sys.executable, "-c", code, str(tmp_path / "config")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == config.name


# everything works


def test_registered_loss_and_backbone_train_and_appear_everywhere(tiny, tmp_path):
    register()
    tcl_lib.register_backbone("narrow", narrow)
    shared = tiny(backbone="narrow", stem_width=8, train_size=200).to_dict()
    shared = {
        name: shared[name]
        for name in ("backbone", "stem_width", "runs_dir", "train_size", "epochs", "device")
    }
    choices = {"temperature": [0.1, 0.5], "positives": [["class"], ["class", "time"]]}
    lists = {"time_steps": [2], "batch_size": [32], "projection_dim": [16]} | choices
    table = train_grid(grid(losses=["ce", "mine"], **lists, **shared))
    assert table["loss"].value_counts().to_dict() == {"ce": 1, "mine": 4}
    assert set(load_runs(tmp_path / "runs")["variant"]) == set(table["variant"])
    (rows,) = statistics.settings(table).values()
    metrics = runs.gather(rows, "metrics")
    assert metrics.groupby("variant")["drawn"].count().to_dict()["CE"] == 0
    assert (metrics["drawn"].dropna() > 0).all()
    accuracy = runs.gather(rows, "accuracy_by_step")
    assert set(statistics.compare(accuracy)["variant"]) == set(rows["variant"])
    one = load_run_of(rows, "mine")
    curves = figures.accuracy_by_step(rows)
    labels = {line.get_label() for axes in curves.axes for line in axes.get_lines()}
    assert set(rows["variant"]) <= labels
    every = (figures.accuracy_by_energy, figures.training_curves, figures.sensitivity, figures.positives)
    every += (figures.similarity, figures.accuracy_by_similarity, figures.tsne)
    drawings = [curves, *[draw(rows) for draw in every]]
    drawings += [figures.learning_curves(one), figures.firing_rates(one)]
    for drawing in drawings:
        assert isinstance(drawing, Figure)
        drawing.draw_without_rendering()
    assert "drawn" in {line.get_label() for line in drawings[-2].axes[0].get_lines()}
    assert tcl_lib.load_network(one).stem_width == 8


def soft_ce(logits, labels, temperature=2.0):
    return losses.ce(logits / temperature, labels)


def test_registered_cross_entropy_with_a_temperature_of_its_own_is_trained_read_and_drawn(tiny):
    tcl_lib.register_loss("soft", label="Soft", ce_term=soft_ce, temporal_term="contrastive")
    soft = [tiny(epochs=1, loss="soft", temporal_weight=weight) for weight in (0.5, 2.0)]
    table = train_grid([tiny(epochs=1), *soft])
    (legend,) = figures.learning_curves(table).legends
    drawn = {text.get_text() for text in legend.get_texts()}
    assert {"soft ce", "contrastive", "cross entropy", "loss"} <= drawn
    assert statistics.varied(table, "temperature", "temporal_weight").empty  # it has two temperatures


def step_variance(logits):
    return logits.var(0).mean()


def test_registered_loss_without_a_temperature_is_shown_by_its_weight(tiny):
    tcl_lib.register_loss("steady", label="Steady", temporal_term=step_variance)
    weights = [0.2, 1.0]
    for loss, changes in (
        ("steady", [{"temporal_weight": weight} for weight in weights]),
        ("tcl", [{"temporal_weight": weight, "temperature": 0.2} for weight in weights]),
        ("tcl", [{"temperature": temperature} for temperature in (0.1, 0.2)]),
    ):
        for one in changes:
            write_run(tiny(loss=loss, **one), validation_accuracy=50 + 10 * one.get("temporal_weight", 0))
    table = load_runs(tiny().run_path.parent)
    for rows in (table, table[table["loss"] == "steady"]):
        axis = figures.sensitivity(rows).axes[-1]
        (line,) = (container.lines[0] for container in axis.containers)
        assert axis.get_title("left").endswith(" Steady, $t = T = 2$")
        assert (*line.get_xdata(), *line.get_ydata()) == (0.2, 1.0, 52, 60)
        assert axis.get_xlabel() == "weight of the temporal term"


def load_run_of(rows, loss):
    return runs.load_run(rows[rows["loss"] == loss]["path"].iloc[0])


def test_run_of_a_loss_of_a_notebook_says_to_register_it(tiny):
    def last_one(logits, labels):
        return losses.ce(logits[-1:], labels)

    tcl_lib.register_loss("last_one", label="Last one", ce_term=last_one)
    path = tcl_lib.train(tiny(loss="last_one", epochs=1), verbose=False).path
    del LOSSES["last_one"]
    with pytest.raises(
        ValueError, match=r"loss='last_one': must be .*; first register the run's own loss"
    ) as caught:
        tcl_lib.load_run(path)
    assert "measure_again" not in str(caught.value)  # it would need the loss, too


def test_run_of_a_loss_that_is_not_registered_says_what_to_import(tiny, plugin, tmp_path):
    run = tcl_lib.train(tiny(loss="last_step", plugin=str(plugin), epochs=1), verbose=False)
    assert tcl_lib.load_run(run.path).config.identity() == run.config.identity()
    del LOSSES["last_step"]
    words = f"loss='last_step': must be .*; first call tcl_lib.import_plugin\\({str(plugin)!r}\\)"
    with pytest.raises(ValueError, match=words) as caught:
        tcl_lib.load_run(run.path)
    assert "\n" not in str(caught.value)
    with pytest.warns(UserWarning, match=words):
        assert load_runs(tmp_path / "runs").empty

    # the same name with other code is another loss
    def last_step(logits, labels):
        return losses.ce(logits[-1:], labels)

    del CE_TERMS["last_step"]
    tcl_lib.register_loss("last_step", label="last step", ce_term=last_step)
    with pytest.raises(
        ValueError, match="was trained with other code of its own loss or backbone than there is"
    ):
        tcl_lib.load_run(run.path)
