"""Checkpoints: two of them, one always sound, and none that can run code."""

import hashlib
import io
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import messages

from tcl_lib.runs import checkpoints
from tcl_lib.utils import files


def state(number: int) -> dict:
    return dict.fromkeys(checkpoints.STATE) | {
        "network": {"w": torch.full((3, 2), number)},
        "progress": number,
    }


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def number(loaded: dict | None) -> int | None:
    return None if loaded is None else loaded["progress"]


def test_the_last_two_are_kept(tmp_path):
    assert checkpoints.load_last(tmp_path) is None
    checkpoints.save(tmp_path, state(1))
    assert names(tmp_path) == [checkpoints.LAST]
    for count in (2, 3):
        checkpoints.save(tmp_path, state(count))
    assert names(tmp_path) == [checkpoints.PREVIOUS, checkpoints.LAST]
    assert number(checkpoints.load(tmp_path / checkpoints.LAST)) == 3
    assert number(checkpoints.load(tmp_path / checkpoints.PREVIOUS)) == 2
    assert torch.equal(checkpoints.load_last(tmp_path)["network"]["w"], torch.full((3, 2), 3))
    # a file of torch's own all the same
    assert torch.load(tmp_path / checkpoints.LAST, weights_only=True)["progress"] == 3


@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(tmp_path, damage, seed):
    checkpoints.save(tmp_path, state(1))
    checkpoints.save(tmp_path, state(2))
    path = tmp_path / checkpoints.LAST
    content = bytearray(path.read_bytes())
    place = int(np.random.default_rng(seed).integers(len(content)))
    content[place] ^= 1 << seed % 8
    path.write_bytes({"flip": content, "cut": content[:place], "empty": b""}[damage])
    with pytest.warns(UserWarning, match="is damaged") as warned:
        assert number(checkpoints.load_last(tmp_path)) == 1
    (line,) = messages(warned)
    assert line.startswith(f"{path}: is damaged")
    assert line.endswith("the one before it is used")
    # and stays there until the next one is
    assert names(tmp_path) == [checkpoints.LAST]
    checkpoints.save(tmp_path, state(3))
    assert number(checkpoints.load(tmp_path / checkpoints.PREVIOUS)) == 1


def test_two_damaged_ones_are_named(tmp_path):
    for name in (checkpoints.LAST, checkpoints.PREVIOUS):
        (tmp_path / name).write_bytes(b"noise")
    with pytest.warns(UserWarning, match="is damaged") as warned:
        assert checkpoints.load_last(tmp_path) is None
    first, second = messages(warned)
    assert checkpoints.LAST in first
    assert second.startswith(f"{tmp_path / checkpoints.PREVIOUS}: is damaged")
    assert second.endswith("the run starts from its beginning")


@pytest.mark.parametrize("step", ["os.replace", "os.fsync", "torch.save", "files.read_sealed"])
@pytest.mark.parametrize("call", [1, 2, 3])
def test_whatever_fails_while_one_is_written_a_sound_one_is_there(tmp_path, monkeypatch, step, call):
    """Stopped at every step that touches the disk, as a kill would."""
    checkpoints.save(tmp_path, state(1))
    checkpoints.save(tmp_path, state(2))
    module, name = {"os": files.os, "torch": torch, "files": files}[step.split(".")[0]], step.split(".")[1]
    real, calls = getattr(module, name), []

    def failing(*arguments):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, name, failing)
    try:
        checkpoints.save(tmp_path, state(3))
    except KeyboardInterrupt:
        assert len(calls) == call
    monkeypatch.undo()
    assert number(checkpoints.load_last(tmp_path)) in (2, 3)
    checkpoints.save(tmp_path, state(4))
    assert number(checkpoints.load_last(tmp_path)) == 4
    assert number(checkpoints.load(tmp_path / checkpoints.PREVIOUS)) in (2, 3)


def test_it_can_run_no_code(tmp_path):
    mark = tmp_path / "mark"
    path = tmp_path / checkpoints.LAST

    class Harmful:
        def __reduce__(self):
            return (Path.touch, (mark,))

    crafted = io.BytesIO()
    torch.save(state(1) | {"network": Harmful()}, crafted)
    path.write_bytes(crafted.getvalue() + hashlib.sha256(crafted.getvalue()).digest())
    with pytest.raises(ValueError, match=r"checkpoint\.pt: cannot be loaded \(UnpicklingError\)") as caught:
        checkpoints.load_last(tmp_path)
    assert path.exists()  # whole as it is, it is not ours to remove
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    torch.load(path, weights_only=False)
    assert mark.exists()  # it would have


@pytest.mark.parametrize("content", [[1], {}, {"network": {}}, dict.fromkeys([*checkpoints.STATE, "more"])])
def test_what_is_no_checkpoint_of_this_version_is_named(tmp_path, content):
    saved = io.BytesIO()
    torch.save(content, saved)
    files.write_sealed(tmp_path / "file", saved.getvalue())
    with pytest.raises(ValueError, match="file: is not a checkpoint, or was written by another version"):
        checkpoints.load(tmp_path / "file")
    with pytest.raises(FileNotFoundError, match="none: the run's checkpoint was not kept"):
        checkpoints.load(tmp_path / "none")


def test_all_random_generators_go_on(tmp_path):
    draw = [random.random, np.random.rand, lambda: np.random.normal(), lambda: torch.rand(1).item()]
    for function in draw:
        function()
    checkpoints.save(tmp_path, state(1) | {"random": checkpoints.random_states()})
    expected = [[function() for function in draw] for _ in range(3)]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    checkpoints.set_random_states(checkpoints.load_last(tmp_path)["random"])
    assert [[function() for function in draw] for _ in range(3)] == expected
