"""The figure of a benchmark."""

import pandas as pd

from benchmarks.figure import COLOURS, speed


def colours_of(subjects):
    rows = [
        {"subject": subject, "precision": precision, "time_steps": steps, "median_ms": 10.0}
        for subject in subjects
        for precision in ("32-true", "bf16-mixed")
        for steps in (1, 4)
    ]
    shared = {"low_ms": 9.0, "high_ms": 12.0, "peak_memory_mb": 5.0, "backbone": "convnet", "batch_size": 8}
    shared |= {"image_size": 32, "rounds": 5, "machine": "a CPU", "torch": "2.12"}
    _, memory = speed(pd.DataFrame(rows).assign(**shared)).axes
    drawn = [
        (line.get_color(), line.get_marker(), line.get_linestyle(), line.get_markerfacecolor())
        for line in memory.lines
    ]
    return dict(zip([(s, p) for s in subjects for p in ("full", "half")], drawn, strict=True))


def test_a_subject_has_its_colour_in_every_figure():
    everything = colours_of(list(COLOURS))
    few = colours_of(["norse", "tcl_lib"])
    assert few == {key: everything[key] for key in few}
    assert len({colour for colour, *_ in everything.values()}) == len(COLOURS)
    assert len({marker for _, marker, *_ in everything.values()}) == len(COLOURS)


def test_precisions_differ_in_line_and_marker():
    for (_, precision), (colour, _, line, face) in colours_of(list(COLOURS)).items():
        assert (line, face) == (("-", colour) if precision == "full" else ("--", "white"))
