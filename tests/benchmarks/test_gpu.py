"""`make gpu`: on a machine without a GPU it says so, and its rehearsal does every part."""

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


def test_main_does_what_is_left_and_goes_on_after_a_part_that_fails(home, capsys, monkeypatch):
    done = []

    def good(folder, size):
        """A good part."""
        done.append(size)
        return "a table"

    def bad(folder, size):
        """A bad part."""
        raise OSError("full")

    monkeypatch.setattr(gpu, "PARTS", {"bad": bad, "good": good})
    assert gpu.main(["--rehearse"]) == 1
    text = (home / "rehearsal" / "good.txt").read_text()
    assert text.startswith("A good part.\n\na table\n")
    assert "bad: failed, OSError: full" in capsys.readouterr().out
    monkeypatch.setattr(gpu, "PARTS", {"good": good})
    assert gpu.main(["--rehearse"]) == 0
    assert done == [gpu.SMALL]


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
