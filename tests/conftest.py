"""What tests share: a run small enough for seconds, and folders of images."""

import atexit
import gc
import logging
import os
import shutil
import sys
from pathlib import Path

# Before torch is imported, for the processes that tests start too: two workers on two cores; and torch takes
# the processor's word for its vector instructions, which it would try out for ten seconds in every process.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["TORCHINDUCTOR_VEC_ISA_OK"] = "1"
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # no pool of processes that import torch to compile

import hypothesis
import numpy as np
import pandas as pd
import pytest
from PIL import Image

import tcl_lib  # torch only when it is used: pytest-xdist's main process runs no test
from tcl_lib import RunConfig
from tcl_lib.config.registry import BACKBONES, CE_TERMS, LOSSES, TEMPORAL_TERMS, import_plugin
from tcl_lib.config.rules import without_effect
from tcl_lib.runs import contents, layout, life
from tcl_lib.utils.paths import CHECKOUT as REPOSITORY

# Compiled neurons are kept where runs keep them, for all processes that tests start.
os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(REPOSITORY / "data" / "cache" / "compiled"))
# nbformat would have jsonschema make a parser of addresses, for four seconds, to use it nowhere.
sys.modules["rfc3987_syntax"] = None

# The same examples in every run of the tests, and files may be slow: others with --hypothesis-profile=random.
hypothesis.settings.register_profile("same", deadline=None, derandomize=True, max_examples=15)
slow = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("random", deadline=None, max_examples=1000, suppress_health_check=slow)
hypothesis.settings.load_profile("same")


if "PYTEST_XDIST_WORKER" in os.environ:
    atexit.register(os._exit, 0)  # Python would take seconds to clear all modules away


def pytest_collection():
    """Collect no garbage while torch and the tests are imported."""
    gc.disable()


def pytest_collection_finish():
    """Leave what they are made of out of garbage collection: half a second each time."""
    gc.freeze()
    gc.enable()


def messages(warned) -> list[str]:
    """What `pytest.warns` or `recwarn` caught, of ours, as text."""
    return [str(warning.message) for warning in warned if warning.category is UserWarning]


def too_long(*values):
    """A parameter's values in tests that only `make soak` has the time for."""
    return [pytest.param(*(v if isinstance(v, tuple) else [v]), marks=pytest.mark.soak) for v in values]


# Real recordings, not part of the repository; the README says what they are and where they come from.
RECORDINGS = REPOSITORY / "data" / "recordings"
needs_recordings = pytest.mark.skipif(
    not RECORDINGS.is_dir(), reason=f"real recordings are not in {RECORDINGS}"
)


@pytest.fixture(autouse=True)
def surroundings(monkeypatch):
    """The same draws in every test, whatever ran before it, and no sign of a notebook that is watched."""
    import torch

    torch.manual_seed(0)
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    yield
    log = logging.getLogger("tcl_lib")  # a test may have called `notebooks.show_messages`
    log.handlers, log.propagate = [], True


@pytest.fixture
def tiny(tmp_path):
    """A function giving the config of a run of about a second on real digits, in a temporary folder."""
    return tiny_in(tmp_path / "runs")


@pytest.fixture(scope="session")
def trained_once(tmp_path_factory):
    """The folder of the run of `tiny()`, trained once for all tests; not to be changed."""
    return tcl_lib.train(tiny_in(tmp_path_factory.mktemp("trained"))(), verbose=False).path


@pytest.fixture
def trained(trained_once, tiny):
    """The finished run of `tiny()`, in a folder of its own that a test may change."""
    return tcl_lib.load_run(shutil.copytree(trained_once, tiny().run_path))


def tiny_in(folder: Path):
    def config(**changes) -> RunConfig:
        small = {
            "train_size": 96,
            "time_steps": 2,
            "epochs": 2,
            "batch_size": 32,
            "projection_dim": 16,
            "runs_dir": str(folder),
            "device": "cpu",
            "precision": "32-true",  # on every machine the same
        }
        import_plugin(changes.get("plugin"))
        idle = without_effect(RunConfig().to_dict() | small | changes)  # projection_dim beside loss="ce"
        return RunConfig(**{k: v for k, v in small.items() if k not in idle} | changes)

    return config


def write_run(config: RunConfig, *, test_size: int = 360, tables: dict[str, dict] | None = None, **result):
    """Write the folder of a finished run: these columns of its tables and these results, the others are 1."""
    path = config.run_path
    path.mkdir(parents=True)
    images = {"train": 96, "validation": 144, "test": test_size}
    prints = {part: f"{part} of seed {config.seed}".replace(" ", "-") for part in images} | {"test": "test"}
    data = {"image_shape": [1, 8, 8], "classes": list("0123456789"), "images": images, "fingerprint": prints}
    written = {"parameters": config.to_dict(), "code": config.code, "data": data}
    written |= {"machine": "made, 1 thread, Linux", "threads": 1}
    layout.write_json(path / layout.CONFIG, written)
    for name, columns in (tables or {}).items():
        table = pd.DataFrame(columns)
        others = [column for column in contents.COLUMNS[name][1:] if column not in table]
        layout.write_table(path / name, config.data_label, table.assign(**dict.fromkeys(others, 1)))
    life.finish(path, dict.fromkeys(contents.Result.__required_keys__, 1) | result)


@pytest.fixture
def own_names():
    """What a test registers is forgotten after it."""
    before = [(table, dict(table)) for table in (BACKBONES, CE_TERMS, LOSSES, TEMPORAL_TERMS)]
    yield
    for table, content in before:
        table.clear()
        table.update(content)
    for name in [name for name in sys.modules if name.startswith("plugin ")]:
        del sys.modules[name]


@pytest.fixture
def image_folder(tmp_path):
    """A folder of images: two classes, `train` and `test`, one file of each kind that can be read."""
    root = tmp_path / "images"
    random = np.random.default_rng(0)
    for part, names in (("train", "abcdef"), ("test", "xyz")):
        for label in ("cat", "dog"):
            for name, suffix in zip(names, 2 * (".png", ".jpg", ".webp"), strict=False):
                pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                save_image(root / part / label / f"{name}{suffix}", pixels)
    return root


def save_image(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
