"""
How fast the window draws: 10 million slices over 200 tracks, a map of 100,000 tensors, and start-up.

Usage: python benchmarks/gui.py [--slices N] [--tracks N] [--tensors N] [--write benchmarks/gui.md]

The real window is driven offscreen at 1920 x 1080; a frame is everything between a change of the viewport and the
painted widget. Frames are warm (kernels compiled).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import numpy as np

from memplan.core.progress import Progress, silent
from memplan.gui.application import application
from memplan.gui.model.document import Document
from memplan.gui.model.session.session import Session
from memplan.gui.views.details_panel import DetailsView
from memplan.gui.views.memory.memory_map_view import MemoryMapView
from memplan.gui.window.main_window import MainWindow
from memplan.schema import Bound, Placement, Plan, PlannedOp, PlannedTensor, PlanOrigin, Source, Tier, TierUse
from memplan.traces.profile import Slices, Track, TrackKind
from memplan.traces.rank import RankProfile

MB = 1_000_000


class Rank:
    """A rank of `tracks` stream tracks with `slices` slices in all, with a fixed seed: what a timeline asks of one."""

    rank, device, chip = 0, "NPU:0", None

    def __init__(self, slices: int, tracks: int) -> None:
        each = slices // tracks
        self.tracks = [Track(i, TrackKind.STREAM, "Ascend Hardware", f"Stream {i}", each) for i in range(tracks)]
        self._slices: dict[int, Slices] = {}
        random = np.random.default_rng(1)
        # As in a profile that was read: one table of strings for all tracks.
        names = [f"Default/network/layer{i % 60}/MatMul-op{i}" for i in range(30_000)]
        types = [f"Type{i}" for i in range(40)]
        end = 0
        for track in self.tracks:
            gap = random.exponential(4_000, each).astype(np.int64)
            duration = random.lognormal(8.5, 1.2, each).astype(np.int64) + 1
            start = np.cumsum(gap + np.concatenate(([0], duration[:-1])))
            end = max(end, int(start[-1] + duration[-1]))
            self._slices[track.id] = Slices(
                start_ns=start,
                duration_ns=duration,
                name=random.integers(0, len(names), each).astype(np.int32),
                depth=np.zeros(each, dtype=np.int16),
                category=random.integers(0, len(types), each).astype(np.int32),
                names=names,
                categories=types,
            )
        self.span_ns = (0, end)

    def slices(self, track: int) -> Slices:
        """All slices of a track."""
        return self._slices[track]

    def kernels(self, progress: Progress = silent) -> None:
        """None are needed here."""

    def memory_components(self) -> Sequence[str]:
        """None are needed here."""
        return ()


def large_plan(tensors: int) -> Plan:
    """A plan of `tensors` tensors with short and long lives, placed side by side."""
    random = np.random.default_rng(2)
    steps = tensors // 2
    ops = tuple(PlannedOp(i, f"Default/op{i}", "MatMul", 0, i * 1000, 1000, 0, Bound.CUBE, 1, 1) for i in range(steps))
    start = random.integers(0, steps - 1, tensors)
    length = np.minimum(random.geometric(0.01, tensors), steps - start)
    kinds = ("activation", "gradient", "weight", "workspace")
    size = (random.integers(1, 64, tensors) * 512).astype(int)
    offset = (random.integers(0, 1 << 21, tensors) * 512).astype(int)
    rows = range(tensors)
    made = tuple(
        PlannedTensor(i, f"t{i}", (1,), "float16", "ND", int(size[i]), kinds[i % 4], False, int(start[i]),
                      int(start[i] + length[i]), int(start[i]), (int(start[i]),)) for i in rows
    )  # fmt: skip
    placed = tuple(
        Placement(i, Tier.HBM, int(offset[i]), int(size[i]), int(start[i]), int(start[i] + length[i])) for i in rows
    )
    top = int((offset + size).max())
    return Plan(
        PlanOrigin("made", "made", None, "benchmark"), "Ascend910B3", "0", ops, made, placed, (),
        (TierUse(Tier.HBM, None, 0, 0, top, 0, top, "none"),), (), True, 0, steps * 1000, "none", (Source("made"),),
    )  # fmt: skip


def frames(view: Any, moves: Sequence[Callable[[], None]]) -> list[float]:
    """CPU milliseconds of each frame; everything of a frame happens on this thread."""
    if not view.isVisible():
        raise SystemExit("the view to be measured is not on the screen")
    taken = []
    for move in moves:
        begin = time.thread_time()
        move()
        view.repaint()
        taken.append((time.thread_time() - begin) * 1e3)
    return taken


def tour(session: Session) -> list[Callable[[], None]]:
    """Pans and zooms from everything down to a few slices, at several places, and back."""
    viewport = session.viewport
    low, high = viewport.bounds
    moves: list[Callable[[], None]] = []
    for place in (0.1, 0.5, 0.9):
        centre = low + place * (high - low)
        moves.append(lambda: viewport.show(low, high))
        for _ in range(60):
            moves.append(partial(viewport.zoom, 0.8, centre))
            moves.append(lambda: viewport.pan(0.07 * viewport.span))
        moves += [lambda: viewport.zoom(1.5, (viewport.start + viewport.end) / 2)] * 30
    return moves


def drag(session: Session) -> list[Callable[[], None]]:
    """A time range that is dragged from one percent of what there is to all of it, at two zooms."""
    viewport = session.viewport
    low, high = viewport.bounds
    moves: list[Callable[[], None]] = []
    for share in (1.0, 0.001):
        span = share * (high - low)
        moves.append(partial(viewport.show, low, low + span))
        for step in range(1, 101):
            selected = low, low + span * step / 100
            moves.append(partial(setattr, viewport, "selected_range", selected))
    return moves


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie."""
    return float(np.percentile(np.array(values), share * 100))


