"""`make gpu`: on a machine without a GPU it says so, and its rehearsal does every part."""

import sys
import time
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("TCL_HOME", str(tmp_path))
    return tmp_path / "runs" / "gpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_main_says_in_one_line_that_there_is_no_gpu(home, capsys):
    assert gpu.main([]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("no GPU: nothing is measured here")
    assert not home.exists()


def test_do_writes_a_part_and_names_what_failed(home, capsys, monkeypatch):
    def good(folder, size):
        """A good part."""
        return "a table"

    def bad(folder, size):
        """A bad part."""
        raise OSError("full")

    monkeypatch.setattr(gpu, "PARTS", {"bad": bad, "good": good})
    home.mkdir(parents=True)
    assert not gpu.do("bad", home, gpu.SMALL)
    assert "bad: failed, OSError: full" in capsys.readouterr().out
    assert gpu.do("good", home, gpu.SMALL)
    (text,) = home.iterdir()
    assert text.read_text().startswith("A good part.\n\na table\n")


def test_main_does_what_is_left_until_the_time_is_over(home, capsys, monkeypatch):
    folder = home / "rehearsal"
    folder.mkdir(parents=True)
    for name in list(gpu.PARTS)[1:]:
        (folder / f"{name}.txt").touch()
    monkeypatch.setattr(gpu, "MINUTES", 0.01)
    assert gpu.main(["--rehearse"]) == 1
    assert "check: stopped, 0.01 minutes are over; start again" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "MINUTES", -1)
    assert gpu.main(["--rehearse"]) == 1
    assert "check: skipped" in capsys.readouterr().out
    (folder / "check.txt").touch()
    assert gpu.main(["--rehearse"]) == 0


def test_main_stops_what_a_part_has_started(home, tmp_path, monkeypatch):
    part = tmp_path / "part"
    part.write_text(f"#!/bin/sh\nsleep 60 &\necho $! > {tmp_path}/pid\nwait\n")
    part.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(part))
    monkeypatch.setattr(gpu, "PARTS", {"check": gpu.check})
    monkeypatch.setattr(gpu, "MINUTES", 0.01)
    assert gpu.main(["--rehearse"]) == 1
    stat = Path("/proc", (tmp_path / "pid").read_text().strip(), "stat")
    ends = time.monotonic() + 10
    while stat.exists() and stat.read_text().split()[2] != "Z":
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_spikes_counts_those_that_differ(home):
    table = gpu.spikes(home, gpu.SMALL._replace(neurons=100))
    lines = [line.split() for line in table.splitlines()]
    assert [line[0] for line in lines[1:]] == ["lif", "lif", "lif_synaptic", "lif_synaptic"]
    assert {line[3] for line in lines[1:]} == {"0"}
    assert all(int(line[2]) > 0 for line in lines[1:])


@pytest.mark.soak
def test_the_rehearsal_does_every_part(home):
    assert gpu.main(["--rehearse"]) == 0
    assert sorted(path.stem for path in (home / "rehearsal").glob("*.txt")) == sorted(gpu.PARTS)
