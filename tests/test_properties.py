"""Whatever comes in, a parameter or a file: it works, or the documented error says in one line why not."""

import dataclasses
import io
import json
import re
import tempfile
import warnings
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from conftest import write_run
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tcl_lib import RunConfig, load_run, load_runs, runs
from tcl_lib.analysis import statistics
from tcl_lib.data.events import recordings
from tcl_lib.data.events.cache import cached_frames
from tcl_lib.data.events.recordings import RecordingFile, read_recording
from tcl_lib.data.folder import load_folder
from tcl_lib.runs import checkpoints, layout, life
from tcl_lib.training import grids
from tcl_lib.utils import files

# What one could write into a cell or a JSON file.
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
JSON = ANYTHING.map(lambda value: json.dumps(value).encode())


def near(name: str) -> st.SearchStrategy:
    """Values of a parameter, most of them allowed."""
    annotation = get_type_hints(RunConfig, include_extras=True)[name]
    choices = [c for c in get_args(annotation) if isinstance(c, str)]
    numbers = st.integers(-1, 20) | st.floats(-1, 2)
    allowed = st.sampled_from(choices) if choices else numbers | st.booleans() | st.none()
    if name == "positives":
        allowed = st.lists(st.sampled_from(["class", "time", "view"]), max_size=4)
    if name in ("data_root", "runs_dir", "run_name"):
        allowed = st.text("ab./~-_ \0", max_size=6) | st.sampled_from(["..", "../x", "~nobody", "a" * 200])
    return allowed | ANYTHING


FIELDS = [field.name for field in dataclasses.fields(RunConfig)]
PARAMETERS = st.lists(st.sampled_from(FIELDS), max_size=4, unique=True).flatmap(
    lambda names: st.fixed_dictionaries({name: near(name) for name in names})
)


def check_words(error: Exception, *names: object) -> None:
    """The error is one line, and names one of these."""
    assert len(str(error).splitlines()) == 1, repr(str(error))
    assert any(str(name) in str(error) for name in names), str(error)


@pytest.mark.parametrize("name", FIELDS)
@given(data=st.data())
def test_a_parameter_makes_a_config_or_is_named(name, data):
    parameters = {name: data.draw(near(name))}
    try:
        config = RunConfig(**parameters)
    except ValueError as error:
        check_words(error, name)
    else:
        assert isinstance(config.run_path, Path)
        assert isinstance(config.setting, str)


@given(PARAMETERS)
def test_parameters_make_a_config_or_are_named(parameters):
    try:
        config = RunConfig(**parameters)
    except ValueError as error:
        check_words(error, *parameters)
        return
    assert RunConfig(**json.loads(json.dumps(config.to_dict()))) == config
    assert json.loads(json.dumps(config.identity())) == config.identity()
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", config.name)
    root = dataclasses.replace(config, run_name="x").run_path.parent
    assert config.run_path.parent == root  # a name does not leave the folder
    assert config.run_path.is_absolute()
    for text in (config.setting, config.variant, config.data_label):
        assert isinstance(text, str)


@given(st.dictionaries(st.text(max_size=8) | st.sampled_from(FIELDS), ANYTHING, max_size=2))
def test_unknown_parameters_are_named(parameters):
    unknown = [name for name in parameters if name not in FIELDS]
    if unknown:
        with pytest.raises(ValueError, match="unknown parameter"):
            RunConfig(**parameters)


@given(
    st.dictionaries(st.sampled_from(grids.PARAMETERS), ANYTHING | st.lists(ANYTHING, max_size=2), max_size=3)
)
def test_a_grid_is_made_or_its_parameter_named(parameters):
    try:
        configs = grids.grid(**parameters)
    except ValueError as error:
        # a list of losses holds values of `loss`
        check_words(error, *parameters, *(grids.LISTS.get(name, name) for name in parameters))
    else:
        assert len({config.name for config in configs}) == len(configs) > 0


# recordings