def start_up() -> tuple[list[float], list[float]]:
    """Wall and processor seconds from process start to an empty painted window, warm, five times."""
    code = (
        "from memplan.gui.application import application; from memplan.gui.window.main_window import MainWindow;"
        "qt = application(); w = MainWindow(background=False); w.show(); qt.processEvents()"
    )
    walls, processor = [], []
    for _ in range(6):
        begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        walls.append(time.perf_counter() - begin)
        processor.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return walls[1:], processor[1:]


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slices", type=int, default=10_000_000)
    parser.add_argument("--tracks", type=int, default=200)
    parser.add_argument("--tensors", type=int, default=100_000)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    started, worked = start_up()
    qt = application()
    rows: list[tuple[str, str, str]] = []

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    rank = Rank(options.slices, options.tracks)
    session = Session(Document(rank=cast(RankProfile, rank)))
    begin = time.perf_counter()
    for track in session.tracks.all:
        session.tracks.load(track)
    built = time.perf_counter() - begin
    session.page = "timeline"
    window = MainWindow(session, background=False)
    window.resize(1920, 1080)
    for dock in window.docks.values():
        dock.hide()
    window.show()
    qt.processEvents()
    frames(window.timeline, tour(session)[:40])
    slices = frames(window.timeline, tour(session))
    window.docks["details"].show()
    qt.processEvents()
    frames(window.docks.view(DetailsView), drag(session)[:10])
    selected = frames(window.docks.view(DetailsView), drag(session))
    window.docks["details"].hide()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MB
    rows += [
        (f"{options.slices:,} slices, {options.tracks} tracks: frame, median",
         f"{statistics.median(slices):.1f} ms", ""),
        ("frame, 95th percentile", f"{percentile(slices, 0.95):.1f} ms", "10 ms"),
        ("frame, longest", f"{max(slices):.1f} ms", ""),
        ("selection dragged wider, a change with its statistics, median", f"{statistics.median(selected):.1f} ms", ""),
        ("95th percentile", f"{percentile(selected, 0.95):.1f} ms", "16 ms"),
        ("pyramids built in", f"{built:.2f} s", ""),
        ("peak memory, slices included", f"{peak:.0f} MB (interpreter and libraries {before:.0f} MB)", "600 MB"),
    ]  # fmt: skip
    window.close()

    session = Session(Document(plan=large_plan(options.tensors)))
    session.page = "memory"
    window = MainWindow(session, background=False)
    window.resize(1920, 1080)
    window.show()
    qt.processEvents()
    frames(window.docks.view(MemoryMapView), tour(session)[:40])
    together = frames(window.docks.view(MemoryMapView), tour(session))
    for name, dock in window.docks.items():
        dock.setVisible(name == "map")
    centre = window.centralWidget()
    assert centre is not None
    centre.hide()
    qt.processEvents()
    alone = frames(window.docks.view(MemoryMapView), tour(session))
    size = window.docks.view(MemoryMapView).size()
    for title, taken in (
        (f"map of {options.tensors:,} tensors with the other views", together),
        (f"the same map alone, {size.width()} x {size.height()}", alone),
    ):
        rows += [
            (f"{title}: frame, median", f"{statistics.median(taken):.1f} ms", ""),
            ("frame, 95th percentile", f"{percentile(taken, 0.95):.1f} ms", "16 ms"),
            ("frame, longest", f"{max(taken):.1f} ms", ""),
        ]
    rows += [
        ("start to an empty window, median of 5", f"{statistics.median(started):.2f} s", "0.7 s"),
        ("in processor time", f"{statistics.median(worked):.2f} s", ""),
    ]
    window.close()

    width = max(len(name) for name, _, _ in rows)
    for name, value, goal in rows:
        print(f"{name:{width}}  {value:>24}  {goal}")
    if options.write is not None:
        lines = [f"| {name} | {value} | {goal} |" for name, value, goal in rows]
        text = (
            "# Desktop app\n\nMade by `python benchmarks/gui.py --write benchmarks/gui.md`: offscreen, software "
            "rendering,\n1920 x 1080, on two shared cores; frames in CPU time of the one thread that draws.\n\n"
            "| what | measured | goal |\n|---|---|---|\n"
        )
        options.write.write_text(text + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
