"""Events counted into frames. Shapes: T time steps, H x W pixels."""

import numpy as np

from tcl_lib.data.events.recordings import Events


def count_frames(events: Events, time_steps: int, frame_by: str) -> np.ndarray:
    """Return a recording's events counted in T frames, OFF and ON apart: uint32 [T, 2, H, W].

    Args:
        events: at least one, ordered by time; each is counted once.
        time_steps: T.
        frame_by: "time" for frames of equal duration, from the first to the last event; "count" for frames
            with equal numbers of events (they differ by one if T does not divide the total).
    """
    width, height = events.sensor_size
    first = _first_events(events.t, time_steps, frame_by)
    x, y, p = (field.astype(np.intp) for field in (events.x, events.y, events.p))
    cell = (p * height + y) * width + x
    frames = np.empty((time_steps, 2 * height * width), np.uint32)
    for frame, start, end in zip(frames, first, [*first[1:], len(cell)], strict=True):
        frame[:] = np.bincount(cell[start:end], minlength=len(frame))
    return frames.reshape(time_steps, 2, height, width)


def _first_events(t: np.ndarray, time_steps: int, frame_by: str) -> np.ndarray:
    """Return the index of each frame's first event: [T]."""
    if frame_by == "count":
        return -(-np.arange(time_steps) * len(t) // time_steps)
    # Event i belongs to frame (t[i] - t[0]) * T // duration. Python's integers do not overflow.
    start, duration = int(t[0]), int(t[-1]) - int(t[0]) + 1
    return np.searchsorted(t, [start - (-step * duration // time_steps) for step in range(time_steps)])