def valid(suffix: str) -> bytes:
    """A recording of ten events in a format."""
    t = np.arange(10) * 1000
    if suffix == ".npz":
        content = io.BytesIO()
        np.savez_compressed(content, x=t % 30, y=t % 20, t=t, p=t % 2)
        return content.getvalue()
    if suffix == ".aedat":
        events = np.stack([(t % 128) << 1, t], 1).astype(">u4").tobytes()
        return b"#!AER-DAT2.0\r\n# text\r\n" + events
    if suffix == ".aedat4":
        return b"#!AER-DAT4.0\r\n" + bytes(range(200))
    return np.stack([t % 30, t % 20, t >> 16, t >> 8 & 255, t & 255], 1).astype(np.uint8).tobytes()


def damaged(content: bytes) -> st.SearchStrategy[bytes]:
    """A file with some bytes changed, left out or added; or something else altogether."""
    place = st.integers(0, len(content))
    changed = st.tuples(place, st.binary(max_size=8), st.integers(0, 8)).map(
        lambda change: content[: change[0]] + change[1] + content[change[0] + change[2] :]
    )
    return changed | place.map(lambda end: content[:end]) | st.binary(max_size=300)


@pytest.mark.parametrize("suffix", sorted(recordings.READERS))
@given(data=st.data(), size=st.none() | st.tuples(st.integers(1, 300), st.integers(1, 300)))
def test_a_recording_is_read_or_named(suffix, data, size):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        path.write_bytes(data.draw(damaged(valid(suffix))))
        try:
            events = read_recording(path, size)
        except ValueError as error:
            check_words(error, path)
            return
        assert len(events.x) == len(events.y) == len(events.t) == len(events.p) > 0
        assert 0 <= events.x.min() <= events.x.max() < events.sensor_size[0]
        assert 0 <= events.y.min() <= events.y.max() < events.sensor_size[1]


@given(journal=st.binary(max_size=60) | JSON | st.lists(st.lists(st.integers(), max_size=3)).map(
    lambda lines: "\n".join(map(json.dumps, lines)).encode()
))  # fmt: skip
def test_cached_frames_are_right_whatever_their_description_holds(journal):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.bin"
        path.write_bytes(valid(".bin"))
        found = [RecordingFile(path, (34, 34))]
        right = cached_frames("set", found, 2, "time", Path(folder) / "cache").counts.copy()
        (file,) = Path(folder).glob("cache/*/frames.json")
        file.write_bytes(journal)
        assert (cached_frames("set", found, 2, "time", Path(folder) / "cache").counts == right).all()


# images


@pytest.fixture(scope="module")
def pictures():
    """The files of a folder of images, by name; no two have the same content."""
    found = {}
    for number, name in enumerate(("train/a/1.png", "train/b/1.png", "test/a/1.png", "test/b/1.png")):
        content = io.BytesIO()
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) + number).save(content, "png")
        found[name] = content.getvalue()
    return found


def write_pictures(root: Path, pictures: dict[str, bytes]) -> None:
    for name, content in pictures.items():
        (root / name).parent.mkdir(parents=True)
        (root / name).write_bytes(content)


@given(data=st.data())
def test_an_image_is_decoded_or_named(pictures, data):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        write_pictures(root, pictures)
        (root / "train/b/1.png").write_bytes(data.draw(damaged(pictures["train/b/1.png"])))
        try:
            train, _, _ = load_folder(root, Path(folder) / "cache")
        except ValueError as error:
            check_words(error, root / "train/b/1.png")
        else:
            assert train.stored.dtype == torch.uint8


@given(content=st.binary(max_size=400) | JSON, sealed=st.booleans())
def test_whatever_lies_in_the_cache_images_are_right(pictures, content, sealed):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "images"
        write_pictures(root, pictures)
        right = load_folder(root, Path(folder) / "cache")[0].stored.clone()
        (path,) = (Path(folder) / "cache").rglob("images")
        (files.write_sealed if sealed else Path.write_bytes)(path, content)
        assert torch.equal(load_folder(root, Path(folder) / "cache")[0].stored, right)


