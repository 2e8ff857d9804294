"""
How long the window stands still while a document opens and every one of its pages is shown.

Usage: python -m benchmarks.gui_standstill [PATH ...] [--kernels 1500000 ...]

A timer ticks every 5 ms. Of the gaps between two ticks the longest is told in three clocks: of the wall, of the whole
process (which on a quiet machine is about the wall's: what else but the program keeps the window waiting) and of the
thread that draws. Only the last two mean anything where other programs run.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.profile_databases import write_database

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

_PAGE_S = 0.5
"""How long each page is watched, and for as long as anything is worked out for it."""
_REST_S = 0.0005


@dataclass(frozen=True, slots=True)
class Gap:
    """Seconds between two ticks by each clock, and the page that was shown."""

    wall: float
    process: float
    thread: float
    page: str


def gaps_of(path: Path) -> list[Gap]:
    """Every gap from the moment the document at `path` is asked for to the last page."""
    from PySide6.QtCore import QTimer

    from memplan.gui.application import application
    from memplan.gui.model.session.open_request import Request
    from memplan.gui.views.view_specs import PAGES
    from memplan.gui.window.main_window import MainWindow

    qt = application()
    window = MainWindow()
    window.resize(1600, 1000)
    window.show()
    qt.processEvents()
    gaps: list[Gap] = []
    page = "open"

    def clocks() -> tuple[float, float, float]:
        return time.perf_counter(), time.process_time(), time.thread_time()

    last = clocks()

    def tick() -> None:
        nonlocal last
        now = clocks()
        wall, process, thread = (after - before for after, before in zip(now, last, strict=True))
        gaps.append(Gap(wall, process, thread, page))
        last = now

    def rest() -> None:
        qt.processEvents()
        time.sleep(_REST_S)  # as a loop of events does: without it workers had half a processor

    timer = QTimer()
    timer.timeout.connect(tick)
    timer.start(5)
    window.opener.open_request(Request(profile=path))
    while window.session.document.empty or window.jobs.running:
        if window.problems.errors:
            raise SystemExit(window.problems.errors[0])
        rest()
    for spec in PAGES:
        page = spec.name
        window.show_page(page)
        until = time.perf_counter() + _PAGE_S
        while time.perf_counter() < until or window.jobs.running:
            rest()
    timer.stop()
    window.close()
    return gaps


def main() -> None:
    """Print a table row for each path."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="profiles, databases or memory snapshots")
    parser.add_argument(
        "--kernels", nargs="*", type=int, default=[], help="databases of so many kernels, made for this run"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        databases = [write_database(Path(made) / f"{kernels}", kernels) for kernels in arguments.kernels]
        _tell([*arguments.paths, *databases])


def _tell(paths: Sequence[Path]) -> None:
    print("| document | process | own thread | wall | on page |\n|---|---|---|---|---|")
    for path in paths:
        with tempfile.TemporaryDirectory() as cache:
            os.environ["MEMPLAN_CACHE_DIR"] = cache  # what was imported before must not help
            gaps = gaps_of(path)
        longest = max(gaps, key=lambda gap: gap.process)
        process, thread, wall = (max(getattr(gap, clock) for gap in gaps) for clock in ("process", "thread", "wall"))
        figures = " | ".join(f"{seconds * 1e3:.0f} ms" for seconds in (process, thread, wall))
        size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
        print(f"| {path.name}, {size / 1e6:,.0f} MB | {figures} | {longest.page} |", flush=True)


if __name__ == "__main__":
    main()