# runs


@given(st.binary(max_size=300), st.booleans())
def test_a_file_of_noise_is_no_checkpoint(content, sealed):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / checkpoints.LAST
        (files.write_sealed if sealed else Path.write_bytes)(path, content)
        with pytest.raises(ValueError if sealed else files.Damaged):
            checkpoints.load(path)
        if not sealed:
            with pytest.warns(UserWarning, match="is damaged"):
                assert checkpoints.load_last(Path(folder)) is None


@pytest.mark.parametrize("name", [layout.CONFIG, layout.RESULT, layout.METRICS, layout.FEATURES, layout.SUMS])
@given(content=st.binary(max_size=200) | JSON | st.text("data,\n\"'0.e", max_size=40).map(str.encode),
       fits=st.booleans())  # fmt: skip
def test_load_run_names_what_is_wrong_with_a_file(name, content, fits):
    """Whether or not the file fits its checksum: somebody may have sealed what is wrong."""
    with tempfile.TemporaryDirectory() as folder:
        config = RunConfig(runs_dir=folder, run_name="run")
        path = config.run_path
        write_run(config, tables={layout.METRICS: {"epoch": [1]}})
        features = {"features": np.zeros((1, 2, 3)), "labels": np.zeros(2), "samples": np.zeros(2)}
        layout.write_arrays(path / layout.FEATURES, features)
        result = json.loads((path / layout.RESULT).read_text())
        life.finish(path, result)
        (path / name).write_bytes(content)
        if fits and name in (layout.CONFIG, layout.METRICS, layout.FEATURES):
            life.finish(path, result)
        for read in (
            lambda: load_run(path).result,
            lambda: load_run(path).metrics,
            lambda: load_run(path).features,
            lambda: load_run(path).setting,
            lambda: load_run(path).classes,
            lambda: load_run(path).model(),
            lambda: life.find_finished(config),
            lambda: load_runs(folder),
        ):
            try:
                read()
            except (ValueError, FileNotFoundError) as error:
                check_words(error, path)


def places(document: object) -> list[tuple]:
    """Return the way to everything in a JSON document: the keys and indices on it."""
    found = []
    for key, value in document.items() if isinstance(document, dict) else enumerate(document):
        inner = places(value) if isinstance(value, dict | list) else []
        found += [(key,), *((key, *rest) for rest in inner)]
    return found


@pytest.mark.parametrize("name", [layout.CONFIG, layout.RESULT])
@given(data=st.data())
def test_load_runs_survives_any_entry_of_a_file(name, data):
    """An entry that is lost or another, in a file that fits its checksum, stops no other run."""
    with tempfile.TemporaryDirectory() as folder:
        good = RunConfig(runs_dir=folder, run_name="good")
        bad = RunConfig(runs_dir=folder, run_name="bad", seed=1)
        for config in (bad, good):
            write_run(config, tables={layout.METRICS: {"epoch": [1]}})
        path = bad.run_path
        content = json.loads((path / name).read_text())
        if name == layout.CONFIG:
            content |= {"threads": 2, "machine": "AMD EPYC, 2 threads, AVX512, Linux", "continued": [{}]}
        *way, last = data.draw(st.sampled_from(places(content)))
        around = content
        for key in way:
            around = around[key]
        if data.draw(st.booleans()):
            around[last] = data.draw(ANYTHING)
        else:
            del around[last]
        result = content if name == layout.RESULT else json.loads((path / layout.RESULT).read_text())
        layout.write_json(path / name, content)
        life.finish(path, result)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            table = load_runs(folder)
            metrics = runs.gather(table, "metrics")
            statistics.settings(table)
        assert "good" in set(table["name"]), warned
        assert "good" in set(metrics["run"]), warned
        assert ("bad" in set(table["name"])) == (not warned), warned
        for one in warned:
            str(one.message).encode()  # it can be printed
            assert str(path / name) in str(one.message)
